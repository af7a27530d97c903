//! `http://` where TLS is spoken, and `https://` where it is not: told apart by trying the other one.
//!
//! Servers do not say it themselves: most close the connection, some send an alert, a few a page. For keygate's own rare calls only; a
//! request of a client never waits for it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::upstream::client::Upstream;
use crate::upstream::tls::{TlsError, Trust};

/// Most that finding out may take; after that the first error stands.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a plain upstream speaks TLS at its address.
pub(super) async fn speaks_tls(upstream: &Upstream) -> bool {
    let Ok(nobody) = Trust::nobody() else { return false };
    let ask = async {
        let stream = connect(upstream).await.ok()?;
        Some(nobody.handshake(&upstream.host, stream).await)
    };
    // To be refused for its certificate it must have sent one.
    matches!(timeout(PATIENCE, ask).await, Ok(Some(Err(TlsError::Untrusted(_)))))
}

/// Whether an encrypted upstream speaks plain HTTP at its address. A 400 does not count: servers of TLS say so to plain requests.
pub(super) async fn speaks_http(upstream: &Upstream) -> bool {
    const ASK: &[u8] = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let ask = async {
        let mut stream = connect(upstream).await?;
        stream.write_all(ASK).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer.starts_with(b"HTTP/1.") && !answer.ends_with(b"400"))
    };
    matches!(timeout(PATIENCE, ask).await, Ok(Ok(true)))
}

async fn connect(upstream: &Upstream) -> io::Result<TcpStream> {
    TcpStream::connect((upstream.host.as_str(), upstream.port)).await
}
