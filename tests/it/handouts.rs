//! What opens media without a key: tickets, ids that the upstream handed out, shares; and how all of it ends with its key.

mod capabilities;
mod closing;
mod shares;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use keygate::app::App;
use keygate::clock::{Clock, ManualClock};
use keygate::gateway::routing::Settings;
use keygate::keys::{ApiKey, Ticket};
use keygate::registry::KeyPatch;
use keygate::store::Store;
use keygate::upstream::Kind;

use crate::support::http as client;
use crate::support::{self, Rig, Setup};

/// The first book of Audiobookshelf's stand-in.
const BOOK: &str = "cdc24c99-721f-4d05-9e52-a4cbec99cd76";

async fn timed(kind: Kind) -> (Rig, Arc<ManualClock>) {
    let clock = support::manual_clock();
    (Setup::new(kind).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await, clock)
}

/// The same store, with another process over it.
async fn restart(rig: &mut Rig) {
    let app = rig.app.take().expect("running");
    tokio::task::spawn_blocking(move || app.server.shut_down(Duration::ZERO)).await.expect("stopped");
    let keep = support::keep(&rig.config, Arc::clone(&rig.store) as Arc<dyn Store>, &rig.clock);
    let app = App::start(&rig.config, Settings::new(&rig.config, None), keep, None).expect("started");
    rig.run(app);
}

fn ticket_of(rig: &Rig, key: &ApiKey) -> Ticket {
    let verified = rig.keep().find(key).expect("a known key");
    rig.keep().handouts.ticket_for(&verified, &rig.account.upstream).expect("a ticket")
}

/// The status of a GET without any header.
async fn bare(rig: &Rig, target: &str) -> u16 {
    client::get(rig.address, target, &[]).await.status.as_u16()
}

/// Opens a play session with a key: its id.
async fn play(rig: &Rig, key: &ApiKey, body: &'static str) -> String {
    let headers = [("x-emby-token", key.expose()), ("content-type", "application/json")];
    let answer = client::send(rig.address, Method::POST, &format!("/api/items/{BOOK}/play"), &headers, body).await;
    answer.json()["id"].as_str().expect("an id").to_owned()
}

const TRANSCODE: &str = r#"{"forceTranscode":true}"#;

fn switch(rig: &Rig, key: &ApiKey, is_active: bool) {
    let patch = KeyPatch { is_active: Some(is_active), ..KeyPatch::default() };
    rig.keep().registry.edit_key(key.id(), patch).expect("edited");
}

/// The id of a track of Emby's and Jellyfin's stand-in, as the server lists it.
async fn track(rig: &Rig, place: usize) -> String {
    let listed = rig.get("/Items?Recursive=true").await.json();
    listed["Items"][place]["Id"].as_str().unwrap_or_else(|| panic!("{listed}")).to_owned()
}
