//! What happens to an admitted request: it is sent, sent again where its session turns out dead, and its answer made the client's.

use std::rc::Rc;
use std::sync::Arc;

use http::header::CONNECTION;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::forward::body::{GatewayBody, Metered, RequestBody, Sent};
use crate::forward::hop;
use crate::forward::rewrite::Outbound;
use crate::forward::scrub::{Cleaned, Pieces, Source, Treatment, Whose};
use crate::forward::send::{self, Exchange};
use crate::forward::socketio::engine::Engine;
use crate::forward::tunnel::{self, Tunnel};
use crate::gateway::pipeline::{Notes, Visit};
use crate::gateway::refusal::Refusal;
use crate::gateway::routing::Site;
use crate::gateway::shares::Cookies;
use crate::gateway::sockets;
use crate::policy::Admission;
use crate::target::Path;
use crate::upstream::client::{Lease, Partition, Upstream};
use crate::upstream::dialect::{TokenState, Verdict};
use crate::upstream::line::AnswerBody;
use crate::upstream::session::Session;
use crate::usage::open::Sort;

/// The connection that an answer comes over, if it may serve again, and what became of the request's body.
type Over = (Option<Lease>, Rc<Sent>);

/// An admitted request on its way.
pub(super) struct Route<'a> {
    pub(super) visit: &'a Visit<'a>,
    pub(super) site: &'a Arc<Site>,
    pub(super) path: &'a Path<'a>,
    pub(super) treatment: Treatment,
    pub(super) admission: Admission,
    pub(super) session: Option<Arc<Session>>,
    pub(super) cookies: Cookies,
    /// Where a client authenticates within a socket.
    pub(super) engine: Option<Box<Engine>>,
}

impl Route<'_> {
    fn partition(&self) -> Partition {
        self.session.as_ref().map_or(Partition::Open, |session| Partition::Session(session.id))
    }

    /// Whether an upstream's "no" can be answered with another session.
    fn renewable(&self) -> bool {
        self.admission.permit().is_some_and(|permit| permit.account().credential.is_renewable())
    }

    pub(super) async fn exchange(self, outbound: Outbound, body: Incoming, notes: &mut Notes) -> Result<Response<GatewayBody>, Refusal> {
        let spare = self.renewable().then(|| outbound.clone());
        let whole = self.treatment.may_come_in_part().then(|| outbound.clone().of_the_whole());
        let body = RequestBody::from_client(body, self.visit.settings.limits.idle_timeout, spare.is_some()).paced(self.pacer());
        if let (Some(trail), Some(permit), false) = (notes.as_mut(), self.admission.permit(), body.is_empty()) {
            trail.opens(Sort::Stream, permit, Some(body.sent()));
        }
        let exchange = self.send(outbound, body, notes).await?;
        let verdict = self.verdict(&exchange.response, false);
        if verdict == Verdict::Accepted && whole.is_none() {
            return self.respond(exchange, notes).await;
        }
        // Rare, and large: not a part of every request's memory.
        Box::pin(self.exchange_again((exchange, verdict), spare, whole, notes)).await
    }

    async fn send(&self, outbound: Outbound, body: RequestBody, notes: &mut Notes) -> Result<Exchange, Refusal> {
        let (worker, upstream) = (self.visit.worker, &self.site.upstream);
        ask(notes, upstream);
        let exchange = send::send(&worker.pool, upstream, self.partition(), outbound, body).await;
        heard(notes, exchange.as_ref().ok().map(|exchange| &exchange.response));
        let exchange = exchange?;
        if let Some(tally) = worker.tally() {
            tally.answered(&upstream.name, exchange.took);
        }
        Ok(exchange)
    }

    /// After an answer that says that the session is dead, or that is a part of what must be seen as a whole. `spare`: the request, if
    /// it may go out with another session; `whole`: the same for all of what it asks a part of.
    async fn exchange_again(
        mut self,
        (mut exchange, verdict): (Exchange, Verdict),
        spare: Option<Outbound>,
        whole: Option<Outbound>,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        match verdict {
            Verdict::Accepted => {}
            verdict => match Box::pin(self.second_opinion(verdict)).await? {
                Opinion::Alive => return self.respond(not_about_the_key(exchange), notes).await,
                Opinion::Renewed(session) => {
                    let Some((outbound, body)) = spare.zip(exchange.sent.replay()) else {
                        return Err(Refusal::SessionRenewed);
                    };
                    // The answer is not read to its end: its connection is closed with it.
                    self.session = Some(Arc::clone(&session));
                    exchange = self.send(outbound.with_session(&session), body, notes).await?;
                    if self.verdict(&exchange.response, false) == Verdict::Dead {
                        return Err(Refusal::SessionRefused);
                    }
                }
            },
        }
        let is_part = self.treatment.is_part(exchange.response.status(), exchange.response.headers());
        if let Some(outbound) = whole.filter(|_| is_part) {
            // A part cannot be searched. Whatever answered it answers the whole alike.
            let outbound = match &self.session {
                None => outbound,
                Some(session) => outbound.with_session(session),
            };
            exchange = self.send(outbound, RequestBody::empty(), notes).await?;
        }
        self.respond(exchange, notes).await
    }

    /// The upstream's answer for the client: 7. without any credential of the upstream in it.
    pub(super) async fn respond(self, exchange: Exchange, notes: &mut Notes) -> Result<Response<GatewayBody>, Refusal> {
        let Exchange { response, lease, sent, .. } = exchange;
        let (mut head, incoming) = response.into_parts();
        hop::strip(&mut head.headers);
        let source = match &self.admission {
            // All that it says is the person's own, cookies included.
            Admission::Native(_) => Cleaned::Now(Source::Plain(incoming)),
            _ => self.clean(&mut head, incoming)?,
        };
        match source {
            Cleaned::Now(source) => Ok(self.answered(head, source, (lease, sent), notes)),
            // Rarer, and larger: not a part of every request's memory.
            Cleaned::Later(pieces) => Box::pin(self.answer_later(head, pieces, (lease, sent), notes)).await,
        }
    }

    async fn answer_later(
        self,
        mut head: Parts,
        pieces: Box<Pieces>,
        over: Over,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let source = pieces.source(&mut head).await?;
        Ok(self.answered(head, source, over, notes))
    }

    fn answered(self, head: Parts, source: Source, (lease, sent): Over, notes: &mut Notes) -> Response<GatewayBody> {
        let mut trail = notes.take();
        if let Some(trail) = &mut trail {
            trail.status = Some(head.status);
        }
        let pacer = self.pacer();
        let metered = Metered::new(source, lease, sent, self.admission, trail).paced(pacer);
        Response::from_parts(head, GatewayBody::upstream(metered))
    }

    fn clean(&self, head: &mut Parts, incoming: AnswerBody) -> Result<Cleaned, Refusal> {
        self.cookies.strip(&mut head.headers);
        let gateway = self.visit.worker.gateway();
        let upstream = &self.site.upstream;
        let whose = Whose {
            admission: &self.admission,
            session: self.session.as_deref(),
            upstream,
            path: self.path.as_str(),
            sessions: &gateway.sessions,
            ticket: &|permit| gateway.handouts.ticket_for(permit.key(), &upstream.name),
        };
        self.treatment.answer(head, incoming, whose)
    }

    pub(super) async fn upgrade(
        mut self,
        mut outbound: Outbound,
        client: OnUpgrade,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let worker = self.visit.worker;
        if self.renewable()
            && !self.site.upstream.dialect().refuses_dead_sockets()
            && let Opinion::Renewed(session) = Box::pin(self.second_opinion(Verdict::Doubtful)).await?
        {
            outbound = outbound.with_session(&session);
            self.session = Some(session);
        }
        let spare = self.renewable().then(|| outbound.clone());
        let mut response = self.shake(outbound, notes).await?;
        match self.verdict(&response, true) {
            Verdict::Accepted => {}
            verdict => match Box::pin(self.second_opinion(verdict)).await? {
                Opinion::Alive => {
                    let exchange = Exchange::alone(response);
                    return self.respond(not_about_the_key(exchange), notes).await;
                }
                Opinion::Renewed(session) => {
                    let outbound = spare.ok_or(Refusal::SessionRefused)?.with_session(&session);
                    self.session = Some(session);
                    response = self.shake(outbound, notes).await?;
                    if self.verdict(&response, true) == Verdict::Dead {
                        return Err(Refusal::SessionRefused);
                    }
                }
            },
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let mut answer = self.respond(Exchange::alone(response), notes).await?;
            // What the client sends next may be frames of the socket that it hoped for.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(answer);
        }
        let mut answer = Response::new(GatewayBody::EMPTY);
        tunnel::switching(response.headers(), &mut answer);
        let mut trail = notes.take();
        if let Some(trail) = &mut trail {
            trail.status = Some(StatusCode::SWITCHING_PROTOCOLS);
            if let Some(permit) = self.admission.permit() {
                trail.opens(Sort::Socket, permit, None);
            }
        }
        let upstream = response.into_body().into_socket().ok_or(Refusal::BadAnswer("its 101 came without a socket"))?;
        let idle_timeout = self.visit.settings.limits.idle_timeout;
        let mut down = sockets::down(worker, &self.site.upstream, self.engine.as_deref());
        if matches!(self.admission, Admission::Native(_)) {
            down.trust();
        }
        let clock = Arc::clone(worker.gateway().clock());
        let judge = sockets::judge(worker, &self.site.upstream, self.visit.client.ip, &self.admission);
        Tunnel { client, upstream, admission: self.admission, trail, idle_timeout, down, engine: self.engine, judge, clock }
            .run(worker.tasks());
        Ok(answer)
    }

    async fn shake(&self, outbound: Outbound, notes: &mut Notes) -> Result<Response<AnswerBody>, Refusal> {
        ask(notes, &self.site.upstream);
        let response = tunnel::handshake(&self.visit.worker.pool, &self.site.upstream, outbound).await;
        heard(notes, response.as_ref().ok());
        response
    }

    fn verdict(&self, response: &Response<AnswerBody>, upgrade: bool) -> Verdict {
        match self.session {
            None => Verdict::Accepted,
            Some(_) => self.site.upstream.dialect().verdict(response.status(), self.path, upgrade),
        }
    }

    /// The upstream did not like the session: ask whether it is dead, and get another one if so.
    async fn second_opinion(&self, verdict: Verdict) -> Result<Opinion, Refusal> {
        let sessions = &self.visit.worker.gateway().sessions;
        let session = self.session.as_ref().ok_or(Refusal::SessionRefused)?;
        // No other token can be had for an account that has a static one: its 401 is asked about even where it should be beyond doubt.
        let is_sure = verdict == Verdict::Dead && self.renewable();
        if !is_sure && matches!(sessions.probe(session).await?, TokenState::Alive { .. }) {
            return Ok(Opinion::Alive);
        }
        Ok(Opinion::Renewed(sessions.replace(session, Some(self.visit.client.ip)).await?))
    }
}

/// Tells the upstream in which trace it works, where there are traces.
pub(super) fn tell(notes: &Notes, headers: &mut HeaderMap) {
    if let Some(trail) = notes {
        trail.tell(headers);
    }
}

/// Notes that the upstream is asked, where that is wanted.
pub(super) fn ask(notes: &mut Notes, upstream: &Arc<Upstream>) {
    if let Some(trail) = notes {
        trail.ask(upstream);
    }
}

/// Notes what it has answered; `None`: nothing that is of use.
pub(super) fn heard(notes: &mut Notes, response: Option<&Response<AnswerBody>>) {
    if let Some(trail) = notes {
        trail.heard(response.map(Response::status));
    }
}

enum Opinion {
    /// The session is fine: the refusal was about what was asked.
    Alive,
    Renewed(Arc<Session>),
}

/// A 401 that is about the account's rights and not about its session: as it stands, clients would take it for a bad key and forget
/// theirs. 403 says what is meant.
fn not_about_the_key(mut exchange: Exchange) -> Exchange {
    *exchange.response.status_mut() = StatusCode::FORBIDDEN;
    exchange
}
