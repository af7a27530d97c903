//! A key as the store keeps it, and the small part of it that stays in memory.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::keys::{KeyDigest, KeyId, Scopes};
use crate::limits::Limits;
use crate::upstream::AccountId;

/// Everything about a key but its text, which nobody can show again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Public id.
    pub id: KeyId,
    /// The operator's name of it, 1 to 200 bytes without control characters; need not be unique.
    pub name: String,
    /// The account it acts for.
    pub account: AccountId,
    /// Keyed hash of the current secret.
    pub digest: KeyDigest,
    /// The secret before the last rotation, good until its overlap ends.
    pub previous: Option<PreviousSecret>,
    /// Dead from this moment on (`expires_at <= now`); `None`: never.
    pub expires_at: Option<Timestamp>,
    /// `false`: refused until it is enabled again.
    pub is_active: bool,
    /// What it may do.
    pub scopes: Scopes,
    /// The upstream's ids of the libraries that it is confined to where a route names one; `None`: not confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libraries: Option<Vec<String>>,
    /// What it may do no more than.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// When and by whom it was made.
    pub created_at: Timestamp,
    /// "cli", "cli uid 1000", …
    pub created_by: String,
    /// Last change of the record.
    pub updated_at: Timestamp,
    /// When it was revoked, for good.
    pub revoked_at: Option<Timestamp>,
    /// When it began to live again, or to act for another account: what was handed out to it until then opens nothing. `None`: it always
    /// did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reborn_at: Option<Timestamp>,
}

/// The secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// Its keyed hash.
    pub digest: KeyDigest,
    /// When it dies.
    pub expires_at: Timestamp,
}

/// What the request path must know of one secret. Two of these stand for a key within a rotation's overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Keyed hash of the secret.
    pub digest: KeyDigest,
    /// The key's id.
    pub id: KeyId,
    /// The account it acts for.
    pub account: AccountId,
    /// The earlier of the key's and (for a previous secret) the overlap's end; [`Timestamp::NEVER`] for none.
    pub expires_at: Timestamp,
    /// Whether the key is active.
    pub is_active: bool,
    /// What the key may do.
    pub scopes: Scopes,
    /// The libraries that it is confined to, as in [`KeyRecord`].
    pub libraries: Option<Vec<String>>,
    /// What the key may do no more than.
    pub limits: Limits,
    /// The key's name, for the access log.
    pub name: String,
}

impl KeyRecord {
    /// The index entries that this record stands for; none when revoked.
    pub fn index_entries(&self) -> Vec<IndexEntry> {
        if self.revoked_at.is_some() {
            return Vec::new();
        }
        let expires_at = self.expires_at.unwrap_or(Timestamp::NEVER);
        let entry = |digest: &KeyDigest, expires_at| IndexEntry {
            digest: digest.clone(),
            id: self.id,
            account: self.account,
            expires_at,
            is_active: self.is_active,
            scopes: self.scopes,
            libraries: self.libraries.clone(),
            limits: self.limits.clone(),
            name: self.name.clone(),
        };
        let mut entries = vec![entry(&self.digest, expires_at)];
        if let Some(previous) = &self.previous {
            entries.push(entry(&previous.digest, expires_at.min(previous.expires_at)));
        }
        entries
    }

    /// What `keys list` shows as the state.
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.expires_at.is_some_and(|at| at <= now) {
            KeyStatus::Expired
        } else if self.is_active {
            KeyStatus::Active
        } else {
            KeyStatus::Disabled
        }
    }
}

/// State of a key at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// Good.
    Active,
    /// Switched off, reversibly.
    Disabled,
    /// Past its expiry.
    Expired,
    /// Final.
    Revoked,
}
