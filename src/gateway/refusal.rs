//! Every way in which a request ends without the upstream's answer: which status, what the client may read, what the log says.

use std::borrow::Cow;

use http::StatusCode;

use crate::carrier::{Carrier, CarrierError};
use crate::forward::rewrite::TooLong;
use crate::forward::socketio::query::Wrong;
use crate::forward::websocket::Closing;
use crate::gateway::inspect::Refused;
use crate::keys::{MalformedKey, Preset, Scopes};
use crate::lifeline::Cause;
use crate::limits::Exceeded;
use crate::policy::{self, Denied};
use crate::scrub::Leak;
use crate::upstream::client::ConnectError;
use crate::upstream::line::Broken;
use crate::upstream::session::SessionError;

/// Why a request was not answered by the upstream.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request itself is ambiguous, too large or not for a proxy.
    #[error("{0}")]
    Inspection(#[from] Refused),
    /// No upstream has this host name.
    #[error("no upstream has this host name")]
    UnknownHost,
    /// Its credentials cannot be judged.
    #[error("{0}")]
    Carrier(#[from] CarrierError),
    /// No credential.
    #[error("no key")]
    NoKey,
    /// A credential that is not keygate's.
    #[error("not a keygate key")]
    ForeignCredential(Carrier),
    /// A damaged key.
    #[error("{0}")]
    Malformed(MalformedKey, Carrier),
    /// A well-formed key that nobody issued, or that was revoked.
    #[error("unknown or revoked key")]
    UnknownKey(Carrier),
    /// A key that was good a while ago.
    #[error("a revoked key, or the old secret of a rotated one")]
    DeadKey(Carrier),
    /// A well-formed ticket that nobody was given, or that has died.
    #[error("unknown, expired or dead media ticket")]
    UnknownTicket(Carrier),
    /// A ticket where tickets do not count.
    #[error("a media ticket on a route that is not for media")]
    TicketElsewhere(Carrier),
    /// A known key that may not pass.
    #[error("{0}")]
    Denied(Denied, Carrier),
    /// A known key that may not be used where the client is.
    #[error("{}", Denied::OtherNetwork)]
    OtherNetwork,
    /// A known key one of whose limits is reached.
    #[error(transparent)]
    Exceeded(Exceeded),
    /// The key died while its request waited for the upstream.
    #[error("{0} while the request ran")]
    KeyDied(Cause),
    /// Too many credentials of this client's address were no good; the one of this request is another of them.
    #[error("too many failures from this address, the last: {refused}")]
    Guessing {
        /// What it would have been.
        refused: Box<Self>,
        /// When one more may fail.
        retry_after_secs: u64,
    },
    /// A credential that the upstream does not know.
    #[error("the upstream does not know this credential")]
    UnknownNative(Carrier),
    /// A route that people's own credentials do not open here.
    #[error("this route needs a key with the scope admin")]
    Restricted,
    /// Too many logins with passwords from this client's address.
    #[error("too many logins from this address")]
    TooManyLogins(u64),
    /// A login form of more than 64 KiB.
    #[error("a login form that is too large")]
    FormTooLarge,
    /// A login form that cannot be read.
    #[error("a login form that cannot be read")]
    BadForm,
    /// A key, or what looks like one, at a listener that only redirects.
    #[error("a key came in clear text")]
    ClearText,
    /// No session with the upstream.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// No connection to the upstream.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The upstream broke off before it answered.
    #[error("the upstream broke off before it answered: {0}")]
    BrokenOff(Broken),
    /// The upstream accepts connections and closes them: a proxy in front of nothing, or a server that is starting.
    #[error("the upstream closes every connection at once")]
    ClosedAtOnce,
    /// The upstream's answer breaks the rules of HTTP.
    #[error("the upstream's answer is not usable: {0}")]
    BadAnswer(&'static str),
    /// The upstream's answer holds a credential that cannot be taken out of it.
    #[error("the upstream's answer holds {0}")]
    Revealed(Leak),
    /// The upstream did not answer in time.
    #[error("the upstream did not answer within {0} s")]
    NoAnswer(u64),
    /// The client's body broke the rules of HTTP, or ended early.
    #[error("the request's body is malformed or incomplete")]
    BrokenBody,
    /// The client stalled or sent too slowly.
    #[error("the client did not send its request's body")]
    ClientBody,
    /// The upstream called a session dead that had just been renewed.
    #[error("the upstream refuses a session that was just renewed")]
    SessionRefused,
    /// The session had to be renewed in mid-request, and the request's body cannot be sent again.
    #[error("the session was renewed while a body was on its way that cannot be sent again")]
    SessionRenewed,
    /// Not a request of Engine.IO that can be forwarded.
    #[error("not a request of Engine.IO 4 over polling or a WebSocket ({0:?})")]
    Engine(Wrong),
    /// A session of Engine.IO that keygate did not see opened, that is over, or that is another key's.
    #[error("unknown session of Engine.IO")]
    UnknownSocket,
    /// A session of Engine.IO ends for what its client did.
    #[error("the session of Engine.IO is closed: {0}")]
    SocketClosed(Closing),
    /// Too many sessions of Engine.IO of this key, or of this address without authentication.
    #[error("too many sessions of Engine.IO of this key or address")]
    TooManySockets,
    /// Longer than Engine.IO's packets may be.
    #[error("the body is longer than Engine.IO takes")]
    LargePacket,
    /// The request could not be put in the upstream's form.
    #[error(transparent)]
    Rewrite(#[from] TooLong),
}

/// What a client reads: one JSON object, the same for every failure that must look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public {
    /// Status.
    pub status: StatusCode,
    /// The whole body, unless [`Refusal::body`] says more.
    pub body: &'static str,
}

macro_rules! public {
    ($status:ident, $error:literal, $message:literal) => {
        Public { status: StatusCode::$status, body: concat!("{\"error\":\"", $error, "\",\"message\":\"", $message, "\"}\n") }
    };
}

const INVALID_KEY: Public = public!(UNAUTHORIZED, "invalid_api_key", "A valid API key is required.");

const OTHER_NETWORK: Public = public!(FORBIDDEN, "other_network", "This API key may not be used from this address.");

impl Refusal {
    /// A known key that may not pass. Where its secret was in no carrier (an id that was handed out to it stands for it), most of this is as
    /// if there were no key.
    pub(super) fn denied(denied: Denied, carrier: Option<Carrier>) -> Self {
        match (denied, carrier) {
            (Denied::OtherNetwork, _) => Self::OtherNetwork,
            (Denied::Exceeded(exceeded), _) => Self::Exceeded(exceeded),
            (denied, Some(carrier)) => Self::Denied(denied, carrier),
            (_, None) => Self::NoKey,
        }
    }

    /// What the client may read of it.
    pub const fn public(&self) -> Public {
        match self {
            Self::Inspection(refused) => inspection(refused.status()),
            Self::UnknownHost => public!(MISDIRECTED_REQUEST, "unknown_host", "No server has this host name here."),
            Self::Carrier(_) => {
                public!(BAD_REQUEST, "ambiguous_credentials", "The request's credentials contradict each other or are ambiguous.")
            }
            Self::Restricted => public!(FORBIDDEN, "restricted_route", "This is not allowed here."),
            Self::ClearText => public!(FORBIDDEN, "clear_text_key", "This key came in clear text: use https, and replace the key."),
            Self::TooManyLogins(_) => public!(TOO_MANY_REQUESTS, "too_many_logins", "Too many logins from this address; try again later."),
            Self::FormTooLarge => public!(PAYLOAD_TOO_LARGE, "form_too_large", "The login form is too large."),
            Self::BadForm => public!(BAD_REQUEST, "malformed_form", "The login form cannot be read."),
            Self::Guessing { .. } => {
                public!(TOO_MANY_REQUESTS, "too_many_failures", "Too many failures from this address; try again later.")
            }
            Self::Denied(Denied::MissingScope { .. }, _) => {
                public!(FORBIDDEN, "missing_scope", "This needs an API key with other scopes.")
            }
            Self::Denied(Denied::OtherLibrary, _) => {
                public!(FORBIDDEN, "other_library", "This API key is confined to some libraries, and this is not about one of them.")
            }
            Self::KeyDied(Cause::Closed) => public!(SERVICE_UNAVAILABLE, "closed", "This request was closed by the operator."),
            Self::Exceeded(exceeded) | Self::Denied(Denied::Exceeded(exceeded), _) => limited(*exceeded),
            Self::KeyDied(Cause::UsedUp) => USED_UP,
            Self::OtherNetwork | Self::KeyDied(Cause::Elsewhere) | Self::Denied(Denied::OtherNetwork, _) => OTHER_NETWORK,
            Self::NoKey
            | Self::ForeignCredential(_)
            | Self::Malformed(..)
            | Self::UnknownKey(_)
            | Self::DeadKey(_)
            | Self::UnknownTicket(_)
            | Self::TicketElsewhere(_)
            | Self::Denied(..)
            | Self::KeyDied(_)
            | Self::UnknownNative(_) => INVALID_KEY,
            Self::Session(error) => session(error),
            Self::Connect(ConnectError::Failed { .. } | ConnectError::Tls { .. }) | Self::BrokenOff(_) | Self::ClosedAtOnce => UNREACHABLE,
            Self::BadAnswer(_) => public!(BAD_GATEWAY, "upstream_protocol", "The media server's answer was not usable."),
            Self::Revealed(_) => public!(BAD_GATEWAY, "upstream_credential", "The media server's answer was withheld."),
            Self::Connect(ConnectError::TimedOut { .. }) | Self::NoAnswer(_) => TIMEOUT,
            Self::BrokenBody => public!(BAD_REQUEST, "malformed_body", "The request's body is malformed or incomplete."),
            Self::ClientBody => public!(REQUEST_TIMEOUT, "request_timeout", "The request's body did not come."),
            Self::SessionRenewed => {
                public!(SERVICE_UNAVAILABLE, "session_renewed", "The session with the media server was renewed; send the request again.")
            }
            Self::SessionRefused => {
                public!(SERVICE_UNAVAILABLE, "upstream_login_failed", "The media server refuses the account of this key.")
            }
            Self::Rewrite(_) => public!(URI_TOO_LONG, "uri_too_long", "The request's target is too long."),
            Self::Engine(Wrong::Transport) => engine("{\"code\":0,\"message\":\"Transport unknown\"}"),
            Self::UnknownSocket => engine("{\"code\":1,\"message\":\"Session ID unknown\"}"),
            Self::Engine(Wrong::Version) => engine("{\"code\":5,\"message\":\"Unsupported protocol version\"}"),
            Self::Engine(Wrong::Request) | Self::SocketClosed(_) => engine("{\"code\":3,\"message\":\"Bad request\"}"),
            Self::TooManySockets => public!(TOO_MANY_REQUESTS, "too_many_sockets", "Too many sockets of this API key or address."),
            Self::LargePacket => public!(PAYLOAD_TOO_LARGE, "packet_too_large", "The packets are too large."),
        }
    }

    /// Seconds for `Retry-After`, where trying again makes sense.
    pub const fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::TooManyLogins(retry_after_secs)
            | Self::Guessing { retry_after_secs, .. }
            | Self::Session(SessionError::Waiting { retry_after_secs, .. }) => Some(*retry_after_secs),
            Self::Exceeded(exceeded) => Some(exceeded.retry_after_secs()),
            Self::SessionRenewed => Some(1),
            Self::TooManySockets => Some(10),
            Self::Session(_) | Self::SessionRefused => Some(30),
            Self::Connect(_) | Self::BrokenOff(_) | Self::ClosedAtOnce | Self::NoAnswer(_) => Some(5),
            _ => None,
        }
    }

    /// The whole body: who lacks a scope reads which, and what its own key has.
    pub fn body(&self) -> Cow<'static, str> {
        let Self::Denied(Denied::MissingScope { missing, has }, _) = self else { return Cow::Borrowed(self.public().body) };
        let (scope, rights) = (missing.listed(), policy::described(*has));
        let preset = Preset::of(*has).map_or_else(|| "null".to_owned(), |preset| format!("\"{preset}\""));
        Cow::Owned(format!(
            "{{\"error\":\"missing_scope\",\"message\":\"This needs the scope {scope}, which this API key does not have ({rights}).\",\
             \"scope\":\"{scope}\",\"preset\":{preset}}}\n"
        ))
    }

    /// The scopes that the key would need beside what it has.
    pub const fn missing_scopes(&self) -> Option<Scopes> {
        match self {
            Self::Denied(Denied::MissingScope { missing, .. }, _) => Some(*missing),
            _ => None,
        }
    }

    /// A short label for logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Inspection(refused) => refused.kind(),
            Self::UnknownHost => "unknown-host",
            Self::Carrier(CarrierError::Conflicting) => "conflicting-credentials",
            Self::Carrier(_) => "ambiguous-credentials",
            Self::NoKey => "no-key",
            Self::ForeignCredential(_) => "foreign-credential",
            Self::Malformed(..) => "malformed-key",
            Self::UnknownKey(_) => "unknown-key",
            Self::DeadKey(_) => "dead-key",
            Self::UnknownTicket(_) => "unknown-ticket",
            Self::TicketElsewhere(_) => "ticket-elsewhere",
            Self::Denied(Denied::Disabled, _) => "disabled-key",
            Self::Denied(Denied::Expired, _) => "expired-key",
            Self::Denied(Denied::OtherUpstream, _) => "key-of-another-upstream",
            Self::OtherNetwork | Self::Denied(Denied::OtherNetwork, _) => "other-network",
            Self::Exceeded(exceeded) | Self::Denied(Denied::Exceeded(exceeded), _) => exceeded.as_str(),
            Self::KeyDied(cause) => cause.as_str(),
            Self::UnknownNative(_) => "unknown-native-credential",
            Self::Restricted => "restricted-route",
            Self::ClearText => "clear-text-key",
            Self::TooManyLogins(_) => "too-many-logins",
            Self::FormTooLarge => "form-too-large",
            Self::BadForm => "malformed-form",
            Self::Guessing { .. } => "too-many-failures",
            Self::Denied(Denied::MissingScope { .. }, _) => "missing-scope",
            Self::Denied(Denied::OtherLibrary, _) => "other-library",
            Self::Session(SessionError::Broken(_)) => "account-broken",
            Self::Session(SessionError::Waiting { .. }) => "account-waiting",
            Self::Session(SessionError::Unreachable(_)) => "upstream-unreachable",
            Self::Session(SessionError::TimedOut(_)) => "upstream-timeout",
            Self::Session(SessionError::Store(_)) => "store-failed",
            Self::Session(SessionError::NoAccount | SessionError::NoUpstream(_)) => "no-account",
            Self::Connect(_) | Self::BrokenOff(_) | Self::ClosedAtOnce => "upstream-unreachable",
            Self::BadAnswer(_) => "upstream-protocol",
            Self::Revealed(_) => "upstream-credential",
            Self::NoAnswer(_) => "upstream-timeout",
            Self::BrokenBody | Self::ClientBody => "client-body",
            Self::SessionRenewed => "session-renewed",
            Self::SessionRefused => "session-refused",
            Self::Rewrite(_) => "uri-too-long",
            Self::Engine(_) => "engine-io",
            Self::UnknownSocket => "unknown-socket",
            Self::SocketClosed(_) => "socket-closed",
            Self::TooManySockets => "too-many-sockets",
            Self::LargePacket => "large-packet",
        }
    }

    /// Where the credential was, if there was one.
    pub const fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Guessing { refused, .. } => refused.carrier(),
            Self::ForeignCredential(carrier)
            | Self::Malformed(_, carrier)
            | Self::UnknownKey(carrier)
            | Self::DeadKey(carrier)
            | Self::UnknownTicket(carrier)
            | Self::UnknownNative(carrier)
            | Self::TicketElsewhere(carrier)
            | Self::Denied(_, carrier) => Some(*carrier),
            _ => None,
        }
    }

    /// Whether it says that a guess was wrong: at a key, at a password, at a token that the upstream was asked about. A request without
    /// any credential guesses nothing, and neither does one with a token of the upstream's own where those open nothing.
    pub const fn is_wrong_guess(&self) -> bool {
        match self {
            Self::Malformed(..) | Self::UnknownKey(_) | Self::UnknownTicket(_) | Self::TicketElsewhere(_) | Self::UnknownNative(_) => true,
            Self::ForeignCredential(carrier) => matches!(carrier, Carrier::LoginForm | Carrier::RefreshToken),
            Self::Denied(denied, _) => matches!(denied, Denied::OtherUpstream),
            _ => false,
        }
    }

    /// Whether the audit log shall say that it happened: somebody was at the door with a credential, or where keys have no business.
    pub const fn is_of_note(&self) -> bool {
        self.is_wrong_guess()
            || self.is_of_dead_key()
            || matches!(
                self,
                Self::Guessing { .. }
                    | Self::OtherNetwork
                    | Self::TooManyLogins(_)
                    | Self::Restricted
                    | Self::ClearText
                    | Self::Carrier(_)
                    | Self::Denied(Denied::MissingScope { .. }, _)
            )
    }

    /// Whether it says that a key is dead that was good once: no guess, but nothing that should go on for ever either.
    pub const fn is_of_dead_key(&self) -> bool {
        matches!(self, Self::DeadKey(_) | Self::Denied(Denied::Disabled | Denied::Expired, _))
    }

    /// Whether the client's connection must not carry another request: what it sends next cannot be trusted to be one.
    pub const fn closes(&self) -> bool {
        match self {
            Self::Inspection(refused) => refused.closes(),
            Self::BrokenBody | Self::ClientBody | Self::FormTooLarge | Self::LargePacket => true,
            _ => false,
        }
    }
}

const USED_UP: Public =
    public!(TOO_MANY_REQUESTS, "daily_bytes_used_up", "This API key has moved as many bytes today as it may; try again tomorrow (UTC).");

const UNREACHABLE: Public = public!(BAD_GATEWAY, "upstream_unreachable", "The media server cannot be reached.");
const TIMEOUT: Public = public!(GATEWAY_TIMEOUT, "upstream_timeout", "The media server did not answer in time.");

const fn session(error: &SessionError) -> Public {
    match error {
        SessionError::Unreachable(_) => UNREACHABLE,
        SessionError::TimedOut(_) => TIMEOUT,
        SessionError::Waiting { .. } => {
            public!(SERVICE_UNAVAILABLE, "upstream_login_waiting", "The media server takes no logins right now; try again later.")
        }
        SessionError::Store(_) => public!(SERVICE_UNAVAILABLE, "store_failed", "The gateway cannot write its store."),
        SessionError::Broken(_) | SessionError::NoAccount | SessionError::NoUpstream(_) => {
            public!(SERVICE_UNAVAILABLE, "upstream_login_failed", "The media server refuses the account of this key.")
        }
    }
}

const fn limited(exceeded: Exceeded) -> Public {
    match exceeded {
        Exceeded::Rate { .. } => public!(TOO_MANY_REQUESTS, "too_many_requests", "This API key was used too often; try again later."),
        Exceeded::Streams => public!(TOO_MANY_REQUESTS, "too_many_streams", "As many streams of this API key run as may; end one first."),
        Exceeded::Daily { .. } => USED_UP,
    }
}

/// As Engine.IO itself refuses.
const fn engine(body: &'static str) -> Public {
    Public { status: StatusCode::BAD_REQUEST, body }
}

const fn inspection(status: StatusCode) -> Public {
    match status.as_u16() {
        405 => public!(METHOD_NOT_ALLOWED, "method_not_allowed", "This method is not forwarded."),
        414 => public!(URI_TOO_LONG, "uri_too_long", "The request's target is too long."),
        417 => public!(EXPECTATION_FAILED, "expectation_failed", "Only 100-continue may be expected."),
        431 => public!(REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The request's headers are too large."),
        501 => public!(NOT_IMPLEMENTED, "not_implemented", "This method is not known here."),
        505 => public!(HTTP_VERSION_NOT_SUPPORTED, "version_not_supported", "This version of HTTP is not spoken here."),
        _ => public!(BAD_REQUEST, "ambiguous_request", "The request could be read in more than one way."),
    }
}
