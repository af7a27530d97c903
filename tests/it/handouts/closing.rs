//! The play sessions of a dead key are closed at the server, those of other keys stay.

use keygate::registry::Removal;

use super::*;

/// Waits until exactly these play sessions are open at the server.
async fn until_open(rig: &Rig, ids: &[&str]) {
    let mut wanted: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
    wanted.sort();
    support::until("the play sessions of the dead key are closed", || {
        let mut open = rig.standin.control().open_playbacks();
        open.sort();
        open == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_kills_a_key_closes_its_play_sessions_and_no_others() {
    let (rig, clock) = timed(Kind::Audiobookshelf).await;
    let theirs = play(&rig, &rig.another_key("other"), TRANSCODE).await;
    let kills: [&dyn Fn(&ApiKey); 4] = [
        &|key| drop(rig.keep().registry.revoke_key(key.id()).expect("revoked")),
        &|key| switch(&rig, key, false),
        &|key| drop(rig.keep().registry.rotate_key(key.id(), Duration::ZERO).expect("rotated")),
        &|key| {
            let patch = KeyPatch { expires_at: Some(Some(clock.now().plus(Duration::from_secs(5)))), ..KeyPatch::default() };
            rig.keep().registry.edit_key(key.id(), patch).expect("edited");
            clock.advance(Duration::from_secs(5));
        },
    ];
    for kill in kills {
        let key = rig.another_key("mine");
        let (one, two) = (play(&rig, &key, TRANSCODE).await, play(&rig, &key, "{}").await);
        assert_eq!(bare(&rig, &format!("/hls/{one}/output.m3u8")).await, 200);
        kill(&key);
        assert_eq!(bare(&rig, &format!("/hls/{one}/output.m3u8")).await, 401);
        assert_eq!(bare(&rig, &format!("/public/session/{two}/track/1")).await, 401);
        until_open(&rig, &[&theirs]).await;
        assert_eq!(bare(&rig, &format!("/hls/{theirs}/output.m3u8")).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_rotations_overlap_closes_what_the_old_secret_opened() {
    let (rig, clock) = timed(Kind::Audiobookshelf).await;
    let old = play(&rig, &rig.key, TRANSCODE).await;
    let second = rig.keep().registry.rotate_key(rig.key.id(), Duration::from_secs(60)).expect("rotated").key;
    let new = play(&rig, &second, TRANSCODE).await;
    assert_eq!(bare(&rig, &format!("/hls/{old}/output.m3u8")).await, 200);
    clock.advance(Duration::from_secs(60));
    until_open(&rig, &[&new]).await;
    assert_eq!((bare(&rig, &format!("/hls/{old}/output.m3u8")).await, bare(&rig, &format!("/hls/{new}/output.m3u8")).await), (401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_goes_with_its_keys_leaves_no_play_session() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    play(&rig, &rig.key, TRANSCODE).await;
    rig.keep().registry.remove_account(rig.account.id, Removal { revoke_keys: true, force: false }).expect("removed");
    until_open(&rig, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_is_renewed_for_closing() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    play(&rig, &rig.key, TRANSCODE).await;
    rig.standin.control().kill_access_tokens();
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    until_open(&rig, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_while_keygate_was_off_is_closed_at_its_start() {
    let (mut rig, clock) = timed(Kind::Audiobookshelf).await;
    let patch = KeyPatch { expires_at: Some(Some(clock.now().plus(Duration::from_secs(600)))), ..KeyPatch::default() };
    rig.keep().registry.edit_key(rig.key.id(), patch).expect("edited");
    play(&rig, &rig.key, TRANSCODE).await;
    let store = Arc::clone(&rig.store);
    support::until("it is in the store", || store.handouts().expect("read").len() == 1).await;
    let app = rig.app.take().expect("running");
    tokio::task::spawn_blocking(move || app.server.shut_down(Duration::ZERO)).await.expect("stopped");
    clock.advance(Duration::from_secs(600));
    assert_eq!(rig.standin.control().open_playbacks().len(), 1);
    let keep = support::keep(&rig.config, Arc::clone(&rig.store) as Arc<dyn Store>, &rig.clock);
    let app = App::start(&rig.config, Settings::new(&rig.config, None), keep, None).expect("started");
    rig.run(app);
    until_open(&rig, &[]).await;
    support::until("it leaves the store", || store.handouts().expect("read").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_play_session_gives_the_id_back() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let id = play(&rig, &rig.key, TRANSCODE).await;
    let close = async |id: &str| {
        let headers = [("x-emby-token", rig.secret()), ("content-type", "application/json")];
        client::send(rig.address, Method::POST, &format!("/api/session/{id}/close"), &headers, "{}").await.status.as_u16()
    };
    assert_eq!(close("0bcd8d8f-66fb-498c-a797-4fd5538cc58c").await, 404);
    assert_eq!(bare(&rig, &format!("/hls/{id}/output.m3u8")).await, 200);
    assert_eq!(close(&id).await, 200);
    assert_eq!(bare(&rig, &format!("/hls/{id}/output.m3u8")).await, 401);
    let store = Arc::clone(&rig.store);
    support::until("it leaves the store", || store.handouts().expect("read").is_empty()).await;
}
