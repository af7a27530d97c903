//! Connections to gateways under test, and to whatever else listens; what comes from a gateway is shown to its [`super::sweep::Sweep`].
//! They stand in for those of tokio and of the standard library, which no other file of the suite may open.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sweep::Flow;

/// A connection whose bytes are shown to the sweep of the gateway at its other end.
pub(crate) struct Shown<S> {
    inner: S,
    flow: Option<Flow>,
}

/// A TCP connection.
pub(crate) type TcpStream = Shown<tokio::net::TcpStream>;

impl TcpStream {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let inner = tokio::net::TcpStream::connect(address).await?;
        Ok(Self { inner, flow: Flow::to(address) })
    }

    pub(crate) fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        self.inner.set_nodelay(is_on)
    }

    /// The bare connection, for TLS: what is inside is to be shown.
    pub(crate) async fn bare(address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(address).await
    }
}

impl<S> Shown<S> {
    /// What comes over this connection is shown to this sweep.
    pub(crate) const fn over(inner: S, flow: Option<Flow>) -> Self {
        Self { inner, flow }
    }

    pub(crate) const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shown<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let (Poll::Ready(Ok(())), Some(flow)) = (&read, &mut self.flow) {
            flow.came(&buffer.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shown<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let (Poll::Ready(Ok(count)), Some(flow)) = (&written, &mut self.flow) {
            flow.sent(&bytes[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Connections that block.
pub(crate) mod blocking {
    use std::io::{self, Read, Write};
    use std::net::SocketAddr;

    use super::Flow;

    /// A TCP connection.
    pub(crate) struct TcpStream {
        inner: std::net::TcpStream,
        flow: Option<Flow>,
    }

    impl TcpStream {
        pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
            Ok(Self { inner: std::net::TcpStream::connect(address)?, flow: Flow::to(address) })
        }
    }

    impl Read for TcpStream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.inner.read(buffer)?;
            if let Some(flow) = &mut self.flow {
                flow.came(&buffer[..count]);
            }
            Ok(count)
        }
    }

    impl Write for TcpStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.inner.write(bytes)?;
            if let Some(flow) = &mut self.flow {
                flow.sent(&bytes[..count]);
            }
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.inner.flush()
        }
    }
}
