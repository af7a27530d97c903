//! Everything that runs, and every way in which a key dies.

use std::time::Duration;

use keygate::registry::{RegistryError, Removal};
use keygate::store::memory::Fault;

use super::*;
use crate::support::until;

/// How a key dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Revoked,
    RevokedWithABrokenStore,
    Disabled,
    DisabledWithABrokenStore,
    Rotated,
    RotatedWithOverlap,
    Expired,
    ExpiryBroughtForward,
    Moved,
    AccountRemoved,
}

const DEATHS: [Death; 10] = [
    Death::Revoked,
    Death::RevokedWithABrokenStore,
    Death::Disabled,
    Death::DisabledWithABrokenStore,
    Death::Rotated,
    Death::RotatedWithOverlap,
    Death::Expired,
    Death::ExpiryBroughtForward,
    Death::Moved,
    Death::AccountRemoved,
];

impl Death {
    fn strike(self, scene: &Scene, key: &ApiKey) {
        let (registry, id) = (&scene.rig.keep().registry, key.id());
        let disable = KeyPatch { is_active: Some(false), ..KeyPatch::default() };
        match self {
            Self::Revoked => drop(registry.revoke_key(id).expect("revoked")),
            Self::RevokedWithABrokenStore => {
                scene.rig.store.fail_commit(1, Fault::Before);
                assert!(matches!(registry.revoke_key(id), Err(RegistryError::NotDurable(_))));
            }
            Self::Disabled => drop(registry.edit_key(id, disable).expect("disabled")),
            Self::DisabledWithABrokenStore => {
                scene.rig.store.fail_commit(1, Fault::Before);
                assert!(matches!(registry.edit_key(id, disable), Err(RegistryError::NotDurable(_))));
            }
            Self::Rotated => drop(registry.rotate_key(id, Duration::ZERO).expect("rotated")),
            Self::RotatedWithOverlap => {
                registry.rotate_key(id, Duration::from_secs(60)).expect("rotated");
                scene.clock.advance(Duration::from_secs(60));
            }
            Self::Expired => scene.clock.advance(Duration::from_secs(3600)),
            Self::ExpiryBroughtForward => {
                let patch = KeyPatch { expires_at: Some(Some(scene.now())), ..KeyPatch::default() };
                registry.edit_key(id, patch).expect("edited");
            }
            Self::Moved => {
                let patch = KeyPatch { account: Some(scene.other_account.id), ..KeyPatch::default() };
                registry.edit_key(id, patch).expect("moved");
            }
            Self::AccountRemoved => {
                let removed = registry.remove_account(scene.rig.account.id, Removal { revoke_keys: true, force: false });
                removed.expect("removed");
            }
        }
    }
}

/// The stand-in's pattern.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n % 65_521) * 31 / 7) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_kills_a_key_ends_all_that_runs_on_it_and_nothing_else() {
    for death in DEATHS {
        let scene = Scene::new(Kind::Audiobookshelf).await;
        let key = scene.key();
        // Of the same account where that stays, and without an expiry.
        let other_account = if death == Death::AccountRemoved { &scene.other_account } else { &scene.rig.account };
        let other = make_key(scene.rig.keep(), "other", other_account);
        let length = 30_000_000;
        let mut others = scene.answered(&other, &format!("/keygate-test/bytes/{length}")).await;

        let mut silent = scene.answered(&key, SILENT).await;
        let mut unread = scene.answered(&key, LARGE).await;
        let mut waiting = scene.ask(&key, "GET", NEVER, "").await;
        let mut upload = scene.ask(&key, "POST", "/keygate-test/upload", "Content-Length: 100000\r\n").await;
        upload.write("half").await;
        let mut http2 = scene.trust.http2(scene.rig.address).await;
        let silent_stream = started(&mut http2, get(&key, SILENT)).await;
        let unread_stream = started(&mut http2, get(&key, LARGE)).await;
        let others_stream = started(&mut http2, get(&other, &format!("/keygate-test/bytes/{length}"))).await;
        let waiting_stream = tokio::spawn(http2.send_request(get(&key, NEVER)));
        until("all are under way", || scene.arrived(NEVER) == 2 && scene.arrived("/keygate-test/upload") == 1).await;

        death.strike(&scene, &key);

        let control = scene.rig.standin.control();
        until("the upstream is rid of them", || {
            let counters = control.counters();
            // Two answers each over HTTP/1 and HTTP/2.
            counters.aborted_answers == 4 && counters.aborted_uploads == 1
        })
        .await;
        assert!(is_cut(&silent.rest().await), "{death:?}");
        assert!(unread.rest().await.len() < 100_000_000, "{death:?}");
        let invalid = invalid_key(&scene).await;
        assert_eq!(refusal(&mut waiting).await, invalid, "{death:?}");
        assert!(upload.head().await.starts_with("HTTP/1.1 401"), "{death:?}");
        upload.rest().await;
        assert!(breaks_off(silent_stream).await && breaks_off(unread_stream).await, "{death:?}");
        let refused = waiting_stream.await.expect("no panic").expect("an answer");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{death:?}");

        assert_eq!(others.take(length).await, pattern(length), "{death:?}");
        let whole = others_stream.collect().await.expect("the other key's stream goes on").to_bytes();
        assert_eq!(whole, pattern(length), "{death:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_renamed_or_lives_longer_keeps_what_runs_on_it() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let (key, other) = (scene.key(), scene.key());
    let mut kept = scene.answered(&key, SILENT).await;
    let mut cut = scene.answered(&other, SILENT).await;
    kept.take(13).await;
    let patch = KeyPatch { name: Some("longer".to_owned()), expires_at: Some(None), ..KeyPatch::default() };
    scene.rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    let rotated = scene.rig.keep().registry.rotate_key(key.id(), Duration::from_secs(7200)).expect("rotated");
    scene.clock.advance(Duration::from_secs(3600));
    cut.rest().await;
    assert!(kept.nothing_comes().await, "it goes on");
    drop(rotated);
}
