//! Shares and feeds: a switch, and one cookie.

use http::header::SET_COOKIE;
use keygate::config::Access;

use super::*;

const TARGETS: [&str; 3] = ["/public/share/sines", "/audiobookshelf/Public/Share/sines/track/1", "/feed/sines"];

#[tokio::test(flavor = "multi_thread")]
async fn shares_and_feeds_are_closed_until_they_are_switched_on() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    for target in TARGETS {
        assert_eq!(client::get(rig.address, target, &[("cookie", "share_session_id=abc")]).await.status, 401, "{target}");
    }
    assert_eq!(client::send(rig.address, Method::PATCH, "/public/share/sines/progress", &[], "{}").await.status, 401);
    assert_eq!(rig.get("/feed/sines").await.status, 200, "with a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_knows_its_visitor_by_its_cookie_and_no_other_passes() {
    let setup = Setup::new(Kind::Audiobookshelf).with(|config| config.upstreams[0].shares = Access::Pass);
    let rig = setup.start().await;
    let first = client::get(rig.address, "/public/share/sines", &[]).await;
    let cookies: Vec<_> = first.headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().expect("text")).collect();
    assert_eq!((first.status.as_u16(), cookies.len()), (200, 1), "{cookies:?}");
    let cookie = cookies[0].split(';').next().expect("a pair");
    assert!(cookie.starts_with("share_session_id="), "{cookie}");
    assert_eq!(bare(&rig, "/public/share/sines/track/1").await, 404);
    rig.standin.control().clear_journal();
    let all = format!("connect.sid=x; {cookie}; refresh_token=y");
    let track = client::get(rig.address, "/public/share/sines/track/1", &[("cookie", &all), ("range", "bytes=0-9")]).await;
    assert_eq!((track.status.as_u16(), track.body.len()), (206, 10));
    let progress = client::send(rig.address, Method::PATCH, "/public/share/sines/progress", &[("cookie", cookie)], "{}").await;
    assert_eq!(progress.status, 204);
    assert_eq!(client::get(rig.address, "/feed/sines", &[("cookie", &all)]).await.status, 200);
    let seen = rig.standin.control().journal();
    let sent: Vec<_> = seen.iter().map(|seen| seen.headers.get("cookie").map(|value| value.to_str().expect("text"))).collect();
    assert_eq!(sent, [Some(cookie), Some(cookie), None]);
    for (method, target) in
        [(Method::PUT, "/public/share/sines/progress"), (Method::PATCH, "/public/share/sines"), (Method::POST, "/feed/sines")]
    {
        assert_eq!(client::send(rig.address, method, target, &[("cookie", cookie)], "").await.status, 401, "{target}");
    }
}
