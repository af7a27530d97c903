//! What a certificate says of itself, for the log, for people and for choosing one by name.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;

use crate::clock::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `CN=media.example.org`; may be empty.
    pub subject: String,
    /// Host names in lower case, `*.` in front of some; then addresses.
    pub names: Vec<String>,
    /// Not good before.
    pub not_before: Timestamp,
    /// Not good from then on.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

impl Facts {
    /// Of a certificate in DER; `None` when it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let mut names = Vec::new();
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
        let fingerprint = Sha256::digest(certificate).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Some(Self {
            subject: parsed.subject().to_string(),
            names,
            not_before: Timestamp::from_secs(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(parsed.validity().not_after.timestamp()),
            fingerprint,
        })
    }

    /// Whether it is good at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whole days until it ends; 0 also when it has ended.
    pub fn days_left(&self, now: Timestamp) -> u64 {
        self.not_after.since(now).as_secs() / DAY.as_secs()
    }

    /// From its beginning to its end.
    pub(super) fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// `media.example.org, www.example.org`, at most a few of them.
    pub fn title(&self) -> String {
        const SHOWN: usize = 3;
        if self.names.is_empty() {
            return if self.subject.is_empty() { "without a name".to_owned() } else { self.subject.clone() };
        }
        let more = self.names.len().saturating_sub(SHOWN);
        let shown = self.names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        if more == 0 { shown } else { format!("{shown} and {more} more") }
    }

    /// The day it ends, `2027-02-01`.
    pub fn last_day(&self) -> String {
        self.not_after.to_string().split('T').next().unwrap_or_default().to_owned()
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}

/// A certificate as PEM (RFC 7468: lines of 64 characters).
pub fn to_pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Days before the end of a certificate at which something is said.
const STAGES: [u64; 4] = [30, 14, 7, 1];

/// How far the end has come: the stage that was passed last, and 0 when it is over. A stage that is more than half of the whole life says
/// nothing: certificates of six days are renewed each third day.
pub(super) fn stage(facts: &Facts, now: Timestamp) -> Option<u64> {
    if now >= facts.not_after {
        return Some(0);
    }
    let left = facts.not_after.since(now);
    let days = |days: u64| Duration::from_secs(days * DAY.as_secs());
    STAGES.into_iter().filter(|stage| days(stage * 2) <= facts.lifetime() && left <= days(*stage)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lifetime_days: i64) -> Facts {
        let day = 86_400;
        Facts {
            subject: String::new(),
            names: Vec::new(),
            not_before: Timestamp::from_secs(0),
            not_after: Timestamp::from_secs(lifetime_days * day),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn the_end_announces_itself_four_times_and_then_is_there() {
        let at = |days_left: i64| stage(&facts(90), Timestamp::from_secs((90 - days_left) * 86_400));
        assert_eq!(
            [40, 31, 30, 15, 14, 8, 7, 2, 1].map(at),
            [None, None, Some(30), Some(30), Some(14), Some(14), Some(7), Some(7), Some(1)]
        );
        assert_eq!([0, -1].map(at), [Some(0), Some(0)]);
    }

    #[test]
    fn a_short_life_is_not_worth_a_warning_from_its_first_day() {
        let at = |days_left: i64| stage(&facts(6), Timestamp::from_secs((6 - days_left) * 86_400));
        assert_eq!([6, 3, 2, 1, 0].map(at), [None, None, None, Some(1), Some(0)]);
    }
}
