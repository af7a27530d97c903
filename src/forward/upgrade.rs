//! After the upstream's 101: bytes both ways, outside hyper.
//!
//! An idle socket costs its two descriptors and this task. There is no buffer per socket: a core's scratch buffer serves whichever
//! of its sockets has something to say, and only what the other side would not take at once is kept.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use crate::clock::Clock;
use crate::forward::socketio::engine::Engine;
use crate::forward::websocket::direction::{self, Direction, End};
use crate::forward::websocket::down::Down;
use crate::forward::websocket::judge::Judge;
use crate::forward::websocket::{Closing, frame};
use crate::gateway::trail::Trail;
use crate::policy::Admission;
use crate::server::drain::Farewell;
use crate::usage::open::Sort;

/// Once one side has closed, the other may be silent for no longer than this: a WebSocket is not half open for long (RFC 6455,
/// section 7.1.1).
const LINGER: Duration = Duration::from_secs(10);
/// When keygate closes a socket: for the frame that is on its way, the close frame, and the client's end of it.
const GRACE: Duration = Duration::from_millis(500);

/// How a bridge ended.
#[derive(Debug)]
pub struct Bridged {
    /// Bytes from the client to the upstream.
    pub from_client: u64,
    /// Bytes from the upstream to the client.
    pub to_client: u64,
    /// What broke it off; `Ok` when both sides closed.
    pub result: io::Result<()>,
    /// The notes.
    pub trail: Option<Box<Trail>>,
}

/// What a bridge is held to.
pub(crate) struct Watch {
    /// Ends with the key.
    pub(crate) admission: Admission,
    pub(crate) trail: Option<Box<Trail>>,
    /// While no byte moves.
    pub(crate) idle_timeout: Duration,
    pub(crate) down: Down,
    /// Where the client authenticates within the socket.
    pub(crate) engine: Option<Box<Engine>>,
    /// What judges the client's messages elsewhere.
    pub(crate) judge: Option<Box<Judge>>,
    /// Tells when the program stops.
    pub(crate) farewell: Option<Farewell>,
    /// Tells the day for which bytes count.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Copies until both sides have closed, one of them fails, nothing moved for the idle time-out, or keygate closes it.
pub(crate) struct Bridge<C, U> {
    client: C,
    upstream: U,
    to_upstream: Direction,
    to_client: Direction,
    watch: Watch,
    timer: Pin<Box<Sleep>>,
    /// The timer runs for an `auth` that has not come.
    is_early: bool,
    moved: u64,
    /// Messages of keygate's own.
    replies: Vec<&'static str>,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    closing: Closing,
    is_said: bool,
}

impl<C, U> Bridge<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// `early_client` and `early_upstream`: bytes that came with the handshake and belong to the tunnel.
    pub(crate) fn new((client, early_client): (C, Bytes), (upstream, early_upstream): (U, Bytes), watch: Watch) -> Self {
        let is_early = watch.engine.is_some();
        // The first look is for the engine, which says how long the next ones may take.
        let first = if is_early { Duration::ZERO } else { watch.idle_timeout };
        let mut bridge = Self {
            client,
            upstream,
            to_upstream: Direction::new(early_client),
            to_client: Direction::new(early_upstream),
            timer: Box::pin(sleep(first)),
            is_early,
            watch,
            moved: 0,
            replies: Vec::new(),
            ending: None,
        };
        bridge.keep_to_limits();
        bridge
    }

    /// Both directions keep to the limits of the key, if it has any.
    fn keep_to_limits(&mut self) {
        let Some(permit) = self.watch.admission.permit() else { return };
        let Some(limits) = permit.key().limits() else { return };
        for direction in [&mut self.to_upstream, &mut self.to_client] {
            direction.keep_to(limits, permit, &self.watch.clock);
        }
    }

    /// When nothing moves, or nobody says who it is.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let moved = self.to_upstream.bytes + self.to_client.bytes;
            if self.is_early {
                let left = self.watch.engine.as_mut().map_or(Ok(None), |engine| engine.patience())?;
                self.is_early = left.is_some();
                self.timer.set(sleep(left.unwrap_or(self.watch.idle_timeout)));
            } else if moved == self.moved {
                let why = format!("no byte moved for {:?}", self.watch.idle_timeout);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why).into()));
            } else {
                let next = self.timer.deadline() + self.watch.idle_timeout;
                self.timer.as_mut().reset(next);
            }
            self.moved = moved;
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.watch.farewell.as_mut().is_some_and(|farewell| farewell.has_come(cx)) {
            return Poll::Ready(Err(Closing::STOPPING.into()));
        }
        loop {
            if let Some(permit) = self.watch.admission.permit()
                && let Poll::Ready(cause) = permit.lifeline().watched().poll_cut(cx)
            {
                return Poll::Ready(Err(Closing::of(cause).into()));
            }
            let up = self.poll_up(cx)?;
            let has_changed = self.hear();
            let down = self.to_client.poll(cx, &mut self.upstream, &mut self.client, &mut self.watch.down)?;
            if let Some(trail) = &self.watch.trail {
                trail.moved(self.to_upstream.bytes, self.to_client.bytes);
            }
            if self.has_replied() || has_changed {
                continue;
            }
            if up.is_ready() && down.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if (up.is_ready() || down.is_ready()) && self.watch.idle_timeout > LINGER {
                self.watch.idle_timeout = LINGER;
                self.is_early = false;
                self.timer.set(sleep(LINGER));
            }
            ready!(self.poll_patience(cx))?;
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (client, upstream) = (&mut self.client, &mut self.upstream);
        match &mut self.watch.judge {
            None => self.to_upstream.poll(cx, client, upstream, &mut self.watch.engine),
            judge => self.to_upstream.poll(cx, client, upstream, judge),
        }
    }

    /// Hears whether somebody has authenticated; `true`: another key is to be watched.
    fn hear(&mut self) -> bool {
        let Some(engine) = &mut self.watch.engine else { return false };
        let news = engine.take_news();
        if news.is_native {
            self.watch.down.trust();
        }
        self.replies.extend(news.replies);
        let Some(permit) = news.permit else { return false };
        if let Some(trail) = &mut self.watch.trail {
            trail.admitted(&permit);
            trail.opens(Sort::Socket, &permit, None);
        }
        self.watch.admission = Admission::Key(*permit);
        self.keep_to_limits();
        true
    }

    /// Says what keygate itself has to say, once the server's message that is on its way is through.
    fn has_replied(&mut self) -> bool {
        if self.replies.is_empty() || !self.to_client.pending.is_empty() || !self.watch.down.is_between_messages() {
            return false;
        }
        self.to_client.pending = self.replies.drain(..).flat_map(|reply| frame::text(reply.as_bytes())).collect();
        true
    }

    /// The close frame at the next boundary, then the end. Nothing of the client's goes on.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.to_client.poll_drained(cx, &mut self.client))?;
            match &mut self.ending {
                Some(ending) if !ending.is_said => {
                    if self.watch.down.is_at_boundary() {
                        ending.is_said = true;
                        self.to_client.pending = frame::close(ending.closing.code, ending.closing.reason).into();
                        // Whether it hears of it does not matter: it is dropped soon.
                        let _ = Pin::new(&mut self.upstream).poll_shutdown(cx);
                    } else if ending.closing.is_about_the_server()
                        || ready!(self.to_client.poll_step(cx, &mut self.upstream, &mut self.client, &mut self.watch.down)).is_err()
                    {
                        return Poll::Ready(Ok(()));
                    }
                }
                _ => {
                    ready!(Pin::new(&mut self.client).poll_shutdown(cx))?;
                    // A socket that is closed with unread bytes is reset, and the close frame with it.
                    if ready!(direction::poll_read(cx, &mut self.client))?.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    fn begin_ending(&mut self, closing: Closing) {
        if let Some(engine) = &self.watch.engine {
            engine.seat().close();
        }
        if let Some(trail) = &mut self.watch.trail {
            trail.ended = self.watch.admission.permit().and_then(|permit| permit.lifeline().cause());
        }
        self.to_client.hurry();
        self.timer.set(sleep(GRACE));
        self.ending = Some(Ending { closing, is_said: false });
    }

    fn bridged(&mut self, result: io::Result<()>) -> Bridged {
        let trail = self.watch.trail.take();
        Bridged { from_client: self.to_upstream.bytes, to_client: self.to_client.bytes, result, trail }
    }
}

impl<C, U> Future for Bridge<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Bridged;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Bridged> {
        if self.ending.is_none() {
            match ready!(self.poll_open(cx)) {
                Ok(()) => return Poll::Ready(self.bridged(Ok(()))),
                Err(End::Io(error)) => return Poll::Ready(self.bridged(Err(error))),
                Err(End::Closing(closing)) => self.begin_ending(closing),
            }
        }
        // How the closing itself went does not matter; why does.
        let _ = ready!(self.poll_ending(cx));
        let why = self.ending.as_ref().map(|ending| ending.closing.to_string()).unwrap_or_default();
        Poll::Ready(self.bridged(Err(io::Error::other(why))))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::policy::{self, OpenRoutes};
    use crate::upstream::dialect::RouteClass;

    fn bridge(
        client: tokio::io::DuplexStream,
        upstream: tokio::io::DuplexStream,
        early: &'static [u8],
    ) -> Bridge<tokio::io::DuplexStream, tokio::io::DuplexStream> {
        let open = OpenRoutes { images: false, web_ui: false, shares: false };
        let pass = policy::open(RouteClass::Identity, open).expect("an open route");
        let watch = Watch {
            admission: Admission::Open(pass),
            trail: None,
            idle_timeout: Duration::from_secs(600),
            down: Down::new(None, None),
            engine: None,
            judge: None,
            farewell: None,
            clock: Arc::new(crate::clock::SystemClock::new()),
        };
        Bridge::new((client, Bytes::new()), (upstream, Bytes::from_static(early)), watch)
    }

    #[test]
    fn what_is_kept_of_an_idle_socket_is_small() {
        let bytes = size_of::<Bridge<crate::server::connection::ClientIo, crate::upstream::io::UpstreamIo>>();
        assert!(bytes <= 1024, "{bytes}");
    }

    #[tokio::test]
    async fn bytes_of_any_amount_arrive_whole_through_narrow_pipes() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(77);
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let talk = async move {
            app.write_all(&sent).await.expect("written");
            app.shutdown().await.expect("closed");
            let mut early = Vec::new();
            app.read_to_end(&mut early).await.expect("read");
            early
        };
        let listen = async move {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.expect("read");
            drop(server);
            got
        };
        let (early, got, done) = tokio::join!(talk, listen, bridge(client, upstream, b"\x82\x05early"));
        assert_eq!(got, expected);
        assert_eq!(early, b"\x82\x05early");
        assert_eq!((done.from_client, done.result.is_ok()), (300_000, true));
    }

    #[tokio::test]
    async fn one_direction_stays_open_when_the_other_closes() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(100);
        let talk = async move {
            app.shutdown().await.expect("closed");
            let mut got = Vec::new();
            app.read_to_end(&mut got).await.expect("read");
            got
        };
        let answer = async move {
            let mut nothing = Vec::new();
            server.read_to_end(&mut nothing).await.expect("read");
            server.write_all(b"\x82\x0astill here").await.expect("written");
        };
        let (got, (), _) = tokio::join!(talk, answer, bridge(client, upstream, b""));
        assert_eq!(got, b"\x82\x0astill here");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_bridge_ends_after_its_idle_time_and_a_talking_one_does_not() {
        let (mut app, client) = duplex(100);
        let (upstream, mut server) = duplex(100);
        let talk = async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(500)).await;
                app.write_all(b".").await.expect("the bridge still stands");
                let mut byte = [0];
                server.read_exact(&mut byte).await.expect("and still moves bytes");
            }
            (app, server)
        };
        let (_ends, done) = tokio::join!(talk, bridge(client, upstream, b""));
        assert_eq!(done.from_client, 5);
        assert_eq!(done.result.expect_err("timed out").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_close_after_the_other_did_is_not_waited_for_long() {
        let (app, client) = duplex(100);
        let (upstream, server) = duplex(100);
        drop(server);
        let done = tokio::time::timeout(LINGER * 3, bridge(client, upstream, b"")).await.expect("an end");
        assert_eq!(done.result.expect_err("timed out").kind(), io::ErrorKind::TimedOut);
        drop(app);
    }
}
