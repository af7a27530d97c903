//! What differs between two configurations: what `keygate reload` says, and what it cannot do.

use crate::config::{Config, UpstreamConfig};

/// Settings that differ and that a running gateway cannot take over, by their names in the file.
pub(crate) fn needing_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let own = |config: &Config| {
        config
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.listen.iter().map(|at| (upstream.name.clone(), at.clone())))
            .collect::<Vec<_>>()
    };
    // Another file is taken over, by the listeners that ask already.
    let asking = |config: &Config| config.server.tls.as_ref().and_then(|tls| Some(tls.client_ca.as_ref()?.listen.clone()));
    let differs = [
        ("server.listen", before.server.listen != after.server.listen),
        ("server.listen_plain", before.server.listen_plain != after.server.listen_plain),
        ("server.listen_redirect", before.server.listen_redirect != after.server.listen_redirect),
        ("server.https_port", before.server.https_port != after.server.https_port),
        ("server.proxy_protocol", before.server.proxy_protocol != after.server.proxy_protocol),
        ("server.proxy_protocol_listen", before.server.proxy_protocol_listen != after.server.proxy_protocol_listen),
        ("server.allow_plaintext", before.server.allow_plaintext != after.server.allow_plaintext),
        ("upstream.listen", own(before) != own(after)),
        ("server.tls.mode", before.server.tls.is_some() != after.server.tls.is_some()),
        ("server.tls.client_ca_file", asking(before).is_some() != asking(after).is_some()),
        ("server.tls.client_ca_listen", asking(before).zip(asking(after)).is_some_and(|(before, after)| before != after)),
        ("server.threads", before.server.threads != after.server.threads),
        ("store.path", before.store.path != after.store.path),
        ("store.master_key", before.store.master_key != after.store.master_key),
        ("admin.socket", before.admin.socket != after.admin.socket),
        ("admin.listen", before.admin.listen != after.admin.listen),
        ("admin.hosts", before.admin.hosts != after.admin.hosts),
        ("admin.session_lifetime", before.admin.session_lifetime != after.admin.session_lifetime),
        ("admin.session_idle", before.admin.session_idle != after.admin.session_idle),
        ("log.level", before.log.level != after.log.level),
        ("log.format", before.log.format != after.log.format),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// One sentence for each thing that changes.
pub(crate) fn between(before: &Config, after: &Config) -> Vec<String> {
    let find = |config: &'_ Config, name: &UpstreamConfig| config.upstreams.iter().any(|upstream| upstream.name == name.name);
    let mut changes = Vec::new();
    changes.extend(
        after.upstreams.iter().filter(|upstream| !find(before, upstream)).map(|upstream| format!("upstream {} is new", upstream.name)),
    );
    changes.extend(
        before.upstreams.iter().filter(|upstream| !find(after, upstream)).map(|upstream| format!("upstream {} is gone", upstream.name)),
    );
    for upstream in &after.upstreams {
        let old = before.upstreams.iter().find(|old| old.name == upstream.name);
        if old.is_some_and(|old| old != upstream) {
            changes.push(format!("upstream {} changed", upstream.name));
        }
    }
    if before.limits != after.limits {
        changes.push("limits changed".to_owned());
    }
    if before.server.trusted_proxies != after.server.trusted_proxies {
        changes.push("server.trusted_proxies changed".to_owned());
    }
    if before.server.drain_timeout != after.server.drain_timeout {
        changes.push("server.drain_timeout takes effect at the next start".to_owned());
    }
    if (before.audit, before.usage, before.metrics) != (after.audit, after.usage, after.metrics) {
        changes.push("audit, usage and metrics take effect at the next start".to_owned());
    }
    if before.traces != after.traces {
        changes.push("traces changed".to_owned());
    }
    let hsts = |config: &Config| config.server.tls.as_ref().map(|tls| tls.hsts);
    if hsts(before) != hsts(after) {
        changes.push("server.tls.hsts changed, for new connections".to_owned());
    }
    if before.log.access != after.log.access {
        changes.push(format!("log.access is {} now", after.log.access));
    }
    changes
}
