//! What a request has to do with the limits of its key.

use std::sync::Arc;

use http::Response;

use crate::forward::body::GatewayBody;
use crate::forward::pace::Pacer;
use crate::gateway::exchange::Route;
use crate::gateway::pipeline::Visit;
use crate::gateway::respond;
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
    pub(super) fn uncounted(&self, denied: Denied) {
        if !matches!(denied, Denied::Exceeded(_)) {
            self.limits.take();
        }
    }

    /// Says on an answer what is left of a rate.
    pub(super) fn tell_limits(&self, answer: &mut Response<GatewayBody>) {
        let Some(limits) = self.limits.take() else { return };
        if let Some((rate, left)) = limits.requests_left(self.worker.gateway().clock().monotonic()) {
            respond::with_rate(answer, rate, left);
        }
    }
}

impl Route<'_> {
    /// What paces a body of the request; `None`: its key has no limits.
    pub(super) fn pacer(&self) -> Option<Box<Pacer>> {
        let limits = self.admission.permit()?.key().limits()?;
        Some(Pacer::new(Arc::clone(limits), Arc::clone(self.visit.worker.gateway().clock())))
    }
}
