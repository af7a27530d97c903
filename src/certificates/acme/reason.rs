//! Why there is no certificate, as a sentence that says what to do; and how soon it makes sense to try again.

use instant_acme::{Error, Problem};
use rustls::CertificateError;

use super::hook::HookError;
use super::https::HttpsError;
use super::schedule::Failing;
use crate::clock::Timestamp;
use crate::config::AcmeChallenge;
use crate::config::source::SourceError;
use crate::config::tls::TlsProblem;
use crate::redact::Redacted;
use crate::store::StoreError;

/// Before the words for what went wrong (RFC 8555, section 6.7).
const URN: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    /// The ACME server, or the way to it.
    #[error(transparent)]
    Server(#[from] Error),
    /// The ACME server looked, and did not see that a name is ours.
    #[error("{domain}: {problem}")]
    Name { domain: String, problem: Problem },
    /// It does not look in the way that is configured.
    #[error("the ACME server offers no {challenge} for {domain}")]
    NoChallenge { domain: String, challenge: &'static str },
    /// The order was turned down without a word.
    #[error("the ACME server turned the order down without saying why")]
    Silent,
    /// What it gave is not what was asked for.
    #[error("the ACME server's certificate cannot be served: {0}")]
    Unusable(String),
    /// The program for DNS records.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The authority of the ACME server.
    #[error("server.tls.acme.ca_file: {0}")]
    CaFile(#[from] TlsProblem),
    /// The key of the external account.
    #[error("server.tls.acme.eab_hmac_key: {0}")]
    Eab(#[from] SourceError),
    /// It is not base64.
    #[error("server.tls.acme.eab_hmac_key is not base64, as the ACME server's operator shows it")]
    EabForm,
    /// What is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or a request could not be made.
    #[error("cannot make a certificate request: {0}")]
    Make(#[from] rcgen::Error),
    /// The certificate that a challenge needs.
    #[error(transparent)]
    Challenge(#[from] crate::certificates::CertificateError),
    /// Work beside the loop died.
    #[error("failed inside: {0}")]
    Inside(#[from] tokio::task::JoinError),
}

/// Whether an answer was of this type.
pub(super) fn is(error: &Error, word: &str) -> bool {
    matches!(error, Error::Api(problem) if word_of(problem) == word)
}

fn word_of(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|urn| urn.strip_prefix(URN)).unwrap_or_default()
}

impl AcmeError {
    /// How it counts.
    pub(super) fn failing(&self) -> Failing {
        match self {
            Self::Server(Error::Other(inner)) if inner.is::<HttpsError>() => Failing::Unreachable,
            // An answer that is no JSON: a proxy's, or a server that starts.
            Self::Server(Error::Json(_)) => Failing::Unreachable,
            Self::Server(Error::Api(problem)) | Self::Name { problem, .. } => match word_of(problem) {
                "rateLimited" => Failing::Limited,
                "serverInternal" | "badNonce" => Failing::Unreachable,
                _ => Failing::Refused,
            },
            _ => Failing::Refused,
        }
    }

    /// For people. `now`: what this machine takes for the time.
    pub(super) fn sentence(&self, challenge: &AcmeChallenge, now: Timestamp) -> String {
        match self {
            Self::Server(Error::Api(problem)) => said(None, problem, challenge),
            Self::Name { domain, problem } => said(Some(domain), problem, challenge),
            Self::Server(Error::Other(inner)) => match inner.downcast_ref::<HttpsError>() {
                Some(error) => not_reached(error, now),
                None => Redacted(&inner.to_string()).to_string(),
            },
            Self::Server(Error::Json(_)) => {
                "the ACME server's answer is not what ACME servers answer: is server.tls.acme.directory the URL of a directory?".to_owned()
            }
            Self::Server(Error::Timeout(_)) => "the ACME server did not come to an end with the order in time".to_owned(),
            Self::NoChallenge { .. } => {
                format!("{self}: choose another challenge in [server.tls.acme]; for a name with a star it must be dns-01")
            }
            other => Redacted(&other.to_string()).to_string(),
        }
    }
}

fn not_reached(error: &HttpsError, now: Timestamp) -> String {
    let advice = match (error, error.refused_certificate()) {
        (
            _,
            Some(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ),
        ) => format!("is this machine's clock right? It says {now}"),
        (_, Some(CertificateError::UnknownIssuer)) => {
            "its certificate is signed by nobody whom this machine trusts: with an ACME server of your own, name its authority with \
             server.tls.acme.ca_file, else install the package ca-certificates"
                .to_owned()
        }
        (HttpsError::NoAddress { .. }, _) => "does this machine have a working DNS resolver, and the network?".to_owned(),
        (HttpsError::Connect { .. } | HttpsError::Slow { .. }, _) => {
            "is the server down, or does a firewall keep this machine from port 443 of others?".to_owned()
        }
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

/// What the ACME server said of a name or of the order, and what that means here.
fn said(domain: Option<&str>, problem: &Problem, challenge: &AcmeChallenge) -> String {
    let (whole, sub) = (problem.detail.as_deref().unwrap_or("no reason given"), problem.subproblems.first());
    // With several names, what is wrong with one of them stands below.
    let word = sub.and_then(|sub| sub.r#type.as_deref()?.strip_prefix(URN)).unwrap_or_else(|| word_of(problem));
    let detail = sub.and_then(|sub| sub.detail.as_deref()).unwrap_or(whole);
    let name = sub.and_then(|sub| sub.identifier.as_ref()).map(|name| name.authorized(false).to_string());
    let name = domain.map(str::to_owned).or(name).map(|name| format!("{name}: ")).unwrap_or_default();
    let detail = Redacted(detail.trim_end_matches('.')).to_string();
    let advice = advice(word, challenge);
    format!("{name}the ACME server says \"{detail}\"{advice}")
}

fn advice(word: &str, challenge: &AcmeChallenge) -> String {
    let place = match challenge {
        AcmeChallenge::TlsAlpn01 => "port 443",
        AcmeChallenge::Http01 => "port 80",
        AcmeChallenge::Dns01(_) => "the DNS record",
    };
    let text = match (word, challenge) {
        ("connection", AcmeChallenge::Dns01(_)) => "the domain's name servers must answer from outside".to_owned(),
        ("connection", _) => format!(
            "{place} of the name is not reachable from outside: lead it to keygate in the router, and open it in the firewall; where that \
             cannot be, use challenge = \"dns-01\""
        ),
        ("dns", _) => "the name needs an A or AAAA record that leads to this house; look at it with: dig NAME".to_owned(),
        ("unauthorized" | "incorrectResponse" | "tls", AcmeChallenge::Dns01(_)) => {
            "the record was not seen: does dns_hook write it where the domain's name servers look, and is dns_propagation_delay long enough?".to_owned()
        }
        ("unauthorized" | "incorrectResponse" | "tls", _) => format!(
            "somebody else answered there: the name's A and AAAA records must lead to this machine, and {place} to keygate and nothing else"
        ),
        ("caa", _) => "a CAA record of the domain forbids this authority: change it, or the directory".to_owned(),
        ("rateLimited", _) => "wait; trials are for directory = \"letsencrypt-staging\"".to_owned(),
        ("rejectedIdentifier", _) => "this authority does not certify the name: take it out of domains, or name another directory".to_owned(),
        ("externalAccountRequired", _) => "set eab_kid and eab_hmac_key, which its operator shows".to_owned(),
        ("invalidContact" | "unsupportedContact", _) => "correct contact in [server.tls.acme]".to_owned(),
        ("invalidProfile", _) => "correct profile in [server.tls.acme], or take it away".to_owned(),
        ("userActionRequired", _) => "its operator wants something of the account's owner first".to_owned(),
        _ => return String::new(),
    };
    format!("; {text}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::DnsHook;

    fn problem(word: &str, detail: &str) -> Problem {
        serde_json::from_value(serde_json::json!({ "type": format!("{URN}{word}"), "detail": detail })).expect("a problem")
    }

    fn dns() -> AcmeChallenge {
        AcmeChallenge::Dns01(DnsHook {
            program: "/hook".into(),
            arguments: Vec::new(),
            timeout: Duration::ZERO,
            propagation_delay: Duration::ZERO,
        })
    }

    fn sentence(word: &str, challenge: &AcmeChallenge) -> String {
        let error = AcmeError::Name { domain: "a.example.org".to_owned(), problem: problem(word, "it did not work.") };
        error.sentence(challenge, Timestamp::from_secs(0))
    }

    #[test]
    fn each_reason_says_what_to_do() {
        for (word, challenge, says) in [
            ("connection", AcmeChallenge::TlsAlpn01, "port 443 of the name is not reachable from outside"),
            ("connection", AcmeChallenge::Http01, "port 80 of the name is not reachable from outside"),
            ("connection", dns(), "name servers must answer from outside"),
            ("dns", AcmeChallenge::TlsAlpn01, "needs an A or AAAA record"),
            ("unauthorized", AcmeChallenge::TlsAlpn01, "somebody else answered there"),
            ("unauthorized", dns(), "does dns_hook write it"),
            ("caa", AcmeChallenge::Http01, "a CAA record of the domain forbids"),
            ("rateLimited", AcmeChallenge::Http01, "letsencrypt-staging"),
            ("rejectedIdentifier", AcmeChallenge::Http01, "take it out of domains"),
            ("externalAccountRequired", AcmeChallenge::Http01, "eab_kid"),
        ] {
            let text = sentence(word, &challenge);
            assert!(text.starts_with("a.example.org: the ACME server says \"it did not work\"; ") && text.contains(says), "{text}");
        }
        assert_eq!(sentence("other", &AcmeChallenge::Http01), "a.example.org: the ACME server says \"it did not work\"");
    }

    #[test]
    fn of_several_names_the_one_that_failed_is_told() {
        let json = serde_json::json!({
            "type": format!("{URN}malformed"), "detail": "some names are no good",
            "subproblems": [{ "type": format!("{URN}caa"), "detail": "CAA", "identifier": { "type": "dns", "value": "b.example.org" } }],
        });
        let error = AcmeError::Server(Error::Api(serde_json::from_value(json).expect("a problem")));
        let text = error.sentence(&AcmeChallenge::Http01, Timestamp::from_secs(0));
        assert!(text.starts_with("b.example.org: the ACME server says \"CAA\"; a CAA record"), "{text}");
    }

    #[test]
    fn a_wrong_clock_and_a_foreign_authority_are_told_apart() {
        let refused = |why| {
            let source = std::io::Error::other(rustls::Error::InvalidCertificate(why));
            let error = HttpsError::Tls { host: "acme.test".to_owned(), source };
            let error = AcmeError::Server(Error::Other(Box::new(error)));
            assert_eq!(error.failing(), Failing::Unreachable);
            error.sentence(&AcmeChallenge::TlsAlpn01, Timestamp::from_secs(0))
        };
        assert!(refused(CertificateError::Expired).ends_with("is this machine's clock right? It says 1970-01-01T00:00:00Z"));
        assert!(refused(CertificateError::UnknownIssuer).contains("server.tls.acme.ca_file"));
    }

    #[test]
    fn what_counts_at_the_server_is_told_apart_from_what_it_never_saw() {
        let failing = |word: &str| AcmeError::Server(Error::Api(problem(word, ""))).failing();
        assert_eq!(failing("rateLimited"), Failing::Limited);
        assert_eq!([failing("serverInternal"), failing("badNonce")], [Failing::Unreachable; 2]);
        assert_eq!([failing("caa"), failing("unauthorized"), failing("malformed")], [Failing::Refused; 3]);
        assert_eq!(AcmeError::Silent.failing(), Failing::Refused);
    }

    #[test]
    fn what_servers_write_is_redacted_and_cannot_break_lines() {
        let error = AcmeError::Name { domain: "a.test".to_owned(), problem: problem("unauthorized", "got \"token=hunter2\"\nforged line") };
        let text = error.sentence(&AcmeChallenge::Http01, Timestamp::from_secs(0));
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
}
