//! One connection, over real sockets.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::forward::body::RequestBody;

/// A line, and the server at its other end.
async fn pair() -> (Line, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    (Line::new(UpstreamIo::Plain(stream.into())), server)
}

fn request(method: &str, body: RequestBody) -> Outgoing {
    RequestHead::new(&method.parse().expect("a method"), "/path").with_body(body)
}

fn get() -> Outgoing {
    request("GET", RequestBody::empty())
}

/// All that the server is sent until it ends like this.
async fn heard(server: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(server.read_u8().await.expect("more of the request"));
    }
    String::from_utf8(text).expect("text")
}

async fn answer(server: &mut TcpStream, answer: &str) {
    heard(server, "\r\n\r\n").await;
    server.write_all(answer.as_bytes()).await.expect("answered");
}

/// The answer to a request, and its body.
async fn exchange(line: &mut Line, server: &mut TcpStream, method: &str, text: &str) -> (Response<()>, Result<Bytes, Broken>) {
    let (response, ()) = tokio::join!(line.send(request(method, RequestBody::empty())), answer(server, text));
    let (head, body) = response.expect("an answer").into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    (Response::from_parts(head, ()), body)
}

async fn failure(line: &mut Line, server: TcpStream, text: &str) -> Broken {
    let answered = async {
        let mut server = server;
        answer(&mut server, text).await;
    };
    match tokio::join!(line.send(get()), answered).0 {
        Ok(response) => response.into_body().collect().await.expect_err("a broken body"),
        Err(SendError::Broken(broken)) => broken,
        Err(SendError::Unsent(_)) => panic!("nothing was sent"),
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
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

#[tokio::test]
async fn an_answer_is_read_to_its_end_and_the_next_request_may_follow() {
    let (mut line, mut server) = pair().await;
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let (head, body) = exchange(&mut line, &mut server, "GET", text).await;
        assert_eq!((head.status().as_u16(), &body.expect("whole")[..]), (200, &b"hello"[..]));
        assert!(line.is_open() && !line.is_over());
    }
}

#[tokio::test]
async fn an_answer_without_a_body_ends_with_its_head_and_the_next_request_may_follow() {
    let (mut line, mut server) = pair().await;
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let (head, body) = exchange(&mut line, &mut server, method, &format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n")).await;
        assert_eq!((head.headers()["content-length"].as_bytes(), body.expect("none").len()), (&b"5"[..], 0));
        assert!(line.is_open() && !line.is_over());
    }
}

#[tokio::test]
async fn what_comes_beyond_an_answers_end_is_nobodys_answer() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi ",
    ] {
        let (mut line, mut server) = pair().await;
        assert_eq!(&exchange(&mut line, &mut server, "GET", text).await.1.expect("whole")[..], b"hi");
        assert!(!line.is_open(), "{text}");
    }
    let (mut line, mut server) = pair().await;
    exchange(&mut line, &mut server, "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.1.expect("none");
    assert!(!line.is_open());
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_or_says_that_it_closes_is_the_last() {
    for (text, length) in [
        ("HTTP/1.1 200 OK\r\n\r\nall that comes", 14),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 0),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", 2),
    ] {
        let (mut line, mut server) = pair().await;
        let (response, ()) = tokio::join!(line.send(get()), answer(&mut server, text));
        drop(server);
        let body = response.expect("an answer").into_body().collect().await.expect("whole").to_bytes();
        assert_eq!((body.len(), line.is_open()), (length, false), "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for (text, says) in [
        ("", "closed"),
        ("HTTP/1.1 200 OK\r\nContent-Len", "closed"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "closed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "closed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "closed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", "closed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhi", "chunks"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello", "length"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP"),
    ] {
        let (mut line, server) = pair().await;
        let broken = failure(&mut line, server, text).await.to_string();
        assert!(broken.contains(says) && !line.is_open(), "{text}: {broken}");
    }
}

#[tokio::test]
async fn a_body_goes_out_with_its_length_or_in_chunks() {
    let (mut line, mut server) = pair().await;
    let body = RequestBody::held(vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")]);
    let sent = body.sent();
    let hear = async {
        let text = heard(&mut server, "hello").await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("answered");
        text
    };
    let (response, text) = tokio::join!(line.send(request("POST", body)), hear);
    assert_eq!(text, "POST /path HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
    drop(response.expect("an answer"));
    assert!(sent.is_complete() && sent.bytes() == 5 && line.is_written() && line.is_open());
}

#[tokio::test]
async fn a_server_that_will_not_read_all_is_heard_before_it_hangs_up() {
    let (mut line, mut server) = pair().await;
    let refuse = async {
        heard(&mut server, "\r\n\r\n").await;
        server.write_all(b"HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.expect("answered");
    };
    // More than all buffers between hold.
    let body = RequestBody::held(vec![Bytes::from(vec![b'x'; 1 << 20]); 64]);
    let (response, ()) = tokio::join!(line.send(request("POST", body)), refuse);
    assert_eq!(response.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!line.is_written() && !line.is_open());
}

#[tokio::test]
async fn a_switch_of_protocols_gives_the_socket_and_what_came_on_it() {
    let (mut line, mut server) = pair().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nearly";
    let (response, ()) = tokio::join!(line.send(get()), answer(&mut server, switch));
    let body = response.expect("an answer").into_body();
    assert!(!line.is_open());
    drop(line);
    let (UpstreamIo::Plain(mut socket), early) = body.into_socket().expect("the socket") else { panic!("a plain one") };
    assert_eq!(&early[..], b"early");
    socket.write_all(b"ping").await.expect("written");
    let mut four = [0; 4];
    server.read_exact(&mut four).await.expect("read");
    assert_eq!(&four, b"ping");
}

#[tokio::test]
async fn a_line_that_is_dropped_closes_its_connection() {
    let (mut line, mut server) = pair().await;
    let (response, ()) = tokio::join!(line.send(get()), answer(&mut server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"));
    drop((response.expect("an answer"), line));
    assert!(matches!(server.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn who_drops_an_answer_is_not_woken_by_that_and_neither_is_he_by_the_next_request() {
    let (mut line, mut server) = pair().await;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (response, ()) = tokio::join!(polled(&waker, line.send(get())), answer(&mut server, text));
    let mut body = response.expect("an answer").into_body();
    assert_eq!(polled(&waker, body.frame()).await.expect("a frame").expect("data").into_data().expect("data"), "hello");
    let before = wakes.0.load(Ordering::Relaxed);
    drop(body);
    assert_eq!(exchange(&mut line, &mut server, "GET", text).await.1.expect("whole"), "hello");
    assert_eq!(wakes.0.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_line_on_which_the_server_hung_up_or_speaks_unasked_is_over_and_says_so_to_who_looks_and_to_who_sends() {
    for unasked in [None, Some("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")] {
        let (mut line, mut server) = pair().await;
        exchange(&mut line, &mut server, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.1.expect("empty");
        match unasked {
            None => server.shutdown().await.expect("hung up"),
            Some(text) => server.write_all(text.as_bytes()).await.expect("said"),
        }
        while !line.is_over() {
            tokio::task::yield_now().await;
        }
        assert!(!line.is_open());
        assert!(matches!(line.send(get()).await, Err(SendError::Unsent(_))), "{unasked:?}");
    }
}
