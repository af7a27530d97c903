//! What is set up for the challenges of one order, and taken down again whichever way the order ends.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{ChallengeType, KeyAuthorization};

use super::hook::{self, Action, Record};
use super::reason::AcmeError;
use crate::certificates::challenges::Challenges;
use crate::config::{AcmeChallenge, DnsHook};

/// How long taking down may take where the gateway waits for it to stop.
const CLEAR: Duration = Duration::from_secs(4);

enum Prop {
    File(String),
    Handshake(String),
    Record(DnsHook, Record),
}

/// What is set up now.
pub(super) struct Stage {
    challenges: Arc<Challenges>,
    props: Vec<Prop>,
}

/// The kind of a challenge, as ACME servers offer it.
pub(super) const fn kind(challenge: &AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::Dns01(_) => ChallengeType::Dns01,
    }
}

impl Stage {
    pub(super) const fn new(challenges: Arc<Challenges>) -> Self {
        Self { challenges, props: Vec::new() }
    }

    /// Makes one challenge of `domain` answerable.
    pub(super) async fn set(&mut self, how: &AcmeChallenge, domain: &str, token: &str, key: &KeyAuthorization) -> Result<(), AcmeError> {
        match how {
            AcmeChallenge::Http01 => {
                self.challenges.set(token, key.as_str());
                self.props.push(Prop::File(token.to_owned()));
            }
            AcmeChallenge::TlsAlpn01 => {
                self.challenges.set_handshake(domain, key.digest().as_ref())?;
                self.props.push(Prop::Handshake(domain.to_owned()));
            }
            AcmeChallenge::Dns01(hook) => {
                let record = Record::new(domain, key.dns_value());
                // Before it runs: one that fails may have written something all the same.
                self.props.push(Prop::Record(hook.clone(), record.clone()));
                hook::run(hook, Action::Present, &record).await?;
            }
        }
        Ok(())
    }

    /// Takes everything down. A record that cannot be removed is told: it does no harm.
    pub(super) async fn clear(&mut self, is_stopping: bool) {
        for prop in self.props.drain(..) {
            match prop {
                Prop::File(token) => self.challenges.remove(&token),
                Prop::Handshake(domain) => self.challenges.remove_handshake(&domain),
                Prop::Record(mut hook, record) => {
                    if is_stopping {
                        hook.timeout = hook.timeout.min(CLEAR);
                    }
                    if let Err(error) = hook::run(&hook, Action::Cleanup, &record).await {
                        tracing::warn!("{error}: the TXT record {} stays, and can be removed by hand", record.name);
                    }
                }
            }
        }
    }
}
