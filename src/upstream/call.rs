//! Calls that keygate itself makes to an upstream: logins, refreshes, probes. One connection each, bounded answers.
//!
//! These are too rare for a pool, and a fresh connection is never a stale one: nothing has to be sent twice.

use std::future::{Future, pending};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::secret::Secret;
use crate::upstream::client::Upstream;
use crate::upstream::dialect::{Answer, Call};
use crate::upstream::io::UpstreamIo;
use crate::upstream::mixup;
use crate::upstream::tls::TlsError;

/// Most bytes of an answer that are read. A login answer of Audiobookshelf carries all of a user's progress.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// host:port.
        address: String,
        /// The operating system's words.
        cause: String,
    },
    /// TLS is not as configured: a certificate that is not trusted, TLS where plain HTTP was expected, or the other way round. Only the
    /// configuration or the server's certificate can change that.
    #[error("cannot connect to {address}: {cause}")]
    Tls {
        /// host:port.
        address: String,
        /// What was found, and what to write.
        cause: String,
    },
    /// No answer in time.
    #[error("{address} did not answer within {seconds} s")]
    Timeout {
        /// host:port.
        address: String,
        /// The limit.
        seconds: u64,
    },
    /// Something that is not HTTP/1.1, an oversized answer, a connection that broke off.
    #[error("{address} gave no usable answer: {cause}")]
    Protocol {
        /// host:port.
        address: String,
        /// What was wrong; holds no secret.
        cause: String,
    },
}

/// A body that is overwritten once it was sent.
struct SecretBody(Secret<Vec<u8>>);

impl AsRef<[u8]> for SecretBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Makes one call; redirects are not followed. `client_address`: whom the upstream shall take for the caller
/// (`X-Forwarded-For`), where known: Audiobookshelf limits logins by it.
///
/// # Errors
/// [`CallError`].
pub async fn call(upstream: &Upstream, call: Call, client_address: Option<IpAddr>) -> Result<Answer, CallError> {
    let target = Target { upstream, address: address(upstream) };
    let request = target.request(call, client_address)?;
    let opened = target.within(upstream.timeouts.connect, target.open()).await.flatten();
    match &opened {
        Ok(_) | Err(CallError::Tls { .. }) => upstream.came(),
        Err(error) => upstream.is_away(error),
    }
    let stream = opened?;
    target.within(upstream.timeouts.response_header, target.exchange(stream, request)).await?
}

/// `host:port`, for sentences.
fn address(upstream: &Upstream) -> String {
    if upstream.host.contains(':') {
        format!("[{}]:{}", upstream.host, upstream.port)
    } else {
        format!("{}:{}", upstream.host, upstream.port)
    }
}

/// The error of a plain upstream that speaks TLS.
pub(super) fn speaks_tls(upstream: &Upstream) -> CallError {
    let address = address(upstream);
    CallError::Tls { cause: format!("it speaks TLS, not plain HTTP. Write url = \"https://{address}\""), address }
}

struct Target<'u> {
    upstream: &'u Upstream,
    address: String,
}

impl Target<'_> {
    fn protocol(&self, cause: impl ToString) -> CallError {
        CallError::Protocol { address: self.address.clone(), cause: cause.to_string() }
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, CallError> {
        let seconds = limit.as_secs().max(1);
        timeout(limit, work).await.map_err(|_| CallError::Timeout { address: self.address.clone(), seconds })
    }

    fn request(&self, call: Call, client_address: Option<IpAddr>) -> Result<Request<Full<Bytes>>, CallError> {
        let length = call.body.expose().len();
        let has_body = length > 0 || call.method == http::Method::POST;
        let body = Full::new(Bytes::from_owner(SecretBody(call.body)));
        let uri = format!("{}{}", self.upstream.base_path, call.path);
        let mut request = Request::builder().method(call.method).uri(uri).body(body).map_err(|error| self.protocol(error))?;
        let headers = request.headers_mut();
        *headers = call.headers;
        headers.insert(HOST, self.upstream.authority.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if has_body {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(value) = client_address.and_then(|address| HeaderValue::try_from(address.to_canonical().to_string()).ok()) {
            headers.insert(FORWARDED_FOR, value);
        }
        Ok(request)
    }

    async fn open(&self) -> Result<UpstreamIo, CallError> {
        let stream = self.connect().await?;
        let Some(trust) = &self.upstream.tls else { return Ok(UpstreamIo::Plain(stream.into())) };
        match trust.handshake(&self.upstream.host, stream).await {
            Ok(io) => Ok(io),
            Err(TlsError::Closed | TlsError::NotTls) if mixup::speaks_http(self.upstream).await => Err(self.plain_http()),
            Err(TlsError::Closed) => Err(CallError::Connect { address: self.address.clone(), cause: TlsError::Closed.to_string() }),
            Err(error) => Err(self.tls(error)),
        }
    }

    fn tls(&self, cause: impl ToString) -> CallError {
        CallError::Tls { address: self.address.clone(), cause: cause.to_string() }
    }

    fn plain_http(&self) -> CallError {
        self.tls(format!("it speaks plain HTTP, not TLS. Write url = \"http://{}\"", self.address))
    }

    /// What a plain connection failed of that broke before an answer.
    async fn no_answer(&self, error: hyper::Error) -> CallError {
        if self.upstream.tls.is_none() && Box::pin(mixup::speaks_tls(self.upstream)).await {
            return speaks_tls(self.upstream);
        }
        self.protocol(error)
    }

    /// Tries every address that the name has, each with its share of the time, so that a dead first one does not use it up.
    async fn connect(&self) -> Result<TcpStream, CallError> {
        let refused = |cause: String| CallError::Connect { address: self.address.clone(), cause };
        let found = tokio::net::lookup_host((self.upstream.host.as_str(), self.upstream.port)).await;
        let addresses: Vec<_> = found.map_err(|error| refused(error.to_string()))?.collect();
        let share = self.upstream.timeouts.connect / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = refused("the name has no address".to_owned());
        for address in addresses {
            match self.within(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it the small request waits for the peer's delayed acknowledgement; a failure costs time only.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = refused(error.to_string()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn exchange(&self, stream: UpstreamIo, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.protocol(error))?;
        let answer = async move {
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                Err(error) => return Err(self.no_answer(error).await),
            };
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| self.protocol(error))?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        // The connection may end before the answer was read from it to the end: it is driven, but its end decides nothing.
        let drive = async move {
            let _ = connection.await;
            pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::client::Timeouts;
    use crate::upstream::dialect;
    use crate::upstream::health::Health;
    use crate::upstream::{Kind, UpstreamName};
    use std::io::{Read, Write};

    fn upstream(host: &str, port: u16) -> Upstream {
        let limit = Duration::from_secs(60);
        Upstream {
            name: UpstreamName::new("abs"),
            kind: Kind::Audiobookshelf,
            host: host.to_owned(),
            port,
            authority: HeaderValue::from_static("media.lan:13378"),
            tls: None,
            base_path: "/books".to_owned(),
            timeouts: Timeouts { connect: limit, response_header: limit, pool_idle: limit },
            session_per_key: false,
            health: Health::default(),
        }
    }

    fn login() -> Call {
        let device = dialect::Device { client: "keygate".to_owned(), id: "00".to_owned() };
        dialect::of(Kind::Audiobookshelf).login("alice", &Secret::from("secret"), &device)
    }

    /// Reads one request, answers with `answer` byte for byte, and gives the request.
    fn answer_once(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = String::new();
            while !request.ends_with('}') {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(char::from(byte[0]));
            }
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        (port, server)
    }

    fn run(upstream: &Upstream, client: Option<&str>) -> Result<Answer, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call(upstream, login(), client.map(|address| address.parse().unwrap())))
    }

    #[test]
    fn a_call_goes_below_the_base_path_with_a_host_a_length_and_the_client_and_asks_for_one_answer_only() {
        let (port, server) = answer_once("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nhi");
        let answer = run(&upstream("localhost", port), Some("::ffff:203.0.113.9")).unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (302, b"hi".as_slice()), "not followed");
        let request = server.join().unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /books/login http/1.1\r\n"), "{head}");
        for line in ["host: media.lan:13378", "connection: close", "x-forwarded-for: 203.0.113.9"] {
            assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line} in {head}");
        }
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }

    #[test]
    fn an_answer_that_ends_with_the_connection_is_read_to_its_end() {
        let (port, _server) = answer_once("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        assert_eq!(&run(&upstream("127.0.0.1", port), None).unwrap().body[..], b"until the end");
    }

    #[test]
    fn what_is_not_http_or_breaks_off_is_a_protocol_error_without_the_request_in_it() {
        for answer in ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ""] {
            let (port, _server) = answer_once(answer);
            let error = run(&upstream("127.0.0.1", port), None).unwrap_err();
            assert!(matches!(error, CallError::Protocol { .. }), "{error}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn addresses_of_ipv6_are_bracketed_in_sentences() {
        assert_eq!(address(&upstream("::1", 80)), "[::1]:80");
    }
}
