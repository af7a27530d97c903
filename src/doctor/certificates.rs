//! The certificates that clients see: for how long, and for which names.

use crate::certificates::{Facts, Shown};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::doctor::{Finding, Installation};

const CHECK: &str = "certificate";
/// From here on somebody should look whether it is being renewed.
const SOON_DAYS: u64 = 14;

/// Each certificate, and each host name of the configuration that none is for.
pub(super) fn check(installation: &Installation) -> Vec<Finding> {
    if installation.config.server.tls.is_none() {
        return vec![Finding::not_applicable(CHECK, "TLS is off")];
    }
    let shown = match &installation.certificates {
        Ok(shown) => shown,
        Err(why) => return vec![Finding::failed(CHECK, why.clone())],
    };
    let now = installation.clock.now();
    let own = installation.config.server.tls.as_ref().filter(|tls| tls.source.as_str() == "self-signed").map(|_| own_authority());
    shown.iter().map(|one| dates(one, now)).chain(names(&installation.config, shown)).chain(own).collect()
}

/// Nothing is wrong with it, but not everybody can be taught to trust it.
fn own_authority() -> Finding {
    Finding::ok(
        CHECK,
        "the authority is keygate's own: each device must know it (keygate tls ca), and Chromecast and most televisions take none but those of \
         public authorities, and ask the name servers of the internet for the host",
    )
    .about("self-signed")
}

fn dates(one: &Shown, now: Timestamp) -> Finding {
    let Shown { facts, file, problem, standing, is_temporary } = one;
    let about = file.as_ref().map_or_else(|| facts.title(), |file| file.display().to_string());
    let days = facts.days_left(now);
    let text = format!("for {}, until {} ({days} days)", facts.title(), facts.last_day());
    let finding = match problem {
        _ if *is_temporary => {
            let cure = problem.clone().unwrap_or_else(|| "It is being asked for: look again in a minute".to_owned());
            Finding::failed(CHECK, standing.clone().unwrap_or_default()).cure(cure)
        }
        _ if now >= facts.not_after => {
            Finding::failed(CHECK, format!("expired: {text}")).cure("Clients refuse it: put a new one in its place")
        }
        _ if now < facts.not_before => {
            Finding::failed(CHECK, format!("not good yet: {text}")).cure("Look at the clock of this machine (timedatectl)")
        }
        Some(problem) => Finding::warning(CHECK, text).cure(format!("There is no newer one: {problem}")),
        None if days < SOON_DAYS && facts.not_after.since(facts.not_before).as_secs() / 86_400 >= 2 * SOON_DAYS => {
            Finding::warning(CHECK, text).cure("Look why it was not renewed")
        }
        None => Finding::ok(CHECK, text),
    };
    finding.about(about)
}

fn names(config: &Config, shown: &[Shown]) -> Vec<Finding> {
    let hosts = config.upstreams.iter().flat_map(|upstream| upstream.hosts.iter().map(move |host| (host, &upstream.name)));
    let uncovered = hosts.filter(|(host, _)| !shown.iter().any(|one| is_for(&one.facts, host)));
    let finding = |host: &str, upstream| {
        Finding::failed(CHECK, format!("no certificate is for {host}, a host of upstream \"{upstream}\": clients refuse to connect"))
            .about(host)
            .cure(format!("Get one that has the name {host}, or name another host in [[upstream]] hosts"))
    };
    uncovered.map(|(host, upstream)| finding(host, upstream)).collect()
}

/// By name, or by one `*` for the first label (RFC 9525, section 6.3).
fn is_for(facts: &Facts, host: &str) -> bool {
    let above = host.split_once('.').map(|(_, above)| above);
    facts.names.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(|rest| Some(rest) == above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    const DAY: i64 = 86_400;

    fn shown(names: &[&str], days: i64, problem: Option<&str>) -> Shown {
        Shown {
            facts: Facts {
                subject: String::new(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                not_before: Timestamp::from_secs(0),
                not_after: Timestamp::from_secs(days * DAY),
                fingerprint: String::new(),
            },
            file: None,
            problem: problem.map(ToOwned::to_owned),
            standing: None,
            is_temporary: false,
        }
    }

    #[test]
    fn days_are_counted_and_an_end_that_is_near_is_told() {
        let at = |day: i64| dates(&shown(&["media.lan"], 90, None), Timestamp::from_secs(day * DAY));
        assert_eq!([10, 80, 90, -1].map(|day| at(day).verdict), [Verdict::Ok, Verdict::Warning, Verdict::Failed, Verdict::Failed]);
        assert_eq!(at(80).sentence(), "for media.lan, until 1970-04-01 (10 days). Look why it was not renewed");
        assert!(at(91).text.starts_with("expired: for media.lan"), "{:?}", at(91));
        let short = dates(&shown(&["media.lan"], 6, None), Timestamp::from_secs(DAY));
        assert_eq!(short.verdict, Verdict::Ok, "one of six days is always near its end");
        let broken = dates(&shown(&["media.lan"], 90, Some("key_file is missing")), Timestamp::from_secs(DAY));
        assert_eq!((broken.verdict, broken.cure.as_deref()), (Verdict::Warning, Some("There is no newer one: key_file is missing")));
    }

    #[test]
    fn one_that_only_fills_a_place_is_no_certificate() {
        let standing = Some("a temporary certificate".to_owned());
        let one = Shown { standing, is_temporary: true, ..shown(&["media.example.org"], 365, Some("port 443 is closed")) };
        let found = dates(&one, Timestamp::from_secs(DAY));
        assert_eq!((found.verdict, found.sentence().as_str()), (Verdict::Failed, "a temporary certificate. port 443 is closed"));
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let one = shown(&["media.example.org", "*.home.lan"], 90, None);
        for (host, good) in
            [("media.example.org", true), ("a.home.lan", true), ("home.lan", false), ("a.b.home.lan", false), ("lan", false)]
        {
            assert_eq!(is_for(&one.facts, host), good, "{host}");
        }
    }
}
