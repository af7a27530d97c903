//! Bodies of answers: whole texts, media that are computed as they are read, and the wrapper that watches how they end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Sleep;

use super::control::Control;
use super::media::Media;

/// Between the last byte and the break of an answer that is broken off.
const SETTLE: Duration = Duration::from_millis(20);

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is at hand.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A part of a media file.
pub(super) struct MediaBody {
    media: Media,
    position: u64,
    end: u64,
}

impl MediaBody {
    /// Bytes `start` to `end` (not included).
    pub(super) const fn new(media: Media, start: u64, end: u64) -> Self {
        Self { media, position: start, end }
    }
}

impl HttpBody for MediaBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.position >= self.end {
            return Poll::Ready(None);
        }
        let chunk = self.media.chunk(self.position, self.end);
        self.position += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.position >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.position))
    }
}

/// Counts an answer that was not taken to its end, and breaks one off where a test asked for it.
pub(super) struct Watched {
    inner: Body,
    control: Control,
    cut_after: Option<u64>,
    passed: u64,
    settle: Option<Pin<Box<Sleep>>>,
    is_done: bool,
}

impl Watched {
    pub(super) const fn new(inner: Body, control: Control, cut_after: Option<u64>, is_done: bool) -> Self {
        Self { inner, control, cut_after, passed: 0, settle: None, is_done }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.cut_after.is_some_and(|limit| self.passed >= limit) {
            // What was given so far shall be on its way first: hyper drops what it still holds when a body fails.
            ready!(self.settle.get_or_insert_with(|| Box::pin(tokio::time::sleep(SETTLE))).as_mut().poll(context));
            self.is_done = true;
            return Poll::Ready(Some(Err(io::Error::other("the stand-in was told to break off here"))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.passed += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(_) => self.is_done = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.cut_after.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.is_done && !self.inner.is_end_stream() {
            self.control.count(|counters| counters.aborted_answers += 1);
        }
    }
}
