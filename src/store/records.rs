//! The stored forms of accounts, sessions and handouts. Keys have theirs in [`crate::keys::record`].

use crate::clock::Timestamp;
use crate::keys::{KeyDigest, KeyId};
use crate::secret::Secret;
use crate::upstream::session::SessionId;
use crate::upstream::{AccountId, Credential, UpstreamName};

/// One user of one upstream that keys can act for.
#[derive(Clone, Debug)]
pub struct AccountRecord {
    /// Number, never reused.
    pub id: AccountId,
    /// The upstream it lives on.
    pub upstream: UpstreamName,
    /// The operator's name of it, unique per upstream; for `password` accounts the upstream's user name.
    pub name: String,
    /// How to prove to be it. Sealed at rest.
    pub credential: Credential,
    /// 32 hex digits, made once: the upstream's device lists and session caps hang on it.
    pub device_id: String,
    /// The upstream's id of the user, once known. A login that answers with another one is refused.
    pub user_id: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Why keygate stopped logging in, if it did: a refused password. Cleared by a new credential or `accounts login`.
    pub broken: Option<String>,
    /// Whether its sessions are what keygate makes other accounts' sessions with. At most one account of each upstream.
    pub is_administrator: bool,
}

impl AccountRecord {
    /// `upstream/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.upstream, self.name)
    }
}

/// What the upstream gave for an account, or for one key of it. Tokens are sealed at rest.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// Whose it is.
    pub id: SessionId,
    /// Counts up with every login or renewal of this session.
    pub generation: u64,
    /// The session token.
    pub token: Secret<String>,
    /// The refresh token that is to be used next.
    pub refresh_token: Option<Secret<String>>,
    /// Further credentials learnt from the answer, for the scrubber.
    pub other_secrets: Vec<Secret<String>>,
    /// When the token was obtained, by our clock.
    pub obtained_at: Timestamp,
    /// When it dies, by our clock; `None`: not by time.
    pub expires_at: Option<Timestamp>,
    /// The upstream's id of the API key that the token is, where an administrator made it for this.
    pub minted_id: Option<String>,
}

impl SessionRecord {
    /// From when on it is to be renewed: after four fifths of its life; [`Timestamp::NEVER`] where it does not die by time.
    pub fn renew_at(&self) -> Timestamp {
        self.expires_at.map_or(Timestamp::NEVER, |expires_at| self.obtained_at.plus(expires_at.since(self.obtained_at) / 5 * 4))
    }

    /// All credentials in it.
    pub fn credentials(&self) -> impl Iterator<Item = &Secret<String>> {
        std::iter::once(&self.token).chain(&self.refresh_token).chain(&self.other_secrets)
    }
}

/// A text that opens media for as long as a key lives and the text is used: a media ticket, or an id that the upstream made.
#[derive(Clone, Debug)]
pub struct HandoutRecord {
    /// Keyed hash of the text.
    pub digest: KeyDigest,
    /// What the text is.
    pub what: Handed,
    /// Keyed hash of the key's secret that it was handed out to: it dies with that one.
    pub secret: KeyDigest,
    /// The key.
    pub key: KeyId,
    /// The account that the key acted for.
    pub account: AccountId,
    /// The upstream whose media it opens.
    pub upstream: UpstreamName,
    /// When it was handed out.
    pub created_at: Timestamp,
    /// When it was used last, or handed out; minutes may be missing.
    pub last_used_at: Timestamp,
    /// An operator took it back: it opens nothing any more, and is kept only until its play session is closed at the upstream.
    pub is_taken_back: bool,
}

/// What was handed out.
#[derive(Clone, Debug)]
pub enum Handed {
    /// A media ticket of keygate's own.
    Ticket,
    /// A play session of Audiobookshelf. Its id, sealed at rest, since keygate must be able to close the session.
    PlaySession(Secret<String>),
    /// A playback of Emby or Jellyfin: opens the media of one item.
    Playback {
        /// The item's id, without dashes, in lower case.
        item: String,
    },
}
