//! Fewer and fuller writes for HTTP/2.
//!
//! The h2 crate writes each DATA frame of 256 bytes or more by itself where writes are vectored: one TLS record and one system call for
//! each small answer, however many are ready. Where they are not, it gathers frames of less than 1 KiB, but writes the nine bytes
//! before a larger one by themselves. Here writes are not vectored as h2 sees it, and what is short waits for what comes next.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is shorter waits for the next write, or for the flush: the head of an answer and of the frame that carries its body.
const SHORT: usize = 512;

/// A socket whose short writes are gathered until it is flushed.
#[derive(Debug)]
pub(super) struct Gathering<S> {
    socket: S,
    /// Less than two short writes' worth. Without room of its own while nothing waits.
    waiting: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    pub(super) const fn new(socket: S) -> Self {
        Self { socket, waiting: Vec::new() }
    }

    /// Writes what waits, and as much of `more` as goes along with it: how much that is.
    fn poll_out(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let both = [IoSlice::new(&self.waiting), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written >= self.waiting.len() {
                let written = written - self.waiting.len();
                self.waiting = Vec::new();
                return Poll::Ready(Ok(written));
            }
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.len() < SHORT && this.waiting.len() < SHORT {
            this.waiting.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        match ready!(this.poll_out(cx, buf))? {
            0 => Pin::new(&mut this.socket).poll_write(cx, buf),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx, &[]))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx, &[]))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A socket that takes at most so many bytes at once, every other time none, and remembers what each write brought.
    #[derive(Default)]
    struct Slow {
        most: usize,
        is_full: bool,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.is_full = !self.is_full && self.most < usize::MAX;
            if self.is_full {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = buf.len().min(self.most);
            self.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_short_goes_out_with_what_follows_or_with_the_flush() {
        let mut socket = Gathering::new(Slow { most: usize::MAX, ..Slow::default() });
        for piece in [&[1; 9][..], &[2; 4096], &[3; 9], &[4; 9]] {
            socket.write_all(piece).await.expect("written");
        }
        assert_eq!(socket.socket.writes, [[&[1; 9][..], &[2; 4096]].concat()]);
        socket.flush().await.expect("flushed");
        assert_eq!(socket.socket.writes[1..], [[[3; 9], [4; 9]].concat()]);
        assert_eq!(socket.waiting.capacity(), 0, "an idle connection pays nothing for it");
    }

    #[tokio::test]
    async fn nothing_is_left_behind_at_the_end() {
        let mut socket = Gathering::new(Slow { most: usize::MAX, ..Slow::default() });
        socket.write_all(&[1; 9]).await.expect("written");
        poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await.expect("shut down");
        assert_eq!(socket.socket.writes, [[1; 9]]);
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(pieces in proptest::collection::vec(1..3000_usize, 0..20), most in 1..2000_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let text: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|number| number.to_le_bytes()[0]).collect();
            let mut socket = Gathering::new(Slow { most, ..Slow::default() });
            runtime.block_on(async {
                let mut rest = text.as_slice();
                for piece in pieces {
                    let (now, later) = rest.split_at(piece);
                    socket.write_all(now).await.expect("written");
                    rest = later;
                }
                socket.flush().await.expect("flushed");
            });
            prop_assert_eq!(socket.socket.writes.concat(), text);
        }
    }
}
