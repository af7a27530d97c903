//! Notes that a request leaves for the log on its way. Nothing reads them to decide anything.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;

use crate::carrier::Carrier;
use crate::clock::Clock;
use crate::forward::body::GatewayBody;
use crate::gateway::guessing;
use crate::gateway::refusal::Refusal;
use crate::keys::KeyId;
use crate::keys::index::Verified;
use crate::lifeline::Cause;
use crate::policy::Permit;
use crate::store::records::AccountRecord;
use crate::telemetry::access;
use crate::telemetry::traces::span::Traced;
use crate::upstream::UpstreamName;
use crate::upstream::client::Upstream;
use crate::usage::count::Class;
use crate::usage::group::Group;
use crate::usage::open::{Moved, OpenPlace, Opening, Sort, Upload};
use crate::usage::tally::{Ended, Refused, SecretTag, Tally};

/// One request's notes; becomes one access line, and is counted.
pub struct Trail {
    clock: Arc<dyn Clock>,
    /// When it began, where it becomes a line.
    line: Option<Duration>,
    tally: Option<Rc<Tally>>,
    open: Option<OpenPlace>,
    traced: Option<Box<Traced>>,
    /// What the client calls itself.
    agent: Option<HeaderValue>,
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
    /// The key that was not admitted, or the id within one that nobody knows.
    claimed: Option<KeyId>,
    /// The account.
    pub account: Option<Arc<AccountRecord>>,
    /// Status of the answer; `None`: the client went away before there was one.
    pub status: Option<StatusCode>,
    /// Label and true reason of a refusal.
    pub refusal: Option<(&'static str, String)>,
    is_of_note: bool,
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
    /// Begins a request's notes, which become no line. `tally`: where it is counted.
    pub fn begin<B>(clock: &Arc<dyn Clock>, client: IpAddr, request: &http::Request<B>, tally: Option<Rc<Tally>>) -> Self {
        Self {
            clock: Arc::clone(clock),
            line: None,
            agent: tally.as_ref().and_then(|_| request.headers().get(USER_AGENT).cloned()),
            tally,
            open: None,
            traced: None,
            client,
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            version: request.version(),
            upstream: None,
            carrier: None,
            key: None,
            claimed: None,
            account: None,
            status: None,
            refusal: None,
            is_of_note: false,
            bytes_in: 0,
            bytes_out: 0,
            complete: false,
            ended: None,
        }
    }

    /// Leaves a line in the log.
    pub fn keep_line(&mut self) {
        self.line = Some(self.clock.monotonic());
    }

    /// Becomes spans too.
    pub fn trace(&mut self, traced: Option<Box<Traced>>) {
        self.traced = traced;
    }

    /// Tells the upstream in which trace it works, if there is one.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Some(traced) = &self.traced {
            traced.tell(headers);
        }
    }

    /// Notes that the upstream is asked.
    pub fn ask(&mut self, upstream: &Arc<Upstream>) {
        if let Some(traced) = &mut self.traced {
            traced.ask(upstream, self.clock.monotonic());
        }
    }

    /// Notes the head of its answer; `None`: it has given none.
    pub fn heard(&mut self, status: Option<StatusCode>) {
        if let Some(traced) = &mut self.traced {
            traced.heard(status, self.clock.monotonic());
        }
    }

    /// Notes on which key it runs.
    pub fn admitted(&mut self, permit: &Permit) {
        self.carrier = Some(permit.proof().as_str());
        self.key = Some(permit.key().clone());
        self.account = Some(Arc::clone(permit.account()));
    }

    /// Notes a refusal. `claimed`: the key that was not admitted.
    pub fn refused(mut self: Box<Self>, refusal: &Refusal, claimed: Option<KeyId>) {
        self.claimed = claimed;
        self.status = Some(refusal.public().status);
        self.carrier = self.carrier.or_else(|| refusal.carrier().map(Carrier::as_str));
        // The text is for the line.
        self.refusal = Some((refusal.kind(), if self.line.is_some() { refusal.to_string() } else { String::new() }));
        self.is_of_note = refusal.is_of_note();
        self.bytes_out = if self.method == Method::HEAD { 0 } else { refusal.body().len() as u64 };
        self.complete = true;
    }

    /// Notes an answer of keygate's own.
    pub fn answered(mut self: Box<Self>, response: &http::Response<GatewayBody>) {
        self.status = Some(response.status());
        self.bytes_out = if self.method == Method::HEAD { 0 } else { response.body().size_hint().lower() };
        self.complete = true;
    }

    /// Puts what begins on the list of what runs. `upload`: tells how much of the request's body has gone.
    pub fn opens(&mut self, sort: Sort, permit: &Permit, upload: Option<Rc<dyn Upload>>) {
        let (Some(tally), None, Some(upstream)) = (&self.tally, self.open, &self.upstream) else { return };
        let key = permit.key();
        self.open = Some(tally.open(Opening {
            key: (key.id(), SecretTag::from(&key.digest())),
            client: self.client,
            agent: self.agent.clone(),
            carrier: self.carrier,
            upstream: upstream.clone(),
            group: Group::of(self.path()),
            started: self.clock.now(),
            sort,
            watch: permit.lifeline().watch(),
            upload,
        }));
    }

    /// Notes how much has moved of what runs.
    pub fn moved(&self, bytes_in: u64, bytes_out: u64) {
        if let (Some(tally), Some(open)) = (&self.tally, self.open) {
            tally.moved(open, Moved { bytes_in, bytes_out });
        }
    }

    fn path(&self) -> &str {
        self.target.as_ref().map_or("*", PathAndQuery::as_str)
    }

    /// What runs no more was counted in part; the rest is counted now.
    fn count(&mut self) {
        let Some(tally) = &self.tally else { return };
        let (moved, counted) = self.open.take().map(|open| tally.closed(open)).unwrap_or_default();
        self.bytes_in = self.bytes_in.max(moved.bytes_in);
        self.bytes_out = self.bytes_out.max(moved.bytes_out);
        let status = self.status.map(|status| status.as_u16());
        let refused = |(kind, _): &(&'static str, String)| Refused {
            kind,
            noted: self.is_of_note.then(|| guessing::network(self.client)),
            carrier: self.carrier,
        };
        tally.count(&Ended {
            at: self.clock.now(),
            key: self.key.as_ref().map(|key| (key.id(), SecretTag::from(&key.digest()))),
            claimed: self.claimed,
            upstream: self.upstream.as_ref(),
            class: if self.refusal.is_some() { Class::Refused } else { Class::of(status) },
            carrier: self.carrier,
            refusal: self.refusal.as_ref().map(refused),
            client: self.client,
            agent: self.agent.as_ref(),
            target: self.target.as_ref().map(PathAndQuery::as_str),
            bytes_in: self.bytes_in.saturating_sub(counted.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(counted.bytes_out),
        });
    }

    /// Notes how the transfer ended.
    pub fn finish(mut self: Box<Self>, bytes_in: u64, bytes_out: u64, complete: bool) {
        (self.bytes_in, self.bytes_out, self.complete) = (bytes_in, bytes_out, complete);
    }
}

impl Drop for Trail {
    /// The line is written whatever ends the request, also a client that goes away.
    fn drop(&mut self) {
        self.count();
        if let Some(began) = self.line {
            access::write(self, self.clock.monotonic().saturating_sub(began));
        }
        if let Some(traced) = self.traced.take() {
            traced.end(self, self.clock.monotonic());
        }
    }
}
