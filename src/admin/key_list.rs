//! Which keys are listed, in which order, and which part of them. Whatever is asked, the keys are read from the store in one go, and only
//! those that are shown are made ready to be shown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::admin::Admin;
use crate::admin::api::KeyList;
use crate::admin::error::AdminError;
use crate::admin::keys::{MAX_EXPIRES_IN_SECS, view};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::record::{KeyRecord, KeyStatus};
use crate::store::records::AccountRecord;
use crate::upstream::AccountId;
use crate::usage::record::LastUse;

/// Most keys of one part.
const MOST: usize = 1000;

/// Which keys are listed, and in which order.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyFilter {
    /// Only what this text can mean.
    pub r#match: Option<String>,
    /// Only keys whose name, account or id holds this text, in any letter case.
    pub search: Option<String>,
    /// Revoked keys too.
    #[serde(default)]
    pub revoked: bool,
    /// Only keys that stand so; of revoked ones only if they are asked for.
    pub status: Option<Standing>,
    /// Only keys that were not used for so many seconds, and are older than that.
    pub stale: Option<u64>,
    /// Only keys that expire within so many seconds.
    pub expiring: Option<u64>,
    /// Only keys that were never used.
    #[serde(default)]
    pub unused: bool,
    /// Absent: newest first.
    pub sort: Option<Order>,
    /// At most so many keys, 1 to 1000; absent: all.
    pub limit: Option<usize>,
    /// With `limit`: which part, from 0 on.
    #[serde(default)]
    pub page: usize,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Good now.
    Active,
    /// Switched off.
    Disabled,
    /// Its time is over.
    Expired,
    /// Ended for good.
    Revoked,
}

impl From<Standing> for KeyStatus {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Active => Self::Active,
            Standing::Disabled => Self::Disabled,
            Standing::Expired => Self::Expired,
            Standing::Revoked => Self::Revoked,
        }
    }
}

/// An order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Those used last come first.
    LastUsed,
    /// By name, in any letter case.
    Name,
    /// Those with the most requests come first.
    Requests,
}

type Accounts = HashMap<AccountId, Arc<AccountRecord>>;
type LastUses = BTreeMap<KeyId, LastUse>;

impl KeyFilter {
    /// By what stands in the record.
    fn wants(&self, record: &KeyRecord, accounts: &Accounts, now: Timestamp) -> bool {
        let expires = |seconds| record.expires_at.is_some_and(|at| at > now && at <= now.plus(span(seconds)));
        (self.revoked || record.revoked_at.is_none())
            && self.status.is_none_or(|standing| record.status(now) == standing.into())
            && self.expiring.is_none_or(expires)
            && self.search.as_deref().is_none_or(|text| holds(record, accounts, text))
    }

    /// By its use as well.
    fn wants_with(&self, record: &KeyRecord, last: Option<&LastUse>, now: Timestamp) -> bool {
        let rests_since = last.map_or(record.created_at, |last| last.at);
        let is_stale = self.stale.is_none_or(|seconds| now.since(rests_since) >= span(seconds));
        is_stale && !(self.unused && last.is_some())
    }

    /// Whether it takes the use of all keys to tell which are shown.
    fn is_by_use(&self) -> bool {
        self.unused || self.stale.is_some() || matches!(self.sort, Some(Order::LastUsed | Order::Requests))
    }

    fn arrange(&self, records: &mut [KeyRecord], last: &LastUses) {
        match self.sort {
            Some(Order::LastUsed) => records.sort_by_key(|record| Reverse(last.get(&record.id).map(|last| last.at))),
            Some(Order::Requests) => records.sort_by_key(|record| Reverse(last.get(&record.id).map(|last| last.requests))),
            Some(Order::Name) => records.sort_by_cached_key(|record| record.name.to_lowercase()),
            None => {}
        }
    }
}

fn span(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(MAX_EXPIRES_IN_SECS))
}

/// `text` is in small letters; the end of an id is enough.
fn holds(record: &KeyRecord, accounts: &Accounts, text: &str) -> bool {
    let has = |whole: &str, part: &str| whole.to_lowercase().contains(part);
    has(&record.name, text)
        || accounts.get(&record.account).is_some_and(|account| has(&account.full_name(), text))
        || has(&record.id.to_string(), text.strip_prefix("kg_").unwrap_or(text))
}

impl Admin {
    /// The keys that are asked for. Blocking.
    pub(super) fn list_keys(&self, filter: &KeyFilter) -> Result<KeyList, AdminError> {
        if filter.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
            return Err(AdminError::Invalid(format!("limit must be 1 to {MOST}; without it, all keys are listed")));
        }
        let filter = KeyFilter { search: filter.search.as_ref().map(|text| text.to_lowercase()), ..filter.clone() };
        let now = self.clock.now();
        let accounts: Accounts = self.sessions.accounts().into_iter().map(|account| (account.id, account)).collect();
        let mut records = match filter.r#match.as_deref() {
            None => self.registry.keys(|record| filter.wants(record, &accounts, now))?,
            Some(text) => {
                let mut meant = self.matching_keys(text, filter.revoked)?;
                meant.retain(|record| filter.wants(record, &accounts, now));
                meant
            }
        };
        let mut last = if filter.is_by_use() { self.last_uses(&records)? } else { LastUses::new() };
        records.retain(|record| filter.wants_with(record, last.get(&record.id), now));
        filter.arrange(&mut records, &last);
        let total = records.len();
        if let Some(limit) = filter.limit {
            records = records.into_iter().skip(filter.page.saturating_mul(limit)).take(limit).collect();
        }
        if !filter.is_by_use() {
            last = self.last_uses(&records)?;
        }
        let view = |record: &KeyRecord| view(record, accounts.get(&record.account), last.get(&record.id), now);
        Ok(KeyList { api_keys: records.iter().map(view).collect(), total })
    }
}
