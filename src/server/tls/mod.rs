//! TLS toward clients: rustls with the best of two providers, TLS 1.2 and 1.3, ALPN for HTTP/2 and HTTP/1.1, no early data.

pub mod provider;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::certificates::challenges::Challenges;
use crate::socket::Socket;

/// Sessions of TLS 1.2 clients that know no tickets; all others carry theirs themselves. About half a KiB each.
const REMEMBERED_SESSIONS: usize = 256;

/// What turns a TCP connection into a TLS one.
pub struct Acceptor {
    certificates: Arc<dyn ResolvesServerCert>,
    /// For handshakes that begin now.
    config: ArcSwap<ServerConfig>,
    challenges: Arc<Challenges>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AcceptorError {
    /// The crypto provider.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The authorities of clients.
    #[error("TLS cannot be set up for certificates of clients: {0}")]
    Clients(#[from] VerifierBuilderError),
}

impl Acceptor {
    /// With certificates by the client's name for us. With `clients`, a client must show a certificate that one of these authorities
    /// signed; who asks for one of the `challenges` is an ACME server, and shows none. Each acceptor has ticket keys of its own: a session that began without a client's certificate cannot go on where one is asked for.
    ///
    /// # Errors
    /// When the crypto provider lacks the protocol versions, or `clients` is empty.
    pub fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        clients: Option<Arc<RootCertStore>>,
        challenges: Arc<Challenges>,
    ) -> Result<Self, AcceptorError> {
        Ok(Self { config: ArcSwap::from_pointee(configure(Arc::clone(&certificates), clients)?), certificates, challenges })
    }

    /// From now on, a client must show a certificate that one of these authorities signed. Sessions that began under others are not taken
    /// up again.
    ///
    /// # Errors
    /// As [`Acceptor::new`]; nothing changes then.
    pub(super) fn ask_clients_of(&self, authorities: Arc<RootCertStore>) -> Result<(), AcceptorError> {
        self.config.store(Arc::new(configure(Arc::clone(&self.certificates), Some(authorities))?));
        Ok(())
    }

    /// Shakes hands over this connection. `None`: that was all that the other end wanted (tls-alpn-01), and the connection is over.
    ///
    /// # Errors
    /// When it fails; the other end was told.
    pub(super) async fn accept(&self, stream: Socket) -> io::Result<Option<TlsStream<Socket>>> {
        if self.challenges.await_handshakes() {
            // Seldom, and larger than what all others need.
            return Box::pin(self.accept_or_prove(stream)).await;
        }
        TlsAcceptor::from(self.config.load_full()).accept(stream).await.map(Some)
    }

    /// While an order by tls-alpn-01 is under way: what the client offers decides.
    async fn accept_or_prove(&self, stream: Socket) -> io::Result<Option<TlsStream<Socket>>> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let challenge = hello.alpn().and_then(|protocols| self.challenges.handshake(hello.server_name(), protocols));
        match challenge {
            None => start.into_stream(self.config.load_full()).await.map(Some),
            Some(config) => {
                let mut stream = start.into_stream(config).await?;
                // Nothing follows (RFC 8737, section 3).
                stream.shutdown().await?;
                Ok(None)
            }
        }
    }

    /// For the admin listener, which speaks HTTP/1.1 only, and is not what ACME servers come to.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn http1_only(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, AcceptorError> {
        let mut config = configure(Arc::clone(&certificates), None)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: ArcSwap::from_pointee(config), certificates, challenges: Arc::default() })
    }
}

fn configure(certificates: Arc<dyn ResolvesServerCert>, clients: Option<Arc<RootCertStore>>) -> Result<ServerConfig, AcceptorError> {
    // The provider's suites are all authenticated encryption over an ephemeral key exchange; there is no other in it to take out.
    let provider = Arc::new(provider::provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A replayed first flight could repeat a request.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 1;
    // Its keys change every six hours; the one before stays good for as long again.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
    Ok(config)
}
