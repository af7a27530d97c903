//! What an account's logins may cost: a budget of failures, a back-off, and the stop after a refused credential.
//!
//! Media servers lock users out (Jellyfin after `LoginAttemptsBeforeLockout`) or limit all logins of an address (Audiobookshelf: 40
//! in 10 minutes), so the gate belongs to the account, however many sessions it has.

use std::collections::VecDeque;
use std::time::Duration;

use crate::upstream::session::SessionError;

/// So many failures that the upstream judged, within this time, close the gate.
const BUDGET: usize = 5;
const BUDGET_WINDOW: Duration = Duration::from_secs(600);
/// Back-off after a failure that reached no login (down, starting): short, so that keys work soon after the server does.
const DOWN_FIRST: Duration = Duration::from_secs(1);
const DOWN_MOST: Duration = Duration::from_secs(30);
/// Back-off after one that the upstream may have counted.
const JUDGED_FIRST: Duration = Duration::from_secs(5);
const JUDGED_MOST: Duration = Duration::from_secs(600);

/// A login, renewal or commit that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What callers are told while the gate holds back.
    pub(super) error: SessionError,
    /// Whether the upstream may have counted it as a failed login.
    pub(super) judged: bool,
    /// How long the upstream asked to wait.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Debug)]
struct Hold {
    until: Duration,
    error: SessionError,
}

/// The gate of one account. All times are monotonic.
#[derive(Debug, Default)]
pub(super) struct Gate {
    broken: Option<String>,
    hold: Option<Hold>,
    strikes: VecDeque<Duration>,
    failures_in_row: u32,
}

impl Gate {
    /// A gate that a stored account's broken state keeps shut.
    pub(super) fn new(broken: Option<String>) -> Self {
        Self { broken, ..Self::default() }
    }

    /// Whether a login or renewal may be tried now.
    ///
    /// # Errors
    /// What to tell the caller if not.
    pub(super) fn check(&self, now: Duration) -> Result<(), SessionError> {
        if let Some(why) = &self.broken {
            return Err(SessionError::Broken(why.clone()));
        }
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.until > now) {
            return Err(held(&hold.error, hold.until.saturating_sub(now)));
        }
        match self.exhausted_until(now) {
            None => Ok(()),
            Some(until) => Err(held(
                &SessionError::Waiting {
                    why: format!(
                        "{BUDGET} logins failed within 10 minutes; keygate waits, so that the upstream does not lock the user out"
                    ),
                    retry_after_secs: 0,
                },
                until.saturating_sub(now),
            )),
        }
    }

    fn exhausted_until(&self, now: Duration) -> Option<Duration> {
        let mut recent = self.strikes.iter().filter(|at| **at + BUDGET_WINDOW > now);
        let oldest = recent.next()?;
        (recent.count() + 1 >= BUDGET).then(|| *oldest + BUDGET_WINDOW)
    }

    /// Takes a failure in; `jitter` between 0 and 255 lengthens the pause by up to a quarter, so that accounts do not retry in step.
    /// Gives the error that the caller is told, with the pause in it.
    pub(super) fn fail(&mut self, now: Duration, failure: Failure, jitter: u8) -> SessionError {
        if failure.judged {
            self.strike(now);
        }
        let (first, most) = if failure.judged { (JUDGED_FIRST, JUDGED_MOST) } else { (DOWN_FIRST, DOWN_MOST) };
        let grown = first.saturating_mul(2_u32.saturating_pow(self.failures_in_row.min(16))).min(most);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let pause = failure.retry_after.unwrap_or(grown);
        let pause = pause + pause / 4 * u32::from(jitter) / 255;
        let told = held(&failure.error, pause);
        self.hold = Some(Hold { until: now + pause, error: failure.error });
        told
    }

    /// Counts something that must not happen often: a session that was called dead right after it was made.
    pub(super) fn strike(&mut self, now: Duration) {
        self.strikes.retain(|at| *at + BUDGET_WINDOW > now);
        self.strikes.push_back(now);
    }

    /// A login or renewal worked.
    pub(super) fn succeed(&mut self) {
        self.hold = None;
        self.failures_in_row = 0;
    }

    /// Shuts the gate until an operator acts.
    pub(super) fn shut(&mut self, why: String) {
        self.broken = Some(why);
    }

    /// How long the pause after the last failure still lasts.
    pub(super) fn left(&self, now: Duration) -> Duration {
        self.hold.as_ref().map_or(Duration::ZERO, |hold| hold.until.saturating_sub(now))
    }

    /// Why it is shut, if it is.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Forgets everything: the operator wants a try.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// An error while the gate holds back: the same, with the time that is left.
fn held(error: &SessionError, left: Duration) -> SessionError {
    match error {
        SessionError::Waiting { why, .. } => {
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            SessionError::Waiting { why: why.clone(), retry_after_secs: seconds.max(1) }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Failure {
        Failure { error: SessionError::Unreachable("down".to_owned()), judged: false, retry_after: None }
    }

    fn judged() -> Failure {
        Failure {
            error: SessionError::Waiting { why: "500".to_owned(), retry_after_secs: 0 },
            judged: true,
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    #[test]
    fn a_server_that_is_down_is_asked_again_after_growing_pauses_of_at_most_half_a_minute_and_jitter() {
        let mut gate = Gate::default();
        let mut now = Duration::ZERO;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            gate.fail(now, down(), 0);
            assert_eq!(gate.check(now + Duration::from_secs(pause) - Duration::from_millis(1)), Err(down().error));
            now += Duration::from_secs(pause);
            assert_eq!(gate.check(now), Ok(()));
        }
        gate.fail(now, down(), 255);
        assert!(gate.check(now + Duration::from_secs(37)).is_err());
        assert_eq!(gate.check(now + Duration::from_secs(38)), Ok(()));
    }

    #[test]
    fn a_success_makes_the_next_pause_short_again() {
        let mut gate = Gate::default();
        for _ in 0..5 {
            gate.fail(Duration::ZERO, down(), 0);
        }
        gate.succeed();
        assert_eq!(gate.check(Duration::ZERO), Ok(()));
        gate.fail(Duration::ZERO, down(), 0);
        assert_eq!(gate.check(Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn the_fifth_judged_failure_in_ten_minutes_closes_the_gate_until_the_first_is_ten_minutes_old() {
        let mut gate = Gate::default();
        for minute in 0..5 {
            let now = Duration::from_secs(60 * minute);
            assert_eq!(gate.check(now), Ok(()), "minute {minute}");
            gate.fail(now, judged(), 0);
        }
        let Err(SessionError::Waiting { retry_after_secs, .. }) = gate.check(Duration::from_secs(300)) else { panic!("open") };
        assert_eq!(retry_after_secs, 300);
        assert_eq!(gate.check(Duration::from_secs(600)), Ok(()));
    }

    #[test]
    fn a_pause_that_the_upstream_asked_for_is_kept_and_counted_down() {
        let mut gate = Gate::default();
        let limited = Failure { retry_after: Some(Duration::from_secs(598)), ..judged() };
        gate.fail(Duration::ZERO, limited, 0);
        let Err(SessionError::Waiting { retry_after_secs, .. }) = gate.check(Duration::from_secs(98)) else { panic!("open") };
        assert_eq!(retry_after_secs, 500);
    }

    #[test]
    fn a_shut_gate_stays_shut_until_it_is_cleared() {
        let mut gate = Gate::new(Some("refused".to_owned()));
        gate.succeed();
        assert_eq!(gate.check(Duration::MAX), Err(SessionError::Broken("refused".to_owned())));
        gate.clear();
        assert_eq!(gate.check(Duration::ZERO), Ok(()));
    }
}
