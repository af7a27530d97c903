//! Sessions and the store: what is used is durable, whatever fails or restarts meanwhile.

use super::*;

#[test]
fn a_stored_session_is_used_after_a_restart_without_a_login() {
    runtime(async {
        for fixture in [Fixture::audiobookshelf().await, Fixture::jellyfin().await] {
            let before = fixture.sessions.current(id(), None).await.unwrap();
            let fixture = fixture.restart().await;
            assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Live { sessions: 1, .. }));
            let after = fixture.sessions.current(id(), None).await.unwrap();
            assert_eq!((after.generation, after.token.expose()), (before.generation, before.token.expose()));
            assert_eq!(fixture.upstream.calls(), 1);
        }
    });
}

#[test]
fn nobody_sees_a_new_token_before_it_is_durable() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(61 * MINUTE);
        fixture.store.commit_begins().await; // the login's
        let held = fixture.store.hold_commits();
        let waiting = fixture.current_in_background(id());
        fixture.store.commit_begins().await;
        assert_eq!(fixture.upstream.refreshes(), 1);
        assert!(fixture.sessions.live(id()).is_none());
        assert!(!waiting.is_finished());
        drop(held);
        let session = waiting.await.unwrap().unwrap();
        assert_eq!(fixture.store.session().unwrap().token.expose(), session.token.expose());
    });
}

#[test]
fn a_crash_between_the_refresh_and_the_commit_never_locks_the_account_out() {
    runtime(async {
        for grace_is_over in [false, true] {
            let fixture = Fixture::audiobookshelf().await;
            fixture.sessions.current(id(), None).await.unwrap();
            fixture.clock.advance(61 * MINUTE);
            fixture.store.fail_commits(true);
            let Err(SessionError::Store(why)) = fixture.sessions.current(id(), None).await else { panic!("stored") };
            assert!(why.contains("could not be stored"), "{why}");
            assert!(fixture.sessions.live(id()).is_none(), "what is not durable is not used");

            // The crash: memory is gone, the store has the refresh token before the rotation.
            fixture.store.fail_commits(false);
            if grace_is_over {
                fixture.upstream.end_grace();
            }
            let fixture = fixture.restart().await;
            assert!(fixture.sessions.current(id(), None).await.is_ok());
            let logins = if grace_is_over { 2 } else { 1 };
            assert_eq!((fixture.upstream.logins(), fixture.upstream.refreshes()), (logins, 2));
        }
    });
}

#[test]
fn a_commit_that_failed_is_tried_again_with_the_tokens_that_were_granted() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(61 * MINUTE);
        fixture.store.fail_commits(true);
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Store(_))));
        fixture.store.fail_commits(false);
        fixture.clock.advance(2 * MINUTE);
        assert!(fixture.sessions.current(id(), None).await.is_ok());
        assert_eq!(fixture.upstream.refreshes(), 1);
        assert!(fixture.store.session().is_some());
    });
}
