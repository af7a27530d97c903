//! How long an upstream may take, without a timer for every request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of a connection. One request after the other has its own deadline, each later than the one before: the runtime's timer is left
/// as it is and set anew when it goes off too early, so once a minute in place of once a request.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `deadline` has come. Until then, whoever asked last may be woken for nothing now and then.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    async fn it_goes_off_at_each_deadline_later_or_earlier_than_the_one_before() {
        let (begin, mut alarm) = (Instant::now(), Alarm::default());
        for seconds in [60, 90, 91, 200] {
            let deadline = begin + Duration::from_secs(seconds);
            // Somebody waited for a later one, and does not any more.
            let waiting = poll_fn(|cx| Poll::Ready(alarm.poll(deadline + Duration::from_secs(5), cx)));
            assert!(waiting.await.is_pending());
            poll_fn(|cx| alarm.poll(deadline, cx)).await;
            assert_eq!(Instant::now(), deadline);
        }
    }
}
