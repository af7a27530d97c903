//! What systemd hears of the daemon (`sd_notify(3)`), and the watchdog: it hears nothing when a core stands still, and then restarts
//! keygate.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::server::pulse::Pulses;

/// Time in which every core must have counted on. Cores count twice a second.
const WINDOW: Duration = Duration::from_secs(2);

/// How much longer than the drain the end of the process may take.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// Tells systemd; without systemd there is nobody to tell, which is no error.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Everything is open.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it.
pub(super) fn reloading() {
    let _ = NotifyState::monotonic_usec_now().map(|now| notify(&[NotifyState::Reloading, now]));
}

/// The end begins, and takes up to `drain` and a little more: `TimeoutStopSec=` need not know.
pub(super) fn stopping(drain: Duration) {
    let micros = u32::try_from((drain + AFTER_DRAIN).as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Tells systemd, at half of the time that it allows, that the control runtime and every core turn; while a core stands still, nothing.
pub(super) async fn watch(pulses: Arc<Pulses>, over: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut seen = Vec::new();
    let mut standing = pulses.standing_since(&mut seen);
    let mut looked_at = now();
    loop {
        if now().duration_since(looked_at) >= WINDOW {
            looked_at = now();
            standing = pulses.standing_since(&mut seen);
            if !standing.is_empty() {
                tracing::error!(cores = ?standing, "cores stand still; systemd is no longer told that all is well, and will restart keygate");
            }
        }
        if standing.is_empty() {
            notify(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(limit / 2) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer beside it")]
fn now() -> Instant {
    Instant::now()
}
