//! How long a client may take. hyper has no such limits of its own, or sets a timer per request.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::server::connection::Peer;

/// How often bytes moved. One core alone writes it: plain stores are enough.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
    /// Whether the socket is to end without what it still holds.
    pub(super) is_aborted: AtomicBool,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Patience with a client. It looks at coarse intervals instead of setting timers per request: a limit is noticed between once and
/// twice its time.
pub(super) struct Guard {
    pub(super) peer: Rc<Peer>,
    moved: Arc<Moved>,
    pub(super) limits: Limits,
    protocol: Protocol,
    pub(super) look_every: Duration,
    seen: Seen,
}

struct Seen {
    state: State,
    /// Since when nothing of what the current state waits for has happened.
    since: Instant,
    /// Since when bytes come that are not a whole head yet, after an earlier request.
    head_since: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct State {
    read: u64,
    written: u64,
    begun: u64,
    running: bool,
}

impl Guard {
    #[expect(clippy::disallowed_methods, reason = "measures the same monotonic time as the timer that asks")]
    pub(super) fn new(peer: Rc<Peer>, moved: Arc<Moved>, limits: Limits, protocol: Protocol) -> Self {
        let look_every = limits.header_timeout.min(limits.keep_alive_timeout).min(limits.idle_timeout);
        let seen = Seen { state: State::default(), since: Instant::now(), head_since: None };
        Self { peer, moved, limits, protocol, look_every, seen }
    }

    /// Whether the connection must end because the key died that its answer runs on: of HTTP/2, only the stream must.
    pub(super) fn is_cut(&self, cx: &mut Context<'_>) -> bool {
        self.protocol == Protocol::Http1 && self.peer.is_cut(cx)
    }

    /// Whether the connection ends because of a key that died in mid-answer; of HTTP/2, only the stream ends. Its socket is then closed
    /// with a reset: what waits in the kernel for a client that reads slowly can be minutes of music, and an answer that ends with its
    /// connection would look whole.
    pub(super) fn has_been_cut(&self) -> bool {
        let is_cut = self.protocol == Protocol::Http1 && self.peer.was_cut.get();
        if is_cut {
            self.moved.is_aborted.store(true, Ordering::Relaxed);
        }
        is_cut
    }

    /// Whether no request has come yet.
    pub(super) fn is_unused(&self) -> bool {
        self.peer.begun.get() == 0
    }

    fn state(&self) -> State {
        let (read, written) = (self.moved.read.load(Ordering::Relaxed), self.moved.written.load(Ordering::Relaxed));
        State { read, written, begun: self.peer.begun.get(), running: self.peer.running.get() > 0 }
    }

    /// Whether the client has had its time; asked once every [`Guard::look_every`].
    pub(super) fn has_lost_patience(&mut self, now: Instant) -> bool {
        let (state, before) = (self.state(), self.seen.state);
        self.seen.state = state;
        let (has_read, has_written) = (state.read != before.read, state.written != before.written);
        let is_new = (state.begun, state.running) != (before.begun, before.running);
        if is_new {
            (self.seen.since, self.seen.head_since) = (now, None);
        }
        let limit = match (state.running, state.begun, self.protocol) {
            // A request is served: any byte in either direction is a sign of life.
            (true, ..) => {
                if has_read || has_written {
                    self.seen.since = now;
                }
                self.limits.idle_timeout
            }
            // No request yet: bytes are no excuse.
            (false, 0, _) => self.limits.header_timeout,
            // Between streams: pings keep nothing open.
            (false, _, Protocol::Http2) => self.limits.keep_alive_timeout,
            (false, _, Protocol::Http1) => {
                if has_written {
                    // The rest of an answer is still on its way out of hyper's buffer.
                    self.seen.since = now;
                } else if has_read && !is_new {
                    self.seen.head_since.get_or_insert(now);
                }
                self.limits.keep_alive_timeout
            }
        };
        let head_is_late = self.seen.head_since.is_some_and(|since| now.duration_since(since) >= self.limits.header_timeout);
        head_is_late || now.duration_since(self.seen.since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;

    use http::HeaderValue;

    use super::*;
    use crate::server::connection::Busy;

    /// A guard whose limits are 10 s for a head, 60 s between requests, 600 s without a byte.
    fn guard(protocol: Protocol) -> (Guard, Instant) {
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            header: HeaderValue::from_static("127.0.0.1"),
            is_tls: false,
            hsts: None,
            upstream: None,
            running: Cell::new(0),
            begun: Cell::new(0),
            answer_moved: Cell::new(false),
            key: std::cell::RefCell::default(),
            was_cut: Cell::new(false),
        };
        let seconds = Duration::from_secs;
        let limits = Limits {
            max_connections: 0,
            max_connections_per_address: 0,
            max_header_bytes: 0,
            max_headers: 0,
            max_uri_bytes: 0,
            header_timeout: seconds(10),
            keep_alive_timeout: seconds(60),
            idle_timeout: seconds(600),
        };
        let guard = Guard::new(Rc::new(peer), Arc::default(), limits, protocol);
        let start = guard.seen.since;
        (guard, start)
    }

    fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The second, in steps of ten, at which patience ends while `each` happens before every look.
    fn lost_after(guard: &mut Guard, start: Instant, each: impl Fn(&Guard)) -> Option<u64> {
        (1..200).map(|n| n * 10).find(|&second| {
            each(guard);
            guard.has_lost_patience(start + Duration::from_secs(second))
        })
    }

    #[test]
    fn a_first_head_has_its_time_however_many_bytes_come() {
        let (mut silent, start) = guard(Protocol::Http1);
        assert_eq!(lost_after(&mut silent, start, |_| ()), Some(10));
        let (mut trickling, start) = guard(Protocol::Http1);
        assert_eq!(lost_after(&mut trickling, start, |guard| bump(&guard.moved.read)), Some(10));
    }

    #[test]
    fn a_head_after_a_long_pause_has_its_whole_time_and_no_more() {
        let (mut guard, start) = guard(Protocol::Http1);
        drop(Busy::begin(&guard.peer));
        assert!((1..=6).all(|n| !guard.has_lost_patience(start + Duration::from_secs(n * 10))), "50 s of silence are allowed");
        bump(&guard.moved.read);
        assert!(!guard.has_lost_patience(start + Duration::from_secs(65)), "a head that has just begun is not late");
        bump(&guard.moved.read);
        assert!(guard.has_lost_patience(start + Duration::from_secs(75)), "but bytes are no excuse");
    }

    #[test]
    fn the_rest_of_an_answer_may_leave_slowly() {
        let (mut guard, start) = guard(Protocol::Http1);
        drop(Busy::begin(&guard.peer));
        assert_eq!(lost_after(&mut guard, start, |guard| bump(&guard.moved.written)), None);
    }

    #[test]
    fn pings_do_not_shorten_nor_lengthen_the_life_of_an_idle_http2_connection() {
        for pings in [false, true] {
            let (mut guard, start) = guard(Protocol::Http2);
            drop(Busy::begin(&guard.peer));
            let each = |guard: &Guard| {
                if pings {
                    bump(&guard.moved.read);
                    bump(&guard.moved.written);
                }
            };
            assert_eq!(lost_after(&mut guard, start, each), Some(70), "pings: {pings}");
        }
    }

    #[test]
    fn a_request_lives_as_long_as_bytes_move_in_one_direction() {
        let (mut moving, start) = guard(Protocol::Http1);
        let _busy = Busy::begin(&moving.peer);
        assert_eq!(lost_after(&mut moving, start, |guard| bump(&guard.moved.written)), None);
        let (mut stalled, start) = guard(Protocol::Http1);
        let _busy = Busy::begin(&stalled.peer);
        assert_eq!(lost_after(&mut stalled, start, |_| ()), Some(610));
    }
}
