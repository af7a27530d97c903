//! Engine.IO, over which Audiobookshelf's clients speak socket.io: its sessions, packets and who may speak in them.
//!
//! The media server asks for no credential at the handshake and takes one at any time, in an event `auth`. So keygate keeps a
//! `seat::Seat` for each session: whose it is, or that nobody has authenticated yet. Both transports judge by it.

pub(crate) mod engine;
pub(crate) mod packet;
pub mod query;
pub(crate) mod seat;
pub(crate) mod table;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::forward::socketio::seat::Seat;
use crate::forward::websocket::Closing;
use crate::policy::Permit;
use crate::secret::Secret;

/// What an `auth` comes to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// A good key: its account's token goes in its place.
    Token(Secret<String>, Box<Permit>),
    /// A credential of the server's own, where those may pass.
    Native,
    /// No good credential.
    Refused,
    /// The session ends.
    Closed(Closing),
}

/// A verdict on its way: a session may have to be obtained for it.
pub(crate) type Judging = Pin<Box<dyn Future<Output = Verdict>>>;

/// Who judges.
pub(crate) trait Doorman {
    /// Judges the credential of an `auth` (`None`: it has none that can be read), and notes in the seat whose it is from then on.
    fn judge(self: Rc<Self>, seat: Arc<Seat>, credential: Option<Secret<String>>) -> Judging;

    /// A permit for what a seat already is: authenticated on another connection of the same session.
    fn seated(&self, seat: &Seat) -> Option<Permit>;

    /// Whether it may send what only an administrator may.
    fn may_rule(&self, seat: &Seat) -> bool;

    /// How long the seat may still wait for its `auth`.
    fn patience(&self, seat: &Seat) -> std::time::Duration;
}
