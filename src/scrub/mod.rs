//! Takes upstream credentials out of answers: pure, streaming, bounded.
//!
//! [`Secrets`] are what is known of an upstream (compiled once, shared), a [`Plan`] says how one answer is scrubbed, a [`Scrubber`] does it
//! chunk by chunk, and [`Plan::header`] and [`Plan::location`] do it to the values of headers.
//!
//! Most replacements are as long as what they replace, so that `Content-Length` and the heads of WebSocket frames stay right: a JSON
//! string becomes `""` and spaces, a media ticket is as long as the token whose place it takes, everything else is overwritten by `*`.
//! Where that cannot be, [`Plan::keeps_length`] says so beforehand.
//!
//! What is found: every known value in each spelling that an encoder gives it; fields that carry a credential by their nature, known or
//! not; and before an Audiobookshelf everything of the shape of a JWT. A known value that is spelled as no encoder would (`%61` for an
//! `a`) is a [`Leak`].

mod edit;
mod jwt;
mod needles;
mod playlist;
mod secrets;
mod spelling;
mod stream;
#[cfg(test)]
mod tests;
mod unusual;
mod url;
mod values;
mod walk;

use std::borrow::Cow;
use std::sync::Arc;

pub use secrets::Secrets;
pub use stream::Scrubber;

use crate::secret::Secret;
use edit::Edit;
use needles::Needles;
use walk::{Place, Walk};

/// A credential that cannot be removed here: the caller answers 502, or cuts what has already begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Leak {
    /// A known credential, spelled as no encoder spells it.
    #[error("an upstream credential in an unusual spelling")]
    Spelling,
    /// A line of a playlist is longer than 64 KiB.
    #[error("a line of a playlist is too long to be looked at")]
    LongLine,
}

/// The form of a text, which decides where credentials stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// JSON, also within socket.io packets.
    Json,
    /// XML.
    Xml,
    /// HLS: `m3u8`.
    Playlist,
    /// Everything else: subtitles, logs, HTML.
    Plain,
}

/// What the client of an answer gets in place of the tokens of its own account. The default: nothing.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The own account's tokens: session, refresh, permanent. For URLs only those count that are among the [`Secrets`] and no JWT.
    pub tokens: Vec<Secret<String>>,
    /// What takes their place in URLs: the media ticket, or the key where the client itself had put its key in the query. URL-safe.
    pub in_urls: Option<Secret<String>>,
    /// What takes their place in the token fields of the user as its own apps read it. There, `isOldToken` is never true either.
    pub in_fields: Option<Secret<String>>,
    /// What takes the place of the upstream's own origins in absolute URLs (`https://media.example`, without a slash at the end). `None`:
    /// they stay, but for playlists and `Location`, in which they go.
    pub public_origin: Option<String>,
}

impl Own {
    fn is_one(&self, value: &str) -> bool {
        self.tokens.iter().any(|token| token.expose() == value)
    }

    /// What stands in a token field in place of a value, if that is an own token.
    fn in_field(&self, value: &[u8]) -> Option<&[u8]> {
        let key = self.in_fields.as_ref()?;
        let is_own = !value.is_empty() && self.tokens.iter().any(|token| token.expose().as_bytes() == value);
        is_own.then(|| key.expose().as_bytes())
    }
}

/// How one answer is scrubbed.
#[derive(Clone, Debug)]
pub struct Plan {
    text: Text,
    secrets: Arc<Secrets>,
    own: Own,
}

impl Plan {
    /// Puts one together.
    pub const fn new(text: Text, secrets: Arc<Secrets>, own: Own) -> Self {
        Self { text, secrets, own }
    }

    /// Whether what goes out is as long as what came in, whatever comes: then `Content-Length` and the heads of frames stay right.
    pub fn keeps_length(&self) -> bool {
        let ticket_fits = self.own.in_urls.as_ref().is_none_or(|credential| {
            let lengths = |token: &Secret<String>| self.secrets.lengths(token.expose()).collect::<Vec<_>>();
            self.own.tokens.iter().flat_map(lengths).all(|length| length == credential.expose().len())
        });
        let origins_stay = self.own.public_origin.is_none() || self.secrets.origins().is_empty();
        self.text != Text::Playlist && self.own.in_fields.is_none() && origins_stay && ticket_fits
    }

    /// Scrubs a URL in a header (`Location`, `Content-Location`): one to the upstream's own origin becomes a public or root-relative one; a
    /// credential in the query of an own URL becomes the client's, or goes; known credentials elsewhere are blanked.
    ///
    /// # Errors
    /// [`Leak`].
    pub fn location<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, Leak> {
        let origin = self.own.public_origin.as_deref().unwrap_or_default();
        match url::own(self, value, origin, false) {
            Some(url) if url != value => Ok(Cow::Owned(self.clean(Text::Plain, &url)?.into_owned())),
            Some(_) => self.clean(Text::Plain, value),
            None => self.clean_for_others(value),
        }
    }

    /// Scrubs the value of any other header (`Link`, `Refresh`, `Set-Cookie`, …): known credentials are replaced or blanked.
    ///
    /// # Errors
    /// [`Leak`].
    pub fn header<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, Leak> {
        self.clean(Text::Plain, value)
    }

    /// Scrubs a whole text.
    fn clean<'t>(&self, form: Text, text: &'t [u8]) -> Result<Cow<'t, [u8]>, Leak> {
        unusual::check(&self.secrets, form, text, true)?;
        let mut edit = Edit::new(text);
        let end = Walk::new(self, form, text, true, &mut edit).run(&mut Place::default());
        Ok(edit.finish(end).map_or(Cow::Borrowed(text), Cow::Owned))
    }

    /// Scrubs a URL that is not the upstream's own: the client's credential is nobody else's business, so none is given.
    fn clean_for_others<'t>(&self, url: &'t [u8]) -> Result<Cow<'t, [u8]>, Leak> {
        Self::new(Text::Plain, self.secrets.clone(), Own::default()).clean(Text::Plain, url)
    }

    /// Length of the longest text that is looked for.
    fn longest(&self, needles: &Needles) -> usize {
        let origins = if self.own.public_origin.is_some() { self.secrets.origins.longest() } else { 0 };
        self.secrets.longest().max(needles.longest()).max(origins)
    }
}
