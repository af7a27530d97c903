//! What runs ends with the key that it runs for.
//!
//! Each core lists what its requests, streams and sockets run on. When keys change, or time passes, the list is reviewed
//! ([`Lifelines::review`]) and whoever runs on a dead key is told. Nothing here is shared between cores, so a request that comes and goes
//! takes no lock for it.

use std::cell::RefCell;
use std::future::poll_fn;
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
}

/// One request, stream or socket.
struct Running {
    digest: KeyDigest,
    account: AccountId,
    expires_at: Timestamp,
    is_cut: bool,
    waker: Option<Waker>,
}

/// Held by what runs on a key, for as long as it runs.
pub struct Lifeline {
    lifelines: Rc<Lifelines>,
    place: usize,
}

impl Lifelines {
    /// Puts something that runs on a key on the list.
    pub fn begin(self: &Rc<Self>, verified: &Verified) -> Lifeline {
        let running = Running {
            digest: verified.digest(),
            account: verified.account(),
            expires_at: verified.expires_at(),
            is_cut: false,
            waker: None,
        };
        Lifeline { lifelines: Rc::clone(self), place: self.running.borrow_mut().insert(running) }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.running.borrow().len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.running.borrow().is_empty()
    }

    /// Cuts what runs on a key that is not known any more, switched off, past its expiry, or of another account now.
    pub fn review(&self, index: &KeyIndex, now: Timestamp) {
        let mut woken = Vec::new();
        for (_, running) in self.running.borrow_mut().iter_mut().filter(|(_, running)| !running.is_cut) {
            if !running.is_alive(index, now) {
                running.is_cut = true;
                woken.extend(running.waker.take());
            }
        }
        // After the list was let go of: a waker may run code that looks at it.
        woken.into_iter().for_each(Waker::wake);
    }

    /// The same for time alone: only what runs on a key with an expiry is looked at.
    pub fn review_expired(&self, index: &KeyIndex, now: Timestamp) {
        if self.running.borrow().iter().any(|(_, running)| running.expires_at <= now) {
            self.review(index, now);
        }
    }
}

impl Running {
    /// The expiry may have been put off meanwhile: what the index says now counts.
    fn is_alive(&mut self, index: &KeyIndex, now: Timestamp) -> bool {
        let Some(found) = index.find(&self.digest) else { return false };
        self.expires_at = found.expires_at();
        found.is_active() && found.expires_at() > now && found.account() == self.account
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
        self.lifelines.running.borrow().get(self.place).is_none_or(|running| running.is_cut)
    }

    /// Ready when the key has died. One task waits at a time: the last one that asked is woken.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut running = self.lifelines.running.borrow_mut();
        let Some(running) = running.get_mut(self.place).filter(|running| !running.is_cut) else { return Poll::Ready(()) };
        match &running.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => running.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Resolves when the key has died.
    pub async fn cut(&self) {
        poll_fn(|cx| self.poll_cut(cx)).await;
    }
}

impl std::fmt::Debug for Lifeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifeline").field("is_cut", &self.is_cut()).finish()
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.lifelines.running.borrow_mut().try_remove(self.place);
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
            scopes: Scopes::NONE,
            created_at: Timestamp::from_millis(0),
            created_by: "cli".to_owned(),
            updated_at: Timestamp::from_millis(0),
            revoked_at: None,
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1000);

    /// What runs on a key after its record changed.
    fn cut_by(change: impl FnOnce(&mut KeyRecord)) -> (bool, bool, usize) {
        let index = KeyIndex::new();
        let (one, other) = (record(1), record(2));
        index.replace(None, &one);
        index.replace(None, &other);
        let lifelines = Rc::new(Lifelines::default());
        let begin = |record: &KeyRecord| lifelines.begin(&index.find(&record.digest).expect("known"));
        let (mine, theirs) = (begin(&one), begin(&other));
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        assert!(mine.poll_cut(&mut cx).is_pending() && theirs.poll_cut(&mut cx).is_pending());
        let mut after = one.clone();
        change(&mut after);
        index.replace(Some(&one), &after);
        lifelines.review(&index, NOW);
        assert_eq!(mine.poll_cut(&mut cx).is_ready(), mine.is_cut());
        (mine.is_cut(), theirs.is_cut(), woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn whatever_kills_a_key_cuts_what_runs_on_it_and_nothing_else() {
        assert_eq!(cut_by(|key| key.revoked_at = Some(NOW)), (true, false, 1));
        assert_eq!(cut_by(|key| key.is_active = false), (true, false, 1));
        assert_eq!(cut_by(|key| key.expires_at = Some(NOW)), (true, false, 1));
        assert_eq!(cut_by(|key| key.account = AccountId(2)), (true, false, 1));
        assert_eq!(cut_by(|key| key.digest = KeyDigest::from_bytes([9; 32])), (true, false, 1));
        assert_eq!(cut_by(|key| key.name = "bedroom".to_owned()), (false, false, 0));
        assert_eq!(cut_by(|key| key.expires_at = Some(NOW.plus(std::time::Duration::from_millis(1)))), (false, false, 0));
    }

    #[test]
    fn an_expiry_that_was_put_off_cuts_nothing() {
        let index = KeyIndex::new();
        let before = KeyRecord { expires_at: Some(NOW), ..record(1) };
        index.replace(None, &before);
        let lifelines = Rc::new(Lifelines::default());
        let lifeline = lifelines.begin(&index.find(&before.digest).expect("known"));
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
        let lifeline = lifelines.begin(&index.find(&record(1).digest).expect("known"));
        assert_eq!(lifelines.len(), 1);
        drop(lifeline);
        assert!(lifelines.is_empty());
    }
}
