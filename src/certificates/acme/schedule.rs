//! When a certificate is renewed, and how long to wait after a failure. Pure.

use std::time::Duration;

use crate::certificates::Facts;
use crate::clock::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest wait after a failure.
pub(super) const LONGEST_WAIT: Duration = DAY;

/// Below this, a certificate is one of the short-lived kind, and renewed at half of its life: a third would leave too few tries.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 24 * 3600);
/// The part of a life by which the renewals of many certificates are spread.
const SPREAD: u32 = 50;
/// Between two renewals that nobody asked for, whatever the ACME server advises; shorter only where a certificate lives for hours.
const LEAST_PAUSE: Duration = HOUR;

/// When the ACME server wants a certificate to be renewed (RFC 9773, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// When a certificate is to be renewed. The same for a certificate each time it is asked: the moment within a span hangs on its fingerprint.
pub(super) fn due(facts: &Facts, window: Option<Window>) -> Timestamp {
    let share = share(facts);
    let part = |span: Duration| span.mul_f64(share);
    let life = facts.lifetime();
    // By RFC 9773, a moment within the window; but whatever the server says, there must be time for some tries.
    if let Some(Window { start, end }) = window.filter(|window| window.start < window.end) {
        return start.plus(part(end.since(start))).min(facts.not_before.plus(life / 6 * 5));
    }
    // Two thirds of its life; half of a short one.
    let used = if life < SHORT_LIFE { life / 2 } else { life / 3 * 2 };
    facts.not_before.plus(used - part(life / SPREAD))
}

/// From 0 to 1, by the certificate's fingerprint.
fn share(facts: &Facts) -> f64 {
    let digits = facts.fingerprint.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    f64::from(digits.unwrap_or_default()) / f64::from(u16::MAX)
}

/// The least time between two renewals that nobody asked for.
pub(super) fn pause(facts: &Facts) -> Duration {
    LEAST_PAUSE.min(facts.lifetime() / 3)
}

/// How an order failed, as far as the next one hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// The ACME server was not reached: it counts nothing.
    Unreachable,
    /// The order was made and failed: servers count that (Let's Encrypt: five failures in an hour for each name).
    Refused,
    /// A limit of the server's was met.
    Limited,
}

/// How long to wait after the `count`th failure in a row. `asked`: what the server asked for.
pub(super) fn wait(failing: Failing, count: u32, asked: Option<Duration>) -> Duration {
    let doubled = |first: Duration, times: u32| first.saturating_mul(2_u32.saturating_pow(times.min(16))).min(DAY);
    let own = match failing {
        // After a boot without a network, and while the server is restarted: soon; then every quarter of an hour.
        Failing::Unreachable => {
            Duration::from_secs(5).saturating_mul(3_u32.saturating_pow(count.saturating_sub(1).min(8))).min(15 * MINUTE)
        }
        Failing::Refused if count >= 5 => doubled(HOUR, count - 5),
        Failing::Refused => [MINUTE, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE][count.min(4) as usize],
        Failing::Limited => doubled(HOUR, count.saturating_sub(1)),
    };
    own.max(asked.unwrap_or_default().min(DAY))
}

/// When to ask for the window again: what the server says, within reason (RFC 9773, section 4.3.2).
pub(super) fn ask_again(asked: Duration) -> Duration {
    asked.clamp(MINUTE, DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(days: i64, fingerprint: &str) -> Facts {
        Facts {
            subject: String::new(),
            names: Vec::new(),
            not_before: Timestamp::from_secs(0),
            not_after: Timestamp::from_secs(days * 86_400),
            fingerprint: fingerprint.to_owned(),
        }
    }

    fn day(days: f64) -> Timestamp {
        let span = DAY.mul_f64(days.abs());
        let zero = Timestamp::from_secs(0);
        if days < 0.0 { zero.minus(span) } else { zero.plus(span) }
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_a_short_one_at_half() {
        for (life, first, last) in [(90, 58.1, 60.0), (47, 30.3, 31.34), (6, 2.8, 3.0)] {
            let [latest, earliest] = ["0000", "ffff"].map(|fingerprint| due(&facts(life, fingerprint), None));
            assert!(day(first) < earliest && earliest < latest && latest <= day(last), "{life}: {earliest} to {latest}");
        }
    }

    #[test]
    fn the_moment_within_a_span_is_the_same_each_time_and_differs_between_certificates() {
        let [one, again, other] = ["12ab", "12ab", "f2ab"].map(|fingerprint| due(&facts(90, fingerprint), None));
        assert!(one == again && one != other);
    }

    #[test]
    fn the_servers_window_wins_unless_it_leaves_no_time() {
        let window = |start: f64, end: f64| Some(Window { start: day(start), end: day(end) });
        let middle = due(&facts(90, "8000"), window(10.0, 12.0));
        assert!(day(10.9) < middle && middle < day(11.1), "{middle}");
        assert_eq!(due(&facts(90, "0000"), window(-3.0, -1.0)), day(-3.0), "at once");
        assert_eq!(due(&facts(90, "0000"), window(70.0, 72.0)), day(70.0));
        assert_eq!(due(&facts(90, "8000"), window(80.0, 100.0)), day(75.0));
        assert_eq!(due(&facts(90, "0000"), window(12.0, 10.0)), day(60.0), "which is none");
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits_with_an_hour_from_the_fifth_on() {
        let waits = |failing| [1, 2, 3, 4, 5, 6, 9, 10, 1000].map(|count| wait(failing, count, None).as_secs());
        assert_eq!(waits(Failing::Refused), [60, 120, 300, 900, 3600, 7200, 57_600, 86_400, 86_400]);
        assert_eq!(waits(Failing::Unreachable), [5, 15, 45, 135, 405, 900, 900, 900, 900]);
        assert_eq!(waits(Failing::Limited), [3600, 7200, 14_400, 28_800, 57_600, 86_400, 86_400, 86_400, 86_400]);
    }

    #[test]
    fn a_wait_is_as_long_as_the_server_asks_but_not_longer_than_a_day() {
        let asked = |secs| wait(Failing::Limited, 1, Some(Duration::from_secs(secs))).as_secs();
        assert_eq!([10, 7_300, 1_000_000].map(asked), [3600, 7_300, 86_400]);
        assert_eq!([0, 21_600, u64::MAX].map(|secs| ask_again(Duration::from_secs(secs)).as_secs()), [60, 21_600, 86_400]);
    }

    #[test]
    fn certificates_of_hours_are_not_kept_from_their_renewal() {
        assert_eq!(pause(&facts(90, "")), HOUR);
        let hour = Facts { not_after: Timestamp::from_secs(3600), ..facts(0, "") };
        assert_eq!(pause(&hour), 20 * MINUTE);
    }
}
