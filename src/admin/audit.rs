//! The audit log as the admin interface shows it: in pages, by a cursor that is a line's number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::keys::iso;
use crate::audit::{Actor, Entry, Field, Object, ObjectKind, Reading};
use crate::clock::Timestamp;

/// Most lines of one page.
pub const MOST: usize = 1000;
const USUAL: usize = 100;

/// `GET /api/audit?…`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditQuery {
    /// Lines with smaller numbers, newest first. Absent, and no `after`: the newest.
    pub before: Option<u64>,
    /// Lines with larger numbers, oldest first.
    pub after: Option<u64>,
    /// 1 to [`MOST`]; absent: 100.
    pub limit: Option<usize>,
    /// Of the key with this id only.
    pub key: Option<String>,
    /// Not older than this (RFC 3339).
    pub since: Option<String>,
    /// `acts` or `notices`; absent: both.
    pub sort: Option<Sort>,
}

/// Which lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// What somebody did, and states of the gateway.
    Acts,
    /// What strangers can bring about.
    Notices,
}

/// A page of the log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// In the order that was asked for.
    pub entries: Vec<AuditView>,
    /// What to ask for next, as `before` or `after`; null: that was all.
    pub next: Option<u64>,
}

/// A line.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// Its place in the one sequence.
    pub number: u64,
    /// RFC 3339 with milliseconds, in UTC.
    pub at: String,
    /// Who, in parts.
    pub actor: Actor,
    /// Who, as people read it.
    pub by: String,
    /// What was done.
    pub verb: String,
    /// To what.
    pub object: Object,
    /// Before and after. Of what was refused: `why`, how many `times`, and the `carrier` of each credential (`bearer`, `api_key`, `ticket`, …),
    /// as the access log and the metrics name it.
    pub fields: Vec<Field>,
}

impl From<Entry> for AuditView {
    fn from(entry: Entry) -> Self {
        let line = entry.line;
        Self {
            number: entry.number,
            at: iso(line.at),
            by: line.actor.to_string(),
            actor: line.actor,
            verb: line.verb.as_str().to_owned(),
            object: line.object,
            fields: line.fields,
        }
    }
}

impl Admin {
    /// A page of the log. Blocking.
    pub(super) fn audit(&self, query: &AuditQuery) -> Result<AuditPage, AdminError> {
        let limit = query.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(AdminError::Invalid(format!("limit must be 1 to {MOST}")));
        }
        let since = query.since.as_deref().map(parse_since).transpose()?;
        let from = match (query.before, query.after) {
            (Some(_), Some(_)) => return Err(AdminError::Invalid("give before or after, not both".to_owned())),
            (before, None) => Reading::Before(before.unwrap_or(u64::MAX)),
            (None, Some(after)) => Reading::After(after),
        };
        let (mut entries, mut next) = (Vec::new(), None);
        self.registry
            .audit(from, &mut |entry| {
                if since.is_some_and(|since| entry.line.at < since) {
                    // Times are in the order of the numbers, but for a clock that was let go of: the rest is not looked for.
                    return matches!(from, Reading::After(_));
                }
                if query.wants(&entry) {
                    if entries.len() == limit {
                        next = entries.last().map(|last: &AuditView| last.number);
                        return false;
                    }
                    entries.push(entry.into());
                }
                true
            })
            .map_err(crate::registry::RegistryError::Store)?;
        Ok(AuditPage { entries, next })
    }
}

impl AuditQuery {
    fn wants(&self, entry: &Entry) -> bool {
        let object = &entry.line.object;
        let is_of_key = self.key.as_ref().is_none_or(|key| object.kind == ObjectKind::Key && object.id == *key);
        let is_of_sort = self.sort.is_none_or(|sort| (sort == Sort::Notices) == entry.line.verb.is_notice());
        is_of_key && is_of_sort
    }
}

fn parse_since(text: &str) -> Result<Timestamp, AdminError> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    let time = time.map_err(|_| AdminError::Invalid(format!("since {text:?} is not a time like 2027-01-31T00:00:00Z")))?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}
