//! Engine.IO over polling: bodies are small and read whole, judged packet by packet, and rewritten.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::forward::body::{GatewayBody, RequestBody};
use crate::forward::hop;
use crate::forward::rewrite::Outbound;
use crate::forward::send;
use crate::forward::socketio::packet::{self, Auth, Claim, Opening, SEPARATOR};
use crate::forward::socketio::seat::{Seat, Standing};
use crate::forward::socketio::{Doorman, Verdict};
use crate::forward::websocket::Closing;
use crate::gateway::exchange::{Route, ask, heard};
use crate::gateway::pipeline::Notes;
use crate::gateway::refusal::Refusal;
use crate::scrub::{Own, Plan, Scrubber, Text};
use crate::secret::Secret;
use crate::upstream::client::Partition;

/// Longest body of a client: the server's `maxPayload`.
const REQUEST_LIMIT: usize = 1_000_000;
/// Longest answer to a poll: all that has gathered since the last one.
const ANSWER_LIMIT: usize = 16 << 20;
/// For the farewell to a session that ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a session may be silent when its opening does not say it, and the longest that is believed.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(45), Duration::from_secs(600));
/// What the server gets in place of a credential that is none: it says itself then what it says to those, when it would say it.
const REFUSED: &str = "refused by keygate";

/// An answer, read whole.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Route<'_> {
    /// Forwards a poll: the opening of a session, or a wait for packets.
    pub(super) async fn poll(
        mut self,
        sid: Option<String>,
        seat: Arc<Seat>,
        outbound: Outbound,
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        ask(notes, &self.site.upstream);
        let answered = self.unless_late(&seat, outbound, notes).await;
        if let Some(trail) = notes {
            trail.heard(answered.as_ref().ok().map(|answered| answered.status));
        }
        let answered = answered?;
        let text = std::str::from_utf8(&answered.body).map_err(|_| Refusal::BadAnswer("its packets are not text"))?;
        if answered.status == StatusCode::OK {
            if sid.is_none() {
                self.note_opening(text, &seat)?;
            }
            if seat.is_waiting() && !text.split(SEPARATOR).all(|packet| packet::may_server_begin_with(packet.as_bytes())) {
                seat.close();
                return Err(Refusal::SocketClosed(Closing::EARLY));
            }
        }
        seat.touch(self.now());
        self.answer(answered, &seat)
    }

    /// Notes whose a session is that was just opened.
    fn note_opening(&self, text: &str, seat: &Arc<Seat>) -> Result<(), Refusal> {
        let opening = Opening::read(text).ok_or(Refusal::BadAnswer("it does not open a session of Engine.IO"))?;
        let patience = Duration::from_millis(opening.ping_interval.saturating_add(opening.ping_timeout));
        seat.set_patience(if patience.is_zero() { PATIENCE.0 } else { patience.min(PATIENCE.1) }, self.now());
        let table = &self.visit.worker.gateway().sockets;
        table.put(&self.site.upstream.name, &opening.sid, seat, self.now()).map_err(|_| Refusal::TooManySockets)
    }

    /// Sends a poll and waits for its answer for as long as its session may wait. It may be given to a key meanwhile.
    async fn unless_late(&mut self, seat: &Seat, outbound: Outbound, notes: &mut Notes) -> Result<Answered, Refusal> {
        let (visit, upstream) = (self.visit, Arc::clone(&self.site.upstream));
        let mut answer = pin!(async {
            let exchange = send::send(&visit.worker.pool, &upstream, Partition::Open, outbound, RequestBody::empty()).await?;
            whole(exchange).await
        });
        let porter = self.porter();
        loop {
            let mut changed = pin!(seat.changed());
            changed.as_mut().enable();
            match seat.standing() {
                Standing::Waiting(until) => {
                    let left = until.saturating_sub(self.now());
                    if left.is_zero() {
                        seat.close();
                        return Err(Refusal::SocketClosed(Closing::LATE));
                    }
                    tokio::select! {
                        biased;
                        answer = &mut answer => return answer,
                        () = changed => {}
                        () = sleep(left) => {}
                    }
                }
                Standing::Key(..) => {
                    if self.admission.permit().is_none() {
                        let permit = porter.seated(seat).ok_or(Refusal::UnknownSocket)?;
                        if let Some(trail) = notes {
                            trail.admitted(&permit);
                        }
                        self.run_on(permit);
                    }
                    tokio::select! {
                        biased;
                        answer = &mut answer => return answer,
                        () = changed => {}
                    }
                }
                Standing::Native => return answer.await,
                Standing::Closed => return Err(Refusal::UnknownSocket),
            }
        }
    }

    /// Forwards packets of a client.
    pub(super) async fn post(
        mut self,
        sid: Option<&str>,
        seat: Arc<Seat>,
        (outbound, body): (Outbound, Incoming),
        notes: &mut Notes,
    ) -> Result<Response<GatewayBody>, Refusal> {
        let pool = &self.visit.worker.pool;
        let text = self.read(body).await?;
        let packets = match self.judged(&text, &seat, notes).await {
            Ok(packets) => packets,
            Err(closing) => {
                seat.close();
                // The server's side ends at once; whether it hears of it does not matter, since nobody can speak in it any more.
                let close = RequestBody::held(vec![Bytes::from_static(b"1")]);
                let farewell = send::send(pool, &self.site.upstream, Partition::Open, outbound, close);
                let _ = timeout(FAREWELL, farewell).await;
                return Err(Refusal::SocketClosed(closing));
            }
        };
        let is_last = packets.split(|&byte| byte == 0x1e).any(|packet| packet == b"1");
        let body = RequestBody::held(vec![Bytes::from(packets)]);
        ask(notes, &self.site.upstream);
        let exchange = send::send(pool, &self.site.upstream, Partition::Open, outbound, body).await;
        heard(notes, exchange.as_ref().ok().map(|exchange| &exchange.response));
        let answered = whole(exchange?).await?;
        if let Some(sid) = sid.filter(|_| is_last) {
            seat.close();
            self.visit.worker.gateway().sockets.remove(&self.site.upstream.name, sid);
        }
        self.answer(answered, &seat)
    }

    async fn read(&self, body: Incoming) -> Result<String, Refusal> {
        let body = RequestBody::from_client(body, self.visit.settings.limits.idle_timeout, false);
        let sent = body.sent();
        let read = Limited::new(body, REQUEST_LIMIT).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => Refusal::LargePacket,
            false if sent.client_broke_rules() => Refusal::BrokenBody,
            false => Refusal::ClientBody,
        })?;
        let read = read.to_bytes();
        self.count(read.len());
        String::from_utf8(read.into()).map_err(|_| Refusal::Engine(crate::forward::socketio::query::Wrong::Request))
    }

    /// The packets as they may go on. Each counts by what those before it brought about.
    async fn judged(&mut self, text: &str, seat: &Arc<Seat>, notes: &mut Notes) -> Result<Vec<u8>, Closing> {
        let mut out = Vec::with_capacity(text.len());
        for (place, packet) in text.split(SEPARATOR).enumerate() {
            if place > 0 {
                out.push(0x1e);
            }
            match packet::claim(packet.as_bytes(), true) {
                Claim::Auth => out.extend_from_slice(self.authenticated(packet, seat, notes).await?.expose().as_bytes()),
                _ if seat.is_waiting() && !packet::may_client_begin_with(packet.as_bytes()) => return Err(Closing::EARLY),
                // A pong in its place: as if the server had not heard it.
                Claim::Ruling if !self.porter().may_rule(seat) => out.push(b'3'),
                _ => out.extend_from_slice(packet.as_bytes()),
            }
        }
        Ok(out)
    }

    /// An `auth` as it may go on.
    async fn authenticated(&mut self, packet: &str, seat: &Arc<Seat>, notes: &mut Notes) -> Result<Secret<String>, Closing> {
        let auth = Auth::read(packet);
        let credential = auth.as_ref().map(|auth| auth.credential.clone());
        match (self.porter().judge(Arc::clone(seat), credential).await, auth) {
            (Verdict::Token(token, permit), Some(auth)) => {
                if let Some(trail) = notes {
                    trail.admitted(&permit);
                }
                self.run_on(*permit);
                Ok(auth.with(&token))
            }
            (Verdict::Native, _) => Ok(Secret::from(packet)),
            (Verdict::Closed(closing), _) => Err(closing),
            (Verdict::Refused | Verdict::Token(..), _) => Ok(Auth::plain(&Secret::from(REFUSED))),
        }
    }

    /// The answer for the client.
    fn answer(&self, answered: Answered, seat: &Seat) -> Result<Response<GatewayBody>, Refusal> {
        let Answered { status, mut headers, body } = answered;
        self.count(body.len());
        let body = if seat.standing() == Standing::Native { body } else { self.scrubbed(body)? };
        hop::strip(&mut headers);
        headers.remove(SET_COOKIE);
        headers.remove(CONTENT_LENGTH);
        let mut response = Response::new(GatewayBody::whole(body));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }

    fn scrubbed(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let secrets = self.visit.worker.gateway().sessions.secrets(&self.site.upstream);
        let mut scrubber = Scrubber::new(Arc::new(Plan::new(Text::Json, secrets, Own::default())));
        let withheld = |leak| {
            tracing::error!(%leak, "an answer to a poll is withheld: it would have shown a credential");
            Refusal::BadAnswer("it shows a credential in an unusual spelling")
        };
        let first = scrubber.push(body).map_err(withheld)?;
        let rest = scrubber.finish().map_err(withheld)?;
        Ok(if rest.is_empty() { first } else { [first, rest].concat().into() })
    }
}

/// Reads an answer to its end.
async fn whole(exchange: send::Exchange) -> Result<Answered, Refusal> {
    let send::Exchange { response, lease, sent, .. } = exchange;
    let (head, body) = response.into_parts();
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Refusal::BadAnswer("its packets are compressed although that was not asked for"));
    }
    let body =
        Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|_| Refusal::BadAnswer("its packets are incomplete or too long"))?;
    if let Some(lease) = lease.filter(|_| sent.is_complete()) {
        lease.give_back();
    }
    Ok(Answered { status: head.status, headers: head.headers, body: body.to_bytes() })
}
