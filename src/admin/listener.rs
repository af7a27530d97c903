//! The admin listener: the same interface as on the socket, and the page, for programs with an admin token and people with the page's
//! password. It has sockets, limits and credentials of its own and shares nothing with the listeners of media servers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::admin::Admin;
use crate::admin::door::Visit;
use crate::admin::guard::{Guard, guard};
use crate::admin::navigation::Refusals;
use crate::server::accept::{Connections, Limits, Slot};
use crate::server::handshake;
use crate::server::tls::Acceptor;

/// Until a request's head is complete; also for the TLS handshake, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may leave what was sent to it unacknowledged.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Open connections, in all and from one address other than loopback.
const LIMITS: Limits = Limits { all: 128, per_address: 32 };
/// Pause after a failed accept: running out of descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (admin.listen): {source}")]
pub struct ListenError {
    /// Where.
    address: SocketAddr,
    /// Cause.
    source: io::Error,
}

/// A listening admin listener.
pub struct AdminListener {
    socket: TcpListener,
    address: SocketAddr,
    acceptor: Option<Acceptor>,
    hosts: Arc<[String]>,
}

impl AdminListener {
    /// Listens. `hosts`: names that it may be asked by, beside its address and `localhost`. Call it within a runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: SocketAddr, acceptor: Option<Acceptor>, hosts: &[String]) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let socket = std::net::TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = TcpListener::from_std(socket).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, acceptor, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() })
    }

    /// Where it really listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// With its scheme.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.acceptor.is_some() { "https" } else { "http" }, self.address)
    }
}

impl std::fmt::Debug for AdminListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminListener").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What the listener has for people beside the interface.
#[derive(Debug)]
pub struct Pages {
    /// Further routes.
    pub routes: axum::Router,
    /// How refusals are told to browsers.
    pub refusals: Refusals,
}

/// All that the listener answers: the interface and the pages, behind the guard.
fn router(admin: Arc<Admin>, pages: Pages, hosts: Arc<[String]>) -> axum::Router {
    let state = Guard { admin: Arc::clone(&admin), hosts, refusals: pages.refusals };
    let inside = super::router::for_listener(admin).merge(pages.routes.method_not_allowed_fallback(super::router::no_method));
    // As a fallback, since routes of their own would tell strangers which methods they have.
    axum::Router::new().fallback_service(inside).layer(axum::middleware::from_fn_with_state(state, guard))
}

/// Serves until `stop`; what was being answered goes on in `tasks`.
pub async fn serve(listener: AdminListener, admin: Arc<Admin>, pages: Pages, tasks: TaskTracker, stop: CancellationToken) {
    let AdminListener { socket, acceptor, hosts, .. } = listener;
    let acceptor = acceptor.map(Arc::new);
    let router = router(admin, pages, hosts);
    let connections = Arc::new(Connections::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let per_address = if address.is_loopback() { 0 } else { LIMITS.per_address };
                let Some(slot) = Slot::take(&connections, address, Limits { per_address, ..LIMITS }) else {
                    tracing::debug!(client = %address, "a connection to the admin listener was refused: too many are open");
                    continue;
                };
                let one = One { router: router.clone(), acceptor: acceptor.clone(), stop: stop.clone(), _slot: slot };
                tasks.spawn(one.run(stream, address));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection.
struct One {
    router: axum::Router,
    acceptor: Option<Arc<Acceptor>>,
    stop: CancellationToken,
    _slot: Slot,
}

impl One {
    async fn run(self, stream: TcpStream, address: IpAddr) {
        let _ = stream.set_nodelay(true);
        // Where it fails, a client that does not read keeps its place a little longer.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
        let Ok(local) = stream.local_addr() else { return };
        let visit = Visit { address, local: local.ip(), is_tls: self.acceptor.is_some() };
        match &self.acceptor {
            None => self.http(stream, visit).await,
            Some(acceptor) => match handshake::complete(stream, acceptor, HEADER_TIMEOUT, |_| ()).await {
                Ok(stream) => self.http(stream, visit).await,
                Err(error) => tracing::debug!(client = %address, "at the admin listener: {error}"),
            },
        }
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, visit: Visit) {
        let service = self.router.clone().map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(visit);
            request
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_header_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(client = %visit.address, %error, "a connection to the admin listener broke off: {error}");
        }
    }
}
