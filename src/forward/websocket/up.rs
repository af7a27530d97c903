//! From the client of an Engine.IO session to Audiobookshelf: text messages are held until it is clear that they are no `auth`.

use bytes::Bytes;

use crate::forward::socketio::packet::{self, Claim, DECIDED_AFTER};
use crate::forward::websocket::Closing;
use crate::forward::websocket::frame::{Kind, Parser, Part, Sender};
use crate::forward::websocket::sink::Sink;

/// Longest `auth`, and longest message before one, with its frame headers.
const HELD_LIMIT: usize = 64 << 10;

/// The filter.
#[derive(Debug)]
pub(crate) struct Up {
    parser: Parser,
    held: Option<Box<Held>>,
}

/// A message of which nothing has gone on.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Its frames as they came.
    pub(crate) wire: Vec<u8>,
    /// Its text.
    pub(crate) text: Vec<u8>,
}

/// How far one read was looked through.
#[derive(Debug)]
pub(crate) enum Looked {
    /// To its end.
    Through,
    /// So many bytes: here ends a message that is to be judged first.
    To(usize, Held),
}

impl Up {
    pub(crate) const fn new() -> Self {
        Self { parser: Parser::new(Sender::Client), held: None }
    }

    /// Looks through one read from `at`. `is_early`: the client has not authenticated.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) fn pass(&mut self, data: &Bytes, mut at: usize, is_early: bool, sink: &mut Sink<'_>) -> Result<Looked, Closing> {
        loop {
            let is_continued = self.parser.has_begun_header();
            let Some((part, taken)) = self.parser.next(&data[at..]).map_err(|_| Closing::MALFORMED)? else { return Ok(Looked::Through) };
            let range = at..at + taken;
            at += taken;
            let header = self.parser.current();
            if header.kind == Kind::Binary && is_early {
                return Err(Closing::EARLY);
            }
            if part == Part::Header(header) && header.begins && header.kind == Kind::Text {
                self.held = Some(Box::default());
            }
            match (part, self.held.as_mut().filter(|_| header.kind == Kind::Text)) {
                (Part::Header(_), Some(held)) => held.wire.extend_from_slice(self.parser.wire()),
                (Part::Header(_), None) if is_continued => sink.put(self.parser.wire()),
                (Part::Payload { before, .. }, Some(held)) => {
                    held.wire.extend_from_slice(&data[range.clone()]);
                    held.text.extend(self.parser.unmask(&data[range], before));
                }
                (_, None) => sink.keep(range),
            }
            if header.kind == Kind::Text
                && let Some(held) = self.decide(is_early, sink)?
            {
                return Ok(Looked::To(at, held));
            }
        }
    }

    /// Lets a message go that is no `auth`, as soon as that is clear; gives out one that must be judged when it is whole.
    fn decide(&mut self, is_early: bool, sink: &mut Sink<'_>) -> Result<Option<Held>, Closing> {
        let is_whole = self.parser.is_between_messages();
        let Some(held) = &self.held else { return Ok(None) };
        let claim = packet::claim(&held.text[..held.text.len().min(DECIDED_AFTER)], is_whole && held.text.len() <= DECIDED_AFTER);
        match claim {
            Claim::Other if !is_early => {
                sink.put(&held.wire);
                self.held = None;
                Ok(None)
            }
            _ if is_whole => Ok(self.held.take().map(|held| *held)),
            Claim::Undecided if held.text.len() > DECIDED_AFTER => Err(Closing::TOO_LARGE),
            _ if held.wire.len() > HELD_LIMIT => Err(Closing::TOO_LARGE),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::websocket::frame;

    const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

    /// What goes on of bytes that come in pieces, and the messages that are to be judged.
    fn passed(pieces: &[&[u8]], is_early: bool) -> Result<(Vec<u8>, Vec<Vec<u8>>), Closing> {
        let (mut up, mut out, mut judged) = (Up::new(), Vec::new(), Vec::new());
        for piece in pieces {
            let data = Bytes::copy_from_slice(piece);
            let (mut at, mut sink) = (0, Sink::new(&data));
            while let Looked::To(end, held) = up.pass(&data, at, is_early, &mut sink)? {
                at = end;
                judged.push(held.text);
            }
            out.extend_from_slice(sink.bytes());
        }
        Ok((out, judged))
    }

    fn pieces(bytes: &[u8], size: usize) -> Vec<&[u8]> {
        bytes.chunks(size).collect()
    }

    #[test]
    fn an_auth_in_fragments_with_a_ping_between_is_held_and_the_ping_is_not() {
        let mut bytes = Vec::new();
        for (opcode, text) in [(1, "42[\"au"), (0, "th\",\""), (0, "K\"]")] {
            let start = bytes.len();
            bytes.extend(frame::frame(opcode, text.as_bytes(), MASK));
            bytes[start] &= if text.ends_with(']') { 0xff } else { 0x7f };
            bytes.extend(frame::frame(9, b"p", MASK));
        }
        for size in 1..bytes.len() {
            let (out, judged) = passed(&pieces(&bytes, size), false).expect("well formed");
            assert_eq!(judged, [b"42[\"auth\",\"K\"]"], "{size}");
            assert_eq!(out, frame::frame(9, b"p", MASK).repeat(3), "{size}");
        }
    }

    #[test]
    fn before_authentication_every_text_is_judged_and_no_binary_passes() {
        let bytes = [frame::frame(1, b"40", MASK), frame::frame(1, b"2probe", MASK)].concat();
        let (out, judged) = passed(&[&bytes], true).expect("well formed");
        assert_eq!((out.len(), judged), (0, vec![b"40".to_vec(), b"2probe".to_vec()]));
        assert_eq!(passed(&[&frame::frame(2, b"x", MASK)], true), Err(Closing::EARLY));
    }

    #[test]
    fn what_hides_whether_it_is_an_auth_is_not_waited_for() {
        let text = format!("42[{}", " ".repeat(2 * DECIDED_AFTER));
        let mut bytes = frame::frame(1, text.as_bytes(), MASK);
        bytes[0] &= 0x7f;
        assert_eq!(passed(&[&bytes], false), Err(Closing::TOO_LARGE));
        assert_eq!(passed(&[&[0x81, 1, b'x']], false), Err(Closing::MALFORMED));
    }

    proptest! {
        #[test]
        fn other_messages_go_on_byte_for_byte_however_they_are_split(
            texts in prop::collection::vec("(42\\[\"[b-z_]{1,12}\",)?[ -~]{0,80}", 0..5), size in 1_usize..30, mask: [u8; 4]
        ) {
            let texts: Vec<_> = texts.iter().filter(|text| packet::claim(text.as_bytes(), true) == Claim::Other).collect();
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame::frame(1, text.as_bytes(), Some(mask))).collect();
            let (out, judged) = passed(&pieces(&bytes, size), false).expect("well formed");
            prop_assert!(judged.is_empty());
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..40, is_early: bool) {
            let _ = passed(&pieces(&bytes, size), is_early);
        }
    }
}
