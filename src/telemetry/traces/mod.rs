//! Traces: a span of each request, and below it one of what the upstream made of it, for an OpenTelemetry collector.
//!
//! Off, there is nothing: no task, no allocation, a branch in each request. On, ids are drawn and a few notes taken while a request runs
//! ([`span::Traced`]), its spans are made when it has ended, out of what the access line is made of, and wait in a queue that has an end
//! ([`Tracer`]). A task beside the requests sends them in batches (`export`). Nothing waits for the collector: what finds no room in the
//! queue is counted and gone.
//!
//! A client's `traceparent` (W3C Trace Context, [`context`]) decides whether its request is traced, and in which trace, only where its
//! peer is one of `trusted_proxies`: whoever asks for it with every request would else fill the collector, and the traces of others, from
//! outside. Of all others it becomes a link, in a trace of their own.

pub mod context;
mod export;
pub mod otlp;
mod post;
pub mod span;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::context::{Fresh, Remote};
use self::export::Exporter;
use self::post::Undelivered;
use self::span::{Ended, Place, Traced};
use crate::clock::Clock;
use crate::config::{Endpoint, HeadersError, Share, Traces};

/// Requests whose spans wait to be sent. A few hundred bytes each.
const QUEUE: usize = 4096;
/// How long the end of the program waits for the last ones.
const FAREWELL: Duration = Duration::from_secs(3);

/// What became of spans.
#[derive(Debug, Default)]
pub struct Figures {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Figures {
    /// Spans that the collector took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Spans that it could not be given, or did not want.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn count(figure: &AtomicU64, spans: usize) {
        figure.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// Sends no spans at all, as they would be sent. What the collector has against that, or keygate itself.
///
/// # Errors
/// A part of a sentence.
pub async fn try_out(config: &Traces) -> Result<(), String> {
    let headers = config.read_headers().map_err(|error| error.to_string())?;
    let target = Target { endpoint: config.endpoint.clone(), headers };
    match post::post(&target, Bytes::new()).await {
        Ok(_) => Ok(()),
        Err(Undelivered::Later(why, _) | Undelivered::Never(why)) => Err(why),
    }
}

/// Where spans go, and how.
#[derive(PartialEq, Eq)]
struct Target {
    endpoint: Endpoint,
    headers: HeaderMap,
}

/// Decides which requests are traced, and takes what is known of them when they have ended. For all cores.
pub struct Tracer {
    target: Arc<Target>,
    sample: Share,
    queue: SyncSender<Box<Ended>>,
    figures: Arc<Figures>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("endpoint", &self.target.endpoint).field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// What a new request shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its headers as they came.
    pub headers: &'a HeaderMap,
    /// The other end of the socket.
    pub peer: IpAddr,
    /// Whether that one is a trusted proxy.
    pub is_trusted: bool,
    /// Whether the client came by TLS.
    pub is_secure: bool,
    /// The host that the client named.
    pub host: Option<&'a str>,
}

impl Tracer {
    /// Starts sending on `control`. What `before` does goes on where nothing has changed; else it sends what it has, and ends when the
    /// last request that began with it has. Reads a file.
    ///
    /// # Errors
    /// [`HeadersError`].
    pub fn start(config: &Traces, before: Option<&Arc<Self>>, clock: &Arc<dyn Clock>, control: &Handle) -> Result<Arc<Self>, HeadersError> {
        let target = Target { endpoint: config.endpoint.clone(), headers: config.read_headers()? };
        if let Some(before) = before.filter(|before| *before.target == target && before.sample == config.sample) {
            return Ok(Arc::clone(before));
        }
        let (queue, inbox) = sync_channel(QUEUE);
        let figures = before.map(|before| Arc::clone(&before.figures)).unwrap_or_default();
        let (target, stop, tasks) = (Arc::new(target), CancellationToken::new(), TaskTracker::new());
        let exporter = Exporter::new(inbox, Arc::clone(&target), Arc::clone(&figures), Arc::clone(clock));
        tasks.spawn_on(exporter.run(stop.clone()), control);
        Ok(Arc::new(Self { target, sample: config.sample, queue, figures, stop, tasks }))
    }

    /// Begins the notes of a request. `None`: the system gives no random bytes.
    pub fn begin(self: &Arc<Self>, seen: Seen<'_>, clock: &dyn Clock) -> Option<Box<Traced>> {
        let fresh = Fresh::draw()?;
        let remote = Remote::read(seen.headers);
        let place = match remote.filter(|_| seen.is_trusted) {
            Some(parent) => Place::below(parent, fresh),
            None => Place::alone(fresh, fresh.trace.is_within(self.sample), remote),
        };
        Some(Box::new(Traced::begin(Arc::clone(self), place, seen, clock)))
    }

    /// What became of spans since the program started.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Sends what is left, for a few seconds at most, and ends: once no request runs any more.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        // What is not sent by then is lost, as it is when the collector is down.
        let _ = tokio::time::timeout(FAREWELL, self.tasks.wait()).await;
    }

    fn take(&self, ended: Box<Ended>) {
        let spans = ended.spans();
        if self.queue.try_send(ended).is_err() {
            Figures::count(&self.figures.dropped, spans);
        }
    }
}
