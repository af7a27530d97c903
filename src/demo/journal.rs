//! What a stand-in saw: counters and a journal of request heads.

use http::{HeaderMap, Method};

/// How often things happened. All counts begin at zero when the stand-in starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head arrived.
    pub requests: u64,
    /// Log-ins that succeeded.
    pub logins: u64,
    /// Log-ins that were refused (wrong password, disabled).
    pub refused_logins: u64,
    /// Calls of `/auth/refresh` that gave a token.
    pub refreshes: u64,
    /// Calls of `/auth/refresh` that were refused.
    pub refused_refreshes: u64,
    /// Log-outs.
    pub logouts: u64,
    /// Answers 401 to anything but a log-in or refresh.
    pub unauthorized: u64,
    /// Answers whose body the other side did not take to its end.
    pub aborted_answers: u64,
    /// Requests whose body ended before it was complete.
    pub aborted_uploads: u64,
    /// Sockets that are open now.
    pub open_sockets: u64,
    /// Multipart bytes that were spooled before anybody asked who sends them.
    pub spooled_bytes: u64,
    /// Sessions and API keys that were made by an administrator for a user.
    pub minted: u64,
    /// Calls that would have restarted or shut the server down.
    pub restarts: u64,
}

/// One received request head.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: Method,
    /// Target as received, query included.
    pub target: String,
    /// Headers as received.
    pub headers: HeaderMap,
    /// Declared length of the body in bytes; `None` for chunked or no body.
    pub content_length: Option<u64>,
}

impl Seen {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query as received, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One body that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Bytes of the raw body.
    pub bytes: u64,
    /// SHA-256 of the raw body, lower-case hex.
    pub sha256: String,
}
