//! The interface itself: Emby's shape, the summary, errors in one shape, and the document that describes it.

use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::{Site, allow_new_secret, word};

#[tokio::test]
async fn keys_are_made_listed_and_deleted_in_the_shape_of_emby() {
    let site = Site::start().await;
    let made = site.ask(Method::POST, "/Auth/Keys?App=Kodi", &site.all, &Value::Null).await;
    allow_new_secret(&site, &made);
    assert_eq!(made.status, 200, "{}", made.text());
    let (id, key) = (made.json()["Id"].as_str().unwrap().to_owned(), made.json()["AccessToken"].as_str().unwrap().to_owned());
    let works = |key: String| {
        let address = site.rig.address;
        async move { crate::support::http::get(address, "/api/libraries", &[("x-emby-token", &key)]).await.status.as_u16() }
    };
    assert_eq!(works(key.clone()).await, 200);

    let list = site.get("/Auth/Keys", &site.all).await.json();
    assert_eq!(list["TotalRecordCount"], 2);
    let item = list["Items"].as_array().unwrap().iter().find(|item| item["Id"] == id.as_str()).unwrap().clone();
    assert_eq!((&item["AppName"], &item["AccessToken"]), (&json!("Kodi"), &json!(format!("kg_{id}_***"))), "shown once");
    assert_eq!(item["UserName"], "alice");

    for name in [format!("kg_{id}_***"), id.clone()] {
        assert_eq!(
            site.ask(Method::DELETE, &format!("/Auth/Keys/{name}"), &site.all, &Value::Null).await.status.as_u16(),
            if name == id { 404 } else { 204 }
        );
    }
    assert_eq!(works(key).await, 401);
    for (method, path) in
        [(Method::POST, "/Auth/Keys"), (Method::POST, "/Auth/Keys?App="), (Method::POST, "/Auth/Keys?App=x&UserId=nobody")]
    {
        assert_eq!(site.ask(method, path, &site.all, &Value::Null).await.status, 400, "{path}");
    }
    assert_eq!(site.ask(Method::POST, "/Auth/Keys/nothing/Delete", &site.all, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_summary_is_one_flat_object_of_numbers() {
    let site = Site::start().await;
    let summary = site.get("/api/summary", &site.all).await.json();
    for (name, value) in [
        ("keys", json!(1)),
        ("active", json!(1)),
        ("expiring", json!(0)),
        ("accounts", json!(1)),
        ("upstreams_up", json!(1)),
        ("upstream_up", json!(true)),
        ("cert_days", Value::Null),
        ("requests24h", json!(0)),
        ("failed24h", json!(0)),
    ] {
        assert_eq!(summary[name], value, "{name}");
    }
    assert!(summary.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_array()));
}

#[tokio::test]
async fn every_error_has_one_shape_and_bad_input_is_never_the_gateways_fault() {
    let site = Site::start().await;
    for (method, path, body, status) in [
        (Method::POST, "/api/api-keys", json!({}), 400),
        (Method::POST, "/api/api-keys", json!([]), 400),
        (Method::POST, "/api/api-keys", json!({ "name": "n", "userId": "nobody" }), 400),
        (Method::POST, "/api/api-keys", json!({ "name": "n", "userId": "alice", "networks": [] }), 400),
        (Method::PATCH, "/api/api-keys/nothing", json!({}), 404),
        (Method::GET, "/api/api-keys/%ff", Value::Null, 400),
        (Method::GET, "/api/api-keys?nonsense=1", Value::Null, 400),
        (Method::GET, "/api/api-keys?revoked=perhaps", Value::Null, 400),
        (Method::POST, "/api/admin-tokens", json!({ "name": "n", "scopes": ["everything"] }), 400),
        (Method::POST, "/api/admin-tokens", json!({ "name": "n", "scopes": [] }), 400),
        (Method::POST, "/api/admin-tokens", json!({ "name": "", "scopes": ["read"] }), 400),
        (Method::DELETE, "/api/admin-tokens/nothing", Value::Null, 404),
        (Method::DELETE, "/api/page-sessions/-1", Value::Null, 404),
        (Method::DELETE, "/api/session", Value::Null, 400),
        (Method::POST, "/api/session", json!({ "password": 7 }), 400),
        (Method::POST, "/api/reload", Value::Null, 400),
        (Method::GET, "/api/nothing", Value::Null, 404),
        (Method::PUT, "/api/api-keys", json!({}), 405),
    ] {
        let answer = site.ask(method.clone(), path, &site.all, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        assert!(!word(&answer).is_empty() && answer.json()["message"].as_str().is_some_and(|text| text.len() > 10), "{}", answer.text());
        assert_eq!(answer.json().as_object().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_document_that_is_served_is_the_one_in_the_repository() {
    let site = Site::start().await;
    let served = site.get("/api/openapi.json", &site.all).await.json();
    assert_eq!(served["openapi"], "3.1.0");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/openapi.json");
    let written = fs::read_to_string(&file).unwrap_or_default();
    let text = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    if written != text {
        // A folder of its own, which stays: another run, or another user's, has another.
        let beside = tempfile::Builder::new().prefix("keygate-openapi-").tempdir().unwrap().keep().join("openapi.json");
        fs::write(&beside, text).unwrap();
        panic!("deploy/openapi.json is not what is served, which is in {}: look at it and put it in its place", beside.display());
    }
}

#[tokio::test]
async fn every_route_of_the_document_is_there_and_closed_to_who_may_not() {
    let site = Site::start().await;
    let document = keygate::admin::openapi::document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let path = path.replace("{id}", "x").replace("{number}", "x").replace("{key}", "x");
            let headers = [("content-type", "application/json")];
            let answer = site.bare(method.clone(), &path, &headers, "").await;
            if operation["security"] == json!([]) {
                let open = format!("{method} {path} {}", answer.status.as_u16());
                // Nobody has asked the media server yet: that is not ready.
                assert!(["POST /api/session 400", "GET /healthz 200", "GET /readyz 503"].contains(&open.as_str()), "{open}");
            } else {
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
}
