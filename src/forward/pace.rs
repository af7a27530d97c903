//! Bodies and sockets of limited keys. Where the bandwidth is limited they are handed on in pieces, with waits between them; where bytes a day
//! are, they are counted, and what runs is ended once the day's are used up. Nothing is copied, and whoever drops a body drops its wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use crate::clock::Clock;
use crate::lifeline::{Cause, Watch};
use crate::limits::bandwidth::Bandwidth;
use crate::limits::live::Live;

/// The beginning of each body goes on at once, and to its end: short answers of an API do not wait behind a film, and what was let in with
/// the last bytes of the day is not broken off in the middle of a word. It counts all the same.
const AT_ONCE: u64 = 64 << 10;

/// Paces one body, or one direction of a socket.
pub struct Pacer {
    limits: Arc<Live>,
    clock: Arc<dyn Clock>,
    /// Of what the body belongs to.
    watch: Watch,
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
    pub fn new(limits: Arc<Live>, clock: Arc<dyn Clock>, watch: Watch) -> Box<Self> {
        Box::new(Self { limits, clock, watch, wait: None, rest: Bytes::new(), passed: 0 })
    }

    /// For one direction of a socket: it may last for days, so none of it is a beginning.
    pub fn of_socket(limits: Arc<Live>, clock: Arc<dyn Clock>, watch: Watch) -> Box<Self> {
        Box::new(Self { limits, clock, watch, wait: None, rest: Bytes::new(), passed: AT_ONCE })
    }

    /// What is paced belongs to something else from now on.
    pub fn follow(&mut self, limits: Arc<Live>, watch: Watch) {
        (self.limits, self.watch) = (limits, watch);
    }

    /// What is to end soon comes to its end as fast as a body begins.
    pub fn hurry(&mut self) {
        (self.wait, self.passed) = (None, 0);
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
        if rest.is_empty() { Poll::Ready(None) } else { self.pass(rest).map(Some) }
    }

    /// What of these bytes goes on now; the rest is held back. Behind the beginning it is never ready once the day's bytes are used up: what
    /// runs is cut then, and whoever runs it is woken to end it as it ends when its key dies, in the midst of a body and not with one that
    /// looks whole. Else a single endless download would be beyond the limit. Each body that runs may go beyond it by its beginning, or by
    /// what is handed on at once.
    pub fn pass(&mut self, mut data: Bytes) -> Poll<Bytes> {
        let (bandwidth, daily) = self.limits.of_bodies();
        if self.passed >= AT_ONCE && daily.is_some_and(|daily| self.limits.is_used_up(daily, self.clock.now())) {
            self.rest = data;
            self.watch.cut(Cause::UsedUp);
            return Poll::Pending;
        }
        if let Some(bandwidth) = bandwidth {
            self.pace(bandwidth, &mut data);
        }
        self.passed += data.len() as u64;
        if daily.is_some() {
            self.limits.count(data.len() as u64, self.clock.now());
        }
        Poll::Ready(data)
    }

    /// Holds back what is more than a piece, and says when there may be another one.
    fn pace(&mut self, bandwidth: Bandwidth, data: &mut Bytes) {
        let piece = bandwidth.piece().max(1);
        if data.len() > piece {
            self.rest = data.split_off(piece);
        }
        let wait = self.limits.pass(bandwidth, data.len() as u64, self.clock.monotonic());
        if self.passed + data.len() as u64 > AT_ONCE && !wait.is_zero() {
            self.wait = Some(Box::pin(sleep(wait)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::keys::index::KeyIndex;
    use crate::keys::record::IndexEntry;
    use crate::keys::{KeyDigest, KeyId, Scopes};
    use crate::lifeline::{Lifeline, Lifelines};
    use crate::limits::Limits;
    use crate::upstream::AccountId;

    /// Something that runs on a key.
    fn running() -> Lifeline {
        let (index, digest) = (KeyIndex::new(), KeyDigest::from_bytes([1; 32]));
        index.extend([IndexEntry {
            digest: digest.clone(),
            id: KeyId::from_u64(1),
            account: AccountId(1),
            expires_at: Timestamp::NEVER,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: Limits::default(),
            name: "tv".to_owned(),
        }]);
        Rc::new(Lifelines::default()).begin(&index.find(&digest).expect("known"), [127, 0, 0, 1].into())
    }

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
        let lifeline = running();
        let mut pacer = Pacer::new(limits, Arc::new(Paused(start)), lifeline.watch());
        let Poll::Ready(first) = pacer.pass(Bytes::from(vec![7; bytes])) else { panic!("it may not go on") };
        let mut passed = first.len();
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

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_runs_is_cut_when_more_would_move_than_may_in_a_day_and_not_before() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let limits = Arc::new(Live::new(Limits { daily: Some("1MiB".parse().expect("bytes")), ..Limits::default() }));
        let (one, other) = (running(), running());
        let pacer = |of: &Lifeline| Pacer::new(Arc::clone(&limits), Arc::clone(&clock) as _, of.watch());
        let (mut first, mut second) = (pacer(&one), pacer(&other));
        let data = |bytes: u64| Bytes::from(vec![7; usize::try_from(bytes).expect("few")]);
        assert!(first.pass(data(MIB - 1)).is_ready());
        assert_eq!((second.pass(data(10)).is_ready(), other.cause()), (true, None), "beyond it by one piece");
        let used = || limits.used(Duration::ZERO, clock.now()).daily;
        assert_eq!(used(), Some(MIB + 9));
        assert!(second.pass(data(AT_ONCE)).is_ready(), "what was let in is not broken off in its beginning");
        assert_eq!(used(), Some(MIB + 9 + AT_ONCE), "and counts");
        for (pacer, lifeline) in [(&mut first, &one), (&mut second, &other)] {
            assert_eq!(lifeline.cause(), None, "what has no more to say ends as it should");
            assert!(pacer.pass(data(5)).is_pending());
            assert_eq!((lifeline.cause(), pacer.held()), (Some(Cause::UsedUp), 5), "it does not look whole");
            assert!(pacer.poll_rest(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(used(), Some(MIB + 9 + AT_ONCE), "what does not go on does not count");
        clock.advance(Duration::from_secs(86_400));
        let next = running();
        assert!(pacer(&next).pass(data(5)).is_ready());
        assert_eq!((next.cause(), used()), (None, Some(5)));
    }

    #[test]
    fn pieces_of_a_body_that_is_slowed_count_once_each() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let (bandwidth, daily) = (Some("1MiB/s".parse().expect("bandwidth")), Some("1MiB".parse().expect("bytes")));
        let limits = Arc::new(Live::new(Limits { bandwidth, daily, ..Limits::default() }));
        let lifeline = running();
        let mut pacer = Pacer::new(Arc::clone(&limits), clock.clone() as _, lifeline.watch());
        assert!(matches!(pacer.pass(Bytes::from(vec![7; 300 << 10])), Poll::Ready(piece) if piece.len() == 256 << 10));
        assert_eq!(limits.used(Duration::ZERO, clock.now()).daily, Some(256 << 10));
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
