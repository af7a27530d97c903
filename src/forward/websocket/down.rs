//! From the media server to the client: text messages are looked through for credentials, and before the client of an Engine.IO session
//! has authenticated, nothing but the opening passes. What is taken out leaves as many bytes behind, so frames keep their headers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::forward::socketio::packet;
use crate::forward::socketio::seat::Seat;
use crate::forward::websocket::Closing;
use crate::forward::websocket::frame::{Kind, Parser, Part, Sender};
use crate::forward::websocket::sink::Sink;
use crate::scrub::Text::{Json, Plain};
use crate::scrub::{Own, Plan, Scrubber, Secrets};

/// Longest message before authentication.
const EARLY_LIMIT: usize = 4096;
/// Most headers and control frames that wait behind text which may be the beginning of a credential.
const WAITING_LIMIT: usize = 256;

/// The filter.
#[derive(Debug)]
pub(crate) struct Down {
    parser: Parser,
    /// What is searched for; `None`: nothing (sockets of people who logged in at the server themselves).
    search: Option<Search>,
    /// While its client has not authenticated.
    gate: Option<Arc<Seat>>,
    text: Text,
}

/// Knows the credentials of the media server, which change while a socket lives.
pub(crate) struct Search {
    secrets: Box<dyn Fn() -> Arc<Secrets>>,
    last: Option<(Arc<Secrets>, Arc<Plan>)>,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Search")
    }
}

impl Search {
    /// `secrets` gives those that are known now.
    pub(crate) fn new(secrets: impl Fn() -> Arc<Secrets> + 'static) -> Self {
        Self { secrets: Box::new(secrets), last: None }
    }

    /// At the beginning of a message.
    fn scrubber(&mut self) -> Scrubber {
        let secrets = (self.secrets)();
        let plan = match &self.last {
            Some((before, plan)) if Arc::ptr_eq(before, &secrets) => Arc::clone(plan),
            _ => Arc::new(Plan::new(Json, Arc::clone(&secrets), Own::default())),
        };
        self.last = Some((secrets, Arc::clone(&plan)));
        Scrubber::new(plan)
    }
}

/// For bytes that are no frames.
fn for_a_stream(search: &Search) -> Box<Scrubber> {
    Box::new(Scrubber::new(Arc::new(Plan::new(Plain, (search.secrets)(), Own::default()))))
}

/// The text message that is passing.
#[derive(Debug)]
enum Text {
    /// None, or one that is not looked at.
    Free,
    /// One of the opening: nothing of it goes out before all of it was judged.
    Early(Box<Early>),
    Scrubbed(Box<Scrubbed>),
    /// None of this is WebSocket frames, as the first bytes of the last read showed. Servers of media never do that, but it is between the
    /// client and the server to mind it: the bytes go on, looked through as they are, to the end of the socket.
    Stream(Option<Box<Scrubber>>),
}

#[derive(Debug, Default)]
struct Early {
    wire: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Scrubbed {
    scrubber: Scrubber,
    /// Bytes of the message that came, and those that went on.
    came: u64,
    went: u64,
    /// Headers and control frames, and after how many bytes of the message they go on.
    waiting: VecDeque<(u64, Vec<u8>)>,
}

impl Scrubbed {
    /// Whether all that came went on.
    const fn is_through(&self) -> bool {
        self.came == self.went
    }

    fn emit(&mut self, mut text: Bytes, sink: &mut Sink<'_>) {
        loop {
            while self.waiting.front().is_some_and(|(after, _)| *after <= self.went) {
                sink.put(&self.waiting.pop_front().map(|(_, bytes)| bytes).unwrap_or_default());
            }
            if text.is_empty() {
                return;
            }
            let room = self.waiting.front().map_or(u64::MAX, |(after, _)| after - self.went);
            let piece = text.split_to(usize::try_from(room).unwrap_or(usize::MAX).min(text.len()));
            self.went += piece.len() as u64;
            sink.pass(&piece);
        }
    }
}

/// Bytes that are no frames.
fn stream(scrubber: Option<&mut Scrubber>, data: Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
    let clean = match scrubber {
        Some(scrubber) => scrubber.push(data).map_err(withheld)?,
        None => data,
    };
    sink.pass(&clean);
    Ok(())
}

impl Down {
    /// `gate`: the seat of an Engine.IO session that may not be authenticated yet.
    pub(crate) const fn new(search: Option<Search>, gate: Option<Arc<Seat>>) -> Self {
        Self { parser: Parser::new(Sender::Server), search, gate, text: Text::Free }
    }

    /// Nothing is looked for any more, from the next message on.
    pub(crate) fn trust(&mut self) {
        self.search = None;
    }

    /// Whether what went to the client so far ends with a whole frame.
    pub(crate) fn is_at_boundary(&self) -> bool {
        match &self.text {
            Text::Free => self.parser.is_between_frames(),
            // Nothing of the message has gone out; a control frame in its midst is rare, and short.
            Text::Early(_) => self.parser.is_between_frames() || self.parser.current().kind != Kind::Control,
            Text::Scrubbed(text) => text.is_through() && text.waiting.is_empty() && self.parser.is_between_frames(),
            Text::Stream(_) => false,
        }
    }

    /// Whether it ends with a whole message.
    pub(crate) fn is_between_messages(&self) -> bool {
        matches!(self.text, Text::Early(_)) && self.is_at_boundary()
            || (self.parser.is_between_messages() && !matches!(self.text, Text::Stream(_)))
    }

    /// Looks through one read.
    ///
    /// # Errors
    /// What the client is to be told; what the sink has by then may still go out.
    pub(crate) fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        if let Text::Stream(scrubber) = &mut self.text {
            return stream(scrubber.as_deref_mut(), data.clone(), sink);
        }
        let mut at = 0;
        loop {
            let is_continued = self.parser.has_begun_header();
            let part = match self.parser.next(&data[at..]) {
                Ok(part) => part,
                Err(_) if at == 0 && !is_continued && self.gate.is_none() && matches!(self.text, Text::Free) => {
                    self.text = Text::Stream(self.search.as_ref().map(for_a_stream));
                    return self.pass(data, sink);
                }
                Err(_) => return Err(Closing::MALFORMED),
            };
            let Some((part, taken)) = part else { return Ok(()) };
            let range = at..at + taken;
            at += taken;
            match part {
                Part::Header(header) => {
                    if header.kind == Kind::Text && header.begins {
                        self.begin();
                    }
                    // The beginning of the header came with an earlier read and was kept.
                    let header = if is_continued { None } else { Some(range) };
                    self.header(header, sink)?;
                }
                Part::Payload { .. } => self.payload(data.slice(range.clone()), range, sink)?,
            }
            if self.parser.is_between_messages() && self.parser.current().kind == Kind::Text {
                self.end(sink)?;
            }
        }
    }

    fn begin(&mut self) {
        if self.gate.as_ref().is_some_and(|seat| !seat.is_waiting()) {
            self.gate = None;
        }
        self.text = match (&self.gate, &mut self.search) {
            (Some(_), _) => Text::Early(Box::default()),
            (None, Some(search)) => {
                Text::Scrubbed(Box::new(Scrubbed { scrubber: search.scrubber(), came: 0, went: 0, waiting: VecDeque::new() }))
            }
            (None, None) => Text::Free,
        };
    }

    fn header(&mut self, range: Option<std::ops::Range<usize>>, sink: &mut Sink<'_>) -> Result<(), Closing> {
        let kind = self.parser.current().kind;
        if kind == Kind::Binary && self.gate.as_ref().is_some_and(|seat| seat.is_waiting()) {
            return Err(Closing::EARLY);
        }
        match &mut self.text {
            Text::Early(early) if kind == Kind::Text => early.take(self.parser.wire(), None)?,
            Text::Scrubbed(text) if !text.is_through() => {
                if text.waiting.len() == WAITING_LIMIT {
                    return Err(Closing::TOO_LARGE);
                }
                text.waiting.push_back((text.came, self.parser.wire().to_vec()));
            }
            _ => match range {
                Some(range) => sink.keep(range),
                None => sink.put(self.parser.wire()),
            },
        }
        Ok(())
    }

    fn payload(&mut self, piece: Bytes, range: std::ops::Range<usize>, sink: &mut Sink<'_>) -> Result<(), Closing> {
        let is_text = self.parser.current().kind == Kind::Text;
        match &mut self.text {
            Text::Early(early) if is_text => early.take(&piece, Some(&piece)),
            Text::Scrubbed(text) if is_text => {
                text.came += piece.len() as u64;
                let clean = text.scrubber.push(piece).map_err(withheld)?;
                text.emit(clean, sink);
                Ok(())
            }
            // The payload of a control frame whose header waits, waits with it.
            Text::Scrubbed(text) if !text.is_through() => {
                if let Some((_, waiting)) = text.waiting.back_mut() {
                    waiting.extend_from_slice(&piece);
                }
                Ok(())
            }
            _ => {
                sink.keep(range);
                Ok(())
            }
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) -> Result<(), Closing> {
        match std::mem::replace(&mut self.text, Text::Free) {
            Text::Free | Text::Stream(_) => Ok(()),
            Text::Early(early) => {
                let may = packet::may_server_begin_with(&early.text) || self.gate.as_ref().is_none_or(|seat| !seat.is_waiting());
                if !may {
                    return Err(Closing::EARLY);
                }
                self.check(early.text)?;
                sink.put(&early.wire);
                Ok(())
            }
            Text::Scrubbed(mut text) => {
                let clean = match text.scrubber.finish() {
                    Ok(clean) => clean,
                    Err(leak) => {
                        // No boundary comes any more.
                        self.text = Text::Scrubbed(text);
                        return Err(withheld(leak));
                    }
                };
                text.emit(clean, sink);
                if text.is_through() {
                    return Ok(());
                }
                self.text = Text::Scrubbed(text);
                Err(Closing::LEAK)
            }
        }
    }

    /// What the opening says is known; a credential in it is withheld with it.
    fn check(&mut self, text: Vec<u8>) -> Result<(), Closing> {
        let Some(search) = &mut self.search else { return Ok(()) };
        let text = Bytes::from(text);
        let mut scrubber = search.scrubber();
        let clean = [scrubber.push(text.clone()).map_err(withheld)?, scrubber.finish().map_err(withheld)?].concat();
        if clean == text { Ok(()) } else { Err(Closing::LEAK) }
    }
}

fn withheld(leak: crate::scrub::Leak) -> Closing {
    tracing::error!(%leak, "a WebSocket is closed: a message of the media server would have shown a credential");
    Closing::LEAK
}

impl Early {
    fn take(&mut self, wire: &[u8], text: Option<&[u8]>) -> Result<(), Closing> {
        self.wire.extend_from_slice(wire);
        self.text.extend_from_slice(text.unwrap_or_default());
        if self.wire.len() > EARLY_LIMIT { Err(Closing::EARLY) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::websocket::frame;
    use crate::upstream::Kind as Server;

    /// A token of Emby's or Jellyfin's.
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn search() -> Search {
        let secrets = Arc::new(Secrets::new(Server::Audiobookshelf, [], &[]));
        Search::new(move || Arc::clone(&secrets))
    }

    fn searches(tokens: &[&str]) -> Search {
        let tokens: Vec<_> = tokens.iter().map(|token| crate::secret::Secret::from(*token)).collect();
        let secrets = Arc::new(Secrets::new(Server::Jellyfin, &tokens, &[]));
        Search::new(move || Arc::clone(&secrets))
    }

    /// The text of all messages.
    fn said(mut wire: &[u8]) -> String {
        let (mut parser, mut text) = (Parser::new(Sender::Server), Vec::new());
        while let Ok(Some((part, taken))) = parser.next(wire) {
            if matches!(part, Part::Payload { .. }) && parser.current().kind == Kind::Text {
                text.extend_from_slice(&wire[..taken]);
            }
            wire = &wire[taken..];
        }
        String::from_utf8(text).expect("text")
    }

    /// What goes on of bytes that come in pieces.
    fn passed(down: &mut Down, pieces: &[&[u8]]) -> Result<Vec<u8>, Closing> {
        let mut out = Vec::new();
        for piece in pieces {
            let data = Bytes::copy_from_slice(piece);
            let mut sink = Sink::new(&data);
            let passed = down.pass(&data, &mut sink);
            out.extend_from_slice(sink.bytes());
            passed?;
        }
        Ok(out)
    }

    fn gated() -> (Down, Arc<Seat>) {
        let table = Arc::new(crate::forward::socketio::table::Table::default());
        let place = table.wait([127, 0, 0, 1].into(), std::time::Duration::ZERO).expect("room");
        let seat = Arc::new(Seat::waiting(place, std::time::Duration::MAX));
        (Down::new(Some(search()), Some(Arc::clone(&seat))), seat)
    }

    #[test]
    fn bytes_that_are_no_frames_go_on_without_credentials_to_the_end() {
        let mut down = Down::new(Some(searches(&[TOKEN])), None);
        let raw = format!("ping-me! {TOKEN} and on");
        let out = passed(&mut down, &[raw.as_bytes(), b"\x81\x01x!"]).expect("no frames");
        let out = String::from_utf8_lossy(&out);
        assert!(out.starts_with("ping-me! ") && out.ends_with("x!") && !out.contains(TOKEN), "{out}");
        assert!(!down.is_at_boundary() && !down.is_between_messages(), "no close frame fits in");
        let mut begun = Down::new(Some(searches(&[TOKEN])), None);
        assert_eq!(passed(&mut begun, &[&frame::frame(1, b"a frame", None), b"\x81"]).map(|_| ()), Ok(()));
        assert_eq!(passed(&mut begun, &[&[0xff; 20]]), Err(Closing::MALFORMED), "in the midst of a frame");
        assert_eq!(passed(&mut gated().0, &[b"ping-me!"]), Err(Closing::MALFORMED), "Engine.IO is never anything else");
    }

    /// Messages as a server may send them: in pieces, with pings between the pieces.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let message = (prop::collection::vec("[ -~]{0,150}", 1..4), any::<bool>(), any::<bool>()).prop_map(|(pieces, is_text, pings)| {
            let mut bytes = Vec::new();
            for (place, piece) in pieces.iter().enumerate() {
                let opcode = if place > 0 {
                    0
                } else if is_text {
                    1
                } else {
                    2
                };
                let start = bytes.len();
                bytes.extend(frame::frame(opcode, piece.as_bytes(), None));
                if place + 1 < pieces.len() {
                    bytes[start] &= 0x7f;
                }
                if pings {
                    bytes.extend(frame::frame(9, b"ping", None));
                }
            }
            bytes
        });
        prop::collection::vec(message, 0..4).prop_map(|all| all.concat())
    }

    proptest! {
        #[test]
        fn frames_without_a_secret_go_on_byte_for_byte_however_they_are_split(bytes in frames(), size in 1_usize..40) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            for search in [Some(search()), None] {
                let mut down = Down::new(search, None);
                prop_assert_eq!(passed(&mut down, &pieces).expect("well formed"), &bytes[..]);
                prop_assert!(down.is_at_boundary() && down.is_between_messages());
            }
        }

        #[test]
        fn a_token_in_fragments_goes_whatever_stands_between_them_and_however_they_are_split(
            before in "[ -~]{0,40}",
            lengths in prop::collection::vec(0_usize..20, 0..8),
            size in 1_usize..40,
        ) {
            // The space keeps a percent sign at the end of what stands before from taking in the token's first letters: that is withheld.
            let text = format!("{before} {TOKEN} and more");
            let (mut bytes, mut rest, mut opcode) = (Vec::new(), text.as_bytes(), 1);
            for length in lengths {
                let (piece, after) = rest.split_at(length.min(rest.len()));
                let start = bytes.len();
                bytes.extend(frame::frame(opcode, piece, None));
                bytes[start] &= 0x7f;
                bytes.extend(frame::frame(9, b"ping", None));
                (rest, opcode) = (after, 0);
            }
            bytes.extend(frame::frame(opcode, rest, None));
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let out = passed(&mut Down::new(Some(searches(&[TOKEN])), None), &pieces).expect("well formed");
            prop_assert_eq!(out.len(), bytes.len());
            prop_assert_eq!(said(&out), text.replace(TOKEN, &"*".repeat(TOKEN.len())));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..40) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let _ = passed(&mut Down::new(Some(search()), None), &pieces);
            let _ = passed(&mut gated().0, &pieces);
        }
    }

    #[test]
    fn whole_frames_pass_without_a_copy() {
        let data =
            Bytes::from([frame::text(b"42[\"progress\",{}]"), frame::frame(9, b"x", None), frame::frame(2, b"binary", None)].concat());
        let mut sink = Sink::new(&data);
        Down::new(Some(search()), None).pass(&data, &mut sink).expect("well formed");
        assert!(!sink.has_copied());
        assert_eq!(sink.bytes(), data);
    }

    #[test]
    fn before_authentication_only_the_opening_goes_on() {
        let (mut down, seat) = gated();
        let opening = [frame::text(br#"0{"sid":"x"}"#), frame::text(br#"40{"sid":"y"}"#), frame::text(b"2")].concat();
        let pieces: Vec<&[u8]> = opening.chunks(3).collect();
        assert_eq!(passed(&mut down, &pieces).expect("allowed"), opening);
        let event = frame::text(br#"42["user_updated",{}]"#);
        assert_eq!(passed(&mut gated().0, &[&event]), Err(Closing::EARLY));
        assert_eq!(passed(&mut gated().0, &[&frame::frame(2, b"x", None)]), Err(Closing::EARLY));
        assert_eq!(seat.take_natively(), Ok(true));
        assert_eq!(passed(&mut down, &[&event]).expect("allowed now"), event);
    }

    #[test]
    fn in_the_midst_of_a_frame_there_is_no_boundary() {
        let mut down = Down::new(None, None);
        let bytes = frame::text(b"hello");
        for split in 0..bytes.len() {
            let mut down = Down::new(None, None);
            passed(&mut down, &[&bytes[..split]]).expect("well formed");
            // A header that has not come whole has not gone on.
            assert_eq!(down.is_at_boundary(), split < 2, "{split}");
        }
        passed(&mut down, &[&[0x01, 1, b'a']]).expect("well formed");
        assert!(down.is_at_boundary() && !down.is_between_messages());
    }
}
