//! Requests that come with something handed out in the place of a key, and answers that hand something out.

use std::sync::Arc;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::forward::body::GatewayBody;
use crate::gateway::Gateway;
use crate::handouts::{Handouts, Holder, Learning};
use crate::keys::index::Verified;
use crate::keys::{Scopes, Ticket};
use crate::policy::{Admission, Proof};
use crate::target::Path;
use crate::upstream::client::Upstream;
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::capability::{self, Handling};
use crate::upstream::dialect::libraries::{Reach, Subject};
use crate::upstream::{Kind, UpstreamName};

/// What a request asks for, as far as handouts go.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) method: &'a Method,
    pub(super) path: &'a Path<'a>,
    /// Without carriers.
    pub(super) query: Option<&'a str>,
    pub(super) class: RouteClass,
    /// What a key must have for it.
    pub(super) needs: Scopes,
    /// How far across libraries it goes.
    pub(super) reach: Reach,
    /// A WebSocket handshake.
    pub(super) websocket: bool,
}

/// Why a ticket does not open what is asked for.
pub(super) enum TicketFault {
    /// Nobody was given it, or it has died.
    Unknown,
    /// It is one, but not for this route.
    Elsewhere,
}

impl Asked<'_> {
    /// What a key is judged by.
    pub(super) const fn wanted(&self) -> (Scopes, Subject<'_>) {
        (self.needs, Subject { kind: self.upstream.kind, reach: self.reach, path: self.path, query: self.query })
    }

    /// Emby opens a socket on any path.
    fn is_reading(&self) -> bool {
        !self.websocket && (self.method == Method::GET || self.method == Method::HEAD)
    }
}

/// The key that a ticket stands for: for reading media and pictures of its upstream, and nothing else.
pub(super) fn by_ticket(gateway: &Gateway, ticket: &Ticket, asked: Asked<'_>) -> Result<Verified, TicketFault> {
    let is_for_it = matches!(asked.class, RouteClass::Media(_) | RouteClass::Image | RouteClass::Capability);
    if !is_for_it || !asked.is_reading() {
        return Err(TicketFault::Elsewhere);
    }
    gateway.handouts.by_ticket(ticket, &asked.upstream.name).ok_or(TicketFault::Unknown)
}

/// The key that an id in the path or the query stands for, in a request without any credential.
pub(super) fn by_capability(gateway: &Gateway, asked: Asked<'_>) -> Option<Verified> {
    if !asked.is_reading() {
        return None;
    }
    let by = capability::asked_by(asked.upstream.kind, asked.class, asked.path, asked.query)?;
    gateway.handouts.by_capability(by.id, by.item, &asked.upstream.name)
}

/// Whether an id in the path stands for a person who opened it, in a request without any credential. Emby's and Jellyfin's apps send their
/// credential with all that they play.
pub(super) fn is_of_person(gateway: &Gateway, asked: Asked<'_>) -> bool {
    let by = if asked.is_reading() { capability::asked_by(asked.upstream.kind, asked.class, asked.path, None) } else { None };
    by.is_some_and(|by| gateway.handouts.is_of_person(by.id, &asked.upstream.name))
}

/// What is to be done once the answer is there. Rare, so that a request has no more than a pointer to it.
pub(super) enum Handing {
    Learn(Box<Learning>),
    KeepGoing(Noted, Holder),
    Forget(Noted),
}

/// An id in a request.
pub(super) struct Noted {
    handouts: Arc<Handouts>,
    upstream: UpstreamName,
    id: String,
}

/// Looks whether a request's answer will hand something out, or its success end something. Answers that are to be read are asked for
/// without compression.
pub(super) fn handling(gateway: &Gateway, asked: Asked<'_>, admission: &Admission, headers: &mut HeaderMap) -> Option<Box<Handing>> {
    if asked.class != RouteClass::Keyed {
        return None;
    }
    let handling = capability::handling(asked.upstream.kind, asked.method, asked.path)?;
    let holder = match admission {
        Admission::Key(permit) if matches!(permit.proof(), Proof::Key(..)) => Holder::Key(permit.key().clone()),
        Admission::Native(_) if asked.upstream.kind == Kind::Audiobookshelf => Holder::Person,
        _ => return None,
    };
    let noted = |id: &str| Noted { handouts: Arc::clone(&gateway.handouts), upstream: asked.upstream.name.clone(), id: id.to_owned() };
    Some(Box::new(match handling {
        Handling::HandsOut { field, item } => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let (handouts, upstream) = (Arc::clone(&gateway.handouts), asked.upstream.name.clone());
            Handing::Learn(Box::new(Learning::new(handouts, field, item, holder, upstream)))
        }
        Handling::Uses(id) => Handing::KeepGoing(noted(id), holder),
        Handling::Closes(id) => Handing::Forget(noted(id)),
    }))
}

impl Handing {
    /// Does what is to be done, if the answer says that it worked.
    pub(super) fn hear(self, mut answer: Response<GatewayBody>) -> Response<GatewayBody> {
        if answer.status().is_success() {
            match self {
                Self::Learn(learning) => answer.body_mut().watch(learning),
                Self::KeepGoing(Noted { handouts, upstream, id }, holder) => handouts.keep_going(&id, &holder, &upstream),
                Self::Forget(Noted { handouts, upstream, id }) => handouts.forget(&id, &upstream),
            }
        }
        answer
    }
}
