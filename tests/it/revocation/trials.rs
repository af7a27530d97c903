//! A thousand keys that are revoked at random moments under requests and streams. How long the cuts took is printed
//! (`cargo test --test it revocation::trials -- --nocapture`); what is asserted is that nothing is accepted after the acknowledgement and
//! that every stream ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::*;
use crate::support::http as client;

const TRIALS: u32 = 1000;
/// Trials at a time.
const LANES: usize = 16;
/// Requests on a revoked key, of each client, before a trial ends.
const REFUSALS: usize = 3;

/// A moment within this many microseconds.
fn moment() -> Duration {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).expect("random bytes");
    Duration::from_micros(u64::from(u16::from_le_bytes(bytes)) % 8000)
}

/// What a lane asks over.
struct Clients {
    hammer: Wire,
    http2: SendRequest<Full<Bytes>>,
}

/// Revokes a key while requests and a stream run on it, and gives how long after the acknowledgement the stream ended.
async fn trial(scene: &Scene, clients: &mut Clients, key: ApiKey, number: usize) -> Duration {
    let mut stream = match number % 2 {
        0 => Stream::Http1(Box::new(scene.answered(&key, SILENT).await)),
        _ => Stream::Http2(started(&mut clients.http2, get(&key, SILENT)).await),
    };
    let acknowledged = Arc::new(AtomicBool::new(false));
    let revoking = {
        let (registry, id, acknowledged) = (Arc::clone(&scene.rig.keep().registry), key.id(), Arc::clone(&acknowledged));
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(moment());
            registry.revoke_key(id).expect("revoked");
            let at = Instant::now();
            acknowledged.store(true, Ordering::SeqCst);
            at
        })
    };
    let ended = async {
        stream.ended().await;
        Instant::now()
    };
    let (ended, ()) = tokio::join!(ended, hammer(scene, clients, &key, &acknowledged));
    ended.saturating_duration_since(revoking.await.expect("no panic"))
}

/// Asks over both protocols until the key has been refused often enough since its revocation was acknowledged.
async fn hammer(scene: &Scene, clients: &mut Clients, key: &ApiKey, acknowledged: &AtomicBool) {
    let mut refused = 0;
    while refused < REFUSALS {
        let is_dead = acknowledged.load(Ordering::SeqCst);
        let request = head(key, "GET", "/keygate-test/bytes/100", "");
        let is_written = clients.hammer.try_write(request.as_bytes()).await;
        let answer = if is_written { refusal(&mut clients.hammer).await } else { String::new() };
        if answer.is_empty() {
            // The answer before was admitted and then cut, and its connection with it.
            clients.hammer = scene.plain().await;
            continue;
        }
        clients.http2.ready().await.expect("a connection that no cut stream takes along");
        let over_http2 = match clients.http2.send_request(get(key, "/keygate-test/bytes/100")).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                // It may be cut too.
                let _ = body.collect().await;
                head.status.as_u16()
            }
            // Cut before its head was written.
            Err(_) => 0,
        };
        if is_dead {
            // Many refusals of one address are throttled at last.
            let refusals = [401, 429];
            let statuses = (client::status_of(&answer), over_http2);
            assert!(refusals.contains(&statuses.0) && refusals.contains(&statuses.1), "accepted after the acknowledgement: {statuses:?}");
            refused += 1;
        }
    }
}

enum Stream {
    Http1(Box<Wire>),
    Http2(hyper::body::Incoming),
}

impl Stream {
    async fn ended(&mut self) {
        match self {
            Self::Http1(wire) => assert!(is_cut(&wire.rest().await)),
            Self::Http2(body) => {
                let ended = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
                tokio::time::timeout(PATIENCE, ended).await.expect("an end in time");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_revoked_at_random_moments_are_dead_at_once_and_their_streams_end() {
    let scene = Arc::new(Scene::new(Kind::Audiobookshelf).await);
    let new = NewKey {
        name: "mortal".to_owned(),
        account: scene.rig.account.id,
        expires_at: None,
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    let mut keys: Vec<ApiKey> =
        scene.rig.keep().registry.create_keys(new, TRIALS).expect("keys").into_iter().map(|created| created.key).collect();
    let mut lanes = JoinSet::new();
    while !keys.is_empty() {
        let of_lane = keys.split_off(keys.len().saturating_sub((TRIALS as usize).div_ceil(LANES)));
        let scene = Arc::clone(&scene);
        lanes.spawn(async move {
            let mut clients = Clients { hammer: scene.plain().await, http2: scene.trust.http2(scene.rig.address).await };
            let mut took = Vec::new();
            for (number, key) in of_lane.into_iter().enumerate() {
                took.push(trial(&scene, &mut clients, key, number).await);
            }
            took
        });
    }
    let mut took: Vec<Duration> = lanes.join_all().await.into_iter().flatten().collect();
    took.sort();
    assert_eq!(took.len(), TRIALS as usize);
    println!("cut after the acknowledgement: median {:?}, 99 % {:?}, longest {:?}", took[500], took[989], took[999]);
}
