//! TLS toward upstreams: whom keygate trusts there, the handshake, and sentences for what goes wrong.
//!
//! There is no switch that trusts everybody: a pinned certificate is as easy, and safe. All that has to be read (the system's trust
//! store, a CA file) is read with the configuration, never in a request.

mod fingerprint;
mod presented;
mod verifier;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::fingerprint::{Fingerprint, NoFingerprint};
pub use self::presented::Untrusted;
use self::verifier::{Rule, Verifier};
use crate::upstream::io::UpstreamIo;

/// Where authorities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The system's trust store (`SSL_CERT_FILE` and `SSL_CERT_DIR` name another one).
    System,
    /// `ca_file`.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's trust store"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing in the trust store.
    #[error("the system's trust store holds no certificate{0}")]
    NoSystemStore(String),
    /// A certificate that cannot be an authority's.
    #[error("{path} holds a certificate that cannot be trusted: {source}")]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The crypto provider or the verifier.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Whom an upstream's connections trust. All its connections share one TLS configuration and with it the sessions to resume; equal when
/// the same certificates are trusted.
#[derive(Clone)]
pub struct Trust {
    whom: Whom,
    config: Arc<ClientConfig>,
    problem: Arc<ArcSwapOption<TlsError>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    Authorities { origin: Origin, digest: [u8; 32] },
    Pinned(Fingerprint),
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.whom == other.whom
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.whom).finish()
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            Whom::Authorities { origin, .. } => write!(f, "trusted by {origin}"),
            Whom::Pinned(fingerprint) => write!(f, "the pinned one, {fingerprint}"),
        }
    }
}

impl Trust {
    /// The system's trust store as it is now. Reads files.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let digest = digest(&found.certs);
        // A few that rustls cannot use are nothing unusual; a server that needs one of them is told apart later.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(TrustError::NoSystemStore(found.errors.first().map(|error| format!(": {error}")).unwrap_or_default()));
        }
        Self::authorities(Origin::System, roots, digest)
    }

    /// The certificates of a file, and no others.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn file(path: PathBuf, certificates: &[CertificateDer<'static>]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.clone()).map_err(|source| TrustError::NoAuthority { path: path.clone(), source })?;
        }
        Self::authorities(Origin::File(path), roots, digest(certificates))
    }

    /// The one certificate with this fingerprint. Its chain, dates and names are not looked at; that the server holds its key is.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn pinned(fingerprint: Fingerprint) -> Result<Self, TrustError> {
        Self::new(Whom::Pinned(fingerprint), Rule::Pinned(fingerprint))
    }

    /// Nobody: for who only wants to know whether TLS is spoken, or makes no connection.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn nobody() -> Result<Self, TrustError> {
        let whom = Whom::Authorities { origin: Origin::System, digest: [0; 32] };
        Self::new(whom, Rule::Authorities(None, Origin::System))
    }

    fn authorities(origin: Origin, roots: RootCertStore, digest: [u8; 32]) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(setup)?;
        Self::new(Whom::Authorities { origin: origin.clone(), digest }, Rule::Authorities(Some(verifier), origin))
    }

    fn new(whom: Whom, rule: Rule) -> Result<Self, TrustError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = Verifier { rule, algorithms: provider.signature_verification_algorithms };
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A replayed first flight could repeat a request.
        config.enable_early_data = false;
        Ok(Self { whom, config: Arc::new(config), problem: Arc::default() })
    }

    /// The handshake with `host` (a name, or an address without brackets) over a connection that stands. It has no time-out of its own.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn handshake(&self, host: &str, stream: TcpStream) -> Result<UpstreamIo, TlsError> {
        let shaken = self.shake(host, stream).await;
        match &shaken {
            Ok(_) if self.problem.load().is_none() => {}
            Ok(_) => self.problem.store(None),
            Err(error) => self.problem.store(Some(Arc::new(error.clone()))),
        }
        shaken
    }

    async fn shake(&self, host: &str, stream: TcpStream) -> Result<UpstreamIo, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream.into()).await.map(|stream| UpstreamIo::Tls(Box::new(stream))).map_err(|error| TlsError::of(&error))
    }

    /// What the latest handshake failed of; `None` when it did not, or there was none.
    pub fn problem(&self) -> Option<Arc<TlsError>> {
        self.problem.load_full()
    }
}

fn setup(error: impl fmt::Display) -> TrustError {
    TrustError::Setup(error.to_string())
}

fn digest(certificates: &[CertificateDer<'_>]) -> [u8; 32] {
    // The order in which a folder is listed means nothing.
    let mut each: Vec<[u8; 32]> = certificates.iter().map(|certificate| Sha256::digest(certificate).into()).collect();
    each.sort_unstable();
    Sha256::digest(each.concat()).into()
}

/// Why a handshake failed. The text follows on "cannot connect to …: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The host of the URL is nothing that a certificate can be for.
    #[error("a certificate cannot be for a host of that name")]
    Name,
    /// The certificate is not trusted.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The answer to the handshake is not TLS.
    #[error("it does not speak TLS; if it speaks plain HTTP, its url begins with http://")]
    NotTls,
    /// The server closed the connection instead of answering the handshake.
    #[error("it closed the connection during the TLS handshake")]
    Closed,
    /// Anything else that TLS complains of.
    #[error("the TLS handshake failed: {0}")]
    Failed(String),
}

impl TlsError {
    fn of(error: &io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Failed(error.to_string()),
            };
        };
        match cause {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Untrusted>() {
                Some(untrusted) => Self::Untrusted(untrusted.clone()),
                None => Self::Failed(cause.to_string()),
            },
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Self::NotTls,
            other => Self::Failed(other.to_string()),
        }
    }
}
