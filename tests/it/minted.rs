//! Accounts whose sessions the media server's administrator makes: no password of theirs is known anywhere.

mod commands;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use keygate::app::App;
use keygate::demo::Control;
use keygate::gateway::routing::Settings;
use keygate::keys::ApiKey;
use keygate::registry::Removal;
use keygate::secret::Secret;
use keygate::store::Store;
use keygate::store::records::AccountRecord;
use keygate::upstream::session::{AccountState, SessionError};
use keygate::upstream::{Credential, Kind};

use crate::support::{self, Rig, Setup, http as client, make_key};

/// The kinds of which sessions can be minted.
const KINDS: [Kind; 2] = [Kind::Audiobookshelf, Kind::Jellyfin];

/// A gateway whose upstream has an administrator, and a minted account of the user alice with a key.
struct House {
    rig: Rig,
    minted: AccountRecord,
    key: ApiKey,
}

/// A path that answers with the user.
const fn me(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/me",
        Kind::Emby | Kind::Jellyfin => "/Users/Me",
    }
}

impl House {
    async fn new(kind: Kind) -> Self {
        Self::of(Setup::new(kind), Credential::Password(Secret::from("root-password"))).await
    }

    async fn of(setup: Setup, administrator: Credential) -> Self {
        let rig = setup.start().await;
        let registry = &rig.keep().registry;
        let upstream = rig.config.upstreams[0].name.clone();
        let root = registry.add_account(upstream.clone(), "root".to_owned(), administrator).expect("an account");
        registry.set_administrator(root.id, true, false).expect("the administrator");
        let users = rig.keep().sessions.available(&upstream).await.expect("users");
        let alice = users.iter().find(|user| user.name == "alice").expect("alice");
        let credential = Credential::Minted { user_id: alice.id.clone() };
        let minted = registry.add_account(upstream, "alice minted".to_owned(), credential).expect("an account");
        let key = make_key(rig.keep(), "minted key", &minted);
        Self { rig, minted, key }
    }

    fn control(&self) -> &Control {
        self.rig.standin.control()
    }

    async fn get(&self, path: &str) -> client::Answer {
        client::get(self.rig.address, path, &[("authorization", &format!("Bearer {}", self.key.expose()))]).await
    }

    async fn status(&self) -> u16 {
        self.get(me(self.rig.standin.kind)).await.status.as_u16()
    }

    fn state(&self) -> AccountState {
        self.rig.keep().sessions.state(self.minted.id)
    }

    fn remove(&self) {
        let removal = Removal { revoke_keys: true, force: false };
        self.rig.keep().registry.remove_account(self.minted.id, removal).expect("removed");
    }

    /// Kills what was minted for alice, as an administrator does by hand.
    fn kill_minted(&self) {
        self.control().delete_api_keys();
        if self.rig.standin.kind == Kind::Jellyfin {
            let minted = self.rig.store.sessions().expect("sessions").into_iter().filter(|session| session.id.account == self.minted.id);
            minted.for_each(|session| self.control().kill_token(session.token.expose()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_account_acts_for_its_user_and_nobody_asked_for_its_password() {
    for kind in KINDS {
        let house = House::new(kind).await;
        for _ in 0..3 {
            let answer = house.get(me(kind)).await;
            assert_eq!(answer.status, 200, "{kind}");
            let name = if kind == Kind::Audiobookshelf { "username" } else { "Name" };
            assert_eq!(answer.json()[name], "alice", "{kind}");
        }
        let counters = house.control().counters();
        assert_eq!((counters.minted, counters.logins, counters.refused_logins), (1, 1, 0), "{kind}: root logged in, alice did not");
        if kind == Kind::Audiobookshelf {
            let [(name, user)] = house.control().made_api_keys().try_into().expect("one");
            assert!(name.starts_with("keygate alice minted ") && user == "alice", "{name} of {user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_after_the_session_was_killed_upstream_cause_one_minting() {
    for kind in KINDS {
        let house = House::new(kind).await;
        assert_eq!(house.status().await, 200, "{kind}");
        house.kill_minted();
        let requests = (0..100).map(|_| {
            let (address, bearer) = (house.rig.address, format!("Bearer {}", house.key.expose()));
            tokio::spawn(async move { client::get(address, me(kind), &[("authorization", &bearer)]).await.status.as_u16() })
        });
        for request in requests.collect::<Vec<_>>() {
            assert_eq!(request.await.expect("no panic"), 200, "{kind}");
        }
        assert_eq!(house.control().counters().minted, 2, "{kind}");
        assert_eq!(house.control().made_api_keys().len(), usize::from(kind == Kind::Audiobookshelf), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_minted_is_used_again_after_a_restart() {
    for kind in KINDS {
        let mut house = House::new(kind).await;
        assert_eq!(house.status().await, 200, "{kind}");
        let app = house.rig.app.take().expect("running");
        std::thread::spawn(move || app.server.shut_down(Duration::ZERO)).join().expect("the server stops");
        let keep = support::keep(&house.rig.config, Arc::clone(&house.rig.store) as Arc<dyn Store>, &house.rig.clock);
        let app = App::start(&house.rig.config, Settings::new(&house.rig.config, None), keep, None).expect("it starts again");
        house.rig.run(app);
        assert_eq!(house.status().await, 200, "{kind}");
        assert_eq!(house.control().counters().minted, 1, "{kind}");
        // And it is still known what to delete.
        house.remove();
        let control = house.control();
        support::until("it is gone upstream", || control.made_api_keys().is_empty() && control.counters().logouts == logouts(kind)).await;
    }
}

/// How many logouts the end of a minted account takes.
fn logouts(kind: Kind) -> u64 {
    u64::from(kind == Kind::Jellyfin)
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_the_account_removes_what_was_minted_and_nothing_else() {
    for kind in KINDS {
        let house = House::new(kind).await;
        assert_eq!(house.status().await, 200, "{kind}");
        assert_eq!(house.rig.get(me(kind)).await.status, 200, "{kind}: alice's own account");
        let before = house.control().live_tokens().len();
        house.remove();
        let control = house.control();
        support::until("it is gone upstream", || control.live_tokens().len() == before - 1).await;
        assert!(control.made_api_keys().is_empty() && control.counters().logouts == logouts(kind), "{kind}");
        assert_eq!(house.status().await, 401, "{kind}");
        assert_eq!(house.rig.get(me(kind)).await.status, 200, "{kind}: alice's own account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_credential_in_its_place_removes_what_was_minted_too() {
    for kind in KINDS {
        let house = House::new(kind).await;
        assert_eq!(house.status().await, 200, "{kind}");
        let password = Credential::Password(Secret::from(support::ALICE_PASSWORD));
        house.rig.keep().registry.set_credential(house.minted.id, password).expect("changed");
        let control = house.control();
        support::until("it is gone upstream", || control.made_api_keys().is_empty() && control.counters().logouts == logouts(kind)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_deleted_as_soon_as_the_server_is_back() {
    let house = House::new(Kind::Audiobookshelf).await;
    assert_eq!(house.status().await, 200);
    house.control().faults(|faults| faults.status = Some((503, None)));
    house.control().clear_journal();
    house.remove();
    let control = house.control();
    support::until("it was tried", || control.journal().iter().any(|seen| seen.method == http::Method::DELETE)).await;
    assert_eq!(control.made_api_keys().len(), 1);
    control.faults(|faults| faults.status = None);
    support::until("it was tried again", || control.made_api_keys().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_hand_mints_anew_and_leaves_no_older_key_behind() {
    let house = House::new(Kind::Audiobookshelf).await;
    for count in 1..=3 {
        let learnt = house.rig.keep().sessions.login_now(house.minted.id).await.expect("minted");
        assert_eq!(learnt.user_name.as_deref(), Some("alice"));
        assert_eq!((house.control().counters().minted, house.control().made_api_keys().len()), (count, 1));
    }
    assert_eq!(house.status().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_a_minted_account_has_a_jellyfin_session_of_its_own() {
    let house = House::new(Kind::Jellyfin).await;
    let other = make_key(house.rig.keep(), "tv", &house.minted);
    assert_eq!(house.status().await, 200);
    let answer = client::get(house.rig.address, "/Users/Me", &[("x-emby-token", other.expose())]).await;
    assert_eq!((answer.status.as_u16(), house.control().counters().minted), (200, 2));
    let before = house.control().live_tokens().len();
    house.rig.keep().registry.revoke_key(other.id()).expect("revoked");
    let control = house.control();
    support::until("its session ended", || control.live_tokens().len() == before - 1).await;
    assert_eq!((house.status().await, control.counters().minted), (200, 2));
}
