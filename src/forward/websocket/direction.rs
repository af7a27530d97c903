//! One direction of a tunnel: read, look through, write; what the other side would not take at once is kept, and nothing else.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::clock::Clock;
use crate::forward::pace::Pacer;
use crate::forward::websocket::Closing;
use crate::forward::websocket::down::Down;
use crate::forward::websocket::sink::Sink;
use crate::limits::live::Live;
use crate::policy::Permit;

const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    /// One for all sockets of a core. It is whole again when the pieces that were cut off it are gone.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Why a tunnel ends before both sides have closed it.
#[derive(Debug)]
pub(crate) enum End {
    Io(io::Error),
    Closing(Closing),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Closing> for End {
    fn from(closing: Closing) -> Self {
        Self::Closing(closing)
    }
}

/// What looks through the bytes of one direction.
pub(crate) trait Filter {
    /// Ready when more may be read; what is to be written before that.
    ///
    /// # Errors
    /// What the client is to be told.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Closing>>;

    /// Looks through one read.
    ///
    /// # Errors
    /// What the client is to be told.
    fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing>;
}

impl Filter for Down {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<Bytes, Closing>> {
        Poll::Ready(Ok(Bytes::new()))
    }

    fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        Self::pass(self, data, sink)
    }
}

/// Looks at nothing, or as what is in it does.
impl<F: Filter> Filter for Option<Box<F>> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Closing>> {
        self.as_mut().map_or(Poll::Ready(Ok(Bytes::new())), |filter| filter.poll_ready(cx))
    }

    fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        match self {
            Some(filter) => filter.pass(data, sink),
            None => {
                sink.keep(0..data.len());
                Ok(())
            }
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) pending: Bytes,
    /// Came with the handshake, and is still to be looked through.
    pub(crate) early: Bytes,
    pub(crate) bytes: u64,
    read_closed: bool,
    closed: bool,
    /// TLS took bytes that it has not written yet.
    unflushed: bool,
    /// Of a key with limits.
    pacer: Option<Box<Pacer>>,
}

impl Direction {
    /// With bytes that came with the handshake.
    pub(crate) fn new(early: Bytes) -> Self {
        Self { early, ..Self::default() }
    }

    /// Keeps to the limits of the key that the socket runs on from now on. What was held back stays so.
    pub(crate) fn keep_to(&mut self, limits: &Arc<Live>, permit: &Permit, clock: &Arc<dyn Clock>) {
        let (limits, watch) = (Arc::clone(limits), permit.lifeline().watch());
        match &mut self.pacer {
            Some(pacer) => pacer.follow(limits, watch),
            none => *none = Some(Pacer::of_socket(limits, Arc::clone(clock), watch)),
        }
    }

    /// The message that is on its way may come to its end.
    pub(crate) fn hurry(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.hurry();
        }
    }

    /// Moves bytes until there are none, or the other side takes none. Ready when this direction is closed.
    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        filter: &mut impl Filter,
    ) -> Poll<Result<(), End>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_drained(cx, writer))?;
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            let first = ready!(filter.poll_ready(cx))?;
            if !first.is_empty() {
                self.pending = first;
                continue;
            }
            if self.read_closed {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_move(cx, reader, writer, filter))?;
        }
    }

    /// Ready when all that was to be written is written, and flushed: the next read may be hours away.
    pub(crate) fn poll_drained<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        while self.pending.has_remaining() {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
            self.unflushed = true;
        }
        self.pending = Bytes::new();
        if self.unflushed {
            ready!(Pin::new(&mut *writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One step of [`Direction::poll`] for a tunnel that ends: nothing that the server says after its end matters.
    pub(crate) fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        filter: &mut impl Filter,
    ) -> Poll<Result<(), End>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.read_closed {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
        }
        self.poll_move(cx, reader, writer, filter)
    }

    /// One read into the scratch buffer and one write out of it; what is left over is kept.
    fn poll_move<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W, filter: &mut impl Filter) -> Poll<Result<(), End>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let data = ready!(self.poll_next(cx, reader))?;
        if data.is_empty() {
            self.read_closed = true;
            return Poll::Ready(Ok(()));
        }
        self.bytes += data.len() as u64;
        let mut sink = Sink::new(&data);
        let passed = filter.pass(&data, &mut sink);
        let out = sink.bytes();
        if !out.is_empty() {
            self.unflushed = true;
            let written = match Pin::new(&mut *writer).poll_write(cx, out)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            if written < out.len() {
                self.pending = Bytes::copy_from_slice(&out[written..]);
            }
        }
        Poll::Ready(Ok(passed?))
    }

    /// What is to be looked through now; empty at the end. Never ready once the day's bytes are used up: the socket is cut then.
    fn poll_next<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<Bytes>> {
        if let Some(pacer) = &mut self.pacer
            && let Some(rest) = ready!(pacer.poll_rest(cx))
        {
            return Poll::Ready(Ok(rest));
        }
        let data = if self.early.is_empty() { ready!(poll_read(cx, reader))? } else { std::mem::take(&mut self.early) };
        match &mut self.pacer {
            Some(pacer) if !data.is_empty() => pacer.pass(data).map(Ok),
            _ => Poll::Ready(Ok(data)),
        }
    }
}

/// One read; empty at the end.
pub(crate) fn poll_read<R: AsyncRead + Unpin>(cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<Bytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.reserve(SCRATCH_BYTES);
        ready!(pin!(reader.read_buf(scratch)).poll(cx))?;
        Poll::Ready(Ok(scratch.split().freeze()))
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// A writer that takes everything and hands it on only when flushed, at the second try: as TLS over a full socket does.
    #[derive(Default)]
    struct Reluctant {
        taken: usize,
        flushed: usize,
        tries: usize,
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.taken += data.len();
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.tries += 1;
            if self.tries == 1 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.flushed = self.taken;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_tls_holds_back_goes_out_although_nothing_follows() {
        let (mut server, mut upstream) = duplex(100);
        server.write_all(b"last words").await.expect("written");
        let (mut direction, mut client) = (Direction::default(), Reluctant::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            // The server stays open and says no more.
            assert!(direction.poll(&mut cx, &mut upstream, &mut client, &mut None::<Box<Down>>).is_pending());
        }
        assert_eq!((client.taken, client.flushed), (10, 10));
    }

    #[tokio::test]
    async fn the_scratch_buffer_serves_again_once_its_pieces_are_gone() {
        let (mut server, mut upstream) = duplex(100);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut places = Vec::new();
        for _ in 0..3 {
            server.write_all(b"x").await.expect("written");
            let Poll::Ready(Ok(data)) = poll_read(&mut cx, &mut upstream) else { panic!("it has come") };
            places.push(data.as_ptr() as usize);
        }
        assert_eq!(places.iter().collect::<std::collections::HashSet<_>>().len(), 1, "{places:?}");
    }
}
