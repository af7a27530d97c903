//! What passes through a WebSocket: frames, and what is looked for in them.

pub(crate) mod direction;
pub(crate) mod down;
pub(crate) mod frame;
pub(crate) mod judge;
pub(crate) mod sink;
pub(crate) mod up;

use crate::lifeline::Cause;

/// Why keygate closes a WebSocket, as a close frame says it (RFC 6455, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The code.
    pub(crate) code: u16,
    /// For people; at most 123 bytes.
    pub(crate) reason: &'static str,
}

impl Closing {
    pub(crate) const REVOKED: Self = Self { code: 1008, reason: "key revoked" };
    pub(crate) const USED_UP: Self = Self { code: 1008, reason: "daily bytes used up" };
    /// The key is good: the client may come again.
    pub(crate) const CLOSED: Self = Self { code: 1001, reason: "closed by the operator" };
    pub(crate) const TOO_MANY: Self = Self { code: 1013, reason: "too many sessions" };
    pub(crate) const MALFORMED: Self = Self { code: 1002, reason: "malformed frame" };
    pub(crate) const TOO_LARGE: Self = Self { code: 1009, reason: "message too large" };
    pub(crate) const LEAK: Self = Self { code: 1011, reason: "message withheld" };
    pub(crate) const LATE: Self = Self { code: 1008, reason: "not authenticated in time" };
    pub(crate) const EARLY: Self = Self { code: 1008, reason: "authentication comes first" };
    pub(crate) const OTHER_IDENTITY: Self = Self { code: 1008, reason: "already authenticated otherwise" };
    pub(crate) const GUESSES: Self = Self { code: 1008, reason: "too many failed authentications" };
    pub(crate) const NO_SESSION: Self = Self { code: 1013, reason: "media server unavailable" };
    pub(crate) const STOPPING: Self = Self { code: 1001, reason: "going away" };

    /// What a socket is told whose key has died, or whose end somebody wants.
    pub(crate) const fn of(cause: Cause) -> Self {
        match cause {
            Cause::Closed => Self::CLOSED,
            Cause::UsedUp => Self::USED_UP,
            _ => Self::REVOKED,
        }
    }

    /// Whether the server's own bytes are the reason: then no boundary comes any more.
    pub(crate) fn is_about_the_server(self) -> bool {
        matches!(self, Self::MALFORMED | Self::LEAK | Self::TOO_LARGE | Self::EARLY)
    }
}

impl std::fmt::Display for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}
