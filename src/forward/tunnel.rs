//! WebSocket handshakes: nothing of the client's goes through before the upstream said 101 and proved that it understood.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};

use crate::clock::Clock;
use crate::forward::body::RequestBody;
use crate::forward::rewrite::Outbound;
use crate::forward::send::{check, now, within};
use crate::forward::socketio::engine::Engine;
use crate::forward::upgrade::{Bridge, Bridged, Watch};
use crate::forward::websocket::down::Down;
use crate::forward::websocket::judge::Judge;
use crate::gateway::refusal::Refusal;
use crate::gateway::trail::Trail;
use crate::policy::Admission;
use crate::server::connection::ClientIo;
use crate::server::drain::{Farewell, Tasks};
use crate::upstream::client::{Partition, Pool, Upstream};
use crate::upstream::io::UpstreamIo;
use crate::upstream::line::{AnswerBody, SendError};

/// RFC 6455 section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Sends the handshake over a connection of its own. The body of a 101 is the socket.
///
/// # Errors
/// As [`crate::forward::send::send`].
pub async fn handshake(pool: &Rc<Pool>, upstream: &Arc<Upstream>, outbound: Outbound) -> Result<Response<AnswerBody>, Refusal> {
    let mut lease = pool.connect(upstream, Partition::Open).await?;
    let expected = outbound.websocket_key().map(accept_for);
    let outgoing = outbound.with_body(RequestBody::empty());
    let limit = upstream.timeouts.response_header;
    let sent = RequestBody::empty().sent();
    let (answer, alarm) = lease.send(outgoing);
    let answer = within((now(), limit), &sent, alarm, answer).await.ok_or(Refusal::NoAnswer(limit.as_secs()))?;
    let response = answer.map_err(|error| match error {
        SendError::Unsent(_) => Refusal::ClosedAtOnce,
        SendError::Broken(error) => Refusal::BrokenOff(error),
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers();
        let websocket = headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !websocket || headers.get(SEC_WEBSOCKET_ACCEPT) != expected.as_ref() {
            return Err(Refusal::BadAnswer("its 101 does not accept the WebSocket that was asked for"));
        }
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(Refusal::BadAnswer("its 101 has an extension that nobody offered"));
        }
    } else {
        check(&response)?;
    }
    Ok(response)
}

fn accept_for(key: &HeaderValue) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_GUID);
    HeaderValue::try_from(STANDARD.encode(hash.finalize())).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The 101 for the client, from the upstream's.
pub fn switching(upstream: &HeaderMap, response: &mut Response<crate::forward::body::GatewayBody>) {
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    for (name, value) in upstream {
        if name.as_str().starts_with("sec-websocket-") {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Both ends of a tunnel, and what must live as long as it.
pub struct Tunnel {
    /// The client's side.
    pub client: OnUpgrade,
    /// The upstream's side, and what came from there already.
    pub upstream: (UpstreamIo, Bytes),
    /// Proof of admission.
    pub admission: Admission,
    /// Notes.
    pub trail: Option<Box<Trail>>,
    /// While no byte moves.
    pub idle_timeout: Duration,
    /// What looks through the upstream's messages.
    pub(crate) down: Down,
    /// Where the client authenticates within the socket.
    pub(crate) engine: Option<Box<Engine>>,
    /// Tells the day for which bytes count.
    pub clock: Arc<dyn Clock>,
    /// What judges the client's messages elsewhere.
    pub(crate) judge: Option<Box<Judge>>,
}

impl Tunnel {
    /// Runs in a task of its own, which is registered before the 101 goes out.
    pub fn run(self, tasks: &Tasks) {
        let farewell = tasks.farewell();
        tasks.spawn_local(async move {
            // The ends are taken apart in a future of their own, so that its memory is not kept for the life of the socket.
            let Some(bridge) = Box::pin(self.open(farewell)).await else { return };
            let Bridged { from_client, to_client, result, trail } = bridge.await;
            if let Some(trail) = trail {
                trail.finish(from_client, to_client, result.is_ok());
            }
        });
    }

    async fn open(self, farewell: Farewell) -> Option<Bridge<ClientIo, UpstreamIo>> {
        let client = client_side(self.client.await.ok()?)?;
        let watch = Watch {
            admission: self.admission,
            trail: self.trail,
            idle_timeout: self.idle_timeout,
            down: self.down,
            engine: self.engine,
            judge: self.judge,
            farewell: Some(farewell),
            clock: self.clock,
        };
        Some(Bridge::new(client, self.upstream, watch))
    }
}

fn client_side(upgraded: Upgraded) -> Option<(ClientIo, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<ClientIo>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}
