//! What the page shows of media servers and accounts: how quick the ones are, how long the sessions of the others last.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::{Page, between};
use crate::support::http as client;

#[tokio::test]
async fn how_quick_a_media_server_is_and_what_is_open_is_shown_and_told_to_programs() {
    let page = Page::open().await;
    let quiet = page.get("/status").await.text();
    assert!(quiet.contains("nobody asked") && quiet.contains("0 streams, 0 sockets"), "{quiet}");
    for _ in 0..3 {
        assert_eq!(page.status(page.site.rig.secret()).await, 200);
    }
    let usage = &page.site.rig.keep().usage;
    let name = page.site.rig.config.upstreams[0].name.to_string();
    let answers = || {
        let now = keygate::clock::Clock::now(&*page.site.clock);
        usage.latencies().expect("read").get(&name).map_or(0, |recent| recent.until(now).map(|part| part.count()).sum())
    };
    crate::support::until("they are counted", || answers() >= 3).await;
    let told = page.site.get("/api/usage", &page.site.all).await.json()["upstreams"][name.as_str()]["latency"].clone();
    assert_eq!((told["answers"].as_u64(), told["p95MsByFiveMinutes"].as_array().map(Vec::len)), (Some(answers()), Some(12)));
    assert!(told["p50Ms"].as_f64() <= told["p95Ms"].as_f64() && told["p95Ms"].as_f64() > Some(0.0), "{told}");
    let shown = page.get("/status").await.text();
    assert!(shown.contains(&format!("half of {} answers", answers())) && shown.contains("<svg class=\"small line\""), "{shown}");
    page.site.clock.advance(Duration::from_secs(3000));
    assert_eq!(page.get("/login").await.status, 303, "a login that is in use");
    page.site.clock.advance(Duration::from_secs(3000));
    assert!(page.get("/status").await.text().contains("nobody asked"), "it is more than an hour ago");
}

#[tokio::test]
async fn an_account_is_shown_with_its_last_login_how_long_it_lasts_and_when_it_is_renewed() {
    let page = Page::open().await;
    let idle = page.get("/accounts").await.text();
    assert!(idle.contains("not logged in yet") && !idle.contains("<progress"), "{idle}");
    assert_eq!(page.status(page.site.rig.secret()).await, 200);
    page.site.clock.advance(Duration::from_secs(600));
    let account = page.site.get("/api/accounts", &page.site.all).await.json()["accounts"][0].clone();
    let time = |name: &str| account[name].as_str().expect(name).parse::<jiff::Timestamp>().expect("a time").as_second();
    let (got, renewed, until) = (time("obtainedAt"), time("renewAt"), time("until"));
    assert_eq!((renewed - got) * 5, (until - got) * 4, "after four fifths of its life: {account}");
    let shown = page.get("/accounts").await.text();
    let bar = between(&shown, "<progress", ">").to_owned();
    let figure = |name: &str| between(&bar, &format!("{name}=\""), "\"").parse::<i64>().expect("milliseconds") / 1000;
    assert_eq!(figure("max"), until - got, "{bar}");
    assert!(figure("value") <= until - got - 600 && figure("value") > until - got - 660, "ten minutes of it are over: {bar}");
    assert!(shown.contains("10 min ago") && shown.contains("next renewal from "), "{shown}");
}

#[tokio::test]
async fn keys_are_listed_in_parts_searched_sorted_and_chosen_by_how_they_stand() {
    let page = Page::open().await;
    page.with_past();
    let ask = async |query: &str| page.site.get(&format!("/api/api-keys?{query}"), &page.site.all).await;
    let names = async |query: &str| {
        let list = ask(query).await.json();
        let names = list["apiKeys"].as_array().expect("keys").iter().map(|key| key["name"].as_str().expect("a name").to_owned());
        (list["total"].as_u64().expect("a number"), names.collect::<Vec<_>>())
    };
    let (total, all) = names("").await;
    assert_eq!((total, all.len()), (7, 7));
    let (total, first) = names("limit=3").await;
    let (_, second) = names("limit=3&page=1").await;
    let (_, third) = names("limit=3&page=2").await;
    assert_eq!((total, [first, second, third].concat()), (7, all));
    assert_eq!(names("limit=3&page=9").await, (7, Vec::new()));
    let (_, sorted) = names("sort=name&limit=2").await;
    assert_eq!(sorted, ["backup script", "Dad’s phone"]);
    let (_, busiest) = names("sort=requests&limit=1").await;
    assert_eq!(busiest, ["Home Assistant"]);
    assert_eq!(names("search=HOME").await.0, 2, "Home Assistant and Homepage");
    assert_eq!(names("unused=true&search=music").await.1, ["Music Assistant"]);
    let id = ask("search=kodi").await.json()["apiKeys"][0]["id"].as_str().expect("an id").to_owned();
    let off = page.site.ask(Method::PATCH, &format!("/api/api-keys/{id}"), &page.site.all, &json!({ "isActive": false })).await;
    assert_eq!(off.status, 200);
    assert_eq!(names("status=disabled").await.1, ["Living room Kodi"]);
    assert_eq!(names(&format!("search={}", id.to_lowercase())).await.1, ["Living room Kodi"]);
    assert_eq!(names("status=active").await.0, 6);
    assert_eq!(page.site.ask(Method::DELETE, &format!("/api/api-keys/{id}"), &page.site.all, &json!(null)).await.status, 200);
    assert_eq!((names("status=revoked").await.0, names("status=revoked&revoked=true").await.0), (0, 1));
    for wrong in ["limit=0", "limit=1001", "page=-1", "sort=size", "status=good"] {
        assert_eq!(ask(wrong).await.status, 400, "{wrong}");
    }
    let list = page.get("/keys?q=phone").await.text();
    let menu = between(&list, "<details class=\"menu\">", "</details>").to_owned();
    for what in ["edit", "rotate", "disable", "revoke"] {
        assert!(menu.contains(&format!("/{what}\"")), "{menu}");
    }
}

/// The first book of Audiobookshelf's stand-in.
const BOOK: &str = "cdc24c99-721f-4d05-9e52-a4cbec99cd76";

#[tokio::test]
async fn what_was_handed_out_to_a_key_is_taken_back_at_the_page_while_the_key_stays_good() {
    let page = Page::open().await;
    let (gateway, secret) = (page.site.rig.address, page.site.rig.secret().to_owned());
    let key = format!("/keys/{}", page.site.rig.key.id());
    assert!(!page.get(&key).await.text().contains("Take back"));
    let headers = [("x-emby-token", secret.as_str()), ("content-type", "application/json")];
    let play = client::send(gateway, Method::POST, &format!("/api/items/{BOOK}/play"), &headers, "{}").await;
    let track = format!("/public/session/{}/track/1", play.json()["id"].as_str().expect("an id"));
    assert_eq!(client::get(gateway, &track, &[]).await.status, 200);
    let shown = page.get(&key).await.text();
    assert!(shown.contains("media without the key") && shown.contains(&format!("{key}/tickets")), "{shown}");
    assert!(page.get(&format!("{key}/tickets")).await.text().contains("The key stays good"));
    assert_eq!(client::get(gateway, &track, &[]).await.status, 200, "asking takes nothing back");
    let taken = page.post(&format!("{key}/tickets"), &[]).await;
    assert_eq!(taken.header("location"), Some(&*format!("{key}?done=taken-back")), "{}", taken.text());
    assert_eq!((client::get(gateway, &track, &[]).await.status.as_u16(), page.status(&secret).await), (401, 200));
    assert!(page.get("/audit").await.text().contains("<b>tickets-taken-back</b>"));
}

/// Once, what ended at the page was in the log alone.
#[tokio::test]
async fn logins_that_end_at_the_page_are_in_the_audit_log() {
    let mut page = Page::open().await;
    assert_eq!(page.post("/logout", &[]).await.status, 303);
    page.log_in().await;
    let first = page.cookie.clone();
    page.log_in().await;
    let number = page.site.admin.page_sessions().list()[1].number;
    assert_eq!(page.post(&format!("/sessions/{number}/end"), &[]).await.status, 303);
    let lines = page.get("/audit").await.text();
    assert_eq!(lines.matches("<b>closed</b> page-session").count(), 2, "{lines}");
    assert_eq!(page.site.bare(Method::GET, "/keys", &[("cookie", &first)], "").await.status, 303);
    assert_eq!(page.post(&format!("/sessions/{number}/end"), &[]).await.status, 404, "nobody is there any more");
}

#[tokio::test]
async fn a_refused_attempt_is_shown_with_its_reason_and_where_its_credential_was() {
    let page = Page::open().await;
    let unknown = keygate::keys::ApiKey::generate(keygate::keys::KeyId::from_u64(4711)).expect("a key");
    page.site.rig.sweep.keep_secret(unknown.expose());
    let target = format!("/api/libraries?token={}", unknown.expose());
    assert_eq!(client::get(page.site.rig.address, &target, &[]).await.status, 401);
    let usage = &page.site.rig.keep().usage;
    let name = page.site.rig.config.upstreams[0].name.to_string();
    crate::support::until("it is counted", || {
        usage.totals().expect("read").get(&name).is_some_and(|of| of.refusals.contains_key("unknown-key"))
    })
    .await;
    usage.finish().expect("written");
    let line = page.site.get("/api/audit?sort=notices&limit=1", &page.site.all).await.json()["entries"][0].clone();
    let expected = json!([{"name": "why", "after": "unknown-key"}, {"name": "times", "after": "1"}, {"name": "carrier", "after": "token"}]);
    assert_eq!(line["fields"], expected, "{line}");
    let shown = page.get("/refused").await.text();
    for (name, after) in [("why", "unknown-key"), ("times", "1"), ("carrier", "token")] {
        assert!(shown.contains(&format!("<span class=\"faint\">{name}</span> {after}")), "{shown}");
    }
}
