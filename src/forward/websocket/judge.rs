//! From the client of a socket of Emby or Jellyfin to the server: each message is held until it is whole, and goes on if it may. One that may
//! not is left out, as if it had never been said: closing the socket for it would take from an app all that it may hear, again and again,
//! since apps come back.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::forward::websocket::Closing;
use crate::forward::websocket::direction::Filter;
use crate::forward::websocket::frame::{Kind, Parser, Part, Sender};
use crate::forward::websocket::sink::Sink;
use crate::forward::websocket::up::Held;

/// Longest message with its frame headers. Reports of playback with a long queue have some 100 KiB.
const LIMIT: usize = 512 << 10;

/// Whether a whole message, text or binary, may go on.
type May = dyn Fn(&[u8]) -> bool;

/// The filter.
pub(crate) struct Judge {
    parser: Parser,
    held: Option<Box<Held>>,
    may: Box<May>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Judge {
    /// Judges by `may`.
    pub(crate) fn new(may: impl Fn(&[u8]) -> bool + 'static) -> Self {
        Self { parser: Parser::new(Sender::Client), held: None, may: Box::new(may) }
    }

    fn look(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        let mut at = 0;
        loop {
            let is_continued = self.parser.has_begun_header();
            let Some((part, taken)) = self.parser.next(&data[at..]).map_err(|_| Closing::MALFORMED)? else { return Ok(()) };
            let range = at..at + taken;
            at += taken;
            if self.parser.current().kind == Kind::Control {
                match part {
                    Part::Header(_) if is_continued => sink.put(self.parser.wire()),
                    _ => sink.keep(range),
                }
                continue;
            }
            let held = self.held.get_or_insert_default();
            match part {
                Part::Header(_) => held.wire.extend_from_slice(self.parser.wire()),
                Part::Payload { before, .. } => {
                    held.wire.extend_from_slice(&data[range.clone()]);
                    held.text.extend(self.parser.unmask(&data[range], before));
                }
            }
            if held.wire.len() > LIMIT {
                return Err(Closing::TOO_LARGE);
            }
            if self.parser.is_between_messages()
                && let Some(held) = self.held.take()
                && (self.may)(&held.text)
            {
                sink.put(&held.wire);
            }
        }
    }
}

impl Filter for Judge {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<Bytes, Closing>> {
        Poll::Ready(Ok(Bytes::new()))
    }

    fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        self.look(data, sink)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::websocket::frame;

    /// What goes on of bytes that come in pieces, where messages with an "x" may not.
    fn passed(bytes: &[u8], size: usize) -> Result<Vec<u8>, Closing> {
        let (mut judge, mut out) = (Judge::new(|text| !text.contains(&b'x')), Vec::new());
        for piece in bytes.chunks(size) {
            let data = Bytes::copy_from_slice(piece);
            let mut sink = Sink::new(&data);
            let looked = judge.look(&data, &mut sink);
            out.extend_from_slice(sink.bytes());
            looked?;
        }
        Ok(out)
    }

    /// A message in these fragments, with a ping after each.
    fn fragments(opcode: u8, pieces: &[&str], mask: [u8; 4]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let ping = frame::frame(9, b"x", Some(mask));
        let mut frames = Vec::new();
        for (place, piece) in pieces.iter().enumerate() {
            let mut frame = frame::frame(if place == 0 { opcode } else { 0 }, piece.as_bytes(), Some(mask));
            if place + 1 < pieces.len() {
                frame[0] &= 0x7f;
            }
            frames.push(frame);
        }
        (frames, ping)
    }

    #[test]
    fn a_message_that_may_not_is_left_out_and_all_else_stays() {
        for opcode in [1, 2] {
            let (good, bad) = (frame::frame(opcode, b"good", Some([1, 2, 3, 4])), frame::frame(opcode, b"xbad", Some([5, 6, 7, 8])));
            let (empty, close) = (frame::frame(opcode, b"", Some([1; 4])), frame::frame(8, b"", Some([1; 4])));
            let bytes = [&good[..], &bad, &empty, &good, &bad, &close].concat();
            for size in 1..=bytes.len() {
                assert_eq!(passed(&bytes, size), Ok([&good[..], &empty, &good, &close].concat()), "{size}");
            }
        }
    }

    #[test]
    fn a_message_in_pieces_is_judged_as_a_whole_and_pings_between_them_pass() {
        for opcode in [1, 2] {
            let (frames, ping) = fragments(opcode, &["a", "", "x", ""], [9, 8, 7, 6]);
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| [frame.as_slice(), &ping].concat()).collect();
            for size in 1..=bytes.len() {
                assert_eq!(passed(&bytes, size), Ok(ping.repeat(4)), "{size}");
            }
        }
    }

    #[test]
    fn what_is_too_long_or_no_frame_ends_the_socket() {
        assert_eq!(passed(&frame::frame(1, &vec![b'a'; LIMIT], Some([1; 4])), 4096), Err(Closing::TOO_LARGE));
        assert_eq!(passed(&frame::frame(1, b"unmasked", None), 64), Err(Closing::MALFORMED));
        assert_eq!(passed(b"no frames at all", 64), Err(Closing::MALFORMED));
    }

    proptest! {
        #[test]
        fn messages_that_may_go_on_byte_for_byte_however_they_are_split(
            texts in prop::collection::vec("[a-z]{0,40}", 0..6), size in 1_usize..30, mask: [u8; 4], opcode in 1_u8..=2
        ) {
            let frames = texts.iter().map(|text| (text, frame::frame(opcode, text.as_bytes(), Some(mask))));
            let (all, wanted): (Vec<_>, Vec<_>) = frames.map(|(text, frame)| {
                let wanted = if text.contains('x') { Vec::new() } else { frame.clone() };
                (frame, wanted)
            }).unzip();
            prop_assert_eq!(passed(&all.concat(), size), Ok(wanted.concat()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..40) {
            let _ = passed(&bytes, size);
        }
    }
}
