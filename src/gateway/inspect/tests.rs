//! What hyper lets through and a gateway must not, as tables.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::*;

fn shown(parts: &Parts) -> Head<'_, '_> {
    Head { method: &parts.method, uri: &parts.uri, version: parts.version, headers: &parts.headers }
}

fn limits() -> Limits {
    Limits {
        max_connections: 0,
        max_connections_per_address: 0,
        max_header_bytes: 1000,
        max_headers: 10,
        max_uri_bytes: 200,
        header_timeout: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
    }
}

fn parts(method: &str, target: &str, version: Version, lines: &[(&str, &str)]) -> Parts {
    let request = Request::builder().method(method).uri(target).version(version).body(()).expect("a request");
    let mut parts = request.into_parts().0;
    for (name, value) in lines {
        parts.headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    parts
}

/// A GET over HTTP/1.1 with `Host: a.b` and these headers.
fn with(lines: &[(&str, &str)]) -> Result<(Length, Option<Upgrade>, bool), Refused> {
    let lines: Vec<_> = [("host", "a.b")].iter().chain(lines).copied().collect();
    let parts = parts("GET", "/x", Version::HTTP_11, &lines);
    inspect(shown(&parts), &limits(), Listener::Clear).map(|seen| (seen.length, seen.upgrade, seen.expects_continue))
}

fn target(method: &str, target: &str, version: Version, host: &[&str]) -> Result<String, Refused> {
    let lines: Vec<_> = host.iter().map(|host| ("host", *host)).collect();
    let parts = parts(method, target, version, &lines);
    inspect(shown(&parts), &limits(), Listener::Tls).map(|seen| format!("{} {} {:?}", seen.host.name(), seen.path.as_str(), seen.query))
}

#[test]
fn usual_requests_pass() {
    assert_eq!(target("GET", "/api/me?x=1", Version::HTTP_11, &["A.b:80"]).as_deref(), Ok("a.b /api/me Some(\"x=1\")"));
    assert_eq!(target("GET", "http://a.b/x", Version::HTTP_11, &["a.b"]).as_deref(), Ok("a.b /x None"));
    assert_eq!(target("GET", "https://a.b/x", Version::HTTP_2, &[]).as_deref(), Ok("a.b /x None"));
    assert_eq!(target("GET", "https://a.b/x", Version::HTTP_2, &["A.B"]).as_deref(), Ok("a.b /x None"));
    assert_eq!(target("OPTIONS", "*", Version::HTTP_11, &["a.b"]).as_deref(), Ok("a.b / None"));
    assert_eq!(with(&[("content-length", "5")]), Ok((Length::Exact(5), None, false)));
    assert_eq!(with(&[("transfer-encoding", "Chunked"), ("expect", "100-Continue")]), Ok((Length::Chunked, None, true)));
}

#[test]
fn odd_targets_and_hosts_are_refused() {
    for (address, version, hosts, why) in [
        ("/x", Version::HTTP_11, &[][..], Refused::Host),
        ("/x", Version::HTTP_11, &["a", "a"], Refused::Host),
        ("/x", Version::HTTP_2, &["a", "a"], Refused::Host),
        ("/x", Version::HTTP_11, &["a, b"], Refused::Host),
        ("/x", Version::HTTP_11, &["a/b?c"], Refused::Host),
        ("/x", Version::HTTP_11, &["u@a"], Refused::Host),
        ("http://evil/x", Version::HTTP_11, &["a.b"], Refused::Host),
        ("http://a.b/x", Version::HTTP_11, &[], Refused::Host),
        ("https://evil/x", Version::HTTP_2, &["a.b"], Refused::Host),
        ("ftp://a.b/x", Version::HTTP_11, &["a.b"], Refused::Target),
        ("ftp://a.b/x", Version::HTTP_2, &[], Refused::Target),
        ("http://u@a.b/x", Version::HTTP_11, &["a.b"], Refused::Target),
        ("https://u:p@a.b/x", Version::HTTP_2, &[], Refused::Target),
        ("evil:80", Version::HTTP_11, &["a.b"], Refused::Target),
        ("foo", Version::HTTP_11, &["foo"], Refused::Target),
        ("*", Version::HTTP_11, &["a.b"], Refused::Path(AmbiguousPath::NotAbsolute)),
        ("/a/%2e%2e/b", Version::HTTP_11, &["a.b"], Refused::Path(AmbiguousPath::DotSegment)),
    ] {
        assert_eq!(target("GET", address, version, hosts), Err(why), "{address} {hosts:?}");
    }
}

#[test]
fn methods_are_case_sensitive_and_few() {
    for (method, status) in [("CONNECT", 405), ("TRACE", 405), ("TRACK", 405), ("get", 501), ("PROPFIND", 501), ("X", 501)] {
        let refused = target(method, "a.b:80", Version::HTTP_11, &["a.b"]).expect_err(method);
        assert_eq!(refused.status().as_u16(), status, "{method}");
    }
}

#[test]
fn unclear_framing_is_refused() {
    for lines in [
        &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "005")],
        &[("content-length", "+5")],
        &[("content-length", "")],
        &[("content-length", "18446744073709551616")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    ] {
        assert_eq!(with(lines), Err(Refused::Framing), "{lines:?}");
    }
    let old = parts("POST", "/x", Version::HTTP_10, &[("host", "a"), ("transfer-encoding", "chunked")]);
    assert_eq!(inspect(shown(&old), &limits(), Listener::Clear).err(), Some(Refused::Framing));
    assert!(Refused::Framing.closes());
}

#[test]
fn headers_that_mean_mischief_are_refused() {
    for (name, value, why) in [
        ("expect", "y 100-continue", Refused::Expectation),
        ("connection", "close, Authorization", Refused::Nominated),
        ("connection", "x-forwarded-for", Refused::Nominated),
        ("connection", "Host", Refused::Nominated),
        ("connection", "content-length", Refused::Nominated),
        ("connection", "X_Emby_Token", Refused::Nominated),
        ("x_emby_token", "k", Refused::DisguisedName),
        ("x.emby_token", "k", Refused::DisguisedName),
        ("x_forwarded_user", "k", Refused::DisguisedName),
        ("content_length", "5", Refused::DisguisedName),
        ("user-agent", "caf\u{e9}", Refused::HeaderValue),
    ] {
        assert_eq!(with(&[(name, value)]), Err(why), "{name}: {value}");
    }
    assert!(with(&[("my_header", "x"), ("connection", "keep-alive, x-own")]).is_ok());
}

#[test]
fn limits_hold() {
    let long = format!("/{}", "a".repeat(200));
    assert_eq!(target("GET", &long, Version::HTTP_11, &["a"]), Err(Refused::LongTarget));
    assert_eq!(with(&[("x", &"a".repeat(1000))]), Err(Refused::LargeHead));
    assert_eq!(with(&[("x", "a"); 10]), Err(Refused::LargeHead));
    assert!(with(&[("x", "a"); 9]).is_ok());
}

#[test]
fn http_2_in_clear_is_refused() {
    let clear = parts("GET", "http://a/x", Version::HTTP_2, &[]);
    assert_eq!(inspect(shown(&clear), &limits(), Listener::Clear).err(), Some(Refused::Version));
}

#[test]
fn only_whole_websocket_handshakes_are_upgrades() {
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    let (connection, upgrade) = (("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"));
    assert_eq!(with(&[connection, upgrade, KEY, VERSION]), Ok((Length::Unsaid, Some(Upgrade::WebSocket), false)));
    for lines in [
        &[connection, upgrade, VERSION][..],
        &[connection, upgrade, KEY],
        &[connection, upgrade, KEY, ("sec-websocket-version", "8")],
        &[connection, upgrade, ("sec-websocket-key", "c2hvcnQ="), VERSION],
        &[connection, upgrade, KEY, KEY, VERSION],
        &[connection, upgrade, KEY, VERSION, ("content-length", "5")],
        &[connection, ("upgrade", "h2c, websocket"), KEY, VERSION],
    ] {
        assert_eq!(with(lines), Err(Refused::Handshake), "{lines:?}");
    }
    assert_eq!(with(&[upgrade, KEY, VERSION]), Ok((Length::Unsaid, None, false)));
    assert_eq!(with(&[connection, ("upgrade", "h2c"), ("http2-settings", "x")]), Ok((Length::Unsaid, None, false)));
}

#[test]
fn a_key_in_the_path_or_as_the_host_is_refused() {
    let key = crate::keys::ApiKey::generate(crate::keys::KeyId::from_u64(1)).expect("random bytes");
    assert_eq!(target("GET", &format!("/items/{}", key.expose()), Version::HTTP_11, &["a"]), Err(Refused::KeyInPath));
    assert_eq!(target("GET", "/x", Version::HTTP_11, &[key.expose()]), Err(Refused::Host));
}

proptest! {
    #[test]
    fn no_header_makes_the_inspection_panic(name in "(connection|upgrade|host|expect|content-length|transfer-encoding|[a-z_.]{1,9})", value in proptest::collection::vec(any::<u8>(), 0..30)) {
        let mut parts = parts("GET", "/x", Version::HTTP_11, &[("host", "a")]);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            parts.headers.append(name.parse::<HeaderName>().expect("a name"), value);
        }
        let _ = inspect(shown(&parts), &limits(), Listener::Clear);
    }
}
