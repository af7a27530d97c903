//! The body of an answer on its way to the client: as it comes, or decoded and scrubbed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::{Body, SizeHint};

use super::coding::Decoder;
use crate::forward::body::BodyError;
use crate::redact::Redacted;
use crate::scrub::{Plan, Scrubber};
use crate::upstream::line::AnswerBody;

/// How long an answer's head waits for its first bytes to be scrubbed; after that it goes out, and a credential cuts the connection.
const FIRST_BYTES: Duration = Duration::from_secs(2);

/// Where the bytes of an answer come from.
#[derive(Debug)]
pub enum Source {
    /// As they are.
    Plain(AnswerBody),
    /// All of it is here and scrubbed; what is left of it.
    Whole(Bytes),
    /// Through the scrubber.
    Scrubbed(Box<Scrubbed>),
}

impl Source {
    /// The next bytes for the client.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Plain(incoming) => incoming.poll_data(cx).map_err(BodyError::from),
            Self::Whole(text) => Poll::Ready((!text.is_empty()).then(|| Ok(std::mem::take(text)))),
            Self::Scrubbed(scrubbed) => scrubbed.poll_data(cx),
        }
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Plain(incoming) => incoming.is_end_stream(),
            Self::Whole(text) => text.is_empty(),
            Self::Scrubbed(scrubbed) => scrubbed.is_done && scrubbed.ready.is_empty(),
        }
    }

    /// Whether nothing more has to come from the upstream.
    pub const fn is_here(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// How many bytes will come.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(incoming) => incoming.size_hint(),
            Self::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Self::Scrubbed(scrubbed) if scrubbed.is_done => SizeHint::with_exact(scrubbed.ready.len() as u64),
            Self::Scrubbed(scrubbed) => scrubbed.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

/// The first piece of a body, if it came with the head. Who waits for it if it did not has to ask again.
pub(super) fn first(incoming: &mut AnswerBody) -> Result<Option<Bytes>, BodyError> {
    match incoming.poll_data(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(first)) => Ok(Some(first?)),
        Poll::Ready(None) | Poll::Pending => Ok(None),
    }
}

/// What the log says of an answer that held a credential: where, never what.
#[derive(Debug)]
pub struct Place {
    /// Method of the request.
    pub method: Method,
    /// The judged path.
    pub path: String,
    /// The answer's type.
    pub content_type: String,
    /// The account, `upstream/name`, or the upstream alone.
    pub account: String,
}

impl Place {
    /// Writes the line.
    pub(super) fn report(&self, error: &dyn std::fmt::Display, consequence: &'static str) {
        tracing::error!(
            method = self.method.as_str(),
            path = %Redacted(&self.path),
            content_type = %Redacted(&self.content_type),
            account = self.account,
            "the media server's answer holds {error}: {consequence}"
        );
    }
}

/// A body that is decoded if need be, and scrubbed.
#[derive(Debug)]
pub struct Scrubbed {
    incoming: AnswerBody,
    decoder: Option<Decoder>,
    /// Bytes that came and are still to be decoded, or to be scrubbed.
    input: Bytes,
    scrubber: Scrubber,
    /// What may go out.
    ready: Bytes,
    /// Nothing more comes to be ready.
    is_done: bool,
    /// Bytes that will still go out, where that is known beforehand.
    left: Option<u64>,
    /// For the log, once the head has gone out.
    place: Option<Place>,
}

impl Scrubbed {
    /// `first`: what came of the body already.
    pub(super) fn new(incoming: AnswerBody, first: Bytes, decoder: Option<Decoder>, plan: Plan) -> Self {
        Self {
            incoming,
            decoder,
            input: first,
            scrubber: Scrubber::new(Arc::new(plan)),
            ready: Bytes::new(),
            is_done: false,
            left: None,
            place: None,
        }
    }

    /// Scrubs the first bytes before the head goes out, so that a small answer is judged as a whole: all of it, if it is there.
    pub(super) async fn begin(&mut self) -> Result<Option<Bytes>, BodyError> {
        // Most bodies came with their heads: no timer for those.
        let at_once = poll_fn(|cx| Poll::Ready(self.poll_fill(cx))).await;
        match at_once {
            Poll::Ready(filled) => filled?,
            // Time over: the head goes out, the bytes follow when they come.
            Poll::Pending => tokio::time::timeout(FIRST_BYTES, poll_fn(|cx| self.poll_fill(cx))).await.unwrap_or(Ok(()))?,
        }
        Ok(self.is_done.then(|| std::mem::take(&mut self.ready)))
    }

    /// Gathers a small answer and lets somebody rewrite it. Longer or slower ones go their way as they are.
    pub(super) async fn whole(&mut self, most: usize, rewrite: impl FnOnce(&[u8]) -> Option<Bytes>) -> Result<Option<Bytes>, BodyError> {
        let mut gathered = BytesMut::new();
        let gathering = async {
            while !self.is_done && gathered.len() <= most {
                poll_fn(|cx| self.poll_fill(cx)).await?;
                gathered.extend_from_slice(&std::mem::take(&mut self.ready));
            }
            Ok::<_, BodyError>(())
        };
        // One wait for all of it, so that no server that trickles keeps the head back for hours.
        tokio::time::timeout(FIRST_BYTES, gathering).await.unwrap_or(Ok(()))?;
        let gathered = gathered.freeze();
        if !self.is_done {
            self.ready = gathered;
            return Ok(None);
        }
        Ok(Some(rewrite(&gathered).unwrap_or(gathered)))
    }

    /// The head goes out before the rest is here. `length`: what it promises.
    pub(super) fn go_on(&mut self, length: Option<u64>, place: Place) {
        (self.left, self.place) = (length, Some(place));
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.ready.is_empty()
            && let Err(error) = ready!(self.poll_fill(cx))
        {
            return Poll::Ready(Some(Err(error)));
        }
        let data = std::mem::take(&mut self.ready);
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready((!data.is_empty()).then_some(Ok(data)))
    }

    /// Works until something is ready or all is done.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while self.ready.is_empty() && !self.is_done {
            let progress = match self.decode() {
                Ok(Some(decoded)) => self.take_in(decoded),
                Ok(None) if !self.input.is_empty() => {
                    let data = std::mem::take(&mut self.input);
                    self.take_in(data)
                }
                Ok(None) => match ready!(self.incoming.poll_data(cx)) {
                    Some(Ok(data)) if self.decoder.is_some() => {
                        self.input = data;
                        Ok(())
                    }
                    Some(Ok(data)) => self.take_in(data),
                    Some(Err(error)) => Err(error.into()),
                    None => self.finish(),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = progress {
                self.fail(&error);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A piece of what is there to be decoded; `None`: nothing is, or nothing that is coded.
    fn decode(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let piece = decoder.step(&mut self.input)?;
        Ok((!piece.is_empty() || !self.input.is_empty()).then(|| piece.into()))
    }

    fn take_in(&mut self, data: Bytes) -> Result<(), BodyError> {
        self.ready = self.scrubber.push(data)?;
        if self.decoder.is_none() && self.incoming.is_end_stream() {
            return self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), BodyError> {
        let mut tail = match &mut self.decoder {
            Some(decoder) => self.scrubber.push(decoder.finish()?.into())?,
            None => Bytes::new(),
        };
        tail = joined(tail, self.scrubber.finish()?);
        self.ready = joined(std::mem::take(&mut self.ready), tail);
        self.is_done = true;
        Ok(())
    }

    fn fail(&mut self, error: &BodyError) {
        self.ready = Bytes::new();
        self.is_done = true;
        if let (BodyError::Leak(leak), Some(place)) = (error, &self.place) {
            place.report(leak, "the connection is cut");
        }
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => {
            let mut both = BytesMut::with_capacity(first.len() + second.len());
            both.extend_from_slice(&first);
            both.extend_from_slice(&second);
            both.freeze()
        }
    }
}
