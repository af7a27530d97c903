//! The upstream says no, or nothing: the tables of 401 and 403, servers that are down, starting or limiting, refused credentials.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use keygate::clock::Clock;
use keygate::demo::{Options, StandIn};
use keygate::secret::Secret;
use keygate::upstream::session::AccountState;
use keygate::upstream::{Credential, Kind};

use super::{admins_only, protected, restart};
use crate::support::{self, Rig, Setup, http as client};

fn broken(rig: &Rig) -> String {
    match rig.keep().sessions.state(rig.account.id) {
        AccountState::Broken { why } => why,
        other => panic!("not broken: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_account_lacks_is_403_and_no_reason_for_another_login() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        for _ in 0..3 {
            assert_eq!(rig.get(admins_only(kind)).await.status, 403, "{kind}");
        }
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_of_a_plugin_does_not_cost_a_working_session() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get("/keygate-test/status/401").await.status, 403, "{kind}");
        assert_eq!(rig.get("/keygate-test/status/403").await.status, 403, "{kind}");
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(rig.standin.control().counters().logins, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_for_a_static_token_that_lives_is_403_and_breaks_nothing() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let token = rig.standin.control().create_api_key("alice").expect("a token");
        let name = rig.config.upstreams[0].name.clone();
        let static_one = Credential::Token(Secret::new(token));
        let account = rig.keep().registry.add_account(name, "static".to_owned(), static_one).expect("an account");
        let key = support::make_key(rig.keep(), "static", &account);
        let path = if kind == Kind::Audiobookshelf { "/api/keygate-test/status/401" } else { "/keygate-test/status/401" };
        for _ in 0..3 {
            assert_eq!(client::get(rig.address, path, &[("x-emby-token", key.expose())]).await.status, 403, "{kind}");
        }
        assert_eq!(client::get(rig.address, protected(kind), &[("x-emby-token", key.expose())]).await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_say_nothing_of_the_session_are_passed_on_as_they_are() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        for status in [204, 302, 400, 403, 404, 409, 416, 429, 500, 502, 503] {
            let answer = rig.get(&format!("/keygate-test/status/{status}")).await;
            assert_eq!(answer.status.as_u16(), status, "{kind}");
        }
        assert_eq!(rig.standin.control().counters().logins, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_whatever_comes_and_also_across_a_restart() {
    for kind in Kind::ALL {
        let mut rig = Setup::new(kind).credential(Credential::Password(Secret::from("wrong-password"))).start().await;
        let other = rig.another_key("other key");
        for key in [rig.secret().to_owned(), other.expose().to_owned()].iter().cycle().take(10) {
            let answer = client::get(rig.address, protected(kind), &[("x-emby-token", key)]).await;
            assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (503, Some("upstream_login_failed")), "{kind}");
            assert_eq!(answer.header("www-authenticate"), None, "{kind}: the client's key is fine");
        }
        let why = broken(&rig);
        assert!(why.starts_with("account media/alice: ") && why.ends_with("refused the password (401)"), "{why}");
        restart(&mut rig);
        assert_eq!(rig.get(protected(kind)).await.status, 503, "{kind}");
        assert_eq!(broken(&rig), why, "{kind}");
        let counters = rig.standin.control().counters();
        assert_eq!((counters.logins, counters.refused_logins), (0, 1), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_works_again_at_once_with_the_right_password_or_once_the_server_agrees() {
    for kind in Kind::ALL {
        let rig = Setup::new(kind).credential(Credential::Password(Secret::from("wrong-password"))).start().await;
        assert_eq!(rig.get(protected(kind)).await.status, 503, "{kind}");
        let right = Credential::Password(Secret::from(support::ALICE_PASSWORD));
        rig.keep().registry.set_credential(rig.account.id, right).expect("changed");
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");

        rig.standin.control().set_password("alice", "another-password");
        rig.standin.control().kill_all_tokens();
        assert_eq!(rig.get(protected(kind)).await.status, 503, "{kind}");
        rig.standin.control().set_password("alice", support::ALICE_PASSWORD);
        assert_eq!(rig.get(protected(kind)).await.status, 503, "{kind}: nobody said that it is good again");
        rig.keep().sessions.login_now(rig.account.id).await.expect("a login");
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(rig.standin.control().counters().refused_logins, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_disabled_at_the_server_breaks_the_account_and_not_the_key() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.standin.control().set_active("alice", false);
        for _ in 0..3 {
            assert_eq!(rig.get(protected(kind)).await.status, 503, "{kind}");
        }
        assert!(broken(&rig).contains("alice"), "{kind}");
        assert_eq!(rig.standin.control().counters().refused_logins, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_502_and_comes_back_by_itself() {
    for kind in Kind::ALL {
        let clock = support::manual_clock();
        let mut rig = Setup::new(kind).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
        let listen = rig.standin.url.strip_prefix("http://").and_then(|url| url.parse().ok()).expect("an address");
        let elsewhere = StandIn::start(kind, Options::default()).await.expect("another one");
        std::mem::replace(&mut rig.standin, elsewhere).stop().await;
        for _ in 0..3 {
            let answer = rig.get(protected(kind)).await;
            assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (502, Some("upstream_unreachable")), "{kind}");
            assert!(answer.header("retry-after").is_some_and(|text| text.parse::<u64>().is_ok()), "{kind}");
        }
        rig.standin = StandIn::start(kind, Options { listen, ..Options::default() }).await.expect("its port is free again");
        rig.sweep.watch(&rig.standin);
        clock.advance(Duration::from_secs(60));
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_down_with_a_session_is_502_and_the_session_is_kept() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        let control = rig.standin.control();
        control.faults(|faults| faults.refuse_connections = true);
        control.cut_connections();
        let answer = rig.get(protected(kind)).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (502, Some("upstream_unreachable")), "{kind}");
        assert!(answer.header("retry-after").is_some(), "{kind}");
        control.faults(|faults| faults.refuse_connections = false);
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        assert_eq!(control.counters().logins, 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_or_limits_logins_is_503_with_the_time_to_wait() {
    for kind in Kind::ALL {
        for (status, retry_after, least) in [(503, None, 1), (429, Some(17), 17), (500, None, 1), (200, None, 1), (404, None, 1)] {
            let clock = support::manual_clock();
            let rig = Setup::new(kind).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
            let control = rig.standin.control();
            control.faults(|faults| faults.login_status = Some((status, retry_after)));
            for _ in 0..3 {
                let answer = rig.get(protected(kind)).await;
                let wait = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert_eq!(
                    (answer.status.as_u16(), answer.json()["error"].as_str()),
                    (503, Some("upstream_login_waiting")),
                    "{kind} {status}"
                );
                assert!(wait.is_some_and(|wait| (least..=least + 20).contains(&wait)), "{kind} {status}: {wait:?}");
            }
            let tries = || control.journal().into_iter().filter(|seen| seen.method == Method::POST).count();
            assert_eq!(tries(), 1, "{kind} {status}");
            control.faults(|faults| faults.login_status = None);
            clock.advance(Duration::from_secs(60));
            assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind} {status}");
            assert_eq!(tries(), 2, "{kind} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_a_login_in_time_is_504() {
    for kind in Kind::ALL {
        let quick = |config: &mut keygate::config::Config| config.upstreams[0].timeouts.response_header = Duration::from_millis(300);
        let rig = Setup::new(kind).with(quick).start().await;
        rig.standin.control().faults(|faults| faults.delay_login = Duration::from_secs(3600));
        let answer = rig.get(protected(kind)).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (504, Some("upstream_timeout")), "{kind}");
        assert!(answer.header("retry-after").is_some(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_token_is_used_without_a_login_and_shared_by_all_keys_until_it_dies() {
    for kind in Kind::ALL {
        let mut rig = Rig::new(kind).await;
        let control = rig.standin.control().clone();
        let token = control.create_api_key("alice").expect("a token");
        let credential = Credential::Token(Secret::new(token.clone()));
        let name = rig.config.upstreams[0].name.clone();
        let account = rig.keep().registry.add_account(name, "static".to_owned(), credential).expect("an account");
        let keys = ["one", "two"].map(|name| support::make_key(rig.keep(), name, &account));
        for key in &keys {
            let answer = client::get(rig.address, protected(kind), &[("x-emby-token", key.expose())]).await;
            assert_eq!(answer.status, 200, "{kind}");
        }
        assert_eq!(control.counters().logins, 0, "{kind}");
        control.kill_all_tokens();
        control.clear_journal();
        for key in keys.iter().cycle().take(6) {
            let answer = client::get(rig.address, protected(kind), &[("x-emby-token", key.expose())]).await;
            assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (503, Some("upstream_login_failed")), "{kind}");
        }
        assert!(control.journal().len() <= 3, "{kind}: the request, and a question or two: {:?}", control.journal().len());
        let AccountState::Broken { why } = rig.keep().sessions.state(account.id) else { panic!("{kind}: not broken") };
        assert!(why.contains("media/static") && why.contains("does not accept the account's token") && !why.contains(&token), "{why}");
        restart(&mut rig);
        let before = control.counters().requests;
        let answer = client::get(rig.address, protected(kind), &[("x-emby-token", keys[0].expose())]).await;
        assert_eq!((answer.status.as_u16(), control.counters().requests), (503, before), "{kind}: also after a restart");
    }
}
