//! The bytes of one connection: what is still to be written of a request, and what was read of an answer.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio_util::io::poll_read_buf;

use super::Broken;
use super::framing::{Extent, Wrapping};
use super::head::{self, Head};
use crate::forward::body::RequestBody;
use crate::upstream::io::UpstreamIo;

/// Bytes that are asked for first: most answers are shorter.
const LEAST_READ: usize = 8 << 10;
/// Most bytes that are asked for at once.
const MOST_READ: usize = 256 << 10;
/// Room that an idle connection keeps.
const KEPT: usize = 16 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    io: UpstreamIo,
    state: State,
    out: Out,
    /// Came and was not taken yet.
    inbox: BytesMut,
    /// How much of the inbox is known to hold no end of a head.
    searched: usize,
    /// How much the next read asks for: a stream gets large pieces, an answer in one piece a small room.
    read_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was ever asked.
    New,
    /// All that was asked is answered.
    Idle,
    /// A request or its answer is under way.
    Busy,
    /// Nothing may be asked any more.
    Over,
}

/// What an upstream says while it is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// It has hung up.
    End,
    /// Something, on a connection on which nothing was ever asked: it does not speak HTTP.
    Greeting,
    /// Something, which must not become the answer to the next request.
    Noise,
}

/// What is to be written, in this order.
#[derive(Debug, Default)]
struct Out {
    /// The head, or what stands before data.
    before: Vec<u8>,
    data: Bytes,
    /// What stands after it.
    after: &'static [u8],
    /// What more is to come.
    body: Option<(RequestBody, Wrapping)>,
    /// Whether a byte of the request was written.
    has_begun: bool,
}

/// Whether there is something to write.
enum Staged {
    Yes,
    /// Not before the body's next bytes come.
    NotYet,
    /// All of it has been.
    All,
}

impl Wire {
    pub(super) fn new(io: UpstreamIo) -> Self {
        Self { io, state: State::New, out: Out::default(), inbox: BytesMut::new(), searched: 0, read_size: LEAST_READ }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::New | State::Idle)
    }

    /// What the upstream says on an idle connection; if anything, nothing may be asked on it any more.
    pub(super) fn listen(&mut self, cx: &mut Context<'_>) -> Heard {
        let (mut byte, io) = ([0], &mut self.io);
        let mut read = ReadBuf::new(&mut byte);
        // Not only where the task has not done enough already: then nothing would be read, and whatever is there be taken for silence.
        let look = unconstrained(poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut read)));
        let heard = match (self.state, pin!(look).poll(cx)) {
            (State::New | State::Idle, Poll::Pending) => return Heard::Nothing,
            (_, Poll::Pending | Poll::Ready(Err(_))) => Heard::End,
            (_, Poll::Ready(Ok(()))) if read.filled().is_empty() => Heard::End,
            (State::New, _) => Heard::Greeting,
            _ => Heard::Noise,
        };
        self.state = State::Over;
        heard
    }

    /// Takes a request to be written: its head…
    pub(super) fn begin(&mut self, head: Vec<u8>) {
        self.state = State::Busy;
        self.out.has_begun = false;
        self.out.before = head;
    }

    /// The head, of which nothing was written.
    pub(super) fn take_back(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out.before)
    }

    /// …and its body, if it has one.
    pub(super) fn follow(&mut self, body: RequestBody, extent: Extent) {
        self.out.body = Some((body, Wrapping::new(extent)));
    }

    /// Whether a byte of the request was written.
    pub(super) const fn has_begun(&self) -> bool {
        self.out.has_begun
    }

    /// Whether all of the request was written.
    pub(super) fn is_written(&self) -> bool {
        self.out.body.is_none() && self.out.is_empty()
    }

    /// Writes the request as far as it is here; ready when all of it is written.
    ///
    /// # Errors
    /// [`Broken::Io`], [`Broken::Body`], [`Broken::BodyLength`].
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let staged = self.out.stage(cx)?;
            ready!(self.out.poll_drain(&mut self.io, cx))?;
            match staged {
                Staged::Yes => {}
                Staged::NotYet => {
                    ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                    return Poll::Pending;
                }
                Staged::All => return Pin::new(&mut self.io).poll_flush(cx).map_err(Broken::Io),
            }
        }
    }

    /// Reads the head of the answer. Those that only announce another one (RFC 9110, section 15.2) are passed over.
    ///
    /// # Errors
    /// [`Broken`], but for what the request's body breaks off with.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        loop {
            match head::take(&mut self.inbox, &mut self.searched)? {
                Some(head) if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS => {}
                Some(head) => return Poll::Ready(Ok(head)),
                None if ready!(self.poll_read(cx))? == 0 => return Poll::Ready(Err(Broken::Closed)),
                None => {}
            }
        }
    }

    /// Reads more into the inbox; 0: the upstream has closed its side.
    ///
    /// # Errors
    /// The system's or TLS'.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.reserve(self.read_size);
        let room = self.inbox.capacity() - self.inbox.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.inbox))?;
        self.read_size = if read == room { (2 * room).min(MOST_READ) } else { read.next_power_of_two().clamp(LEAST_READ, MOST_READ) };
        Poll::Ready(Ok(read))
    }

    /// What was read and not taken.
    pub(super) const fn inbox(&mut self) -> &mut BytesMut {
        &mut self.inbox
    }

    /// The answer has come to its end. `may_serve`: another request may follow it. What came beyond its end is nobody's answer.
    pub(super) fn end(&mut self, may_serve: bool) {
        let serves = may_serve && self.inbox.is_empty() && self.is_written();
        self.state = if serves { State::Idle } else { State::Over };
        self.read_size = LEAST_READ;
        if self.inbox.is_empty() && self.inbox.capacity() > KEPT {
            self.inbox = BytesMut::new();
        }
    }

    /// The socket, and what came beyond the head that switched protocols.
    pub(super) fn into_socket(self) -> (UpstreamIo, Bytes) {
        // An empty buffer would keep its room for the life of the socket.
        let early = if self.inbox.is_empty() { Bytes::new() } else { self.inbox.freeze() };
        (self.io, early)
    }
}

impl Out {
    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.data.is_empty() && self.after.is_empty()
    }

    /// Puts the next data of the body behind what is to be written, unless some is there already.
    fn stage(&mut self, cx: &mut Context<'_>) -> Result<Staged, Broken> {
        let Some((body, wrapping)) = &mut self.body else { return Ok(Staged::All) };
        if !self.data.is_empty() || !self.after.is_empty() {
            return Ok(Staged::Yes);
        }
        let (data, is_last) = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Ok(Staged::NotYet),
            Poll::Ready(Some(Ok(frame))) => (frame.into_data().unwrap_or_default(), body.is_end_stream()),
            Poll::Ready(Some(Err(error))) => return Err(Broken::Body(Box::new(error))),
            Poll::Ready(None) => (Bytes::new(), true),
        };
        self.after = wrapping.wrap(&data, is_last, &mut self.before)?;
        self.data = data;
        if is_last {
            self.body = None;
        }
        Ok(Staged::Yes)
    }

    /// Writes all that is staged.
    fn poll_drain(&mut self, io: &mut UpstreamIo, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut written = 0;
        while !self.is_empty() {
            let before = &self.before[written..];
            let polled = match (before, &*self.data, self.after) {
                (only, [], []) | ([], only, []) => Pin::new(&mut *io).poll_write(cx, only),
                (before, data, after) => Pin::new(&mut *io).poll_write_vectored(cx, &[before, data, after].map(IoSlice::new)),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                Poll::Ready(Ok(bytes)) => written = self.went(written, bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.before.drain(..written);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// `bytes` more were written after the first `written` ones of what stands before the data; how many of those are now.
    fn went(&mut self, written: usize, bytes: usize) -> usize {
        self.has_begun = true;
        let of_before = bytes.min(self.before.len() - written);
        let of_data = (bytes - of_before).min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // Lets go of the client's buffer.
            self.data = Bytes::new();
        }
        self.after = &self.after[bytes - of_before - of_data..];
        if written + of_before == self.before.len() {
            self.before.clear();
            return 0;
        }
        written + of_before
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::coop::poll_proceed;

    use super::*;

    #[tokio::test]
    async fn what_an_upstream_says_unasked_is_noticed_however_much_the_task_has_done_already() {
        for (is_busy, was_used, wanted) in
            [(false, false, Heard::Greeting), (true, false, Heard::Greeting), (false, true, Heard::Noise), (true, true, Heard::Noise)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
            let mut wire = Wire::new(UpstreamIo::Plain(stream.into()));
            if was_used {
                wire.end(true);
            }
            assert_eq!(poll_fn(|cx| Poll::Ready(wire.listen(cx))).await, Heard::Nothing);
            let mut server = listener.accept().await.expect("accepted").0;
            server.write_all(b"HTTP/1.1 200 OK\r\n").await.expect("said");
            let UpstreamIo::Plain(socket) = &wire.io else { panic!("a plain one") };
            socket.as_ref().readable().await.expect("something to read");
            let heard = poll_fn(|cx| {
                while let (true, Poll::Ready(spent)) = (is_busy, poll_proceed(cx)) {
                    spent.made_progress();
                }
                Poll::Ready(wire.listen(cx))
            });
            assert_eq!((heard.await, wire.is_idle()), (wanted, false), "{is_busy}");
        }
    }

    #[test]
    fn what_was_written_in_part_goes_on_where_it_stopped() {
        for step in 1..=9 {
            let (mut out, mut wire) =
                (Out { before: b"head".to_vec(), data: Bytes::from_static(b"data"), after: b"\r\n", ..Out::default() }, Vec::new());
            let mut written = 0;
            while !out.is_empty() {
                let all = [&out.before[written..], &out.data, out.after].concat();
                let some = step.min(all.len());
                wire.extend_from_slice(&all[..some]);
                written = out.went(written, some);
            }
            assert_eq!((&wire[..], out.has_begun), (&b"headdata\r\n"[..], true), "{step}");
        }
    }
}
