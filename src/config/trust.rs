//! The checks of `ca_file` and `fingerprint`: whom an `https://` upstream is trusted to be.

use crate::config::Outside;
use crate::config::check::Checker;
use crate::config::file::UpstreamSection;
use crate::config::problem::{Place, Problem};
use crate::config::tls;
use crate::config::value::{Field, Placed};
use crate::upstream::tls::{Fingerprint, Trust, TrustError};

/// What is trusted, and where it was written.
enum Given<'s> {
    System,
    File(&'s Placed<String>),
    Pin(&'s Placed<String>),
}

/// Whom to trust, for an `https://` URL. `is_tls`: `None` when the URL itself is wrong, which is reported already.
pub(crate) fn check(checker: &mut Checker<'_>, section: &UpstreamSection, is_tls: Option<bool>) -> Option<Trust> {
    let given = given(checker, section);
    let is_tls = is_tls?;
    match given {
        Given::File(field) if !is_tls => useless(checker, "ca_file", field),
        Given::Pin(field) if !is_tls => useless(checker, "fingerprint", field),
        Given::System if !is_tls => None,
        Given::Pin(field) => pinned(checker, field),
        // Who only wants the admin socket connects to no media server: whom that one trusts is not looked at.
        Given::System | Given::File(_) if checker.outside == Outside::Ignore => Trust::nobody().ok(),
        Given::System => system(checker, section),
        Given::File(field) => file(checker, field),
    }
}

fn given<'s>(checker: &mut Checker<'_>, section: &'s UpstreamSection) -> Given<'s> {
    // Empty is not set.
    let set = |field: &'s Field<String>| field.as_ref().filter(|field| !field.value.is_empty());
    match (set(&section.ca_file), set(&section.fingerprint)) {
        (None, None) => Given::System,
        (Some(file), None) => Given::File(file),
        (None, Some(pin)) => Given::Pin(pin),
        (Some(_), Some(pin)) => {
            let problem = Problem::new(&pin.place, "upstream.ca_file and upstream.fingerprint exclude each other").label("the second one");
            checker.report.problem(
                problem.help("with a fingerprint the server must have exactly that certificate, whoever signed it: remove one of the two"),
            );
            Given::Pin(pin)
        }
    }
}

fn useless(checker: &mut Checker<'_>, name: &str, field: &Placed<String>) -> Option<Trust> {
    let problem = Problem::new(&field.place, format!("upstream.{name} needs an https url")).label("nothing is encrypted with http://");
    checker.report.problem(problem.help(format!("write url = \"https://…\", or remove {name}")));
    None
}

fn pinned(checker: &mut Checker<'_>, field: &Placed<String>) -> Option<Trust> {
    let Ok(fingerprint) = field.value.parse::<Fingerprint>() else {
        let problem = Problem::new(&field.place, "upstream.fingerprint is not a fingerprint")
            .label("expected \"sha256:…\" with 64 hexadecimal digits");
        checker
            .report
            .problem(problem.help(
                "leave it away and ask: keygate check-config --online; or: openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE",
            ));
        return None;
    };
    settled(checker, Trust::pinned(fingerprint), &field.place, "")
}

fn file(checker: &mut Checker<'_>, field: &Placed<String>) -> Option<Trust> {
    let path = checker.folder.join(&field.value);
    match tls::certificates(&path) {
        Ok(certificates) => {
            settled(checker, Trust::file(path, &certificates), &field.place, "it must hold certificates of authorities, as PEM")
        }
        Err(error) => {
            let problem = Problem::new(&field.place, format!("upstream.ca_file: {error}"));
            checker.report.problem(problem.help("a PEM file with the certificate of the authority that signed the media server's"));
            None
        }
    }
}

fn system(checker: &mut Checker<'_>, section: &UpstreamSection) -> Option<Trust> {
    let place = section.url.as_ref().map_or(Place::Nowhere, |url| url.place.clone());
    settled(checker, Trust::system(), &place, "install the package ca-certificates, or set ca_file or fingerprint for this upstream")
}

fn settled(checker: &mut Checker<'_>, trust: Result<Trust, TrustError>, place: &Place, help: &str) -> Option<Trust> {
    trust
        .map_err(|error| {
            let problem = Problem::new(place, format!("upstream: {error}"));
            checker.report.problem(if help.is_empty() { problem } else { problem.help(help) });
        })
        .ok()
}
