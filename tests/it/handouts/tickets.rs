//! Tickets: for media only, as long as their key lives and they are used.

use super::*;

/// A target with a ticket in its query.
fn with(ticket: &Ticket, path: &str) -> String {
    format!("{path}?api_key={}", ticket.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_reads_media_and_pictures_and_nothing_else() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let id = track(&rig, 0).await;
        let ticket = ticket_of(&rig, &rig.key);
        let refused = client::get(rig.address, "/Items", &[]).await;
        for path in [
            format!("/Audio/{id}/stream"),
            format!("/Audio/{id}/main.m3u8"),
            format!("/Items/{id}/Images/Primary"),
            format!("/Items/{id}/Download"),
        ] {
            assert_eq!(bare(&rig, &with(&ticket, &path)).await, 200, "{path}");
            let head = client::send(rig.address, Method::HEAD, &with(&ticket, &path), &[], "").await;
            assert_eq!(head.status, 200, "HEAD {path}");
        }
        let bearer = format!("Bearer {}", ticket.expose());
        assert_eq!(client::get(rig.address, &format!("/Audio/{id}/stream"), &[("authorization", &bearer)]).await.status, 200);
        for path in ["/Items", "/Users/Me", "/System/Info", "/Devices", "/System/Info/Public", "/Users/Public"] {
            let answer = client::get(rig.address, &with(&ticket, path), &[]).await;
            assert_eq!((answer.status, &answer.body), (refused.status, &refused.body), "{path}");
        }
        for (method, path) in [
            (Method::POST, format!("/Items/{id}/PlaybackInfo")),
            (Method::POST, format!("/Audio/{id}/stream")),
            (Method::DELETE, format!("/Items/{id}/Images/Primary")),
            (Method::POST, "/Sessions/Logout".to_owned()),
        ] {
            assert_eq!(client::send(rig.address, method, &with(&ticket, &path), &[], "").await.status, 401, "{path}");
        }
        let upgrade = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "AQIDBAUGBwgJCgsMDQ4PEA=="),
        ];
        // Emby opens a socket on any path, so that media routes are no better than others.
        for path in ["/socket", "/embywebsocket", "/", &format!("/Audio/{id}/stream")] {
            assert_eq!(client::get(rig.address, &with(&ticket, path), &upgrade).await.status, 401, "{path}");
        }
        let seen = format!("{:?}", rig.standin.control().journal());
        assert!(!seen.contains("kgt_"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_never_reaches_an_upstream_from_wherever_it_stands() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let ticket = ticket_of(&rig, &rig.key);
    let referer = format!("https://media.example.org/web/?api_key={}", ticket.expose());
    let key = format!("Bearer {}", rig.secret());
    for header in ["referer", "x-anything"] {
        assert_eq!(client::get(rig.address, "/Items", &[("authorization", &key), (header, &referer)]).await.status, 200);
    }
    for target in [format!("/Items?q={}", ticket.expose()), format!("/Items/{}", ticket.expose())] {
        assert_eq!(client::get(rig.address, &target, &[("authorization", &key)]).await.status, 400, "{target}");
    }
    let seen = format!("{:?}", rig.standin.control().journal());
    assert!(seen.contains("/Items") && !seen.contains("kgt_"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_was_given_looks_like_any_bad_key() {
    let rig = Rig::new(Kind::Emby).await;
    let id = track(&rig, 0).await;
    let none = client::get(rig.address, &format!("/Audio/{id}/stream"), &[]).await;
    let unknown = Ticket::generate().expect("random bytes");
    for text in [unknown.expose(), &unknown.expose()[..31], "kgt_"] {
        let answer = client::get(rig.address, &format!("/Audio/{id}/stream?api_key={text}"), &[]).await;
        assert_eq!((answer.status, answer.body), (none.status, none.body.clone()), "{text}");
    }
    // Where a picture needs no key, a dead ticket is a dead ticket still.
    let rig = Rig::new(Kind::Jellyfin).await;
    assert_eq!(bare(&rig, "/Items/1/Images/Primary").await, 200);
    assert_eq!(bare(&rig, &with(&unknown, "/Items/1/Images/Primary")).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_dies_with_its_key_and_with_no_other() {
    let (rig, clock) = timed(Kind::Jellyfin).await;
    let stream = format!("/Audio/{}/stream", track(&rig, 0).await);
    let other = rig.another_key("other");
    let (mine, theirs) = (ticket_of(&rig, &rig.key), ticket_of(&rig, &other));
    switch(&rig, &rig.key, false);
    assert_eq!((bare(&rig, &with(&mine, &stream)).await, bare(&rig, &with(&theirs, &stream)).await), (401, 200));
    switch(&rig, &rig.key, true);
    assert_eq!(bare(&rig, &with(&mine, &stream)).await, 401, "what died stays dead");
    let mine = ticket_of(&rig, &rig.key);
    assert_eq!(bare(&rig, &with(&mine, &stream)).await, 200);

    let expires = KeyPatch { expires_at: Some(Some(clock.now().plus(Duration::from_secs(60)))), ..KeyPatch::default() };
    rig.keep().registry.edit_key(other.id(), expires).expect("edited");
    clock.advance(Duration::from_secs(60));
    assert_eq!((bare(&rig, &with(&mine, &stream)).await, bare(&rig, &with(&theirs, &stream)).await), (200, 401));

    rig.keep().registry.rotate_key(rig.key.id(), Duration::from_secs(600)).expect("rotated");
    assert_eq!(bare(&rig, &with(&mine, &stream)).await, 200, "within the overlap");
    clock.advance(Duration::from_secs(600));
    assert_eq!(bare(&rig, &with(&mine, &stream)).await, 401, "of the old secret");

    let third = rig.another_key("third");
    let ticket = ticket_of(&rig, &third);
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 200);
    rig.keep().registry.revoke_key(third.id()).expect("revoked");
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_was_paused_goes_on_after_hours_and_after_a_restart() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (mut rig, clock) = timed(Kind::Jellyfin).await;
    let stream = format!("/Audio/{}/stream", track(&rig, 0).await);
    let ticket = ticket_of(&rig, &rig.key);
    let stored = Arc::clone(&rig.store);
    support::until("the ticket is in the store", || stored.handouts().expect("read").len() == 1).await;
    clock.advance(7 * HOUR);
    restart(&mut rig).await;
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 200, "after seven hours and a restart");
    clock.advance(7 * HOUR);
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 200, "seven hours after that");
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 401);
    support::until("it leaves the store", || stored.handouts().expect("read").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_used_for_long_is_dead() {
    let (rig, clock) = timed(Kind::Jellyfin).await;
    let stream = format!("/Audio/{}/stream", track(&rig, 0).await);
    let ticket = ticket_of(&rig, &rig.key);
    clock.advance(keygate::handouts::GOOD_FOR);
    assert_eq!(bare(&rig, &with(&ticket, &stream)).await, 401);
}
