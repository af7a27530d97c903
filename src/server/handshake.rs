//! The TLS handshake, within its time; and a word for those who come without TLS.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::server::tls::Acceptor;
use crate::socket::Socket;

/// What somebody gets who typed `http://` in front of a port that speaks TLS. Without it, programs show him a broken connection. It is said
/// before anything of his request is read but its first byte, so nothing of it can come back.
const WITHOUT_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 73\r\nConnection: close\r\n\r\n\
    This port speaks https: write https:// in place of http:// and try again\n";

/// The most that is read of a request that is not answered otherwise: what is unread resets the connection, and takes the answer along.
const DRAINED: u64 = 64 << 10;
/// Of which so much is looked at for keys: heads are shorter.
const OVERHEARD: usize = 16 << 10;

/// Why there is no connection to serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// A request in clear text.
    #[error("a request came without TLS, which this port wants")]
    WithoutTls,
    /// The two could not agree, or the connection broke.
    #[error("no TLS handshake: {0}")]
    Failed(#[from] io::Error),
    /// It was all that the other end wanted.
    #[error("an ACME server was shown that a name is ours")]
    Challenge,
    /// Time was up.
    #[error("no TLS handshake within {} s", .0.as_secs_f32())]
    TooLate(Duration),
}

/// How a handshake ended, as figures are labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaken {
    Good,
    Failed,
    WithoutTls,
    TooLate,
    Challenge,
}

impl Shaken {
    pub(crate) const ALL: [Self; 5] = [Self::Good, Self::Failed, Self::WithoutTls, Self::TooLate, Self::Challenge];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed => "failed",
            Self::WithoutTls => "without_tls",
            Self::TooLate => "timeout",
            Self::Challenge => "acme_challenge",
        }
    }
}

impl From<&HandshakeError> for Shaken {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::WithoutTls => Self::WithoutTls,
            HandshakeError::Failed(_) => Self::Failed,
            HandshakeError::Challenge => Self::Challenge,
            HandshakeError::TooLate(_) => Self::TooLate,
        }
    }
}

/// Makes a TLS connection of a plain one. Whatever the client does, it is over after `limit`. `overheard` is shown the beginning of what
/// came in clear text, if that came.
pub(crate) async fn complete(
    stream: TcpStream,
    acceptor: &Acceptor,
    limit: Duration,
    overheard: impl FnMut(&[u8]),
) -> Result<TlsStream<Socket>, HandshakeError> {
    let done = tokio::time::timeout(limit, async {
        if is_request(&stream).await? {
            answer(stream, Overheard { bytes: Vec::new(), tell: overheard }).await;
            return Err(HandshakeError::WithoutTls);
        }
        acceptor.accept(stream.into()).await?.ok_or(HandshakeError::Challenge)
    });
    done.await.unwrap_or(Err(HandshakeError::TooLate(limit)))
}

/// Whether a connection begins as a request does, with the capital letter of a method, and not with a handshake, whose first byte is 22
/// (RFC 8446, section 5.1).
async fn is_request(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// What came in clear text; shown when nothing more comes, or when time is up.
struct Overheard<T: FnMut(&[u8])> {
    bytes: Vec<u8>,
    tell: T,
}

impl<T: FnMut(&[u8])> Overheard<T> {
    fn hear(&mut self, bytes: &[u8]) {
        let room = OVERHEARD - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

impl<T: FnMut(&[u8])> Drop for Overheard<T> {
    fn drop(&mut self) {
        (self.tell)(&self.bytes);
    }
}

/// Says what is wrong. A client that does not read it is its own loss.
async fn answer<T: FnMut(&[u8])>(mut stream: TcpStream, mut overheard: Overheard<T>) {
    // Whether it is heard or not: the request is on its way, and others may have read it.
    let _ = stream.write_all(WITHOUT_TLS).await;
    let _ = stream.shutdown().await;
    let (mut rest, mut buffer) = (stream.take(DRAINED), [0; 4096]);
    while let Ok(count @ 1..) = rest.read(&mut buffer).await {
        overheard.hear(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(WITHOUT_TLS).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
