//! What stands in the way of minting, and what comes of it: a reason, few tries, nothing left behind.

use keygate::demo::Options;

use super::*;

fn broken(house: &House) -> String {
    match house.state() {
        AccountState::Broken { why } => why,
        state => panic!("{state:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jellyfin_that_authorises_the_caller_alone_gives_nobody_the_administrators_session() {
    let old = || Options { quick_connect_for_others: false, ..Options::default() };
    let house = House::of(Setup::new(Kind::Jellyfin).standin(old()), Credential::Password(Secret::from("root-password"))).await;
    let tokens = house.control().live_tokens();
    assert_eq!(house.status().await, 503);
    assert!(broken(&house).contains("10.9"), "{}", broken(&house));
    assert_eq!(house.control().live_tokens(), tokens, "the administrator's session that came of it was ended");
    assert_eq!((house.status().await, house.control().counters().minted), (503, 1), "one try");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_of_jellyfin_is_an_administrator_and_one_of_an_old_jellyfin_says_what_it_needs() {
    for (quick_connect_for_others, expected) in [(true, 200), (false, 503)] {
        let rig_options = Options { quick_connect_for_others, ..Options::default() };
        let setup = Setup::new(Kind::Jellyfin).standin(rig_options);
        let house = House::of(setup, Credential::Password(Secret::from("root-password"))).await;
        let token = house.control().create_api_key("keygate").expect("a key");
        let registry = &house.rig.keep().registry;
        let key = registry.add_account(house.minted.upstream.clone(), "the key".to_owned(), Credential::Token(Secret::new(token)));
        registry.set_administrator(key.expect("an account").id, true, false).expect("the administrator");
        assert_eq!(house.status().await, expected);
        if expected == 503 {
            assert!(broken(&house).contains("10.9") && broken(&house).contains("(403)"), "{}", broken(&house));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_connect_that_is_off_is_named_with_its_setting() {
    let house = House::new(Kind::Jellyfin).await;
    house.control().faults(|faults| faults.quick_connect_off = true);
    assert_eq!(house.status().await, 503);
    assert!(broken(&house).contains("QuickConnectAvailable"), "{}", broken(&house));
    house.control().faults(|faults| faults.quick_connect_off = false);
    house.rig.keep().sessions.login_now(house.minted.id).await.expect("minted");
    assert_eq!(house.status().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_session_of_the_administrator_is_replaced_in_passing() {
    for kind in KINDS {
        let house = House::new(kind).await;
        assert_eq!(house.status().await, 200, "{kind}");
        house.control().kill_all_tokens();
        house.control().delete_api_keys();
        assert_eq!(house.status().await, 200, "{kind}");
        let counters = house.control().counters();
        assert_eq!((counters.minted, counters.logins), (2, 2), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_whose_password_changed_breaks_no_minted_account_for_good() {
    for kind in KINDS {
        let clock = support::manual_clock();
        let setup = Setup::new(kind).clock(Arc::clone(&clock) as Arc<dyn keygate::clock::Clock>);
        let house = House::of(setup, Credential::Password(Secret::from("root-password"))).await;
        assert_eq!(house.status().await, 200, "{kind}");
        house.control().set_password("root", "another");
        house.control().kill_all_tokens();
        house.control().delete_api_keys();
        for _ in 0..3 {
            assert_eq!(house.status().await, 503, "{kind}");
        }
        assert!(matches!(&house.state(), AccountState::Waiting { why, .. } if why.contains("root")), "{kind}: {:?}", house.state());
        assert_eq!(house.control().counters().refused_logins, 1, "{kind}: never a storm");
        let sessions = &house.rig.keep().sessions;
        let root = sessions.accounts().into_iter().find(|account| account.is_administrator).expect("root");
        let password = Credential::Password(Secret::from("another"));
        house.rig.keep().registry.set_credential(root.id, password).expect("changed");
        clock.advance(Duration::from_secs(40));
        assert_eq!(house.status().await, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_no_administrator_upstream_is_none_here() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let upstream = rig.config.upstreams[0].name.clone();
        let sessions = &rig.keep().sessions;
        let refused = sessions.available(&upstream).await.expect_err("no administrator").to_string();
        assert!(refused.contains("media has no administrator's account"), "{kind}: {refused}");
        rig.keep().registry.set_administrator(rig.account.id, true, false).expect("marked");
        let refused = sessions.available(&upstream).await.expect_err("alice is none").to_string();
        assert!(refused.contains(&format!("media/alice is no administrator of {}", kind.product())), "{kind}: {refused}");
        rig.standin.control().set_admin("alice", true);
        assert_eq!(sessions.available(&upstream).await.expect("users").len(), 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_who_loses_the_right_makes_no_keys_and_the_account_waits() {
    let house = House::new(Kind::Audiobookshelf).await;
    house.control().set_admin("root", false);
    assert_eq!(house.status().await, 503);
    assert!(matches!(&house.state(), AccountState::Waiting { why, .. } if why.contains("no administrator")), "{:?}", house.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_user_gets_one_more_key_and_then_no_more_and_none_stays() {
    let house = House::new(Kind::Audiobookshelf).await;
    assert_eq!(house.status().await, 200);
    house.control().set_active("alice", false);
    for _ in 0..5 {
        assert_eq!(house.status().await, 503);
    }
    assert!(broken(&house).contains("deactivated"), "{}", broken(&house));
    assert_eq!(house.control().counters().minted, 2);
    assert!(house.control().made_api_keys().len() <= 1, "the one that was there before");
    let house = House::new(Kind::Jellyfin).await;
    house.control().set_active("alice", false);
    assert_eq!(house.status().await, 503);
    assert!(broken(&house).contains("(403)"), "{}", broken(&house));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_gone_and_a_kind_that_cannot_are_final_too() {
    let house = House::new(Kind::Audiobookshelf).await;
    let nobody = Credential::Minted { user_id: "nobody".to_owned() };
    let account = house.rig.keep().registry.add_account(house.minted.upstream.clone(), "nobody".to_owned(), nobody).expect("an account");
    let Err(SessionError::Broken(why)) = house.rig.keep().sessions.login_now(account.id).await else { panic!("not broken") };
    assert!(why.contains("was the user deleted"), "{why}");
    let house = House::of(Setup::new(Kind::Emby), Credential::Password(Secret::from("root-password"))).await;
    let Err(SessionError::Broken(why)) = house.rig.keep().sessions.login_now(house.minted.id).await else { panic!("not broken") };
    assert!(why.contains("Emby gives an administrator no way"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_asked_again_when_it_is_back() {
    for kind in KINDS {
        let clock = support::manual_clock();
        let setup = Setup::new(kind).clock(Arc::clone(&clock) as Arc<dyn keygate::clock::Clock>);
        let house = House::of(setup, Credential::Password(Secret::from("root-password"))).await;
        house.control().faults(|faults| faults.status = Some((503, None)));
        assert_eq!(house.status().await, 503, "{kind}");
        house.control().faults(|faults| faults.status = None);
        clock.advance(Duration::from_secs(40));
        assert_eq!(house.status().await, 200, "{kind}");
    }
}
