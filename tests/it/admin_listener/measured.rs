//! Metrics and health: who reads them, what they say, and that nothing of them is a name or a secret.

use std::time::Duration;

use http::Method;
use keygate::keys::admin::AdminScope;
use keygate::secret::Secret;
use keygate::store::memory::Fault;
use keygate::upstream::Credential;
use serde_json::{Value, json};

use super::{Site, bearer, make_token};

async fn health(site: &Site, path: &str) -> (u16, Value) {
    let answer = site.bare(Method::GET, path, &[], "").await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn metrics_are_for_who_may_read_and_tell_no_name_of_a_key_and_no_secret() {
    let site = Site::start().await;
    assert_eq!(site.rig.get("/api/libraries").await.status, 200);
    let token = site.token(AdminScope::Read);
    let key = format!("Bearer {}", site.rig.secret());
    for headers in [&[][..], &[("authorization", &*key)]] {
        let refused = site.bare(Method::GET, "/metrics", headers, "").await;
        assert_eq!(refused.status, 401);
        assert!(!refused.text().contains("keygate_"), "{}", refused.text());
    }
    let answer = site.get("/metrics", &token).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let headers = [("authorization", &*bearer(&token)), ("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")];
    let open = site.bare(Method::GET, "/metrics", &headers, "").await;
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
    for text in [answer.text(), open.text()] {
        assert!(!text.contains("test key") && !text.contains("alice") && !text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains("key_id") && !text.contains(&site.rig.key.id().to_string()), "keys are told apart by choice only: {text}");
    }
    // The listeners of media servers know nothing of it.
    for path in ["/metrics", "/healthz", "/readyz"] {
        let elsewhere = site.rig.get(path).await.text();
        assert!(!elsewhere.contains("keygate_") && !elsewhere.contains("standing") && !elsewhere.contains("degraded"), "{elsewhere}");
    }
}

#[tokio::test]
async fn a_gateway_whose_cores_turn_lives() {
    let site = Site::start().await;
    assert_eq!(health(&site, "/healthz").await, (200, json!({ "status": "ok", "cores": 2, "standing": 0 })));
}

#[tokio::test]
async fn ready_is_who_has_a_store_upstreams_and_accounts_and_only_readers_hear_what_is_wrong() {
    let site = Site::start().await;
    let (status, view) = health(&site, "/readyz").await;
    assert_eq!((status, &view["status"], &view["upstreams_reachable"]), (503, &json!("unready"), &json!(0)), "nobody has asked it yet");
    assert_eq!(site.rig.get("/api/libraries").await.status, 200);
    let ready = json!({
        "status": "ready", "store": true, "upstreams": 1, "upstreams_reachable": 1, "accounts": 1, "accounts_broken": 0, "problems": null
    });
    assert_eq!(health(&site, "/readyz").await, (200, ready));

    site.rig.keep().registry.set_credential(site.rig.account.id, Credential::Password(Secret::from("wrong-password"))).unwrap();
    site.rig.sweep.keep_secret("wrong-password");
    assert_eq!(site.rig.get("/api/libraries").await.status, 503);
    let (status, view) = health(&site, "/readyz").await;
    assert_eq!((status, &view["status"], &view["accounts_broken"]), (503, &json!("degraded"), &json!(1)));
    assert_eq!(view["problems"], Value::Null, "strangers hear how many, not which");
    assert_eq!(health(&site, "/readyz?degraded=ok").await.0, 200, "whoever asks may find that good enough");
    assert_eq!(health(&site, "/readyz?degraded=maybe").await.0, 400);
    let told = site.get("/readyz", &site.all).await.json();
    assert!(told["problems"][0].as_str().unwrap().contains("media/alice"), "{told}");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_not_ready_and_is_not_written_for_every_stranger() {
    let site = Site::start().await;
    assert_eq!(site.rig.get("/api/libraries").await.status, 200);
    let token = make_token(&site.rig, "reader", AdminScope::Read, None);
    // Whatever else is written meanwhile fails too.
    (1..=50).for_each(|nth| site.rig.store.fail_commit(nth, Fault::Before));
    let (status, view) = health(&site, "/readyz").await;
    assert_eq!((status, &view["status"], &view["store"]), (503, &json!("unready"), &json!(false)));
    assert_eq!(health(&site, "/readyz?degraded=ok").await.0, 503);
    let told = site.get("/readyz", &token).await.json();
    assert!(told["problems"][0].as_str().unwrap().contains("the store cannot be written"), "what was found holds for a while: {told}");
    for _ in 0..60 {
        site.clock.advance(Duration::from_secs(30));
        if health(&site, "/readyz").await.0 == 200 {
            return;
        }
    }
    panic!("it is not ready again");
}
