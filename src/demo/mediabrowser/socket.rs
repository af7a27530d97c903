//! The servers' WebSocket: JSON messages, `ForceKeepAlive` first, `KeepAlive` echoed, `Sessions` on demand.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::auth;
use super::identity::{Identity, Judged};
use crate::demo::answer::{self, Answer};
use crate::demo::call::Call;
use crate::demo::random;
use crate::demo::standin::Server;
use crate::demo::websocket::{self, Out, Outbox};
use crate::upstream::Kind;

/// Answers an upgrade. Jellyfin refuses it without a user's token; Emby lets everybody in and gives a stranger nothing.
pub(super) fn open(server: &Arc<Server>, call: &mut Call, identity: &Identity, judged: Judged) -> Answer {
    let judged = match server.kind {
        // Emby looks at `api_key` in the query alone.
        Kind::Emby => Identity { token: call.joined_parameter("api_key"), ..identity.clone() }.judge(server),
        _ => judged,
    };
    let is_known = matches!(judged, Judged::User { .. }) || (server.kind == Kind::Emby && judged == Judged::ApiKey);
    if server.kind == Kind::Jellyfin && !is_known {
        return Some(answer::text(StatusCode::FORBIDDEN, "text/plain", "Error processing request."));
    }
    let response = websocket::accept(call);
    let on_upgrade = call.take_upgrade()?;
    let (outbox, queue) = mpsc::unbounded_channel();
    let inner = Arc::clone(server);
    let mut pushes = server.control.pushes();
    server.run_socket(async move {
        let upgraded = on_upgrade.await.map_err(std::io::Error::other)?;
        if is_known {
            send(&outbox, message("ForceKeepAlive", json!(60)));
        }
        let reply = outbox.clone();
        let socket = websocket::serve(upgraded, outbox.clone(), queue, move |text| {
            inner.control.record_said(&text);
            if is_known {
                answer_message(&inner, &text, &reply);
            }
        });
        let feed = async {
            loop {
                if let (Ok(pushed), true) = (pushes.recv().await, is_known) {
                    send(&outbox, pushed);
                }
            }
        };
        tokio::select! {
            ended = socket => ended,
            () = feed => Ok(()),
        }
    });
    Some(response)
}

fn answer_message(server: &Server, text: &str, reply: &Outbox) {
    let Ok(received) = serde_json::from_str::<Value>(text) else { return };
    match received["MessageType"].as_str() {
        Some("KeepAlive") => send(reply, message("KeepAlive", Value::Null)),
        Some("SessionsStart") => send(reply, message("Sessions", auth::sessions(server))),
        _ => {}
    }
}

fn message(kind: &str, data: Value) -> String {
    json!({"MessageType": kind, "MessageId": random::hex(16), "Data": data}).to_string()
}

fn send(outbox: &Outbox, text: String) {
    // A socket that has ended needs nothing any more.
    let _ = outbox.send(Out::Text(text));
}
