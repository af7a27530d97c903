//! The time of the next try outlives a restart: a program that dies again and again asks an ACME server no more often than one that runs.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::schedule::{self, Failing};
use super::vault::off_the_loop;
use super::{Acme, Failure, State};
use crate::config::AcmeSettings;
use crate::store::acme::AcmeFailure;

impl Acme {
    /// Why the last order for these settings failed, as the store has it. Blocking.
    pub(super) fn remembered(&self, settings: &AcmeSettings, state: &State) -> Option<Failure> {
        let failure = match self.vault.failure() {
            Ok(failure) => failure?,
            Err(error) => {
                tracing::warn!("when to ask for a certificate again cannot be read: {error}");
                return None;
            }
        };
        let AcmeFailure { wanted, count, sentence, next } = failure;
        // A clock that was wrong then keeps nobody from a certificate now.
        let now = self.clock.now();
        let latest = now.plus(schedule::LONGEST_WAIT).max(state.due(now).unwrap_or(now));
        (wanted == fingerprint(settings)).then(|| Failure { count, sentence, next: next.min(latest) })
    }

    /// What is to be remembered while an order runs, of which nobody may hear how it ended.
    pub(super) fn if_cut_off(&self) -> Failure {
        let count = self.state().failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        let next = self.clock.now().plus(schedule::wait(Failing::Refused, count, None));
        Failure { count, sentence: "keygate ended while it was asking for one".to_owned(), next }
    }

    /// Keeps in the store why there is no certificate for some settings; `None`: nothing is wrong.
    pub(super) async fn remember(&self, failure: Option<(&AcmeSettings, Failure)>) {
        let failure = failure.map(|(settings, Failure { count, sentence, next })| {
            let wanted = fingerprint(settings);
            AcmeFailure { wanted, count, sentence, next }
        });
        let vault = self.vault.clone();
        if let Err(error) = off_the_loop(move || vault.keep_failure(failure)).await {
            tracing::warn!("when to ask for a certificate again could not be stored, so that a restart asks at once: {error}");
        }
    }

    /// The same, as memory has it.
    pub(super) async fn remember_as_it_is(&self) {
        let (settings, failure) = {
            let state = self.state();
            (state.settings.clone(), state.failure.clone())
        };
        self.remember(settings.as_deref().zip(failure)).await;
    }
}

/// The same for the same settings. Secrets are no part of it: they show in none of them.
fn fingerprint(settings: &AcmeSettings) -> String {
    let digest = Sha256::digest(format!("{settings:?}"));
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
