//! Patience with one HTTP/2 stream. Its connection lives for as long as any byte moves on it, so pings or the other streams would keep
//! a stalled one for ever: with its permit, its upstream connection and what is buffered for it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::lifeline::Watch;
use crate::server::connection::Peer;
use crate::server::drain::Tasks;

/// Runs HTTP/2 streams on the connection's core and ends those that stall; nothing else of the connection is harmed.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) tasks: Tasks,
    pub(super) peer: Rc<Peer>,
    /// How long an answer may stand still; noticed between once and twice that time.
    pub(super) idle_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn_local(until_stalled(stream, Rc::clone(&self.peer), self.idle_timeout));
    }
}

/// Drives a stream until it ends, or until its answer has stood still for `limit`: the upstream had no byte for it, or the client took
/// none of what is buffered. Before the answer, the request's body and the wait for the upstream have limits of their own. A dropped
/// stream is reset.
async fn until_stalled(stream: impl Future<Output = ()>, peer: Rc<Peer>, limit: Duration) {
    let mut stream = pin!(stream);
    // Set when the answer has begun and does not end at once: most streams need none.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut has_moved = false;
    let mut key = None;
    poll_fn(|cx: &mut Context<'_>| {
        let has_ended = stream.as_mut().poll(cx).is_ready();
        // One core, one thread: the stream that was polled just now is the one that set the marks. One that has ended must not leave
        // them to another.
        let moves = peer.answer_moved.take();
        key = peer.key.take().or_else(|| key.take());
        if has_ended {
            return Poll::Ready(());
        }
        has_moved |= moves;
        if !has_moved && timer.is_none() {
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        // hyper does not look at an answer for which the client leaves no room.
        if key.as_ref().is_some_and(|key: &Watch| key.poll_cut(cx).is_ready()) {
            tracing::debug!(client = %peer.address.ip(), "stream closed: the key died");
            return Poll::Ready(());
        }
        ready!(timer.as_mut().poll(cx));
        if !std::mem::take(&mut has_moved) {
            tracing::debug!(client = %peer.address.ip(), "stream closed: nothing moved on it");
            return Poll::Ready(());
        }
        timer.as_mut().reset(now() + limit);
        timer.as_mut().poll(cx)
    })
    .await;
}

#[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer that is set with it")]
fn now() -> Instant {
    Instant::now()
}
