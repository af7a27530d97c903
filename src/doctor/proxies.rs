//! Who stands in front of keygate, and whether keygate was told.

use std::net::IpAddr;

use crate::doctor::{Finding, Installation, NO_GATEWAY};

const CHECK: &str = "trusted proxies";

/// The networks that are believed, and somebody nearby who is not.
pub(super) fn check(installation: &Installation) -> Finding {
    let trusted = &installation.config.server.trusted_proxies;
    if let Some(all) = trusted.iter().find(|net| net.prefix_len() == 0) {
        return Finding::failed(CHECK, format!("{all} believes everybody: any client can say that it is another one"))
            .cure("Name the proxy's own address in trusted_proxies of [server]");
    }
    let Some(inside) = &installation.inside else { return Finding::not_looked_at(CHECK, NO_GATEWAY) };
    if let Some(proxy) = inside.unbelieved_proxy.filter(|proxy| !trusted.iter().any(|net| net.contains(proxy))) {
        return unbelieved(proxy);
    }
    match trusted.as_slice() {
        [] => Finding::ok(CHECK, "none is configured, and nobody nearby forwards requests of others"),
        some => {
            let nets = some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Finding::ok(CHECK, format!("{nets} is believed, and nobody else nearby forwards requests of others"))
        }
    }
}

fn unbelieved(proxy: IpAddr) -> Finding {
    Finding::warning(
        CHECK,
        format!("{proxy} sends X-Forwarded-For and is not believed: all who come through it look like {proxy}, and are throttled together"),
    )
    .cure(format!("If it is a proxy of yours, write trusted_proxies = [\"{proxy}\"] in [server]"))
}
