//! One client connection: handshake, HTTP/1.1 or HTTP/2, and the patience that hyper does not have.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;

use crate::forward::body::GatewayBody;
use crate::forward::forwarded;
use crate::gateway::Worker;
use crate::lifeline::Watch;
use crate::server::accept::Slot;
use crate::server::drain::Farewell;
use crate::server::gather::Gathering;
use crate::server::handshake::{self, Shaken};
use crate::server::listener::{Listener, Purpose};
use crate::server::patience::{Guard, Moved, Protocol};
use crate::server::stream::Streams;
use crate::socket::Socket;
use crate::upstream::UpstreamName;

/// A connection that was just accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) slot: Slot,
}

/// What requests of a connection have in common.
#[derive(Debug)]
pub struct Peer {
    /// The other end of the socket.
    pub address: SocketAddr,
    /// Its IP address as a header value, made once.
    pub header: HeaderValue,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// What each answer tells browsers of later visits, if anything.
    pub(super) hsts: Option<HeaderValue>,
    /// The upstream of the listener, where it has its own.
    pub upstream: Option<UpstreamName>,
    /// Requests under way.
    pub(super) running: Cell<u32>,
    /// Requests that ever began.
    pub(super) begun: Cell<u64>,
    /// Whether an answer's head or a piece of its body was handed over since somebody took this mark.
    pub(super) answer_moved: Cell<bool>,
    /// What the answer runs on that began last and has not ended. HTTP/1 has one answer at a time; of HTTP/2, each stream takes its own.
    pub(super) key: RefCell<Option<Watch>>,
    /// Whether an answer was ended because its key died.
    pub(super) was_cut: Cell<bool>,
}

impl Peer {
    /// Whether the key has died that the answer runs on; if not, the task that polls is woken when it does. For HTTP/1.
    pub(super) fn is_cut(&self, cx: &mut Context<'_>) -> bool {
        let is_cut = self.key.borrow().as_ref().is_some_and(|key| key.poll_cut(cx).is_ready());
        self.was_cut.set(is_cut || self.was_cut.get());
        is_cut
    }
}

/// A request under way, until the last byte of its answer is handed over.
#[derive(Debug)]
pub struct Busy(Rc<Peer>);

impl Busy {
    pub(super) fn begin(peer: &Rc<Peer>) -> Self {
        peer.running.set(peer.running.get() + 1);
        peer.begun.set(peer.begun.get() + 1);
        Self(Rc::clone(peer))
    }

    /// A piece of the answer's body was handed over.
    pub(crate) fn answer_moved(&self) {
        self.0.answer_moved.set(true);
    }

    /// The answer runs on a key.
    pub(crate) fn runs_on(&self, key: Watch) {
        self.0.key.replace(Some(key));
    }

    /// The answer was ended because its key died.
    pub(crate) fn was_cut(&self) {
        self.0.was_cut.set(true);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
    }
}

/// A client's socket, plain or encrypted, that counts whether bytes move.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    moved: Arc<Moved>,
    /// A WebSocket takes the socket out of hyper's hands; its place in the count goes along.
    _slot: Slot,
}

#[derive(Debug)]
enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.moved.is_aborted.load(Ordering::Relaxed) {
            let stream = match &self.transport {
                Transport::Plain(stream) => stream,
                Transport::Tls(stream) => stream.get_ref().0,
            };
            // Where it fails, the client gets a little more before the end.
            let _ = socket2::SockRef::from(stream.as_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

fn note<T>(counter: &AtomicU64, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    if matches!(result, Poll::Ready(Ok(_))) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
    result
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        note(&self.moved.read, result)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        note(&self.moved.written, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        note(&self.moved.written, result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Serves a connection in tasks of its own.
pub(crate) fn serve(connection: Connection, listener: Rc<Listener>, worker: Rc<Worker>) {
    let tasks = worker.tasks().clone();
    match listener.tls.clone() {
        None => {
            let transport = Transport::Plain(connection.stream.into());
            tasks.spawn_local(http1(Open { transport, peer: connection.peer, slot: connection.slot, listener, worker }));
        }
        Some(acceptor) => {
            // The handshake is a task of its own, so that what it needs does not stay for the life of the connection.
            let spawner = tasks.clone();
            tasks.spawn_local(async move {
                let limit = worker.gateway().settings().limits.header_timeout;
                let overheard = |bytes: &[u8]| worker.overheard(connection.peer.ip(), bytes);
                let shaken = handshake::complete(connection.stream, &acceptor, limit, overheard).await;
                worker.gateway().connections().shook(shaken.as_ref().err().map_or(Shaken::Good, Shaken::from));
                let stream = match shaken {
                    Ok(stream) => stream,
                    Err(why) => return tracing::debug!(client = %connection.peer.ip(), "{why}"),
                };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let transport = Transport::Tls(Box::new(stream));
                let open = Open { transport, peer: connection.peer, slot: connection.slot, listener, worker };
                if is_http2 {
                    spawner.spawn_local(http2(open))
                } else {
                    spawner.spawn_local(http1(open))
                };
            });
        }
    }
}

struct Open {
    transport: Transport,
    peer: SocketAddr,
    slot: Slot,
    listener: Rc<Listener>,
    worker: Rc<Worker>,
}

impl Open {
    fn into_parts(self, protocol: Protocol) -> (ClientIo, Rc<Peer>, Guard, Rc<Worker>) {
        let moved = Arc::new(Moved::default());
        let settings = self.worker.gateway().settings();
        let is_tls = matches!(self.transport, Transport::Tls(_));
        let peer = Rc::new(Peer {
            address: self.peer,
            header: forwarded::address_value(self.peer.ip()),
            is_tls,
            hsts: settings.hsts.clone().filter(|_| is_tls),
            upstream: self.listener.upstream.clone(),
            running: Cell::new(0),
            begun: Cell::new(0),
            answer_moved: Cell::new(false),
            key: RefCell::default(),
            was_cut: Cell::new(false),
        });
        let io = ClientIo { transport: self.transport, moved: Arc::clone(&moved), _slot: self.slot };
        let guard = Guard::new(Rc::clone(&peer), moved, settings.limits.clone(), protocol);
        (io, peer, guard, self.worker)
    }
}

async fn http1(open: Open) {
    let purpose = open.listener.purpose;
    let (io, peer, guard, worker) = open.into_parts(Protocol::Http1);
    let farewell = worker.tasks().farewell();
    let limits = &guard.limits;
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.max_header_bytes);
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    // Boxed, since hyper keeps the room of an answer for as long as the connection lives.
    let service = service_fn(move |request| Box::pin(answer(Rc::clone(&worker), Rc::clone(&peer), request, purpose)));
    let connection = Box::pin(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    guarded(connection, guard, farewell, |connection| connection.graceful_shutdown()).await;
}

async fn http2(open: Open) {
    let (io, peer, guard, worker) = open.into_parts(Protocol::Http2);
    let farewell = worker.tasks().farewell();
    let streams = Streams { tasks: worker.tasks().clone(), peer: Rc::clone(&peer), idle_timeout: guard.limits.idle_timeout };
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(guard.limits.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(STREAM_ERRORS);
    // Boxed, since each stream becomes a task, and a task moves what it runs several times.
    let service = service_fn(move |request| Box::pin(answer(Rc::clone(&worker), Rc::clone(&peer), request, Purpose::Serve)));
    let connection = Box::pin(builder.serve_connection(TokioIo::new(Gathering::new(io)), service));
    guarded(connection, guard, farewell, |connection| connection.graceful_shutdown()).await;
}

/// hyper's own default, for which it needs no allocation.
const HYPER_MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 100;
/// What a client may send before it is acknowledged, per upload and per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The smallest that HTTP/2 knows (RFC 9113, section 4.2), and the default: a larger one lets a client make keygate wait for more before
/// it can judge anything.
const FRAME_BYTES: u32 = 16 << 10;
/// What is kept of one answer for a client that does not read. hyper's 400 KiB times the streams would be 40 MB a connection.
const SEND_BUFFER: usize = 128 << 10;
/// Streams that were reset before they were even looked at (CVE-2023-44487), and streams that ended by a client's own mistake, before
/// the connection is closed. A browser that scrolls resets tens of pictures, but not within one look at its socket.
const RESET_STREAMS: usize = 20;
const STREAM_ERRORS: usize = 128;
// No pings: a phone that sleeps does not answer them and yet comes back to a paused film. A stream that stands still and a
// connection without streams have their limits.

async fn answer(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<Incoming>,
    purpose: Purpose,
) -> Result<Response<GatewayBody>, Infallible> {
    let busy = Busy::begin(&peer);
    let mut response = match purpose {
        Purpose::Serve => worker.serve(&peer, request).await,
        Purpose::Redirect { https_port } => worker.redirect(peer.address.ip(), &request, https_port),
    };
    if let Some(hsts) = &peer.hsts {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    response.body_mut().until_sent(busy);
    peer.answer_moved.set(true);
    Ok(response)
}

/// How long a client that connected just before a stop may take to send its first request: nobody who was accepted is turned away.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer that is set with it")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// How a connection ended.
enum Ended<E> {
    Itself(Result<(), E>),
    Patience,
    Cut,
}

/// Drives a connection until it ends, loses patience, or everything stops.
async fn guarded<C, E>(mut connection: Pin<Box<C>>, mut guard: Guard, mut farewell: Farewell, shut_down: fn(Pin<&mut C>))
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut timer = std::pin::pin!(sleep(guard.look_every));
    let (mut has_stopped, mut is_last_chance) = (false, false);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::Itself(result));
            }
            // hyper does not look at an answer for which the client's socket has no room.
            if guard.is_cut(cx) {
                return Poll::Ready(Ended::Cut);
            }
            if !has_stopped && farewell.has_come(cx) {
                // hyper would close a connection at once whose first request is on its way.
                if guard.is_unused() && !is_last_chance {
                    is_last_chance = true;
                    timer.as_mut().reset(now() + FIRST_REQUEST);
                }
                if !guard.is_unused() || timer.is_elapsed() {
                    has_stopped = true;
                    shut_down(connection.as_mut());
                    continue;
                }
            }
            ready!(timer.as_mut().poll(cx));
            if is_last_chance && !has_stopped {
                continue;
            }
            if guard.has_lost_patience(timer.deadline()) {
                return Poll::Ready(Ended::Patience);
            }
            let next = timer.deadline() + guard.look_every;
            timer.as_mut().reset(next);
        }
    })
    .await;
    match ended {
        Ended::Itself(Ok(())) => {}
        _ if guard.has_been_cut() => tracing::debug!(client = %guard.peer.address.ip(), "connection reset: the key died"),
        Ended::Cut => {}
        Ended::Itself(Err(error)) => tracing::debug!(client = %guard.peer.address.ip(), %error, "connection ended"),
        Ended::Patience => tracing::debug!(client = %guard.peer.address.ip(), "connection closed: the client took too long"),
    }
}
