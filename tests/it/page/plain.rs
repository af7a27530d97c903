//! The page without a browser: what it refuses, what it escapes, what it never shows twice, how large it is.

use std::time::Duration;

use http::Method;
use keygate::clock::Clock as _;
use keygate::keys::Scopes;
use keygate::registry::NewKey;

use super::{Page, between, form};
use crate::admin_listener::{PASSWORD, Site};
use crate::support::http as client;

/// Pages that need no key.
const PAGES: [&str; 8] = ["/keys", "/keys/new", "/accounts", "/refused", "/audit", "/status", "/sessions", "/keys?state=revoked&sort=name"];
/// Most bytes of a page with all that it loads.
const MOST: usize = 40_000;

#[tokio::test]
async fn nothing_is_shown_without_a_login_and_nothing_is_done() {
    let page = Page::open().await;
    let key = page.make("mine").await;
    let (_, secret) = page.secret(&key).await;
    for path in PAGES.into_iter().chain([key.as_str(), "/", &format!("{key}/secret"), &format!("{key}/revoke")]) {
        for cookie in ["", "keygate=", "keygate=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let answer = page.site.bare(Method::GET, path, &[("cookie", cookie)], "").await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("location")),
                (303, Some(if path == "/" { "/keys" } else { "/login" })),
                "{path}"
            );
            assert!(answer.body.is_empty());
        }
        // A token is for programs: it opens the interface, and not the page.
        let token = format!("Bearer {}", page.site.all.expose());
        let answer = page.site.bare(Method::GET, path, &[("authorization", &token)], "").await;
        assert_eq!(answer.status, 303, "{path}");
    }
    let body = form(&[("name", "mine"), ("csrf", &page.csrf)]);
    for path in [format!("{key}/revoke"), format!("{key}/disable"), format!("{key}/rotate"), "/keys/new".to_owned(), "/logout".to_owned()] {
        let answer = page.post_as("", &path, &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/login")), "{path}");
    }
    assert_eq!(page.status(&secret).await, 200, "the key is as good as before");
}

#[tokio::test]
async fn a_change_without_the_sessions_token_or_from_another_site_is_refused() {
    let page = Page::open().await;
    let key = page.make("mine").await;
    let (_, secret) = page.secret(&key).await;
    let other = Page::open().await;
    let revoke = format!("{key}/revoke");
    for token in ["", "x", other.csrf.as_str()] {
        let answer = page.post_as(&page.cookie, &revoke, &form(&[("csrf", token), ("name", "mine")])).await;
        assert_eq!(answer.status, 403, "{token}");
    }
    let good = form(&[("csrf", &page.csrf), ("name", "mine")]);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for from in [("origin", "http://evil.test"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")] {
        let headers = [("cookie", page.cookie.as_str()), from, kind];
        assert_eq!(page.site.bare(Method::POST, &revoke, &headers, good.clone()).await.status, 403, "{from:?}");
    }
    // Without any word of where it comes from, and as what another site's form could send.
    assert_eq!(page.site.bare(Method::POST, &revoke, &[("cookie", page.cookie.as_str()), kind], good.clone()).await.status, 403);
    let headers = [("cookie", page.cookie.as_str()), ("origin", page.origin.as_str()), ("content-type", "text/plain")];
    assert_eq!(page.site.bare(Method::POST, &revoke, &headers, good.clone()).await.status, 415);
    // A login that another site's page sends, to have people work in the wrong session.
    let headers = [("origin", "http://evil.test"), kind];
    assert_eq!(page.site.bare(Method::POST, "/login", &headers, form(&[("password", PASSWORD)])).await.status, 403);
    assert_eq!(page.status(&secret).await, 200, "none of them did anything");
    assert_eq!(page.post_as(&page.cookie, &revoke, &good).await.status, 303);
    assert_eq!(page.status(&secret).await, 401);
}

#[tokio::test]
async fn every_answer_forbids_frames_foreign_content_and_keeping_it() {
    let page = Page::open().await;
    let key = page.make("mine").await;
    for path in PAGES.into_iter().chain(["/login", "/keys/nothing", key.as_str(), &format!("{key}/secret")]) {
        let answer = page.get(path).await;
        if let Some(secret) = answer.text().split_once("id=\"secret\"").map(|(_, rest)| between(rest, "value=\"", "\"").to_owned()) {
            page.site.rig.sweep.allow(&secret, "it was just made, and is shown once");
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = answer.text();
        for inline in ["<style", " style=", "<script>", " onclick=", "javascript:", "http-equiv"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn what_strangers_and_operators_write_is_shown_as_text() {
    let page = Page::open().await;
    let name = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let key = page.make(name).await;
    let (shown, secret) = page.secret(&key).await;
    let agent = "<img/src=x>";
    let headers = [("authorization", &*format!("Bearer {secret}")), ("user-agent", agent)];
    assert_eq!(client::get(page.site.rig.address, "/api/libraries", &headers).await.status, 200);
    let usage = &page.site.rig.keep().usage;
    crate::support::until("it is counted", || usage.last_uses().expect("read").len() == 1).await;
    let mut seen_agent = 0;
    let mut texts = vec![shown.text()];
    for path in ["/keys", &*key, "/audit", &format!("{key}/revoke"), &format!("{key}/edit"), "/keys?q=%22%3E%3Cscript%3Ealert(2)"] {
        texts.push(page.get(path).await.text());
    }
    let refused = page.post(&format!("{key}/revoke"), &[("name", "</b><script>alert(3)")]).await;
    assert_eq!(refused.status, 400);
    texts.push(refused.text());
    texts.push(page.get("/keys?done=%3Cscript%3Ealert(4)").await.text());
    for text in texts {
        assert!(!text.contains("<script>") && !text.contains("<img src=x") && !text.contains("<img/src"), "{text}");
        seen_agent += text.matches("&lt;img/src=x&gt;").count();
    }
    assert!(seen_agent >= 3, "in the list, the detail and the question: {seen_agent}");
}

#[tokio::test]
async fn a_secret_is_shown_to_the_login_that_made_it_and_is_in_no_address() {
    let mut page = Page::open().await;
    let account = page.site.rig.account.id.0.to_string();
    let fields = [("name", "phone"), ("account", account.as_str()), ("expires", "30d"), ("preset", "dashboard")];
    let made = page.post("/keys/new", &fields).await;
    let location = made.header("location").unwrap().to_owned();
    assert!(made.status == 303 && made.body.is_empty() && !location.contains("kg_"), "{location}");
    let maker = (page.cookie.clone(), page.csrf.clone());
    page.log_in().await;
    assert!(page.get(&location).await.text().contains("shown already"), "to another login");
    (page.cookie, page.csrf) = maker;
    let (_, secret) = page.secret(location.strip_suffix("/secret").unwrap()).await;
    assert_eq!(page.status(&secret).await, 200);
}

#[tokio::test]
async fn a_reload_shows_no_secret_and_makes_no_second_key() {
    let page = Page::open().await;
    let key = page.make("phone").await;
    let head = page.site.bare(Method::HEAD, &format!("{key}/secret"), &[("cookie", &page.cookie)], "").await;
    assert_eq!(head.status, 200, "what looks without showing takes nothing away");
    let (shown, secret) = page.secret(&key).await;
    for carrier in ["Authorization: Bearer kg_", "X-Emby-Token: kg_", "?api_key=kg_"] {
        assert!(shown.text().contains(carrier), "{carrier}");
    }
    assert_eq!(page.status(&secret).await, 200);
    let again = page.get(&format!("{key}/secret")).await;
    assert!(again.text().contains("shown already") && !again.text().contains(&secret));
    assert_eq!(page.get("/keys").await.text().matches("<tr>").count(), 3, "the head, the site's own key, and this one");

    let rotated = page.post(&format!("{key}/rotate"), &[("overlap", "3600")]).await;
    assert_eq!(rotated.header("location"), Some(&*format!("{key}/secret")), "{}", rotated.text());
    let (_, new) = page.secret(&key).await;
    assert_eq!((page.status(&secret).await, page.status(&new).await), (200, 200), "the old one stays good for an hour");
    page.site.clock.advance(Duration::from_secs(3600));
    assert_eq!((page.status(&secret).await, page.status(&new).await), (401, 200));
}

#[tokio::test]
async fn keys_are_edited_disabled_enabled_and_revoked_by_forms() {
    let page = Page::open().await;
    let key = page.make("phone").await;
    let (_, secret) = page.secret(&key).await;
    let account = page.site.rig.account.id.0.to_string();
    let edit = |preset: &'static str| {
        let account = account.clone();
        let (page, key) = (&page, &key);
        async move {
            let fields = [("name", "tablet"), ("account", &*account), ("expires", "never"), ("preset", preset), ("scopes", "status")];
            page.post(&format!("{key}/edit"), &fields).await
        }
    };
    assert_eq!(edit("custom").await.header("location"), Some(&*format!("{key}?done=changed")));
    let shown = page.get(&key).await.text();
    assert!(shown.contains("<h1>tablet") && shown.contains("<small>status</small>"), "{shown}");
    assert_eq!(page.status(&secret).await, 403, "it may no longer browse");
    assert_eq!(edit("full").await.status, 303);
    for wrong in ["", "everything"] {
        let answer = edit(wrong).await;
        assert!(answer.status == 400 && answer.text().contains("role=\"alert\""), "{wrong}: {}", answer.text());
    }
    assert_eq!(page.post(&format!("{key}/disable"), &[]).await.status, 303);
    assert_eq!(page.status(&secret).await, 401);
    assert_eq!(page.post(&format!("{key}/enable"), &[]).await.status, 303);
    assert_eq!(page.status(&secret).await, 200);
    for wrong in ["", "phone", "TABLET"] {
        let answer = page.post(&format!("{key}/revoke"), &[("name", wrong)]).await;
        assert!(answer.status == 400 && answer.text().contains("nothing was revoked"), "{wrong}");
    }
    assert_eq!(page.status(&secret).await, 200);
    assert_eq!(page.post(&format!("{key}/revoke"), &[("name", "tablet")]).await.status, 303);
    assert_eq!(page.status(&secret).await, 401);
    let trail = page.get(&key).await.text();
    for verb in ["created", "changed", "revoked"] {
        assert!(trail.contains(&format!("<b>{verb}</b> key")), "{verb}: {trail}");
    }
    assert!(trail.contains("page (session 1)"), "{trail}");
    let again = page.post(&format!("{key}/revoke"), &[("name", "tablet")]).await;
    assert_eq!(again.status, 404, "{}", again.text());
}

#[tokio::test]
async fn a_login_ends_by_time_by_itself_and_by_another_and_wrong_passwords_are_slowed_down() {
    let mut page = Page::open().await;
    page.site.clock.advance(Duration::from_secs(3600));
    assert_eq!(page.get("/keys").await.status, 303, "an hour without a request");
    page.log_in().await;
    assert_eq!(page.post("/logout", &[]).await.header("location"), Some("/login"));
    assert_eq!(page.get("/keys").await.status, 303, "logged out");
    page.log_in().await;
    let number = page.site.admin.page_sessions().list()[0].number;
    assert_eq!(page.post(&format!("/sessions/{number}/end"), &[]).await.status, 303);
    assert_eq!(page.get("/keys").await.status, 303, "ended");
    for _ in 0..5 {
        let wrong = page.post_as("", "/login", "password=wrong").await;
        assert!(wrong.status == 401 && wrong.text().contains("the password is wrong") && wrong.header("set-cookie").is_none());
    }
    let slow = page.post_as("", "/login", &form(&[("password", PASSWORD)])).await;
    assert!(slow.status == 429 && slow.header("retry-after").is_some(), "{}", slow.text());
}

#[tokio::test]
async fn without_a_password_the_page_says_how_to_set_one() {
    let site = Site::start().await;
    let login = site.bare(Method::GET, "/login", &[], "").await;
    assert!(login.text().contains("keygate admin set-password") && !login.text().contains("<form"), "{}", login.text());
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let tried = site.bare(Method::POST, "/login", &headers, "password=").await;
    assert!(tried.header("set-cookie").is_none() && tried.status == 303);
}

#[tokio::test]
async fn an_accounts_password_is_tried_before_it_is_kept_and_never_shown() {
    let page = Page::open().await;
    let path = format!("/accounts/{}/password", page.site.rig.account.id.0);
    page.site.rig.sweep.keep_secret("wr0ng-upstream-password");
    let wrong = page.post(&path, &[("password", "wr0ng-upstream-password")]).await;
    assert!(wrong.status == 422 && wrong.text().contains("role=\"alert\""), "{}", wrong.text());
    assert!(!wrong.text().contains("wr0ng"));
    let right = page.post(&path, &[("password", crate::support::ALICE_PASSWORD)]).await;
    assert_eq!(right.header("location"), Some("/accounts?done=password"), "{}", right.text());
    let again = page.post(&format!("/accounts/{}/login", page.site.rig.account.id.0), &[]).await;
    assert_eq!(again.header("location"), Some("/accounts?done=logged-in"), "{}", again.text());
    assert!(page.get("/accounts").await.text().contains("logged in"));
}

/// A page with its style, script and icon.
async fn weight(page: &Page, path: &str) -> usize {
    let answer = page.get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    let (text, mut bytes) = (answer.text(), answer.body.len());
    let mut assets: Vec<&str> = text.split(['"', ' ']).filter(|part| part.starts_with("/assets/")).collect();
    assets.sort_unstable();
    assets.dedup();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for asset in assets {
        let answer = page.get(asset).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));
        bytes += answer.body.len();
    }
    assert!(!text.contains("src=\"http") && !text.contains("href=\"http") && !text.contains("src=\"//"), "{path} asks nobody else");
    bytes
}

#[tokio::test]
async fn every_page_is_below_40_kilobytes_with_all_that_it_loads() {
    let page = Page::open().await;
    let id = page.with_past();
    for number in 0..60 {
        page.make(&format!("one more key with a name that is long enough, number {number}")).await;
    }
    let of_key = ["", "/edit", "/rotate", "/disable", "/revoke"].map(|part| format!("/keys/{id}{part}"));
    let mut largest = (0, "");
    for path in PAGES.into_iter().chain(["/keys?sort=requests"]).chain(of_key.iter().map(String::as_str)) {
        largest = largest.max((weight(&page, path).await, path));
    }
    assert!(largest.0 < MOST, "{largest:?}");
}

#[tokio::test]
async fn ten_thousand_keys_are_listed_in_pages_searched_and_sorted() {
    let page = Page::open().await;
    let new = NewKey {
        name: "bulk".to_owned(),
        account: page.site.rig.account.id,
        expires_at: Some(page.site.clock.now().plus(Duration::from_secs(5 * 86_400))),
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    page.site.rig.keep().registry.create_keys(new, 10_000).expect("keys");
    let list = page.get("/keys").await.text();
    assert!(list.contains("10,001 keys") && list.contains("Page 1 of 501") && list.contains("expires in 5 d"), "{list}");
    let last = page.get("/keys?page=501").await.text();
    assert_eq!(last.matches("<tr>").count(), 2, "the head and the oldest key");
    assert!(page.get("/keys?page=100000").await.text().contains("Page 501 of 501"));
    assert!(page.get("/keys?page=-1").await.text().contains("Page 1 of 501"));
    let found = page.get("/keys?q=BULK-999&sort=name").await.text();
    assert!(found.contains("11 keys") && found.contains(">bulk-999<"), "bulk-999 and bulk-9990 to bulk-9999: {found}");
    let none = page.get("/keys?q=nobody&state=active").await.text();
    assert!(none.contains("0 keys"), "{none}");
    let next = between(&page.get("/keys?q=bulk&state=expiring&page=2").await.text(), "<nav class=\"pages\"", "</nav>").to_owned();
    assert!(next.contains("/keys?q=bulk&amp;state=expiring&amp;page=3") && next.contains("page=1\""), "{next}");
}

#[tokio::test]
async fn the_page_is_not_on_the_listener_of_media_servers() {
    let page = Page::open().await;
    for path in ["/login", "/keys", "/keys/new", "/sessions"] {
        let answer = client::get(page.site.rig.address, path, &[("cookie", &page.cookie)]).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().contains("keygate</title>"), "{path}");
    }
}

#[tokio::test]
async fn keys_that_expire_soon_are_marked_and_found() {
    let mut page = Page::open().await;
    let account = page.site.rig.account.id.0.to_string();
    for (name, expires) in [("soon", "30d"), ("later", "1y")] {
        let fields = [("name", name), ("account", account.as_str()), ("expires", expires), ("preset", "full")];
        assert_eq!(page.post("/keys/new", &fields).await.status, 303);
    }
    const HOUR: Duration = Duration::from_secs(3600);
    for (later, state, text) in [
        (23 * 24 * HOUR, "expiring", "expires in 7 d"),
        (6 * 24 * HOUR + HOUR, "expiring", "expires today"),
        (23 * HOUR, "expired", "expired"),
    ] {
        page.site.clock.advance(later);
        page.log_in().await;
        for asked in ["expiring", "expired"] {
            let list = page.get(&format!("/keys?state={asked}")).await.text();
            let rows = list.split("<tbody>").nth(1).unwrap_or_default();
            assert_eq!(rows.contains("soon") && rows.contains(text), asked == state, "{asked} after {later:?}: {list}");
            assert!(!rows.contains("later"), "{list}");
        }
    }
}
