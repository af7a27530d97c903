//! The one ordered list. The order of the steps is the security argument: what stands further down may rely on all that stands above.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use ipnet::IpNet;

use crate::carrier::{self, Carrier, Presented};
use crate::forward::body::GatewayBody;
use crate::forward::forwarded::{self, ClientAddress, Forwarding};
use crate::forward::rewrite::{Admitted, Origin, Outbound, Wanted};
use crate::forward::scrub::Treatment;
use crate::gateway::Worker;
use crate::gateway::cut::unless_cut;
use crate::gateway::exchange::{Route, tell};
use crate::gateway::guessing;
use crate::gateway::handed::{self, Asked, TicketFault};
use crate::gateway::inspect::{self, Head, Upgrade};
use crate::gateway::login;
use crate::gateway::native::{self, Errand};
use crate::gateway::refusal::Refusal;
use crate::gateway::respond;
use crate::gateway::routing::{Settings, Site};
use crate::gateway::shares::Cookies;
use crate::gateway::sockets::{self, Entering};
use crate::gateway::trail::Trail;
use crate::keys::index::Verified;
use crate::keys::{ApiKey, KeyId, Scope, Scopes};
use crate::lifeline::Watch;
use crate::limits::live::Live;
use crate::policy::{self, Admission, Denied, Permit, Proof};
use crate::server::connection::Peer;
use crate::telemetry::traces::span::Traced;
use crate::telemetry::traces::{Seen, Tracer};
use crate::upstream::Kind;
use crate::upstream::dialect::libraries::{Reach, Subject};
use crate::upstream::dialect::{RouteClass, Routed};
use crate::upstream::session::Session;
use crate::usage::tally::Refused;

pub(super) type Notes = Option<Box<Trail>>;

impl Worker {
    /// Answers a request, always: a refusal is an answer too. Leaves one line in the log.
    pub async fn serve(self: &Rc<Self>, peer: &Peer, request: Request<Incoming>) -> Response<GatewayBody> {
        let settings = self.gateway().settings();
        let is_head = request.method() == Method::HEAD;
        let client = forwarded::client_address(peer.address.ip(), request.headers(), &settings.trusted_proxies);
        if forwarded::is_unbelieved_proxy(peer.address.ip(), request.headers(), &settings.trusted_proxies) {
            self.gateway().note_unbelieved_proxy(peer.address.ip());
        }
        let mut notes = self.notes(&settings, (peer, &client), &request);
        let ip = client.ip;
        let visit = Visit {
            worker: self,
            peer,
            settings: &settings,
            client,
            key: RefCell::default(),
            limits: RefCell::default(),
            claimed: Cell::default(),
        };
        let answer = unless_cut(&visit.key, pin!(visit.pass(request, &mut notes))).await;
        match answer {
            Ok(mut response) => {
                visit.tell_limits(&mut response);
                if let Some(trail) = notes {
                    trail.answered(&response);
                }
                response
            }
            Err(refusal) => {
                let refusal = visit.worded(self.gateway().throttled(ip, refusal));
                let claimed = visit.claimed.get();
                if let Some(trail) = notes {
                    trail.refused(&refusal, claimed.map(|(key, _)| key));
                }
                self.note(&refusal, ip, claimed);
                let mut answer = respond::refusal(&refusal);
                visit.tell_limits(&mut answer);
                if is_head { respond::without_body(answer) } else { answer }
            }
        }
    }
}

impl Worker {
    /// What becomes an access line and is counted; nothing where neither is wanted.
    fn notes(&self, settings: &Settings, (peer, client): (&Peer, &ClientAddress), request: &Request<Incoming>) -> Notes {
        let (has_line, tally, tracer) = (settings.access_log, self.tally(), settings.tracer.as_ref());
        (has_line || tally.is_some() || tracer.is_some()).then(|| {
            let mut trail = Box::new(Trail::begin(self.gateway().clock(), client.ip, request, tally.cloned()));
            if let Some(tracer) = tracer {
                trail.trace(self.traced(tracer, (peer, client, &settings.trusted_proxies), request));
            }
            if has_line {
                trail.keep_line();
            }
            trail
        })
    }

    /// What is refused is in the audit log also where nothing is counted. `claimed`: as in [`Visit`].
    fn note(&self, refusal: &Refusal, client: IpAddr, claimed: Option<(KeyId, &'static str)>) {
        if self.tally().is_none() && refusal.is_of_note() {
            let carrier = claimed.map(|(_, carrier)| carrier).or_else(|| refusal.carrier().map(Carrier::as_str));
            let refused = Refused { kind: refusal.kind(), noted: Some(guessing::network(client)), carrier };
            self.refused(None, refused, claimed.map(|(key, _)| key));
        }
    }

    /// What becomes spans. Whose word on traces counts is decided here.
    #[inline(never)]
    fn traced(
        &self,
        tracer: &Arc<Tracer>,
        (peer, client, trusted): (&Peer, &ClientAddress, &[IpNet]),
        request: &Request<Incoming>,
    ) -> Option<Box<Traced>> {
        let host = match &client.host_from_proxy {
            Some(host) => host.clone(),
            None => host_header(request.uri(), request.headers()),
        };
        let address = peer.address.ip();
        let seen = Seen {
            headers: request.headers(),
            peer: address,
            is_trusted: forwarded::is_trusted(address, trusted),
            is_secure: client.secure_from_proxy.unwrap_or(peer.is_tls),
            host: host.to_str().ok(),
        };
        tracer.begin(seen, &**self.gateway().clock())
    }
}

/// One request's surroundings.
pub(super) struct Visit<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) peer: &'a Peer,
    pub(super) settings: &'a Settings,
    pub(super) client: ClientAddress,
    /// What the request runs on, once it is admitted with a key.
    pub(super) key: RefCell<Option<Watch>>,
    /// The limits of the key that it was judged by, if that has some.
    pub(super) limits: RefCell<Option<Arc<Live>>>,
    /// The key that was not admitted, known or claimed, and where it or what stands for it was.
    pub(super) claimed: Cell<Option<(KeyId, &'static str)>>,
}

impl Visit<'_> {
    /// Every step, in order. What is still in `notes` at the end is logged by the caller; a body or a tunnel takes it along.
    async fn pass(&self, request: Request<Incoming>, notes: &mut Notes) -> Result<Response<GatewayBody>, Refusal> {
        let (head, body) = request.into_parts();
        let mut head = Box::new(head);
        let uri = std::mem::take(&mut head.uri);

        // 1. What is refused whoever asks; which upstream it is for.
        let shown = Head { method: &head.method, uri: &uri, version: head.version, headers: &head.headers };
        let inspected = inspect::inspect(shown, &self.settings.limits, self.listener())?;
        if inspected.server_wide {
            return Ok(respond::options());
        }
        let site = Arc::clone(self.settings.site(self.peer.upstream.as_ref(), inspected.host.name()).ok_or(Refusal::UnknownHost)?);
        if let Some(trail) = notes {
            trail.upstream = Some(site.upstream.name.clone());
        }
        let host = host_header(&uri, &head.headers);
        let websocket = inspected.upgrade == Some(Upgrade::WebSocket);
        // Clients may or may not have the base path in front: it is judged without, and put in front again.
        let (path, query) = (inspected.path.below(&site.upstream.base_path), inspected.query);
        if let Some(answer) = preflight(&head) {
            return Ok(answer);
        }

        // 2. Every credential is found. Logins have one of their own and people may have one of the server's own: another way, both rare.
        let Routed { class, mut needs, mut reach } = site.upstream.dialect().routed(&head.method, &path);
        if inspected.upgrade == Some(Upgrade::WebSocket) {
            // Emby and Jellyfin open a socket on any path; who knows of none there answers a plain request.
            (needs, reach) = (needs.or(Scopes::of(Scope::Events)), Reach::Everything);
        }
        let found = carrier::read(&head.headers, query, site.upstream.kind == Kind::Audiobookshelf)?;
        let asked = Asked {
            upstream: &site.upstream,
            method: &head.method,
            path: &path,
            query: found.query.as_deref(),
            class,
            needs,
            reach,
            websocket,
        };
        if login::is_account_route(class) || native::is_native(self.worker.gateway(), &site, &found.presented, asked) {
            let errand = Errand { site: &site, path: &path, class, uri: &uri, host, head, websocket };
            return Box::pin(self.person(errand, found, body, notes)).await;
        }
        // All of them are taken out of the request.
        let cookies = Cookies::on(class, &path);
        let share_cookie = cookies.wanted(&head.headers);
        let taken = found.take_out(&mut head.headers);
        if let Some(cookie) = share_cookie {
            head.headers.insert(COOKIE, cookie);
        }

        // 3. Who is it, and may it pass?
        let asked = Asked {
            upstream: &site.upstream,
            method: &head.method,
            path: &path,
            query: taken.query.as_deref(),
            class,
            needs,
            reach,
            websocket,
        };
        let admission = match self.judge(taken.presented, &site, asked, notes)? {
            // A socket is never public, also where its path is (pyemby's is "/").
            Judged::Admitted(Admission::Open(_)) if websocket => return Err(Refusal::NoKey),
            Judged::Admitted(admission) => admission,
            Judged::Answered(answer) if head.method == Method::HEAD => return Ok(respond::without_body(answer)),
            Judged::Answered(answer) => return Ok(answer),
        };

        let engine = sockets::asked(&site, class, &path, taken.query.as_deref())?;

        // 4. The session of the key's account.
        let session = match &admission {
            Admission::Key(permit) if engine.is_none() => Some(self.session(permit).await?),
            // The media server asks for none where clients authenticate later.
            Admission::Key(_) | Admission::Open(_) | Admission::Native(_) | Admission::Opening(_) => None,
        };

        let asked = Asked { upstream: &site.upstream, method: &head.method, path: &path, query: None, class, needs, reach, websocket };
        let handing = handed::handling(self.worker.gateway(), asked, &admission, &mut head.headers);

        // 5. The request in the upstream's form: nothing in it is the client's word about who it is.
        let on_client = head.extensions.remove::<OnUpgrade>().filter(|_| websocket);
        let wanted = Wanted { uri: &uri, path: &path, query: taken.query, websocket: on_client.is_some() };
        let origin = self.origin(host, &site);
        let mut treatment = Treatment::of(&site.upstream, class, &head.method, &path);
        treatment.prepare(&mut head.headers, (site.upstream.kind, &path), &origin.forwarding);
        tell(notes, &mut head.headers);
        let outbound =
            Outbound::new(head, wanted, origin, Admitted { admission: &admission, session: session.as_ref(), upstream: &site.upstream })?;

        // 6. To the upstream and back.
        let route = Route { visit: self, site: &site, path: &path, treatment, admission, session, cookies, engine: None };
        if let Some(query) = engine {
            let method = outbound.method().clone();
            return Box::pin(route.engine(Entering { query, method, outbound, body, on_client }, notes)).await;
        }
        match on_client {
            None => {
                let answer = route.exchange(outbound, body, notes).await?;
                Ok(match handing {
                    None => answer,
                    Some(handing) => handing.hear(answer),
                })
            }
            // Rare, and large: not a part of every connection's memory.
            Some(client) => Box::pin(route.upgrade(outbound, client, notes)).await,
        }
    }

    const fn listener(&self) -> inspect::Listener {
        if self.peer.is_tls { inspect::Listener::Tls } else { inspect::Listener::Clear }
    }

    /// Steps from a presented credential to an admission. Memory only.
    fn judge(&self, presented: Presented, site: &Site, asked: Asked<'_>, notes: &mut Notes) -> Result<Judged, Refusal> {
        let (gateway, class) = (self.worker.gateway(), asked.class);
        let (verified, proof) = match presented {
            Presented::Key(key, carrier) => (self.known_key(&key, carrier)?, Proof::Key(key, carrier)),
            Presented::Ticket(ticket, carrier) => match handed::by_ticket(gateway, &ticket, asked) {
                Ok(verified) => (verified, Proof::Ticket(ticket, carrier)),
                Err(TicketFault::Unknown) => return Err(Refusal::UnknownTicket(carrier)),
                Err(TicketFault::Elsewhere) => return Err(Refusal::TicketElsewhere(carrier)),
            },
            Presented::Malformed(why, carrier) => return Err(Refusal::Malformed(why, carrier)),
            Presented::Nothing => match handed::by_capability(gateway, asked) {
                Some(verified) => (verified, Proof::Capability),
                None => return without_key(class, site, Refusal::NoKey),
            },
            Presented::Foreign(carrier) => return without_key(class, site, Refusal::ForeignCredential(carrier)),
        };
        let carrier = proof.carrier();
        let refusal = |denied| Refusal::denied(denied, carrier);
        if let Some(trail) = notes {
            trail.carrier = Some(proof.as_str());
            trail.key = Some(verified.clone());
        }
        let permit = self.admit(verified, proof, site, asked.wanted()).map_err(refusal)?;
        if let Some(trail) = notes {
            trail.account = Some(Arc::clone(permit.account()));
        }
        Ok(Judged::Admitted(Admission::Key(permit)))
    }

    /// The key, or a note of the id that it claims.
    pub(super) fn known_key(&self, key: &ApiKey, carrier: Carrier) -> Result<Verified, Refusal> {
        let gateway = self.worker.gateway();
        let digest = gateway.hasher.digest(key);
        let found = gateway.index.find(&digest);
        found.ok_or_else(|| {
            self.claimed.set(Some((key.id(), carrier.as_str())));
            gateway.unknown(&digest, carrier)
        })
    }

    pub(super) fn admit(
        &self,
        verified: Verified,
        proof: Proof,
        site: &Site,
        (needs, subject): (Scopes, Subject<'_>),
    ) -> Result<Permit, Denied> {
        let gateway = self.worker.gateway();
        let account = gateway.sessions.account(verified.account());
        let wanted = policy::Wanted { upstream: &site.upstream.name, needs, subject: Some(subject), now: gateway.clock.now() };
        let client = self.counted(verified.limits());
        let claimed = (verified.id(), proof.as_str());
        let permit = policy::admit(verified, proof, account, wanted, client).inspect_err(|denied| self.uncounted(*denied, claimed))?;
        self.key.replace(Some(permit.lifeline().watch()));
        Ok(permit)
    }

    pub(super) async fn session(&self, permit: &Permit) -> Result<Arc<Session>, Refusal> {
        let sessions = &self.worker.gateway().sessions;
        let id = sessions.session_id(permit.account(), permit.key().id());
        match sessions.live(id) {
            Some(session) => Ok(session),
            // Rare, and large: not a part of every connection's memory.
            None => Ok(Box::pin(sessions.current(id, Some(self.client.ip))).await?),
        }
    }

    pub(super) fn origin(&self, host: HeaderValue, site: &Site) -> Origin {
        Origin {
            host: if site.forward_host { host.clone() } else { site.upstream.authority.clone() },
            forwarding: Forwarding {
                address: if self.client.ip == self.peer.address.ip() {
                    self.peer.header.clone()
                } else {
                    forwarded::address_value(self.client.ip)
                },
                secure: self.client.secure_from_proxy.unwrap_or(self.peer.is_tls),
                host: self.client.host_from_proxy.clone().unwrap_or(host),
            },
        }
    }
}

enum Judged {
    Admitted(Admission),
    Answered(Response<GatewayBody>),
}

/// A request without a keygate key: open routes only.
fn without_key(route: RouteClass, site: &Site, refusal: Refusal) -> Result<Judged, Refusal> {
    match route {
        RouteClass::Answered(answer) => Ok(Judged::Answered(respond::own(answer))),
        RouteClass::Socket if matches!(refusal, Refusal::NoKey) => {
            policy::opening(route).map(|pass| Judged::Admitted(Admission::Opening(pass))).ok_or(refusal)
        }
        route => policy::open(route, site.open).map(|pass| Judged::Admitted(Admission::Open(pass))).ok_or(refusal),
    }
}

/// A preflight carries no credential by its nature (Fetch standard, section 4.8): it is answered here and says nothing about a key.
fn preflight(head: &Parts) -> Option<Response<GatewayBody>> {
    let headers = &head.headers;
    let is_preflight =
        head.method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && headers.contains_key(ORIGIN);
    is_preflight.then(|| respond::preflight(headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned()))
}

/// The host that the client named, as a header: on HTTP/2 it is a part of the target.
fn host_header(uri: &Uri, headers: &HeaderMap) -> HeaderValue {
    let authority = || uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    headers.get(HOST).cloned().or_else(authority).unwrap_or_else(|| HeaderValue::from_static(""))
}
