//! Headers of an answer: none that tells a client what only keygate may know, none with a credential in it.

use std::borrow::Cow;
use std::ops::Range;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::carrier::strip::{Found, Names, names};
use crate::scrub::Leak;

/// Between the upstream and keygate alone: challenges name its own carriers, timings its insides. (Cookies are `gateway::shares` business, and
/// gone already but for those of share pages; `Proxy-Authenticate` is hop-by-hop.)
static DROPPED: Names<5> = names!["set-cookie2", "www-authenticate", "authentication-info", "proxy-authentication-info", "server-timing"];

/// What servers, Express and Kestrel write of themselves, in which no credential has a place: not searched.
static HARMLESS: Names<35> = names![
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "pragma",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "referrer-policy",
    "retry-after",
    "server",
    "strict-transport-security",
    "vary",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-response-time-ms",
    "x-xss-protection",
];

/// How the value of one header, or a URL in it, is scrubbed; `None`: it stays.
pub(super) type Scrub<'a> = dyn FnMut(Value, &[u8]) -> Result<Option<Vec<u8>>, Leak> + 'a;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A URL and nothing else.
    Url,
    /// Anything.
    Text,
}

/// Cleans all headers of an answer: drops what is dropped, and has every value scrubbed in which a credential may stand.
pub(super) fn clean(headers: &mut HeaderMap, scrub: &mut Scrub<'_>) -> Result<(), Leak> {
    let mut dropped = Found::default();
    let mut tokens = Vec::new();
    for (name, value) in headers.iter_mut() {
        if HARMLESS.place_of(name).is_some() {
            continue;
        }
        if let Some(place) = DROPPED.place_of(name) {
            dropped.note(place);
        } else if is_token(name) {
            tokens.push(name.clone());
        } else if let Some(scrubbed) = scrubbed(name, value.as_bytes(), scrub)? {
            // What was a header's value and lost a credential, or got a ticket, is one.
            *value = HeaderValue::from_maybe_shared(scrubbed).map_err(|_| Leak::Spelling)?;
        }
    }
    dropped.remove_from(headers, &DROPPED);
    for name in tokens {
        headers.remove(name);
    }
    Ok(())
}

fn scrubbed(name: &HeaderName, value: &[u8], scrub: &mut Scrub<'_>) -> Result<Option<Vec<u8>>, Leak> {
    let url = match name.as_str() {
        "location" | "content-location" => return scrub(Value::Url, value),
        "link" => between(value, b"<", b">"),
        "refresh" => between(value, b"url=", b""),
        _ => None,
    };
    let mut whole = None;
    if let Some(range) = url
        && let Some(url) = scrub(Value::Url, &value[range.clone()])?
    {
        whole = Some([&value[..range.start], &url, &value[range.end..]].concat());
    }
    Ok(scrub(Value::Text, whole.as_deref().unwrap_or(value))?.or(whole))
}

/// Where the first URL of a value stands: after `before` in any letter case, up to `after` (empty: to the end), without quotes.
fn between(value: &[u8], before: &[u8], after: &[u8]) -> Option<Range<usize>> {
    let start = value.windows(before.len()).position(|window| window.eq_ignore_ascii_case(before))? + before.len();
    let rest = &value[start..];
    let end = if after.is_empty() { Some(rest.len()) } else { rest.windows(after.len()).position(|window| window == after) }?;
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b' ');
    let front = rest[..end].iter().take_while(|byte| is_quote(byte)).count();
    let back = rest[front..end].iter().rev().take_while(|byte| is_quote(byte)).count();
    Some(start + front..start + end - back)
}

/// `X-Access-Token` and the like.
fn is_token(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-") && name.ends_with("-token")
}

/// What a key shows its holder is for no cache that others share: `public` becomes `private`, and what says nothing is private too.
pub(super) fn keep_private(headers: &mut HeaderMap) {
    const PRIVATE: HeaderValue = HeaderValue::from_static("private");
    let mut lines = headers.get_all(CACHE_CONTROL).iter();
    let value = match (lines.next(), lines.next()) {
        (None, _) => PRIVATE,
        (Some(line), None) => match private(line.as_bytes()) {
            Cow::Borrowed(_) => return,
            Cow::Owned(value) => HeaderValue::from_maybe_shared(value).unwrap_or(PRIVATE),
        },
        // Several lines are one list.
        (Some(_), Some(_)) => {
            let all: Vec<_> = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&private(&all.join(&b", "[..]))).unwrap_or(PRIVATE)
        }
    };
    headers.insert(CACHE_CONTROL, value);
}

/// A list of directives as no shared cache may mistake it.
fn private(value: &[u8]) -> Cow<'_, [u8]> {
    let directives = || value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|directive| !directive.is_empty());
    let is = |directive: &[u8], name: &str| directive.eq_ignore_ascii_case(name.as_bytes());
    let is_shared = |directive: &[u8]| is(directive, "public") || directive.len() > 8 && is(&directive[..9], "s-maxage=");
    let is_private = directives().any(|directive| is(directive, "private") || is(directive, "no-store"));
    if is_private && !directives().any(is_shared) {
        return Cow::Borrowed(value);
    }
    let mut kept: Vec<_> = directives().filter(|directive| !is_shared(directive)).collect();
    if !is_private {
        kept.insert(0, b"private");
    }
    Cow::Owned(kept.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_between_the_upstream_and_keygate_alone_is_dropped() {
        let mut headers = map(&[
            ("set-cookie2", "a=b"),
            ("www-authenticate", "Basic"),
            ("authentication-info", "x"),
            ("server-timing", "db"),
            ("x-access-token", "x"),
            ("x-token-count", "3"),
            ("content-type", "a/b"),
        ]);
        clean(&mut headers, &mut |_, _| Ok(None)).expect("nothing found");
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "x-token-count"]);
    }

    #[test]
    fn values_in_which_a_credential_may_stand_are_scrubbed_and_usual_ones_are_not_even_read() {
        let mut headers = map(&[
            ("location", "/x?t=1"),
            ("link", "<http://a/b>; rel=next"),
            ("refresh", "0; URL='http://a/c'"),
            ("etag", "\"a\""),
            ("x-other", "b"),
        ]);
        let mut read = Vec::new();
        let mut scrub = |what: Value, value: &[u8]| {
            read.push((what, String::from_utf8_lossy(value).into_owned()));
            Ok((what == Value::Url).then(|| b"/x".to_vec()))
        };
        clean(&mut headers, &mut scrub).expect("nothing refused");
        read.sort_by(|a, b| a.1.cmp(&b.1));
        let texts: Vec<_> = read.iter().map(|(what, text)| (*what, text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (Value::Url, "/x?t=1"),
                (Value::Text, "0; URL='/x'"),
                (Value::Text, "</x>; rel=next"),
                (Value::Text, "b"),
                (Value::Url, "http://a/b"),
                (Value::Url, "http://a/c"),
            ]
        );
        assert_eq!(headers["location"], "/x");
        assert_eq!(headers["link"], "</x>; rel=next");
        assert_eq!(headers["refresh"], "0; URL='/x'");
        assert_eq!(clean(&mut headers, &mut |_, _| Err(Leak::Spelling)), Err(Leak::Spelling));
    }

    #[test]
    fn no_shared_cache_keeps_what_a_key_showed() {
        for (lines, wanted) in [
            (&[][..], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["Public"], "private"),
            (&["max-age=60"], "private, max-age=60"),
            (&["private, max-age=60"], "private, max-age=60"),
            (&["no-store"], "no-store"),
            (&["no-store, public"], "no-store"),
            (&["private, s-maxage=60"], "private"),
            (&["no-cache", "public"], "private, no-cache"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            keep_private(&mut headers);
            let all: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(all, [wanted], "{lines:?}");
        }
    }
}
