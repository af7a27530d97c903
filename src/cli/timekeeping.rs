//! The running gateway writes down how late it is, and says when the machine's clock cannot be believed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::registry::Registry;

/// How often the time is written down: so much of it is lost when the power is. The store's medium may be an SD card.
const MARK_EVERY: Duration = Duration::from_secs(300);
/// Differences below this are an NTP server at work, or the time that a restart takes.
pub(crate) const NOTABLE: Duration = Duration::from_secs(300);

/// Writes the time down at once, then now and then, and at the end.
pub(crate) async fn keep(registry: Arc<Registry>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut looks = Looks::default();
    loop {
        let found = looks.look(&*clock);
        match found {
            Found::Nothing => {}
            Found::Behind { wall, judged } => tracing::warn!(
                "the machine's clock says {wall}, but it was {judged} already: keys are judged by the later time, so that none that has \
                 expired comes to life. Set the clock right; if the later time was the wrong one: keygate store forget-time"
            ),
            Found::Leapt(by) => tracing::warn!("the machine's clock leapt forward by {} s: keys may have expired by it", by.as_secs()),
        }
        let registry = Arc::clone(&registry);
        match tokio::task::spawn_blocking(move || registry.mark_time()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the time cannot be written down"),
            Err(error) => tracing::warn!(%error, "the time was not written down"),
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(MARK_EVERY) => {}
        }
    }
}

/// What was seen at the look before.
#[derive(Default)]
struct Looks {
    was_behind: bool,
    /// Time by which keys were judged, and the monotonic one.
    before: Option<(Timestamp, Duration)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Behind { wall: Timestamp, judged: Timestamp },
    Leapt(Duration),
}

impl Looks {
    /// Each of them is found once.
    fn look(&mut self, clock: &dyn Clock) -> Found {
        let (judged, wall, monotonic) = (clock.now(), clock.wall(), clock.monotonic());
        let before = self.before.replace((judged, monotonic));
        let is_behind = judged.since(wall) > NOTABLE;
        if is_behind && !std::mem::replace(&mut self.was_behind, is_behind) {
            return Found::Behind { wall, judged };
        }
        self.was_behind = is_behind;
        let leap = before.map_or(Duration::ZERO, |(then, at)| judged.since(then.plus(monotonic.saturating_sub(at))));
        if leap > NOTABLE { Found::Leapt(leap) } else { Found::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SteadyClock};

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_is_behind_is_told_of_once_and_one_that_leaps_each_time() {
        let machine = Arc::new(ManualClock::new(NOW.minus(HOUR)));
        let clock = SteadyClock::new(Arc::clone(&machine) as _, Some(NOW));
        let mut looks = Looks::default();
        assert_eq!(looks.look(&clock), Found::Behind { wall: NOW.minus(HOUR), judged: NOW });
        machine.advance(NOTABLE);
        assert_eq!(looks.look(&clock), Found::Nothing);
        machine.set(NOW.plus(NOTABLE));
        assert_eq!(looks.look(&clock), Found::Nothing, "it was set right");
        machine.set(NOW.plus(HOUR));
        assert_eq!(looks.look(&clock), Found::Leapt(HOUR.saturating_sub(NOTABLE)));
        machine.advance(HOUR);
        assert_eq!(looks.look(&clock), Found::Nothing);
        machine.set(NOW);
        assert!(matches!(looks.look(&clock), Found::Behind { .. }));
    }
}
