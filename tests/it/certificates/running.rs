//! What began before a change and must not notice it: streams, a socket and idle connections, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use keygate::demo::StandIn;

use crate::support::authority::Client;
use crate::support::daemon::Home;
use crate::support::http::PATIENCE;
use crate::support::tls::exchange;
use crate::support::wire::Wire;

const UPGRADE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A GET with a key over HTTP/1.1.
pub(super) fn ask(key: &str, path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n{lines}\r\n")
}

/// A GET with a key over HTTP/2.
pub(super) fn request(key: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}")).header("x-emby-token", key).body(Full::default()).expect("a request")
}

/// Starts a stream over HTTP/2, whose body comes later.
pub(super) async fn stream(http2: &mut SendRequest<Full<Bytes>>, key: &str, path: &str) -> Incoming {
    http2.ready().await.expect("ready");
    let answer = tokio::time::timeout(PATIENCE, http2.send_request(request(key, path))).await.expect("in time").expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body()
}

/// A socket, after its first message.
pub(super) async fn socket(client: &Client, home: &Home, key: &str) -> Wire {
    let mut socket = client.wire(home.address, "localhost").await;
    socket.write(ask(key, "/socket?deviceId=d", UPGRADE)).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
    assert!(message(&mut socket).await.contains("ForceKeepAlive"));
    socket
}

/// The text of the next frame; short ones only.
async fn message(wire: &mut Wire) -> String {
    let head = wire.take(2).await;
    assert_eq!(head.len(), 2, "the socket is open");
    String::from_utf8(wire.take(usize::from(head[1])).await).expect("text")
}

/// The stand-in's pattern.
fn assert_pattern(bytes: &[u8], from: usize) {
    assert!(
        bytes.iter().enumerate().all(|(at, byte)| *byte == (((from + at) % 65_521) * 31 / 7) as u8),
        "bytes {from} to {} are right",
        from + bytes.len()
    );
}

/// What runs.
pub(crate) struct Running<'a> {
    standin: &'a StandIn,
    key: String,
    stream: Wire,
    taken: usize,
    http2: SendRequest<Full<Bytes>>,
    stream2: Incoming,
    taken2: usize,
    socket: Wire,
    idle: Wire,
}

impl<'a> Running<'a> {
    const SIZE: usize = 40_000_000;
    const PIECE: usize = 3_000_000;

    pub(crate) async fn start(client: &Client, home: &Home, standin: &'a StandIn, key: &str) -> Self {
        let long = format!("/keygate-test/bytes/{}", Self::SIZE);
        let mut stream1 = client.wire(home.address, "localhost").await;
        stream1.write(ask(key, &long, "")).await;
        assert!(stream1.head().await.starts_with("HTTP/1.1 200"));
        let mut http2 = client.http2(home.address).await;
        let stream2 = stream(&mut http2, key, &long).await;
        let socket = socket(client, home, key).await;
        let mut idle = client.wire(home.address, "localhost").await;
        idle.write(ask(key, "/keygate-test/bytes/0", "")).await;
        assert!(idle.head().await.starts_with("HTTP/1.1 200"));
        Self { standin, key: key.to_owned(), stream: stream1, taken: 0, http2, stream2, taken2: 0, socket, idle }
    }

    /// Takes a piece of each stream, and a message; asks something new on the second stream's connection.
    pub(crate) async fn goes_on(&mut self) {
        self.take(Self::PIECE).await;
        self.take2(Self::PIECE).await;
        self.standin.control().push("still here");
        assert!(message(&mut self.socket).await.contains("still here"));
        assert_eq!(exchange(&mut self.http2, request(&self.key, "/keygate-test/bytes/7")).await.body.len(), 7);
    }

    /// Each stream comes to its end with every byte, and the idle connection is good for one more request.
    pub(crate) async fn ends_well(mut self) {
        self.goes_on().await;
        self.take(Self::SIZE - self.taken).await;
        self.take2(Self::SIZE - self.taken2).await;
        assert_eq!(self.taken2, Self::SIZE);
        assert!(self.stream2.frame().await.is_none_or(|frame| frame.expect("its end").into_data().is_ok_and(|data| data.is_empty())));
        self.idle.write(ask(&self.key, "/System/Info", "Connection: close\r\n")).await;
        assert!(String::from_utf8_lossy(&self.idle.rest().await).contains("HTTP/1.1 200"));
    }

    async fn take(&mut self, count: usize) {
        let bytes = self.stream.take(count).await;
        assert_eq!(bytes.len(), count);
        assert_pattern(&bytes, self.taken);
        self.taken += count;
    }

    /// At least so many, frame by frame.
    async fn take2(&mut self, count: usize) {
        let until = self.taken2 + count;
        while self.taken2 < until {
            let frame = tokio::time::timeout(PATIENCE, self.stream2.frame()).await.expect("in time").expect("more").expect("a frame");
            let bytes = frame.into_data().expect("data");
            assert_pattern(&bytes, self.taken2);
            self.taken2 += bytes.len();
        }
    }
}
