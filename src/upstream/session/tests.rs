//! Sessions against a small upstream on loopback, a store in memory and a clock that is moved by hand.

mod durable;
mod fake_store;
mod fake_upstream;
mod fakes;
mod minting;
mod owners;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use fake_store::FakeStore;
use fake_upstream::Mode;
use fakes::{ACCOUNT, Fixture, runtime};

const MINUTE: Duration = Duration::from_secs(60);

fn id() -> SessionId {
    SessionId { account: ACCOUNT, key: None }
}

// ---- logging in ----

#[test]
fn the_first_need_logs_in_and_later_ones_do_not() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        assert!(fixture.sessions.live(id()).is_none());
        assert_eq!(fixture.sessions.state(ACCOUNT), AccountState::Idle);
        let session = fixture.sessions.current(id(), Some("203.0.113.9".parse().unwrap())).await.unwrap();
        assert_eq!(fixture.sessions.live(id()).unwrap().generation, session.generation);
        assert_eq!(fixture.sessions.current(id(), None).await.unwrap().generation, session.generation);
        assert_eq!((fixture.upstream.logins(), fixture.upstream.refreshes()), (1, 0));
        assert_eq!(fixture.upstream.last_header("x-forwarded-for").as_deref(), Some("203.0.113.9"));
        assert_eq!(fixture.store.account().user_id.as_deref(), Some("user-1"));
        assert_eq!(fixture.store.session().unwrap().token.expose(), session.token.expose());
        assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Live { sessions: 1, expires_at: Some(_), .. }));
    });
}

#[test]
fn a_wrong_password_is_tried_once_and_not_again_after_a_restart() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.upstream.set_password("another");
        for _ in 0..3 {
            let Err(SessionError::Broken(why)) = fixture.sessions.current(id(), None).await else { panic!("not broken") };
            assert_eq!(why, "account abs/alice: Audiobookshelf refused the password (401)");
        }
        fixture.clock.advance(24 * 60 * MINUTE);
        let fixture = fixture.restart().await;
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Broken(_))));
        assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Broken { .. }));
        assert_eq!(fixture.upstream.logins(), 1);
    });
}

#[test]
fn a_hundred_callers_with_a_wrong_password_cause_one_try_over_all_sessions_of_the_account() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        fixture.upstream.set_password("another");
        let tries = (0..100).map(|_| SessionId { account: ACCOUNT, key: Some(KeyId::random().unwrap()) });
        let tries: Vec<_> = tries.map(|id| fixture.current_in_background(id)).collect();
        for attempt in tries {
            assert!(matches!(attempt.await.unwrap(), Err(SessionError::Broken(_))));
        }
        assert_eq!(fixture.upstream.logins(), 1);
    });
}

#[test]
fn a_changed_password_and_a_login_by_hand_end_the_broken_state_for_good() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.upstream.set_password("another");
        assert!(fixture.sessions.current(id(), None).await.is_err());
        fixture.sessions.put_account(fixture.account("another"));
        assert!(fixture.sessions.current(id(), None).await.is_ok());

        fixture.upstream.set_password("third");
        assert!(matches!(fixture.sessions.login_now(ACCOUNT).await, Err(SessionError::Broken(_))));
        assert!(fixture.store.account().broken.is_some());
        assert!(fixture.sessions.live(id()).is_none(), "a broken account has no session");
        fixture.upstream.set_password("another");
        let learnt = fixture.sessions.login_now(ACCOUNT).await.unwrap();
        assert_eq!(learnt.user_name.as_deref(), Some("alice"));
        assert_eq!(learnt.token_life, Some(60 * MINUTE));
        assert_eq!(fixture.store.account().broken, None);
        let fixture = fixture.restart().await;
        assert!(fixture.sessions.current(id(), None).await.is_ok());
    });
}

#[test]
fn a_login_that_comes_too_late_for_its_credential_undoes_nothing_of_the_new_one() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let held = fixture.store.hold_commits();
        let waiting = fixture.current_in_background(id());
        fixture.store.commit_begins().await;
        fixture.upstream.set_password("another");
        let known = AccountRecord { user_id: Some("user-1".to_owned()), ..fixture.account("another") };
        fixture.store.put_account(known.clone());
        fixture.sessions.put_account(known);
        drop(held);
        let session = waiting.await.unwrap().unwrap();
        assert_eq!(fixture.upstream.logins(), 2, "the caller got a session of the new credential");
        let stored = fixture.store.account();
        let Credential::Password(password) = &stored.credential else { panic!("a token") };
        assert_eq!(password.expose(), "another");
        assert_eq!(fixture.store.session().unwrap().token.expose(), session.token.expose());
    });
}

#[test]
fn renaming_an_account_keeps_its_session_and_its_broken_state() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let before = fixture.sessions.current(id(), None).await.unwrap();
        fixture.sessions.put_account(fixture.account("right"));
        assert_eq!(fixture.sessions.live(id()).unwrap().generation, before.generation);
        fixture.upstream.set_password("another");
        assert!(fixture.sessions.login_now(ACCOUNT).await.is_err());
        fixture.sessions.put_account(fixture.account("right"));
        assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Broken { .. }));
    });
}

#[test]
fn an_upstream_that_answers_as_another_user_breaks_the_account() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.upstream.set_user("user-2");
        let Err(SessionError::Broken(why)) = fixture.sessions.login_now(ACCOUNT).await else { panic!("not broken") };
        assert!(why.contains("another user"), "{why}");
        assert!(fixture.sessions.live(id()).is_none());
    });
}

// ---- the upstream is down, starting or limiting ----

#[test]
fn an_upstream_that_is_down_is_unreachable_and_asked_again_after_a_pause() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.upstream.set_mode(Mode::HangUp);
        for _ in 0..10 {
            assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Unreachable(_))));
        }
        assert_eq!(fixture.upstream.calls(), 1, "the pause holds the others back");
        let AccountState::Waiting { until, .. } = fixture.sessions.state(ACCOUNT) else { panic!("not waiting") };
        assert!(until > fixture.clock.now());
        fixture.upstream.set_mode(Mode::Normal);
        fixture.clock.advance(Duration::from_secs(2));
        assert!(fixture.sessions.current(id(), None).await.is_ok());
    });
}

#[test]
fn nobody_listening_is_unreachable_and_names_the_address() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let port = fixture.nobody_listens().await;
        let Err(SessionError::Unreachable(why)) = fixture.sessions.current(id(), None).await else { panic!("reached") };
        assert!(why.contains(&format!("127.0.0.1:{port}")), "{why}");
    });
}

#[test]
fn an_upstream_that_does_not_answer_is_timed_out() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.answer_within(Duration::from_millis(20));
        fixture.upstream.set_mode(Mode::Silent);
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::TimedOut(_))));
    });
}

#[test]
fn a_limit_is_waited_for_as_long_as_the_upstream_says() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.upstream.set_mode(Mode::Status(429, Some(598)));
        for _ in 0..5 {
            let Err(SessionError::Waiting { why, retry_after_secs }) = fixture.sessions.current(id(), None).await else { panic!("tried") };
            assert!((598..=748).contains(&retry_after_secs), "{retry_after_secs}");
            assert!(why.contains("limits logins"), "{why}");
        }
        assert_eq!(fixture.upstream.calls(), 1);
        assert!(matches!(fixture.sessions.state(ACCOUNT), AccountState::Waiting { .. }));
        fixture.upstream.set_mode(Mode::Normal);
        fixture.clock.advance(Duration::from_secs(750));
        assert!(fixture.sessions.current(id(), None).await.is_ok());
    });
}

#[test]
fn a_server_that_starts_for_minutes_uses_no_budget_up() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        fixture.upstream.set_mode(Mode::Status(503, None));
        for _ in 0..8 {
            assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Waiting { .. })));
            fixture.clock.advance(Duration::from_secs(40));
        }
        assert_eq!(fixture.upstream.calls(), 8);
        fixture.upstream.set_mode(Mode::Normal);
        assert!(fixture.sessions.current(id(), None).await.is_ok());
    });
}

#[test]
fn five_failed_logins_in_ten_minutes_are_all_that_is_tried() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        fixture.upstream.set_mode(Mode::Status(500, None));
        for _ in 0..60 {
            assert!(fixture.sessions.current(id(), None).await.is_err());
            fixture.clock.advance(Duration::from_secs(9));
        }
        assert!(fixture.upstream.calls() <= 5, "{}", fixture.upstream.calls());
    });
}

// ---- renewing ----

#[test]
fn a_thousand_requests_on_an_expired_session_cause_exactly_one_refresh() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(61 * MINUTE);
        let waiting: Vec<_> = (0..1000).map(|_| fixture.current_in_background(id())).collect();
        let mut generations = Vec::new();
        for request in waiting {
            generations.push(request.await.unwrap().unwrap().generation);
        }
        generations.dedup();
        assert_eq!(generations.len(), 1);
        assert_eq!((fixture.upstream.logins(), fixture.upstream.refreshes()), (1, 1));
    });
}

#[test]
fn a_session_is_renewed_in_the_background_at_four_fifths_of_its_life_while_requests_go_on() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let first = fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(47 * MINUTE);
        assert!(fixture.sessions.live(id()).is_some());
        fixture.clock.advance(2 * MINUTE);
        assert!(fixture.sessions.live(id()).is_none(), "due: the caller is to ask for the current one");
        let during = fixture.sessions.current(id(), None).await.unwrap();
        assert_eq!(during.generation, first.generation, "nobody waits");
        fixture.landed(id()).await;
        assert!(fixture.sessions.live(id()).unwrap().generation > first.generation);
        assert_eq!(fixture.upstream.refreshes(), 1);
    });
}

#[test]
fn a_failed_renewal_is_nobodys_error_while_the_old_token_lives() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let first = fixture.sessions.current(id(), None).await.unwrap();
        fixture.upstream.set_mode(Mode::Status(502, None));
        fixture.clock.advance(50 * MINUTE);
        for _ in 0..20 {
            assert_eq!(fixture.sessions.current(id(), None).await.unwrap().generation, first.generation);
            fixture.landed(id()).await;
        }
        assert_eq!(fixture.upstream.calls(), 2, "one login, one renewal, then the pause");
        fixture.clock.advance(10 * MINUTE);
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::Waiting { .. })), "now it is dead");
        fixture.upstream.set_mode(Mode::Normal);
        fixture.clock.advance(MINUTE);
        assert!(fixture.sessions.current(id(), None).await.is_ok());
        assert_eq!((fixture.upstream.logins(), fixture.upstream.refreshes()), (1, 1), "the tokens were kept");
    });
}

#[test]
fn an_upstream_whose_clock_is_off_by_a_day_is_renewed_by_ours() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.upstream.set_clock_offset(-86_400);
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(47 * MINUTE);
        assert!(fixture.sessions.live(id()).is_some());
    });
}

#[test]
fn a_refused_refresh_token_falls_back_to_one_login_and_is_not_shown_again() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.current(id(), None).await.unwrap();
        fixture.upstream.forget_sessions();
        fixture.clock.advance(61 * MINUTE);
        assert!(fixture.sessions.current(id(), None).await.is_ok());
        assert_eq!((fixture.upstream.logins(), fixture.upstream.refreshes()), (2, 1));

        fixture.upstream.forget_sessions();
        fixture.upstream.set_login_mode(Mode::Status(503, None));
        for _ in 0..3 {
            fixture.clock.advance(61 * MINUTE);
            assert!(fixture.sessions.current(id(), None).await.is_err());
        }
        assert_eq!(fixture.upstream.refreshes(), 2);
    });
}

// ---- a session that the upstream calls dead ----

#[test]
fn a_hundred_requests_with_the_same_dead_session_cause_one_login() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        let stale = fixture.sessions.current(id(), None).await.unwrap();
        fixture.clock.advance(MINUTE);
        let waiting: Vec<_> = (0..100).map(|_| fixture.replace_in_background(&stale)).collect();
        for request in waiting {
            assert!(request.await.unwrap().unwrap().generation > stale.generation);
        }
        let late = fixture.sessions.replace(&stale, None).await.unwrap();
        assert_eq!(fixture.sessions.live(id()).unwrap().generation, late.generation, "who comes late gets the new one");
        assert_eq!(fixture.upstream.logins(), 2);
    });
}

#[test]
fn sessions_that_keep_dying_young_do_not_become_a_login_storm() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        let mut session = fixture.sessions.current(id(), None).await.unwrap();
        for _ in 0..50 {
            match fixture.sessions.replace(&session, None).await {
                Ok(next) => session = next,
                Err(error) => assert!(matches!(error, SessionError::Waiting { .. }), "{error}"),
            }
        }
        assert!(fixture.upstream.logins() <= 6, "{}", fixture.upstream.logins());
    });
}

#[test]
fn a_caller_that_goes_away_cancels_no_flight() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        {
            let caller = fixture.sessions.current(id(), None);
            tokio::pin!(caller);
            let first_poll = std::future::poll_fn(|context| std::task::Poll::Ready(caller.as_mut().poll(context).is_pending()));
            assert!(first_poll.await, "the login cannot have ended within one poll");
        }
        fixture.landed(id()).await;
        assert!(fixture.sessions.live(id()).is_some());
        assert_eq!(fixture.upstream.logins(), 1);
    });
}

#[test]
fn a_hundred_probes_ask_once_and_again_when_the_answer_is_old() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        let session = fixture.sessions.current(id(), None).await.unwrap();
        for _ in 0..100 {
            assert!(matches!(fixture.sessions.probe(&session).await, Ok(TokenState::Alive { .. })));
        }
        assert_eq!(fixture.upstream.probes(), 1);
        fixture.upstream.forget_sessions();
        fixture.clock.advance(Duration::from_secs(6));
        assert_eq!(fixture.sessions.probe(&session).await, Ok(TokenState::Dead));
        assert_eq!(fixture.upstream.probes(), 2);
    });
}
