//! `/keygate-test/…`: answers that no media server gives on demand, for tests of forwarding. They need a token as all else does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::answer::{self, Answer};
use super::body::Body;
use super::call::Call;
use super::media::Media;
use super::standin::Server;

/// Pieces that `chunked`, `slow` and `trailers` send.
const PIECES: usize = 8;

/// The answer to `/keygate-test/<segments>`.
pub(super) async fn route(server: &Arc<Server>, call: &mut Call, segments: &[&str]) -> Answer {
    match segments {
        ["echo"] => Some(echo(server, call).await),
        ["chunked"] => Some(pieces(Duration::ZERO, false)),
        ["slow"] => Some(pieces(pause(call), false)),
        ["trailers"] => Some(pieces(Duration::ZERO, true)),
        ["never"] => std::future::pending().await,
        // Answers without reading the body.
        ["early-response"] => Some(answer::text(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "too much")),
        ["close-without-answer"] => None,
        ["close-after-body"] => {
            call.sink(&server.control).await;
            None
        }
        ["upload"] => upload(server, call).await,
        ["redirect"] => Some(redirect(server, call)),
        ["status", code] => Some(answer::text(StatusCode::from_u16(code.parse().ok()?).ok()?, "text/plain", "as asked")),
        ["bytes", count] => {
            let media = Media::Pattern(count.parse().ok()?);
            Some(media.answer(&call.parts.method, &call.parts.headers, "application/octet-stream"))
        }
        _ => Some(answer::empty(StatusCode::NOT_FOUND)),
    }
}

/// The head as it arrived, and how many bytes of body.
async fn echo(server: &Arc<Server>, call: &mut Call) -> Response<Body> {
    let taken = call.sink(&server.control).await;
    let headers: Vec<Value> =
        call.parts.headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect();
    answer::json(&json!({
        "method": call.parts.method.as_str(),
        "target": call.parts.uri.to_string(),
        "headers": headers,
        "body_bytes": taken.as_ref().map(|upload| upload.bytes),
        "body_sha256": taken.map(|upload| upload.sha256),
    }))
}

async fn upload(server: &Arc<Server>, call: &mut Call) -> Answer {
    let taken = call.sink(&server.control).await?;
    let answer = answer::json(&json!({"bytes": taken.bytes, "sha256": taken.sha256}));
    server.control.record_upload(taken);
    Some(answer)
}

/// A redirect to the address that the stand-in itself has.
fn redirect(server: &Arc<Server>, call: &Call) -> Response<Body> {
    let mut response = answer::empty(StatusCode::FOUND);
    let target = call.parameters("to").into_iter().next().unwrap_or_else(|| format!("{}/keygate-test/echo", server.url));
    answer::set(&mut response, http::header::LOCATION, &target);
    response
}

/// `?pause=` in milliseconds between two pieces; 200 without it.
fn pause(call: &Call) -> Duration {
    Duration::from_millis(call.parameters("pause").first().and_then(|text| text.parse().ok()).unwrap_or(200))
}

/// Numbered pieces without a length, and with a trailer where asked for.
fn pieces(pause: Duration, with_trailers: bool) -> Response<Body> {
    let body = Pieces { sent: 0, pause, wait: None, with_trailers };
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if with_trailers {
        response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-keygate-test"));
    }
    response
}

/// A body of unknown length.
struct Pieces {
    sent: usize,
    pause: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    with_trailers: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.sent == PIECES {
            let is_last = std::mem::take(&mut self.with_trailers);
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-keygate-test"), HeaderValue::from_static("done"))]);
            return Poll::Ready(is_last.then(|| Ok(Frame::trailers(trailers))));
        }
        let pause = self.pause;
        if self.sent > 0 && !pause.is_zero() {
            ready!(self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause))).as_mut().poll(context));
            self.wait = None;
        }
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(format!("piece {}\n", self.sent).into()))))
    }
}
