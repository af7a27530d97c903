//! keygate's own front door, from outside: a connection to one of its listeners as a client makes it.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::upstream::io::UpstreamIo;
use crate::upstream::tls::{Fingerprint, Trust};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take: a session may have to be made first.
const ANSWER: Duration = Duration::from_secs(30);
/// Most bytes of an answer that is read.
const MAX_BYTES: usize = 8 << 20;

/// A listener as one that connects to it must know it.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// Where.
    pub(crate) address: SocketAddr,
    /// The certificate that it shows, in hexadecimal; `None`: it speaks plain HTTP.
    pub(crate) certificate: Option<String>,
    /// Who must begin with a PROXY header.
    pub(crate) proxies: Vec<IpNet>,
}

/// How much of an answer's body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// All of it.
    Whole,
    /// Nothing.
    Left,
}

impl Front {
    /// A connection, with TLS where that is spoken.
    ///
    /// # Errors
    /// What failed, in a sentence.
    pub(crate) async fn connect(&self) -> Result<UpstreamIo, String> {
        let address = reachable(self.address);
        let late = |_| "it does not answer in time".to_owned();
        let mut stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)?.map_err(|error| error.to_string())?;
        let own = stream.local_addr().map_err(|error| error.to_string())?.ip().to_canonical();
        if self.proxies.iter().any(|net| net.contains(&own)) {
            // Speaking for nobody (section 2.1 of the PROXY protocol).
            stream.write_all(b"PROXY UNKNOWN\r\n").await.map_err(|error| error.to_string())?;
        }
        let Some(certificate) = &self.certificate else { return Ok(UpstreamIo::Plain(stream.into())) };
        let trust = match format!("sha256:{certificate}").parse::<Fingerprint>() {
            Ok(fingerprint) => Trust::pinned(fingerprint),
            Err(_) => Trust::nobody(),
        };
        let trust = trust.map_err(|error| error.to_string())?;
        timeout(CONNECT, trust.handshake(&address.ip().to_string(), stream)).await.map_err(late)?.map_err(|error| error.to_string())
    }

    /// One request, and its answer.
    ///
    /// # Errors
    /// What failed, in a sentence.
    pub(super) async fn ask(&self, request: Request<Empty<Bytes>>, wanted: Body) -> Result<(response::Parts, Bytes), String> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let exchange = async move {
            let (head, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
            let bytes = match wanted {
                Body::Left => Bytes::new(),
                Body::Whole => Limited::new(body, MAX_BYTES).collect().await.map_err(|error| error.to_string())?.to_bytes(),
            };
            Ok((head, bytes))
        };
        // It is driven, but its end decides nothing.
        let drive = async move {
            let _ = connection.await;
            pending().await
        };
        let answered = async {
            tokio::select! {
                answer = exchange => answer,
                never = drive => never,
            }
        };
        timeout(ANSWER, answered).await.map_err(|_| "there is no answer in time".to_owned())?
    }
}

/// Every address is also this machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let own: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(own, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_of_tls_that_speaks_something_else_is_not_taken_for_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let plain = Front { address, certificate: None, proxies: Vec::new() };
        assert!(plain.connect().await.is_ok());
        let secure = Front { certificate: Some("00".repeat(32)), ..plain };
        let speaks = async {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                // The one of before says nothing, and is gone already.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        };
        let connected = tokio::select! {
            connected = secure.connect() => connected,
            () = speaks => Err("it never ends".to_owned()),
        };
        assert!(connected.expect_err("no handshake").contains("does not speak TLS"));
    }

    #[test]
    fn every_address_is_also_this_machines() {
        for (listened, own) in [("[::]:443", "[::1]:443"), ("0.0.0.0:443", "127.0.0.1:443"), ("192.0.2.1:443", "192.0.2.1:443")] {
            assert_eq!(reachable(listened.parse().expect("an address")), own.parse().expect("an address"));
        }
    }
}
