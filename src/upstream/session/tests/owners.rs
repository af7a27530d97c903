//! Whose sessions they are: accounts with a token, sessions of keys, and what goes with its account or key.

use super::*;

#[test]
fn a_static_token_is_used_as_it_is_and_breaks_the_account_only_when_a_probe_says_dead() {
    runtime(async {
        let fixture = Fixture::jellyfin_token("static-1").await;
        fixture.upstream.accept("static-1");
        let session = fixture.sessions.current(id(), None).await.unwrap();
        assert_eq!(session.headers[0].1, "MediaBrowser Token=\"static-1\"");
        assert_eq!(fixture.upstream.calls(), 0);
        let again = fixture.sessions.replace(&session, None).await.unwrap();
        assert_eq!(again.token.expose(), "static-1", "alive after all");
        fixture.upstream.forget_sessions();
        let Err(SessionError::Broken(why)) = fixture.sessions.replace(&again, None).await else { panic!("not broken") };
        assert!(why.contains("does not accept the account's token"), "{why}");
        assert_eq!(fixture.upstream.logins(), 0);
    });
}

#[test]
fn a_login_by_hand_of_a_token_account_tries_the_token_and_learns_the_user() {
    runtime(async {
        let fixture = Fixture::jellyfin_token("static-1").await;
        assert!(matches!(fixture.sessions.login_now(ACCOUNT).await, Err(SessionError::Broken(_))));
        fixture.upstream.accept("static-1");
        let learnt = fixture.sessions.login_now(ACCOUNT).await.unwrap();
        assert_eq!(learnt.user_name.as_deref(), Some("alice"));
        let stored = fixture.store.account();
        assert_eq!((stored.user_id.as_deref(), stored.broken), (Some("user-1"), None));
    });
}

#[test]
fn each_key_has_a_session_of_its_own_where_the_upstream_is_set_so_and_static_tokens_are_shared() {
    runtime(async {
        let (one, other) = (KeyId::random().unwrap(), KeyId::random().unwrap());
        let fixture = Fixture::jellyfin().await;
        let account = fixture.sessions.account(ACCOUNT).unwrap();
        let ids = [one, other].map(|key| fixture.sessions.session_id(&account, key));
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            fixture.sessions.current(id, None).await.unwrap();
        }
        let devices = fixture.upstream.devices();
        assert_eq!(devices.len(), 2);
        assert_ne!(devices[0], devices[1]);

        let fixture = Fixture::jellyfin_token("t").await;
        let account = fixture.sessions.account(ACCOUNT).unwrap();
        assert_eq!(fixture.sessions.session_id(&account, one), id());
    });
}

#[test]
fn a_revoked_keys_session_ends_at_the_upstream_and_in_the_store() {
    runtime(async {
        let fixture = Fixture::jellyfin().await;
        let key = KeyId::random().unwrap();
        let id = SessionId { account: ACCOUNT, key: Some(key) };
        fixture.sessions.current(id, None).await.unwrap();
        fixture.sessions.remove_key(ACCOUNT, key);
        assert!(fixture.sessions.live(id).is_none());
        fixture.upstream.logged_out().await;
        fixture.store.wait_until(|store| store.session().is_none()).await;
    });
}

#[test]
fn a_removed_account_has_no_session_and_none_comes_back() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let session = fixture.sessions.current(id(), None).await.unwrap();
        fixture.sessions.remove_account(ACCOUNT);
        assert!(fixture.sessions.live(id()).is_none() && fixture.sessions.account(ACCOUNT).is_none());
        assert_eq!(fixture.sessions.current(id(), None).await.unwrap_err(), SessionError::NoAccount);
        assert_eq!(fixture.sessions.replace(&session, None).await.unwrap_err(), SessionError::NoAccount);
        fixture.store.wait_until(FakeStore::is_empty).await;
    });
}

#[test]
fn an_account_whose_upstream_left_the_configuration_says_so() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        fixture.sessions.set_upstreams(HashMap::new());
        assert!(matches!(fixture.sessions.current(id(), None).await, Err(SessionError::NoUpstream(_))));
    });
}

#[test]
fn nothing_secret_is_in_the_debug_form_of_a_session() {
    runtime(async {
        let fixture = Fixture::audiobookshelf().await;
        let session: Arc<Session> = fixture.sessions.current(id(), None).await.unwrap();
        assert!(!format!("{session:?} {:?}", fixture.sessions).contains(session.token.expose().as_str()));
    });
}
