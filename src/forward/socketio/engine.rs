//! The client's side of a socket of Engine.IO: judges what it says, and puts the account's token in the place of its key.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use crate::forward::socketio::packet::{self, Auth, Claim};
use crate::forward::socketio::seat::Seat;
use crate::forward::socketio::{Doorman, Judging, Verdict};
use crate::forward::websocket::Closing;
use crate::forward::websocket::direction::Filter;
use crate::forward::websocket::frame;
use crate::forward::websocket::sink::Sink;
use crate::forward::websocket::up::{Held, Looked, Up};
use crate::policy::Permit;

/// One socket's.
pub(crate) struct Engine {
    up: Up,
    seat: Arc<Seat>,
    doorman: Rc<dyn Doorman>,
    /// Nobody has authenticated yet, as far as this socket knows.
    is_early: bool,
    /// An `auth` that is being judged, and what the client has sent after it.
    asked: Option<Box<Asked>>,
    rest: Bytes,
    news: News,
}

struct Asked {
    judging: Judging,
    auth: Option<Auth>,
    held: Held,
}

/// What the other parts of the socket are to know.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The socket runs on this from now on.
    pub(crate) permit: Option<Box<Permit>>,
    /// Its client has logged in at the server.
    pub(crate) is_native: bool,
    /// Text messages for the client.
    pub(crate) replies: Vec<&'static str>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(seat: Arc<Seat>, doorman: Rc<dyn Doorman>) -> Self {
        let is_early = seat.is_waiting();
        Self { up: Up::new(), seat, doorman, is_early, asked: None, rest: Bytes::new(), news: News::default() }
    }

    /// Whose socket it is.
    pub(crate) const fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// What happened since this was asked last.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// How long somebody may still authenticate; `None` when somebody has.
    ///
    /// # Errors
    /// [`Closing::LATE`], and as [`Engine::catch_up`].
    pub(crate) fn patience(&mut self) -> Result<Option<Duration>, Closing> {
        self.catch_up()?;
        if !self.is_early {
            return Ok(None);
        }
        match self.doorman.patience(&self.seat) {
            Duration::ZERO => Err(Closing::LATE),
            left => Ok(Some(left)),
        }
    }

    /// The client may have authenticated over polling meanwhile.
    fn catch_up(&mut self) -> Result<(), Closing> {
        if self.is_early && !self.seat.is_waiting() {
            self.is_early = false;
            match self.seat.standing() {
                crate::forward::socketio::seat::Standing::Native => self.news.is_native = true,
                _ => self.news.permit = Some(Box::new(self.doorman.seated(&self.seat).ok_or(Closing::REVOKED)?)),
            }
        }
        Ok(())
    }

    fn look(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        self.catch_up()?;
        let mut at = 0;
        loop {
            match self.up.pass(data, at, self.is_early, sink)? {
                Looked::Through => return Ok(()),
                Looked::To(end, held) => {
                    at = end;
                    if self.judge(held, sink)? {
                        // The rest waits for the verdict. It is rare that there is any.
                        self.rest = Bytes::copy_from_slice(&data[at..]);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Judges a whole message; `true`: that takes a while.
    fn judge(&mut self, held: Held, sink: &mut Sink<'_>) -> Result<bool, Closing> {
        match packet::claim(&held.text, true) {
            Claim::Auth => {}
            _ if self.is_early && !packet::may_client_begin_with(&held.text) => return Err(Closing::EARLY),
            // As if the server had not heard it, which is what it does for users who are no administrators.
            Claim::Ruling if !self.doorman.may_rule(&self.seat) => return Ok(false),
            _ => {
                sink.put(&held.wire);
                return Ok(false);
            }
        }
        let text = std::str::from_utf8(&held.text).map_err(|_| Closing::MALFORMED)?;
        let auth = Auth::read(text);
        let credential = auth.as_ref().map(|auth| auth.credential.clone());
        let judging = Rc::clone(&self.doorman).judge(Arc::clone(&self.seat), credential);
        self.asked = Some(Box::new(Asked { judging, auth, held }));
        Ok(true)
    }

    /// What goes to the server after a verdict.
    fn obey(&mut self, verdict: Verdict, asked: Asked) -> Result<Bytes, Closing> {
        match (verdict, asked.auth) {
            (Verdict::Token(token, permit), Some(auth)) => {
                self.is_early = false;
                self.news.permit = Some(permit);
                let mask = getrandom::u32().map_err(|_| Closing::NO_SESSION)?.to_ne_bytes();
                Ok(frame::frame(1, auth.with(&token).expose().as_bytes(), Some(mask)).into())
            }
            (Verdict::Native, _) => {
                self.is_early = false;
                self.news.is_native = true;
                Ok(asked.held.wire.into())
            }
            (Verdict::Closed(closing), _) => Err(closing),
            (Verdict::Refused | Verdict::Token(..), _) => {
                self.news.replies.push(packet::AUTH_FAILED);
                Ok(Bytes::new())
            }
        }
    }
}

impl Filter for Engine {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Closing>> {
        loop {
            if let Some(asked) = &mut self.asked {
                let verdict = ready!(asked.judging.as_mut().poll(cx));
                let Some(asked) = self.asked.take() else { continue };
                let out = self.obey(verdict, *asked)?;
                if !out.is_empty() {
                    return Poll::Ready(Ok(out));
                }
            }
            if self.rest.is_empty() {
                return Poll::Ready(Ok(Bytes::new()));
            }
            let data = std::mem::take(&mut self.rest);
            let mut sink = Sink::new(&data);
            self.look(&data, &mut sink)?;
            if !sink.bytes().is_empty() {
                return Poll::Ready(Ok(Bytes::copy_from_slice(sink.bytes())));
            }
        }
    }

    fn pass(&mut self, data: &Bytes, sink: &mut Sink<'_>) -> Result<(), Closing> {
        self.look(data, sink)
    }
}
