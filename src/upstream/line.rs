//! One connection to the upstream. It has no task of its own: whoever waits for something from it drives it. A task of its own and that
//! of the client would wake each other four times a request.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::task::coop::unconstrained;

use crate::forward::body::RequestBody;
use crate::server::drain::Tasks;
use crate::upstream::io::UpstreamIo;

/// hyper's half of a connection that reads and writes.
pub(super) type Connection = http1::Connection<TokioIo<UpstreamIo>, RequestBody>;

/// One connection. Dropping it ends it at once, also in mid-request: an upload that nobody reads any more must not go on.
pub(super) struct Line {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    task: Option<AbortHandle>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Line {
    pub(super) fn new(sender: SendRequest<RequestBody>, connection: Connection) -> Self {
        Self { sender, driver: Driver::new(connection), task: None }
    }

    /// Sends a request and waits for the answer's head. The connection must be driven until the end of the answer's body:
    /// [`Line::driver`] or [`Line::drive_itself`].
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        // What is driven here cannot come while nobody looks: nothing has to be woken for it. Nor is it to wait for its turn.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let driver = &self.driver;
        std::future::poll_fn(|cx| {
            let _ = driver.drive(cx);
            let answer = ready!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())));
            driver.rest();
            Poll::Ready(answer)
        })
        .await
    }

    /// What drives it.
    pub(super) fn driver(&self) -> Driver {
        self.driver.clone()
    }

    /// Makes it a task, which ends with it: the answer came before the request's body was out, and each goes at its own pace from now on.
    /// It cannot be used again.
    pub(super) fn drive_itself(&mut self, tasks: &Tasks) {
        let driver = self.driver.clone();
        let task = tasks.spawn_local(std::future::poll_fn(move |cx| driver.drive(cx)));
        self.task = Some(task.abort_handle());
    }

    /// Whether it can carry another request, as far as is known. That the upstream hung up meanwhile shows when the next one is sent.
    pub(super) fn is_ready(&self) -> bool {
        self.task.is_none() && (self.sender.is_ready() || (self.driver.look().is_pending() && self.sender.is_ready()))
    }

    /// Whether it may carry another request after the one that has just ended.
    pub(super) fn is_open(&self) -> bool {
        self.task.is_none() && !self.sender.is_closed()
    }

    /// Whether the upstream has hung up on a connection that idles.
    pub(super) fn is_over(&self) -> bool {
        self.driver.look().is_ready()
    }
}

/// Lets a connection read and write as far as it can, for somebody who waits for what comes of it.
#[derive(Clone)]
pub struct Driver(Rc<Driven>);

struct Driven {
    connection: RefCell<Option<Connection>>,
    waiting: Arc<Waiting>,
    waker: Waker,
}

/// Who waits for the connection now. hyper, the socket and the channels between keep the waker that they last saw, which is that of an
/// earlier request: were it that one's own, each request would wake a stranger.
struct Waiting(AtomicWaker);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("ended", &self.0.connection.borrow().is_none()).finish()
    }
}

impl Driver {
    fn new(connection: Connection) -> Self {
        let waiting = Arc::new(Waiting(AtomicWaker::new()));
        let waker = Waker::from(Arc::clone(&waiting));
        Self(Rc::new(Driven { connection: RefCell::new(Some(connection)), waiting, waker }))
    }

    /// Ready when the connection has ended. Why it did reaches the request or the answer that was under way; on an idle connection it
    /// only means that the server hung up.
    fn drive(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.waiting.0.register(cx.waker());
        self.look()
    }

    /// The same for nobody in particular.
    fn look(&self) -> Poll<()> {
        let mut connection = self.0.connection.borrow_mut();
        let Some(running) = connection.as_mut() else { return Poll::Ready(()) };
        let ended = Pin::new(running).poll(&mut Context::from_waker(&self.0.waker)).map(drop);
        if ended.is_ready() {
            // What waits in it learns that it is over.
            *connection = None;
        }
        ended
    }

    /// Nobody waits any more. What is dropped now would wake him for nothing: hyper tells the connection that a body is not wanted any more.
    fn rest(&self) {
        self.0.waiting.0.take();
    }
}

/// The body of an upstream's answer, which drives its connection.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    driver: Option<Driver>,
}

impl AnswerBody {
    /// `driver`: drives its connection; `None` where that is a task.
    pub const fn new(incoming: Incoming, driver: Option<Driver>) -> Self {
        Self { incoming, driver }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, driver } = self.get_mut();
        let Some(driver) = driver else { return Pin::new(incoming).poll_frame(cx) };
        let unwoken = &mut Context::from_waker(Waker::noop());
        let mut frame = Pin::new(&mut *incoming).poll_frame(unwoken);
        if frame.is_pending() {
            let _ = driver.drive(cx);
            frame = Pin::new(incoming).poll_frame(unwoken);
        }
        if frame.is_ready() {
            driver.rest();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpStream;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn line(answer: &'static [u8]) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        std::thread::spawn(move || {
            let mut request = [0; 1024];
            while server.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                server.write_all(answer).expect("answered");
            }
        });
        let (sender, connection) = http1::handshake(TokioIo::new(UpstreamIo::Plain(stream.into()))).await.expect("no handshake can fail");
        Line::new(sender, connection)
    }

    /// Polls until it is ready, however seldom anybody is woken.
    async fn polled<F: Future>(waker: &Waker, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return output;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn frame(body: &mut AnswerBody) -> Option<Bytes> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.map(|frame| frame.expect("no error").into_data().expect("data"))
    }

    #[tokio::test]
    async fn who_drops_an_answer_is_not_woken_by_that_and_neither_is_he_by_the_next_request() {
        let mut line = line(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let response = polled(&waker, line.send(Request::new(RequestBody::empty()))).await.expect("an answer");
        let mut body = AnswerBody::new(response.into_body(), Some(line.driver()));
        assert_eq!(polled(&waker, frame(&mut body)).await.as_deref(), Some(&b"hello"[..]));
        let before = wakes.0.load(Ordering::Relaxed);
        drop(body);
        assert!(line.is_ready() && line.is_open());
        assert!(line.send(Request::new(RequestBody::empty())).await.is_ok());
        assert_eq!(wakes.0.load(Ordering::Relaxed), before);
    }

    #[tokio::test]
    async fn a_line_on_which_the_server_hung_up_is_over_and_says_so_to_who_looks() {
        let mut line = line(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        assert!(line.send(Request::new(RequestBody::empty())).await.is_ok());
        while !line.is_over() {
            tokio::task::yield_now().await;
        }
        assert!(!line.is_open() && !line.is_ready());
    }
}
