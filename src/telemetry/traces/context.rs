//! Which trace a span is of: ids, and the header that carries them from program to program (W3C Trace Context,
//! <https://www.w3.org/TR/trace-context/>).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Share;

/// Carries the ids.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Carries what tracing systems want to know beside them; nothing without the former.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Of version 00: `00-<32 digits>-<16 digits>-<2 digits>`.
const LENGTH: usize = 55;
/// The one flag that is read and written.
const SAMPLED: u8 = 1;

/// The id of a trace; not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span; not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// As it goes to a collector.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether a trace of this id belongs to such a share of all. Its last seven bytes are random (Trace Context level 2, section
    /// "random-trace-id flag"): every program that decides by them decides alike.
    pub(super) fn is_within(self, share: Share) -> bool {
        let random = u128::from_be_bytes(self.0) & ((1 << 56) - 1);
        let rejected = (u128::from(Share::ALL.millionths() - share.millionths()) << 56) / u128::from(Share::ALL.millionths());
        random >= rejected
    }
}

impl SpanId {
    /// As it goes to a collector.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// New ids for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub(super) trace: TraceId,
    pub(super) server: SpanId,
    pub(super) client: SpanId,
}

impl Fresh {
    pub(super) fn draw() -> Option<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        let (trace, spans) = bytes.split_first_chunk::<16>()?;
        let (server, spans) = spans.split_first_chunk::<8>()?;
        let (client, _) = spans.split_first_chunk::<8>()?;
        Some(Self { trace: trace_id(*trace)?, server: span_id(*server)?, client: span_id(*client)? })
    }
}

fn trace_id(bytes: [u8; 16]) -> Option<TraceId> {
    (bytes != [0; 16]).then_some(TraceId(bytes))
}

fn span_id(bytes: [u8; 8]) -> Option<SpanId> {
    (bytes != [0; 8]).then_some(SpanId(bytes))
}

/// What a `traceparent` says: of a span elsewhere, or of one of ours for whoever comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The trace.
    pub trace: TraceId,
    /// The span that asks.
    pub span: SpanId,
    /// Whether that one is recorded.
    pub is_sampled: bool,
}

impl Remote {
    /// Of a request's headers; `None` where there is none, several, or one that breaks the rules: then a trace begins here.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        Self::parse(line.as_bytes())
    }

    /// Section 3.2.2, and for versions to come section 4.3.
    fn parse(text: &[u8]) -> Option<Self> {
        let (own, rest) = text.split_at_checked(LENGTH)?;
        let dashes = [2, 35, 52].iter().all(|place| own.get(*place) == Some(&b'-'));
        let [version] = digits(own.get(..2)?)?;
        let is_known = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        if !(dashes && is_known) {
            return None;
        }
        let [flags] = digits(own.get(53..)?)?;
        let (trace, span) = (trace_id(digits(own.get(3..35)?)?)?, span_id(digits(own.get(36..52)?)?)?);
        Some(Self { trace, span, is_sampled: flags & SAMPLED != 0 })
    }

    /// As a header.
    pub fn header(self) -> HeaderValue {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        // Digits and dashes only.
        HeaderValue::try_from(format!("00-{:?}-{:?}-{flags:02x}", self.trace, self.span)).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Bytes from twice as many digits; capital letters are none.
fn digits<const LENGTH: usize>(text: &[u8]) -> Option<[u8; LENGTH]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    (text.len() == 2 * LENGTH).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(lines: &[&str]) -> Option<Remote> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, HeaderValue::try_from(*line).expect("a value"));
        }
        Remote::read(&headers)
    }

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let remote = read(&[GOOD]).expect("good");
        assert_eq!((format!("{:?}", remote.trace), format!("{:?}", remote.span)), (GOOD[3..35].to_owned(), GOOD[36..52].to_owned()));
        assert!(remote.is_sampled);
        assert_eq!(remote.header(), GOOD);
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(read(&[&unsampled]).expect("good").header(), unsampled.as_str());
        assert!(!read(&[&GOOD.replace("-01", "-fe")]).expect("other flags are for others").is_sampled);
        assert_eq!(read(&[&format!("{}-more", GOOD.replacen("00", "01", 1))]), Some(remote), "a version to come");
    }

    #[test]
    fn what_breaks_the_rules_is_none_at_all() {
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &format!("{}0", GOOD.replacen("00", "01", 1)),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace('f', "F"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace('-', "_"),
            &GOOD.replace('4', "g"),
        ] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
        assert_eq!(read(&[GOOD, GOOD]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn drawn_ids_differ_and_their_share_is_kept() {
        let all: Vec<_> = (0..2000).map(|_| Fresh::draw().expect("random bytes")).collect();
        assert!(all[0].trace != all[1].trace && all[0].server != all[0].client);
        let count = |share| all.iter().filter(|fresh| fresh.trace.is_within(share)).count();
        assert_eq!((count(Share::NONE), count(Share::ALL)), (0, 2000));
        let edge = |last: [u8; 7]| {
            let mut id = [0xaa; 16];
            id[9..].copy_from_slice(&last);
            TraceId(id)
        };
        assert!(!edge([0; 7]).is_within(Share::NONE) && !edge([0xff; 7]).is_within(Share::NONE));
        assert!(edge([0; 7]).is_within(Share::ALL));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Remote::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read_again(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), is_sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let remote = Remote { trace: TraceId(trace), span: SpanId(span), is_sampled };
            prop_assert_eq!(Remote::parse(remote.header().as_bytes()), Some(remote));
        }
    }
}
