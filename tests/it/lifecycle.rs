//! Keys over their lives: what an operator changes holds for the very next request.

use std::sync::Arc;
use std::time::Duration;

use keygate::clock::Clock;
use keygate::keys::{ApiKey, Scopes};
use keygate::registry::{KeyPatch, NewKey, Removal};
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};

use crate::support::{self, Rig, Setup, http as client};

async fn ask(rig: &Rig, key: &ApiKey) -> u16 {
    client::get(rig.address, "/api/me", &[("x-emby-token", key.expose())]).await.status.as_u16()
}

async fn timed() -> (Rig, Arc<keygate::clock::ManualClock>) {
    let clock = support::manual_clock();
    let rig = Setup::new(Kind::Audiobookshelf).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
    (rig, clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_until_the_very_moment_of_its_expiry() {
    let (rig, clock) = timed().await;
    let new = NewKey {
        name: "short".to_owned(),
        account: rig.account.id,
        expires_at: Some(clock.now().plus(Duration::from_secs(60))),
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    let key = rig.keep().registry.create_key(new).expect("a key").key;
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(ask(&rig, &key).await, 200);
    clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&rig, &key).await, 401);
    let later = KeyPatch { expires_at: Some(None), ..KeyPatch::default() };
    rig.keep().registry.edit_key(key.id(), later).expect("edited");
    assert_eq!(ask(&rig, &key).await, 200, "an expiry can be taken away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_keys_old_secret_dies_when_the_overlap_ends_and_at_once_without_one() {
    let (rig, clock) = timed().await;
    let second = rig.keep().registry.rotate_key(rig.key.id(), Duration::from_secs(3600)).expect("rotated").key;
    assert_eq!((ask(&rig, &rig.key).await, ask(&rig, &second).await), (200, 200));
    clock.advance(Duration::from_secs(3600));
    assert_eq!((ask(&rig, &rig.key).await, ask(&rig, &second).await), (401, 200));
    let third = rig.keep().registry.rotate_key(rig.key.id(), Duration::ZERO).expect("rotated").key;
    assert_eq!((ask(&rig, &second).await, ask(&rig, &third).await), (401, 200));
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    assert_eq!(ask(&rig, &third).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_of_a_rotated_key_end_with_it() {
    let (rig, _clock) = timed().await;
    let second = rig.keep().registry.rotate_key(rig.key.id(), Duration::from_secs(3600)).expect("rotated").key;
    let off = KeyPatch { is_active: Some(false), ..KeyPatch::default() };
    rig.keep().registry.edit_key(rig.key.id(), off).expect("disabled");
    assert_eq!((ask(&rig, &rig.key).await, ask(&rig, &second).await), (401, 401));
    let on = KeyPatch { is_active: Some(true), ..KeyPatch::default() };
    rig.keep().registry.edit_key(rig.key.id(), on).expect("enabled");
    assert_eq!((ask(&rig, &rig.key).await, ask(&rig, &second).await), (200, 200));
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    assert_eq!((ask(&rig, &rig.key).await, ask(&rig, &second).await), (401, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_to_another_account_acts_for_its_user_from_the_next_request_on() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let path = if kind == Kind::Audiobookshelf { "/api/users" } else { "/Devices" };
        let admin = KeyPatch { scopes: Some(Scopes::ALL), ..KeyPatch::default() };
        rig.keep().registry.edit_key(rig.key.id(), admin).expect("let through by keygate, which leaves it to the server");
        assert_eq!(rig.get(path).await.status, 403, "{kind}: alice is no administrator");
        let credential = Credential::Password(Secret::from("root-password"));
        let name = rig.config.upstreams[0].name.clone();
        let root = rig.keep().registry.add_account(name, "root".to_owned(), credential).expect("an account");
        let to_root = KeyPatch { account: Some(root.id), ..KeyPatch::default() };
        rig.keep().registry.edit_key(rig.key.id(), to_root).expect("moved");
        assert_eq!(rig.get(path).await.status, 200, "{kind}");
        let back = KeyPatch { account: Some(rig.account.id), ..KeyPatch::default() };
        rig.keep().registry.edit_key(rig.key.id(), back).expect("moved back");
        assert_eq!(rig.get(path).await.status, 403, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_goes_with_its_keys_and_its_sessions() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Info" };
        assert_eq!(rig.get(path).await.status, 200, "{kind}");
        assert!(rig.keep().registry.remove_account(rig.account.id, Removal::default()).is_err(), "{kind}: keys act for it");
        assert_eq!(rig.get(path).await.status, 200, "{kind}");
        assert_eq!(
            rig.keep().registry.remove_account(rig.account.id, Removal { revoke_keys: true, force: false }).expect("removed"),
            1,
            "{kind}"
        );
        assert_eq!(rig.get(path).await.status, 401, "{kind}");
        support::until("the logout", || rig.standin.control().counters().logouts == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_one_request_that_begins_after_a_revocation_passes() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    assert_eq!(rig.get("/api/me").await.status, 200);
    let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (address, key, revoked) = (rig.address, rig.secret().to_owned(), Arc::clone(&revoked));
            tokio::spawn(async move {
                let mut after = 0;
                while after < 20 {
                    let is_after = revoked.load(std::sync::atomic::Ordering::SeqCst);
                    // A request that ran when the key died may end without a whole answer. Many refusals are throttled at last.
                    let answer = client::try_send(address, http::Method::GET, "/api/me", &[("x-emby-token", &key)], "").await;
                    let status = answer.map_or(0, |answer| answer.status.as_u16());
                    assert!(!is_after || [401, 429].contains(&status), "{status}");
                    after += u32::from(is_after);
                }
            })
        })
        .collect();
    let before = rig.standin.control().counters().requests;
    support::until("load", || rig.standin.control().counters().requests > before + 50).await;
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    revoked.store(true, std::sync::atomic::Ordering::SeqCst);
    for one in asking {
        one.await.expect("no request passed");
    }
}
