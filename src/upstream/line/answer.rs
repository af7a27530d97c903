//! The body of an upstream's answer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Broken;
use super::framing::Left;
use super::wire::Wire;
use crate::upstream::io::UpstreamIo;

/// The body of an upstream's answer: whoever asks for its bytes reads them off the connection.
#[derive(Debug)]
pub struct AnswerBody {
    wire: Rc<RefCell<Wire>>,
    left: Left,
    /// Whether another request may follow on the connection.
    may_serve: bool,
}

impl AnswerBody {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, left: Left, may_serve: bool) -> Self {
        if left.is_nothing() {
            wire.borrow_mut().end(may_serve);
        }
        Self { wire, left, may_serve }
    }

    /// The next bytes; `None` at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.left.is_nothing() {
            return Poll::Ready(None);
        }
        let polled = self.poll_left(cx);
        if self.left.is_nothing() {
            self.wire.borrow_mut().end(self.may_serve);
        }
        polled
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            let data = self.left.take(wire.inbox())?;
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
            if self.left.is_nothing() {
                return Poll::Ready(None);
            }
            if ready!(wire.poll_read(cx)).map_err(Broken::Io)? == 0 {
                self.left.close()?;
            }
        }
    }

    /// The socket of an answer that switched protocols, and what came on it already; `None` while its line is held.
    pub fn into_socket(self) -> Option<(UpstreamIo, Bytes)> {
        Rc::into_inner(self.wire).map(|wire| wire.into_inner().into_socket())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.get_mut().poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_nothing()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
