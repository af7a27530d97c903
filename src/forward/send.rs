//! One exchange with the upstream: a connection from the pool or a new one, one safe retry when a pooled one turned out stale.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use crate::forward::body::{RequestBody, Sent};
use crate::forward::rewrite::Outbound;
use crate::gateway::refusal::Refusal;
use crate::upstream::alarm::Alarm;
use crate::upstream::client::{Lease, Partition, Pool, Upstream};
use crate::upstream::line::{AnswerBody, Broken, Outgoing, SendError};

/// A pooled connection that idled longer than this may have been closed by the server just now: a safe request without a body is
/// copied before it is written there, so that it can be sent again.
const MAY_BE_STALE_AFTER: Duration = Duration::from_millis(20);

/// An answer's head, and what its body needs.
#[derive(Debug)]
pub struct Exchange {
    /// The answer.
    pub response: Response<AnswerBody>,
    /// The connection it comes over, if it may serve again.
    pub lease: Option<Lease>,
    /// What became of the request's body.
    pub sent: Rc<Sent>,
    /// How long the answer's head took.
    pub took: Duration,
}

impl Exchange {
    /// One of a connection that serves only this once, for a request without a body.
    pub fn alone(response: Response<AnswerBody>) -> Self {
        Self { response, lease: None, sent: RequestBody::empty().sent(), took: Duration::ZERO }
    }
}

/// Sends a request and waits for the answer's head.
///
/// # Errors
/// [`Refusal::Connect`], [`Refusal::BrokenOff`], [`Refusal::ClosedAtOnce`], [`Refusal::NoAnswer`], [`Refusal::ClientBody`],
/// [`Refusal::BrokenBody`], [`Refusal::BadAnswer`].
pub async fn send(
    pool: &Rc<Pool>,
    upstream: &Arc<Upstream>,
    partition: Partition,
    outbound: Outbound,
    body: RequestBody,
) -> Result<Exchange, Refusal> {
    let (sent, begun) = (body.sent(), now());
    let (mut lease, since) = match pool.idle(upstream, partition) {
        Some(lease) => (lease, begun),
        None => (Box::pin(pool.connect(upstream, partition)).await?, now()),
    };
    let is_safe = body.is_empty() && outbound.is_safe();
    let copy = (is_safe && lease.idle_for() >= Some(MAY_BE_STALE_AFTER)).then(|| outbound.clone());
    let limit = upstream.timeouts.response_header;
    let response = match attempt(&mut lease, outbound.with_body(body), &sent, (since, limit)).await {
        Ok(response) => response,
        Err(failed) => {
            let again = once_more(failed, copy, &lease, &sent)?;
            // Rare, and large: not a part of every request's memory.
            lease = Box::pin(pool.connect(upstream, partition)).await?;
            Box::pin(attempt(&mut lease, again, &sent, (now(), limit))).await.map_err(Failed::into_refusal)?
        }
    };
    check(&response)?;
    Ok(Exchange { response, lease: Some(lease), sent, took: begun.elapsed() })
}

/// What may go over a new connection after a pooled one failed.
fn once_more(failed: Failed, copy: Option<Outbound>, lease: &Lease, sent: &Sent) -> Result<Outgoing, Refusal> {
    match failed {
        Failed::Unsent(outgoing) if lease.idle_for().is_some() => Ok(outgoing),
        Failed::Broken(error) => match copy {
            Some(copy) => Ok(copy.with_body(RequestBody::empty())),
            None => Err(broken_off(sent, error)),
        },
        failed => Err(failed.into_refusal()),
    }
}

enum Failed {
    /// The connection was gone before a byte of the request was written: it can go over another one, whatever it is.
    Unsent(Outgoing),
    Broken(Broken),
    Final(Refusal),
}

impl Failed {
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Unsent(_) => Refusal::ClosedAtOnce,
            Self::Broken(error) => Refusal::BrokenOff(error),
            Self::Final(refusal) => refusal,
        }
    }
}

/// What the client did wrong, if it was the client.
fn client_fault(sent: &Sent) -> Option<Refusal> {
    sent.client_failed().then(|| if sent.client_broke_rules() { Refusal::BrokenBody } else { Refusal::ClientBody })
}

fn broken_off(sent: &Sent, error: Broken) -> Refusal {
    client_fault(sent).unwrap_or(Refusal::BrokenOff(error))
}

async fn attempt(lease: &mut Lease, outgoing: Outgoing, sent: &Sent, time: (Instant, Duration)) -> Result<Response<AnswerBody>, Failed> {
    // Pinned here: a future that is moved into another one takes its room twice.
    let (answer, alarm) = lease.send(outgoing);
    match within(time, sent, alarm, std::pin::pin!(answer)).await {
        None => Err(Failed::Final(Refusal::NoAnswer(time.1.as_secs()))),
        Some(Ok(response)) => Ok(response),
        Some(Err(SendError::Unsent(outgoing))) => Err(Failed::Unsent(outgoing)),
        Some(Err(SendError::Broken(error))) => Err(client_fault(sent).map_or_else(|| Failed::Broken(error), Failed::Final)),
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer that is set with it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for an answer, `limit` from the moment at which the request's body was out (an upload may take hours before that). `since`: now.
pub(crate) async fn within<F: Future>((since, limit): (Instant, Duration), sent: &Sent, alarm: &mut Alarm, answer: F) -> Option<F::Output> {
    let mut answer = std::pin::pin!(answer);
    let (mut before, mut deadline) = ((sent.bytes(), sent.is_complete()), since + limit);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        loop {
            ready!(alarm.poll(deadline, cx));
            // Time is up when the body was out all the while, or no byte of it moved although the client had some (an upstream that
            // stopped reading). For a client that stalls, the body itself has its limits.
            let so_far = (sent.bytes(), sent.is_complete());
            if so_far == before && !sent.waits_for_client() {
                return Poll::Ready(None);
            }
            (before, deadline) = (so_far, now() + limit);
        }
    })
    .await
}

/// Refuses an answer whose end could be read in two ways, or whose body cannot be read at all, and a switch of protocols that nobody asked for.
pub(crate) fn check<B>(response: &Response<B>) -> Result<(), Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::BadAnswer("it switches protocols unasked"));
    }
    let headers = response.headers();
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::BadAnswer("it has both a Content-Length and a Transfer-Encoding"));
    }
    // `TE` never goes upstream, and what is coded below the headers that say so could not be looked through.
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !headers.get_all(TRANSFER_ENCODING).iter().all(is_chunked) {
        return Err(Refusal::BadAnswer("it has a transfer coding that nobody asked for"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A body whose end has not been reached yet.
    fn body() -> RequestBody {
        RequestBody::held(Vec::new())
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_an_answer_begins_when_the_body_is_out() {
        let body = body();
        let sent = body.sent();
        let answer = async {
            sleep(LIMIT - Duration::from_secs(1)).await;
            let _ = body.collect().await;
            sleep(LIMIT - Duration::from_secs(1)).await;
        };
        assert!(within((now(), LIMIT), &sent, &mut Alarm::default(), answer).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_and_no_movement_end_the_wait() {
        let moving = body();
        let sent = moving.sent();
        let answer = async {
            let _ = moving.collect().await;
            std::future::pending::<()>().await;
        };
        assert!(within((now(), LIMIT), &sent, &mut Alarm::default(), answer).await.is_none());
        let stuck = body();
        assert!(within((now(), LIMIT), &stuck.sent(), &mut Alarm::default(), std::future::pending::<()>()).await.is_none());
    }
}
