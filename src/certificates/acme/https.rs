//! How ACME servers are asked: one request on one connection, by HTTP/1.1 over TLS. An order is twenty requests, a few times in a year.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::tls::{Authorities, TlsProblem};

/// Until one address of the server answers.
const CONNECT: Duration = Duration::from_secs(10);
/// Until an answer is complete.
const WHOLE: Duration = Duration::from_secs(45);
/// A chain of certificates is a few KiB.
const MOST_BYTES: usize = 1 << 20;
const AGENT: &str = concat!("keygate/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// Why an ACME server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpsError {
    /// A URL of the server's that is not to be asked.
    #[error("the ACME server names an address that is not https: {0}")]
    NotHttps(String),
    /// DNS.
    #[error("cannot find the address of {host}: {source}")]
    NoAddress { host: String, source: io::Error },
    /// TCP.
    #[error("cannot connect to {host}: {source}")]
    Connect { host: String, source: io::Error },
    /// TLS.
    #[error("no TLS with {host}: {source}")]
    Tls { host: String, source: io::Error },
    /// HTTP.
    #[error("{host} broke off: {source}")]
    Broken { host: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// Time.
    #[error("{host} did not answer within {} s", WHOLE.as_secs())]
    Slow { host: String },
}

impl HttpsError {
    /// What the other end's certificate was refused for.
    pub(super) fn refused_certificate(&self) -> Option<&CertificateError> {
        let Self::Tls { source, .. } = self else { return None };
        match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => Some(why),
            _ => None,
        }
    }
}

/// Asks ACME servers.
#[derive(Clone)]
pub(super) struct Https {
    config: Arc<ClientConfig>,
    /// Seconds that the server asked to wait with its last refusal; 0: it did not.
    retry_after: Arc<AtomicU64>,
}

impl Https {
    /// By the system's trust store, or by the authorities of a file alone. Reads files: blocking.
    ///
    /// # Errors
    /// [`TlsProblem`] of the file.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, TlsProblem> {
        let roots = match ca_file {
            Some(path) => Authorities::read(path)?.roots,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(TlsProblem::Unusable)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), retry_after: Arc::default() })
    }

    /// How long the server asked to wait with its last refusal.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after.load(Ordering::Relaxed)).filter(|secs| *secs > 0).map(Duration::from_secs)
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpsError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = timeout(WHOLE, self.exchange(&host, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(HttpsError::Slow { host }))?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            self.retry_after.store(seconds.unwrap_or_default(), Ordering::Relaxed);
        }
        Ok(answer)
    }

    async fn exchange(&self, host: &str, mut request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpsError> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") || host.is_empty() {
            return Err(HttpsError::NotHttps(uri.to_string()));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = connect(bare, uri.port_u16().unwrap_or(443)).await?;
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|error| HttpsError::NoAddress { host: host.to_owned(), source: io::Error::other(error) })?;
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await;
        let stream = stream.map_err(|source| HttpsError::Tls { host: host.to_owned(), source })?;
        address(&mut request, &uri);
        let broken = |source| HttpsError::Broken { host: host.to_owned(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
        let exchange = async move {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        // The connection ends when the exchange has let go of its sender.
        let (answer, _) = tokio::join!(exchange, connection);
        answer.map_err(broken)
    }
}

/// The first address that answers.
async fn connect(host: &str, port: u16) -> Result<TcpStream, HttpsError> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|source| HttpsError::NoAddress { host: host.to_owned(), source })?.collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(HttpsError::Connect { host: host.to_owned(), source: last })
}

/// From the form that names the server to the one that is sent to it.
fn address(request: &mut Request<BodyWrapper<Bytes>>, uri: &Uri) {
    let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = uri.path_and_query().and_then(|path| path.as_str().parse().ok());
    *request.uri_mut() = path.unwrap_or_default();
    let headers = request.headers_mut();
    headers.extend(authority.map(|authority| (HOST, authority)));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = client.ask(request).await.map_err(|error| {
                tracing::debug!(cause = ?error.source(), "an ACME server was not reached: {error}");
                instant_acme::Error::Other(Box::new(error))
            })?;
            let (parts, body) = answer.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}
