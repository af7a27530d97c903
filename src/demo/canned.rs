//! Answers that a test orders word by word, and content codings that nobody asked for.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::answer;
use super::body::{Body, full};

/// An answer to every request but log-ins and refreshes.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    /// Status; 0 is 200.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// Bytes of each piece that it is sent in, without a length; 0: as a whole, with one.
    pub pieces: usize,
    /// Who asks for a range, whichever, gets the first byte as a 206.
    pub in_ranges: bool,
}

impl Canned {
    /// A body of some type.
    pub fn of(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }.with("content-type", content_type)
    }

    /// With a header line.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In ranges where they are asked for.
    #[must_use]
    pub const fn in_ranges(mut self) -> Self {
        self.in_ranges = true;
        self
    }

    /// What is answered to a request that asks for a range.
    pub(super) fn ranged(self) -> Self {
        if !self.in_ranges {
            return self;
        }
        let range = format!("bytes 0-0/{}", self.body.len());
        Self { body: self.body.slice(..1), ..self }.status(206).with("content-range", &range)
    }

    /// With a status.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// In pieces of so many bytes.
    #[must_use]
    pub const fn in_pieces(mut self, bytes: usize) -> Self {
        self.pieces = bytes;
        self
    }

    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = answer::empty(StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK));
        for (name, value) in &self.headers {
            if let Ok(name) = HeaderName::try_from(name.as_str()) {
                answer::append(&mut response, name, value);
            }
        }
        *response.body_mut() = match self.pieces {
            0 => full(self.body.clone()),
            size => {
                let mut rest = self.body.clone();
                let pieces = std::iter::from_fn(|| (!rest.is_empty()).then(|| rest.split_to(size.min(rest.len())))).collect();
                Pieces { pieces, pauses: false }.boxed_unsync()
            }
        };
        response
    }
}

/// Pieces that are flushed one by one.
struct Pieces {
    pieces: VecDeque<Bytes>,
    pauses: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pauses = !self.pauses;
        if self.pauses {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

/// The answer in a content coding: `gzip`, `deflate`, `br`; any other name is written over a body that stays as it is. Media stay plain.
pub(super) async fn coded(response: Response<Body>, coding: &str) -> Response<Body> {
    let is_media = |value: &HeaderValue| ["audio/", "video/", "image/"].iter().any(|kind| value.as_bytes().starts_with(kind.as_bytes()));
    if response.headers().get(CONTENT_TYPE).is_some_and(is_media) || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(whole) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return answer::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let whole: Bytes = match coding {
        "gzip" => gzip(&whole).into(),
        "deflate" => deflate(&whole).into(),
        "br" => brotli(&whole).into(),
        _ => whole,
    };
    head.headers.remove(CONTENT_LENGTH);
    // As Express and Kestrel do: a coded body is another representation, which a strong tag would not be right for.
    if let Some(tag) = head.headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned()
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        head.headers.insert(ETAG, weak);
    }
    if let Ok(value) = HeaderValue::from_str(coding) {
        head.headers.insert(CONTENT_ENCODING, value);
    }
    Response::from_parts(head, full(whole))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Nothing fails in memory.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

/// Uncompressed meta-blocks (RFC 7932, section 9.2): no encoder is needed for them.
fn brotli(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, block) in text.chunks(1 << 16).enumerate() {
        // The first block has the window's one bit (0: 64 KiB) in front. Then: not the last, 4 nibbles of a length, the length less one,
        // not compressed; the rest of the byte is empty.
        let length = u32::try_from(block.len() - 1).unwrap_or(0);
        let (bits, count) = if number == 0 { (length << 4 | 1 << 20, 3) } else { (length << 3 | 1 << 19, 3) };
        bytes.extend_from_slice(&bits.to_le_bytes()[..count]);
        bytes.extend_from_slice(block);
    }
    // The last block, and it is empty.
    bytes.push(if text.is_empty() { 0b110 } else { 0b11 });
    bytes
}
