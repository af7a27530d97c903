//! Stopping: every task is tracked, running requests get a bounded time, and nothing outlives that.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Waker};

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

/// The tasks of one core. The only place that spawns on a core's runtime: no orphans, and what still runs when [`Stop::finish`] is
/// called is dropped with the runtime.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: Stop,
    draining: Rc<Draining>,
}

/// One core's copy of "stopping has begun": a connection looks at it each time it is polled, and a token shared by all cores would
/// take a lock for that.
#[derive(Debug, Default)]
struct Draining {
    begun: Cell<bool>,
    last: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waker>>,
}

/// Tells a task that stopping has begun.
#[derive(Debug)]
pub struct Farewell {
    draining: Rc<Draining>,
    place: Option<u64>,
}

impl Tasks {
    /// A set that obeys `stop`.
    pub fn new(stop: Stop) -> Self {
        Self { tracker: TaskTracker::new(), stop, draining: Rc::default() }
    }

    /// When to stop.
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs a future on this core until it ends or the runtime does.
    pub fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) -> JoinHandle<()> {
        self.tracker.spawn_local(future)
    }

    /// Whether this core takes nothing new any more.
    pub fn is_draining(&self) -> bool {
        self.draining.begun.get()
    }

    /// Tells every task that asked with [`Tasks::farewell`].
    pub fn drain(&self) {
        self.draining.begun.set(true);
        self.draining.waiting.take().into_values().for_each(Waker::wake);
    }

    /// For one task, to be asked whenever it is polled.
    pub fn farewell(&self) -> Farewell {
        Farewell { draining: Rc::clone(&self.draining), place: None }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until all have ended. Call [`Tasks::drain`] first.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Farewell {
    /// Whether stopping has begun; if not, the task that polls is woken when it does. A task keeps its waker for life, so it is noted
    /// once.
    pub fn has_come(&mut self, cx: &Context<'_>) -> bool {
        if self.draining.begun.get() {
            return true;
        }
        if self.place.is_none() {
            let place = self.draining.last.get() + 1;
            self.draining.last.set(place);
            self.draining.waiting.borrow_mut().insert(place, cx.waker().clone());
            self.place = Some(place);
        }
        false
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.draining.waiting.borrow_mut().remove(&place);
        }
    }
}
