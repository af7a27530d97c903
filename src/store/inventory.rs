//! What looking through a store and tidying it up found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most problems that are told one by one.
const TOLD: usize = 100;

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Size of the file.
    pub bytes: u64,
    /// Keys, revoked ones included.
    pub keys: u64,
    /// How many of them are revoked.
    pub revoked_keys: u64,
    /// Secrets by which keys are found.
    pub index_entries: u64,
    /// Accounts.
    pub accounts: u64,
    /// Sessions with media servers.
    pub sessions: u64,
    /// Media tickets and handed-out ids.
    pub handouts: u64,
    /// Admin tokens, revoked ones included.
    pub admin_tokens: u64,
    /// Accounts at ACME servers, and certificates of theirs.
    pub acme: u64,
    /// Lines of the audit log.
    #[serde(default)]
    pub audit_lines: u64,
    /// Keys that were ever used.
    #[serde(default)]
    pub used_keys: u64,
    /// One sentence each, a hundred at most; empty: the store is whole.
    pub problems: Vec<String>,
}

impl Inventory {
    /// One more that is wrong.
    pub(super) fn problem(&mut self, text: String) {
        match self.problems.len() {
            ..TOLD => self.problems.push(text),
            TOLD => self.problems.push("and more".to_owned()),
            _ => {}
        }
    }

    /// How many records there are, whatever they are: what a copy must have too.
    pub(super) const fn records(&self) -> [u64; 9] {
        let (accounts, sessions, handouts) = (self.accounts, self.sessions, self.handouts);
        [self.keys, self.index_entries, accounts, sessions, handouts, self.admin_tokens, self.acme, self.audit_lines, self.used_keys]
    }
}

/// What giving back space brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compacted {
    /// Size of the file before, in bytes.
    pub bytes_before: u64,
    /// And now.
    pub bytes_after: u64,
}
