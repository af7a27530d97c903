//! The spans of a request: notes while it runs, and what is handed over when it has ended. No secret has a way into them: a path without
//! its query, through the redactor; ids, names of the operator's, numbers, and words of keygate's own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Version};

use super::context::{Fresh, Remote, SpanId, TRACEPARENT, TRACESTATE, TraceId};
use super::{Seen, Tracer};
use crate::clock::{Clock, Timestamp};
use crate::gateway::trail::Trail;
use crate::keys::KeyId;
use crate::lifeline::Cause;
use crate::redact::{LoggedPath, Redacted};
use crate::target::{Host, Path};
use crate::upstream::UpstreamName;
use crate::upstream::client::Upstream;
use crate::usage::group::Group;

/// Where a request's spans belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) trace: TraceId,
    /// The span of the request.
    pub(super) server: SpanId,
    /// The span of the upstream's part in it.
    pub(super) client: SpanId,
    /// The span elsewhere that the request is a part of.
    pub(super) parent: Option<SpanId>,
    /// What the client says that it is a part of, without being believed.
    pub(super) link: Option<Remote>,
    is_sampled: bool,
}

impl Place {
    /// In a trace of somebody else's, who has decided whether it is recorded.
    pub(super) const fn below(parent: Remote, fresh: Fresh) -> Self {
        let Remote { trace, span, is_sampled } = parent;
        Self { trace, server: fresh.server, client: fresh.client, parent: Some(span), link: None, is_sampled }
    }

    /// In a trace of its own.
    pub(super) const fn alone(fresh: Fresh, is_sampled: bool, link: Option<Remote>) -> Self {
        Self { trace: fresh.trace, server: fresh.server, client: fresh.client, parent: None, link, is_sampled }
    }
}

/// What the upstream was asked, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) upstream: Arc<Upstream>,
    begun: Duration,
    answered: Option<Duration>,
    /// Of the last answer's head; `None` beside a time: there was no usable answer.
    pub(super) status: Option<StatusCode>,
    /// How often it was asked again.
    pub(super) again: u32,
}

/// The request's surroundings, as far as the trail does not know them.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) peer: IpAddr,
    pub(super) is_secure: bool,
    pub(super) host: Option<(String, Option<u16>)>,
}

/// The notes of a request that runs. Requests that are not recorded have some too: the upstream is told that they are not.
#[derive(Debug)]
pub struct Traced {
    tracer: Arc<Tracer>,
    place: Place,
    from: Origin,
    began: Timestamp,
    /// The same, of the monotonic clock.
    started: Duration,
    asked: Option<Asked>,
}

impl Traced {
    pub(super) fn begin(tracer: Arc<Tracer>, place: Place, seen: Seen<'_>, clock: &dyn Clock) -> Self {
        let host = seen.host.filter(|_| place.is_sampled).and_then(host);
        Self {
            tracer,
            place,
            from: Origin { peer: seen.peer, is_secure: seen.is_secure, host },
            began: clock.now(),
            started: clock.monotonic(),
            asked: None,
        }
    }

    /// Tells the upstream in which trace it works. What a client that is not believed says of that is taken away.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Place { trace, client, parent, is_sampled, .. } = self.place;
        headers.insert(TRACEPARENT, Remote { trace, span: client, is_sampled }.header());
        if parent.is_none() {
            headers.remove(TRACESTATE);
        }
    }

    /// Notes that the upstream is asked. `now`: of the monotonic clock.
    pub fn ask(&mut self, upstream: &Arc<Upstream>, now: Duration) {
        match &mut self.asked {
            Some(asked) => asked.again += 1,
            None => self.asked = Some(Asked { upstream: Arc::clone(upstream), begun: now, answered: None, status: None, again: 0 }),
        }
    }

    /// Notes the head of its answer, or that there is none to come.
    pub fn heard(&mut self, status: Option<StatusCode>, now: Duration) {
        if let Some(asked) = &mut self.asked {
            (asked.answered, asked.status) = (Some(now), status);
        }
    }

    /// Makes spans of it and of the request's trail. `now`: of the monotonic clock.
    pub fn end(self, trail: &Trail, now: Duration) {
        if self.place.is_sampled {
            let Self { tracer, place, from, began, started, asked } = self;
            let times = Times { began, started };
            tracer.take(Box::new(Ended::new((place, from, asked), trail, &times, now)));
        }
    }
}

fn host(text: &str) -> Option<(String, Option<u16>)> {
    let host = Host::parse(text).ok()?;
    // Anybody may write anything there.
    let name = Redacted(host.name().trim_start_matches('[').trim_end_matches(']')).to_string();
    Some((name, text.parse::<Authority>().ok()?.port_u16()))
}

/// From the monotonic clock to the wall's: all moments of a request are as far apart as they were.
struct Times {
    began: Timestamp,
    started: Duration,
}

impl Times {
    /// Nanoseconds since the epoch.
    fn nanos(&self, moment: Duration) -> u64 {
        let began = u64::try_from(self.began.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        let later = u64::try_from(moment.saturating_sub(self.started).as_nanos()).unwrap_or(u64::MAX);
        began.saturating_add(later)
    }
}

/// From when to when, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// What the upstream's part in a request was.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) asked: Asked,
    pub(super) span: Span,
    /// Whether it came to an end before the request did: else the client went away meanwhile.
    pub(super) is_over: bool,
    /// Where it went, without query.
    pub(super) url: String,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) place: Place,
    pub(super) from: Origin,
    pub(super) span: Span,
    pub(super) answered: Option<Answered>,
    pub(super) method: Method,
    pub(super) version: Version,
    /// Redacted.
    pub(super) path: String,
    /// Of requests that passed, or whose key is known: strangers ask for whatever they like.
    pub(super) route: Option<Group>,
    pub(super) client: IpAddr,
    pub(super) status: Option<StatusCode>,
    pub(super) refusal: Option<&'static str>,
    pub(super) upstream: Option<UpstreamName>,
    pub(super) carrier: Option<&'static str>,
    pub(super) key: Option<KeyId>,
    pub(super) account: Option<String>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) is_complete: bool,
    pub(super) ended: Option<Cause>,
}

impl Ended {
    fn new((place, from, asked): (Place, Origin, Option<Asked>), trail: &Trail, times: &Times, now: Duration) -> Self {
        let raw = trail.target.as_ref().map_or("*", |target| target.path());
        let answered = asked.map(|asked| {
            let span = Span { begin: times.nanos(asked.begun), end: times.nanos(asked.answered.unwrap_or(now)) };
            Answered { span, is_over: asked.answered.is_some(), url: url(&asked.upstream, raw), asked }
        });
        let is_known = trail.key.is_some() || trail.refusal.is_none();
        Self {
            place,
            from,
            span: Span { begin: times.nanos(times.started), end: times.nanos(now) },
            answered,
            method: trail.method.clone(),
            version: trail.version,
            path: LoggedPath(Path::parse(raw).as_ref().map_or(raw, Path::as_str)).to_string(),
            route: is_known.then(|| Group::of(raw)),
            client: trail.client,
            status: trail.status,
            refusal: trail.refusal.as_ref().map(|(kind, _)| *kind),
            upstream: trail.upstream.clone(),
            carrier: trail.carrier,
            key: trail.key.as_ref().map(|key| key.id()),
            account: trail.account.as_ref().map(|account| account.name.clone()),
            bytes_in: trail.bytes_in,
            bytes_out: trail.bytes_out,
            is_complete: trail.complete,
            ended: trail.ended,
        }
    }

    /// How many spans it becomes.
    pub(super) fn spans(&self) -> usize {
        1 + usize::from(self.answered.is_some())
    }
}

/// Where a request went. It went nowhere if its path was refused.
fn url(upstream: &Upstream, raw: &str) -> String {
    let path = Path::parse(raw).map(|path| path.below(&upstream.base_path));
    format!("{}{}", upstream.url(), LoggedPath(path.as_ref().map_or("", Path::as_str)))
}
