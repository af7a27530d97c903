//! Sessions that die: by time, by the upstream's hand, in the middle of a transfer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use keygate::clock::Clock;
use keygate::demo::Options;
use keygate::upstream::Kind;

use super::{protected, restart};
use crate::support::{self, Rig, Setup, http as client};

const UPLOAD: &str = "/api/keygate-test-is-not-here";

/// A gateway and an Audiobookshelf that share one clock, which the test turns.
async fn timed() -> (Rig, Arc<keygate::clock::ManualClock>) {
    let clock = support::manual_clock();
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Options::default() };
    let rig = Setup::new(Kind::Audiobookshelf).standin(options).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
    (rig, clock)
}

async fn at_once(rig: &Rig, count: usize, path: &str) -> Vec<u16> {
    let bearer = format!("Bearer {}", rig.secret());
    let address = rig.address;
    let asked = (0..count).map(|_| {
        let (bearer, path) = (bearer.clone(), path.to_owned());
        tokio::spawn(async move { client::get(address, &path, &[("authorization", &bearer)]).await.status.as_u16() })
    });
    let asked: Vec<_> = asked.collect();
    let mut statuses = Vec::with_capacity(count);
    for one in asked {
        statuses.push(one.await.expect("no panic"));
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_on_a_session_that_expired_cause_exactly_one_refresh() {
    let (rig, clock) = timed().await;
    assert_eq!(rig.get("/api/libraries").await.status, 200);
    clock.advance(Duration::from_secs(3601));
    assert_eq!(at_once(&rig, 1000, "/api/libraries").await, vec![200; 1000]);
    let counters = rig.standin.control().counters();
    assert_eq!((counters.logins, counters.refreshes, counters.unauthorized), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_requests_at_once_with_a_token_that_the_upstream_killed_cause_one_refresh() {
    let (rig, _clock) = timed().await;
    assert_eq!(rig.get("/api/libraries").await.status, 200);
    rig.standin.control().kill_access_tokens();
    assert_eq!(at_once(&rig, 300, "/api/libraries").await, vec![200; 300]);
    let counters = rig.standin.control().counters();
    assert_eq!((counters.logins, counters.refreshes), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_requests_at_once_with_a_dead_token_of_emby_or_jellyfin_cause_one_login() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().kill_all_tokens();
        assert_eq!(at_once(&rig, 300, protected(kind)).await, vec![200; 300], "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_although_the_upstream_had_killed_the_token() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().kill_all_tokens();
        let path = if kind == Kind::Emby { "/embywebsocket" } else { "/socket" };
        let head = format!(
            "GET {path}?api_key={} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            rig.secret()
        );
        assert_eq!(client::status_of(&client::raw(rig.address, head.as_bytes()).await), 101, "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_at_four_fifths_of_its_life_while_a_stream_runs_on() {
    let (rig, clock) = timed().await;
    assert_eq!(rig.get("/api/me").await.status, 200);
    let stream = {
        let (address, bearer) = (rig.address, format!("Bearer {}", rig.secret()));
        let path = "/keygate-test/slow?pause=100";
        tokio::spawn(async move { client::get(address, path, &[("authorization", &bearer)]).await })
    };
    let control = rig.standin.control();
    support::until("the stream begins", || control.journal().iter().any(|seen| seen.path() == "/keygate-test/slow")).await;
    clock.advance(Duration::from_secs(3600 / 5 * 4));
    assert_eq!(rig.get("/api/me").await.status, 200);
    support::until("the renewal", || control.counters().refreshes == 1).await;
    clock.advance(Duration::from_secs(3600 / 5 * 2));
    assert_eq!(rig.get("/api/me").await.status, 200, "with the new session, past the end of the old one");
    let stream = stream.await.expect("no panic");
    assert_eq!((stream.status.as_u16(), stream.text().lines().count()), (200, 8));
    let counters = control.counters();
    assert_eq!((counters.logins, counters.refreshes, counters.unauthorized), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_upstream_killed_costs_one_login_and_the_client_sees_nothing_of_it() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().kill_all_tokens();
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_post_is_sent_again_with_the_same_body_after_the_session_was_renewed() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().kill_all_tokens();
        let body = Bytes::from(vec![b'x'; 5000]);
        let headers = [("x-emby-token", rig.secret()), ("content-type", "text/plain")];
        let answer = client::send(rig.address, Method::POST, "/keygate-test/upload", &headers, body).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        let uploads = rig.standin.control().uploads();
        assert_eq!((uploads.len(), uploads[0].bytes), (1, 5000), "{kind}");
        assert_eq!(answer.json()["sha256"], uploads[0].sha256.as_str(), "{kind}");
        let posts = rig.standin.control().journal().into_iter().filter(|seen| seen.path() == "/keygate-test/upload").count();
        assert_eq!(posts, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_post_is_never_sent_twice_but_answered_503_and_the_next_one_passes() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let path = if kind == Kind::Audiobookshelf { UPLOAD } else { "/keygate-test/upload" };
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().kill_all_tokens();
        let headers = [("x-emby-token", rig.secret()), ("content-type", "text/plain")];
        let body = Bytes::from(vec![b'x'; 65 << 10]);
        let answer = client::send(rig.address, Method::POST, path, &headers, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")), "{kind}: {}", answer.text());
        let posts = || rig.standin.control().journal().into_iter().filter(|seen| seen.path() == path).count();
        assert_eq!(posts(), 1, "{kind}");
        let answer = client::send(rig.address, Method::POST, path, &headers, body).await;
        // Audiobookshelf has no such route.
        assert_eq!(answer.status, if kind == Kind::Audiobookshelf { 404 } else { 200 }, "{kind}");
        assert_eq!(posts(), 2, "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_got_lost_with_the_gateway_is_made_up_for_in_the_grace_window() {
    let (mut rig, clock) = timed().await;
    assert_eq!(rig.get("/api/me").await.status, 200);
    clock.advance(Duration::from_secs(3601));
    rig.standin.control().faults(|faults| faults.delay_refresh = Duration::from_secs(3600));
    let lost = {
        let (address, bearer) = (rig.address, format!("Bearer {}", rig.secret()));
        tokio::spawn(async move {
            let stream = support::net::TcpStream::connect(address).await.expect("connected");
            use tokio::io::AsyncWriteExt;
            let mut stream = stream;
            let head = format!("GET /api/me HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
            stream
        })
    };
    let control = rig.standin.control().clone();
    support::until("the rotation", || control.counters().refreshes == 1).await;
    let _open = lost.await.expect("no panic");
    control.faults(|faults| faults.delay_refresh = Duration::ZERO);
    restart(&mut rig);
    assert_eq!(rig.get("/api/me").await.status, 200);
    let counters = control.counters();
    assert_eq!((counters.logins, counters.refreshes, counters.refused_refreshes), (1, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_grace_window_one_login_makes_up_for_a_lost_refresh() {
    let clock = support::manual_clock();
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, refresh_life: Duration::from_secs(7200), ..Options::default() };
    let rig = Setup::new(Kind::Audiobookshelf).standin(options).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
    assert_eq!(rig.get("/api/me").await.status, 200);
    clock.advance(Duration::from_secs(7201));
    assert_eq!(at_once(&rig, 50, "/api/me").await, vec![200; 50]);
    let counters = rig.standin.control().counters();
    assert_eq!((counters.logins, counters.refreshes, counters.refused_refreshes), (2, 0, 1));
}
