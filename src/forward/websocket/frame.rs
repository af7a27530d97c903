//! Frames (RFC 6455, section 5): headers are read as bytes pass, payloads are only counted.

/// Longest header: two bytes, a length of eight, a mask of four.
const LONGEST: usize = 14;
/// Longest payload of a control frame.
const CONTROL_LIMIT: u64 = 125;

/// Whose frames are read: a client masks its frames, a server does not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text message or a piece of one.
    Text,
    /// A binary message or a piece of one.
    Binary,
    /// Close, ping or pong; may stand between the pieces of a message.
    Control,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Begins a message. Never so for control frames.
    pub(crate) begins: bool,
    /// Ends a message. Never so for control frames.
    pub(crate) ends: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A header is complete; [`Parser::wire`] has its bytes.
    Header(Header),
    /// So many bytes of payload; those before them in the frame.
    Payload { length: usize, before: u64 },
}

/// Bytes that are no frames. Extensions are never negotiated, so their bits are errors too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed WebSocket frame")]
pub(crate) struct Malformed;

/// Reads one direction of a socket.
#[derive(Debug)]
pub(crate) struct Parser {
    sender: Sender,
    /// The header being read, or the last one.
    header: [u8; LONGEST],
    filled: u8,
    is_complete: bool,
    current: Header,
    length: u64,
    remaining: u64,
    /// The kind of the message of which more pieces follow.
    unfinished: Option<Kind>,
}

impl Parser {
    pub(crate) const fn new(sender: Sender) -> Self {
        Self {
            sender,
            header: [0; LONGEST],
            filled: 0,
            is_complete: false,
            current: Header { kind: Kind::Control, begins: false, ends: false },
            length: 0,
            remaining: 0,
            unfinished: None,
        }
    }

    /// Reads one part from the beginning of `input`: what it is, and how many bytes of the input it took. `None`: the input is used up;
    /// the beginning of a header was kept.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Option<(Part, usize)>, Malformed> {
        if self.remaining > 0 {
            let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
            if length == 0 {
                return Ok(None);
            }
            let before = self.length - self.remaining;
            self.remaining -= length as u64;
            return Ok(Some((Part::Payload { length, before }, length)));
        }
        if self.is_complete {
            (self.filled, self.is_complete) = (0, false);
        }
        let mut taken = 0;
        while usize::from(self.filled) < self.wanted() {
            let Some(&byte) = input.get(taken) else { return Ok(None) };
            self.header[usize::from(self.filled)] = byte;
            self.filled += 1;
            taken += 1;
        }
        self.is_complete = true;
        self.judge()?;
        Ok(Some((Part::Header(self.current), taken)))
    }

    /// How long the header is, as far as it is known.
    fn wanted(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn judge(&mut self) -> Result<(), Malformed> {
        let [first, second, ..] = self.header;
        let is_masked = second & 0x80 != 0;
        self.length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
            short => u64::from(short),
        };
        if first & 0x70 != 0 || is_masked != (self.sender == Sender::Client) || self.length >> 63 != 0 {
            return Err(Malformed);
        }
        let ends = first & 0x80 != 0;
        self.current = match (first & 0x0f, self.unfinished) {
            (8..=10, _) if ends && self.length <= CONTROL_LIMIT => Header { kind: Kind::Control, begins: false, ends: false },
            (0, Some(kind)) => Header { kind, begins: false, ends },
            (1, None) => Header { kind: Kind::Text, begins: true, ends },
            (2, None) => Header { kind: Kind::Binary, begins: true, ends },
            _ => return Err(Malformed),
        };
        if self.current.kind != Kind::Control {
            self.unfinished = (!ends).then_some(self.current.kind);
        }
        self.remaining = self.length;
        Ok(())
    }

    /// The frame that is being read, or was read last.
    pub(crate) const fn current(&self) -> Header {
        self.current
    }

    /// The bytes of the last complete header.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.header[..usize::from(self.filled)]
    }

    /// Whether the beginning of a header was kept.
    pub(crate) const fn has_begun_header(&self) -> bool {
        self.filled > 0 && !self.is_complete
    }

    /// Whether the last frame is complete.
    pub(crate) const fn is_between_frames(&self) -> bool {
        self.remaining == 0
    }

    /// Whether the last message is complete.
    pub(crate) const fn is_between_messages(&self) -> bool {
        self.remaining == 0 && self.unfinished.is_none()
    }

    /// Takes the mask off (or puts it on) a piece of the current frame's payload.
    pub(crate) fn unmask(&self, piece: &[u8], before: u64) -> impl Iterator<Item = u8> {
        let end = usize::from(self.filled);
        let mut mask = [0; 4];
        if self.header[1] & 0x80 != 0 && end >= 4 {
            mask.copy_from_slice(&self.header[end - 4..end]);
        }
        let shift = (before % 4) as usize;
        piece.iter().zip((0..4).cycle().skip(shift)).map(move |(byte, place)| byte ^ mask[place])
    }
}

/// A whole message in one frame, masked with `mask` where a client sends it.
pub(crate) fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + LONGEST);
    frame.push(0x80 | opcode);
    let flag = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..126), _) => frame.push(flag | short),
        (_, Ok(length)) => {
            frame.push(flag | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(flag | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => frame.extend_from_slice(payload),
        Some(mask) => {
            frame.extend_from_slice(&mask);
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// A text frame of a server.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    frame(1, payload, None)
}

/// A close frame of a server.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(8, &[&code.to_be_bytes(), reason.as_bytes()].concat(), None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that a parser says of bytes that come in pieces: headers, and all payload unmasked.
    fn read(sender: Sender, pieces: &[&[u8]]) -> Result<(Vec<Header>, Vec<u8>), Malformed> {
        let (mut parser, mut headers, mut payload) = (Parser::new(sender), Vec::new(), Vec::new());
        for piece in pieces {
            let mut at = 0;
            while let Some((part, taken)) = parser.next(&piece[at..])? {
                match part {
                    Part::Header(header) => headers.push(header),
                    Part::Payload { before, .. } => payload.extend(parser.unmask(&piece[at..at + taken], before)),
                }
                at += taken;
            }
        }
        Ok((headers, payload))
    }

    #[test]
    fn lengths_of_all_three_forms_are_read() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let (headers, read) = read(Sender::Server, &[&frame(2, &payload, None)]).expect("well formed");
            assert_eq!(headers, [Header { kind: Kind::Binary, begins: true, ends: true }], "{length}");
            assert_eq!(read, payload);
        }
    }

    #[test]
    fn control_frames_may_stand_between_the_pieces_of_a_message() {
        let bytes = [&[0x01, 1, b'a'][..], &[0x89, 1, b'p'], &[0x80, 1, b'b']].concat();
        let (headers, payload) = read(Sender::Server, &[&bytes]).expect("well formed");
        let expected = [
            Header { kind: Kind::Text, begins: true, ends: false },
            Header { kind: Kind::Control, begins: false, ends: false },
            Header { kind: Kind::Text, begins: false, ends: true },
        ];
        assert_eq!((headers.as_slice(), payload.as_slice()), (&expected[..], &b"apb"[..]));
    }

    #[test]
    fn what_is_no_frame_is_malformed() {
        let cases: &[(Sender, &[u8])] = &[
            (Sender::Server, &[0xc1, 0]),
            (Sender::Server, &[0x83, 0]),
            (Sender::Server, &[0x8b, 0]),
            (Sender::Server, &[0x80, 0]),
            (Sender::Server, &[0x01, 0, 0x81, 0]),
            (Sender::Server, &[0x09, 0]),
            (Sender::Server, &[0x89, 126, 0, 126]),
            (Sender::Server, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            (Sender::Server, &[0x81, 0x80, 0, 0, 0, 0]),
            (Sender::Client, &[0x81, 0]),
        ];
        for (sender, bytes) in cases {
            assert_eq!(read(*sender, &[bytes]), Err(Malformed), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_says_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200, client: bool) {
            let sender = if client { Sender::Client } else { Sender::Server };
            let cut = cut.min(bytes.len());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = read(sender, &[&bytes]);
            prop_assert_eq!(&whole, &read(sender, &[&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(&whole, &read(sender, &single));
        }

        #[test]
        fn what_is_framed_is_read_back(payload in prop::collection::vec(any::<u8>(), 0..300), mask: Option<[u8; 4]>) {
            let sender = if mask.is_some() { Sender::Client } else { Sender::Server };
            let bytes = frame(1, &payload, mask);
            let single: Vec<&[u8]> = bytes.chunks(3).collect();
            prop_assert_eq!(read(sender, &single).expect("well formed").1, payload);
        }
    }
}
