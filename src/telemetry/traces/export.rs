//! Sends spans: takes what has gathered, batch by batch, and tries again for a while what a collector does not take.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::post::{self, Rejected, Undelivered};
use super::span::Ended;
use super::{Figures, Target, otlp};
use crate::clock::Clock;

/// How often it is looked for spans. Nobody is woken by a request.
const EVERY: Duration = Duration::from_secs(1);
/// Most requests of one batch.
const BATCH: usize = 256;
/// How often a batch is tried.
const TRIES: u32 = 5;
/// The longest pause between two tries that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is said that spans are lost.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Spans as they are sent.
struct Batch {
    body: Bytes,
    spans: usize,
    tries: u32,
}

/// What sends.
pub(super) struct Exporter {
    inbox: Receiver<Box<Ended>>,
    target: Arc<Target>,
    figures: Arc<Figures>,
    clock: Arc<dyn Clock>,
    batch: Option<Batch>,
    /// Whether nobody can hand over anything any more.
    is_abandoned: bool,
    /// Tries in vain since the last that was not.
    in_vain: u32,
    complained: Option<Duration>,
    is_in_trouble: bool,
}

impl Exporter {
    pub(super) fn new(inbox: Receiver<Box<Ended>>, target: Arc<Target>, figures: Arc<Figures>, clock: Arc<dyn Clock>) -> Self {
        Self { inbox, target, figures, clock, batch: None, is_abandoned: false, in_vain: 0, complained: None, is_in_trouble: false }
    }

    /// Until it is stopped, or nobody hands over anything any more; what is left then is sent if the collector takes it at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pause = EVERY;
        while !self.is_abandoned {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = tokio::select! {
                () = stop.cancelled() => break,
                pause = self.send_all() => pause,
            };
        }
        self.send_all().await;
        self.lose_all();
    }

    /// Sends all that there is, until something is not taken. How long to wait then.
    async fn send_all(&mut self) -> Duration {
        loop {
            self.gather();
            let Some(batch) = &self.batch else { return EVERY };
            match post::post(&self.target, batch.body.clone()).await {
                Ok(rejected) => self.sent(rejected),
                Err(failed) => return self.failed(failed),
            }
        }
    }

    /// The next batch, if the last one is gone.
    fn gather(&mut self) {
        if self.batch.is_some() {
            return;
        }
        let mut ended = Vec::new();
        while ended.len() < BATCH {
            match self.inbox.try_recv() {
                Ok(one) => ended.push(one),
                Err(why) => {
                    self.is_abandoned = why == TryRecvError::Disconnected;
                    break;
                }
            }
        }
        if !ended.is_empty() {
            let spans = ended.iter().map(|one| one.spans()).sum();
            self.batch = Some(Batch { body: otlp::export(&ended).encode_to_vec().into(), spans, tries: 0 });
        }
    }

    fn sent(&mut self, rejected: Rejected) {
        let spans = self.batch.take().map_or(0, |batch| batch.spans);
        let lost = rejected.spans.min(spans);
        Figures::count(&self.figures.sent, spans - lost);
        Figures::count(&self.figures.dropped, lost);
        self.in_vain = 0;
        if lost > 0 {
            self.complain(&format!("it rejects spans: {}", rejected.why));
        } else if std::mem::take(&mut self.is_in_trouble) {
            tracing::info!("traces are delivered to {} again", self.target.endpoint);
        }
    }

    fn failed(&mut self, failed: Undelivered) -> Duration {
        let (why, pause, is_final) = match failed {
            Undelivered::Later(why, after) => (why, after.unwrap_or_else(|| self.pause()), false),
            Undelivered::Never(why) => (why, EVERY, true),
        };
        self.in_vain += 1;
        if let Some(batch) = &mut self.batch {
            batch.tries += 1;
            if is_final || batch.tries >= TRIES {
                Figures::count(&self.figures.dropped, batch.spans);
                self.batch = None;
            }
        }
        self.complain(&why);
        pause
    }

    /// Until the next try: each time twice as long.
    fn pause(&self) -> Duration {
        LONGEST_PAUSE.min(EVERY * (1 << self.in_vain.min(5)))
    }

    fn complain(&mut self, why: &str) {
        self.is_in_trouble = true;
        let now = self.clock.monotonic();
        if self.complained.is_none_or(|last| now.saturating_sub(last) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            let (endpoint, dropped) = (&self.target.endpoint, self.figures.dropped());
            tracing::warn!(
                dropped,
                "traces cannot be delivered to {endpoint}: {why}. Requests go on as before; {dropped} spans are lost so far"
            );
        }
    }

    /// Counts what nobody will get.
    fn lose_all(&mut self) {
        loop {
            self.gather();
            let Some(batch) = self.batch.take() else { return };
            Figures::count(&self.figures.dropped, batch.spans);
        }
    }
}
