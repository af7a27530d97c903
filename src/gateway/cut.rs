//! A request whose key dies while it waits: for a session, for the upstream's head, for the rest of its own body.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::gateway::refusal::Refusal;
use crate::lifeline::Watch;

/// Drives a request until it has its answer's head, or until the key dies that it was admitted with: it is dropped then, and with it its
/// upstream connection. The client reads what it would have read had it come a moment later.
///
/// It is pinned where it was made: a future that is moved into another one takes its room twice.
pub(super) async fn unless_cut<T>(
    key: &RefCell<Option<Watch>>,
    mut request: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    poll_fn(|cx| {
        if let Poll::Ready(answer) = request.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        match key.borrow().as_ref().map(|key| key.poll_cut(cx)) {
            Some(Poll::Ready(cause)) => Poll::Ready(Err(Refusal::KeyDied(cause))),
            _ => Poll::Pending,
        }
    })
    .await
}
