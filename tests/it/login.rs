//! The login shim: apps that know nothing but a server, a user name and a password work with a key as the password.

mod forms;
mod refreshing;
mod trouble;

use ::http::{Method, StatusCode};
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;
use serde_json::{Value, json};

use crate::support::Rig;
use crate::support::http::{self, Answer};

const PATH: &str = "/keygate-test/echo";
const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn login_path(kind: Kind) -> &'static str {
    if kind == Kind::Audiobookshelf { "/login" } else { "/Users/AuthenticateByName" }
}

/// A form as apps send it.
pub(crate) fn form(kind: Kind, user: &str, password: &str) -> String {
    match kind {
        Kind::Audiobookshelf => json!({"username": user, "password": password}).to_string(),
        Kind::Emby | Kind::Jellyfin => json!({"Username": user, "Pw": password}).to_string(),
    }
}

async fn post(rig: &Rig, path: &str, lines: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
    http::send(rig.address, Method::POST, path, lines, body).await
}

/// A login with some password, as an app does it.
async fn log_in(rig: &Rig, kind: Kind, password: &str) -> Answer {
    let identity = r#"MediaBrowser Client="App", Device="Phone", DeviceId="d1", Version="1.0""#;
    let lines = [JSON, ("x-return-tokens", "true"), ("authorization", identity)];
    post(rig, login_path(kind), &lines[..if kind == Kind::Audiobookshelf { 2 } else { 3 }], form(kind, "whoever", password)).await
}

/// The token that an app takes from a login's answer.
fn token(kind: Kind, answer: &Value) -> &str {
    if kind == Kind::Audiobookshelf { &answer["user"]["accessToken"] } else { &answer["AccessToken"] }.as_str().expect("a token")
}

fn assert_no_secret(rig: &Rig, answer: &Answer) {
    let shown = format!("{:?} {}", answer.headers, answer.text());
    for secret in rig.standin.control().secrets() {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_logs_in_with_a_key_and_reads_the_upstreams_own_user_and_never_a_token_of_its() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        for _ in 0..2 {
            let answer = log_in(&rig, kind, rig.secret()).await;
            assert_eq!(answer.status, StatusCode::OK, "{kind}: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_no_secret(&rig, &answer);
            let body = answer.json();
            assert_eq!(token(kind, &body), rig.secret(), "{kind}");
            let (user, name) = if kind == Kind::Audiobookshelf { ("user", "username") } else { ("User", "Name") };
            assert_eq!(body[user][name], "alice", "{kind}: the account's user, whoever the form named");
            let bearer = format!("Bearer {}", token(kind, &body));
            assert_eq!(http::get(rig.address, PATH, &[("authorization", &bearer)]).await.status, StatusCode::OK, "{kind}");
        }
        assert_eq!(rig.standin.control().counters().logins, 1, "{kind}: the account's session serves");
        let journal = rig.standin.control().journal();
        assert!(journal.iter().all(|seen| !format!("{seen:?}").contains(rig.secret())), "{kind}: no key goes upstream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audiobookshelfs_answer_is_that_of_its_own_login_with_the_key_for_every_token() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let own = http::send(
        rig.standin.url.trim_start_matches("http://").parse().unwrap(),
        Method::POST,
        "/login",
        &[JSON, ("x-return-tokens", "true")],
        form(Kind::Audiobookshelf, "alice", crate::support::ALICE_PASSWORD),
    );
    let mut wanted = own.await.json();
    for field in ["token", "accessToken", "refreshToken"] {
        assert!(wanted["user"][field].is_string());
        wanted["user"][field] = json!(rig.secret());
    }
    assert_eq!(log_in(&rig, Kind::Audiobookshelf, rig.secret()).await.json(), wanted);
}

/// Its app asks for the user at each start, and logs out where the user's own token is the one that it uses (`layouts/default.vue`): that is
/// how it knows tokens from before 2.26.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_asks_audiobookshelf_for_its_user_is_not_told_that_its_key_is_an_old_token() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let bearer = format!("Bearer {}", rig.secret());
    for (method, path, at) in [(Method::POST, "/api/authorize", "/user"), (Method::GET, "/api/me", "")] {
        let answer = http::send(rig.address, method, path, &[("authorization", &bearer)], "").await;
        let user = answer.json().pointer(at).cloned().unwrap();
        assert_eq!((answer.status, &user["username"], &user["token"]), (StatusCode::OK, &json!("alice"), &json!("")), "{path}");
        assert!(user["isOldToken"].is_null(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn emby_and_jellyfin_answer_with_user_session_token_and_server() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let body = log_in(&rig, kind, rig.secret()).await.json();
        assert_eq!(body["User"]["Id"], body["SessionInfo"]["UserId"], "{kind}");
        assert_eq!(body["User"]["ServerId"], body["ServerId"], "{kind}");
        assert!(body["User"]["Policy"].is_object() && body["User"]["Configuration"].is_object(), "{kind}");
        assert_eq!(body["SessionInfo"]["Client"], "test key", "{kind}: the session that the server shows for this key");
        // The list of sessions may fail, the login may not.
        let listed = rig.standin.control().journal().iter().filter(|seen| seen.path() == "/Sessions").count();
        assert_eq!(listed, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_good_is_a_wrong_password_and_a_guess() {
    for kind in Kind::ALL {
        let clock = crate::support::manual_clock();
        let rig = crate::support::Setup::new(kind).clock(clock).start().await;
        let disabled = rig.another_key("disabled");
        rig.keep().registry.edit_key(disabled.id(), KeyPatch { is_active: Some(false), ..KeyPatch::default() }).unwrap();
        rig.standin.control().clear_journal();
        let bad = ["alice-password", "kg_nonsense", "kgt_0123456789abcdefghijABCDEFGH", &rig.secret()[..40]];
        // One that is known to be dead is as bad, and no guess.
        let answer = log_in(&rig, kind, disabled.expose()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (401, &json!("invalid_api_key")), "{kind}");
        for turn in 0..25 {
            let answer = log_in(&rig, kind, bad[turn % bad.len()]).await;
            let (status, error) = if turn < 20 { (401, "invalid_api_key") } else { (429, "too_many_failures") };
            assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (status, &json!(error)), "{kind} {turn}");
            assert!(answer.headers.get("set-cookie").is_none());
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}: nothing of it reached the upstream");
        assert_eq!(log_in(&rig, kind, rig.secret()).await.status, StatusCode::OK, "{kind}: a good one passes all the same");
    }
}
