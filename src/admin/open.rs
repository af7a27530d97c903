//! What is open now, in numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::usage::open::Sort;

/// What is open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenView {
    /// Connections of clients, their sockets included.
    pub connections: usize,
    /// Streams and uploads of keys, as of the last second.
    pub streams: usize,
    /// Sockets of keys.
    pub sockets: usize,
}

impl Admin {
    /// `None`: no gateway runs. Blocking.
    pub(super) fn open_now(&self) -> Result<Option<OpenView>, AdminError> {
        let Some(running) = &self.running else { return Ok(None) };
        let open = self.counted(|usage| usage.open(None))?;
        let sockets = open.iter().filter(|view| view.sort == Sort::Socket).count();
        Ok(Some(OpenView { connections: running.gateway.connections().open(), streams: open.len() - sockets, sockets }))
    }
}
