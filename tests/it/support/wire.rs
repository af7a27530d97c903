//! HTTP/1.1 by hand: a client that sees every byte, an upstream that answers whatever it is told to, and waiting for conditions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keygate::config::Config;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::http::PATIENCE;
use super::net::TcpStream;
use super::{Rig, Setup};

/// Waits until something holds; a condition that never holds fails the test.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A client's connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), ahead: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// Whether the other side still takes bytes.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("bytes or an end in time");
        let count = read.unwrap_or(0);
        self.ahead.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// The next head, with its empty line; empty if the connection ends first.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.ahead.drain(..end + 4).collect()).expect("text");
            }
            if !self.more().await {
                return String::new();
            }
        }
    }

    /// So many bytes, or fewer if the connection ends.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count && self.more().await {}
        let count = count.min(self.ahead.len());
        self.ahead.drain(..count).collect()
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.ahead)
    }

    /// Bytes that come within a short time; for what must not come. Nothing is concluded from how long anything took.
    pub(crate) async fn nothing_comes(&mut self) -> bool {
        let mut byte = [0];
        self.ahead.is_empty() && tokio::time::timeout(Duration::from_millis(150), self.stream.read(&mut byte)).await.is_err()
    }
}

/// A request's head with the key as a bearer token; `lines` end in `\r\n` each.
pub(crate) fn head(rig: &Rig, method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{lines}\r\n", rig.secret())
}

/// The value of a header in a head.
pub(crate) fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// What [`Scripted::seen`] tells of a connection that the gateway closed.
pub(crate) const CLOSED: &str = "closed by the gateway";

/// An upstream that answers each path with bytes that a test wrote; a path without an answer is never answered. With `{close}` at
/// the end of the bytes, the connection is closed after them.
pub(crate) struct Scripted {
    port: u16,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Scripted {
    pub(crate) async fn start(answers: &[(&str, Vec<u8>)]) -> Self {
        let answers: Arc<HashMap<String, Vec<u8>>> =
            Arc::new(answers.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let journal = Arc::clone(&seen);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(Self::connection(stream, number, Arc::clone(&answers), Arc::clone(&journal)));
            }
        });
        Self { port, seen }
    }

    async fn connection(
        stream: tokio::net::TcpStream,
        number: usize,
        answers: Arc<HashMap<String, Vec<u8>>>,
        seen: Arc<Mutex<Vec<(usize, String)>>>,
    ) {
        let mut wire = Wire::over(stream);
        loop {
            let head = wire.head_for_long().await;
            if head.is_empty() {
                seen.lock().expect("lock").push((number, CLOSED.to_owned()));
                return;
            }
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            seen.lock().expect("lock").push((number, path.clone()));
            let Some(answer) = answers.get(&path) else { continue };
            let (bytes, closes) = match answer.strip_suffix(b"{close}") {
                Some(bytes) => (bytes, true),
                None => (answer.as_slice(), false),
            };
            if !wire.try_write(bytes).await || closes {
                return;
            }
        }
    }

    /// Number of the connection and path of each request.
    pub(crate) fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().expect("lock").clone()
    }

    /// A gateway in front of it, with a static token.
    pub(crate) async fn rig(&self, adjust: impl FnOnce(&mut Config) + Send + 'static) -> Rig {
        self.rig_over(None, adjust).await
    }

    /// The same with TLS.
    pub(crate) async fn rig_over(
        &self,
        certificate: Option<Arc<rustls::sign::CertifiedKey>>,
        adjust: impl FnOnce(&mut Config) + Send + 'static,
    ) -> Rig {
        let port = self.port;
        let mut setup = Setup::new(Kind::Audiobookshelf).credential(Credential::Token(Secret::from("static-token")));
        if let Some(certificate) = certificate {
            setup = setup.tls(certificate);
        }
        let setup = setup.with(move |config| {
            config.upstreams[0].port = port;
            // One core: what the pool keeps is seen by the next request.
            config.server.threads = 1;
            adjust(config);
        });
        setup.start().await
    }
}

impl Wire {
    async fn head_for_long(&mut self) -> String {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8_lossy(&self.ahead.drain(..end + 4).collect::<Vec<_>>()).into_owned();
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return String::new(),
                Ok(count) => self.ahead.extend_from_slice(&buffer[..count]),
            }
        }
    }
}
