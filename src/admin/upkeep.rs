//! Looking after the store while the gateway runs: checks, compaction, and a copy that is sent to whoever asks.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::admin::error::AdminError;
use crate::admin::{Actor, Admin};
use crate::audit::{Act, Field, Object, Verb};
use crate::registry::RegistryError;
use crate::store::StoreError;
use crate::store::inventory::{Compacted, Inventory};
use crate::store::redb::RedbStore;

/// Bytes of one frame.
const FRAME_BYTES: usize = 64 * 1024;
/// Frames that wait for a slow reader.
const WAITING_FRAMES: usize = 4;

impl Admin {
    /// Looks through the whole store. Blocking.
    pub(super) fn check_store(&self) -> Result<Inventory, AdminError> {
        let inventory = self.file().and_then(RedbStore::check).map_err(RegistryError::Store)?;
        for problem in &inventory.problems {
            tracing::error!("the store is not whole: {problem}");
        }
        Ok(inventory)
    }

    /// Gives unused space back. Blocking.
    pub(super) fn compact_store(&self, asked_by: Actor) -> Result<Compacted, AdminError> {
        let compacted = self.file().and_then(RedbStore::compact).map_err(RegistryError::Store)?;
        tracing::info!("the store went from {} to {} bytes, asked by {asked_by}", compacted.bytes_before, compacted.bytes_after);
        let sizes = Field::changed("bytes", compacted.bytes_before, compacted.bytes_after);
        self.recorded(Act::new(Verb::Compacted, Object::store()).with(sizes), asked_by);
        Ok(compacted)
    }

    /// A copy of the store as it is now, sealed as it is: without the master key it is of no use.
    pub(super) async fn back_up(self: Arc<Self>, asked_by: Actor) -> Result<Response, AdminError> {
        let copied = move |admin: &Self| {
            // Before the copy: it is in it.
            admin.file().map_err(RegistryError::Store)?;
            admin.recorded(Act::new(Verb::BackedUp, Object::store()), asked_by);
            let copy = || -> Result<(File, u64), StoreError> {
                let file = admin.file()?.copy_unnamed()?;
                let length = file.metadata().map(|found| found.len());
                let unreadable = |source: io::Error| StoreError::Io { what: "read", path: "the copy".into(), source: source.into() };
                Ok((file, length.map_err(unreadable)?))
            };
            Ok(copy().map_err(RegistryError::Store)?)
        };
        let (file, length) = self.blocking(copied).await?;
        tracing::info!("a backup of the store was made, {length} bytes, asked by {asked_by}");
        let (sender, receiver) = mpsc::channel(WAITING_FRAMES);
        // It ends with the file, or when nobody reads any more.
        tokio::task::spawn_blocking(move || read_out(file, &sender));
        let body = Body::new(Pieces { receiver, left: length });
        Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
    }

    fn file(&self) -> Result<&RedbStore, StoreError> {
        self.store.as_deref().ok_or_else(|| StoreError::Unusable {
            path: "memory".into(),
            problem: "this gateway keeps its keys in memory: there is no file to look after".to_owned(),
        })
    }
}

fn read_out(mut file: File, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let piece = match file.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) => Err(error),
        };
        let broken = piece.is_err();
        if sender.blocking_send(piece).is_err() || broken {
            return;
        }
    }
}

/// A file as it is read, of a length that is known: an end before that is an error for who receives it.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match self.receiver.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) if self.left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(piece)) => piece,
        };
        self.left = self.left.saturating_sub(piece.as_ref().map_or(self.left, |piece| piece.len() as u64));
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
