//! Runs a stand-in: accepts connections, keeps the journal, applies ordered faults, hands requests to the kind's routes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::body::{Body, Watched};
use super::call::Call;
use super::control::Control;
use super::journal::Seen;
use super::options::Options;
use super::{answer, audiobookshelf, canned, mediabrowser, odd};
use crate::upstream::Kind;

/// A running stand-in; it serves until it is stopped or dropped.
pub struct StandIn {
    /// Where it serves: `http://127.0.0.1:PORT`, without a slash at the end.
    pub url: String,
    /// What it stands in for.
    pub kind: Kind,
    options: Options,
    control: Control,
    server_id: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What all connections share.
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) options: Options,
    pub(super) control: Control,
    pub(super) sockets: audiobookshelf::Sockets,
    pub(super) server_id: String,
    pub(super) url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl StandIn {
    /// Starts serving on the runtime of the caller.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(kind: Kind, options: Options) -> io::Result<Self> {
        let control = Control::new(kind, &options);
        Self::start_with(kind, options, control, super::random::hex(16)).await
    }

    /// Stops and starts again at the same address: connections and sockets are gone, users, tokens, counters and faults are not.
    ///
    /// # Errors
    /// When somebody else has taken the port meanwhile.
    pub async fn restart(self) -> io::Result<Self> {
        let mut options = self.options.clone();
        if let Some(Ok(listen)) = self.url.strip_prefix("http://").map(str::parse) {
            options.listen = listen;
        }
        let (kind, control, server_id) = (self.kind, self.control.clone(), self.server_id.clone());
        self.stop().await;
        Self::start_with(kind, options, control, server_id).await
    }

    async fn start_with(kind: Kind, options: Options, control: Control, server_id: String) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Arc::new(Server {
            kind,
            control: control.clone(),
            sockets: audiobookshelf::Sockets::default(),
            server_id: server_id.clone(),
            url: url.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            options: options.clone(),
        });
        tasks.spawn(accept(listener, server));
        Ok(Self { url, kind, options, control, server_id, stop, tasks })
    }

    /// The handle for tests.
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Stops serving and returns when the port is free and all connections are closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    /// Runs a socket's task until it ends, the connections are cut or the stand-in stops.
    pub(super) fn run_socket(self: &Arc<Self>, task: impl Future<Output = io::Result<()>> + Send + 'static) {
        let server = Arc::clone(self);
        let mut cuts = self.control.cuts();
        self.tasks.spawn(async move {
            server.control.count(|counters| counters.open_sockets += 1);
            // How a socket ends is no news here: its client sees it.
            tokio::select! {
                _ = task => {}
                _ = cuts.changed() => {}
                () = server.stop.cancelled() => {}
            }
            server.control.count(|counters| counters.open_sockets -= 1);
        });
    }
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.stop.cancelled() => return,
        };
        // Out of descriptors: the next round finds some, or the test fails on its own.
        let Ok((stream, peer)) = accepted else { continue };
        server.control.count(|counters| counters.connections += 1);
        if !server.control.ordered_faults().refuse_connections {
            server.tasks.spawn(connection(stream, peer, Arc::clone(&server)));
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, server: Arc<Server>) {
    // Small answers must not wait for acknowledgements; without it everything works, slower.
    let _ = stream.set_nodelay(true);
    let mut cuts = server.control.cuts();
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { serve(server, request, peer).await.ok_or(Closed) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.options.keep_alive)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Errors of a connection are what tests provoke.
    tokio::select! {
        _ = connection => {}
        _ = cuts.changed() => {}
        () = server.stop.cancelled() => {}
    }
}

/// The connection is closed in place of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in closes the connection here")]
struct Closed;

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn serve(server: Arc<Server>, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let (mut parts, body) = request.into_parts();
    server.control.count(|counters| counters.requests += 1);
    server.control.record(Seen {
        method: parts.method.clone(),
        target: parts.uri.to_string(),
        content_length: parts.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok()),
        headers: parts.headers.clone(),
    });
    let faults = server.control.ordered_faults();
    tokio::time::sleep(faults.delay).await;
    if faults.no_answer {
        return None;
    }
    if faults.ignore_range {
        parts.headers.remove("range");
    }
    let is_head = parts.method == Method::HEAD;
    let known_tag = (parts.method == Method::GET).then(|| parts.headers.get("if-none-match").cloned()).flatten();
    let mut call = Call { parts, body: Some(body), peer: peer.ip() };
    let response = match faults.status.or_else(|| (faults.refuse_upgrades && call.is_upgrade()).then_some((400, None))) {
        Some((status, retry_after)) => answer::ordered(status, retry_after),
        None => match faults.canned.filter(|_| !logs_in(call.path())) {
            Some(canned) => {
                call.drain().await;
                if call.header("range").is_some() { canned.ranged().answer() } else { canned.answer() }
            }
            None => route(&server, &mut call).await?,
        },
    };
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
        call.drain().await;
    }
    let is_fresh = response.status() == StatusCode::OK && known_tag.is_some() && response.headers().get("etag") == known_tag.as_ref();
    let response = if is_fresh { unchanged(&response) } else { response };
    let response = match &faults.coding {
        Some(coding) if !logs_in(call.path()) => canned::coded(response, coding).await,
        _ => response,
    };
    let response = dated(response, faults.date.as_deref());
    let is_done = is_head || response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let cut_after = faults.cut_bodies_after.filter(|_| !is_done);
    Some(response.map(|body| Watched::new(body, server.control.clone(), cut_after, is_done).boxed_unsync()))
}

/// Whether a path is that of a log-in or a refresh: ordered answers leave those alone.
fn logs_in(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["/login", "/auth/refresh", "/users/authenticatebyname"].iter().any(|end| path.ends_with(end))
}

async fn route(server: &Arc<Server>, call: &mut Call) -> Answer {
    match server.kind {
        Kind::Audiobookshelf => audiobookshelf::route(server, call).await,
        Kind::Emby | Kind::Jellyfin => mediabrowser::route(server, call).await,
    }
}

/// With this time in place of the machine's.
fn dated(mut response: Response<Body>, date: Option<&str>) -> Response<Body> {
    if let Some(Ok(date)) = date.map(http::HeaderValue::from_str) {
        response.headers_mut().insert("date", date);
    }
    response
}

/// A 304 in place of an answer whose tag the client has.
fn unchanged(response: &Response<Body>) -> Response<Body> {
    let mut fresh = answer::empty(StatusCode::NOT_MODIFIED);
    if let Some(tag) = response.headers().get("etag") {
        fresh.headers_mut().insert("etag", tag.clone());
    }
    fresh
}

/// Routes that exist for tests alone, once the kind has judged the token.
pub(super) async fn odd(server: &Arc<Server>, call: &mut Call, segments: &[&str]) -> Answer {
    odd::route(server, call, segments).await
}
