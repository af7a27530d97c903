//! Refusals for people: where a browser asks for a page to show, it is shown one, with the status and the headers of the refusal.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::admin::guard::is_interface;

/// What browsers say of what they want an answer for (W3C Fetch Metadata).
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The sentence of a refusal, among the extensions of its answer.
#[derive(Clone, Debug)]
pub(super) struct Said(pub(super) String);

/// Writes a page that says why something was refused.
pub type Refusals = fn(StatusCode, &str) -> String;

/// Whether a person's browser asks for a page. What a page loads for itself, and programs, read JSON: some of these say `Accept: text/html`
/// too (Java's own client does), which counts at the interface only where a browser says more.
pub(super) fn is_navigation(request: &Request) -> bool {
    let says = request.headers().get(FETCH_MODE);
    let is_page = says.map_or_else(|| !is_interface(request.uri().path()), |mode| mode == "navigate");
    is_page && accepts_html(request.headers())
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        // RFC 9110, section 12.4.2: a weight of 0 means "not acceptable".
        is_html && !parts.filter_map(|part| part.split_once('=')).any(|(name, weight)| name.eq_ignore_ascii_case("q") && is_zero(weight))
    })
}

fn is_zero(weight: &str) -> bool {
    weight.trim().bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// The page in place of the JSON, if the answer is a refusal.
pub(super) fn dressed(mut response: Response, refusals: Refusals) -> Response {
    let Some(Said(sentence)) = response.extensions_mut().remove::<Said>() else { return response };
    let page = refusals(response.status(), &sentence);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(page);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(path: &str, accept: &[&str], mode: Option<&str>) -> bool {
        let mut request = http::Request::get(path);
        for line in accept {
            request = request.header(header::ACCEPT, *line);
        }
        if let Some(mode) = mode {
            request = request.header(FETCH_MODE, mode);
        }
        is_navigation(&request.body(Body::empty()).expect("a request"))
    }

    #[test]
    fn browsers_that_go_somewhere_are_shown_pages_and_nobody_else_is() {
        const CHROMIUM: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
        assert!(asks("/keys", &[CHROMIUM], None) && asks("/keys", &[CHROMIUM], Some("navigate")));
        assert!(asks("/keys", &["application/json", "TEXT/HTML; q=0.1"], None), "in any line, by any weight");
        assert!(asks("/api/status", &[CHROMIUM], Some("navigate")));
        for (path, accept, mode) in [
            ("/keys", "*/*", None),
            ("/keys", "", None),
            ("/keys", "application/json, text/plain", None),
            ("/keys", "text/html;q=0", None),
            ("/keys", "text/html; Q=0.000, application/json", None),
            ("/keys", "text/html-not", None),
            ("/keys", CHROMIUM, Some("cors")),
            ("/keys", CHROMIUM, Some("no-cors")),
            ("/api/status", "text/html, image/gif, image/jpeg, */*; q=0.2", None),
            ("/Auth/Keys", CHROMIUM, None),
        ] {
            assert!(!asks(path, &[accept], mode), "{path} {accept} {mode:?}");
        }
        assert!(!asks("/keys", &[], None));
    }
}
