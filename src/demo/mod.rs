//! Small, honest stand-ins of the three media servers, for `keygate demo` and for the tests.
//!
//! They hold nobody's code. They answer as the recorded and documented servers do where a gateway can tell the difference:
//! which carriers count and in which order, what a 401 looks like, how tokens are born, rotate and die, which media are
//! open, where the server writes a token into an answer, ranges, sockets, the log-in limiter. Everything else is as small as
//! the real client programs of the test suite allow.
//!
//! [`StandIn::start`] serves one of them; [`Control`] is the other end of it: counters, a journal of what arrived, every
//! secret that was handed out, and faults to order.

mod answer;
mod audiobookshelf;
mod body;
mod call;
mod canned;
mod control;
mod journal;
mod ledger;
mod media;
mod mediabrowser;
mod mpegts;
mod odd;
mod options;
mod random;
mod signed;
mod standin;
mod websocket;

pub use canned::Canned;
pub use control::{Control, Faults};
pub use journal::{Counters, Seen, Upload};
pub use options::{Options, User};
pub use standin::StandIn;
