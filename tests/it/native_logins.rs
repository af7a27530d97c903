//! `native_logins = "pass"`: people with accounts of their own at the server, next to keys.

use std::time::Duration;

use ::http::{Method, StatusCode};
use keygate::config::{Access, Config};
use keygate::upstream::Kind;

use crate::login::{form, login_path};
use crate::support::http::{self, Answer};
use crate::support::socket::Socket;
use crate::support::{self, ALICE_PASSWORD, Rig, Setup, manual_clock};

const PATH: &str = "/keygate-test/echo";
const JSON: (&str, &str) = ("content-type", "application/json");
const IDENTITY: &str = r#"MediaBrowser Client="App", Device="Phone", DeviceId="d1", Version="1.0""#;

fn switched_on(config: &mut Config) {
    config.upstreams[0].native_logins = Access::Pass;
    config.upstreams[0].images = Access::Refuse;
    config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
}

async fn rig(kind: Kind) -> Rig {
    Setup::new(kind).with(switched_on).start().await
}

/// Why tokens of the upstream come out here.
const OWN: &str = "a person's own login passes as it came";

async fn log_in(rig: &Rig, kind: Kind, password: &str) -> Answer {
    let identity = ("authorization", IDENTITY);
    let lines = if kind == Kind::Audiobookshelf { [JSON, ("x-return-tokens", "true")] } else { [JSON, identity] };
    let answer = http::send(rig.address, Method::POST, login_path(kind), &lines, form(kind, "alice", password)).await;
    if password == ALICE_PASSWORD {
        rig.sweep.allow_all_of(&answer, OWN);
    }
    answer
}

/// A person's own token, as the server gave it.
async fn own_token(rig: &Rig, kind: Kind) -> String {
    let answer = log_in(rig, kind, ALICE_PASSWORD).await;
    assert_eq!(answer.status, StatusCode::OK, "{kind}: {}", answer.text());
    let body = answer.json();
    let token = if kind == Kind::Audiobookshelf { &body["user"]["accessToken"] } else { &body["AccessToken"] };
    token.as_str().unwrap().to_owned()
}

fn credential(kind: Kind, token: &str) -> String {
    if kind == Kind::Audiobookshelf { format!("Bearer {token}") } else { format!("{IDENTITY}, Token=\"{token}\"") }
}

fn media(kind: Kind) -> &'static str {
    if kind == Kind::Audiobookshelf { "/hls/x/output.m3u8" } else { "/Audio/1001/stream" }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_with_a_password_and_everything_passes_as_it_came() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let token = own_token(&rig, kind).await;
        assert!(rig.standin.control().live_tokens().contains(&token), "{kind}: the server's own token, not scrubbed");
        assert_ne!(token, rig.secret());
        let own = credential(kind, &token);
        let lines =
            [("authorization", own.as_str()), ("cookie", "connect.sid=x; a=b"), ("x-forwarded-for", "6.6.6.6, 192.0.2.7"), ("te", "x")];
        rig.standin.control().clear_journal();
        let query = if kind == Kind::Audiobookshelf { format!("token={token}&a=%2f") } else { format!("ApiKey={token}&a=%2f") };
        assert_eq!(http::get(rig.address, &format!("{PATH}?{query}"), &lines).await.status, StatusCode::OK, "{kind}");
        let seen = rig.standin.control().journal().into_iter().find(|seen| seen.path() == PATH).unwrap();
        assert_eq!((seen.header("authorization"), seen.header("cookie")), (Some(own.as_str()), Some("connect.sid=x; a=b")), "{kind}");
        assert_eq!(seen.query(), Some(query.as_str()), "{kind}: byte for byte");
        assert_eq!((seen.header("x-forwarded-for"), seen.header("te")), (Some("192.0.2.7"), None), "{kind}");
        // The key beside it works as ever, and with the account's session.
        assert_eq!(rig.get(PATH).await.status, StatusCode::OK, "{kind}");
        assert!(rig.standin.control().journal().iter().all(|seen| !format!("{seen:?}").contains(rig.secret())), "{kind}");
        let answer = log_in(&rig, kind, rig.secret()).await;
        assert_eq!((answer.status, answer.text().contains(rig.secret())), (StatusCode::OK, true), "{kind}: the shim next to it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_pass_both_ways_and_a_logout_is_the_servers() {
    let rig = rig(Kind::Audiobookshelf).await;
    let body = form(Kind::Audiobookshelf, "alice", ALICE_PASSWORD);
    let answer = http::send(rig.address, Method::POST, "/login", &[JSON], body).await;
    rig.sweep.allow_all_of(&answer, OWN);
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").into_iter().map(|value| value.to_str().unwrap()).collect();
    let refresh =
        cookies.iter().find_map(|cookie| cookie.split(';').next()?.strip_prefix("refresh_token=")).expect("the server's own cookie");
    assert!(rig.standin.control().live_tokens().iter().any(|token| token == refresh));
    let cookie = format!("refresh_token={refresh}");
    let answer = http::send(rig.address, Method::POST, "/auth/refresh", &[("cookie", &cookie)], "").await;
    rig.sweep.allow_all_of(&answer, OWN);
    assert_eq!((answer.status, rig.standin.control().counters().refreshes), (StatusCode::OK, 1));
    let answer = http::send(rig.address, Method::POST, "/logout", &[("cookie", &cookie)], "").await;
    assert_eq!((answer.status, rig.standin.control().counters().logouts), (StatusCode::OK, 1));
    // A key's cookie, left by an earlier login with it, goes nowhere.
    let ours = format!("refresh_token={}; a=b", rig.secret());
    rig.standin.control().clear_journal();
    assert_eq!(http::get(rig.address, "/status", &[("cookie", &ours)]).await.status, StatusCode::OK);
    assert_eq!(rig.standin.control().journal()[0].header("cookie"), Some("a=b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_like_a_key_is_judged_as_a_key_alone() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let own = credential(kind, &own_token(&rig, kind).await);
        rig.standin.control().clear_journal();
        for text in ["kg", "kg_nonsense", "kgt_0123456789abcdefghijABCDEFGH", &rig.secret()[..40]] {
            assert_eq!(http::get(rig.address, PATH, &[("x-emby-token", text)]).await.status, StatusCode::UNAUTHORIZED, "{kind} {text}");
            let both = [("x-emby-token", text), ("authorization", own.as_str())];
            assert_eq!(http::get(rig.address, PATH, &both).await.status, StatusCode::BAD_REQUEST, "{kind} {text}");
            assert_eq!(log_in(&rig, kind, text).await.status, StatusCode::UNAUTHORIZED, "{kind} {text}");
        }
        let both = [("x-emby-token", rig.secret()), ("authorization", own.as_str())];
        assert_eq!(http::get(rig.address, PATH, &both).await.status, StatusCode::BAD_REQUEST, "{kind}");
        let form = format!("{{\"username\":\"{}\",\"password\":\"x\"}}", rig.secret());
        assert_eq!(http::send(rig.address, Method::POST, login_path(kind), &[JSON], form).await.status, StatusCode::BAD_REQUEST, "{kind}");
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}: nothing of it reached the upstream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_only_the_way_to_a_login_is_open() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let (image, open): (_, &[&str]) = match kind {
            Kind::Audiobookshelf => ("/api/items/x/cover", &["/status", "/", "/login", "/auth/openid"]),
            _ => ("/Items/1001/Images/Primary", &["/System/Info/Public", "/", "/web/index.html", "/Users/Public", "/QuickConnect/Enabled"]),
        };
        for path in open {
            rig.standin.control().clear_journal();
            http::get(rig.address, path, &[]).await;
            assert_eq!(rig.standin.control().journal().len(), 1, "{kind} {path}: it is the server's to answer");
        }
        rig.standin.control().clear_journal();
        let closed = [
            ("GET", PATH),
            ("GET", media(kind)),
            ("GET", image),
            ("POST", "/init"),
            ("POST", "/Startup/Complete"),
            ("POST", "/System/Restart"),
            ("POST", "/System/Shutdown"),
            ("POST", "/Users/ForgotPassword"),
            ("POST", "/api/upload"),
            ("GET", "/plugin/unheard-of"),
        ];
        for (method, path) in closed {
            let answer = http::send(rig.address, method.parse().unwrap(), path, &[("cookie", "a=b")], "").await;
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{kind} {method} {path}: {}", answer.status);
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
        assert_eq!(rig.standin.control().counters().restarts, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_string_is_no_credential_where_the_server_asks_for_none() {
    for kind in Kind::ALL {
        let clock = manual_clock();
        let rig = Setup::new(kind).clock(clock.clone()).with(switched_on).start().await;
        let token = own_token(&rig, kind).await;
        let own = credential(kind, &token);
        let reached = |rig: &Rig| rig.standin.control().journal().iter().filter(|seen| seen.path() == media(kind)).count();
        for text in ["0123456789abcdef0123456789abcdef", "x%22", "not a token"] {
            let wrong = credential(kind, text);
            let answer = http::get(rig.address, media(kind), &[("authorization", &wrong)]).await;
            assert!(matches!(answer.status.as_u16(), 400 | 401), "{kind} {text}: {}", answer.status);
        }
        assert_eq!(reached(&rig), 0, "{kind}");
        for _ in 0..3 {
            http::get(rig.address, media(kind), &[("authorization", &own)]).await;
        }
        assert_eq!(reached(&rig), 3, "{kind}: a good one passes");
        // For a while it is not asked about again; then it is.
        rig.standin.control().kill_token(&token);
        clock.advance(Duration::from_secs(31));
        let answer = http::get(rig.address, media(kind), &[("authorization", &own)]).await;
        assert_eq!((answer.status, reached(&rig)), (StatusCode::UNAUTHORIZED, 3), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_be_asked_is_no_bad_credential() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let own = credential(kind, &own_token(&rig, kind).await);
        rig.standin.control().faults(|faults| faults.refuse_connections = true);
        rig.standin.control().cut_connections();
        let answer = http::get(rig.address, PATH, &[("authorization", &own)]).await;
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (StatusCode::BAD_GATEWAY, true), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_with_passwords_are_throttled_right_or_wrong_and_those_with_keys_are_not() {
    for kind in Kind::ALL {
        let options = keygate::demo::Options { login_limit: None, ..keygate::demo::Options::default() };
        let rig = Setup::new(kind).standin(options).clock(manual_clock()).with(switched_on).start().await;
        for turn in 0..42 {
            let password = if turn % 2 == 0 { ALICE_PASSWORD } else { "wrong" };
            let status = match turn {
                40.. => 429,
                _ if turn % 2 == 0 => 200,
                _ => 401,
            };
            assert_eq!(log_in(&rig, kind, password).await.status.as_u16(), status, "{kind} {turn}");
        }
        let answer = log_in(&rig, kind, ALICE_PASSWORD).await;
        assert_eq!((answer.header("retry-after"), &answer.json()["error"]), (Some("15"), &serde_json::json!("too_many_logins")), "{kind}");
        assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::OK, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_logins_are_forwarded_byte_for_byte_and_large_ones_not_at_all() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let spaced = form(kind, "alice", ALICE_PASSWORD).replace(':', " :\n ");
        rig.standin.control().clear_journal();
        let lines = [JSON, ("authorization", IDENTITY)];
        let answer = http::send(rig.address, Method::POST, login_path(kind), &lines, spaced.clone()).await;
        rig.sweep.allow_all_of(&answer, OWN);
        assert_eq!(answer.status, StatusCode::OK, "{kind}");
        assert_eq!(rig.standin.control().journal()[0].content_length, Some(spaced.len() as u64), "{kind}");
        rig.standin.control().clear_journal();
        let answer = http::send(rig.address, Method::POST, login_path(kind), &lines, "x".repeat(65 << 10)).await;
        assert_eq!((answer.status, rig.standin.control().journal().len()), (StatusCode::PAYLOAD_TOO_LARGE, 0), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_socket_passes_with_its_own_credential_and_with_none_it_does_not() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = rig(kind).await;
        let token = own_token(&rig, kind).await;
        let host = rig.address.to_string();
        let lines: [(&str, &[u8]); 5] = [
            ("Host", host.as_bytes()),
            ("Connection", b"Upgrade"),
            ("Upgrade", b"websocket"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", b"13"),
        ];
        let name = if kind == Kind::Emby { "api_key" } else { "ApiKey" };
        let path = if kind == Kind::Emby { "/embywebsocket" } else { "/socket" };
        for (query, status) in [(format!("?{name}={token}&deviceId=d1"), 101), (String::new(), 401), (format!("?{name}=0123"), 401)] {
            let answer = http::raw(rig.address, &http::head("GET", &format!("{path}{query}"), &lines)).await;
            assert_eq!(http::status_of(&answer), status, "{kind} {query}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_say_on_their_sockets_passes_but_for_what_is_for_administrators() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = rig(kind).await;
        let token = own_token(&rig, kind).await;
        let target = if kind == Kind::Emby { "/embywebsocket?api_key" } else { "/socket?ApiKey" };
        let mut socket = Socket::open(&rig, &format!("{target}={token}&deviceId=d1"), "").await;
        for name in ["SessionsStart", "ActivityLogEntryStart", "Something", "KeepAlive"] {
            socket.say(&format!("{{\"MessageType\":\"{name}\"}}")).await;
        }
        support::until("the last one is heard", || rig.standin.control().said().iter().any(|text| text.contains("KeepAlive"))).await;
        let said = rig.standin.control().said();
        assert!(said.len() == 3 && !said.iter().any(|text| text.contains("ActivityLog")), "{kind}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_peoples_own_credentials_open_nothing() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(PATH).await.status, StatusCode::OK);
        let own = credential(kind, &rig.standin.control().live_tokens().pop().unwrap());
        rig.standin.control().clear_journal();
        assert_eq!(http::get(rig.address, PATH, &[("authorization", &own)]).await.status, StatusCode::UNAUTHORIZED, "{kind}");
        assert_eq!(log_in(&rig, kind, ALICE_PASSWORD).await.status, StatusCode::UNAUTHORIZED, "{kind}");
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_credentials_or_rules_the_server_is_closed_to_people_too() {
    for kind in Kind::ALL {
        let rig = rig(kind).await;
        let own = credential(kind, &own_token(&rig, kind).await);
        rig.standin.control().clear_journal();
        let routes: &[(&str, &str)] = match kind {
            Kind::Audiobookshelf => &[("POST", "/init"), ("POST", "/api/api-keys"), ("PATCH", "/api/me/password")],
            _ => &[("POST", "/System/Restart"), ("POST", "/System/Shutdown"), ("POST", "/Startup/User"), ("GET", "/Auth/Keys")],
        };
        for (method, path) in routes {
            for lines in [&[("authorization", own.as_str())][..], &[]] {
                let answer = http::send(rig.address, method.parse().unwrap(), path, lines, "").await;
                assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::FORBIDDEN, &"restricted_route".into()), "{kind} {path}");
            }
            let handshake = [
                ("authorization", own.as_str()),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
            ];
            assert_eq!(http::get(rig.address, path, &handshake).await.status, StatusCode::FORBIDDEN, "{kind} {path}: as a handshake");
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_plays_by_the_id_of_a_play_session_while_natives_pass() {
    let clock = manual_clock();
    let rig = Setup::new(Kind::Audiobookshelf).clock(clock.clone()).with(switched_on).start().await;
    let own = credential(Kind::Audiobookshelf, &own_token(&rig, Kind::Audiobookshelf).await);
    let path = "/api/items/cdc24c99-721f-4d05-9e52-a4cbec99cd76/play";
    let lines = [JSON, ("accept-encoding", "gzip"), ("authorization", own.as_str())];
    let play = || async {
        let answer = http::send(rig.address, Method::POST, path, &lines, r#"{"forceTranscode":true}"#).await;
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let statuses = |id: String| async move {
        let mut all = Vec::new();
        for path in [format!("/hls/{id}/output.m3u8"), format!("/public/session/{id}/track/1")] {
            all.push(http::get(rig.address, &path, &[]).await.status.as_u16());
        }
        all
    };
    let id = play().await;
    assert_eq!(statuses(id.clone()).await, [200, 302]);
    assert_eq!(statuses("0bcd8d8f-66fb-498c-a797-4fd5538cc58c".to_owned()).await, [401, 401], "an id that nobody got");
    for (method, path) in [(Method::POST, format!("/hls/{id}/output.m3u8")), (Method::GET, format!("/api/session/{id}"))] {
        assert_eq!(http::send(rig.address, method, &path, &[], "").await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    // It slides with the use, and with the credential's, and ends.
    for _ in 0..2 {
        clock.advance(keygate::handouts::GOOD_FOR - Duration::from_secs(60));
        assert_eq!(statuses(id.clone()).await, [200, 302]);
    }
    clock.advance(keygate::handouts::GOOD_FOR);
    assert_eq!(statuses(id).await, [401, 401]);
    let id = play().await;
    let close = http::send(rig.address, Method::POST, &format!("/api/session/{id}/close"), &lines, "{}").await;
    assert_eq!((close.status, statuses(id).await), (StatusCode::OK, vec![401, 401]));

    let id = play().await;
    assert_eq!(statuses(id.clone()).await, [200, 302]);
    let mut config = rig.config.clone();
    config.upstreams[0].native_logins = Access::Refuse;
    let app = rig.app.as_ref().expect("running");
    app.gateway.set_settings(keygate::gateway::routing::Settings::new(&config, None));
    assert_eq!(statuses(id).await, [401, 401], "the switch is off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_session_of_a_key_stays_the_keys_when_a_person_asks_for_it() {
    let rig = rig(Kind::Audiobookshelf).await;
    let own = credential(Kind::Audiobookshelf, &own_token(&rig, Kind::Audiobookshelf).await);
    let key = format!("Bearer {}", rig.secret());
    let lines = [JSON, ("authorization", key.as_str())];
    let answer = http::send(rig.address, Method::POST, "/api/items/cdc24c99-721f-4d05-9e52-a4cbec99cd76/play", &lines, "{}").await;
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let read = http::get(rig.address, &format!("/api/session/{id}"), &[("authorization", &own)]).await;
    assert_eq!(read.status, StatusCode::OK);
    let track = format!("/public/session/{id}/track/1");
    assert_eq!(http::get(rig.address, &track, &[]).await.status, StatusCode::OK);
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    assert_eq!(http::get(rig.address, &track, &[]).await.status, StatusCode::UNAUTHORIZED);
}
