//! Where a credential travels in a request: every carrier is found, read and removed before anything is decided.
//!
//! A carrier is removed whether it was read or not, and so is everything else that a media server might take for a credential
//! or for the client's identity: cookies, refresh tokens, `Authorization` of any scheme, Emby's `X-Emby-Device-*`. `Basic`,
//! `Digest` and other schemes are no carriers: they are removed and count as nothing. Requests of people with a credential of the
//! server's own (`native_logins`) keep it ([`Found::leave_native`]).

mod authorization;
pub(crate) mod encoding;
pub(crate) mod headers;
mod people;
mod query;
pub(crate) mod strip;

use std::borrow::Cow;

use http::HeaderMap;

use crate::keys::{ApiKey, MalformedKey, Ticket};

pub use people::{native_token, of_password, refresh_token};

/// The place where a key was found, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// `Authorization: Bearer K`.
    Bearer,
    /// `Authorization: MediaBrowser …, Token="K"` or scheme `Emby`.
    MediaBrowser,
    /// `X-Emby-Authorization: MediaBrowser …, Token="K"`.
    XEmbyAuthorization,
    /// `X-Emby-Token: K`.
    XEmbyToken,
    /// `X-MediaBrowser-Token: K`.
    XMediaBrowserToken,
    /// `?api_key=K`, `?ApiKey=K`.
    ApiKeyQuery,
    /// `?X-Emby-Token=K`, `?X-MediaBrowser-Token=K`.
    EmbyTokenQuery,
    /// `?token=K` (Audiobookshelf).
    TokenQuery,
    /// The password of a login form.
    LoginForm,
    /// `X-Refresh-Token: K` or the cookie `refresh_token=K`, on Audiobookshelf's refresh and logout alone.
    RefreshToken,
    /// `42["auth","K"]` within a socket (Audiobookshelf).
    AuthPacket,
}

impl Carrier {
    /// Its name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::MediaBrowser => "mediabrowser",
            Self::XEmbyAuthorization => "x-emby-authorization",
            Self::XEmbyToken => "x-emby-token",
            Self::XMediaBrowserToken => "x-mediabrowser-token",
            Self::ApiKeyQuery => "api_key",
            Self::EmbyTokenQuery => "x-emby-token-query",
            Self::TokenQuery => "token",
            Self::LoginForm => "login-form",
            Self::RefreshToken => "refresh-token",
            Self::AuthPacket => "auth-packet",
        }
    }

    /// Whether it is a part of the URL.
    pub const fn is_query(self) -> bool {
        matches!(self, Self::ApiKeyQuery | Self::EmbyTokenQuery | Self::TokenQuery)
    }
}

/// What a request presented as its credential.
#[derive(Debug)]
pub enum Presented {
    /// Nothing.
    Nothing,
    /// A well-formed key.
    Key(ApiKey, Carrier),
    /// A well-formed media ticket.
    Ticket(Ticket, Carrier),
    /// Something that begins with `kg` but is no key.
    Malformed(MalformedKey, Carrier),
    /// A credential of another kind.
    Foreign(Carrier),
}

/// What was found in a request. Nothing is removed yet.
#[derive(Debug)]
pub struct Found<'q> {
    /// The credential.
    pub presented: Presented,
    /// The query without carriers; the rest byte for byte, in order. `None`: there was no query, or nothing is left of it.
    pub query: Option<Cow<'q, str>>,
    removal: headers::Removal,
}

/// What is left of the request after every carrier was taken out of it.
#[derive(Debug)]
pub struct Taken<'q> {
    /// The credential.
    pub presented: Presented,
    /// As in [`Found`].
    pub query: Option<Cow<'q, str>>,
}

impl<'q> Found<'q> {
    /// Removes every carrier, and all else that could be a credential or an identity, from the headers that this was found in.
    pub fn take_out(self, headers: &mut HeaderMap) -> Taken<'q> {
        headers::remove(headers, self.removal);
        Taken { presented: self.presented, query: self.query }
    }
}

/// Why the credentials of a request cannot be judged (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// Two different credentials.
    #[error("two different credentials in one request")]
    Conflicting,
    /// A credential header came twice.
    #[error("a credential header came more than once")]
    Repeated,
    /// An `Authorization` that could be read in two ways.
    #[error("an Authorization header that could be read in two ways")]
    Ambiguous,
    /// The query hides a credential name from one of two ways of reading it.
    #[error("a query that could be read in two ways")]
    AmbiguousQuery,
    /// A whole key or ticket stands in a query parameter that is no carrier: forwarding it would show it to the upstream.
    #[error("a key or a ticket in a query parameter that is no carrier")]
    Misplaced,
}

/// Finds every known carrier in the headers and the query. `token_query`: whether `token` is a carrier (Audiobookshelf); it is to be
/// removed for every kind.
///
/// Headers whose name holds `_` or `.` (which some servers read as `-`) and headers that hold a whole key or ticket (a browser's `Referer`)
/// are to be removed as well.
///
/// # Errors
/// [`CarrierError`].
pub fn read<'q>(headers: &HeaderMap, query: Option<&'q str>, token_query: bool) -> Result<Found<'q>, CarrierError> {
    let mut credential = Credential::default();
    let removal = headers::read(headers, &mut credential)?;
    let query = query.map(|query| query::read(query, token_query, &mut credential)).transpose()?.flatten();
    if query.as_deref().is_some_and(|rest| encoding::holds_key(rest.as_bytes())) {
        return Err(CarrierError::Misplaced);
    }
    Ok(Found { presented: credential.presented(), query, removal })
}

/// Whether a text (a path, a header value) holds a whole, well-formed key or ticket, in plain letters or percent-encoded once.
pub fn holds_key(text: &str) -> bool {
    encoding::holds_key(text.as_bytes())
}

/// The one credential of a request, while its carriers are being read.
#[derive(Default)]
struct Credential<'a> {
    found: Option<(Cow<'a, [u8]>, Carrier)>,
}

impl<'a> Credential<'a> {
    /// Adds what a carrier held. Empty counts as absent; the same once more is fine (real clients send header and query).
    fn add(&mut self, text: Cow<'a, [u8]>, carrier: Carrier) -> Result<(), CarrierError> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        match &self.found {
            Some((known, _)) if known.trim_ascii() != text.trim_ascii() => Err(CarrierError::Conflicting),
            Some(_) => Ok(()),
            None => {
                self.found = Some((text, carrier));
                Ok(())
            }
        }
    }

    fn presented(self) -> Presented {
        self.found.map_or(Presented::Nothing, |(text, carrier)| Presented::of(&text, carrier))
    }
}

impl Presented {
    /// What a text in a carrier is.
    fn of(text: &[u8], carrier: Carrier) -> Self {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Self::Nothing;
        }
        let parsed = match std::str::from_utf8(text) {
            Ok(text) if Ticket::claims_to_be_one(text) => match Ticket::parse(text) {
                Ok(ticket) => return Self::Ticket(ticket, carrier),
                Err(why) => Err(why),
            },
            Ok(text) => ApiKey::parse(text),
            Err(_) if text.starts_with(b"kg") => Err(MalformedKey::Shape),
            Err(_) => Err(MalformedKey::Foreign),
        };
        match parsed {
            Ok(key) => Self::Key(key, carrier),
            Err(MalformedKey::Foreign) => Self::Foreign(carrier),
            Err(why) => Self::Malformed(why, carrier),
        }
    }
}

#[cfg(test)]
mod tests;
