//! Patience with one HTTP/2 stream. Its connection lives for as long as any byte moves on it, so pings or the other streams would keep
//! a stalled one for ever: with its permit, its upstream connection and what is buffered for it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

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

/// Drives a stream until it ends, or until nothing has happened to it for `limit` while its answer's body was on its way. Before
/// that, the request's body and the wait for the upstream's answer have limits of their own.
///
/// hyper wakes a stream when the upstream has bytes for it or the client takes some, and for nothing else: no wake-up but the timer's
/// own means that both stand still. A dropped stream is reset.
async fn until_stalled(stream: impl Future<Output = ()>, peer: Rc<Peer>, limit: Duration) {
    let mut stream = pin!(stream);
    // It is registered when it is polled first, and so costs a stream that never waits nothing.
    let mut timer = pin!(sleep(limit));
    let mut is_answered = false;
    let mut was_woken = false;
    poll_fn(|cx: &mut Context<'_>| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Whoever was polled just now is the one who has answered.
        if peer.answered.take() {
            is_answered = true;
            timer.as_mut().reset(now() + limit);
        }
        if !is_answered {
            return Poll::Pending;
        }
        if timer.as_mut().poll(cx).is_pending() {
            was_woken = true;
            return Poll::Pending;
        }
        if !std::mem::take(&mut was_woken) {
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
