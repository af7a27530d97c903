//! `native_logins = "pass"`: people with credentials of the server's own, next to keys.
//!
//! Their requests are forwarded with their own credential as it came, and their answers as they came. What the upstream gives to
//! everybody (media, unknown routes) stays closed to everybody: there a credential is needed, and since a server ignores an unknown
//! one where it needs none, it is asked about before, once in a while.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, Response, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustc_hash::FxHashMap;

use crate::carrier::{self, Carrier, CarrierError, Found, Presented};
use crate::forward::body::{GatewayBody, RequestBody};
use crate::forward::rewrite::{Admitted, Outbound, Wanted};
use crate::forward::scrub::Treatment;
use crate::forward::send;
use crate::gateway::Gateway;
use crate::gateway::exchange::{Route, ask, heard, tell};
use crate::gateway::handed::{self, Asked};
use crate::gateway::login::{self, upstream::failed};
use crate::gateway::pipeline::{Notes, Visit};
use crate::gateway::refusal::Refusal;
use crate::gateway::routing::Site;
use crate::gateway::shares::Cookies;
use crate::keys::{KeyDigest, Scopes};
use crate::policy::{self, Admission, Owned};
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::call;
use crate::upstream::client::Partition;
use crate::upstream::dialect::libraries::Reach;
use crate::upstream::dialect::{Device, GrantError, RouteClass, TokenState};
use crate::upstream::session::SessionError;

/// How long a credential that the upstream called good counts as good on routes where the upstream does not look at it.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Credentials that one core remembers.
const MOST_REMEMBERED: usize = 4096;

/// Logins of people by other ways than the form, for GET and POST: OpenID Connect of Audiobookshelf, Quick Connect of Jellyfin. (To
/// *authorise* a Quick Connect is another matter: it makes a credential.)
const OTHER_LOGINS: &[(Kind, &[&str])] = &[
    (Kind::Audiobookshelf, &["/auth/openid", "/auth/openid/callback", "/auth/openid/mobile-redirect"]),
    (Kind::Jellyfin, &["/QuickConnect/Initiate", "/QuickConnect/Connect", "/Users/AuthenticateWithQuickConnect"]),
];

/// A request on the way that logins and natives take.
pub(super) struct Errand<'a> {
    pub(super) site: &'a Arc<Site>,
    pub(super) path: &'a Path<'a>,
    pub(super) class: RouteClass,
    /// The target as it came.
    pub(super) uri: &'a Uri,
    pub(super) host: HeaderValue,
    /// With nothing taken out of it.
    pub(super) head: Box<Parts>,
    pub(super) websocket: bool,
}

/// The credentials that one core knows to be good.
#[derive(Debug, Default)]
pub(super) struct Remembered(RefCell<FxHashMap<[u8; 32], Duration>>);

impl Remembered {
    fn is_good(&self, digest: &KeyDigest, now: Duration) -> bool {
        self.0.borrow().get(digest.as_bytes()).is_some_and(|until| now < *until)
    }

    fn remember(&self, digest: &KeyDigest, now: Duration) {
        let mut good = self.0.borrow_mut();
        if good.len() >= MOST_REMEMBERED {
            good.retain(|_, until| now < *until);
        }
        if good.len() < MOST_REMEMBERED {
            good.insert(*digest.as_bytes(), now + GOOD_FOR);
        }
    }
}

/// Whether a request without anything of keygate's goes the way of natives. Audiobookshelf's socket has its credential inside.
/// An id that was handed out to a key stands for that key.
pub(super) fn is_native(gateway: &Gateway, site: &Site, presented: &Presented, asked: Asked<'_>) -> bool {
    let may = site.native_logins && presented.is_native() && asked.class != RouteClass::Socket;
    may && !(matches!(presented, Presented::Nothing) && handed::by_capability(gateway, asked).is_some())
}

impl Visit<'_> {
    /// A login, or a request that holds nothing of keygate's, from its head to its answer.
    pub(super) async fn person(
        &self,
        errand: Errand<'_>,
        found: Found<'_>,
        body: Incoming,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        if login::is_account_route(errand.class) {
            return self.account_route(errand, found.presented, body, notes).await;
        }
        let carrier = if let Presented::Foreign(carrier) = found.presented { Some(carrier) } else { None };
        let body = RequestBody::from_client(body, self.settings.limits.idle_timeout, false);
        self.native(errand, carrier, body, notes).await
    }

    /// A request with the person's own credential, or with none, from its head to its answer. `carrier`: where the credential is.
    pub(super) async fn native(
        &self,
        errand: Errand<'_>,
        carrier: Option<Carrier>,
        body: RequestBody,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let Errand { site, path, uri, .. } = errand;
        let class = self.native_class(&errand);
        if matches!(class, RouteClass::Login | RouteClass::Refresh) {
            let gateway = self.worker.gateway();
            gateway.native_logins.count(self.client.ip).map_err(|often| Refusal::TooManyLogins(often.retry_after_secs))?;
        }
        let pass = match policy::native(class, site.open, Owned::Nothing) {
            Ok(pass) => pass,
            Err(policy::NativeDenied::Restricted) => return Err(Refusal::Restricted),
            Err(policy::NativeDenied::NeedsCredential) => {
                let owned = self.owned(&errand, class, carrier).await?;
                policy::native(class, site.open, owned).map_err(|_| Refusal::NoKey)?
            }
        };
        if let Some(trail) = notes {
            trail.carrier = carrier.map(Carrier::as_str);
        }
        let Errand { mut head, host, websocket, .. } = errand;
        if uri.query().is_some_and(carrier::holds_key) {
            return Err(CarrierError::Misplaced.into());
        }
        Found::leave_native(&mut head.headers);
        tell(notes, &mut head.headers);
        let on_client = head.extensions.remove::<OnUpgrade>().filter(|_| websocket);
        let admission = Admission::Native(pass);
        let asked = Asked {
            upstream: &site.upstream,
            method: &head.method,
            path,
            query: None,
            class,
            needs: Scopes::NONE,
            reach: Reach::Thing,
            websocket,
        };
        let handing = handed::handling(self.worker.gateway(), asked, &admission, &mut head.headers);
        let wanted = Wanted { uri, path, query: uri.query().map(Into::into), websocket: on_client.is_some() };
        let admitted = Admitted { admission: &admission, session: None, upstream: &site.upstream };
        let outbound = Outbound::new(head, wanted, self.origin(host, site), admitted)?;
        let treatment = Treatment::of(&site.upstream, class, outbound.method(), path);
        let route = Route { visit: self, site, path, treatment, admission, session: None, cookies: Cookies::Dropped, engine: None };
        match on_client {
            Some(client) => route.upgrade(outbound, client, notes).await,
            None => {
                ask(notes, &site.upstream);
                let exchange = send::send(&self.worker.pool, &site.upstream, Partition::Native, outbound, body).await;
                heard(notes, exchange.as_ref().ok().map(|exchange| &exchange.response));
                let answer = route.respond(exchange?, notes).await?;
                Ok(match handing {
                    None => answer,
                    Some(handing) => handing.hear(answer),
                })
            }
        }
    }

    /// What a request has of the server's own, where it needs something.
    async fn owned(&self, errand: &Errand<'_>, class: RouteClass, carrier: Option<Carrier>) -> Result<Owned, Refusal> {
        let Errand { site, path, websocket, .. } = *errand;
        let asked = Asked {
            upstream: &site.upstream,
            method: &errand.head.method,
            path,
            query: None,
            class,
            needs: Scopes::NONE,
            reach: Reach::Thing,
            websocket,
        };
        match carrier {
            Some(carrier) => self.check(errand, carrier).await.map(|()| Owned::Checked),
            None if handed::is_of_person(self.worker.gateway(), asked) => Ok(Owned::HandedOut),
            None => Err(Refusal::NoKey),
        }
    }

    /// The class of a route for natives: no socket is ever open, and there are more ways to log in. A handshake does not open what is
    /// restricted: who does not know of WebSockets on a path answers it as a plain request.
    fn native_class(&self, errand: &Errand<'_>) -> RouteClass {
        let dialect = errand.site.upstream.dialect();
        let mut others = OTHER_LOGINS.iter().filter(|(kind, _)| *kind == dialect.kind()).flat_map(|(_, patterns)| *patterns);
        if errand.websocket {
            if errand.class == RouteClass::Restricted { RouteClass::Restricted } else { RouteClass::Keyed }
        } else if others.any(|pattern| errand.path.matches(dialect.base_paths(), pattern)) {
            RouteClass::Login
        } else {
            errand.class
        }
    }

    /// Whether the upstream knows the credential of a request: asked now, or a short while ago.
    async fn check(&self, errand: &Errand<'_>, carrier: Carrier) -> Result<(), Refusal> {
        let gateway = self.worker.gateway();
        let is_abs = errand.site.upstream.kind == Kind::Audiobookshelf;
        let token = carrier::native_token(&errand.head.headers, errand.uri.query(), is_abs).ok_or(Refusal::UnknownNative(carrier))?;
        let now = gateway.clock.monotonic();
        let digest = gateway.hasher.digest_of(errand.site.upstream.name.as_str(), &token);
        if self.worker.natives.is_good(&digest, now) {
            return Ok(());
        }
        // Else who guesses here would make the upstream work for each guess.
        if let Err(often) = gateway.guesses.check(self.client.ip) {
            let refused = Box::new(Refusal::UnknownNative(carrier));
            return Err(Refusal::Guessing { refused, retry_after_secs: often.retry_after_secs });
        }
        if !ask_about(errand.site, Secret::new(token), self.client.ip).await? {
            return Err(Refusal::UnknownNative(carrier));
        }
        self.worker.natives.remember(&digest, now);
        Ok(())
    }
}

/// Asks the upstream whether a token is good, without a word about devices: a server would write it to the token's record.
async fn ask_about(site: &Site, token: Secret<String>, client: IpAddr) -> Result<bool, Refusal> {
    let dialect = site.upstream.dialect();
    let device = Device { client: "keygate".to_owned(), id: String::new() };
    let mut call = dialect.probe(&token, None, &device);
    if dialect.kind() == Kind::Emby {
        call.headers.remove(AUTHORIZATION);
    }
    let answer = call::call(&site.upstream, call, Some(client)).await.map_err(failed)?;
    match dialect.read_probe(&answer) {
        Ok(state) => Ok(matches!(state, TokenState::Alive { .. })),
        Err(GrantError::Limited { retry_after_secs }) => {
            Err(Refusal::Session(SessionError::Waiting { why: "the media server limits requests".to_owned(), retry_after_secs }))
        }
        Err(error) => Err(Refusal::Session(SessionError::Unreachable(error.to_string()))),
    }
}
