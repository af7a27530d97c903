//! The login shim: login forms, renewals and logouts with a key in the password's place, answered by keygate, so that apps that know
//! nothing but a server, a user name and a password work with keys, and stay logged in for as long as the key lives.
//!
//! The key is judged as in any carrier. What such a request presents beside it must be the same key.

mod form;
mod reply;
pub(super) mod upstream;

use std::sync::Arc;

use http::HeaderMap;
use http::{HeaderName, Response};
use hyper::body::Incoming;

use crate::carrier::{self, Presented};
use crate::forward::body::{GatewayBody, RequestBody};
use crate::gateway::native::Errand;
use crate::gateway::pipeline::{Notes, Visit};
use crate::gateway::refusal::Refusal;
use crate::keys::Scopes;
use crate::policy::{Permit, Proof};
use crate::upstream::Kind;
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::libraries::{Reach, Subject};

/// Audiobookshelf gives refresh tokens in the body to who asks so, in these very letters.
const RETURN_TOKENS: HeaderName = HeaderName::from_static("x-return-tokens");

/// How a client wants its refresh token (Audiobookshelf).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refreshing {
    in_body: bool,
    in_cookie: bool,
}

/// Whether requests of a class have a credential in a place of their own.
pub(super) const fn is_account_route(class: RouteClass) -> bool {
    matches!(class, RouteClass::Login | RouteClass::Refresh | RouteClass::Logout)
}

impl Visit<'_> {
    /// A request to a login, refresh or logout route, from its head to its answer.
    pub(super) async fn account_route(
        &self,
        errand: Errand<'_>,
        beside: Presented,
        body: Incoming,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        match errand.class {
            RouteClass::Login => self.log_in(errand, beside, body, notes).await,
            RouteClass::Refresh => self.renew(errand, beside, body, notes).await,
            _ => self.log_out(errand, beside, body, notes).await,
        }
    }

    async fn log_in(
        &self,
        errand: Errand<'_>,
        beside: Presented,
        body: Incoming,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let bytes = form::read(body, self.settings.limits.header_timeout).await?;
        let in_form = form::presented(&bytes, &errand.head.headers)?.ok_or(Refusal::BadForm)?;
        let presented = beside.joined(in_form)?;
        if presented.is_native() && errand.site.native_logins {
            return self.native(errand, None, RequestBody::held(vec![bytes]), notes).await;
        }
        let in_body = wants_tokens(&errand.head.headers);
        let permit = self.known(presented, &errand, notes)?;
        self.welcome(&errand, permit, Refreshing { in_body, in_cookie: !in_body }).await
    }

    async fn renew(
        &self,
        errand: Errand<'_>,
        beside: Presented,
        body: Incoming,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let (token, in_body) = carrier::refresh_token(&errand.head.headers)?;
        let presented = beside.joined(token)?;
        if presented.is_native() && errand.site.native_logins {
            let body = RequestBody::from_client(body, self.settings.limits.idle_timeout, false);
            return self.native(errand, None, body, notes).await;
        }
        let permit = self.known(presented, &errand, notes)?;
        self.welcome(&errand, permit, Refreshing { in_body, in_cookie: true }).await
    }

    /// Nothing is ended: the session belongs to all of the account's keys. A client whose key is dead may forget it too, so only a bad
    /// key in a carrier is refused, as everywhere.
    async fn log_out(
        &self,
        errand: Errand<'_>,
        beside: Presented,
        body: Incoming,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let (token, _) = carrier::refresh_token(&errand.head.headers)?;
        if errand.site.native_logins && beside.is_native() && token.is_native() {
            let body = RequestBody::from_client(body, self.settings.limits.idle_timeout, false);
            return self.native(errand, None, body, notes).await;
        }
        if !matches!(beside, Presented::Nothing) {
            self.known(beside, &errand, notes)?;
        }
        Ok(reply::logout(errand.site.upstream.kind))
    }

    /// The key that was presented, admitted and noted. Every key may log in: what it may do then is another matter.
    fn known(&self, presented: Presented, errand: &Errand<'_>, notes: &mut Notes) -> Result<Permit, Refusal> {
        match presented {
            Presented::Key(key, carrier) => {
                let verified = self.known_key(&key, carrier)?;
                let subject = Subject { kind: errand.site.upstream.kind, reach: Reach::Thing, path: errand.path, query: None };
                let permit = self.admit(verified, Proof::Key(key, carrier), errand.site, (Scopes::NONE, subject));
                let permit = permit.map_err(|denied| Refusal::denied(denied, Some(carrier)))?;
                if let Some(trail) = notes {
                    trail.carrier = Some(permit.proof().as_str());
                    trail.key = Some(permit.key().clone());
                    trail.account = Some(Arc::clone(permit.account()));
                }
                Ok(permit)
            }
            Presented::Malformed(why, carrier) => Err(Refusal::Malformed(why, carrier)),
            Presented::Ticket(_, carrier) => Err(Refusal::UnknownKey(carrier)),
            Presented::Foreign(carrier) => Err(Refusal::ForeignCredential(carrier)),
            Presented::Nothing => Err(Refusal::NoKey),
        }
    }

    /// The answer to a login or renewal with a good key.
    async fn welcome(&self, errand: &Errand<'_>, permit: Permit, refreshing: Refreshing) -> Result<Response<GatewayBody>, Refusal> {
        let Proof::Key(key, _) = permit.proof() else { return Err(Refusal::NoKey) };
        let body = self.who_it_is(errand.site, &permit, key, refreshing.in_body).await?;
        let sets_cookie = refreshing.in_cookie && errand.site.upstream.kind == Kind::Audiobookshelf;
        let secure = self.client.secure_from_proxy.unwrap_or(self.peer.is_tls);
        Ok(reply::login(body, sets_cookie.then_some((key, secure))))
    }
}

fn wants_tokens(headers: &HeaderMap) -> bool {
    headers.get(RETURN_TOKENS).is_some_and(|value| value == "true")
}
