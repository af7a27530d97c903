//! What runs ends with the key that it runs for.
//!
//! Each core lists what its requests, streams and sockets run on. When keys change, or time passes, the list is reviewed
//! ([`Lifelines::review`]) and whoever runs on a dead key is told. Nothing here is shared between cores, so a request that comes and goes
//! takes no lock for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::clock::Timestamp;
use crate::keys::KeyDigest;
use crate::keys::index::{KeyIndex, Verified};
use crate::upstream::AccountId;

/// All that runs on keys on one core.
#[derive(Default)]
pub struct Lifelines {
    running: RefCell<Slab<Running>>,
    begun: Cell<u64>,
}

/// Why what ran on a key was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Revoked, or the secret is not the key's any more; the account may be gone with it.
    Revoked,
    /// Switched off.
    Disabled,
    /// Past its expiry, or a rotated secret past its overlap.
    Expired,
    /// It acts for another account now.
    Moved,
    /// The key lives; an operator closed what ran.
    Closed,
    /// It may not be used from the client's address any more.
    Elsewhere,
    /// Its bytes of the day are used up.
    UsedUp,
}

impl Cause {
    /// A short label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "key-revoked",
            Self::Disabled => "key-disabled",
            Self::Expired => "key-expired",
            Self::Moved => "key-moved",
            Self::Closed => "closed",
            Self::Elsewhere => "key-from-elsewhere",
            Self::UsedUp => "key-daily",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Revoked => "the key was revoked",
            Self::Disabled => "the key was disabled",
            Self::Expired => "the key expired",
            Self::Moved => "the key was given to another account",
            Self::Closed => "an operator closed it",
            Self::Elsewhere => "the key may not be used from this address any more",
            Self::UsedUp => "the key's bytes of the day are used up",
        })
    }
}

/// One request, stream or socket.
struct Running {
    digest: KeyDigest,
    account: AccountId,
    expires_at: Timestamp,
    /// The client's address.
    from: IpAddr,
    /// Tells it from what had its place before.
    number: u64,
    cut: Option<Cause>,
    waker: Option<Waker>,
}

/// Held by what runs on a key, for as long as it runs.
pub struct Lifeline {
    watch: Watch,
}

/// Looks at a lifeline for somebody who does not hold it: for whom a request is only a future, or an answer only bytes that a client does
/// not take.
#[derive(Clone)]
pub struct Watch {
    lifelines: Rc<Lifelines>,
    place: usize,
    number: u64,
}

impl Lifelines {
    /// Puts something that runs on a key for a client on the list.
    pub fn begin(self: &Rc<Self>, verified: &Verified, from: IpAddr) -> Lifeline {
        let number = self.begun.get().wrapping_add(1);
        self.begun.set(number);
        let running = Running {
            digest: verified.digest(),
            account: verified.account(),
            expires_at: verified.expires_at(),
            from,
            number,
            cut: None,
            waker: None,
        };
        let place = self.running.borrow_mut().insert(running);
        Lifeline { watch: Watch { lifelines: Rc::clone(self), place, number } }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.running.borrow().len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.running.borrow().is_empty()
    }

    /// Cuts what runs on a key that is not known any more, switched off, past its expiry, of another account now,
    /// or not good any more where its client is. How many that were.
    pub fn review(&self, index: &KeyIndex, now: Timestamp) -> usize {
        let (mut cut, mut woken) = (0, Vec::new());
        for (_, running) in self.running.borrow_mut().iter_mut().filter(|(_, running)| running.cut.is_none()) {
            running.cut = running.death(index, now);
            if running.cut.is_some() {
                cut += 1;
                woken.extend(running.waker.take());
            }
        }
        // After the list was let go of: a waker may run code that looks at it.
        woken.into_iter().for_each(Waker::wake);
        cut
    }

    /// The same for time alone: only what runs on a key with an expiry is looked at.
    pub fn review_expired(&self, index: &KeyIndex, now: Timestamp) -> usize {
        let is_due = self.running.borrow().iter().any(|(_, running)| running.cut.is_none() && running.expires_at <= now);
        if is_due { self.review(index, now) } else { 0 }
    }
}

impl Running {
    /// What its key died of, if it did. The expiry may have been put off meanwhile: what the index says now counts.
    fn death(&mut self, index: &KeyIndex, now: Timestamp) -> Option<Cause> {
        let Some(found) = index.find(&self.digest) else { return Some(Cause::Revoked) };
        self.expires_at = found.expires_at();
        if !found.is_active() {
            Some(Cause::Disabled)
        } else if found.expires_at() <= now {
            Some(Cause::Expired)
        } else if found.account() != self.account {
            Some(Cause::Moved)
        } else {
            found.limits().is_some_and(|limits| !limits.may_come_from(self.from)).then_some(Cause::Elsewhere)
        }
    }
}

impl std::fmt::Debug for Lifelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifelines").field("running", &self.len()).finish()
    }
}

impl Lifeline {
    /// Whether the key has died.
    pub fn is_cut(&self) -> bool {
        self.cause().is_some()
    }

    /// What the key died of.
    pub fn cause(&self) -> Option<Cause> {
        self.watch.cause()
    }

    /// Ready when the key has died. One task waits at a time: the last one that asked is woken.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_cut(cx).map(drop)
    }

    /// Resolves when the key has died.
    pub async fn cut(&self) {
        poll_fn(|cx| self.poll_cut(cx)).await;
    }

    /// The same, borrowed.
    pub const fn watched(&self) -> &Watch {
        &self.watch
    }

    /// For somebody beside its holder, in the same task: there is one waker for both.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Watch {
    /// What the key died of while it was run on; `None` also when what ran has ended by itself.
    pub fn cause(&self) -> Option<Cause> {
        self.lifelines.running.borrow().get(self.place).filter(|running| running.number == self.number)?.cut
    }

    /// Ends what runs on it, and nothing else; nothing when it has ended.
    pub fn cut(&self, cause: Cause) {
        let woken = {
            let mut running = self.lifelines.running.borrow_mut();
            let Some(running) = running.get_mut(self.place).filter(|running| running.number == self.number) else { return };
            running.cut.get_or_insert(cause);
            running.waker.take()
        };
        // After the list was let go of: a waker may run code that looks at it.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ready when the key has died; never once what ran has ended by itself.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cause> {
        let mut running = self.lifelines.running.borrow_mut();
        let Some(running) = running.get_mut(self.place).filter(|running| running.number == self.number) else { return Poll::Pending };
        if let Some(cause) = running.cut {
            return Poll::Ready(cause);
        }
        match &running.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => running.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("cause", &self.cause()).finish()
    }
}

impl std::fmt::Debug for Lifeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifeline").field("is_cut", &self.is_cut()).finish()
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.watch.lifelines.running.borrow_mut().try_remove(self.watch.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::keys::record::KeyRecord;
    use crate::keys::{KeyId, Scopes};
    use crate::limits::Limits;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn record(number: u8) -> KeyRecord {
        KeyRecord {
            id: KeyId::from_u64(number.into()),
            name: "tv".to_owned(),
            account: AccountId(1),
            digest: KeyDigest::from_bytes([number; 32]),
            previous: None,
            expires_at: None,
            is_active: true,
            scopes: Scopes::ALL,
            libraries: None,
            limits: Limits::default(),
            created_at: Timestamp::from_millis(0),
            created_by: "cli".to_owned(),
            updated_at: Timestamp::from_millis(0),
            revoked_at: None,
            reborn_at: None,
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1000);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// What cut what runs on a key after its record changed, whether another key's was cut, and how many were woken.
    fn cut_by(change: impl FnOnce(&mut KeyRecord)) -> (Option<Cause>, bool, usize) {
        let index = KeyIndex::new();
        let (one, other) = (record(1), record(2));
        index.replace(None, &one);
        index.replace(None, &other);
        let lifelines = Rc::new(Lifelines::default());
        let begin = |record: &KeyRecord| lifelines.begin(&index.find(&record.digest).expect("known"), HERE);
        let (mine, theirs) = (begin(&one), begin(&other));
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        assert!(mine.poll_cut(&mut cx).is_pending() && theirs.poll_cut(&mut cx).is_pending());
        let mut after = one.clone();
        change(&mut after);
        index.replace(Some(&one), &after);
        assert_eq!(lifelines.review(&index, NOW), usize::from(mine.is_cut()));
        assert_eq!(mine.poll_cut(&mut cx).is_ready(), mine.is_cut());
        assert_eq!(lifelines.review(&index, NOW), 0, "nothing is cut twice");
        (mine.cause(), theirs.is_cut(), woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn whatever_kills_a_key_cuts_what_runs_on_it_and_nothing_else() {
        assert_eq!(cut_by(|key| key.revoked_at = Some(NOW)), (Some(Cause::Revoked), false, 1));
        assert_eq!(cut_by(|key| key.is_active = false), (Some(Cause::Disabled), false, 1));
        assert_eq!(cut_by(|key| key.expires_at = Some(NOW)), (Some(Cause::Expired), false, 1));
        assert_eq!(cut_by(|key| key.account = AccountId(2)), (Some(Cause::Moved), false, 1));
        assert_eq!(cut_by(|key| key.digest = KeyDigest::from_bytes([9; 32])), (Some(Cause::Revoked), false, 1));
        let only_from = |network: &str| Limits { networks: Some(vec![network.parse().expect("a network")]), ..Limits::default() };
        assert_eq!(cut_by(|key| key.limits = only_from("10.0.0.0/8")), (Some(Cause::Elsewhere), false, 1));
        assert_eq!(cut_by(|key| key.limits = only_from("127.0.0.0/8")), (None, false, 0));
        assert_eq!(cut_by(|key| key.name = "bedroom".to_owned()), (None, false, 0));
        assert_eq!(cut_by(|key| key.scopes = Scopes::NONE), (None, false, 0), "it counts from the next request on");
        assert_eq!(cut_by(|key| key.expires_at = Some(NOW.plus(std::time::Duration::from_millis(1)))), (None, false, 0));
    }

    #[test]
    fn an_expiry_that_was_put_off_cuts_nothing() {
        let index = KeyIndex::new();
        let before = KeyRecord { expires_at: Some(NOW), ..record(1) };
        index.replace(None, &before);
        let lifelines = Rc::new(Lifelines::default());
        let lifeline = lifelines.begin(&index.find(&before.digest).expect("known"), HERE);
        index.replace(Some(&before), &KeyRecord { expires_at: None, ..before.clone() });
        lifelines.review_expired(&index, NOW);
        assert!(!lifeline.is_cut());
        index.replace(None, &before);
        lifelines.review(&index, NOW);
        assert!(lifeline.is_cut());
    }

    #[test]
    fn what_ended_leaves_the_list() {
        let index = KeyIndex::new();
        index.replace(None, &record(1));
        let lifelines = Rc::new(Lifelines::default());
        let lifeline = lifelines.begin(&index.find(&record(1).digest).expect("known"), HERE);
        assert_eq!(lifelines.len(), 1);
        drop(lifeline);
        assert!(lifelines.is_empty());
    }

    #[test]
    fn a_watch_does_not_take_another_request_for_its_own() {
        let index = KeyIndex::new();
        index.replace(None, &record(1));
        let lifelines = Rc::new(Lifelines::default());
        let begin = || lifelines.begin(&index.find(&record(1).digest).expect("known"), HERE);
        let first = begin();
        let watch = first.watch();
        drop(first);
        let second = begin();
        index.remove([&record(1)]);
        lifelines.review(&index, NOW);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!((watch.cause(), watch.poll_cut(&mut cx).is_ready()), (None, false), "it ended by itself");
        assert_eq!((second.watch().cause(), second.watch().poll_cut(&mut cx)), (Some(Cause::Revoked), Poll::Ready(Cause::Revoked)));
    }
}
