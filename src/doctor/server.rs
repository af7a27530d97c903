//! What can be told of a media server from outside: is it there, is it what was configured, may it be trusted, what time has it, and who else
//! reaches it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::clock::Timestamp;
use crate::doctor::{Finding, Subject, Verdict};
use crate::upstream::Kind;
use crate::upstream::client::Upstream;
use crate::upstream::survey::{Found, Judged, judge, survey, time_of};

/// A difference from here on is worth a line: certificates, logs and scrobbles mind it.
const CLOCKS_APART: Duration = Duration::from_secs(90);
/// How long an address of this machine may take to accept.
const KNOCK: Duration = Duration::from_secs(2);

/// All of it; and whether it is there and what was configured.
pub(super) async fn check(subject: &Subject<'_>) -> (Vec<Finding>, bool) {
    let upstream = &subject.upstream;
    let found = survey(upstream).await;
    let said = match &found {
        Ok(Found::Server { version, .. }) => version.clone(),
        _ => None,
    };
    let judged = judge(upstream, found);
    let is_there = matches!(judged, Judged::Good(_));
    let mut findings = vec![match judged {
        Judged::Good(text) => Finding::ok("upstream", text),
        Judged::Away(text) | Judged::Wrong(text) => Finding::failed("upstream", text),
    }];
    if is_there {
        findings.push(version(upstream.kind, said.as_deref()));
        findings.push(clock(upstream, subject.installation.clock.now()).await);
    }
    findings.push(trust(upstream, is_there));
    findings.push(exposure(upstream, &subject.installation.addresses).await);
    (findings.into_iter().map(|finding| subject.finding(finding)).collect(), is_there)
}

/// The oldest that keygate works with.
const fn oldest(kind: Kind) -> (u32, u32) {
    match kind {
        // Tokens that expire, and keys.
        Kind::Audiobookshelf => (2, 26),
        Kind::Emby => (3, 5),
        Kind::Jellyfin => (10, 8),
    }
}

fn version(kind: Kind, said: Option<&str>) -> Finding {
    const CHECK: &str = "version";
    let parsed = said.and_then(|text| {
        let mut numbers = text.trim_start_matches('v').split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let (Some(version), Some(said)) = (parsed, said) else {
        return Finding::not_looked_at(CHECK, format!("{} does not tell its version", kind.product()));
    };
    let (major, minor) = oldest(kind);
    if version >= (major, minor) {
        return Finding::ok(CHECK, format!("{} {said}", kind.product()));
    }
    let text = format!("{} {said} is older than {major}.{minor}, the oldest that keygate works with", kind.product());
    Finding::failed(CHECK, text).cure("Update it")
}

/// Sessions do not mind, but certificates, logs and the server's own times do.
async fn clock(upstream: &Upstream, ours: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    let Some(theirs) = time_of(upstream).await else {
        return Finding::not_looked_at(CHECK, "it does not tell the time");
    };
    let (apart, direction) = if theirs > ours { (theirs.since(ours), "ahead of") } else { (ours.since(theirs), "behind") };
    if apart <= CLOCKS_APART {
        return Finding::ok(CHECK, "it has the same time as keygate");
    }
    let text = format!("the clock of {} is {} s {direction} keygate's", upstream.kind.product(), apart.as_secs());
    Finding::warning(CHECK, text).cure("Set both by NTP (timedatectl set-ntp true)")
}

fn trust(upstream: &Upstream, is_there: bool) -> Finding {
    const CHECK: &str = "upstream tls";
    match &upstream.tls {
        Some(trust) if is_there => Finding::ok(CHECK, format!("its certificate is {trust}")),
        Some(trust) => match trust.problem() {
            Some(problem) => Finding::failed(CHECK, problem.to_string()),
            None => Finding::not_looked_at(CHECK, "no connection could be made"),
        },
        None if is_on_this_machine(&upstream.host) => Finding::not_applicable(CHECK, "plain HTTP within this machine"),
        None if is_private(&upstream.host) => {
            Finding::not_applicable(CHECK, "plain HTTP within a private network: whoever can listen there can read tokens")
        }
        None => {
            Finding::warning(CHECK, "keygate talks to it in plain HTTP over a public network: passwords and tokens travel in clear text")
                .cure(format!("Let it speak TLS, and write url = \"https://{}\" in [[upstream]]", upstream.address()))
        }
    }
}

fn is_on_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Addresses that the internet does not route, and names without a dot or of the home.
fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => !host.contains('.') || [".lan", ".local", ".home.arpa", ".internal"].iter().any(|end| host.ends_with(end)),
    }
}

/// Whether other machines come to the media server past keygate: tried at the addresses that they would use.
async fn exposure(upstream: &Upstream, addresses: &[IpAddr]) -> Finding {
    const CHECK: &str = "exposure";
    let mut open = Vec::new();
    for ip in addresses {
        let address = SocketAddr::new(*ip, upstream.port);
        if let Ok(Ok(_)) = tokio::time::timeout(KNOCK, TcpStream::connect(address)).await {
            open.push(address.to_string());
        }
    }
    if !open.is_empty() {
        let text = format!("its port is open at {} too: whoever comes there needs no key", open.join(", "));
        return Finding::warning(CHECK, text).cure(
            "Let the media server listen on 127.0.0.1 alone (in a container: -p 127.0.0.1:PORT:PORT), or close the port with a firewall",
        );
    }
    if is_on_this_machine(&upstream.host) {
        return Finding::ok(CHECK, "its port is not open at the addresses that other machines know of this one");
    }
    Finding::new(
        CHECK,
        Verdict::NotLookedAt,
        format!(
            "{} is another machine, or a container: see that only keygate's address may connect to its port {}",
            upstream.host, upstream.port
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_numbers() {
        let verdict = |kind, said| version(kind, Some(said)).verdict;
        for (kind, old, new) in
            [(Kind::Audiobookshelf, "2.9.0", "v2.26.0"), (Kind::Emby, "3.4.1.0", "4.8.11.0"), (Kind::Jellyfin, "10.7.7", "10.10.7")]
        {
            assert_eq!((verdict(kind, old), verdict(kind, new)), (Verdict::Failed, Verdict::Ok), "{kind}");
        }
        let old = version(Kind::Audiobookshelf, Some("2.19.5")).sentence();
        assert_eq!(old, "Audiobookshelf 2.19.5 is older than 2.26, the oldest that keygate works with. Update it");
        assert_eq!(version(Kind::Emby, Some("unknown")).verdict, Verdict::NotLookedAt);
        assert_eq!(version(Kind::Emby, None).verdict, Verdict::NotLookedAt);
    }

    #[test]
    fn what_a_home_calls_its_machines_is_private() {
        for host in ["192.168.1.5", "10.0.0.2", "fd00::1", "jellyfin", "nas.lan", "nas.local"] {
            assert!(is_private(host), "{host}");
        }
        for host in ["203.0.113.7", "2001:db8::1", "media.example.org"] {
            assert!(!is_private(host), "{host}");
        }
        assert!(is_on_this_machine("127.0.0.1") && is_on_this_machine("::1") && is_on_this_machine("::ffff:127.0.0.1"));
    }
}
