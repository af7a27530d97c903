//! Media files that come from arithmetic: a sine sweep as a WAV file, and a pattern of any length that takes no memory.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::body::{Body, MediaBody, full};

/// Samples per second of the WAV file.
const RATE: u32 = 44_100;
/// Seconds of the WAV file: 16 bit, one channel, about 2.6 MB.
pub(super) const SECONDS: u32 = 30;
/// Length of the pattern's period, a prime so that no power of two hides a shift.
const PERIOD: usize = 65_521;
/// Bytes that one frame of a body carries at most.
const CHUNK: usize = 64 * 1024;
/// When all files changed last.
const MODIFIED: &str = "Sat, 21 Nov 2026 23:15:57 GMT";

/// A file that can be read at any position.
#[derive(Clone)]
pub(super) enum Media {
    /// Bytes in memory.
    Bytes(Bytes),
    /// The pattern, so many bytes of it.
    Pattern(u64),
}

impl Media {
    /// The sine sweep.
    pub(super) fn wav() -> Self {
        static WAV: OnceLock<Bytes> = OnceLock::new();
        Self::Bytes(WAV.get_or_init(sweep).clone())
    }

    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pattern(length) => *length,
        }
    }

    /// Some bytes from `start`, at most up to `end` and at most 64 KiB. The pattern's byte at position `n` is `(n % 65521) * 31 / 7`, cut to a byte.
    pub(super) fn chunk(&self, start: u64, end: u64) -> Bytes {
        static PATTERN: OnceLock<Bytes> = OnceLock::new();
        let wanted = usize::try_from(end - start).unwrap_or(CHUNK).min(CHUNK);
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                bytes.slice(start..start + wanted)
            }
            Self::Pattern(_) => {
                #[expect(clippy::cast_possible_truncation, reason = "a byte of it is what is wanted")]
                let pattern = PATTERN.get_or_init(|| (0..PERIOD).map(|n| (n * 31 / 7) as u8).collect());
                let start = usize::try_from(start % PERIOD as u64).unwrap_or(0);
                pattern.slice(start..(start + wanted).min(PERIOD))
            }
        }
    }

    /// Answers a request for the file: 200, 206, 304 or 416, HEAD too, with a weak tag as Express makes it.
    pub(super) fn answer(&self, method: &Method, headers: &HeaderMap, content_type: &str) -> Response<Body> {
        let size = self.len();
        let tag = format!("W/\"{size:x}-1a2006521cd\"");
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let mut response = Response::new(full(""));
        set(&mut response, ETAG, &tag);
        set(&mut response, LAST_MODIFIED, MODIFIED);
        set(&mut response, ACCEPT_RANGES, "bytes");
        set(&mut response, CACHE_CONTROL, "public, max-age=0");
        let is_known = match text(IF_NONE_MATCH) {
            Some(tags) => tags.split(',').any(|one| one.trim() == "*" || is_same_tag(one, &tag)),
            None => text(IF_MODIFIED_SINCE) == Some(MODIFIED),
        };
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        // A weak tag never allows a part by RFC 9110 13.1.5; Express compares weakly and allows it, and so do we.
        let may_part = text(IF_RANGE).is_none_or(|value| is_same_tag(value, &tag) || value == MODIFIED);
        let (start, end) = match text(RANGE).filter(|_| may_part).map_or(Ranged::Whole, |range| parse_range(range, size)) {
            Ranged::Whole => (0, size),
            Ranged::Part(start, end) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                set(&mut response, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
                (start, end)
            }
            Ranged::Unsatisfiable => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                set(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
                set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
                *response.body_mut() = full("<!DOCTYPE html><title>Error</title><pre>Range Not Satisfiable</pre>");
                return response;
            }
        };
        set(&mut response, CONTENT_TYPE, content_type);
        if *method == Method::HEAD {
            set(&mut response, http::header::CONTENT_LENGTH, &(end - start).to_string());
        } else {
            *response.body_mut() = MediaBody::new(self.clone(), start, end).boxed_unsync();
        }
        response
    }
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

fn is_same_tag(given: &str, tag: &str) -> bool {
    given.trim().trim_start_matches("W/") == tag.trim_start_matches("W/")
}

#[derive(Debug, PartialEq, Eq)]
enum Ranged {
    Whole,
    Part(u64, u64),
    Unsatisfiable,
}

/// One range; several give the whole file, as Express does.
fn parse_range(text: &str, size: u64) -> Ranged {
    let Some(list) = text.strip_prefix("bytes=") else { return Ranged::Whole };
    let Some((first, last)) = list.trim().split_once('-').filter(|_| !list.contains(',')) else { return Ranged::Whole };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, size.min(last.saturating_add(1))),
        (Ok(start), Err(_)) if last.is_empty() => (start, size),
        (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return Ranged::Whole,
    };
    if start < end { Ranged::Part(start, end) } else { Ranged::Unsatisfiable }
}

/// A sweep from 110 Hz upward, as a RIFF file with 16-bit samples.
#[expect(clippy::cast_possible_truncation, reason = "the amplitude is far below the limits of a sample")]
fn sweep() -> Bytes {
    let samples = RATE * SECONDS;
    let data = samples * 2;
    let mut wav = Vec::with_capacity(data as usize + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + data).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16_u32.to_le_bytes());
    wav.extend_from_slice(&1_u16.to_le_bytes());
    wav.extend_from_slice(&1_u16.to_le_bytes());
    wav.extend_from_slice(&RATE.to_le_bytes());
    wav.extend_from_slice(&(RATE * 2).to_le_bytes());
    wav.extend_from_slice(&2_u16.to_le_bytes());
    wav.extend_from_slice(&16_u16.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&data.to_le_bytes());
    for sample in 0..samples {
        let seconds = f64::from(sample) / f64::from(RATE);
        let phase = std::f64::consts::TAU * (110.0 * seconds + 11.0 * seconds * seconds);
        wav.extend_from_slice(&((phase.sin() * 12_000.0) as i16).to_le_bytes());
    }
    wav.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_express_reads_them() {
        assert_eq!(parse_range("bytes=0-9", 100), Ranged::Part(0, 10));
        assert_eq!(parse_range("bytes=90-", 100), Ranged::Part(90, 100));
        assert_eq!(parse_range("bytes=-10", 100), Ranged::Part(90, 100));
        assert_eq!(parse_range("bytes=-1000", 100), Ranged::Part(0, 100));
        assert_eq!(parse_range("bytes=0-9999", 100), Ranged::Part(0, 100));
        assert_eq!(parse_range("bytes=100-", 100), Ranged::Unsatisfiable);
        assert_eq!(parse_range("bytes=-0", 100), Ranged::Unsatisfiable);
        assert_eq!(parse_range("bytes=0-1,5-6", 100), Ranged::Whole);
        assert_eq!(parse_range("lines=0-1", 100), Ranged::Whole);
    }

    #[test]
    fn the_pattern_is_the_same_wherever_reading_begins() {
        let media = Media::Pattern(1 << 40);
        let far = media.chunk(65_521 * 1000 + 7, 65_521 * 1000 + 107);
        assert_eq!(far, media.chunk(7, 107));
        assert!(!media.chunk(65_520, 70_000).is_empty());
    }
}
