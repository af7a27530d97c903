//! Learning from an answer which id the upstream hands out, before the client can use it.

use std::sync::Arc;

use super::scanner::Scanner;
use super::{Capability, Handouts};
use crate::keys::index::Verified;
use crate::upstream::UpstreamName;

/// Watches the bytes of one answer.
pub struct Learning {
    scanner: Scanner,
    handouts: Arc<Handouts>,
    key: Verified,
    upstream: UpstreamName,
    /// The item that the id will be for; `None`: it is of a play session.
    item: Option<String>,
}

impl std::fmt::Debug for Learning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learning").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Learning {
    /// The id will be the string `field` at the top of a JSON object, and is handed out to `key`.
    pub fn new(handouts: Arc<Handouts>, field: &'static str, item: Option<&str>, key: Verified, upstream: UpstreamName) -> Self {
        Self { scanner: Scanner::new(field), handouts, key, upstream, item: item.map(str::to_owned) }
    }

    /// To be shown all bytes of the answer, decoded, each piece before it goes on to the client.
    pub fn see(&mut self, bytes: &[u8]) {
        if let Some(id) = self.scanner.read(bytes) {
            let what = self.item.as_deref().map_or(Capability::PlaySession, |item| Capability::Playback { item });
            self.handouts.hand_out(&id, what, &self.key, &self.upstream);
        }
    }

    /// Whether the rest of the answer need not be shown.
    pub const fn is_done(&self) -> bool {
        self.scanner.is_done()
    }
}
