//! An authority as a home or a company has one: certificates for gateways and for clients, and clients that trust it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::PATIENCE;
use super::net::{Shown, TcpStream};
use super::sweep::Flow;
use super::wire::Wire;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key` into a folder.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.certificate).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), &self.key).expect("written");
    }

    pub(crate) fn pair(&self) -> Arc<CertifiedKey> {
        let (chain, key) = self.parts();
        Arc::new(CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).expect("a pair"))
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate");
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key"))
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::trusting(&self.pem)
    }
}

/// What a client brings to handshakes; it remembers sessions.
pub(crate) struct Client {
    config: ClientConfig,
}

impl Client {
    pub(crate) fn trusting(authority: &str) -> Self {
        Self::new(authority, rustls::DEFAULT_VERSIONS, None)
    }

    pub(crate) fn new(authority: &str, versions: &[&'static SupportedProtocolVersion], own: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (chain, key) = own.parts();
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Self { config }
    }

    /// A handshake for this name.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<Shown<TlsStream<tokio::net::TcpStream>>> {
        Ok(Shown::over(self.handshake(address, name).await?, Flow::to(address)))
    }

    async fn handshake(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let stream = TcpStream::bare(address).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let handshake = TlsConnector::from(Arc::new(self.config.clone())).connect(name, stream);
        tokio::time::timeout(PATIENCE, handshake).await.expect("a handshake in time")
    }

    /// The certificate that a handshake for this name gets, if the client trusts it.
    pub(crate) async fn sees(&self, address: SocketAddr, name: &str) -> std::io::Result<CertificateDer<'static>> {
        let stream = self.connect(address, name).await?;
        Ok(stream.get_ref().get_ref().1.peer_certificates().expect("certificates")[0].clone())
    }

    /// A connection for requests by hand.
    pub(crate) async fn wire(&self, address: SocketAddr, name: &str) -> Wire {
        Wire::over(self.connect(address, name).await.expect("a handshake"))
    }

    /// An HTTP/2 connection; clones of the sender are further streams on it.
    pub(crate) async fn http2(&self, address: SocketAddr) -> SendRequest<Full<Bytes>> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = Self { config }.handshake(address, "localhost").await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let stream = TokioIo::new(Shown::over(stream, Flow::to(address).map(Flow::unreadable)));
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }

    /// Head of the answer to a GET with a key; an error when the gateway ends the connection before. Reads on until what the gateway
    /// sends after the handshake has arrived, so that a session can be taken up again.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str, key: &str) -> std::io::Result<(String, rustls::HandshakeKind)> {
        use tokio::io::AsyncWriteExt;
        let mut stream = self.connect(address, "localhost").await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time")?;
        let kind = stream.get_ref().get_ref().1.handshake_kind().expect("a handshake");
        Ok((String::from_utf8_lossy(&answer).into_owned(), kind))
    }
}
