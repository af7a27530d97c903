//! A certificate for a gateway under test, and clients that trust it: HTTP/2 and bare TLS connections.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::{Answer, PATIENCE};
use super::net::{Shown, TcpStream};
use super::sweep::{self, Flow};

/// The name that the certificate is for.
pub(crate) const NAME: &str = "localhost";

/// A self-signed certificate, for [`super::Setup::tls`], and the trust in it.
pub(crate) struct Trust {
    certificate: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let chain = vec![made.cert.der().clone()];
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).expect("a root");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a private key");
        let certificate = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).expect("a pair");
        Self { certificate: Arc::new(certificate), roots: Arc::new(roots) }
    }

    pub(crate) fn certificate(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certificate)
    }

    /// A TLS connection that offers these protocols (`h2`, `http/1.1`).
    pub(crate) async fn connect(&self, address: SocketAddr, protocols: &[&str]) -> Shown<TlsStream<tokio::net::TcpStream>> {
        let stream = TcpStream::bare(address).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        self.over(stream, protocols).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(&self, stream: tokio::net::TcpStream, protocols: &[&str]) -> Shown<TlsStream<tokio::net::TcpStream>> {
        let address = stream.peer_addr().expect("an address");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).expect("a name"), stream);
        let stream = tokio::time::timeout(PATIENCE, handshake).await.expect("a handshake in time").expect("a handshake");
        let flow = if protocols.contains(&"h2") { Flow::to(address).map(Flow::unreadable) } else { Flow::to(address) };
        Shown::over(stream, flow)
    }

    /// An HTTP/2 connection; clones of the sender are further streams on it.
    pub(crate) async fn http2(&self, address: SocketAddr) -> SendRequest<Full<Bytes>> {
        let stream = self.connect(address, &["h2"]).await;
        assert_eq!(stream.get_ref().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("an HTTP/2 handshake");
        tokio::spawn(connection);
        sender
    }
}

/// One exchange on an HTTP/2 connection. The target must be a whole URI (`https://localhost/…`).
pub(crate) async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Answer {
    let presented = sweep::presented(&request);
    let exchange = async {
        sender.ready().await.expect("a connection that takes requests");
        let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.expect("a whole body").to_bytes() }
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    sweep::understood_anywhere(&presented, &answer);
    answer
}
