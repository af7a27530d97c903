//! TLS in front of a stand-in: a media server at `https://`, with certificates of every sort.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use keygate::upstream::tls::{Fingerprint, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) der: CertificateDer<'static>,
    key: KeyPair,
}

/// Names and dates of a certificate that is made.
pub(crate) fn parameters(common_name: &str, names: &[&str], years: (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = date_time_ymd(years.0, 2, 1);
    parameters.not_after = date_time_ymd(years.1, 2, 1);
    parameters
}

impl Pair {
    /// One that nobody signed but itself.
    pub(crate) fn self_signed(parameters: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self { der: parameters.self_signed(&key).expect("a certificate").der().clone(), key }
    }

    /// As `openssl req -x509` makes them: a certificate authority in the place of a server.
    pub(crate) fn of_openssl(common_name: &str) -> Self {
        let mut parameters = parameters(common_name, &["localhost", "127.0.0.1"], (2020, 2090));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::self_signed(&parameters)
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    pub(crate) fn pin(&self) -> Option<Trust> {
        Some(Trust::pinned(self.fingerprint()).expect("a trust"))
    }

    /// The certificate in the hands of somebody who does not have its key.
    pub(crate) fn stolen(&self) -> Self {
        Self { der: self.der.clone(), key: KeyPair::generate().expect("a key") }
    }
}

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Self {
        let mut parameters = parameters(common_name, &[], (2020, 2090));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    pub(crate) fn sign(&self, parameters: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        Pair { der: parameters.signed_by(&key, &self.issuer).expect("a certificate").der().clone(), key }
    }

    /// A good certificate for this machine.
    pub(crate) fn leaf(&self) -> Pair {
        self.sign(&parameters("media", &["localhost", "127.0.0.1"], (2020, 2090)))
    }

    pub(crate) fn trust(&self) -> Option<Trust> {
        Some(Trust::file(PathBuf::from("ca.pem"), std::slice::from_ref(&self.der)).expect("a trust"))
    }
}

/// How a front behaves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    /// TLS 1.3 and 1.2; a plain request is answered by an alert.
    Usual,
    /// A plain request is answered by a page, as nginx does.
    Nginx,
    /// TLS 1.2 alone.
    Old,
}

/// Ends TLS and hands the bytes on, once it knows where to.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    behind: Arc<OnceLock<u16>>,
    handshakes: Arc<Mutex<Vec<Option<HandshakeKind>>>>,
}

impl Front {
    pub(crate) async fn start(pair: &Pair) -> Self {
        Self::of(Style::Usual, pair).await
    }

    pub(crate) async fn of(style: Style, pair: &Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let front = Self { address: listener.local_addr().expect("an address"), behind: Arc::default(), handshakes: Arc::default() };
        let acceptor = acceptor(pair, style);
        let (behind, handshakes) = (Arc::clone(&front.behind), Arc::clone(&front.handshakes));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if style == Style::Nginx && !is_tls(&stream).await {
                    let page = "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
                    let _ = stream.write_all(page.as_bytes()).await;
                    // To the end: what is unread would reset the connection, and take the page along.
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    continue;
                }
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&behind), Arc::clone(&handshakes)));
            }
        });
        front
    }

    /// What it stands in front of: a port of this machine.
    pub(crate) fn leads_to(&self, port: u16) {
        self.behind.set(port).expect("told once");
    }

    pub(crate) fn port_setter(&self) -> impl FnOnce(u16) + Send + use<> {
        let behind = Arc::clone(&self.behind);
        move |port| behind.set(port).expect("told once")
    }

    /// How each handshake went that came to an end.
    pub(crate) fn handshakes(&self) -> Vec<Option<HandshakeKind>> {
        self.handshakes.lock().expect("no panic").clone()
    }
}

/// Whether a connection begins with a handshake (RFC 8446, section 5.1).
async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first == [22]
}

fn acceptor(pair: &Pair, style: Style) -> TlsAcceptor {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).expect("a private key");
    let signer = provider.key_provider.load_private_key(key).expect("a signer");
    let certified = CertifiedKey::new(vec![pair.der.clone()], signer);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let versions = if style == Style::Old { &[&rustls::version::TLS12][..] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).expect("versions");
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    // As nginx and Kestrel do: who asks for HTTP/2 gets it, so keygate must not ask.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, behind: Arc<OnceLock<u16>>, handshakes: Arc<Mutex<Vec<Option<HandshakeKind>>>>) {
    let Ok(mut outside) = acceptor.accept(stream).await else { return };
    assert_eq!(outside.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    handshakes.lock().expect("no panic").push(outside.get_ref().1.handshake_kind());
    let Ok(mut inside) = TcpStream::connect(("127.0.0.1", *behind.get().expect("known"))).await else { return };
    inside.set_nodelay(true).expect("no delay");
    // How it ends is seen at both ends.
    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
}
