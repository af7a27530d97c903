//! What goes wrong, each with the right status and a short JSON object: bad keys, which all look alike, and an upstream in trouble,
//! which never looks like a bad key.

mod noted;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::keys::{ApiKey, KeyId, Scopes};
use keygate::registry::{KeyPatch, NewKey};
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};

use crate::support::http::{self, Answer};
use crate::support::{ALICE_PASSWORD, Rig, Setup, make_key, manual_clock, upstream};

const PATH: &str = "/keygate-test/echo";

/// Everything about an answer that a client can see, but for the time.
fn visible(answer: &str) -> String {
    answer.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect::<Vec<_>>().join("\r\n")
}

fn request(method: &str, host: &str, lines: &[(&str, &str)], query: &str) -> Vec<u8> {
    let mut all = vec![("Host", host.as_bytes()), ("Connection", b"close")];
    all.extend(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
    http::head(method, &format!("{PATH}{query}"), &all)
}

/// A JSON object of a code and a sentence, as every refusal has it.
fn assert_refusal(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{error}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{error}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{error}");
    // A page of another origin may read it, and never with credentials.
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{error}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{error}");
    assert_eq!(answer.json()["error"], error);
    assert!(answer.json()["message"].as_str().is_some_and(|text| text.ends_with('.')), "{}", answer.text());
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{error}");
}

/// Keys that are no good, and what else people send, each with what it is.
async fn bad_credentials(rig: &Rig) -> Vec<(&'static str, String)> {
    let registry = &rig.keep().registry;
    let create = |name: &str, expires_at| {
        let new = NewKey {
            name: name.to_owned(),
            account: rig.account.id,
            expires_at,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: keygate::limits::Limits::default(),
            created_by: "test".to_owned(),
        };
        registry.create_key(new).unwrap()
    };
    let expired = create("expired", Some(rig.clock.now().plus(Duration::from_secs(1))));
    let disabled = create("disabled", None);
    registry.edit_key(disabled.record.id, KeyPatch { is_active: Some(false), ..KeyPatch::default() }).unwrap();
    let revoked = create("revoked", None);
    registry.revoke_key(revoked.record.id).unwrap();
    let good = rig.secret();
    let mut typing_error = good.to_owned();
    typing_error.replace_range(20..21, if &good[20..21] == "A" { "B" } else { "A" });
    assert_eq!(rig.get(PATH).await.status, 200);
    let upstream_token = rig.standin.control().live_tokens().pop().unwrap();
    vec![
        ("cut off", good[..good.len() - 1].to_owned()),
        ("too long", format!("{good}x")),
        ("a typing error", typing_error),
        ("in capitals", good.to_ascii_uppercase()),
        ("only the beginning", "kg_".to_owned()),
        ("unknown", ApiKey::generate(KeyId::from_u64(4711)).unwrap().expose().to_owned()),
        ("known id, other secret", ApiKey::generate(revoked.record.id).unwrap().expose().to_owned()),
        ("expired", expired.key.expose().to_owned()),
        ("disabled", disabled.key.expose().to_owned()),
        ("revoked", revoked.key.expose().to_owned()),
        ("the upstream's own token", upstream_token),
        ("a password", ALICE_PASSWORD.to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_key_is_refused_with_the_same_bytes_in_every_carrier() {
    for kind in Kind::ALL {
        let clock = manual_clock();
        let rig = Setup::new(kind).clock(clock.clone()).start().await;
        let bad = bad_credentials(&rig).await;
        clock.advance(Duration::from_secs(1));
        rig.standin.control().clear_journal();
        let host = rig.address.to_string();
        for method in ["GET", "HEAD", "DELETE"] {
            let nothing = visible(&http::raw(rig.address, &request(method, &host, &[], "")).await);
            assert!(nothing.starts_with("HTTP/1.1 401 "), "{kind} {method}: {nothing}");
            for (what, text) in &bad {
                let bearer = format!("Bearer {text}");
                let structured = format!("MediaBrowser Token=\"{text}\"");
                let requests = [
                    request(method, &host, &[("Authorization", &bearer)], ""),
                    request(method, &host, &[("Authorization", &structured)], ""),
                    request(method, &host, &[("X-Emby-Token", text)], ""),
                    request(method, &host, &[], &format!("?api_key={text}")),
                    request(method, &host, &[], &format!("?ApiKey={text}&a=1")),
                ];
                for bytes in requests {
                    let answer = http::raw(rig.address, &bytes).await;
                    // Else the throttle of guesses would answer.
                    clock.advance(Duration::from_secs(3));
                    assert_eq!(visible(&answer), nothing, "{kind} {method} {what}: {}", String::from_utf8_lossy(&bytes));
                }
            }
            let basic =
                http::raw(rig.address, &request(method, &host, &[("Authorization", "Basic YWxpY2U6YWxpY2UtcGFzc3dvcmQ=")], "")).await;
            assert_eq!(visible(&basic), nothing);
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}: nothing of it reached the upstream");
        assert_refusal(&http::get(rig.address, PATH, &[]).await, 401, "invalid_api_key");
        assert_eq!(rig.get(PATH).await.status, 200, "the good key is as good as before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_different_credentials_and_two_ways_of_reading_a_request_are_400() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let other = rig.another_key("other");
    let lines = [("x-emby-token", rig.secret()), ("x-mediabrowser-token", other.expose())];
    assert_refusal(&http::get(rig.address, PATH, &lines).await, 400, "ambiguous_credentials");
    assert_refusal(&http::get(rig.address, "/a/%2e%2e/b", &lines[..1]).await, 400, "ambiguous_request");
    assert_refusal(&http::get(rig.address, PATH, &[lines[0], ("x_forwarded_for", "1.2.3.4")]).await, 400, "ambiguous_request");
}

/// A gateway with two upstreams, each with a host of its own, and a key for each.
async fn two_upstreams(one: Kind, two: Kind) -> (Rig, StandIn, ApiKey) {
    let second = StandIn::start(two, Options::default()).await.unwrap();
    let port = second.url.rsplit(':').next().unwrap().parse().unwrap();
    let setup = Setup::new(one).with(move |config| {
        let mut other = upstream("other", two, port);
        other.hosts = vec!["two.example.org".to_owned()];
        config.upstreams[0].hosts = vec!["one.example.org".to_owned()];
        config.upstreams.push(other);
    });
    let rig = setup.start().await;
    rig.sweep.watch(&second);
    let name = rig.config.upstreams[1].name.clone();
    let credential = Credential::Password(Secret::from(ALICE_PASSWORD));
    let account = rig.keep().registry.add_account(name, "alice".to_owned(), credential).unwrap();
    let key = make_key(rig.keep(), "other", &account);
    (rig, second, key)
}

/// A GET for a host name.
async fn get_from(address: SocketAddr, host: &str, key: &str) -> String {
    http::raw(address, &request("GET", host, &[("X-Emby-Token", key)], "")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_upstream_is_an_unknown_key_and_an_unknown_host_is_421() {
    for (one, two) in [(Kind::Audiobookshelf, Kind::Jellyfin), (Kind::Emby, Kind::Emby)] {
        let (rig, second, key) = two_upstreams(one, two).await;
        for (host, secret, status) in [
            ("one.example.org", rig.secret(), 200),
            ("ONE.example.org:8080", rig.secret(), 200),
            ("one.example.org.", rig.secret(), 200),
            ("two.example.org", key.expose(), 200),
            ("two.example.org", rig.secret(), 401),
            ("one.example.org", key.expose(), 401),
            ("three.example.org", rig.secret(), 421),
            ("one.example.org.evil.org", rig.secret(), 421),
            ("127.0.0.1", rig.secret(), 421),
        ] {
            for standin in [&rig.standin, &second] {
                standin.control().clear_journal();
            }
            let answer = get_from(rig.address, host, secret).await;
            assert_eq!(http::status_of(&answer), status, "{one} {two} {host}: {answer}");
            let forwarded = |standin: &StandIn| standin.control().journal().iter().filter(|seen| seen.path() == PATH).count();
            let wanted = match (status, &host.to_ascii_lowercase()[..3]) {
                (200, "one") => (1, 0),
                (200, _) => (0, 1),
                _ => (0, 0),
            };
            assert_eq!((forwarded(&rig.standin), forwarded(&second)), wanted, "{host}");
        }
        let unknown = ApiKey::generate(KeyId::from_u64(4711)).unwrap();
        let foreign = visible(&get_from(rig.address, "two.example.org", rig.secret()).await);
        assert_eq!(foreign, visible(&get_from(rig.address, "two.example.org", unknown.expose()).await));
    }
}

fn assert_trouble(answer: &Answer, status: u16, error: &str) {
    assert_refusal(answer, status, error);
    let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=3600).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_502_before_and_after_the_login() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        rig.standin.control().faults(|faults| faults.refuse_connections = true);
        assert_trouble(&rig.get(PATH).await, 502, "upstream_unreachable");
        rig.standin.control().faults(|faults| faults.refuse_connections = false);
        let up = async { while rig.get(PATH).await.status != 200 {} };
        tokio::time::timeout(http::PATIENCE, up).await.expect("it serves again once the upstream is back");
        rig.standin.control().faults(|faults| faults.refuse_connections = true);
        rig.standin.control().cut_connections();
        assert_trouble(&rig.get(PATH).await, 502, "upstream_unreachable");
        // Nothing listens at all.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rig = Setup::new(kind).with(move |config| config.upstreams[0].port = nobody).start().await;
        assert_trouble(&rig.get(PATH).await, 502, "upstream_unreachable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_slow_is_504() {
    for kind in Kind::ALL {
        let slow = |config: &mut keygate::config::Config| config.upstreams[0].timeouts.response_header = Duration::from_millis(250);
        let rig = Setup::new(kind).with(slow).start().await;
        assert_eq!(rig.get(PATH).await.status, 200, "{kind}");
        rig.standin.control().faults(|faults| faults.delay = Duration::from_secs(600));
        assert_trouble(&rig.get(PATH).await, 504, "upstream_timeout");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_password_is_wrong_is_503_and_is_tried_once() {
    for kind in Kind::ALL {
        let rig = Setup::new(kind).credential(Credential::Password(Secret::from("not-the-password"))).start().await;
        for _ in 0..3 {
            assert_trouble(&rig.get(PATH).await, 503, "upstream_login_failed");
        }
        assert_eq!(rig.standin.control().counters().refused_logins, 1, "{kind}");
    }
}
