//! What a page of a stranger in the administrator's own browser tries: foreign names, requests across sites, frames.

use http::Method;
use keygate::keys::admin::AdminScope;
use serde_json::json;

use super::{Site, bearer, word};
use crate::support::http as client;

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_whatever_comes_with_it() {
    let site = Site::start().await;
    let (port, token) = (site.address.port(), bearer(&site.all));
    let ask = |method: &'static str, target: String, hosts: Vec<String>| {
        let mut lines: Vec<(&str, Vec<u8>)> = hosts.iter().map(|host| ("Host", host.clone().into_bytes())).collect();
        lines.push(("Authorization", token.clone().into_bytes()));
        lines.push(("Content-Length", b"0".to_vec()));
        let lines: Vec<(&str, &[u8])> = lines.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let head = client::head(method, &target, &lines);
        async move { client::raw(site.address, &head).await }
    };
    let status = |answer: String| client::status_of(&answer);
    for host in [
        format!("127.0.0.1:{port}"),
        "127.0.0.1".into(),
        format!("localhost:{port}"),
        "LOCALHOST.".into(),
        "keys.home.arpa".into(),
        "Keys.home.arpa:443".into(),
    ] {
        assert_eq!(status(ask("GET", "/api/status".into(), vec![host.clone()]).await), 200, "{host}");
    }
    for host in [
        "evil.test",
        "evil.test:8444",
        "127.0.0.2",
        "localhost.evil.test",
        "keys.home.arpa.evil.test",
        "xkeys.home.arpa",
        "",
        "[::1]",
        "127.0.0.1:x",
        "127.0.0.1@evil.test",
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let answer = ask(method, "/api/status".into(), vec![host.to_owned()]).await;
            assert_eq!(client::status_of(&answer), 421, "{method} {host}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("frame-ancestors 'none'"), "{answer}");
        }
    }
    assert_eq!(status(ask("GET", "/api/status".into(), vec![]).await), 421, "none");
    assert_eq!(status(ask("GET", "/api/status".into(), vec!["localhost".into(), "localhost".into()]).await), 421, "two");
    assert_eq!(status(ask("GET", "http://evil.test/api/status".into(), vec!["localhost".into()]).await), 421, "the target counts too");
    assert_eq!(status(ask("GET", "http://localhost/api/status".into(), vec!["localhost".into()]).await), 200);
}

#[tokio::test]
async fn a_request_that_another_sites_page_made_is_refused() {
    let site = Site::start().await;
    let (token, own) = (bearer(&site.all), format!("http://{}", site.address));
    let ask = |method: Method, path: &'static str, more: Vec<(&'static str, String)>| {
        let token = token.clone();
        let site = &site;
        async move {
            let mut headers = vec![("authorization", token.as_str())];
            headers.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
            site.bare(method, path, &headers, "").await.status.as_u16()
        }
    };
    let own_tls = own.replace("http:", "https:");
    for origin in [&own, &own_tls] {
        assert_eq!(ask(Method::POST, "/api/reload", vec![("origin", origin.clone())]).await, 400, "{origin}");
    }
    for origin in ["http://evil.test", "null", "", "http://localhost:1", &format!("{own}.evil.test"), &format!("ftp://{}", site.address)] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(ask(method.clone(), "/api/reload", vec![("origin", origin.to_owned())]).await, 403, "{method} {origin}");
        }
    }
    for from in ["cross-site", "same-site", "nonsense"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            assert_eq!(ask(method.clone(), "/api/reload", vec![("sec-fetch-site", from.to_owned())]).await, 403, "{method} {from}");
        }
    }
    assert_eq!(ask(Method::POST, "/api/reload", vec![("sec-fetch-site", "none".into())]).await, 403, "a change is never typed in");
    assert_eq!(ask(Method::GET, "/api/status", vec![("sec-fetch-site", "none".into())]).await, 200);
    let link = |dest: &str| {
        vec![("sec-fetch-site", "cross-site".into()), ("sec-fetch-mode", "navigate".into()), ("sec-fetch-dest", dest.to_owned())]
    };
    assert_eq!(ask(Method::GET, "/", link("document")).await, 303, "a link to the page may be followed");
    assert_eq!(ask(Method::GET, "/", link("iframe")).await, 403);
    assert_eq!(ask(Method::GET, "/api/status", link("document")).await, 403, "but not to the interface");
}

#[tokio::test]
async fn other_sites_are_told_nothing_when_they_ask_whether_they_may() {
    let site = Site::start().await;
    let preflight =
        [("origin", "http://evil.test"), ("access-control-request-method", "POST"), ("access-control-request-headers", "content-type")];
    for headers in [&preflight[..], &[][..]] {
        let answer = site.bare(Method::OPTIONS, "/api/api-keys", headers, "").await;
        assert_eq!(answer.status, 403);
        let told = answer.headers.keys().any(|name| name.as_str().starts_with("access-control") || name == "allow");
        assert!(!told, "{:?}", answer.headers);
    }
    let answer = site.bare(Method::GET, "/api/status", &[("authorization", &bearer(&site.all)), ("origin", "http://evil.test")], "").await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn every_answer_forbids_frames_foreign_bytes_guessing_and_keeping() {
    let site = Site::start().await;
    let (good, read) = (bearer(&site.all), bearer(&site.token(AdminScope::Read)));
    for (method, path, token, status) in [
        (Method::GET, "/api/status", Some(&good), 200),
        (Method::HEAD, "/api/status", Some(&good), 200),
        (Method::GET, "/api/status", None, 401),
        (Method::POST, "/api/reload", Some(&read), 403),
        (Method::GET, "/nowhere", Some(&good), 404),
        (Method::GET, "/", None, 303),
        (Method::PUT, "/api/status", Some(&good), 405),
        (Method::OPTIONS, "/api/status", Some(&good), 403),
    ] {
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let answer = site.bare(method.clone(), path, &headers, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{method} {path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_change_must_say_that_it_is_json() {
    let site = Site::start().await;
    let (token, body) = (bearer(&site.all), json!({ "name": "more", "scopes": ["read"] }).to_string());
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""] {
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        let answer = site.bare(Method::POST, "/api/admin-tokens", &headers, body.clone()).await;
        assert_eq!((answer.status.as_u16(), word(&answer).as_str()), (415, "wrong_content_type"), "{kind}");
    }
    assert_eq!(site.bare(Method::POST, "/api/admin-tokens", &[("authorization", &token)], body.clone()).await.status, 415, "none at all");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json; charset=utf-8")];
    assert_eq!(site.bare(Method::POST, "/api/admin-tokens", &headers, body).await.status, 200);
}
