//! How many streams of a key may run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::live::Live;
use super::{BadLimit, some_streams};

/// A number of streams, as people write it.
///
/// # Errors
/// [`BadLimit`], also for none.
pub fn parse(text: &str) -> Result<u32, BadLimit> {
    some_streams(text.parse().map_err(|_| BadLimit(format!("{text:?} is no number of streams: write one like 3")))?)
}

/// Streams that run, on all cores.
#[derive(Debug, Default)]
pub(super) struct Running(AtomicU32);

impl Running {
    /// How many.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, unless `most` run; `None`: any number may.
    fn begin(&self, most: Option<u32>) -> bool {
        let most = most.unwrap_or(u32::MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then(|| count.saturating_add(1))).is_ok()
    }

    fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream's place among those of its key; given back when it is dropped, whatever ended the stream.
#[derive(Debug)]
pub struct Place(Arc<Live>);

impl Place {
    /// A place, if there is one. Streams of a limited key are counted also while their number is not limited: it may be from now on.
    pub(super) fn take(live: &Arc<Live>, most: Option<u32>) -> Option<Self> {
        live.running.begin(most).then(|| Self(Arc::clone(live)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.end();
    }
}
