//! Learning from an answer which id the upstream hands out, before the client can use it.

use std::sync::Arc;

use super::scanner::Scanner;
use super::{Capability, Handouts};
use crate::keys::index::Verified;
use crate::upstream::UpstreamName;

/// To whom something is handed out.
#[derive(Debug)]
pub enum Holder {
    /// A key, for which it stands from then on.
    Key(Verified),
    /// A person with a credential of the server's own, about whom keygate knows no more.
    Person,
}

/// Watches the bytes of one answer.
pub struct Learning {
    scanner: Scanner,
    handouts: Arc<Handouts>,
    holder: Holder,
    upstream: UpstreamName,
    /// The item that the id will be for; `None`: it is of a play session.
    item: Option<String>,
}

impl std::fmt::Debug for Learning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learning").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Learning {
    /// The id will be the string `field` at the top of a JSON object, and is handed out to `holder`.
    pub fn new(handouts: Arc<Handouts>, field: &'static str, item: Option<&str>, holder: Holder, upstream: UpstreamName) -> Self {
        Self { scanner: Scanner::new(field), handouts, holder, upstream, item: item.map(str::to_owned) }
    }

    /// To be shown all bytes of the answer, decoded, each piece before it goes on to the client.
    pub fn see(&mut self, bytes: &[u8]) {
        if let Some(id) = self.scanner.read(bytes) {
            let what = self.item.as_deref().map_or(Capability::PlaySession, |item| Capability::Playback { item });
            match &self.holder {
                Holder::Key(key) => self.handouts.hand_out(&id, what, key, &self.upstream),
                Holder::Person => self.handouts.hand_out_to_person(&id, &self.upstream),
            }
        }
    }

    /// Whether the rest of the answer need not be shown.
    pub const fn is_done(&self) -> bool {
        self.scanner.is_done()
    }
}
