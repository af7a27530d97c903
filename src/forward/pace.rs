//! Bodies of keys whose bandwidth is limited: handed on in pieces, with waits between them. Nothing is copied, and whoever drops a body
//! drops its wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use crate::clock::Clock;
use crate::limits::live::Live;

/// The beginning of each body goes on at once: short answers of an API do not wait behind a film. It counts all the same.
const AT_ONCE: u64 = 64 << 10;

/// Paces one body.
pub struct Pacer {
    limits: Arc<Live>,
    clock: Arc<dyn Clock>,
    wait: Option<Pin<Box<Sleep>>>,
    /// What of a piece is not handed on yet.
    rest: Bytes,
    passed: u64,
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").field("passed", &self.passed).finish_non_exhaustive()
    }
}

impl Pacer {
    /// For a body of a key with limits; it keeps to what they are while it runs.
    pub fn new(limits: Arc<Live>, clock: Arc<dyn Clock>) -> Box<Self> {
        Box::new(Self { limits, clock, wait: None, rest: Bytes::new(), passed: 0 })
    }

    /// Bytes that are held back.
    pub fn held(&self) -> u64 {
        self.rest.len() as u64
    }

    /// Ready when more may be handed on, with what was held back.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        let rest = std::mem::take(&mut self.rest);
        Poll::Ready(if rest.is_empty() { None } else { Some(self.pass(rest)) })
    }

    /// What of these bytes goes on now; the rest is held back.
    pub fn pass(&mut self, mut data: Bytes) -> Bytes {
        let Some(bandwidth) = self.limits.bandwidth() else { return data };
        let piece = bandwidth.piece().max(1);
        if data.len() > piece {
            self.rest = data.split_off(piece);
        }
        let wait = self.limits.pass(bandwidth, data.len() as u64, self.clock.monotonic());
        self.passed += data.len() as u64;
        if self.passed > AT_ONCE && !wait.is_zero() {
            self.wait = Some(Box::pin(sleep(wait)));
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::clock::Timestamp;
    use crate::limits::Limits;

    /// The time of a paused runtime.
    struct Paused(Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(0)
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn limited(bandwidth: &str) -> Arc<Live> {
        Arc::new(Live::new(Limits { bandwidth: Some(bandwidth.parse().expect(bandwidth)), ..Limits::default() }))
    }

    /// Hands on a body that comes in one piece, and gives its longest piece and the time that it took.
    async fn handed_on(limits: Arc<Live>, start: Instant, bytes: usize) -> (usize, Duration) {
        let mut pacer = Pacer::new(limits, Arc::new(Paused(start)));
        let mut passed = pacer.pass(Bytes::from(vec![7; bytes])).len();
        let mut longest = passed;
        while passed < bytes {
            let piece = poll_fn(|cx| pacer.poll_rest(cx)).await.expect("more");
            longest = longest.max(piece.len());
            passed += piece.len();
        }
        assert_eq!((passed, pacer.held()), (bytes, 0));
        (longest, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the time of a paused runtime")]
    async fn a_body_takes_the_time_that_its_bandwidth_gives_it_in_pieces_of_a_quarter_second() {
        let (longest, took) = handed_on(limited("1MiB/s"), Instant::now(), 10 << 20).await;
        assert_eq!(longest, 256 << 10);
        assert!((Duration::from_millis(9400)..Duration::from_millis(10_100)).contains(&took), "{took:?} of the runtime's own time");
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the time of a paused runtime")]
    async fn bodies_of_one_key_share_and_a_short_one_does_not_wait() {
        let (limits, start) = (limited("1MiB/s"), Instant::now());
        let short = async {
            sleep(Duration::from_secs(3)).await;
            let asked = start.elapsed();
            handed_on(Arc::clone(&limits), start, 60_000).await.1 - asked
        };
        let (one, other, short) =
            tokio::join!(handed_on(Arc::clone(&limits), start, 5 << 20), handed_on(Arc::clone(&limits), start, 5 << 20), short);
        assert_eq!(short, Duration::ZERO);
        assert!(one.1.max(other.1) > Duration::from_millis(9400), "{one:?} {other:?}");
    }
}
