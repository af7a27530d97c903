//! Keys as the admin socket shows and changes them. All of it blocks: the router calls it on a thread that may.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::api::{KeyView, MAX_BULK, NewKeyRequest, OneKey, PatchKeyRequest, UserView};
use crate::admin::error::AdminError;
use crate::admin::{Actor, Admin, limits, names};
use crate::clock::Timestamp;
use crate::keys::record::{KeyRecord, KeyStatus};
use crate::keys::{KeyId, Preset, Scopes};
use crate::registry::{Created, KeyPatch, NewKey, RegistryError};
use crate::secret::Secret;
use crate::store::records::AccountRecord;
use crate::upstream::AccountId;
use crate::usage::record::LastUse;

/// Longest `expiresIn`: a hundred years, so that every expiry is a date that can be written.
pub(super) const MAX_EXPIRES_IN_SECS: u64 = 100 * 366 * 86_400;

impl Admin {
    pub(super) fn matching_keys(&self, text: &str, with_revoked: bool) -> Result<Vec<KeyRecord>, AdminError> {
        if let Ok(id) = text.strip_prefix("kg_").unwrap_or(text).parse() {
            match self.registry.key(id) {
                Ok(record) if with_revoked || record.revoked_at.is_none() => return Ok(vec![record]),
                Ok(_) | Err(RegistryError::NoKey(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = self.registry.keys(|record| (with_revoked || record.revoked_at.is_none()) && names::may_mean(text, record))?;
        let (living, revoked) = found.into_iter().partition(|record| record.revoked_at.is_none());
        let living = names::matching_keys(living, text);
        Ok(if living.is_empty() { names::matching_keys(revoked, text) } else { living })
    }

    pub(super) fn show_key(&self, id: &str) -> Result<OneKey, AdminError> {
        Ok(self.one_key(&self.registry.key(key_id(id)?)?))
    }

    pub(super) fn create_key(&self, request: NewKeyRequest, peer: Actor) -> Result<OneKey, AdminError> {
        if request.count.is_some() {
            return Err(AdminError::Invalid("count is for POST /api/api-keys/bulk".into()));
        }
        let new = self.new_key(request, peer)?;
        self.check_power(peer, new.scopes, new.account)?;
        let created = self.acting(peer).create_key(new)?;
        self.log("created", &created.record, peer);
        Ok(self.with_secret(created))
    }

    pub(super) fn create_keys(&self, request: NewKeyRequest, peer: Actor) -> Result<Vec<Created>, AdminError> {
        let count = request.count.unwrap_or(0);
        if !(1..=MAX_BULK).contains(&count) {
            return Err(AdminError::Invalid(format!("count must be between 1 and {MAX_BULK}")));
        }
        let name = request.name.clone();
        let new = self.new_key(request, peer)?;
        self.check_power(peer, new.scopes, new.account)?;
        let created = self.acting(peer).create_keys(new, count)?;
        tracing::info!(%peer, count, key_name = name, "{count} keys \"{name}-1\" and on created by {peer}");
        Ok(created)
    }

    pub(super) fn patch_key(&self, id: &str, request: PatchKeyRequest, peer: Actor) -> Result<OneKey, AdminError> {
        let patch = KeyPatch {
            name: request.name,
            account: request.user_id.as_deref().map(|text| self.account_for_key(text)).transpose()?,
            expires_at: match request.expires_at {
                Some(None) if request.expires_in.is_none() => Some(None),
                at => self.expiry(request.expires_in, at.flatten())?.map(Some),
            },
            is_active: request.is_active,
            scopes: rights(request.scopes.as_deref(), request.preset.as_deref())?,
            libraries: request.libraries,
            limits: request.limits.map(|patch| patch.map(limits::of_patch).transpose()).transpose()?,
        };
        let id = key_id(id)?;
        self.check_power_after(peer, id, &patch)?;
        let record = self.acting(peer).edit_key(id, patch)?;
        self.log("changed", &record, peer);
        Ok(self.one_key(&record))
    }

    pub(super) fn rotate_key(&self, id: &str, overlap: Duration, peer: Actor) -> Result<OneKey, AdminError> {
        let id = key_id(id)?;
        self.check_power_of(peer, id)?;
        let created = self.acting(peer).rotate_key(id, overlap)?;
        self.log("rotated", &created.record, peer);
        Ok(self.with_secret(created))
    }

    /// Revokes a key. One that was revoked before is gone, as a deleted key is at Audiobookshelf.
    pub(super) fn revoke_key(&self, id: &str, peer: Actor) -> Result<OneKey, AdminError> {
        let id = key_id(id)?;
        if self.registry.key(id)?.revoked_at.is_some() {
            return Err(RegistryError::Revoked(id).into());
        }
        let record = self.acting(peer).revoke_key(id)?;
        self.log("revoked", &record, peer);
        Ok(self.one_key(&record))
    }

    fn new_key(&self, request: NewKeyRequest, peer: Actor) -> Result<NewKey, AdminError> {
        Ok(NewKey {
            account: self.account_for_key(&request.user_id)?,
            expires_at: self.expiry(request.expires_in, request.expires_at)?,
            is_active: request.is_active.unwrap_or(true),
            scopes: rights(request.scopes.as_deref(), request.preset.as_deref())?.unwrap_or(Scopes::FULL),
            libraries: request.libraries,
            limits: limits::of_new(request.limits)?,
            name: request.name,
            created_by: peer.created_by(),
        })
    }

    fn account_for_key(&self, text: &str) -> Result<AccountId, AdminError> {
        Ok(names::one_account(&self.sessions.accounts(), text)?.id)
    }

    pub(super) fn expiry(&self, seconds: Option<u64>, at: Option<String>) -> Result<Option<Timestamp>, AdminError> {
        let now = self.clock.now();
        match (seconds, at) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(AdminError::Invalid("give expiresIn or expiresAt, not both".into())),
            (Some(seconds), None) if (1..=MAX_EXPIRES_IN_SECS).contains(&seconds) => Ok(Some(now.plus(Duration::from_secs(seconds)))),
            (Some(_), None) => Err(AdminError::Invalid(format!("expiresIn must be between 1 and {MAX_EXPIRES_IN_SECS} seconds"))),
            (None, Some(text)) => parse_expiry(&text, now).map(Some),
        }
    }

    fn one_key(&self, record: &KeyRecord) -> OneKey {
        // What cannot be read is not shown; the key is.
        let last = self.last_uses(std::slice::from_ref(record)).unwrap_or_default();
        let mut api_key = view(record, self.sessions.account(record.account).as_ref(), last.get(&record.id), self.clock.now());
        let live = self.running.as_ref().and_then(|running| running.gateway.limits_of(record.id));
        api_key.limits_used = live.map(|live| limits::used(&live, &*self.clock));
        OneKey { api_key }
    }

    fn with_secret(&self, created: Created) -> OneKey {
        let mut answer = self.one_key(&created.record);
        answer.api_key.api_key = Some(Secret::new(created.key.expose().to_owned()));
        answer
    }

    fn log(&self, what: &str, record: &KeyRecord, peer: Actor) {
        let (id, name) = (record.id, &record.name);
        tracing::info!(key_id = %id, key_name = name, %peer, "key {id} {name:?} {what} by {peer}");
    }
}

pub(super) fn key_id(text: &str) -> Result<KeyId, AdminError> {
    text.parse().map_err(|_| AdminError::NotFound(format!("there is no key {text:?}: a key's id has ten characters")))
}

/// The scopes that are asked for by their names, by a preset, or by both; `None`: nothing is said.
fn rights(names: Option<&[String]>, preset: Option<&str>) -> Result<Option<Scopes>, AdminError> {
    let invalid = |error: &dyn std::error::Error| AdminError::Invalid(error.to_string());
    let by_name = names.map(Scopes::parse).transpose().map_err(|error| invalid(&error))?;
    let by_preset = preset.map(str::parse::<Preset>).transpose().map_err(|error| invalid(&error))?.map(Preset::scopes);
    let Some(all) = by_name.into_iter().chain(by_preset).reduce(Scopes::or) else { return Ok(None) };
    if all.is_empty() {
        let known = Scopes::ALL.listed();
        return Err(AdminError::Invalid(format!(
            "a key without a scope can do nothing: leave scopes out for preset full, or name some of {known}"
        )));
    }
    Ok(Some(all))
}

fn parse_expiry(text: &str, now: Timestamp) -> Result<Timestamp, AdminError> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| AdminError::Invalid(format!("expiresAt {text:?} is not a time like 2027-01-31T00:00:00Z")))?;
    let at = Timestamp::from_millis(time.as_millisecond());
    if at <= now {
        return Err(AdminError::Invalid(format!("expiresAt {text} has passed")));
    }
    Ok(at)
}

/// RFC 3339 with milliseconds, as Audiobookshelf writes times.
pub(super) fn iso(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.as_millis()).map_or_else(|_| "never".to_owned(), |time| format!("{time:.3}"))
}

const fn status_word(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "active",
        KeyStatus::Disabled => "disabled",
        KeyStatus::Expired => "expired",
        KeyStatus::Revoked => "revoked",
    }
}

/// Whole days that are left, where that is soon.
pub(super) fn days_left(record: &KeyRecord, now: Timestamp) -> Option<u64> {
    let expires_at = record.expires_at.filter(|at| *at > now && record.revoked_at.is_none())?;
    let days = expires_at.since(now).as_secs() / 86_400;
    (days < 30).then_some(days)
}

pub(super) fn view(record: &KeyRecord, account: Option<&Arc<AccountRecord>>, last: Option<&LastUse>, now: Timestamp) -> KeyView {
    KeyView {
        api_key: None,
        id: record.id.to_string(),
        name: record.name.clone(),
        description: None,
        expires_at: record.expires_at.map(iso),
        last_used_at: last.map(|last| iso(last.at)),
        last_used_from: last.map(|last| last.address.to_string()),
        last_used_by: last.map(|last| last.agent.clone()),
        requests: last.map_or(0, |last| last.requests),
        is_active: record.is_active && record.revoked_at.is_none(),
        scopes: record.scopes.names(),
        preset: Preset::of(record.scopes).map(|preset| preset.name().to_owned()),
        libraries: record.libraries.clone(),
        limits: limits::view(&record.limits),
        limits_used: None,
        permissions: None,
        created_at: iso(record.created_at),
        updated_at: iso(record.updated_at),
        user_id: record.account.0.to_string(),
        created_by_user_id: None,
        user: account.map(|account| UserView { id: account.id.0.to_string(), username: account.name.clone(), kind: "user".to_owned() }),
        account: account.map_or_else(|| format!("#{}", record.account.0), |account| account.full_name()),
        status: status_word(record.status(now)).to_owned(),
        expires_in_days: days_left(record, now),
        created_by: record.created_by.clone(),
        revoked_at: record.revoked_at.map(iso),
        previous_secret_until: record.previous.as_ref().map(|previous| previous.expires_at).filter(|at| *at > now).map(iso),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_as_audiobookshelf_writes_them() {
        assert_eq!(iso(Timestamp::from_millis(1_795_303_174_931)), "2026-11-21T23:19:34.931Z");
        assert_eq!(iso(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn an_expiry_that_has_passed_or_is_no_time_is_refused() {
        let now = Timestamp::from_secs(1_800_000_000);
        assert!(parse_expiry("2020-01-01T00:00:00Z", now).is_err());
        assert!(parse_expiry("tomorrow", now).is_err());
        assert_eq!(parse_expiry("2027-11-21T00:00:00+01:00", now).expect("a time"), Timestamp::from_secs(1_826_751_600));
    }
}
