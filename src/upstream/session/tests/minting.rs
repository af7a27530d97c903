//! Minting when the store fails or the account goes meanwhile: no API key is made twice, and none is left behind.

use std::time::Duration;

use super::fake_upstream::Mode;
use super::fakes::{ACCOUNT, Fixture, runtime};
use super::{AccountState, SessionError, id};

#[test]
fn a_minted_key_that_could_not_be_stored_is_used_later_and_not_made_again() {
    runtime(async {
        let fixture = Fixture::minted().await;
        fixture.store.fail_commits(true);
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Store(_))));
        fixture.store.fail_commits(false);
        fixture.clock.advance(Duration::from_secs(2));
        let session = fixture.sessions.current(id(), None).await.unwrap();
        assert_eq!(session.token.expose(), "jwt-of-key-1");
        assert_eq!(fixture.upstream.minted(), (1, 1));
        assert_eq!(fixture.store.session().unwrap().minted_id.as_deref(), Some("key-1"));
    });
}

#[test]
fn an_account_that_goes_while_its_key_is_made_leaves_no_key() {
    runtime(async {
        let fixture = Fixture::minted().await;
        fixture.store.commit_begins().await;
        let held = fixture.store.hold_commits();
        let waiting = fixture.current_in_background(id());
        fixture.store.commit_begins().await;
        fixture.sessions.remove_account(ACCOUNT);
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap_err(), SessionError::NoAccount);
        assert_eq!(fixture.upstream.minted(), (1, 0), "made, and deleted again");
    });
}

#[test]
fn a_dead_key_is_replaced_and_the_next_one_is_the_only_one() {
    runtime(async {
        let fixture = Fixture::minted().await;
        let first = fixture.sessions.current(id(), None).await.unwrap();
        let waiting: Vec<_> = (0..100).map(|_| fixture.replace_in_background(&first)).collect();
        for request in waiting {
            assert_eq!(request.await.unwrap().unwrap().token.expose(), "jwt-of-key-2");
        }
        assert_eq!(fixture.upstream.minted(), (2, 1));
    });
}

#[test]
fn keys_that_die_as_soon_as_they_are_made_are_not_made_for_ever() {
    runtime(async {
        let fixture = Fixture::minted().await;
        let mut session = fixture.sessions.current(id(), None).await.unwrap();
        let refused = loop {
            match fixture.sessions.replace(&session, None).await {
                Ok(next) => session = next,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SessionError::Waiting { .. }), "{refused}");
        assert!(fixture.upstream.minted().0 <= 5, "{:?}", fixture.upstream.minted());
    });
}

#[test]
fn an_upstream_that_hangs_up_is_asked_again_after_a_pause() {
    runtime(async {
        let fixture = Fixture::minted().await;
        fixture.upstream.set_mode(Mode::HangUp);
        for _ in 0..5 {
            assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Unreachable(_))));
        }
        assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Waiting { .. }));
        fixture.upstream.set_mode(Mode::Normal);
        fixture.clock.advance(Duration::from_secs(2));
        assert!(fixture.sessions.current(id(), None).await.is_ok());
    });
}
