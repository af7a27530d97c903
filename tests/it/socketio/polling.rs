//! The same over long polling, and the change from it to a WebSocket.

use ::http::Method;
use keygate::demo::Canned;
use keygate::upstream::Kind;

use super::{auth, connected};
use crate::support::socket::Socket;
use crate::support::wire::eventually;
use crate::support::{Rig, Setup, http};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

async fn get(rig: &Rig, target: &str) -> http::Answer {
    http::get(rig.address, target, &[]).await
}

async fn post(rig: &Rig, target: &str, packets: &str) -> http::Answer {
    let headers = [("content-type", "text/plain;charset=UTF-8")];
    http::send(rig.address, Method::POST, target, &headers, packets.to_owned()).await
}

/// Opens a session and connects in it: the target of its polls.
async fn opened(rig: &Rig) -> String {
    let hello = get(rig, OPEN).await.text();
    let opening: serde_json::Value = serde_json::from_str(&hello[1..]).expect("an opening");
    let target = format!("{OPEN}&sid={}", opening["sid"].as_str().expect("a sid"));
    assert_eq!(post(rig, &target, "40").await.text(), "ok");
    assert!(get(rig, &target).await.text().starts_with("40{"));
    target
}

async fn authenticated(rig: &Rig) -> String {
    let target = opened(rig).await;
    assert_eq!(post(rig, &target, &auth(rig.secret())).await.text(), "ok");
    let init = get(rig, &target).await.text();
    assert!(init.starts_with("42[\"init\",") && init.contains("alice"), "{init}");
    target
}

/// What a poll brings after these packets of a session that a key has opened.
pub(super) async fn heard_after(rig: &Rig, key: &str, packets: &str) -> String {
    let target = opened(rig).await;
    assert_eq!(post(rig, &target, &auth(key)).await.text(), "ok");
    assert!(get(rig, &target).await.text().starts_with("42[\"init\","));
    assert_eq!(post(rig, &target, packets).await.text(), "ok");
    get(rig, &target).await.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_an_auth_opens_a_polled_session() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let target = authenticated(&rig).await;
    // Several packets in one body, and one that is touched among others that are not.
    let packets = format!("3\u{1e}{}\u{1e}42[\"ping\"]", auth(rig.secret()));
    assert_eq!(post(&rig, &target, &packets).await.text(), "ok");
    assert!(get(&rig, &target).await.text().starts_with("42[\"init\","));
    let closed = post(&rig, &target, "1").await;
    assert_eq!(closed.text(), "ok");
    assert_eq!(get(&rig, &target).await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_auth_nothing_but_the_opening_is_posted() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    for packets in ["42[\"cancel_scan\"]", "3\u{1e}42[\"x\"]", "bAAAA", "", "6"] {
        let target = opened(&rig).await;
        let posts = || rig.standin.control().journal().iter().filter(|seen| seen.method == Method::POST).count();
        let before = posts();
        assert_eq!(post(&rig, &target, packets).await.status, 400, "{packets:?}");
        assert_eq!(posts(), before + 1, "the session is closed upstream, and that is all");
        assert_eq!(get(&rig, &target).await.json()["code"], 1, "{packets:?}");
        assert!(rig.standin.control().journal().last().is_some_and(|seen| seen.method == Method::POST), "no poll gets there any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_credential_is_told_so_and_a_second_identity_ends_the_session() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let target = opened(&rig).await;
    assert_eq!(post(&rig, &target, &auth("kg_nothing")).await.text(), "ok");
    assert_eq!(get(&rig, &target).await.text(), r#"42["auth_failed",{"message":"Invalid token"}]"#);
    assert_eq!(post(&rig, &target, &auth(rig.secret())).await.text(), "ok");
    assert!(get(&rig, &target).await.text().starts_with("42[\"init\","));
    let other = rig.another_key("other");
    let stranger = [("authorization", format!("Bearer {}", other.expose()))];
    let stranger: Vec<_> = stranger.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(http::get(rig.address, &target, &stranger).await.json()["code"], 1, "another key's session");
    assert_eq!(post(&rig, &target, &auth(other.expose())).await.status, 400);
    assert_eq!(get(&rig, &target).await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_waits_ends_when_the_key_is_revoked_also_if_it_began_before_the_auth() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    for is_early in [true, false] {
        let doomed = rig.another_key("doomed");
        let target = opened(&rig).await;
        if !is_early {
            post(&rig, &target, &auth(doomed.expose())).await;
            assert!(get(&rig, &target).await.text().starts_with("42[\"init\","));
        }
        // What keygate itself asks for a token meanwhile is no poll.
        let polls =
            || rig.standin.control().journal().iter().filter(|seen| seen.method == Method::GET && seen.target.contains("sid=")).count();
        let before = polls();
        let poll = async {
            if is_early {
                // The answer to the auth ends this poll; the next one waits.
                assert!(get(&rig, &target).await.text().starts_with("42[\"init\","));
            }
            get(&rig, &target).await
        };
        let revoke = async {
            eventually("the poll waits", || polls() == before + 1).await;
            if is_early {
                post(&rig, &target, &auth(doomed.expose())).await;
                eventually("the next poll waits", || polls() == before + 2).await;
            }
            rig.keep().registry.revoke_key(doomed.id()).expect("revoked");
        };
        let (ended, ()) = tokio::join!(poll, revoke);
        assert!([400, 401].contains(&ended.status.as_u16()), "{}", ended.text());
        assert!([400, 401].contains(&post(&rig, &target, "42[\"x\"]").await.status.as_u16()), "nor does it speak");
        assert!([400, 401].contains(&get(&rig, &target).await.status.as_u16()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_whose_session_does_not_authenticate_in_time_ends() {
    let limit = std::time::Duration::from_millis(300);
    let rig = Setup::new(Kind::Audiobookshelf).with(move |config| config.limits.header_timeout = limit).start().await;
    let target = opened(&rig).await;
    assert_eq!(get(&rig, &target).await.status, 400);
    assert_eq!(get(&rig, &target).await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_changes_to_a_websocket_and_stays_whose_it_was() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    for is_known in [false, true] {
        let target = if is_known { authenticated(&rig).await } else { opened(&rig).await };
        let upgrade = target.replace("polling", "websocket");
        let mut socket = Socket::open(&rig, &upgrade, "").await;
        socket.say("2probe").await;
        assert_eq!(socket.hear().await, "3probe");
        assert_eq!(get(&rig, &target).await.text(), "6");
        if !is_known {
            // The auth may still go the old way.
            post(&rig, &target, &auth(rig.secret())).await;
        }
        socket.say("5").await;
        if !is_known {
            assert!(socket.hear().await.starts_with("42[\"init\","));
        }
        rig.standin.control().push("42[\"news\"]");
        assert_eq!(socket.hear().await, "42[\"news\"]");
        socket.say(&auth(rig.another_key("other").expose())).await;
        assert_eq!(socket.closed().await.0, 1008);
        rig.standin.control().clear_journal();
        assert_eq!(get(&rig, &target).await.json()["code"], 1);
        assert!(rig.standin.control().journal().is_empty(), "the session is over for polls too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_before_the_auth_is_not_heard() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let say = |packets: Option<&'static str>| {
        let canned = packets.map(|packets| Canned::of("text/plain; charset=UTF-8", packets));
        rig.standin.control().faults(|faults| faults.canned = canned.clone());
    };
    let target = opened(&rig).await;
    say(Some("2\u{1e}42[\"secret\"]"));
    let early = get(&rig, &target).await;
    assert_eq!(early.status, 400, "{}", early.text());
    assert!(!early.text().contains("secret"), "{}", early.text());
    say(None);
    assert_eq!(get(&rig, &target).await.json()["code"], 1, "the session is over");
    say(Some("0{\"sid\":\"abc\",\"pingInterval\":25000}\u{1e}42[\"secret\"]"));
    let opening = get(&rig, OPEN).await;
    assert!(opening.status == 400 && !opening.text().contains("secret"), "{}", opening.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_polled_packets_are_blanked_and_everything_else_stays() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let target = authenticated(&rig).await;
    let tokens = rig.standin.control().live_tokens();
    assert!(!tokens.is_empty());
    for token in tokens {
        let message = format!("42[\"user_updated\",{{\"token\":\"{token}\",\"isActive\":true}}]");
        rig.standin.control().push(&message);
        let heard = get(&rig, &target).await.text();
        assert!(!heard.contains(&token) && heard.contains("\"isActive\":true"), "{heard}");
        assert_eq!(heard.len(), message.len(), "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_long_a_body_is_refused() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let target = authenticated(&rig).await;
    let body = format!("42[\"x\",\"{}\"]", "m".repeat(1_000_000));
    assert_eq!(post(&rig, &target, &body).await.status, 413);
    assert_eq!(post(&rig, &target, &body[..900_000]).await.text(), "ok");
    let _ = connected;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_has_more_sessions_than_its_share_and_others_find_room() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let greedy = rig.another_key("greedy");
    let open = async |key: &str| http::get(rig.address, &format!("{OPEN}&token={key}"), &[]).await;
    let mut last = String::new();
    for _ in 0..256 {
        let answer = open(greedy.expose()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        last = answer.text();
    }
    assert_eq!(open(greedy.expose()).await.json()["error"], "too_many_sockets");
    assert_eq!(open(rig.secret()).await.status, 200, "another key");
    // Neither by an auth in a session that is nobody's yet.
    let target = opened(&rig).await;
    assert_eq!(post(&rig, &target, &auth(greedy.expose())).await.status, 400);
    // One that ends makes room.
    let sid = serde_json::from_str::<serde_json::Value>(&last[1..]).expect("JSON")["sid"].as_str().expect("an id").to_owned();
    let target = format!("{OPEN}&token={}&sid={sid}", greedy.expose());
    assert_eq!(post(&rig, &target, "1").await.status, 200);
    assert_eq!(open(greedy.expose()).await.status, 200);
}
