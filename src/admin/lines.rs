//! The answer to a bulk request: one JSON line a key, written as the client reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::admin::api::BulkLine;
use crate::registry::Created;
use crate::secret::Secret;

/// About how many bytes go into one frame.
const FRAME_BYTES: usize = 64 * 1024;

/// The lines still to be sent.
pub(super) struct Lines(std::vec::IntoIter<Created>);

impl Lines {
    pub(super) fn new(created: Vec<Created>) -> Self {
        Self(created.into_iter())
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut frame = Vec::new();
        while frame.len() < FRAME_BYTES {
            let Some(created) = self.0.next() else { break };
            let line = BulkLine {
                id: created.record.id.to_string(),
                name: created.record.name.clone(),
                api_key: Some(Secret::new(created.key.expose().to_owned())),
            };
            // Strings only: this cannot fail, and a line that is missing would be noticed by its count.
            if serde_json::to_writer(&mut frame, &line).is_ok() {
                frame.push(b'\n');
            }
        }
        Poll::Ready((!frame.is_empty()).then(|| Ok(Frame::data(frame.into()))))
    }
}
