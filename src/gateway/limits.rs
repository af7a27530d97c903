//! What a request has to do with the limits of its key.

use std::sync::Arc;

use http::Response;

use crate::forward::body::GatewayBody;
use crate::forward::pace::Pacer;
use crate::gateway::exchange::Route;
use crate::gateway::pipeline::Visit;
use crate::gateway::refusal::Refusal;
use crate::gateway::respond;
use crate::keys::KeyId;
use crate::lifeline::Cause;
use crate::limits::Exceeded;
use crate::limits::daily::until_tomorrow;
use crate::limits::live::Live;
use crate::policy::{Client, Denied};

impl Visit<'_> {
    /// Who asks; the request counts against these limits, and its answer tells of them.
    pub(super) fn counted(&self, limits: Option<&Arc<Live>>) -> Client<'_> {
        let counted_at = limits.map(|limits| {
            self.limits.replace(Some(Arc::clone(limits)));
            self.worker.gateway().clock().monotonic()
        });
        Client { address: self.client.ip, lifelines: self.worker.lifelines(), counted_at }
    }

    /// The request was not admitted. A key that may not be known by its refusal is not known by its limits either.
    pub(super) fn uncounted(&self, denied: Denied, claimed: (KeyId, &'static str)) {
        self.claimed.set(Some(claimed));
        if !matches!(denied, Denied::Exceeded(_)) {
            self.limits.take();
        }
    }

    /// A request that ended while it ran because the day's bytes are used up reads what those after it read.
    pub(super) fn worded(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::KeyDied(Cause::UsedUp) => {
                Refusal::Exceeded(Exceeded::Daily { retry_after_secs: until_tomorrow(self.worker.gateway().clock().now()) })
            }
            refusal => refusal,
        }
    }

    /// Says on an answer what is left of a rate, or that the day's bytes are used up.
    pub(super) fn tell_limits(&self, answer: &mut Response<GatewayBody>) {
        let Some(limits) = self.limits.take() else { return };
        let clock = self.worker.gateway().clock();
        if let Some(quota) = limits.quota(clock.monotonic(), clock.now()) {
            respond::with_quota(answer, quota);
        }
    }
}

impl Route<'_> {
    /// What paces a body of the request; `None`: its key has no limits.
    pub(super) fn pacer(&self) -> Option<Box<Pacer>> {
        let permit = self.admission.permit()?;
        let limits = Arc::clone(permit.key().limits()?);
        Some(Pacer::new(limits, Arc::clone(self.visit.worker.gateway().clock()), permit.lifeline().watch()))
    }

    /// Counts bytes that no body carries which could be paced.
    pub(super) fn count(&self, bytes: usize) {
        if let Some(limits) = self.admission.permit().and_then(|permit| permit.key().limits()) {
            limits.count_beside(bytes as u64, self.visit.worker.gateway().clock().now());
        }
    }
}
