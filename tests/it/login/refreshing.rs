//! Audiobookshelf: cookies, refreshes and logouts with a key, for as long as the key lives.

use ::http::StatusCode;
use keygate::upstream::Kind;
use serde_json::json;

use super::{JSON, PATH, assert_no_secret, form, log_in, post};
use crate::support::http::{self, Answer};
use crate::support::{Rig, Setup};

const KIND: Kind = Kind::Audiobookshelf;

fn cookies(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("set-cookie").into_iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_token_is_the_key_in_the_body_where_asked_for_or_else_in_a_cookie() {
    let rig = Setup::new(KIND).with(|config| config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]).start().await;
    let k = rig.secret();
    let answer = log_in(&rig, KIND, k).await;
    assert_eq!((answer.json()["user"]["refreshToken"].as_str(), cookies(&answer).len()), (Some(k), 0));
    let plain = format!("refresh_token={k}; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax");
    let secure = format!("refresh_token={k}; Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax");
    for (lines, cookie) in [
        (&[JSON][..], &plain),
        (&[JSON, ("x-return-tokens", "TRUE")], &plain),
        (&[JSON, ("x-forwarded-proto", "http")], &plain),
        (&[JSON, ("x-forwarded-proto", "https")], &secure),
    ] {
        let answer = post(&rig, "/login", lines, form(KIND, "x", k)).await;
        assert_eq!((&answer.json()["user"]["refreshToken"], cookies(&answer)), (&json!(null), vec![cookie.as_str()]), "{lines:?}");
        assert_no_secret(&rig, &answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_renews_itself_by_header_and_by_cookie_until_it_dies() {
    let rig = Rig::new(KIND).await;
    let (other, k) = (rig.another_key("other"), rig.secret());
    let cookie = format!("connect.sid=x; refresh_token={k}");
    let foreign_cookie = format!("refresh_token={}", other.expose());
    let bearer = format!("Bearer {k}");
    for (lines, in_body) in [
        (&[("x-refresh-token", k)][..], true),
        (&[("cookie", cookie.as_str())], false),
        (&[("x-refresh-token", k), ("cookie", &cookie)], true),
        (&[("x-refresh-token", k), ("cookie", &foreign_cookie)], true),
        (&[("cookie", &cookie), ("authorization", &bearer)], false),
    ] {
        let answer = post(&rig, "/auth/refresh", lines, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{lines:?}: {}", answer.text());
        let user = &answer.json()["user"];
        let wanted = if in_body { json!(k) } else { json!(null) };
        assert_eq!((&user["accessToken"], &user["token"], &user["refreshToken"]), (&json!(k), &json!(k), &wanted), "{lines:?}");
        assert!(cookies(&answer)[0].starts_with(&format!("refresh_token={k}; ")), "always, as the real server does");
        assert_no_secret(&rig, &answer);
    }
    assert_eq!(rig.standin.control().counters().refreshes, 0, "the session is not what is renewed");
    let conflicting = [("cookie", cookie.as_str()), ("x-emby-token", other.expose())];
    assert_eq!(post(&rig, "/auth/refresh", &conflicting, "").await.status, StatusCode::BAD_REQUEST);
    rig.keep().registry.revoke_key(rig.key.id()).unwrap();
    for lines in [&[("x-refresh-token", k)][..], &[("cookie", &cookie)], &[("x-refresh-token", "eyJ.a.b")], &[]] {
        let answer = post(&rig, "/auth/refresh", lines, "").await;
        assert_eq!((answer.status, answer.json()["error"].is_string()), (StatusCode::UNAUTHORIZED, true), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_a_credential_on_these_routes_alone() {
    let rig = Rig::new(KIND).await;
    let cookie = format!("refresh_token={}", rig.secret());
    for lines in [[("x-refresh-token", rig.secret())], [("cookie", cookie.as_str())]] {
        assert_eq!(http::get(rig.address, PATH, &lines).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(post(&rig, "/login", &lines, "").await.status, StatusCode::UNAUTHORIZED);
    }
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(post(&rig, "/auth/refresh", &[("x-refresh-token", rig.secret())], "").await.status, StatusCode::UNAUTHORIZED, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_takes_the_cookie_back_and_ends_nothing_with_a_key_or_without() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let k = rig.secret();
        assert_eq!(log_in(&rig, kind, k).await.status, StatusCode::OK);
        let (path, status) = if kind == KIND { ("/logout", 200) } else { ("/Sessions/Logout", 204) };
        let cookie = format!("refresh_token={k}");
        for lines in
            [&[("x-emby-token", k)][..], &[("x-refresh-token", k)], &[("cookie", cookie.as_str())], &[("cookie", "refresh_token=x")], &[]]
        {
            let answer = post(&rig, path, lines, "").await;
            assert_eq!(answer.status.as_u16(), status, "{kind} {lines:?}");
            let gone: Vec<_> = if kind == KIND { vec!["refresh_token=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"] } else { vec![] };
            assert_eq!(cookies(&answer).into_iter().take(1).collect::<Vec<_>>(), gone, "{kind}");
        }
        assert_eq!(post(&rig, path, &[("x-emby-token", "kg_nonsense")], "").await.status, StatusCode::UNAUTHORIZED, "{kind}");
        assert_eq!(rig.get(PATH).await.status, StatusCode::OK, "{kind}");
        let counters = rig.standin.control().counters();
        assert_eq!((counters.logouts, counters.logins), (0, 1), "{kind}");
    }
}
