//! Hop-by-hop headers (RFC 9110, section 7.6.1): removed from requests and from answers alike, first what `Connection` names, then
//! the fixed list. Whatever keygate adds is added after this.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName};

use crate::carrier::strip::{Found, Names, names};

/// `Expect` is no hop-by-hop header, but keygate answers it itself. `Content-Length` stays: it was judged to be one canonical
/// number, and the body is held to it.
static NAMES: Names<11> = names![
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Removes every hop-by-hop header from a request or an answer. For a WebSocket upgrade the caller then sets `Connection` and
/// `Upgrade` anew.
pub fn strip(headers: &mut HeaderMap) {
    let mut found = Found::default();
    let mut others = Vec::new();
    for (name, value) in &*headers {
        if let Some(place) = NAMES.place_of(name) {
            found.note(place);
            if place == 0 {
                others.extend(nominated(value.as_bytes()));
            }
        } else if name.as_str().starts_with("proxy-") {
            others.push(name.clone());
        }
    }
    for name in others {
        headers.remove(name);
    }
    found.remove_from(headers, &NAMES);
}

/// The names in a `Connection` value, but for those that are on the fixed list anyway and for `Content-Length`, without which
/// the message would have another framing.
fn nominated(value: &[u8]) -> impl Iterator<Item = HeaderName> {
    let usual =
        |name: &[u8]| name.is_empty() || [&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|usual| name.eq_ignore_ascii_case(usual));
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(move |name| !usual(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != CONTENT_LENGTH)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn the_fixed_list_and_all_proxy_headers_go() {
        let lines: Vec<_> = NAMES.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(lines.len(), 11);
        assert!(left(&lines).is_empty());
        assert_eq!(left(&[("proxy-anything", "x"), ("range", "bytes=0-")]), ["range"]);
    }

    #[test]
    fn what_connection_names_goes_in_any_case_and_from_several_lines() {
        let lines = [("connection", "close, X-One"), ("connection", ",x-two ,"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")];
        assert_eq!(left(&lines), ["x-three"]);
    }

    #[test]
    fn a_nominated_length_stays_since_the_framing_rests_on_it() {
        assert_eq!(left(&[("connection", "content-length"), ("content-length", "5")]), ["content-length"]);
    }

    #[test]
    fn a_connection_value_that_is_no_list_of_names_is_removed_and_harmless() {
        assert_eq!(left(&[("connection", "(( ,,@"), ("accept", "*/*")]), ["accept"]);
    }
}
