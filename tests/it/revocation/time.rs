//! A clock that is set back brings no expired key to life: not while the gateway runs, not over a restart.

use keygate::app;
use keygate::clock::{Clock, SteadyClock, SystemClock};
use keygate::config::Config;
use keygate::demo::{Options, StandIn};
use keygate::store::{Change, Store};

use super::*;
use crate::support::daemon::Home;
use crate::support::http as client;
use crate::support::keep;

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// A key for alice that lives for a day.
fn mortal(rig: &Rig) -> ApiKey {
    let expires_at = Some(rig.clock.now().plus(DAY));
    let new = NewKey {
        name: "mortal".to_owned(),
        account: rig.account.id,
        expires_at,
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    rig.keep().registry.create_key(new).expect("a key").key
}

async fn status(rig: &Rig, key: &ApiKey) -> u16 {
    client::get(rig.address, "/keygate-test/bytes/5", &[("x-emby-token", key.expose())]).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_ten_years_while_it_runs_changes_nothing() {
    let machine = manual_clock();
    let clock = Arc::new(SteadyClock::new(Arc::clone(&machine) as _, None));
    let rig = Setup::new(Kind::Audiobookshelf).clock(clock).start().await;
    let (expired, running) = (mortal(&rig), mortal(&rig));
    let patch = KeyPatch { expires_at: Some(Some(rig.clock.now().plus(DAY * 2))), ..KeyPatch::default() };
    rig.keep().registry.edit_key(running.id(), patch).expect("edited");
    machine.advance(DAY);
    assert_eq!(status(&rig, &expired).await, 401);
    let mut stream = Wire::plain(rig.address).await;
    stream.write(head(&running, "GET", SILENT, "")).await;
    assert!(stream.head().await.starts_with("HTTP/1.1 200"));

    machine.set(rig.clock.now().minus(TEN_YEARS));
    assert_eq!((status(&rig, &expired).await, status(&rig, &running).await), (401, 200));
    // Time goes on from where it was.
    machine.advance(DAY);
    stream.rest().await;
    assert_eq!(status(&rig, &running).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_while_nothing_runs_changes_nothing_until_it_is_told_so() {
    let machine = manual_clock();
    let rig = Setup::new(Kind::Audiobookshelf).clock(Arc::new(SteadyClock::new(Arc::clone(&machine) as _, None))).start().await;
    let (key, store) = (mortal(&rig), Arc::clone(&rig.store));
    machine.advance(DAY);
    rig.keep().registry.mark_time().expect("written");
    machine.set(rig.clock.now().minus(TEN_YEARS));

    let again = |store: &Arc<dyn Store>| {
        let clock = app::clock(&**store, Arc::clone(&machine) as _).expect("a clock");
        let keep = keep(&rig.config, Arc::clone(store), &clock);
        let settings = keygate::gateway::routing::Settings::new(&rig.config, None);
        let app = app::App::start(&rig.config, settings, keep, None).expect("it starts");
        rig.sweep.cover(app.addresses());
        app
    };
    let store: Arc<dyn Store> = store;
    let next = again(&store);
    let ask = async |app: &app::App| {
        client::get(app.addresses()[0], "/keygate-test/bytes/5", &[("x-emby-token", key.expose())]).await.status.as_u16()
    };
    assert_eq!(ask(&next).await, 401);
    let forgotten = next.keep.registry.forget_time().expect("forgotten");
    assert!(forgotten.before.since(forgotten.now) >= TEN_YEARS - DAY);
    assert_eq!(ask(&next).await, 200, "the machine's clock counts, and says that the key is young");
    let last = again(&store);
    assert_eq!(ask(&last).await, 200, "also after the next start");
    for app in [next, last] {
        std::thread::spawn(move || app.server.shut_down(Duration::ZERO)).join().expect("it stops");
    }
}

/// Does something with the store of a folder in which no gateway runs.
fn with_store<T>(home: &Home, work: impl FnOnce(&dyn Store) -> T) -> T {
    let (config, _) = Config::load(&home.config()).expect("a configuration");
    let config = Config { store: keygate::config::Store { path: home.store(), ..config.store }, ..config };
    work(&*app::open_store(&config).expect("the store").store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_that_the_clock_is_behind_and_what_to_do() {
    let standin = StandIn::start(Kind::Emby, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.run("keys create tv --account alice --expires 30d -q").await.ok().trim_end().to_owned();
    assert_eq!(home.status("/keygate-test/bytes/5", &key).await, 200);
    assert!(!home.run("status").await.ok().contains("forget-time"));
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);

    // As if the machine's clock had been set back by ten years since.
    let now = SystemClock::new().now();
    with_store(&home, |store| {
        let mark = store.time_mark().expect("mark").expect("written at the end at the latest");
        assert!(mark.since(now) < Duration::from_secs(5) && now.since(mark) < DAY, "{mark}");
        store.commit(vec![Change::MarkTime(now.plus(TEN_YEARS))]).expect("written");
    });
    home.start().await;
    let line = home.logged("the machine's clock says").await;
    assert!(line.contains("keygate store forget-time"), "{line}");
    assert_eq!(home.status("/keygate-test/bytes/5", &key).await, 401);
    assert!(home.run("status").await.ok().contains("keygate store forget-time"));
    let done = home.run("store forget-time").await.ok();
    assert!(done.contains("by the machine's clock again"), "{done}");
    assert_eq!(home.status("/keygate-test/bytes/5", &key).await, 200);
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    with_store(&home, |store| {
        let mark = store.time_mark().expect("mark").expect("written");
        assert!(mark.since(now) < DAY, "the end does not write again what was forgotten: {mark}");
        store.commit(vec![Change::MarkTime(now.plus(TEN_YEARS))]).expect("written");
    });
    // And without a running gateway.
    assert!(home.run("keys list").await.ok().contains("expired"));
    home.run("store forget-time").await.ok();
    assert!(home.run("keys list").await.ok().contains("active"));
}
