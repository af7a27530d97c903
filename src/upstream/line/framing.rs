//! Where bodies end (RFC 9112, sections 6 and 7): the request's as it is sent, the answer's as it is read.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use http_body::Body;

use super::Broken;
use super::chunks::Chunks;
use super::head::Head;
use crate::forward::body::RequestBody;

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Nobody knows beforehand.
    Chunked,
}

impl Extent {
    pub(super) fn of(body: &RequestBody) -> Self {
        match body.size_hint().exact() {
            _ if body.is_end_stream() => Self::Nothing,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }
}

/// What is still to come of an answer's body.
#[derive(Debug)]
pub(super) enum Left {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunks(Chunks),
    /// All until the connection closes.
    UntilClose,
}

impl Left {
    /// No more.
    pub(super) const NOTHING: Self = Self::Length(0);

    /// Of the answer to a request (RFC 9112, section 6.3). `is_head`: its method was HEAD.
    ///
    /// # Errors
    /// [`Broken::Length`].
    pub(super) fn of(head: &Head, is_head: bool) -> Result<Self, Broken> {
        let has_none =
            is_head || head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none {
            return Ok(Self::NOTHING);
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            // Whoever sends both a coding and a length, or another coding, is refused by who looks at the head.
            return Ok(if ends_chunked(&head.headers) { Self::Chunks(Chunks::default()) } else { Self::UntilClose });
        }
        Ok(length(&head.headers)?.map_or(Self::UntilClose, Self::Length))
    }

    /// Whether it has come to its end.
    pub(super) const fn is_nothing(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Bytes still to come, where that is known.
    pub(super) const fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunks(chunks) if chunks.is_done() => Some(0),
            Self::Chunks(_) | Self::UntilClose => None,
        }
    }

    /// Takes what there is of the body off the front of `inbox`; empty: nothing is there.
    ///
    /// # Errors
    /// [`Broken::Chunks`].
    pub(super) fn take(&mut self, inbox: &mut BytesMut) -> Result<Bytes, Broken> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
                *left -= here as u64;
                Ok(inbox.split_to(here).freeze())
            }
            Self::Chunks(chunks) => chunks.take(inbox),
            Self::UntilClose => Ok(inbox.split().freeze()),
        }
    }

    /// The connection has closed.
    ///
    /// # Errors
    /// [`Broken::Closed`] unless that is how it ends.
    pub(super) const fn close(&mut self) -> Result<(), Broken> {
        if let Self::UntilClose = self {
            *self = Self::NOTHING;
        }
        if self.is_nothing() { Ok(()) } else { Err(Broken::Closed) }
    }
}

/// Whether the last transfer coding is `chunked`.
fn ends_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    let coding = last.and_then(|value| value.as_bytes().rsplit(|&byte| byte == b',').next());
    coding.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The one number that all `Content-Length` lines say (RFC 9110, section 8.6); `None`: there are none.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let Some(first) = lines.next().map(number) else { return Ok(None) };
    let same = lines.all(|other| number(other) == first);
    first.filter(|_| same).map(Some).ok_or(Broken::Length)
}

/// Digits alone: a sign, which Rust's own parser would take, is not HTTP.
fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// What goes around a request's data.
#[derive(Debug)]
pub(super) struct Wrapping {
    extent: Extent,
}

impl Wrapping {
    pub(super) const fn new(extent: Extent) -> Self {
        Self { extent }
    }

    /// Before `data`, written to the end of `out`, and after it. `is_last`: nothing follows.
    ///
    /// # Errors
    /// [`Broken::BodyLength`].
    pub(super) fn wrap(&mut self, data: &Bytes, is_last: bool, out: &mut Vec<u8>) -> Result<&'static [u8], Broken> {
        use std::io::Write as _;
        match &mut self.extent {
            Extent::Chunked if data.is_empty() => Ok(if is_last { b"0\r\n\r\n" } else { b"" }),
            Extent::Chunked => {
                // Writing to memory does not fail.
                let _ = write!(out, "{:x}\r\n", data.len());
                Ok(if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" })
            }
            Extent::Nothing if data.is_empty() => Ok(b""),
            Extent::Nothing => Err(Broken::BodyLength),
            Extent::Length(left) => {
                *left = left.checked_sub(data.remaining() as u64).ok_or(Broken::BodyLength)?;
                // A body that ends early would make the beginning of the next request a part of this one.
                if is_last && *left > 0 { Err(Broken::BodyLength) } else { Ok(b"") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    fn left(status: u16, headers: &[(&'static str, &'static str)], is_head: bool) -> Result<Left, Broken> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let head =
            Head { version: Version::HTTP_11, status: StatusCode::from_u16(status).expect("a status"), headers: map, keeps_alive: true };
        Left::of(&head, is_head)
    }

    #[test]
    fn an_answer_without_a_body_has_none_whatever_its_head_says() {
        for (status, is_head) in [(200, true), (204, false), (304, false), (101, false)] {
            for headers in [&[("content-length", "7")][..], &[("transfer-encoding", "chunked")], &[("content-length", "x")], &[]] {
                assert!(left(status, headers, is_head).expect("no error").is_nothing(), "{status} {headers:?}");
            }
        }
    }

    #[test]
    fn a_coding_counts_before_a_length_and_without_either_the_connection_ends_it() {
        assert!(matches!(left(200, &[("content-length", "7")], false), Ok(Left::Length(7))));
        assert!(matches!(left(200, &[("content-length", "7"), ("transfer-encoding", "Chunked")], false), Ok(Left::Chunks(_))));
        assert!(matches!(left(200, &[("transfer-encoding", "gzip, chunked")], false), Ok(Left::Chunks(_))));
        assert!(matches!(left(200, &[("transfer-encoding", "chunked, gzip")], false), Ok(Left::UntilClose)));
        assert!(matches!(left(200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "gzip")], false), Ok(Left::UntilClose)));
        assert!(matches!(left(200, &[], false), Ok(Left::UntilClose)));
    }

    #[test]
    fn a_length_is_one_number_however_often_it_is_said() {
        assert!(matches!(left(200, &[("content-length", "7"), ("content-length", "7, 007")], false), Ok(Left::Length(7))));
        for wrong in ["", "+7", "-7", "7 7", "0x7", "7,8", "7,", "7;", "99999999999999999999999"] {
            assert!(matches!(left(200, &[("content-length", wrong)], false), Err(Broken::Length)), "{wrong}");
        }
        assert!(matches!(left(200, &[("content-length", "7"), ("content-length", "8")], false), Err(Broken::Length)));
    }

    #[test]
    fn a_body_takes_its_bytes_and_no_more_and_an_early_end_is_noticed() {
        let mut inbox = BytesMut::from(&b"hello and more"[..]);
        let mut of_length = Left::Length(5);
        assert_eq!((&of_length.take(&mut inbox).expect("data")[..], &inbox[..]), (&b"hello"[..], &b" and more"[..]));
        assert!(of_length.is_nothing() && of_length.close().is_ok());
        assert!(matches!(Left::Length(1).close(), Err(Broken::Closed)));
        assert!(matches!(Left::Chunks(Chunks::default()).close(), Err(Broken::Closed)));
        let mut open = Left::UntilClose;
        assert_eq!(&open.take(&mut inbox).expect("data")[..], b" and more");
        assert!(!open.is_nothing() && open.close().is_ok() && open.is_nothing());
    }

    #[test]
    fn a_request_is_never_longer_or_shorter_than_its_head_said() {
        let wrap = |extent, pieces: &[&'static str]| {
            let (mut wrapping, mut out) = (Wrapping::new(extent), Vec::new());
            for (place, piece) in pieces.iter().enumerate() {
                let data = Bytes::from_static(piece.as_bytes());
                let after = wrapping.wrap(&data, place + 1 == pieces.len(), &mut out)?;
                out.extend_from_slice(&data);
                out.extend_from_slice(after);
            }
            Ok::<_, Broken>(String::from_utf8(out).expect("text"))
        };
        assert_eq!(wrap(Extent::Length(5), &["he", "", "llo"]).expect("right"), "hello");
        assert_eq!(wrap(Extent::Nothing, &[""]).expect("right"), "");
        assert_eq!(wrap(Extent::Chunked, &["0123456789abcdef", "", "x"]).expect("right"), "10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\n");
        assert_eq!(wrap(Extent::Chunked, &["x", ""]).expect("right"), "1\r\nx\r\n0\r\n\r\n");
        for (extent, pieces) in [(Extent::Length(5), &["hell"][..]), (Extent::Length(5), &["hello", "!"]), (Extent::Nothing, &["!"])] {
            assert!(matches!(wrap(extent, pieces), Err(Broken::BodyLength)), "{pieces:?}");
        }
    }
}
