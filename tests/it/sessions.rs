//! Sessions with upstreams, over real sockets: what a request costs in logins, and what clients are told when there is no session.

mod refusals;
mod renewal;

use std::sync::Arc;
use std::time::Duration;

use keygate::app::App;
use keygate::gateway::routing::Settings;
use keygate::store::Store;
use keygate::upstream::Kind;

use crate::support::{self, Rig};

/// A path that needs a credential at the upstream.
fn protected(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/libraries",
        Kind::Emby | Kind::Jellyfin => "/System/Info",
    }
}

/// A path that only administrators may ask for; alice is none.
fn admins_only(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/users",
        Kind::Emby | Kind::Jellyfin => "/Devices",
    }
}

/// Stops the gateway and starts another one over the same store.
fn restart(rig: &mut Rig) {
    let app = rig.app.take().expect("running");
    std::thread::spawn(move || app.server.shut_down(Duration::ZERO)).join().expect("the server stops");
    let keep = support::keep(&rig.config, Arc::clone(&rig.store) as Arc<dyn Store>, &rig.clock);
    let app = App::start(&rig.config, Settings::new(&rig.config, None), keep, None).expect("it starts again");
    rig.run(app);
}

/// The device ids that logins showed to the stand-in, in order.
fn devices(rig: &Rig) -> Vec<String> {
    let logins = rig.standin.control().journal().into_iter().filter(|seen| seen.path().eq_ignore_ascii_case("/Users/AuthenticateByName"));
    let device = |text: &str| text.split_once("DeviceId=\"").and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned);
    logins.map(|seen| seen.header("authorization").and_then(device).expect("a device id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_of_an_upstream_before_the_first_request_and_then_one_login_serves_many() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let control = rig.standin.control();
        assert_eq!(control.counters().connections, 0, "{kind}");
        for _ in 0..5 {
            assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        }
        assert_eq!((control.counters().logins, control.counters().unauthorized), (1, 0), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_restart_of_the_gateway() {
    for kind in Kind::ALL {
        let mut rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        restart(&mut rig);
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        let counters = rig.standin.control().counters();
        assert_eq!((counters.logins, counters.refreshes, counters.unauthorized), (1, 0, 0), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_one_device_at_emby_and_jellyfin_and_stays_it_across_restarts_and_logins() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let mut rig = Rig::new(kind).await;
        let other = rig.another_key("other key");
        let ask = |rig: &Rig, key: &str| {
            let (address, key) = (rig.address, key.to_owned());
            async move { support::http::get(address, protected(kind), &[("x-emby-token", &key)]).await.status }
        };
        let key = rig.secret().to_owned();
        assert_eq!(ask(&rig, &key).await, 200, "{kind}");
        assert_eq!(ask(&rig, other.expose()).await, 200, "{kind}");
        restart(&mut rig);
        rig.standin.control().kill_all_tokens();
        assert_eq!(ask(&rig, other.expose()).await, 200, "{kind}");
        assert_eq!(ask(&rig, &key).await, 200, "{kind}");
        let seen = devices(&rig);
        assert_eq!(seen.len(), 4, "{kind}: {seen:?}");
        assert_ne!(seen[0], seen[1], "{kind}");
        assert_eq!((&seen[0], &seen[1]), (&seen[3], &seen[2]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_audiobookshelf_account_share_one_session_which_a_revoked_key_does_not_end() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let other = rig.another_key("other key");
    assert_eq!(rig.get("/api/me").await.status, 200);
    rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
    assert_eq!(rig.get("/api/me").await.status, 401);
    let answer = support::http::get(rig.address, "/api/me", &[("x-emby-token", other.expose())]).await;
    assert_eq!(answer.status, 200);
    let counters = rig.standin.control().counters();
    assert_eq!((counters.logins, counters.logouts), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_keys_own_session_is_ended_at_the_upstream() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get(protected(kind)).await.status, 200, "{kind}");
        rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
        support::until("the session ends at the upstream", || rig.standin.control().counters().logouts == 1).await;
        assert_eq!(rig.standin.control().live_tokens(), Vec::<String>::new(), "{kind}");
    }
}
