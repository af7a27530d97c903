//! Secrets on their way from the form that made them to the one page that shows them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::secret::Secret;

/// How long one waits for its page.
const WAITS: Duration = Duration::from_secs(300);
/// Most that wait at once; one more drops the oldest.
const MOST: usize = 64;

struct Waiting {
    session: u64,
    key: String,
    secret: Secret<String>,
    since: Timestamp,
}

/// Secrets that wait to be shown, each to the session that made it.
#[derive(Default)]
pub(super) struct Once(Mutex<Vec<Waiting>>);

impl Once {
    /// Keeps a secret for a session.
    pub(super) fn put(&self, session: u64, key: &str, secret: Secret<String>, now: Timestamp) {
        self.with(now, |waiting| {
            waiting.retain(|one| one.key != key);
            if waiting.len() >= MOST {
                waiting.remove(0);
            }
            waiting.push(Waiting { session, key: key.to_owned(), secret, since: now });
        });
    }

    /// Gives a secret out, to the session that made it and for the only time.
    pub(super) fn take(&self, session: u64, key: &str, now: Timestamp) -> Option<Secret<String>> {
        self.with(now, |waiting| {
            let place = waiting.iter().position(|one| one.session == session && one.key == key)?;
            Some(waiting.remove(place).secret)
        })
    }

    fn with<T>(&self, now: Timestamp, work: impl FnOnce(&mut Vec<Waiting>) -> T) -> T {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| now.since(one.since) < WAITS);
        work(&mut waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_given_out_once_to_the_session_that_made_it_and_not_for_long() {
        let (once, now) = (Once::default(), Timestamp::from_secs(1_000));
        let text = |secret: Option<Secret<String>>| secret.map(|secret| secret.expose().clone());
        once.put(1, "a", "s3cret".into(), now);
        assert_eq!(text(once.take(2, "a", now)), None, "another session");
        assert_eq!(text(once.take(1, "b", now)), None, "another key");
        assert_eq!(text(once.take(1, "a", now)).as_deref(), Some("s3cret"));
        assert_eq!(text(once.take(1, "a", now)), None, "once only");
        once.put(1, "a", "s3cret".into(), now);
        assert_eq!(text(once.take(1, "a", now.plus(WAITS))), None, "too late");
    }

    #[test]
    fn the_newest_secret_of_a_key_counts_and_there_are_never_many() {
        let (once, now) = (Once::default(), Timestamp::from_secs(1_000));
        once.put(1, "a", "first".into(), now);
        once.put(1, "a", "second".into(), now);
        assert_eq!(once.take(1, "a", now).expect("waits").expose(), "second");
        for number in 0..=MOST {
            once.put(1, &number.to_string(), "s".into(), now);
        }
        assert!(once.take(1, "0", now).is_none() && once.take(1, "1", now).is_some());
    }
}
