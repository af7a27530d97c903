//! What keys and accounts have out in the world beside themselves: the tickets and ids that were handed out to a key, and the sessions of an
//! account at its media server. Both can be taken back without an end to the key or the account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::error::AdminError;
use crate::admin::keys::{iso, key_id};
use crate::admin::{Actor, Admin};
use crate::audit::{Act, Field, Object, Verb};
use crate::handouts::{HandoutView, Handouts};
use crate::registry::RegistryError;
use crate::upstream::session::SessionView;

/// `{"tickets": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TicketList {
    /// The latest first.
    pub tickets: Vec<TicketLine>,
}

/// Something that opens media without a key; its text is shown to nobody.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketLine {
    /// `ticket` (keygate's, in URLs), `play-session` (Audiobookshelf's id) or `playback` (Emby's and Jellyfin's).
    pub sort: String,
    /// The media server that it opens something at.
    pub upstream: String,
    /// When it was handed out.
    pub created_at: String,
    /// When it was used last; a minute may be missing.
    pub last_used_at: String,
    /// Until when it is good if nobody uses it.
    pub good_until: String,
}

/// What was taken back.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketsTakenBack {
    /// The key's id.
    pub key: String,
    /// How many tickets and ids.
    pub taken_back: usize,
}

/// `{"sessions": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionList {
    /// The account's own first.
    pub sessions: Vec<SessionLine>,
}

/// A session at a media server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionLine {
    /// The id of the key that alone uses it; null: all keys of the account do.
    pub key: Option<String>,
    /// Whether requests go out with it; else it waits for its first use since the start.
    pub is_live: bool,
    /// When its token was obtained; null: it is the account's own token.
    pub obtained_at: Option<String>,
    /// When that dies; null: not by time.
    pub expires_at: Option<String>,
}

/// What was let go.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionsDropped {
    /// upstream/name.
    pub account: String,
    /// How many sessions.
    pub dropped: usize,
}

impl From<HandoutView> for TicketLine {
    fn from(view: HandoutView) -> Self {
        Self {
            sort: view.sort.to_owned(),
            upstream: view.upstream.to_string(),
            created_at: iso(view.created_at),
            last_used_at: iso(view.last_used_at),
            good_until: iso(view.good_until),
        }
    }
}

impl From<SessionView> for SessionLine {
    fn from(view: SessionView) -> Self {
        Self {
            key: view.key.map(|key| key.to_string()),
            is_live: view.is_live,
            obtained_at: view.obtained_at.map(iso),
            expires_at: view.expires_at.map(iso),
        }
    }
}

impl Admin {
    fn handouts(&self) -> Result<&std::sync::Arc<Handouts>, AdminError> {
        self.handouts.as_ref().ok_or_else(|| AdminError::Invalid("only a running gateway knows what was handed out".to_owned()))
    }

    /// What was handed out to a key. Blocking.
    pub(super) fn tickets(&self, id: &str) -> Result<TicketList, AdminError> {
        let record = self.registry.key(key_id(id)?)?;
        let tickets = self.handouts()?.of_key(record.id).into_iter().map(TicketLine::from).collect();
        Ok(TicketList { tickets })
    }

    /// Takes it back; the key stays good. Blocking.
    pub(super) fn take_tickets_back(&self, id: &str, peer: Actor) -> Result<TicketsTakenBack, AdminError> {
        let record = self.registry.key(key_id(id)?)?;
        let acting = self.acting(peer);
        let act = |count: usize| Act::new(Verb::TicketsTakenBack, Object::from(&record)).with([Field::new("count", count)]);
        let told = |count| acting.line(act(count));
        let taken_back = self.handouts()?.take_back(record.id, told).map_err(RegistryError::NotDurable)?;
        tracing::info!(%peer, key_id = %record.id, taken_back, "tickets and ids of key {} taken back by {peer}", record.id);
        Ok(TicketsTakenBack { key: record.id.to_string(), taken_back })
    }

    /// The sessions of an account at its media server.
    pub(super) fn account_sessions(&self, id: &str) -> Result<SessionList, AdminError> {
        let account = self.account(id)?;
        Ok(SessionList { sessions: self.sessions.list(account.id).into_iter().map(SessionLine::from).collect() })
    }

    /// Lets them go. Blocking.
    pub(super) fn drop_sessions(&self, id: &str, peer: Actor) -> Result<SessionsDropped, AdminError> {
        let account = self.account(id)?;
        let (dropped, name) = (self.sessions.drop_all(account.id), account.full_name());
        tracing::info!(%peer, account_id = account.id.0, account = name, dropped, "sessions of {name} dropped by {peer}");
        self.recorded(Act::new(Verb::SessionsDropped, account.as_ref().into()).with([Field::new("count", dropped)]), peer);
        Ok(SessionsDropped { account: name, dropped })
    }
}
