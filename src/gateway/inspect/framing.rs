//! How long the body is, in one way of reading only (RFC 9112, section 6). A shared upstream connection stands and falls with it.

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::Refused;
use super::names::Seen;

/// The body of a request, by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Neither length nor coding: no body on HTTP/1, perhaps one on HTTP/2.
    Unsaid,
    /// `Content-Length`.
    Exact(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Judges `Content-Length` and `Transfer-Encoding`.
pub(super) fn length(headers: &HeaderMap, version: Version, seen: Seen) -> Result<Length, Refused> {
    match (seen.length, seen.transfer_encoding) {
        (false, false) => Ok(Length::Unsaid),
        (true, true) => Err(Refused::Framing),
        (false, true) => {
            let chunked = only(headers, &TRANSFER_ENCODING)?.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked && version == Version::HTTP_11 { Ok(Length::Chunked) } else { Err(Refused::Framing) }
        }
        (true, false) => number(only(headers, &CONTENT_LENGTH)?.as_bytes()).map(Length::Exact).ok_or(Refused::Framing),
    }
}

/// Whether the client waits for `100 Continue`.
pub(super) fn expects_continue(headers: &HeaderMap, seen: Seen) -> Result<bool, Refused> {
    if !seen.expect {
        return Ok(false);
    }
    let value = only(headers, &EXPECT).map_err(|_| Refused::Expectation)?;
    if value.as_bytes().eq_ignore_ascii_case(b"100-continue") { Ok(true) } else { Err(Refused::Expectation) }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h HeaderValue, Refused> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).ok_or(Refused::Framing)
}

/// One to nineteen digits in their only spelling: no sign, no leading zero.
fn number(text: &[u8]) -> Option<u64> {
    let canonical = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text[0] != b'0');
    canonical.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}
