//! Notes that a request leaves for the log on its way. Nothing reads them to decide anything.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use http_body::Body as _;

use crate::carrier::Carrier;
use crate::clock::Clock;
use crate::forward::body::GatewayBody;
use crate::gateway::refusal::Refusal;
use crate::keys::index::Verified;
use crate::lifeline::Cause;
use crate::policy::Permit;
use crate::store::records::AccountRecord;
use crate::telemetry::access;
use crate::upstream::UpstreamName;

/// One request's notes; becomes one access line.
pub struct Trail {
    clock: Arc<dyn Clock>,
    started: Duration,
    /// Who asks, after `trusted_proxies`.
    pub client: IpAddr,
    /// Method.
    pub method: Method,
    /// Target as it came; only its path is ever written.
    pub target: Option<PathAndQuery>,
    /// HTTP version.
    pub version: Version,
    /// Which upstream.
    pub upstream: Option<UpstreamName>,
    /// Where the key was, or what came in its place.
    pub carrier: Option<&'static str>,
    /// The key.
    pub key: Option<Verified>,
    /// The account.
    pub account: Option<Arc<AccountRecord>>,
    /// Status of the answer; `None`: the client went away before there was one.
    pub status: Option<StatusCode>,
    /// Label and true reason of a refusal.
    pub refusal: Option<(&'static str, String)>,
    /// Bytes of the request's body that went upstream.
    pub bytes_in: u64,
    /// Bytes of the answer's body that went to the client's connection.
    pub bytes_out: u64,
    /// Whether the answer ended as it should.
    pub complete: bool,
    /// What the key died of that the answer ran on, if that ended it.
    pub ended: Option<Cause>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("client", &self.client).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Trail {
    /// Begins a request's notes.
    pub fn begin(clock: &Arc<dyn Clock>, client: IpAddr, request: &http::Request<hyper::body::Incoming>) -> Self {
        Self {
            clock: Arc::clone(clock),
            started: clock.monotonic(),
            client,
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            version: request.version(),
            upstream: None,
            carrier: None,
            key: None,
            account: None,
            status: None,
            refusal: None,
            bytes_in: 0,
            bytes_out: 0,
            complete: false,
            ended: None,
        }
    }

    /// Notes on which key it runs.
    pub fn admitted(&mut self, permit: &Permit) {
        self.carrier = Some(permit.proof().as_str());
        self.key = Some(permit.key().clone());
        self.account = Some(Arc::clone(permit.account()));
    }

    /// Notes a refusal.
    pub fn refused(mut self: Box<Self>, refusal: &Refusal) {
        self.status = Some(refusal.public().status);
        self.carrier = self.carrier.or_else(|| refusal.carrier().map(Carrier::as_str));
        self.refusal = Some((refusal.kind(), refusal.to_string()));
        self.bytes_out = if self.method == Method::HEAD { 0 } else { refusal.body().len() as u64 };
        self.complete = true;
    }

    /// Notes an answer of keygate's own.
    pub fn answered(mut self: Box<Self>, response: &http::Response<GatewayBody>) {
        self.status = Some(response.status());
        self.bytes_out = if self.method == Method::HEAD { 0 } else { response.body().size_hint().lower() };
        self.complete = true;
    }

    /// Notes how the transfer ended.
    pub fn finish(mut self: Box<Self>, bytes_in: u64, bytes_out: u64, complete: bool) {
        (self.bytes_in, self.bytes_out, self.complete) = (bytes_in, bytes_out, complete);
    }
}

impl Drop for Trail {
    /// The line is written whatever ends the request, also a client that goes away.
    fn drop(&mut self) {
        access::write(self, self.clock.monotonic().saturating_sub(self.started));
    }
}
