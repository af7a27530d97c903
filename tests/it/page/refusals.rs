//! Refusals, as a person's browser is shown them and as programs read them: the same status and headers, a page or JSON.

use http::Method;

use super::{Page, form};
use crate::support::http::{self as client, Answer};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// What both forms of a refusal have in common: all headers but those of the body, and of the moment.
fn common(answer: &Answer) -> Vec<(String, String)> {
    let of_body = ["content-type", "content-length", "date"];
    let mut lines: Vec<_> = answer.headers.iter().map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    lines.retain(|(name, _)| !of_body.contains(&name.as_str()));
    lines.sort();
    lines
}

/// Asks the same as a program and as a browser. The page's text.
async fn both(page: &Page, method: &Method, path: &str, headers: &[(&str, &str)], body: &str, status: u16) -> String {
    let as_program = page.site.bare(method.clone(), path, headers, body.to_owned()).await;
    assert_eq!(as_program.status, status, "{method} {path}: {}", as_program.text());
    assert_eq!(as_program.header("content-type"), Some("application/json"), "{path}");
    let message = as_program.json()["message"].as_str().expect("a message").to_owned();
    let mut browser = headers.to_vec();
    browser.extend([("accept", BROWSER), ("sec-fetch-mode", "navigate")]);
    let as_browser = page.site.bare(method.clone(), path, &browser, body.to_owned()).await;
    assert_eq!(as_browser.status, status, "{method} {path}");
    assert_eq!(as_browser.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    assert_eq!(common(&as_program), common(&as_browser), "{method} {path}");
    let text = as_browser.text();
    let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    assert!(text.starts_with("<!DOCTYPE html>") && text.contains(&escaped), "{message}: {text}");
    assert!(text.contains("<main") && text.contains("<h1>") && text.contains("lang=\"en\""), "{text}");
    text
}

#[tokio::test]
async fn a_browser_is_shown_a_page_for_each_refusal_and_a_program_reads_json() {
    let page = Page::open().await;
    let (get, post) = (Method::GET, Method::POST);
    let own = [("cookie", page.cookie.as_str()), ("origin", page.origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let foreign = [own[0], ("origin", "http://evil.test"), own[2]];
    let layout = "<header class=\"bar\">";
    for (method, path, headers, body, status) in [
        (&get, "/nowhere", &own[..1], "", 404),
        (&get, "/nowhere/%3Cscript%3Ealert(1)%3C%2Fscript%3E", &[][..], "", 404),
        (&Method::DELETE, "/keys", &[][..], "", 405),
        (&get, "/logout", &own[..1], "", 405),
        (&Method::PATCH, "/api/status", &[][..], "", 405),
        (&get, "/api/status", &[][..], "", 401),
        (&get, "/api/status?token=kga_x", &[][..], "", 400),
        (&post, "/logout", &own[..], "csrf=wrong", 403),
        (&post, "/login", &foreign[..], "password=x", 403),
        (&post, "/logout", &[own[0], own[1], ("content-type", "text/plain")][..], "csrf=x", 415),
        (&Method::OPTIONS, "/keys", &[][..], "", 403),
    ] {
        let text = both(&page, method, path, headers, body, status).await;
        assert!(text.contains(layout) && !text.contains("<script>") && !text.contains("evil.test"), "{path}: {text}");
    }
    let large = form(&[("csrf", &page.csrf), ("name", &"x".repeat(70_000))]);
    both(&page, &post, "/keys/new", &own, &large, 413).await;
    for _ in 0..20 {
        page.site.bare(Method::GET, "/api/status", &[("authorization", "Bearer kga_no")], "").await;
    }
    let throttled = both(&page, &get, "/api/status", &[("authorization", "Bearer kga_no")], "", 429).await;
    assert!(throttled.contains("try again in"), "{throttled}");
    assert_eq!(page.get("/keys").await.status, 200, "and whoever is logged in goes on");
}

#[tokio::test]
async fn by_a_foreign_name_a_page_is_shown_that_loads_nothing_and_repeats_nothing() {
    let page = Page::open().await;
    for host in ["evil.test", "<script>alert(1)</script>", "\"><img/src=x>"] {
        let lines = [("host", host.as_bytes()), ("accept", BROWSER.as_bytes()), ("connection", b"close".as_slice())];
        let answer = client::raw(page.site.address, &client::head("GET", "/keys/<b>", &lines)).await;
        // What is no request at all is refused before this.
        if client::status_of(&answer) == 400 {
            continue;
        }
        assert_eq!(client::status_of(&answer), 421, "{answer}");
        assert!(answer.contains("text/html; charset=utf-8") && answer.contains("frame-ancestors 'none'"), "{answer}");
        assert!(answer.contains("this host name is none of the admin listener"), "{answer}");
        for word in ["/assets/", "href", "src", "<script", "<img", "evil", "<b>"] {
            assert!(!answer.contains(word), "{word} in {answer}");
        }
    }
    let lines = [("host", b"evil.test".as_slice()), ("accept", BROWSER.as_bytes()), ("connection", b"close".as_slice())];
    assert_eq!(client::status_of(&client::raw(page.site.address, &client::head("GET", "/keys", &lines)).await), 421, "it was one of these");
}
