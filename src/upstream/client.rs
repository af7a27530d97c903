//! The upstream as the forwarder sees it: an address, and a pool of connections per core.
//!
//! The pool is keygate's own, over [`crate::upstream::line`]: partitioned by session, so that a connection never carries two
//! accounts' requests, and owned by one core, so that it needs no lock. A connection goes back only after a complete answer, and is
//! dropped on any doubt.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response};
use rustc_hash::FxHashMap;
use tokio::net::TcpStream;

use crate::server::drain::Tasks;
use crate::upstream::alarm::Alarm;
use crate::upstream::dialect::Dialect;
use crate::upstream::health::Health;
use crate::upstream::io::UpstreamIo;
use crate::upstream::line::{AnswerBody, Line, Outgoing, SendError};
use crate::upstream::session::SessionId;
use crate::upstream::tls::{TlsError, Trust};
use crate::upstream::{Kind, UpstreamName};

/// Idle connections that one core keeps for one session beyond [`BURST`].
const IDLE_PER_SESSION: usize = 8;
/// How long more than that are kept: in a burst many come back at once and are wanted again at once.
const BURST: Duration = Duration::from_secs(2);
/// Idle connections that one core keeps in all.
const IDLE_PER_CORE: usize = 256;

/// One configured upstream, ready for use.
#[derive(Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The operator's name of it.
    pub name: UpstreamName,
    /// What it is.
    pub kind: Kind,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whom connections trust, where they are encrypted.
    pub tls: Option<Trust>,
    /// `host:port` as a Host header.
    pub authority: HeaderValue,
    /// `/audiobookshelf` or empty: put before every forwarded path and every call.
    pub base_path: String,
    /// Limits.
    pub timeouts: Timeouts,
    /// Whether each key has a session of its own.
    pub session_per_key: bool,
    /// Whether it answers.
    pub health: Health,
}

/// Limits toward one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the end of the request to the answer's head.
    pub response_header: Duration,
    /// How long a pooled connection may idle; below the server's own limit.
    pub pool_idle: Duration,
}

impl Upstream {
    /// Its dialect.
    pub fn dialect(&self) -> &'static dyn Dialect {
        crate::upstream::dialect::of(self.kind)
    }

    /// `host:port`, for sentences.
    pub fn address(&self) -> &str {
        self.authority.to_str().unwrap_or(&self.host)
    }

    /// `https://host:port/base`, for sentences.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address(), self.base_path)
    }

    /// Somebody answers there: a line in the log if that is news.
    pub(super) fn came(&self) {
        if let Some(away) = self.health.is_up() {
            let (url, away_s) = (self.url(), away.as_secs());
            tracing::info!(upstream = %self.name, away_s, "upstream {url} is back after {away_s} s");
        }
    }

    /// Nobody answers there: a line in the log if that is news.
    pub(super) fn is_away(&self, why: &dyn std::fmt::Display) {
        if self.health.is_down(why.to_string()) {
            let url = self.url();
            tracing::warn!(upstream = %self.name, "upstream {url} cannot be reached; clients get 502 until it is back: {why}");
        }
    }
}

/// Whose connections may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// Requests of one session.
    Session(SessionId),
    /// Requests without a credential.
    Open,
    /// Requests with credentials of the server's own.
    Native,
}

/// Why there is no connection to the upstream.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The operating system's answer.
    #[error("cannot connect to {address}: {source}")]
    Failed {
        /// host:port.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// No TLS connection, or not with whom the configuration trusts.
    #[error("cannot connect to {address}: {source}")]
    Tls {
        /// host:port.
        address: String,
        /// Cause.
        source: TlsError,
    },
    /// No answer in time.
    #[error("cannot connect to {address} within {seconds} s")]
    TimedOut {
        /// host:port.
        address: String,
        /// The limit.
        seconds: u64,
    },
}

/// A connection that one request may use.
pub struct Lease {
    line: Line,
    upstream: Arc<Upstream>,
    partition: Partition,
    pool: Rc<Pool>,
    alarm: Alarm,
    idle_for: Option<Duration>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("partition", &self.partition).field("idle_for", &self.idle_for).finish_non_exhaustive()
    }
}

impl Lease {
    /// Sends a request and waits for the answer's head, with the alarm of the connection for how long that may take. What is not written of the request by then is written while the answer is read.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, outgoing: Outgoing) -> (impl Future<Output = Result<Response<AnswerBody>, SendError>>, &mut Alarm) {
        let Self { line, pool, alarm, .. } = self;
        let sending = async move {
            let response = line.send(outgoing).await?;
            if !line.is_written() {
                line.write_by_itself(&pool.tasks);
            }
            Ok(response)
        };
        (sending, alarm)
    }

    /// How long the connection idled before; `None` for a new one.
    pub const fn idle_for(&self) -> Option<Duration> {
        self.idle_for
    }

    /// Gives the connection back after a complete exchange. Dropping a lease instead closes the connection.
    pub fn give_back(self) {
        let Self { line, upstream, partition, pool, alarm, .. } = self;
        if line.is_open() {
            pool.put(partition, Idle { line, upstream, alarm, since: pool.now() });
        }
    }
}

struct Idle {
    line: Line,
    upstream: Arc<Upstream>,
    alarm: Alarm,
    since: Duration,
}

/// The idle connections of one core.
pub struct Pool {
    idle: RefCell<Shelf>,
    tasks: Tasks,
    clock: Arc<dyn crate::clock::Clock>,
}

#[derive(Default)]
struct Shelf {
    // Ids and addresses are ours: nobody outside chooses them to collide.
    by_partition: FxHashMap<(Partition, *const Upstream), Vec<Idle>>,
    len: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle.borrow().len).finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool whose connections run as `tasks`.
    pub fn new(tasks: Tasks, clock: Arc<dyn crate::clock::Clock>) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), tasks, clock })
    }

    fn now(&self) -> Duration {
        self.clock.tick()
    }

    /// An idle connection of this partition, the newest, if there is one. Whether the upstream has hung up on it shows when it is used.
    pub fn idle(self: &Rc<Self>, upstream: &Arc<Upstream>, partition: Partition) -> Option<Lease> {
        let mut shelf = self.idle.borrow_mut();
        let Shelf { by_partition, len } = &mut *shelf;
        let stack = by_partition.get_mut(&(partition, Arc::as_ptr(upstream)))?;
        let now = self.now();
        while let Some(Idle { line, upstream, alarm, since }) = stack.pop() {
            *len -= 1;
            let idle_for = now.saturating_sub(since);
            if idle_for < upstream.timeouts.pool_idle {
                return Some(Lease { line, upstream, partition, pool: Rc::clone(self), alarm, idle_for: Some(idle_for) });
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(self: &Rc<Self>, upstream: &Arc<Upstream>, partition: Partition) -> Result<Lease, ConnectError> {
        let line = Line::new(dial(upstream).await?);
        Ok(Lease { line, upstream: Arc::clone(upstream), partition, pool: Rc::clone(self), alarm: Alarm::default(), idle_for: None })
    }

    fn put(&self, partition: Partition, idle: Idle) {
        if self.tasks.is_draining() {
            return;
        }
        let mut shelf = self.idle.borrow_mut();
        if shelf.len >= IDLE_PER_CORE {
            shelf.drop_oldest();
        }
        let Shelf { by_partition, len } = &mut *shelf;
        by_partition.entry((partition, Arc::as_ptr(&idle.upstream))).or_default().push(idle);
        *len += 1;
    }

    /// Closes what idled too long, and what the upstream hung up on; called about once a second.
    pub fn reap(&self) {
        let now = self.now();
        let mut shelf = self.idle.borrow_mut();
        shelf.by_partition.retain(|_, stack| {
            let mut surplus = stack.len().saturating_sub(IDLE_PER_SESSION);
            // Oldest first: the ones that nobody wanted back.
            stack.retain(|idle| {
                let idle_for = now.saturating_sub(idle.since);
                let is_surplus = surplus > 0 && idle_for >= BURST;
                let keeps = !is_surplus && idle_for < idle.upstream.timeouts.pool_idle && !idle.line.is_over();
                surplus = surplus.saturating_sub(usize::from(!keeps));
                keeps
            });
            !stack.is_empty()
        });
        shelf.len = shelf.by_partition.values().map(Vec::len).sum();
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        *self.idle.borrow_mut() = Shelf::default();
    }
}

impl Shelf {
    fn drop_oldest(&mut self) {
        let oldest = self.by_partition.iter().filter_map(|(key, stack)| Some((stack.first()?.since, *key))).min_by_key(|(since, _)| *since);
        if let Some((_, key)) = oldest
            && let Some(stack) = self.by_partition.get_mut(&key)
        {
            stack.remove(0);
            self.len -= 1;
            if stack.is_empty() {
                self.by_partition.remove(&key);
            }
        }
    }
}

/// A connection to the upstream, encrypted where its URL says so, within the connect time-out.
async fn dial(upstream: &Upstream) -> Result<UpstreamIo, ConnectError> {
    let limit = upstream.timeouts.connect;
    let timed_out = |_| ConnectError::TimedOut { address: upstream.address().to_owned(), seconds: limit.as_secs() };
    let connected = tokio::time::timeout(limit, connect(upstream)).await.map_err(timed_out).flatten();
    match &connected {
        // Whom its certificate is for is another question.
        Ok(_) | Err(ConnectError::Tls { .. }) => upstream.came(),
        Err(error) => upstream.is_away(error),
    }
    connected
}

/// All addresses of the upstream's name, one after the other; then the handshake with the one that answered.
async fn connect(upstream: &Upstream) -> Result<UpstreamIo, ConnectError> {
    let address = || upstream.address().to_owned();
    let connecting = TcpStream::connect((upstream.host.as_str(), upstream.port));
    let stream = connecting.await.map_err(|source| ConnectError::Failed { address: address(), source })?;
    // Requests are small and answered at once: Nagle would only hold them back. A failure costs latency, nothing else.
    let _ = stream.set_nodelay(true);
    match &upstream.tls {
        None => Ok(UpstreamIo::Plain(stream.into())),
        // Boxed: a plain connection must not carry the room of a handshake.
        Some(trust) => {
            let handshake = Box::pin(trust.handshake(&upstream.host, stream));
            handshake.await.map_err(|source| ConnectError::Tls { address: address(), source })
        }
    }
}
