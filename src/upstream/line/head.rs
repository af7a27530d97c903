//! Heads of messages (RFC 9112, sections 2 to 5): a request's into bytes, an answer's out of bytes.

use std::io::Write;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use httparse::{ParserConfig, Status};
use memchr::memmem::Finder;

use super::Broken;
use super::framing::Extent;
use crate::forward::body::RequestBody;

/// Bytes of an answer's head; more is an attack or a broken server.
pub(super) const MOST_BYTES: usize = 64 << 10;
/// Lines of an answer's head.
const MOST_FIELDS: usize = 100;
/// What every answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.";
/// What ends a head. A bare line feed ends none: whoever else reads the answer might take it for something else.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Room for most heads of requests.
const USUAL_BYTES: usize = 1 << 10;

/// A request's head as it is written. It says nothing of how long its body is until it has one.
pub struct RequestHead {
    bytes: Vec<u8>,
    is_head: bool,
    /// A server may insist that it says how long its body is.
    wants_body: bool,
}

/// A session's token is among its lines.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl RequestHead {
    /// The first line. `target`: in origin form.
    pub fn new(method: &Method, target: &str) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        for piece in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            bytes.extend_from_slice(piece.as_bytes());
        }
        Self { bytes, is_head: method == Method::HEAD, wants_body: matches!(*method, Method::POST | Method::PUT | Method::PATCH) }
    }

    /// One more header.
    pub fn line(&mut self, name: &HeaderName, value: &HeaderValue) {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// With its body. One that could have a body and has none says so (RFC 9110, section 8.6): some servers answer 411 otherwise.
    pub fn with_body(self, body: RequestBody) -> Outgoing {
        let Self { bytes: mut head, is_head, wants_body } = self;
        let extent = Extent::of(&body);
        // Writing to memory does not fail.
        let _ = match extent {
            Extent::Nothing if wants_body => head.write_all(b"content-length: 0\r\n"),
            Extent::Nothing => Ok(()),
            Extent::Length(length) => write!(head, "content-length: {length}\r\n"),
            Extent::Chunked => head.write_all(b"transfer-encoding: chunked\r\n"),
        };
        head.extend_from_slice(b"\r\n");
        Outgoing { head, is_head, extent, body }
    }
}

/// A request as it goes out.
pub struct Outgoing {
    pub(super) head: Vec<u8>,
    /// Whether its method is HEAD.
    pub(super) is_head: bool,
    pub(super) extent: Extent,
    pub(super) body: RequestBody,
}

/// As [`RequestHead`].
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("head", &self.head.len()).field("extent", &self.extent).finish_non_exhaustive()
    }
}

/// An answer's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    /// Without those that say nothing but whether the connection stays open: most answers have one.
    pub(super) headers: HeaderMap,
    /// Whether the connection may serve again after this answer (RFC 9112, section 9.3). One of HTTP/1.0 is never taken for that.
    pub(super) keeps_alive: bool,
}

/// Takes a head off the front of `inbox`, if all of it is there. `searched`: how many bytes of it are known to hold no end, for the next look.
///
/// # Errors
/// [`Broken::Head`], [`Broken::LongHead`].
pub(super) fn take(inbox: &mut BytesMut, searched: &mut usize) -> Result<Option<Head>, Broken> {
    let from = searched.saturating_sub(END.needle().len() - 1);
    let Some(end) = END.find(&inbox[from..]).map(|place| from + place + END.needle().len()) else {
        *searched = inbox.len();
        // What is no answer may never end, and whoever waits is to know at once.
        let is_answer = inbox.iter().zip(BEGINNING).all(|(byte, wanted)| byte == wanted);
        return match inbox.len() {
            _ if !is_answer => Err(wrong(httparse::Error::Version)),
            0..MOST_BYTES => Ok(None),
            _ => Err(Broken::LongHead),
        };
    };
    *searched = 0;
    if end > MOST_BYTES {
        return Err(Broken::LongHead);
    }
    read(&inbox.split_to(end).freeze()).map(Some)
}

fn read(bytes: &Bytes) -> Result<Head, Broken> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields).map_err(wrong)?;
    if parsed != Status::Complete(bytes.len()) {
        return Err(Broken::Head("it has more than one end"));
    }
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Broken::Head("it has no status"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    let mut keeps_alive = version == Version::HTTP_11;
    for field in response.headers {
        if field.name.eq_ignore_ascii_case(CONNECTION.as_str()) {
            let said = Persistence::of(field.value);
            keeps_alive &= !said.closes;
            if said.is_all {
                continue;
            }
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Broken::Head("a header has no name"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| Broken::Head("a header is not text"))?;
        headers.append(name, value);
    }
    Ok(Head { version, status, headers, keeps_alive })
}

/// What a `Connection` line says of whether the connection stays open.
struct Persistence {
    closes: bool,
    /// It says nothing else.
    is_all: bool,
}

impl Persistence {
    fn of(value: &[u8]) -> Self {
        let mut said = Self { closes: false, is_all: true };
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let closes = option.eq_ignore_ascii_case(b"close");
            said.closes |= closes;
            said.is_all &= closes || option.eq_ignore_ascii_case(b"keep-alive");
        }
        said
    }
}

const fn wrong(error: httparse::Error) -> Broken {
    Broken::Head(match error {
        httparse::Error::HeaderName => "a header has no name",
        httparse::Error::HeaderValue => "a header is not text",
        httparse::Error::Status => "it has no status",
        httparse::Error::Version => "it begins with no version of HTTP/1",
        httparse::Error::TooManyHeaders => "it has more than 100 headers",
        httparse::Error::NewLine | httparse::Error::Token => "a line of it is malformed",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8]) -> Result<Option<Head>, Broken> {
        take(&mut BytesMut::from(bytes), &mut 0)
    }

    fn written(method: Method, lines: &[(&'static str, &'static str)], body: RequestBody) -> String {
        let mut head = RequestHead::new(&method, "/a%20b?c=d");
        for (name, value) in lines {
            head.line(&HeaderName::from_static(name), &HeaderValue::from_static(value));
        }
        String::from_utf8(head.with_body(body).head).expect("text")
    }

    #[test]
    fn a_request_is_written_as_its_line_its_headers_and_the_length_of_its_body() {
        let lines = [("host", "h"), ("x", "1"), ("x", "2")];
        assert_eq!(written(Method::GET, &lines, RequestBody::empty()), "GET /a%20b?c=d HTTP/1.1\r\nhost: h\r\nx: 1\r\nx: 2\r\n\r\n");
        let body = || RequestBody::held(vec![Bytes::from_static(b"1234567")]);
        for method in [Method::GET, Method::POST] {
            assert_eq!(written(method.clone(), &[], body()), format!("{method} /a%20b?c=d HTTP/1.1\r\ncontent-length: 7\r\n\r\n"));
        }
        for (method, length) in [("POST", true), ("PUT", true), ("PATCH", true), ("DELETE", false), ("GET", false), ("HEAD", false)] {
            let text = written(method.parse().expect("a method"), &[], RequestBody::empty());
            assert_eq!(text.contains("\r\ncontent-length: 0\r\n"), length, "{method}");
        }
    }

    #[test]
    fn a_head_is_never_shown() {
        let mut head = RequestHead::new(&Method::GET, "/?token=secret");
        head.line(&HeaderName::from_static("authorization"), &HeaderValue::from_static("secret"));
        assert!(!format!("{head:?}{:?}", RequestHead::new(&Method::GET, "/secret").with_body(RequestBody::empty())).contains("secret"));
    }

    #[test]
    fn a_head_is_taken_and_what_follows_it_stays() {
        let mut inbox = BytesMut::from(&b"HTTP/1.1 206 Partial\r\nA: 1\r\na:2\t\r\nB: \xfcber\r\nC:\r\n\r\nHTTP/1.1"[..]);
        let head = take(&mut inbox, &mut 0).expect("no error").expect("a head");
        assert_eq!((head.version, head.status, &inbox[..]), (Version::HTTP_11, StatusCode::PARTIAL_CONTENT, &b"HTTP/1.1"[..]));
        assert_eq!(head.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((head.headers["b"].as_bytes(), head.headers["c"].as_bytes()), (&b"\xfcber"[..], &b""[..]));
    }

    #[test]
    fn who_may_serve_again_says_so_by_its_version_and_not_otherwise() {
        let keeps = |text: &str| taken(text.as_bytes()).expect("no error").expect("a head").keeps_alive;
        assert!(keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(keeps("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"));
        for close in ["close", "Close", "keep-alive, close", "x,\tCLOSE ", "keep-alive\r\nConnection: close"] {
            assert!(!keeps(&format!("HTTP/1.1 200 OK\r\nConnection: {close}\r\n\r\n")), "{close}");
        }
        assert!(!keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_connection_says_beside_that_stays_in_the_head() {
        let said = |value: &str| {
            let head = taken(format!("HTTP/1.1 200 OK\r\nconnection: {value}\r\n\r\n").as_bytes()).expect("no error").expect("a head");
            head.headers.get(CONNECTION).map(|value| value.as_bytes().to_vec())
        };
        assert_eq!((said("keep-alive"), said("Close"), said("close ,Keep-Alive")), (None, None, None));
        for value in ["Upgrade", "keep-alive, X-Secret", "close, x"] {
            assert_eq!(said(value).as_deref(), Some(value.as_bytes()));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_is_no_head_is_an_error() {
        let wrong: [&[u8]; 13] = [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n A: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: 1\x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\nA: 1\n\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ];
        for bytes in wrong {
            assert!(matches!(taken(bytes), Err(Broken::Head(_))), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_head_has_100_lines_and_64_kib_at_most() {
        let head = |lines: usize, length: usize| {
            let lines = (0..lines).map(|_| format!("a: {}\r\n", "x".repeat(length))).collect::<String>();
            taken(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes())
        };
        assert!(head(100, 1).expect("no error").is_some());
        assert!(matches!(head(101, 1), Err(Broken::Head(_))));
        assert!(head(1, MOST_BYTES - 30).expect("no error").is_some());
        assert!(matches!(head(1, MOST_BYTES), Err(Broken::LongHead)));
        assert!(matches!(taken(&[BEGINNING, &vec![b'x'; MOST_BYTES]].concat()), Err(Broken::LongHead)));
    }

    #[test]
    fn what_is_no_answer_is_known_by_its_first_bytes_and_not_waited_for() {
        for bytes in ["", "H", "HTTP/", "HTTP/1.", "HTTP/1.1 200 OK\r\n"] {
            assert!(matches!(taken(bytes.as_bytes()), Ok(None)), "{bytes}");
        }
        for bytes in ["S", "SSH-2.0-OpenSSH_9.9\r\n", "HTTQ", "HTTP/2", "\r\n", "220 mail ESMTP\r\n"] {
            assert!(matches!(taken(bytes.as_bytes()), Err(Broken::Head(_))), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_head_that_comes_in_pieces_is_the_same(pieces in prop::collection::vec(1_usize..9, 1..40), value in "[ -~]{0,60}") {
            let bytes = format!("HTTP/1.1 200 OK\r\nA: {value}\r\n\r\nrest");
            let (mut inbox, mut searched, mut rest) = (BytesMut::new(), 0, bytes.as_bytes());
            let mut sizes = pieces.into_iter().cycle();
            let head = loop {
                if let Some(head) = take(&mut inbox, &mut searched).expect("a good head") {
                    break head;
                }
                let (piece, left) = rest.split_at(sizes.next().expect("endless").min(rest.len()));
                inbox.extend_from_slice(piece);
                rest = left;
            };
            prop_assert_eq!(head.headers["a"].as_bytes(), value.trim_matches(' ').as_bytes());
            prop_assert_eq!([&inbox[..], rest].concat(), b"rest");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), lines in "[A:\r\n 0-9]{0,60}") {
            let _ = taken(&[&bytes[..], END.needle()].concat());
            let _ = taken(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n").as_bytes());
        }
    }
}
