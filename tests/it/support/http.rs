//! HTTP clients for tests: one that behaves, and one that writes whatever bytes it is given.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::net::TcpStream;
use super::sweep;

/// Longest that a test waits for an answer: a hang fails instead of blocking the run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A GET over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(address, Method::GET, path, headers, Bytes::new()).await
}

/// A request over a connection of its own.
pub(crate) async fn send(address: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    try_send(address, method, path, headers, body).await.expect("an answer")
}

/// The same; an error when the connection ended before the answer did.
pub(crate) async fn try_send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> hyper::Result<Answer> {
    let io = TokioIo::new(TcpStream::connect(address).await.expect("connected"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("handshake");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let sent = sweep::presented(&request);
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    };
    let answer: hyper::Result<_> = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    let answer = answer?;
    sweep::understood(address, &sent, &answer);
    Ok(answer)
}

/// Writes raw bytes and reads until the server closes, or, once a whole head has come, until nothing more comes for a moment.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("written");
    let mut got = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let has_head = got.windows(4).any(|window| window == b"\r\n\r\n");
        let patience = if has_head { Duration::from_millis(300) } else { PATIENCE };
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0)) | Ok(Err(_)) => break,
            Ok(Ok(count)) => got.extend_from_slice(&buffer[..count]),
            Err(_) if has_head => break,
            Err(_) => panic!("no answer to {:?}", String::from_utf8_lossy(bytes)),
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// The status of a raw answer; 0 when the server closed without one.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A request head as bytes, with names in the letter case given and nothing added but what stands here.
pub(crate) fn head(method: &str, target: &str, lines: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in lines {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
