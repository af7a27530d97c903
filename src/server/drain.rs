//! Stopping: every task is tracked, running requests get a bounded time, and nothing outlives that.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// The two stages of stopping, shared by all cores.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Stop {
    /// Nothing is stopping yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Take nothing new; finish what runs.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Cut what still runs.
    pub fn finish(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether stopping has begun.
    pub fn has_begun(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves when stopping begins.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.soft.cancelled()
    }

    /// Resolves when what still runs is to be cut.
    pub fn finished(&self) -> WaitForCancellationFuture<'_> {
        self.hard.cancelled()
    }
}

/// The tasks of one core. The only place that spawns on a core's runtime: no orphans, and each of them ends when [`Stop::finish`]
/// is called.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: Stop,
}

impl Tasks {
    /// A set that obeys `stop`.
    pub fn new(stop: Stop) -> Self {
        Self { tracker: TaskTracker::new(), stop }
    }

    /// When to stop.
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs a future on this core until it ends or everything is cut.
    pub fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) -> JoinHandle<()> {
        let hard = self.stop.hard.clone();
        self.tracker.spawn_local(async move {
            tokio::select! {
                biased;
                () = future => {}
                () = hard.cancelled_owned() => {}
            }
        })
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until all have ended. Call [`Stop::begin`] or [`Stop::finish`] first.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
