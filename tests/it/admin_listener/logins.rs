//! People at the page: the password, the cookie, what every change needs beside it, and how logins end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use keygate::audit::{Reading, Verb};
use keygate::certificates::Served;
use keygate::server::tls::Acceptor;
use keygate::store::Store;
use serde_json::{Value, json};

use super::{PASSWORD, Site, word};
use crate::support::http::Answer;
use crate::support::tls::Trust;

/// Somebody who is logged in.
struct Person {
    cookie: String,
    csrf: String,
    origin: String,
}

async fn try_log_in(site: &Site, password: &str) -> Answer {
    let body = json!({ "password": password }).to_string();
    site.bare(Method::POST, "/api/session", &[("content-type", "application/json")], body).await
}

async fn log_in(site: &Site) -> Person {
    let answer = try_log_in(site, PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    site.rig.sweep.keep_secret(cookie.split_once('=').unwrap().1);
    Person { cookie, csrf: answer.json()["csrf"].as_str().unwrap().to_owned(), origin: format!("http://{}", site.address) }
}

impl Person {
    async fn get(&self, site: &Site, path: &str) -> u16 {
        site.bare(Method::GET, path, &[("cookie", &self.cookie)], "").await.status.as_u16()
    }

    /// A change with these headers beside the cookie.
    async fn change(&self, site: &Site, more: &[(&str, &str)]) -> u16 {
        let mut headers = vec![("cookie", self.cookie.as_str()), ("content-type", "application/json")];
        headers.extend(more);
        let body = json!({ "name": "made", "scopes": ["read"] }).to_string();
        site.bare(Method::POST, "/api/admin-tokens", &headers, body).await.status.as_u16()
    }
}

#[tokio::test]
async fn there_is_no_password_until_one_is_set_and_none_of_the_usual_ones_works() {
    let site = Site::start().await;
    for password in ["", "admin", "keygate", "password", PASSWORD] {
        let answer = try_log_in(&site, password).await;
        assert_eq!((answer.status.as_u16(), word(&answer).as_str()), (403, "no_password"));
        assert!(answer.json()["message"].as_str().unwrap().contains("keygate admin set-password"));
    }
    assert!(!site.admin.has_page_password().await.unwrap());
    site.set_password(PASSWORD).await;
    assert!(site.admin.has_page_password().await.unwrap());
    assert_eq!(try_log_in(&site, "admin").await.status, 401);
    assert_eq!(try_log_in(&site, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_login_is_a_cookie_that_scripts_and_other_sites_do_not_get() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    let answer = try_log_in(&site, PASSWORD).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("keygate=") && cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    let person = log_in(&site).await;
    assert_eq!(person.get(&site, "/api/status").await, 200);
    assert_eq!(person.get(&site, "/api/page-sessions").await, 200, "a person may do all");
    for wrong in ["keygate=", "keygate=x", "Keygate=y", &person.cookie.replace("keygate", "__Host-keygate"), &person.cookie[..30]] {
        assert_eq!(site.bare(Method::GET, "/api/status", &[("cookie", wrong)], "").await.status, 401, "{wrong}");
    }
    let among_others = format!("a=b; keygate=planted; {}; c=d", person.cookie);
    assert_eq!(site.bare(Method::GET, "/api/status", &[("cookie", &among_others)], "").await.status, 200);
}

#[tokio::test]
async fn over_tls_the_cookie_is_bound_to_the_host_and_a_plain_origin_is_foreign() {
    let trust = Trust::new();
    let served: Arc<Served> = Arc::new(Served::new([trust.certificate()]));
    let site = Site::with(Some(Acceptor::http1_only(served).unwrap())).await;
    site.set_password(PASSWORD).await;
    let ask = |request: Request<Full<Bytes>>| async {
        let stream = trust.connect(site.address, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    };
    let request = |origin: &str| {
        let body = json!({ "password": PASSWORD }).to_string();
        let request = Request::post("/api/session").header("host", "localhost").header("origin", origin);
        request.header("content-type", "application/json").body(Full::new(Bytes::from(body))).unwrap()
    };
    assert_eq!(ask(request("http://localhost")).await.0.status, 403);
    let (head, _) = ask(request("https://localhost")).await;
    assert_eq!(head.status, 200);
    let cookie = head.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-keygate=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    assert!(!cookie.contains("Domain"));
}

#[tokio::test]
async fn with_the_cookie_alone_nothing_can_be_changed() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    let (person, other) = (log_in(&site).await, log_in(&site).await);
    let origin = ("origin", person.origin.as_str());
    let csrf = ("x-csrf-token", person.csrf.as_str());
    assert_eq!(person.change(&site, &[origin, csrf]).await, 200);
    assert_eq!(person.change(&site, &[("sec-fetch-site", "same-origin"), csrf]).await, 200);
    for (more, what) in [
        (vec![], "nothing but the cookie"),
        (vec![origin], "no token"),
        (vec![csrf], "nothing says where it comes from"),
        (vec![origin, ("x-csrf-token", other.csrf.as_str())], "another session's token"),
        (vec![origin, ("x-csrf-token", "")], "an empty token"),
        (vec![("origin", "http://evil.test"), csrf], "from another site"),
        (vec![("sec-fetch-site", "cross-site"), csrf], "from another site"),
        (vec![("origin", "null"), csrf], "from a sandbox"),
    ] {
        assert_eq!(person.change(&site, &more).await, 403, "{what}");
    }
    assert_eq!(site.bare(Method::DELETE, "/api/session", &[("cookie", &person.cookie), origin], "").await.status, 403, "not even a logout");
    assert_eq!(person.get(&site, "/api/status").await, 200);
}

#[tokio::test]
async fn a_form_of_another_site_cannot_log_anybody_in() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    let body = json!({ "password": PASSWORD }).to_string();
    for headers in [
        vec![("content-type", "application/json"), ("origin", "http://evil.test")],
        vec![("content-type", "application/json"), ("sec-fetch-site", "cross-site")],
        vec![("content-type", "text/plain")],
    ] {
        let answer = site.bare(Method::POST, "/api/session", &headers, body.clone()).await;
        assert!(matches!(answer.status.as_u16(), 403 | 415) && answer.header("set-cookie").is_none(), "{headers:?}: {}", answer.status);
    }
}

#[tokio::test]
async fn wrong_passwords_are_slowed_down_and_a_right_one_counts_for_nothing_meanwhile() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    let logged_in = log_in(&site).await;
    for _ in 0..5 {
        assert_eq!(try_log_in(&site, "wrong password").await.status, 401);
    }
    for password in ["wrong password", PASSWORD] {
        let refused = try_log_in(&site, password).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("30")));
    }
    assert_eq!(logged_in.get(&site, "/api/status").await, 200, "who is in stays in");
    assert_eq!(site.get("/api/status", &site.all).await.status, 200, "and programs are not touched");
    site.clock.advance(Duration::from_secs(30));
    assert_eq!(try_log_in(&site, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_login_ends_by_itself_by_time_by_its_number_and_with_the_password() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    let (first, second, third) = (log_in(&site).await, log_in(&site).await, log_in(&site).await);
    let list = site.get("/api/page-sessions", &site.all).await.json();
    assert_eq!(list["sessions"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(!list.to_string().contains(first.cookie.split_once('=').unwrap().1) && !list.to_string().contains(&first.csrf));

    let out = [("cookie", first.cookie.as_str()), ("origin", &first.origin), ("x-csrf-token", &first.csrf)];
    let answer = site.bare(Method::DELETE, "/api/session", &out, "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("set-cookie").unwrap().starts_with("keygate=; Path=/; Max-Age=0;"));
    assert_eq!(first.get(&site, "/api/status").await, 401, "gone here too, not only in the browser");

    assert_eq!(site.ask(Method::DELETE, "/api/page-sessions/2", &site.all, &Value::Null).await.status, 200);
    assert_eq!(site.ask(Method::DELETE, "/api/page-sessions/2", &site.all, &Value::Null).await.status, 404);
    assert_eq!((second.get(&site, "/api/status").await, third.get(&site, "/api/status").await), (401, 200));

    site.set_password("another otter lamp").await;
    assert_eq!(third.get(&site, "/api/status").await, 401, "whoever knew the old one is out");
    assert_eq!(try_log_in(&site, PASSWORD).await.status, 401);

    site.set_password(PASSWORD).await;
    let idle = log_in(&site).await;
    site.clock.advance(Duration::from_secs(3600));
    assert_eq!(idle.get(&site, "/api/status").await, 401);
}

#[tokio::test]
async fn logins_to_the_page_and_their_ends_are_in_the_audit_log_good_ones_and_failed_ones() {
    let site = Site::start().await;
    site.set_password(PASSWORD).await;
    assert_eq!(try_log_in(&site, "wrong otter lamp").await.status, 401);
    let person = log_in(&site).await;
    log_in(&site).await;
    let headers = [("cookie", person.cookie.as_str()), ("x-csrf-token", person.csrf.as_str()), ("origin", person.origin.as_str())];
    assert_eq!(site.bare(Method::DELETE, "/api/session", &headers, "").await.status, 200);
    assert_eq!(site.ask(Method::DELETE, "/api/page-sessions/2", &site.all, &Value::Null).await.status, 200);
    assert_eq!(site.ask(Method::DELETE, "/api/page-sessions/2", &site.all, &Value::Null).await.status, 404);
    let lines = async |sort: &str| {
        let page = site.get(&format!("/api/audit?after=0&sort={sort}"), &site.all).await.json();
        let line = |entry: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&entry["verb"]), text(&entry["object"]["kind"]), text(&entry["object"]["id"]), text(&entry["actor"]["kind"]))
        };
        page["entries"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let is = |found: &(String, String, String, String), expected: [&str; 4]| {
        assert_eq!([found.0.as_str(), found.1.as_str(), found.2.as_str(), found.3.as_str()], expected);
    };
    let notices = lines("notices").await;
    assert_eq!(notices.len(), 3, "{notices:?}");
    is(&notices[0], ["sign-in-failed", "client", "127.0.0.1", "gateway"]);
    is(&notices[1], ["signed-in", "page-session", "1", "page"]);
    is(&notices[2], ["signed-in", "page-session", "2", "page"]);
    let acts = lines("acts").await;
    let ended: Vec<_> = acts.iter().filter(|line| line.0 == "closed").collect();
    assert_eq!(ended.len(), 2, "{acts:?}");
    is(ended[0], ["closed", "page-session", "1", "page"]);
    is(ended[1], ["closed", "page-session", "2", "token"]);
}

/// What the audit log says of who was refused: what it was, why and how often.
fn noted(site: &Site) -> Vec<(&'static str, String, String)> {
    site.rig.keep().usage.finish().unwrap();
    let mut noted = Vec::new();
    let mut note = |entry: keygate::audit::Entry| {
        let line = entry.line;
        if line.verb.is_notice() && line.verb != Verb::SignedIn {
            assert_eq!(line.object.id, "127.0.0.1");
            let field = |name: &str| line.fields.iter().find(|field| field.name == name).and_then(|field| field.after.clone());
            let text = |name: &str| field(name).map(|value| value.to_string()).unwrap_or_default();
            noted.push((line.verb.as_str(), text("why"), text("times")));
        }
        true
    };
    site.rig.store.read_audit(Reading::After(0), &mut note).unwrap();
    noted
}

#[tokio::test]
async fn whoever_is_refused_at_the_door_is_in_the_audit_log_and_fills_it_with_a_line_for_many_tries() {
    let site = Site::start().await;
    for _ in 0..50 {
        assert_eq!(try_log_in(&site, "admin").await.status, 403);
    }
    let line = |verb, why: &str, times: &str| (verb, why.to_owned(), times.to_owned());
    assert_eq!(noted(&site), [line("refused", "no-page-password", "50")]);
    site.set_password(PASSWORD).await;
    for number in 0..30 {
        assert_eq!(try_log_in(&site, "admin").await.status, if number < 5 { 401 } else { 429 });
    }
    for number in 0..30 {
        let answer = site.bare(Method::GET, "/api/status", &[("authorization", "Bearer kga_nothing")], "").await;
        assert_eq!(answer.status, if number < 20 { 401 } else { 429 });
    }
    let mut noted = noted(&site);
    noted.retain(|(verb, ..)| *verb != "sign-in-failed");
    let expected = [
        line("refused", "no-page-password", "50"),
        line("throttled", "too-many-logins-to-the-page", "25"),
        line("refused", "bad-admin-token", "20"),
        line("throttled", "too-many-bad-admin-tokens", "10"),
    ];
    assert_eq!(noted.len(), 4, "{noted:?}");
    assert!(expected.iter().all(|line| noted.contains(line)), "{noted:?}");
}
