//! Engine.IO's endpoint: whose a session is, and what an `auth` in it comes to.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::carrier::{self, Carrier};
use crate::forward::body::GatewayBody;
use crate::forward::rewrite::Outbound;
use crate::forward::socketio::engine::Engine;
use crate::forward::socketio::query::{Query, Transport, Wrong};
use crate::forward::socketio::seat::{Seat, Standing};
use crate::forward::socketio::{Doorman, Judging, Verdict};
use crate::forward::websocket::Closing;
use crate::forward::websocket::down::{Down, Search};
use crate::forward::websocket::judge::Judge;
use crate::gateway::Worker;
use crate::gateway::exchange::Route;
use crate::gateway::guessing;
use crate::gateway::pipeline::Notes;
use crate::gateway::refusal::Refusal;
use crate::gateway::routing::Site;
use crate::keys::index::Verified;
use crate::keys::{ApiKey, KeyId, Scope, Scopes};
use crate::policy::{self, Admission, Denied, Permit, Proof};
use crate::redact::Redacted;
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::client::Upstream;
use crate::upstream::dialect::{RouteClass, TokenState, messages};
use crate::upstream::session::SessionError;
use crate::usage::tally::Refused;

/// What is asked of Engine.IO; `None` for all other routes.
///
/// # Errors
/// [`Refusal::Engine`]. Engine.IO looks at no more than the beginning of a path, and keygate would not see what it sees.
pub(super) fn asked(site: &Site, class: RouteClass, path: &Path<'_>, query: Option<&str>) -> Result<Option<Query>, Refusal> {
    if class != RouteClass::Socket {
        return Ok(None);
    }
    if !path.matches(site.upstream.dialect().base_paths(), "/socket.io") {
        return Err(Refusal::Engine(Wrong::Request));
    }
    Query::read(query).map(Some).map_err(Refusal::Engine)
}

impl Worker {
    /// Counts what was refused within a socket, where no answer and no line of the access log tells of it. `key`: known or claimed.
    fn refused_within(&self, upstream: &Upstream, client: IpAddr, refusal: &Refusal, key: Option<KeyId>) {
        let noted = refusal.is_of_note().then(|| guessing::network(client));
        self.refused(Some(&upstream.name), Refused { kind: refusal.kind(), noted, carrier: refusal.carrier().map(Carrier::as_str) }, key);
    }
}

/// What looks through the messages of a socket.
pub(super) fn down(worker: &Rc<Worker>, upstream: &Arc<Upstream>, engine: Option<&Engine>) -> Down {
    let (worker, upstream) = (Rc::clone(worker), Arc::clone(upstream));
    let search = Search::new(move || worker.gateway().sessions.secrets(&upstream));
    let seat = engine.map(Engine::seat);
    let mut down = Down::new(Some(search), seat.filter(|seat| seat.is_waiting()).cloned());
    if seat.is_some_and(|seat| seat.standing() == Standing::Native) {
        down.trust();
    }
    down
}

/// What judges the messages of clients of Emby and Jellyfin: by the rights that the key has when they come. People with logins of the
/// server's own may say all but what is for administrators, as in requests.
pub(super) fn judge(worker: &Rc<Worker>, upstream: &Arc<Upstream>, client: IpAddr, admission: &Admission) -> Option<Box<Judge>> {
    if upstream.kind == Kind::Audiobookshelf {
        return None;
    }
    let (worker, upstream) = (Rc::clone(worker), Arc::clone(upstream));
    let holder = admission.permit().map(|permit| (permit.key().id(), permit.key().digest(), permit.proof().carrier()));
    Some(Box::new(Judge::new(move |message| {
        let needs = messages::needs(message);
        let has = match &holder {
            Some((_, digest, _)) => worker.gateway().index.find(digest).map_or(Scopes::NONE, |key| key.scopes()),
            None => Scopes::FULL,
        };
        let missing = needs.without(has);
        if !missing.is_empty() {
            let (refusal, key) = match &holder {
                Some((id, _, carrier)) => (Refusal::denied(Denied::MissingScope { missing, has }, *carrier), Some(*id)),
                None => (Refusal::Restricted, None),
            };
            worker.refused_within(&upstream, client, &refusal, key);
        }
        missing.is_empty()
    })))
}

/// A request to Engine.IO's endpoint.
pub(super) struct Entering {
    pub(super) query: Query,
    pub(super) method: Method,
    pub(super) outbound: Outbound,
    pub(super) body: Incoming,
    pub(super) on_client: Option<OnUpgrade>,
}

impl Route<'_> {
    /// Forwards a request to Engine.IO's endpoint, once it is clear whose session it belongs to.
    pub(super) async fn engine(mut self, entering: Entering, notes: &mut Notes) -> Result<http::Response<GatewayBody>, Refusal> {
        let seat = self.seat(entering.query.sid.as_deref())?;
        if let (Some(trail), Some(permit)) = (notes.as_mut(), self.admission.permit()) {
            trail.admitted(permit);
        }
        match (entering.query.transport, entering.on_client) {
            (Transport::WebSocket, Some(client)) => {
                self.engine = Some(Box::new(Engine::new(seat, self.porter())));
                self.upgrade(entering.outbound, client, notes).await
            }
            (Transport::Polling, None) if entering.method == Method::GET => {
                self.poll(entering.query.sid, seat, entering.outbound.for_plain_answer(), notes).await
            }
            (Transport::Polling, None) if entering.method == Method::POST && entering.query.sid.is_some() => {
                self.post(entering.query.sid.as_deref(), seat, (entering.outbound.for_plain_answer(), entering.body), notes).await
            }
            _ => Err(Refusal::Engine(Wrong::Request)),
        }
    }

    pub(super) fn porter(&self) -> Rc<Porter> {
        Rc::new(Porter { worker: Rc::clone(self.visit.worker), site: Arc::clone(self.site), client: self.visit.client.ip })
    }

    pub(super) fn now(&self) -> Duration {
        self.visit.worker.gateway().clock.monotonic()
    }

    /// The seat of a session, which then agrees with the admission.
    fn seat(&mut self, sid: Option<&str>) -> Result<Arc<Seat>, Refusal> {
        let (table, now) = (&self.visit.worker.gateway().sockets, self.now());
        let Some(sid) = sid else {
            return Ok(Arc::new(match self.admission.permit() {
                Some(permit) => {
                    let place = table.of_key(permit.key().id(), now).map_err(|_| Refusal::TooManySockets)?;
                    Seat::of(permit.key(), place)
                }
                None => {
                    let place = table.wait(self.visit.client.ip, now).map_err(|_| Refusal::TooManySockets)?;
                    Seat::waiting(place, now + self.visit.settings.limits.header_timeout)
                }
            }));
        };
        let seat = table.find(&self.site.upstream.name, sid, now).ok_or(Refusal::UnknownSocket)?;
        seat.touch(now);
        match self.admission.permit() {
            Some(permit) if !seat.take(permit.key()).map_err(|_| Refusal::TooManySockets)? => return Err(Refusal::UnknownSocket),
            Some(_) => {}
            None if matches!(seat.standing(), Standing::Key(..)) => {
                let permit = self.porter().seated(&seat).ok_or_else(|| {
                    seat.close();
                    Refusal::UnknownSocket
                })?;
                self.run_on(permit);
            }
            None => {}
        }
        Ok(seat)
    }

    /// From now on the request runs on a key, and ends with it.
    pub(super) fn run_on(&mut self, permit: Permit) {
        self.visit.key.replace(Some(permit.lifeline().watch()));
        self.admission = Admission::Key(permit);
    }
}

/// Judges what comes within the sessions of one client.
pub(super) struct Porter {
    worker: Rc<Worker>,
    site: Arc<Site>,
    client: IpAddr,
}

impl Porter {
    /// `Err(None)`: there is no such key.
    fn admit(&self, verified: Option<Verified>, proof: Proof) -> Result<Permit, Option<Denied>> {
        let (gateway, verified) = (self.worker.gateway(), verified.ok_or(None)?);
        let account = gateway.sessions.account(verified.account());
        let (upstream, now) = (&self.site.upstream.name, gateway.clock.now());
        let wanted = policy::Wanted { upstream, needs: Scopes::of(Scope::Events), subject: None, now };
        let client = policy::Client { address: self.client, lifelines: &self.worker.lifelines, counted_at: None };
        policy::admit(verified, proof, account, wanted, client).map_err(Some)
    }

    async fn verdict(&self, seat: &Seat, credential: Option<Secret<String>>) -> Verdict {
        let text = credential.as_ref().map(|credential| credential.expose().as_str()).unwrap_or_default();
        let is_ours = ApiKey::claims_to_be_one(text.trim()) || carrier::holds_key(text);
        if self.site.native_logins && !text.is_empty() && !is_ours {
            return match seat.take_natively() {
                Ok(true) => Verdict::Native,
                Ok(false) => Verdict::Closed(Closing::OTHER_IDENTITY),
                Err(_) => Verdict::Closed(Closing::TOO_MANY),
            };
        }
        let gateway = self.worker.gateway();
        let carrier = Carrier::AuthPacket;
        let key = match ApiKey::parse(text) {
            Ok(key) => key,
            Err(why) if is_ours => return self.refused(seat, Refusal::Malformed(why, carrier), None),
            Err(_) if text.is_empty() => return self.refused(seat, Refusal::NoKey, None),
            Err(_) => return self.refused(seat, Refusal::ForeignCredential(carrier), None),
        };
        let (digest, id) = (gateway.hasher.digest(&key), Some(key.id()));
        let permit = match self.admit(gateway.index.find(&digest), Proof::Key(key, carrier)) {
            Ok(permit) => permit,
            // The client is told the same whatever it is, since a socket has no words for it.
            Err(Some(denied)) => return self.refused(seat, Refusal::denied(denied, Some(carrier)), id),
            Err(None) => return self.refused(seat, gateway.unknown(&digest, carrier), id),
        };
        match seat.take(permit.key()) {
            Ok(true) => {}
            Ok(false) => return Verdict::Closed(Closing::OTHER_IDENTITY),
            Err(_) => return Verdict::Closed(Closing::TOO_MANY),
        }
        match self.token(&permit).await {
            Ok(token) => Verdict::Token(token, Box::new(permit)),
            Err(error) => {
                tracing::warn!(%error, "a socket cannot be authenticated");
                Verdict::Closed(Closing::NO_SESSION)
            }
        }
    }

    /// A guess counts against the client's address, as any other guess at a key does. `key`: the one that it claims to be.
    fn refused(&self, seat: &Seat, refusal: Refusal, key: Option<KeyId>) -> Verdict {
        let refusal = self.worker.gateway().throttled(self.client, refusal);
        self.worker.refused_within(&self.site.upstream, self.client, &refusal, key);
        let (client, upstream, key_id) = (self.client, self.site.upstream.name.as_str(), key.map(tracing::field::display));
        let reason = Redacted(&refusal.to_string()).to_string();
        tracing::warn!(%client, upstream, key_id, refusal = refusal.kind(), reason, "refused within a socket");
        let is_throttled = matches!(refusal, Refusal::Guessing { .. });
        match seat.standing() {
            Standing::Waiting(_) if !seat.fail() && !is_throttled => Verdict::Refused,
            Standing::Waiting(_) => Verdict::Closed(Closing::GUESSES),
            Standing::Key(..) | Standing::Native | Standing::Closed => Verdict::Closed(Closing::OTHER_IDENTITY),
        }
    }

    /// The token that opens the socket for the permit's account. It is asked about first: a socket with a dead one would be told that
    /// its key is bad.
    async fn token(&self, permit: &Permit) -> Result<Secret<String>, SessionError> {
        let sessions = &self.worker.gateway().sessions;
        let id = sessions.session_id(permit.account(), permit.key().id());
        let mut session = sessions.current(id, Some(self.client)).await?;
        if permit.account().credential.is_renewable() && sessions.probe(&session).await == Ok(TokenState::Dead) {
            session = sessions.replace(&session, Some(self.client)).await?;
        }
        sessions.socket_token(&session, Some(self.client)).await
    }
}

impl Doorman for Porter {
    fn judge(self: Rc<Self>, seat: Arc<Seat>, credential: Option<Secret<String>>) -> Judging {
        Box::pin(async move { self.verdict(&seat, credential).await })
    }

    fn seated(&self, seat: &Seat) -> Option<Permit> {
        match seat.standing() {
            Standing::Key(_, digest) => self.admit(self.worker.gateway().index.find(&digest), Proof::Socket).ok(),
            Standing::Waiting(_) | Standing::Native | Standing::Closed => None,
        }
    }

    fn may_rule(&self, seat: &Seat) -> bool {
        let Standing::Key(id, digest) = seat.standing() else { return false };
        let has = self.worker.gateway().index.find(&digest).map_or(Scopes::NONE, |key| key.scopes());
        let is_ruler = has.contains(Scope::Admin);
        if !is_ruler {
            let missing = Denied::MissingScope { missing: Scopes::of(Scope::Admin), has };
            self.worker.refused_within(&self.site.upstream, self.client, &Refusal::Denied(missing, Carrier::AuthPacket), Some(id));
        }
        is_ruler
    }

    fn patience(&self, seat: &Seat) -> Duration {
        match seat.standing() {
            Standing::Waiting(until) => until.saturating_sub(self.worker.gateway().clock.monotonic()),
            Standing::Key(..) | Standing::Native | Standing::Closed => Duration::ZERO,
        }
    }
}
