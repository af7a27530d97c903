//! Bodies on their way: the client's toward the upstream, and the upstream's toward the client.

mod sent;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::forward::pace::Pacer;
use crate::forward::scrub;
use crate::gateway::trail::Trail;
use crate::handouts::Learning;
use crate::lifeline::Cause;
use crate::policy::Admission;
use crate::scrub::Leak;
use crate::server::connection::Busy;
use crate::upstream::client::Lease;
use crate::upstream::line::Broken;
use crate::usage::open::Sort;

use sent::NOTHING;
pub use sent::Sent;

/// Most bytes of a request's body that are kept for a replay after a renewed session.
pub const HELD_BYTES: usize = 64 << 10;

/// Below this many bytes a second, averaged over the time spent waiting for the client, a request's body is cut off…
const SLOWEST_BYTES_PER_SECOND: u64 = 1024;
/// …once that waiting has lasted this long (slow-body attacks; hyper has no limit of its own).
const SLOW_AFTER: Duration = Duration::from_secs(60);

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client broke off or broke the rules of HTTP.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The upstream did.
    #[error(transparent)]
    Upstream(#[from] Broken),
    /// Nothing moved for the idle time-out.
    #[error("no byte came for {0:?}")]
    Idle(Duration),
    /// The client sends too slowly to be honest.
    #[error("the client sends fewer than {SLOWEST_BYTES_PER_SECOND} bytes a second")]
    TooSlow,
    /// The key died under which it was asked for.
    #[error("{0}")]
    KeyDied(Cause),
    /// An answer holds a credential that cannot be taken out of it.
    #[error(transparent)]
    Leak(#[from] Leak),
    /// An answer's coding is damaged.
    #[error(transparent)]
    Damaged(#[from] scrub::Damaged),
}

/// The body of a forwarded request. Trailers are dropped: a credential could hide in them.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    sent: Rc<Sent>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Held(std::vec::IntoIter<Bytes>),
    Client(Box<ClientBody>),
}

#[derive(Debug)]
struct ClientBody {
    incoming: Incoming,
    idle_timeout: Duration,
    waiting: Option<(Pin<Box<Sleep>>, tokio::time::Instant)>,
    waited: Duration,
    pacer: Option<Box<Pacer>>,
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self { source: Source::Empty, sent: NOTHING.with(Rc::clone) }
    }

    /// What was kept of a body.
    pub(crate) fn held(frames: Vec<Bytes>) -> Self {
        Self { source: Source::Held(frames.into_iter()), sent: Rc::default() }
    }

    /// The client's body. `hold`: keep a small one for a replay.
    pub fn from_client(incoming: Incoming, idle_timeout: Duration, hold: bool) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let sent = Sent { held: RefCell::new(hold.then(Vec::new)), ..Sent::default() };
        let client = ClientBody { incoming, idle_timeout, waiting: None, waited: Duration::ZERO, pacer: None };
        Self { source: Source::Client(Box::new(client)), sent: Rc::new(sent) }
    }

    /// With its speed limited.
    #[must_use]
    pub fn paced(mut self, pacer: Option<Box<Pacer>>) -> Self {
        if let Source::Client(client) = &mut self.source {
            client.pacer = pacer;
        }
        self
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    /// What becomes of it.
    pub fn sent(&self) -> Rc<Sent> {
        Rc::clone(&self.sent)
    }
}

impl ClientBody {
    fn held(&self) -> u64 {
        self.pacer.as_ref().map_or(0, |pacer| pacer.held())
    }

    fn poll_paced(&mut self, cx: &mut Context<'_>, bytes_so_far: u64) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(pacer) = &mut self.pacer
            && let Some(rest) = ready!(pacer.poll_rest(cx))
        {
            return Poll::Ready(Some(Ok(rest)));
        }
        let polled = ready!(self.poll_data(cx, bytes_so_far));
        passed(self.pacer.as_mut(), polled)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, bytes_so_far: u64) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waited_until_now();
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return self.poll_patience(cx, bytes_so_far).map(|error| Some(Err(error))),
            }
        }
    }

    /// Only time spent waiting for the client counts; a slow upstream is not the client's fault.
    fn waited_until_now(&mut self) {
        if let Some((_, since)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer beside it")]
    fn poll_patience(&mut self, cx: &mut Context<'_>, bytes_so_far: u64) -> Poll<BodyError> {
        let look_again = self.idle_timeout.min(SLOW_AFTER);
        let (timer, since) = self.waiting.get_or_insert_with(|| (Box::pin(sleep(look_again)), tokio::time::Instant::now()));
        loop {
            ready!(timer.as_mut().poll(cx));
            let this_wait = since.elapsed();
            if this_wait >= self.idle_timeout {
                return Poll::Ready(BodyError::Idle(self.idle_timeout));
            }
            if is_too_slow(bytes_so_far, self.waited + this_wait) {
                return Poll::Ready(BodyError::TooSlow);
            }
            timer.as_mut().reset(tokio::time::Instant::now() + look_again.min(self.idle_timeout - this_wait));
        }
    }
}

/// Whether the average is that of a slow-body attack.
const fn is_too_slow(bytes: u64, waited: Duration) -> bool {
    waited.as_secs() >= SLOW_AFTER.as_secs() && bytes < waited.as_secs() * SLOWEST_BYTES_PER_SECOND
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let sent = &this.sent;
        let next = match &mut this.source {
            Source::Empty => None,
            Source::Held(frames) => frames.next().map(Ok),
            Source::Client(client) => {
                let polled = client.poll_paced(cx, sent.bytes.get());
                sent.waits_for_client.set(polled.is_pending());
                match ready!(polled) {
                    Some(Ok(_)) if is_too_slow(sent.bytes.get(), client.waited) => Some(Err(BodyError::TooSlow)),
                    next => next,
                }
            }
        };
        Poll::Ready(match next {
            None => {
                sent.complete.set(true);
                None
            }
            Some(Ok(data)) => {
                sent.note(&data);
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => {
                sent.client_failed.set(true);
                sent.client_broke_rules.set(matches!(error, BodyError::Client(_)));
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let is_end = match &self.source {
            Source::Empty => true,
            Source::Held(frames) => frames.len() == 0,
            Source::Client(client) => client.incoming.is_end_stream() && client.held() == 0,
        };
        if is_end {
            self.sent.complete.set(true);
        }
        is_end
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Held(frames) => SizeHint::with_exact(frames.as_slice().iter().map(|frame| frame.len() as u64).sum()),
            Source::Client(client) => longer(client.incoming.size_hint(), client.held()),
        }
    }
}

/// What of some data goes on now.
fn passed(pacer: Option<&mut Box<Pacer>>, polled: Option<Result<Bytes, BodyError>>) -> Poll<Option<Result<Bytes, BodyError>>> {
    match (pacer, polled) {
        (Some(pacer), Some(Ok(data))) => pacer.pass(data).map(|data| Some(Ok(data))),
        (_, polled) => Poll::Ready(polled),
    }
}

/// A hint of what is to come, and of what is held back beside it.
fn longer(mut hint: SizeHint, held: u64) -> SizeHint {
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + held);
    }
    hint.set_lower(hint.lower() + held);
    hint
}

/// The body of an answer to a client.
#[derive(Debug)]
pub struct GatewayBody {
    content: Content,
    busy: Option<Busy>,
}

#[derive(Debug)]
enum Content {
    /// keygate's own, or none.
    Own(Option<Bytes>),
    /// The upstream's.
    Upstream(Box<Metered>),
}

impl GatewayBody {
    /// No body.
    pub const EMPTY: Self = Self { content: Content::Own(None), busy: None };

    /// A text that was put together.
    pub const fn whole(text: Bytes) -> Self {
        Self { content: Content::Own(Some(text)), busy: None }
    }

    /// A fixed text.
    pub const fn fixed(text: &'static str) -> Self {
        Self { content: Content::Own(Some(Bytes::from_static(text.as_bytes()))), busy: None }
    }

    /// A text of keygate's own.
    pub const fn own(text: Bytes) -> Self {
        Self { content: Content::Own(Some(text)), busy: None }
    }

    /// The upstream's.
    pub fn upstream(metered: Metered) -> Self {
        Self { content: Content::Upstream(Box::new(metered)), busy: None }
    }

    /// Shows the bytes of the upstream's body to somebody before they go on to the client.
    pub fn watch(&mut self, learning: Box<Learning>) {
        if let Content::Upstream(metered) = &mut self.content {
            metered.learning = Some(learning);
        }
    }

    /// The connection counts as busy until the body is sent or dropped.
    pub(crate) fn until_sent(&mut self, busy: Busy) {
        if let Content::Upstream(metered) = &self.content
            && let Some(permit) = metered.admission.permit().filter(|_| !metered.complete)
        {
            busy.runs_on(permit.lifeline().watch());
        }
        self.busy = Some(busy);
    }
}

/// An upstream's body that holds what must live until its last byte: the admission with its slots, the connection, the log line.
#[derive(Debug)]
pub struct Metered {
    source: scrub::Source,
    lease: Option<Lease>,
    sent: Rc<Sent>,
    trail: Option<Box<Trail>>,
    bytes: u64,
    complete: bool,
    learning: Option<Box<Learning>>,
    pacer: Option<Box<Pacer>>,
    admission: Admission,
}

impl Metered {
    /// Wraps an answer's body.
    pub fn new(source: scrub::Source, lease: Option<Lease>, sent: Rc<Sent>, admission: Admission, trail: Option<Box<Trail>>) -> Self {
        let mut metered = Self { source, lease, sent, trail, bytes: 0, complete: false, learning: None, pacer: None, admission };
        if metered.source.is_end() {
            metered.end();
        } else if let (Some(trail), Some(permit), false) = (&mut metered.trail, metered.admission.permit(), metered.source.is_here()) {
            // What is here already is no stream that anybody could watch.
            trail.opens(Sort::Stream, permit, None);
        }
        metered
    }

    /// With its speed limited.
    #[must_use]
    pub fn paced(mut self, pacer: Option<Box<Pacer>>) -> Self {
        self.pacer = pacer;
        self
    }

    fn held(&self) -> u64 {
        self.pacer.as_ref().map_or(0, |pacer| pacer.held())
    }

    fn is_end(&self) -> bool {
        self.source.is_end() && self.held() == 0
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(pacer) = &mut self.pacer
            && let Some(rest) = ready!(pacer.poll_rest(cx))
        {
            return Poll::Ready(Some(Ok(rest)));
        }
        let polled = ready!(self.source.poll_data(cx));
        passed(self.pacer.as_mut(), polled)
    }

    /// Whether the key died before the end. It is asked at each look, also where there is something to send: a client that reads slowly
    /// keeps hyper from looking again, and the connection must be woken then.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cause> {
        match self.admission.permit() {
            Some(permit) if !self.complete => permit.lifeline().watched().poll_cut(cx),
            _ => Poll::Pending,
        }
    }

    /// The whole answer came: its connection may serve again, unless the request's body did not go out whole.
    fn end(&mut self) {
        self.complete = true;
        if let Some(lease) = self.lease.take()
            && self.sent.is_complete()
        {
            lease.give_back();
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(mut trail) = self.trail.take() {
            trail.ended = self.admission.permit().and_then(|permit| permit.lifeline().cause()).filter(|_| !self.complete);
            trail.finish(self.sent.bytes(), self.bytes, self.complete);
        }
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { content, busy } = self.get_mut();
        let metered = match content {
            Content::Own(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Upstream(metered) => metered,
        };
        if let Poll::Ready(cause) = metered.poll_cut(cx) {
            if let Some(busy) = busy {
                busy.was_cut();
            }
            return Poll::Ready(Some(Err(BodyError::KeyDied(cause))));
        }
        Poll::Ready(match ready!(metered.poll_data(cx)) {
            Some(Ok(data)) => {
                if let Some(busy) = busy {
                    busy.answer_moved();
                }
                metered.bytes += data.len() as u64;
                if let Some(trail) = &metered.trail {
                    trail.moved(metered.sent.bytes(), metered.bytes);
                }
                if let Some(learning) = &mut metered.learning {
                    learning.see(&data);
                }
                if metered.is_end() {
                    metered.end();
                }
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                metered.end();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(text) => text.is_none(),
            Content::Upstream(metered) => metered.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Upstream(metered) => longer(metered.source.size_hint(), metered.held()),
        }
    }
}

#[cfg(test)]
mod tests;
