//! Content codings of answers that must be read: a server that ignores `Accept-Encoding: identity` is decoded, piece by piece. One piece
//! never becomes more than a bounded number of bytes, so that no bomb fills the memory.

use std::io::Write;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf, Bytes};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// Decoding stops for a breath once so many bytes came out; a little more than that is one piece at most.
const PIECE: usize = 32 << 10;

/// A content coding that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// A coding, or several, that keygate does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownCoding;

impl Coding {
    /// The coding of an answer; `None`: it is plain.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        let lines = headers.get_all(CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        let mut found = None;
        for name in lines.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity")) {
            let coding = match () {
                () if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => Self::Gzip,
                () if name.eq_ignore_ascii_case(b"deflate") => Self::Deflate,
                () if name.eq_ignore_ascii_case(b"br") => Self::Brotli,
                () => return Err(UnknownCoding),
            };
            if found.replace(coding).is_some() {
                return Err(UnknownCoding);
            }
        }
        Ok(found)
    }
}

/// The coded bytes are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coded body is damaged")]
pub struct Damaged;

/// Decodes one body.
pub(super) struct Decoder {
    stream: Stream,
    is_begun: bool,
}

enum Stream {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
    /// "deflate" without its wrapping, as some servers send it.
    Deflate(DeflateDecoder<Vec<u8>>),
    /// "deflate": which of the two it is shows in its first byte.
    Unsure,
    Brotli(Box<Brotli>),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    pub(super) fn new(coding: Coding) -> Self {
        let stream = match coding {
            Coding::Gzip => Stream::Gzip(MultiGzDecoder::new(Vec::new())),
            Coding::Deflate => Stream::Unsure,
            Coding::Brotli => Stream::Brotli(Box::new(Brotli::new())),
        };
        Self { stream, is_begun: false }
    }

    /// Decodes some of the input, which is advanced, into one bounded piece. An empty one with the input at its end: more input is
    /// needed (a coding may hold back more than it gave, also when it has taken all).
    pub(super) fn step(&mut self, input: &mut Bytes) -> Result<Vec<u8>, Damaged> {
        self.is_begun |= !input.is_empty();
        if !self.is_begun {
            return Ok(Vec::new());
        }
        if let (Stream::Unsure, Some(first)) = (&self.stream, input.first()) {
            // RFC 1950: compression method 8 in the low bits. A raw stream that begins so would have a stored block of a reserved kind.
            let is_wrapped = first & 0x0f == 8;
            self.stream =
                if is_wrapped { Stream::Zlib(ZlibDecoder::new(Vec::new())) } else { Stream::Deflate(DeflateDecoder::new(Vec::new())) };
        }
        match &mut self.stream {
            Stream::Gzip(decoder) => drive(decoder, input, MultiGzDecoder::get_mut),
            Stream::Zlib(decoder) => drive(decoder, input, ZlibDecoder::get_mut),
            Stream::Deflate(decoder) => drive(decoder, input, DeflateDecoder::get_mut),
            Stream::Unsure => Err(Damaged),
            Stream::Brotli(brotli) => brotli.step(input),
        }
    }

    /// The end of the input: what is left, and whether the stream was whole. No byte at all is an empty body.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, Damaged> {
        if !self.is_begun {
            return Ok(Vec::new());
        }
        match &mut self.stream {
            Stream::Gzip(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())).map_err(|_| Damaged),
            Stream::Zlib(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())).map_err(|_| Damaged),
            Stream::Deflate(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())).map_err(|_| Damaged),
            Stream::Unsure => Err(Damaged),
            Stream::Brotli(brotli) if brotli.is_done => Ok(Vec::new()),
            Stream::Brotli(_) => Err(Damaged),
        }
    }
}

fn drive<D: Write>(decoder: &mut D, input: &mut Bytes, output: fn(&mut D) -> &mut Vec<u8>) -> Result<Vec<u8>, Damaged> {
    while !input.is_empty() && output(decoder).len() < PIECE {
        let taken = decoder.write(input).map_err(|_| Damaged)?;
        if taken == 0 {
            return Err(Damaged);
        }
        input.advance(taken);
    }
    if input.is_empty() {
        decoder.flush().map_err(|_| Damaged)?;
    }
    Ok(std::mem::take(output(decoder)))
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    is_done: bool,
}

impl Brotli {
    fn new() -> Self {
        let mut state = BrotliState::new(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
        // The format of RFC 7932: a window of at most 16 MiB, whatever the stream asks for.
        state.large_window = false;
        Self { state, is_done: false }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Vec<u8>, Damaged> {
        if self.is_done {
            return if input.is_empty() { Ok(Vec::new()) } else { Err(Damaged) };
        }
        let mut output = vec![0; PIECE];
        let (mut available_in, mut taken, mut available_out, mut written, mut total) = (input.len(), 0, output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut taken,
            input,
            &mut available_out,
            &mut written,
            &mut output,
            &mut total,
            &mut self.state,
        );
        let had_output = written > 0;
        input.advance(taken);
        output.truncate(written);
        match result {
            BrotliResult::ResultSuccess => {
                self.is_done = true;
                if input.is_empty() { Ok(output) } else { Err(Damaged) }
            }
            BrotliResult::NeedsMoreInput => Ok(output),
            BrotliResult::NeedsMoreOutput if had_output => Ok(output),
            BrotliResult::NeedsMoreOutput | BrotliResult::ResultFailure => Err(Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn coding(lines: &[&'static str]) -> Result<Option<Coding>, UnknownCoding> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
        }
        Coding::of(&headers)
    }

    #[test]
    fn one_known_coding_is_read_and_several_or_unknown_ones_are_not() {
        assert_eq!(coding(&[]), Ok(None));
        assert_eq!(coding(&["identity, ", ""]), Ok(None));
        assert_eq!(coding(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(coding(&["identity", " br "]), Ok(Some(Coding::Brotli)));
        for lines in [&["zstd"][..], &["gzip, br"], &["gzip", "gzip"], &["gzip;q=1"]] {
            assert_eq!(coding(lines), Err(UnknownCoding), "{lines:?}");
        }
    }

    fn packed(coding: Coding, is_wrapped: bool, text: &[u8]) -> Vec<u8> {
        fn all<E: Write>(mut encoder: E, text: &[u8], finish: fn(E) -> std::io::Result<Vec<u8>>) -> Vec<u8> {
            encoder.write_all(text).expect("in memory");
            finish(encoder).expect("in memory")
        }
        match coding {
            Coding::Gzip => all(GzEncoder::new(Vec::new(), Compression::default()), text, GzEncoder::finish),
            Coding::Deflate if is_wrapped => all(ZlibEncoder::new(Vec::new(), Compression::default()), text, ZlibEncoder::finish),
            Coding::Deflate => all(DeflateEncoder::new(Vec::new(), Compression::default()), text, DeflateEncoder::finish),
            Coding::Brotli => stored_brotli(text),
        }
    }

    /// A brotli stream of uncompressed meta-blocks (RFC 7932, section 9.2): no encoder is needed for it.
    fn stored_brotli(text: &[u8]) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.push(0, 1);
        for block in text.chunks(1 << 16) {
            bits.push(0, 1);
            bits.push(0, 2);
            bits.push(block.len() as u32 - 1, 16);
            bits.push(1, 1);
            bits.align();
            bits.bytes.extend_from_slice(block);
        }
        bits.push(3, 2);
        bits.bytes
    }

    #[derive(Default)]
    struct Bits {
        bytes: Vec<u8>,
        used: u32,
    }

    impl Bits {
        fn push(&mut self, value: u32, count: u32) {
            for bit in 0..count {
                if self.used == 0 {
                    self.bytes.push(0);
                }
                *self.bytes.last_mut().expect("one") |= ((value >> bit & 1) as u8) << self.used;
                self.used = (self.used + 1) % 8;
            }
        }

        fn align(&mut self) {
            self.used = 0;
        }
    }

    fn decode(coding: Coding, bytes: &[u8], pieces: usize) -> Result<Vec<u8>, Damaged> {
        let mut decoder = Decoder::new(coding);
        let mut all = Vec::new();
        for chunk in bytes.chunks(pieces) {
            let mut input = Bytes::copy_from_slice(chunk);
            loop {
                let piece = decoder.step(&mut input)?;
                if piece.is_empty() && input.is_empty() {
                    break;
                }
                assert!(piece.len() <= 4 * PIECE, "{}", piece.len());
                all.extend(piece);
            }
        }
        all.extend(decoder.finish()?);
        Ok(all)
    }

    const CASES: [(Coding, bool); 4] = [(Coding::Gzip, true), (Coding::Deflate, true), (Coding::Deflate, false), (Coding::Brotli, true)];

    #[test]
    fn every_coding_is_decoded_in_whatever_pieces_it_comes() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for (coding, is_wrapped) in CASES {
            let bytes = packed(coding, is_wrapped, &text);
            for pieces in [1 << 20, 1000, 7, 1] {
                assert!(decode(coding, &bytes, pieces).as_deref() == Ok(&text[..]), "{coding:?} {is_wrapped} {pieces}");
            }
            assert_eq!(decode(coding, &[], 1), Ok(Vec::new()), "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_comes_out_in_bounded_pieces() {
        let text = vec![b'a'; 16 << 20];
        for (coding, is_wrapped) in &CASES[..3] {
            let (coding, is_wrapped) = (*coding, *is_wrapped);
            let bytes = packed(coding, is_wrapped, &text);
            assert!(bytes.len() < 1 << 20);
            assert!(decode(coding, &bytes, 1 << 20).is_ok_and(|all| all.len() == text.len()), "{coding:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_or_followed_by_something_is_refused() {
        for (coding, is_wrapped) in CASES {
            let mut bytes = packed(coding, is_wrapped, &b"some text that is long enough to be cut ".repeat(50));
            bytes.extend(b"and more");
            assert_eq!(decode(coding, &bytes, 16), Err(Damaged), "{coding:?} {is_wrapped} followed");
            bytes.truncate(bytes.len() / 2);
            assert_eq!(decode(coding, &bytes, 16), Err(Damaged), "{coding:?} {is_wrapped} cut");
            assert_eq!(decode(coding, &[0xff; 64], 16), Err(Damaged), "{coding:?} {is_wrapped} damaged");
        }
    }

    #[test]
    fn a_brotli_stream_cannot_ask_for_a_window_larger_than_the_format_has() {
        // The mark of large windows (0b0010001 and a size) in front.
        assert_eq!(decode(Coding::Brotli, &[0x11, 30, 0, 0, 0, 0, 0, 0], 8), Err(Damaged));
    }
}
