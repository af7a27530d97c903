//! How the latest reload went: for whoever was not there to read it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::TakenOver;
use crate::admin::keys::iso;
use crate::clock::Timestamp;

/// The latest reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadView {
    /// When.
    pub at: String,
    /// Who asked for it.
    pub asked_by: String,
    /// What changed, one sentence each.
    pub changes: Vec<String>,
    /// Why it was not taken over; null: it was.
    pub problems: Option<String>,
}

impl ReloadView {
    pub(super) fn new(outcome: &Result<TakenOver, String>, at: Timestamp, asked_by: &dyn fmt::Display) -> Self {
        Self {
            at: iso(at),
            asked_by: asked_by.to_string(),
            changes: outcome.as_ref().map(|taken| taken.changes.clone()).unwrap_or_default(),
            problems: outcome.as_ref().err().cloned(),
        }
    }
}
