//! What a request has to do with the limits of its key.

use std::sync::Arc;

use http::Response;

use crate::forward::body::GatewayBody;
use crate::gateway::pipeline::Visit;
use crate::gateway::respond;
use crate::limits::live::Live;
use crate::policy::Client;

impl Visit<'_> {
    /// Who asks; the request counts against these limits, and its answer tells of them.
    pub(super) fn counted(&self, limits: Option<&Arc<Live>>) -> Client<'_> {
        let counted_at = limits.map(|limits| {
            self.limits.replace(Some(Arc::clone(limits)));
            self.worker.gateway().clock().monotonic()
        });
        Client { address: self.client.ip, lifelines: self.worker.lifelines(), counted_at }
    }

    /// Says on an answer what is left of a rate, to who may use the key.
    pub(super) fn tell_limits(&self, answer: &mut Response<GatewayBody>) {
        let Some(limits) = self.limits.take().filter(|limits| limits.may_come_from(self.client.ip)) else { return };
        if let Some((rate, left)) = limits.requests_left(self.worker.gateway().clock().monotonic()) {
            respond::with_rate(answer, rate, left);
        }
    }
}
