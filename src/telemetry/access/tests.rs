//! Lines are what the library would write of the same fields.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::keys::index::{KeyIndex, Verified};
use crate::keys::record::IndexEntry;
use crate::keys::{KeyDigest, KeyId, Scopes};
use crate::lifeline::Cause;
use crate::limits::Limits;
use crate::store::records::AccountRecord;
use crate::telemetry::plain::UtcTime;
use crate::telemetry::tests::Written;
use crate::upstream::{AccountId, Credential, UpstreamName};

/// The event that stood in the place of a line.
fn as_event(trail: &Trail, duration: Duration) {
    let path = LoggedPath(trail.target.as_ref().map_or("*", |target| target.as_str()));
    let key_id = trail.key.as_ref().map(|key| tracing::field::display(key.id()));
    let key_name = trail.key.as_ref().map(|key| key.name());
    let account = trail.account.as_ref().map(|account| account.name.as_str());
    let upstream = trail.upstream.as_ref().map(|name| name.as_str());
    let status = trail.status.map_or(499, |status| status.as_u16());
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let Trail { client, carrier, bytes_in, bytes_out, complete, .. } = *trail;
    let ended = trail.ended.map(Cause::as_str);
    let protocol = tracing::field::debug(trail.version);
    let method = shown(&trail.method);
    let method = &*method;
    match &trail.refusal {
        None => tracing::info!(
            target: TARGET,
            %client, method, %path, protocol, status, upstream, account, key_id, key_name, carrier,
            bytes_in, bytes_out, duration_ms, complete, ended, "request"
        ),
        Some((kind, reason)) => tracing::warn!(
            target: TARGET,
            %client, method, %path, protocol, status, upstream, account, key_id, key_name, carrier,
            bytes_in, bytes_out, duration_ms, complete, refusal = kind, reason = Redacted(reason).to_string(), "refused"
        ),
    }
}

/// What the library makes of it.
fn theirs(form: Form, trail: &Trail, duration: Duration) -> String {
    let written = Written::default();
    let writer = written.clone();
    let lines = fmt::layer().with_writer(move || writer.clone()).with_target(false).with_timer(UtcTime);
    let lines = match form {
        Form::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
        Form::Coloured => lines.with_ansi(true).boxed(),
        Form::Text => lines.with_ansi(false).boxed(),
    };
    tracing::subscriber::with_default(registry().with(lines), || as_event(trail, duration));
    written.text()
}

/// What a journal takes below a filter.
fn ours(filter: &str, form: Form, trail: &Trail, duration: Duration) -> String {
    let written = Written::default();
    let writer = Mutex::new(written.clone());
    let out = move |line: &str| writer.lock().expect("no panic").write_all(line.as_bytes()).expect("written");
    let journal = tracing::subscriber::with_default(registry().with(EnvFilter::new(filter)), || Journal::new(form, out));
    journal.write(trail, duration);
    written.text()
}

/// A line without its time.
fn timeless(form: Form, line: &str) -> String {
    let start = match form {
        Form::Text => 0,
        Form::Coloured => "\x1b[2m".len(),
        Form::Json => "{\"timestamp\":\"".len(),
    };
    let mut line = line.to_owned();
    let time = line.drain(start..start + "2026-01-01T00:00:00.000Z".len()).collect::<String>();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    line
}

fn key(name: &str) -> Verified {
    let digest = KeyDigest::from_bytes([7; 32]);
    let entry = IndexEntry {
        digest: digest.clone(),
        id: KeyId::from_u64(1 << 40),
        account: AccountId(7),
        expires_at: Timestamp::NEVER,
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: Limits::default(),
        name: name.to_owned(),
    };
    let index = KeyIndex::load::<Infallible>(|_, take| {
        take(entry);
        Ok(1)
    });
    index.expect("loaded").find(&digest).expect("there")
}

fn account(name: String) -> AccountRecord {
    AccountRecord {
        id: AccountId(7),
        upstream: UpstreamName::new("media"),
        name,
        credential: Credential::Minted { user_id: String::new() },
        device_id: String::new(),
        user_id: None,
        created_at: Timestamp::from_millis(0),
        broken: None,
        is_administrator: false,
    }
}

fn trail(client: IpAddr, method: &str, target: &str) -> Trail {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let request = http::Request::builder().method(method).uri(target).body(()).expect("a request");
    Trail::begin(&clock, client, &request, None)
}

/// Trails with as much or as little as requests leave in them, and with names that nobody should have.
fn trails() -> impl Strategy<Value = Trail> {
    let clients = select(vec!["127.0.0.1", "203.0.113.255", "0.0.0.0", "2001:db8::7", "::ffff:1.2.3.4"]);
    let methods = select(vec!["GET", "OPTIONS", "PROPFIND", "kg_SECRET", "A'`|~!#$%&*+-.^_9"]);
    let targets = "/[a-zA-Z0-9/%\"{}\\[\\]|~'_.=&:äß-]{0,40}([?]x=[a-z]{0,3})?|\\*|/hls/0bcd/a[?]x|/x/kg_SECRET/\"y";
    let versions = select(vec![Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3]);
    let names = || option::of("\\PC{0,12}|[\\x00-\\x7f]{0,12}|a \"b\" \\\\ c|Bücher\u{1b}\\[2J\u{9b}|\u{202e}e\u{301}\u{feff}");
    let words = || option::of(select(vec!["x-emby-token", "bearer", "api-key"]));
    let causes = option::of(select(vec![Cause::Revoked, Cause::UsedUp]));
    let asked = (clients, methods, targets, versions);
    let known = (words(), names(), names(), words(), option::of(100..=999_u16));
    let ended = (any::<(u64, u64, bool)>(), causes, words(), names());
    (asked, known, ended).prop_map(|((client, method, target, version), (upstream, owner, name, carrier, status), ended)| {
        let mut trail = trail(client.parse().expect("an address"), method, &target);
        trail.version = version;
        trail.upstream = upstream.map(UpstreamName::new);
        trail.account = owner.map(account).map(Arc::new);
        trail.key = name.as_deref().map(key);
        trail.carrier = carrier;
        trail.status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        let ((bytes_in, bytes_out, complete), cause, refusal, reason) = ended;
        (trail.bytes_in, trail.bytes_out, trail.complete, trail.ended) = (bytes_in, bytes_out, complete, cause);
        trail.refusal = refusal.map(|kind| (kind, reason.unwrap_or_default()));
        trail
    })
}

proptest! {
    #[test]
    fn a_line_is_to_the_byte_what_the_library_would_write(trail in trails(), millis in any::<u64>()) {
        for form in [Form::Text, Form::Coloured, Form::Json] {
            let (ours, theirs) = (ours("info", form, &trail, Duration::from_millis(millis)), theirs(form, &trail, Duration::from_millis(millis)));
            prop_assert_eq!(timeless(form, &ours), timeless(form, &theirs), "{:?}", form);
        }
    }
}

#[test]
fn a_line_has_all_that_a_request_leaves_and_nothing_of_what_it_does_not() {
    let mut trail = trail(IpAddr::from([127, 0, 0, 1]), "GET", "/a/b?secret=hidden");
    let line = |trail: &Trail| timeless(Form::Text, &ours("info", Form::Text, trail, Duration::from_micros(3999)));
    let short = "  INFO request client=127.0.0.1 method=\"GET\" path=/a/b?… protocol=HTTP/1.1 status=499 bytes_in=0 bytes_out=0 duration_ms=3 \
                 complete=false\n";
    assert_eq!(line(&trail), short);
    (trail.key, trail.carrier, trail.refusal) = (Some(key("my \"tv\"\n")), Some("bearer"), Some(("no-scope", "Bearer abc\n".to_owned())));
    let long = "  WARN refused client=127.0.0.1 method=\"GET\" path=/a/b?… protocol=HTTP/1.1 status=499 key_id=0100000000 \
                key_name=\"my \\\"tv\\\"\\n\" carrier=\"bearer\" bytes_in=0 bytes_out=0 duration_ms=3 complete=false refusal=\"no-scope\" \
                reason=\"Bearer ***\\\\n\"\n";
    assert_eq!(line(&trail), long);
}

#[test]
fn the_level_rules_which_lines_are_written() {
    let passed = trail(IpAddr::from([127, 0, 0, 1]), "GET", "/");
    let mut refused = trail(IpAddr::from([127, 0, 0, 1]), "GET", "/");
    refused.refusal = Some(("no-key", String::new()));
    let is_written = |filter, trail| !ours(filter, Form::Text, trail, Duration::ZERO).is_empty();
    for (filter, both) in [
        ("info", [true, true]),
        ("trace", [true, true]),
        ("warn", [false, true]),
        ("error", [false, false]),
        ("off", [false, false]),
        ("info,keygate::access=warn", [false, true]),
        ("info,keygate::access=off", [false, false]),
        ("off,keygate::access=info", [true, true]),
        ("info,keygate=error", [false, false]),
    ] {
        assert_eq!([is_written(filter, &passed), is_written(filter, &refused)], both, "{filter}");
    }
}
