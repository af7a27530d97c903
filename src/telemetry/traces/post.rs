//! One export: a request of OTLP over HTTP on a connection of its own. They are rare, and a fresh connection is never a stale one.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Target;
use super::otlp::Exported;
use crate::config::Endpoint;
use crate::redact::Redacted;
use crate::upstream::io::UpstreamIo;

/// Until an export is answered: the usual one of OpenTelemetry's exporters.
const WHOLE: Duration = Duration::from_secs(10);
/// Until one address answers.
const CONNECT: Duration = Duration::from_secs(3);
/// An answer is a handful of bytes, or a sentence.
const MOST_BYTES: usize = 64 << 10;
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: u64 = 60;
const AGENT: &str = concat!("keygate/", env!("CARGO_PKG_VERSION"));
const PROTOBUF: &str = "application/x-protobuf";

/// What the collector did not take of an export that it took.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) spans: usize,
    pub(super) why: String,
}

/// Why an export was not taken.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// The same may be taken later, after so long if that was said.
    Later(String, Option<Duration>),
    /// It will not.
    Never(String),
}

/// Sends a batch.
///
/// # Errors
/// [`Undelivered`].
pub(super) async fn post(target: &Target, body: Bytes) -> Result<Rejected, Undelivered> {
    match timeout(WHOLE, exchange(target, body)).await {
        Ok(Ok((status, headers, body))) => judge(status, &headers, &body),
        Ok(Err(why)) => Err(Undelivered::Later(why, None)),
        Err(_) => Err(Undelivered::Later(format!("no answer within {} s", WHOLE.as_secs()), None)),
    }
}

async fn exchange(target: &Target, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), String> {
    let stream = connect(&target.endpoint).await?;
    let broken = |error: hyper::Error| format!("it broke off: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = request(target, body)?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        read(Response::from_parts(head, body)).await
    };
    // The connection ends when the exchange has let go of its sender.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

async fn read(answer: Response<Incoming>) -> Result<(StatusCode, HeaderMap, Bytes), String> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await.map_err(|error| format!("its answer cannot be read: {error}"))?;
    Ok((head.status, head.headers, body.to_bytes()))
}

fn request(target: &Target, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::post(target.endpoint.path.as_str()).body(Full::new(body)).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.extend(target.headers.clone());
    headers.insert(HOST, target.endpoint.authority.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    Ok(request)
}

/// The first address that answers.
async fn connect(endpoint: &Endpoint) -> Result<UpstreamIo, String> {
    let refused = |error: &dyn Display| format!("no connection: {error}");
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let mut last = "the name has no address".to_owned();
    for address in found.map_err(|error| refused(&error))? {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Err(_) => last = refused(&format!("no answer within {} s", CONNECT.as_secs())),
            Ok(Err(error)) => last = refused(&error),
            Ok(Ok(stream)) => {
                let Some(trust) = &endpoint.tls else { return Ok(UpstreamIo::Plain(stream.into())) };
                return trust.handshake(&endpoint.host, stream).await.map_err(|error| refused(&error));
            }
        }
    }
    Err(last)
}

/// OTLP 1, section "OTLP/HTTP Response".
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Rejected, Undelivered> {
    if status.is_success() {
        // Some answer with JSON, or with nothing.
        let partial = Exported::decode(body).ok().and_then(|exported| exported.partial_success).unwrap_or_default();
        let spans = usize::try_from(partial.rejected_spans).unwrap_or(0);
        return Ok(Rejected { spans, why: Redacted(&partial.error_message).to_string() });
    }
    let why = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("it answers {status}; look at traces.headers"),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => format!("it answers {status}; look at the path of traces.endpoint"),
        status => format!("it answers {status}"),
    };
    if !matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        return Err(Undelivered::Never(why));
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    Err(Undelivered::Later(why, seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST_PAUSE)))))
}

#[cfg(test)]
mod tests {
    use super::super::otlp::PartialSuccess;
    use super::*;

    fn judged(status: u16, lines: &[(&'static str, &'static str)], body: &[u8]) -> Result<Rejected, Undelivered> {
        let headers = lines.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        judge(StatusCode::from_u16(status).expect("a status"), &headers.collect(), body)
    }

    #[test]
    fn answers_are_read_as_otlp_says() {
        let partial = PartialSuccess { rejected_spans: 3, error_message: "too old, token=abc".to_owned() };
        let body = Exported { partial_success: Some(partial) }.encode_to_vec();
        let rejected = judged(200, &[], &body).expect("taken");
        assert_eq!((rejected.spans, rejected.why.as_str()), (3, "too old, token=***"));
        for body in [&b""[..], b"{\"partialSuccess\":{}}"] {
            assert_eq!(judged(200, &[], body).expect("taken").spans, 0);
        }
        for status in [429, 502, 503, 504] {
            assert!(matches!(judged(status, &[], b""), Err(Undelivered::Later(_, None))), "{status}");
        }
        for (said, pause) in [("7", Some(7)), ("99999", Some(LONGEST_PAUSE)), ("Sun, 06 Nov 1994 08:49:37 GMT", None)] {
            let Err(Undelivered::Later(_, after)) = judged(503, &[("retry-after", said)], b"") else { unreachable!("to be tried again") };
            assert_eq!(after.map(|after| after.as_secs()), pause);
        }
        for (status, hint) in [(400, "400"), (401, "traces.headers"), (404, "traces.endpoint"), (301, "301"), (500, "500")] {
            let Err(Undelivered::Never(why)) = judged(status, &[], b"") else { unreachable!("{status} will not change") };
            assert!(why.contains(hint), "{why}");
        }
    }
}
