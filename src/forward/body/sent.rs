//! What becomes of a request's body.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

use super::{HELD_BYTES, RequestBody};
use crate::usage::open::Upload;

/// What the forwarder learns of a request's body while its connection to the upstream has it.
#[derive(Debug, Default)]
pub struct Sent {
    pub(super) bytes: Cell<u64>,
    pub(super) complete: Cell<bool>,
    pub(super) held: RefCell<Option<Vec<Bytes>>>,
    pub(super) client_failed: Cell<bool>,
    pub(super) waits_for_client: Cell<bool>,
    pub(super) client_broke_rules: Cell<bool>,
}

thread_local! {
    /// What became of a body that is none: all of it went. Most requests share this one.
    pub(super) static NOTHING: Rc<Sent> = Rc::new(Sent { complete: Cell::new(true), ..Sent::default() });
}

impl Sent {
    /// Bytes that went upstream.
    pub const fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether the whole body went upstream.
    pub const fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Whether the client's next bytes are waited for right now.
    pub(crate) const fn waits_for_client(&self) -> bool {
        self.waits_for_client.get()
    }

    /// Whether the client broke off, stalled or broke the rules.
    pub const fn client_failed(&self) -> bool {
        self.client_failed.get()
    }

    /// Whether the client's body was malformed or ended early; not whether it was slow.
    pub const fn client_broke_rules(&self) -> bool {
        self.client_broke_rules.get()
    }

    /// The body once more, if all of it went and it was small enough to be kept.
    pub fn replay(self: &Rc<Self>) -> Option<RequestBody> {
        if NOTHING.with(|nothing| Rc::ptr_eq(self, nothing)) {
            return Some(RequestBody::empty());
        }
        if !self.complete.get() {
            return None;
        }
        self.held.borrow_mut().take().map(RequestBody::held)
    }

    pub(super) fn note(&self, data: &Bytes) {
        self.bytes.set(self.bytes.get() + data.len() as u64);
        let mut held = self.held.borrow_mut();
        if self.bytes.get() > HELD_BYTES as u64 {
            *held = None;
        } else if let Some(frames) = held.as_mut() {
            frames.push(data.clone());
        }
    }
}

impl Upload for Sent {
    fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}
