//! One connection to the upstream, spoken to in HTTP/1.1. It has no task of its own: whoever waits for something from it reads and writes. A task
//! of its own, as hyper's client wants it, and that of the client would wake each other for every request, and hand each other every head and
//! every piece of a body.

mod answer;
mod broken;
mod chunks;
mod framing;
mod head;
mod wire;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::{Response, StatusCode};
use tokio::task::AbortHandle;

use crate::server::drain::Tasks;
use crate::upstream::io::UpstreamIo;

pub use self::answer::AnswerBody;
pub use self::broken::Broken;
pub use self::head::{Outgoing, RequestHead};

use self::framing::{Extent, Left};
use self::head::Head;
use self::wire::{Heard, Wire};

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError {
    /// The connection was gone before a byte of the request was written: it can go over another one, whatever it is.
    Unsent(Outgoing),
    /// Something of it may have arrived.
    Broken(Broken),
}

/// One connection. Dropping it ends it at once, also in mid-request: an upload that nobody reads any more must not go on.
pub(super) struct Line {
    wire: Rc<RefCell<Wire>>,
    task: Option<AbortHandle>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Line {
    pub(super) fn new(io: UpstreamIo) -> Self {
        Self { wire: Rc::new(RefCell::new(Wire::new(io))), task: None }
    }

    /// Sends a request and waits for the answer's head. The request may not be written to its end by then: [`Line::is_written`].
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) async fn send(&mut self, outgoing: Outgoing) -> Result<Response<AnswerBody>, SendError> {
        let is_head = outgoing.is_head;
        let (mut outgoing, mut unwritten) = (Some(outgoing), None);
        let head = poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            match outgoing.take() {
                Some(outgoing) => begin(wire, outgoing, &mut unwritten, cx),
                None => go_on(wire, &mut unwritten, cx),
            }
        })
        .await?;
        self.answer(head, is_head).map_err(SendError::Broken)
    }

    fn answer(&self, head: Head, is_head: bool) -> Result<Response<AnswerBody>, Broken> {
        let left = Left::of(&head, is_head)?;
        let may_serve = head.keeps_alive && !matches!(left, Left::UntilClose) && head.status != StatusCode::SWITCHING_PROTOCOLS;
        let mut response = Response::new(AnswerBody::new(Rc::clone(&self.wire), left, may_serve));
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// Whether all of the request was written.
    pub(super) fn is_written(&self) -> bool {
        self.wire.borrow().is_written()
    }

    /// Goes on with the request's body in a task, which ends with it: the answer came before the body was out, and each goes at its own pace
    /// from now on. It cannot be used again.
    pub(super) fn write_by_itself(&mut self, tasks: &Tasks) {
        let wire = Rc::clone(&self.wire);
        // What it breaks off with shows in the answer too.
        let task = tasks.spawn_local(poll_fn(move |cx| wire.borrow_mut().poll_write(cx).map(drop)));
        self.task = Some(task.abort_handle());
    }

    /// Whether it can carry another request, as far as is known. That the upstream hung up meanwhile shows when it is sent.
    pub(super) fn is_open(&self) -> bool {
        self.task.is_none() && self.wire.borrow().is_idle()
    }

    /// Whether the upstream has hung up on a connection that idles, or speaks unasked.
    pub(super) fn is_over(&self) -> bool {
        self.wire.borrow_mut().listen(&mut Context::from_waker(Waker::noop())) != Heard::Nothing
    }
}

/// Writes what there is of a request. What is looked at for an answer here is only whether one came unasked.
fn begin(wire: &mut Wire, outgoing: Outgoing, unwritten: &mut Option<Broken>, cx: &mut Context<'_>) -> Poll<Result<Head, SendError>> {
    match wire.listen(cx) {
        Heard::Nothing => {}
        Heard::Greeting => return Poll::Ready(Err(SendError::Broken(Broken::Head("it speaks before it is asked")))),
        Heard::End | Heard::Noise => return Poll::Ready(Err(SendError::Unsent(outgoing))),
    }
    let Outgoing { head, is_head, extent, body } = outgoing;
    wire.begin(head);
    if extent != Extent::Nothing {
        wire.follow(body, extent);
        return go_on(wire, unwritten, cx);
    }
    match wire.poll_write(cx) {
        // The answer wakes whoever found the connection silent a moment ago.
        Poll::Ready(Ok(())) => Poll::Pending,
        Poll::Ready(Err(_)) if !wire.has_begun() => {
            Poll::Ready(Err(SendError::Unsent(Outgoing { head: wire.take_back(), is_head, extent, body })))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(SendError::Broken(error))),
        Poll::Pending => go_on(wire, unwritten, cx),
    }
}

/// Writes what is left of a request, and waits for the answer.
fn go_on(wire: &mut Wire, unwritten: &mut Option<Broken>, cx: &mut Context<'_>) -> Poll<Result<Head, SendError>> {
    if unwritten.is_none() && !wire.is_written() {
        match wire.poll_write(cx) {
            // A server that will not read all of a body may have said why before it closed.
            Poll::Ready(Err(error @ Broken::Io(_))) => *unwritten = Some(error),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Broken(error))),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
    }
    let head = ready!(wire.poll_head(cx));
    Poll::Ready(head.map_err(|error| SendError::Broken(unwritten.take().unwrap_or(error))))
}

#[cfg(test)]
mod tests;
