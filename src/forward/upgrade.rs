//! After the upstream's 101: bytes both ways, outside hyper.
//!
//! An idle socket costs its two descriptors and this task. There is no buffer per socket: a core's scratch buffer serves whichever
//! of its sockets has something to say, and only what the other side would not take at once is kept.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

const SCRATCH_BYTES: usize = 64 << 10;
/// Once one side has closed, the other may be silent for no longer than this: a WebSocket is not half open for long (RFC 6455,
/// section 7.1.1).
const LINGER: Duration = Duration::from_secs(10);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// How a bridge ended.
#[derive(Debug)]
pub struct Bridged {
    /// Bytes from the client to the upstream.
    pub from_client: u64,
    /// Bytes from the upstream to the client.
    pub to_client: u64,
    /// What broke it off; `Ok` when both sides closed.
    pub result: io::Result<()>,
}

/// Copies until both sides have closed, one of them fails, or nothing moved for `idle_timeout`.
#[derive(Debug)]
pub struct Bridge<C, U> {
    client: C,
    upstream: U,
    to_upstream: Direction,
    to_client: Direction,
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    moved: u64,
}

#[derive(Debug, Default)]
struct Direction {
    pending: Bytes,
    bytes: u64,
    read_closed: bool,
    closed: bool,
    /// TLS took bytes that it has not written yet.
    unflushed: bool,
}

impl<C, U> Bridge<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// `early_client` and `early_upstream`: bytes that came with the handshake and belong to the tunnel.
    pub fn new((client, early_client): (C, Bytes), (upstream, early_upstream): (U, Bytes), idle_timeout: Duration) -> Self {
        Self {
            client,
            upstream,
            to_upstream: Direction { pending: early_client, ..Direction::default() },
            to_client: Direction { pending: early_upstream, ..Direction::default() },
            idle_timeout,
            idle: Box::pin(sleep(idle_timeout)),
            moved: 0,
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.idle.as_mut().poll(cx));
            let moved = self.to_upstream.bytes + self.to_client.bytes;
            if moved == self.moved {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("no byte moved for {:?}", self.idle_timeout))));
            }
            self.moved = moved;
            let next = self.idle.deadline() + self.idle_timeout;
            self.idle.as_mut().reset(next);
        }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let up = self.to_upstream.poll(cx, &mut self.client, &mut self.upstream)?;
        let down = self.to_client.poll(cx, &mut self.upstream, &mut self.client)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if (up.is_ready() || down.is_ready()) && self.idle_timeout > LINGER {
            self.idle_timeout = LINGER;
            self.idle.set(sleep(LINGER));
        }
        self.poll_idle(cx)
    }
}

impl<C, U> Future for Bridge<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Bridged;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Bridged> {
        let result = ready!(self.poll_both(cx));
        Poll::Ready(Bridged { from_client: self.to_upstream.bytes, to_client: self.to_client.bytes, result })
    }
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.pending.has_remaining() {
                let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.pending))?;
                self.advance(written)?;
            }
            if self.unflushed {
                // Nothing else would do it: the next read may be hours away.
                ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if self.read_closed {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_move(cx, reader, writer))?;
        }
    }

    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.pending.advance(written);
        self.unflushed = true;
        Ok(())
    }

    /// One read into the scratch buffer and one write out of it; what is left over is kept.
    fn poll_move<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
            let data = buffer.filled();
            if data.is_empty() {
                self.read_closed = true;
                return Poll::Ready(Ok(()));
            }
            self.bytes += data.len() as u64;
            self.unflushed = true;
            let written = match Pin::new(&mut *writer).poll_write(cx, data)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            if written < data.len() {
                self.pending = Bytes::copy_from_slice(&data[written..]);
            }
            Poll::Ready(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn bridge(
        client: tokio::io::DuplexStream,
        upstream: tokio::io::DuplexStream,
        early: &'static [u8],
    ) -> Bridge<tokio::io::DuplexStream, tokio::io::DuplexStream> {
        Bridge::new((client, Bytes::new()), (upstream, Bytes::from_static(early)), Duration::from_secs(600))
    }

    #[tokio::test]
    async fn bytes_of_any_amount_arrive_whole_through_narrow_pipes() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(77);
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let talk = async move {
            app.write_all(&sent).await.expect("written");
            app.shutdown().await.expect("closed");
            let mut early = Vec::new();
            app.read_to_end(&mut early).await.expect("read");
            early
        };
        let listen = async move {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.expect("read");
            drop(server);
            got
        };
        let (early, got, done) = tokio::join!(talk, listen, bridge(client, upstream, b"early"));
        assert_eq!(got, expected);
        assert_eq!(early, b"early");
        assert_eq!((done.from_client, done.result.is_ok()), (300_000, true));
    }

    #[tokio::test]
    async fn one_direction_stays_open_when_the_other_closes() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(100);
        let talk = async move {
            app.shutdown().await.expect("closed");
            let mut got = Vec::new();
            app.read_to_end(&mut got).await.expect("read");
            got
        };
        let answer = async move {
            let mut nothing = Vec::new();
            server.read_to_end(&mut nothing).await.expect("read");
            server.write_all(b"still here").await.expect("written");
        };
        let (got, (), _) = tokio::join!(talk, answer, bridge(client, upstream, b""));
        assert_eq!(got, b"still here");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_bridge_ends_after_its_idle_time_and_a_talking_one_does_not() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(100);
        let talk = async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(500)).await;
                app.write_all(b".").await.expect("the bridge still stands");
                let mut byte = [0];
                server.read_exact(&mut byte).await.expect("and still moves bytes");
            }
            (app, server)
        };
        let (_ends, done) = tokio::join!(talk, bridge(client, upstream, b""));
        assert_eq!(done.from_client, 5);
        assert_eq!(done.result.expect_err("timed out").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_close_after_the_other_did_is_not_waited_for_long() {
        let (app, client) = duplex(100);
        let (upstream, server) = duplex(100);
        drop(server);
        let done = tokio::time::timeout(LINGER * 3, bridge(client, upstream, b"")).await.expect("an end");
        assert_eq!(done.result.expect_err("timed out").kind(), io::ErrorKind::TimedOut);
        drop(app);
    }

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
            assert!(direction.poll(&mut cx, &mut upstream, &mut client).is_pending());
        }
        assert_eq!((client.taken, client.flushed), (10, 10));
    }
}
