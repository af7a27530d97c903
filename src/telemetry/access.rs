//! The access line: one per request, when its last byte went. No secret has a way into it: a path without its query, ids, names, numbers.
//!
//! It is no event: each request has one, and to hand fields to whoever may listen, to be asked their names and kinds one by one, costs more
//! than all of the line.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, Version};
use tracing::{Level, enabled};

use crate::gateway::trail::Trail;
use crate::redact::{LoggedPath, Redacted};

use super::Form;
use super::line::{Coloured, Head, Json, Line, Look, Text};

/// The name by which `log.level` rules these lines.
const TARGET: &str = "keygate::access";

const PASSED: Head = Head { level: "INFO", colour: "\x1b[32m", message: "request" };
const REFUSED: Head = Head { level: "WARN", colour: "\x1b[33m", message: "refused" };

/// Where lines go, and which.
struct Journal {
    takes_passed: bool,
    takes_refused: bool,
    line: for<'a> fn(&'a mut String, &Trail, Duration) -> &'a str,
    out: Box<dyn Fn(&str) + Send + Sync>,
}

static JOURNAL: OnceLock<Journal> = OnceLock::new();

thread_local! {
    /// Room for a line.
    static ROOM: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets lines go to `out` from now on, each as a whole: those that the program's subscriber, which is there already, would take as events of
/// `keygate::access`, `WARN` for refused requests and `INFO` for others. Whoever says so first is heard.
pub fn send_to(form: Form, out: impl Fn(&str) + Send + Sync + 'static) {
    JOURNAL.get_or_init(|| Journal::new(form, out));
}

/// Writes the line of a request.
pub fn write(trail: &Trail, duration: Duration) {
    if let Some(journal) = JOURNAL.get() {
        journal.write(trail, duration);
    }
}

impl Journal {
    fn new(form: Form, out: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            takes_passed: enabled!(target: TARGET, Level::INFO),
            takes_refused: enabled!(target: TARGET, Level::WARN),
            line: match form {
                Form::Text => line::<Text>,
                Form::Coloured => line::<Coloured>,
                Form::Json => line::<Json>,
            },
            out: Box::new(out),
        }
    }

    fn write(&self, trail: &Trail, duration: Duration) {
        if if trail.refusal.is_none() { self.takes_passed } else { self.takes_refused } {
            ROOM.with_borrow_mut(|room| (self.out)((self.line)(room, trail, duration)));
        }
    }
}

fn line<'a, L: Look>(room: &'a mut String, trail: &Trail, duration: Duration) -> &'a str {
    let mut line = Line::<L>::begin(room, if trail.refusal.is_none() { &PASSED } else { &REFUSED });
    line.address("client", trail.client);
    line.text("method", &shown(&trail.method));
    line.shown("path", LoggedPath(trail.target.as_ref().map_or("*", |target| target.as_str())));
    line.shown("protocol", protocol(trail.version));
    line.number("status", trail.status.map_or(499, |status| status.as_u16()).into());
    if let Some(upstream) = &trail.upstream {
        line.text("upstream", upstream.as_str());
    }
    if let Some(account) = &trail.account {
        line.text("account", &account.name);
    }
    if let Some(key) = &trail.key {
        line.shown("key_id", key.id());
        line.text("key_name", key.name());
    }
    if let Some(carrier) = trail.carrier {
        line.text("carrier", carrier);
    }
    line.number("bytes_in", trail.bytes_in);
    line.number("bytes_out", trail.bytes_out);
    line.number("duration_ms", u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    line.truth("complete", trail.complete);
    match (&trail.refusal, trail.ended) {
        (Some((kind, reason)), _) => {
            line.text("refusal", kind);
            line.text("reason", &Redacted(reason).to_string());
        }
        (None, Some(cause)) => line.text("ended", cause.as_str()),
        (None, None) => {}
    }
    line.end()
}

/// As HTTP calls it.
const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Whether a method is one that HTTP knows (RFC 9110, section 9, and RFC 5789): of others any text may be one.
pub(super) fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
            | Method::CONNECT
            | Method::TRACE
    )
}

/// A method as it may be written.
fn shown(method: &Method) -> Cow<'_, str> {
    if is_known(method) { Cow::Borrowed(method.as_str()) } else { Cow::Owned(Redacted(method.as_str()).to_string()) }
}

#[cfg(test)]
mod tests;
