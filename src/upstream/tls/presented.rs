//! What an operator reads of a certificate that was not trusted: what it is, why not, and which line to write.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::Origin;
use super::fingerprint::Fingerprint;
use crate::clock::Timestamp;

/// Names of a certificate that a sentence lists.
const NAMES: usize = 4;
/// Letters of a certificate's text that a sentence repeats.
const LETTERS: usize = 120;

/// A certificate that was refused. Its text follows on "cannot connect to …: ", and ends with the setting that would accept it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Untrusted(String);

impl Untrusted {
    /// It is not the pinned one.
    pub(super) fn by_pin(leaf: &CertificateDer<'_>, pinned: Fingerprint) -> Self {
        let found = Fingerprint::of(leaf);
        Self(format!(
            "its certificate ({}) is not the pinned one, {pinned}. If the server's certificate was renewed, write fingerprint = \
             \"{found}\"; if it was not, something else answers there",
            Presented::read(leaf).describe()
        ))
    }

    /// The authorities do not vouch for it.
    pub(super) fn by_authorities(leaf: &CertificateDer<'_>, name: &ServerName<'_>, error: &Error, origin: &Origin) -> Self {
        let presented = Presented::read(leaf);
        let described = presented.describe();
        let pin = format!("fingerprint = \"{}\"", Fingerprint::of(leaf));
        let certificate = match error {
            Error::InvalidCertificate(certificate) => certificate,
            other => {
                return Self(format!("its certificate ({described}) cannot be checked: {other}; if it is your server's, pin it: {pin}"));
            }
        };
        Self(match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("its certificate ({described}) has expired. Renew it on the server, or pin it as it is: {pin}")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!(
                    "its certificate ({described}) is not valid yet. Are the clocks of both machines right? Else pin it as it is: {pin}"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = presented.names();
                let asked = name.to_str();
                let advice = match presented.first_name() {
                    Some(name) => format!("Write a name that it is for (url = \"https://{name}…\"), or"),
                    None => "If it is your server's,".to_owned(),
                };
                format!("its certificate ({described}) is for {names}, not for {asked}. {advice} pin it: {pin}")
            }
            _ if presented.is_self_signed && presented.is_authority => format!(
                "its certificate is a self-signed CA certificate used as a server certificate ({described}). If it is your server's, pin it: {pin}"
            ),
            _ if presented.is_self_signed => {
                format!("its certificate is self-signed ({described}). If it is your server's, pin it: {pin}")
            }
            CertificateError::UnknownIssuer => format!(
                "its certificate ({described}) comes from an authority that is not in {origin}: {}. Write ca_file = \"…\" with that authority's \
                 certificate, or, if it is your server's, pin it: {pin}",
                presented.issuer
            ),
            other => format!("its certificate ({described}) is not accepted: {other}. If it is your server's, pin it: {pin}"),
        })
    }
}

/// What a certificate says of itself, fit for a log: nothing that it holds is believed.
#[derive(Default)]
struct Presented {
    subject: String,
    issuer: String,
    names: Vec<String>,
    ends: String,
    is_self_signed: bool,
    is_authority: bool,
}

impl Presented {
    fn read(leaf: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
            return Self { subject: "unreadable".to_owned(), ..Self::default() };
        };
        let end = Timestamp::from_secs(certificate.validity().not_after.timestamp()).to_string();
        Self {
            subject: harmless(&certificate.subject().to_string()),
            issuer: harmless(&certificate.issuer().to_string()),
            names: names(&certificate),
            ends: end.split('T').next().unwrap_or_default().to_owned(),
            is_self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            is_authority: certificate.is_ca(),
        }
    }

    /// `CN=media, ends 2027-02-01`.
    fn describe(&self) -> String {
        let subject = if self.subject.is_empty() { self.names() } else { self.subject.clone() };
        if self.ends.is_empty() { subject } else { format!("{subject}, ends {}", self.ends) }
    }

    fn names(&self) -> String {
        match self.names.get(..NAMES) {
            Some(first) if self.names.len() > NAMES => format!("{} and others", first.join(", ")),
            _ if self.names.is_empty() => "no name".to_owned(),
            _ => self.names.join(", "),
        }
    }

    /// One that a URL can have.
    fn first_name(&self) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| !name.contains('*'))
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(harmless(name)),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(std::net::Ipv4Addr::from(four).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|six| format!("[{}]", std::net::Ipv6Addr::from(six))),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// Text of a stranger as a log can hold it: one line, of visible letters, not endless.
fn harmless(text: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() || c == ' ' || (c.is_alphanumeric() && !c.is_ascii()) { c } else { '?' };
    text.chars().take(LETTERS).map(|c| if c == '"' { '\'' } else { visible(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_writes_stays_on_one_line_and_ends() {
        assert_eq!(harmless("CN=Müller's \"home\"\n2026 INFO fine\u{202e}\u{1b}[0m"), "CN=Müller's 'home'?2026 INFO fine??[0m");
        assert_eq!(harmless(&"x".repeat(1000)).len(), LETTERS);
    }

    #[test]
    fn what_is_no_certificate_is_called_unreadable_and_can_still_be_pinned() {
        let error = Error::InvalidCertificate(CertificateError::BadEncoding);
        let name = ServerName::try_from("media.lan").expect("a name");
        let text = Untrusted::by_authorities(&CertificateDer::from(vec![1, 2, 3]), &name, &error, &Origin::System).to_string();
        assert!(text.contains("(unreadable)") && text.contains("fingerprint = \"sha256:"), "{text}");
    }
}
