//! Killed under load: of what keys were used for, nothing is lost but what came after the last writing; of keys, revocations and lines of
//! the audit log, nothing at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::support::daemon::free_address;
use crate::support::http::PATIENCE;

const ROUNDS: usize = 4;
/// Changes that are acknowledged before a kill, at least; the kills come between different ones.
const ACTS: usize = 15;

/// What operators were told.
#[derive(Default)]
struct Told {
    /// What the audit log must say: what was done to which key.
    acts: Vec<(&'static str, String)>,
    /// Keys, and whether they are good.
    keys: Vec<(String, bool)>,
}

/// Whom the load asks, and how much of it there was.
struct Load {
    address: SocketAddr,
    key: String,
    sent: AtomicU64,
}

impl Load {
    /// Asks again and again until the gateway is gone.
    async fn run(self: Arc<Self>) {
        let head = format!("GET /api/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n", self.key);
        loop {
            self.sent.fetch_add(1, Ordering::Relaxed);
            if exchange(self.address, &head).await.is_none() {
                return;
            }
        }
    }
}

/// A whole answer, or nothing if there was none.
async fn exchange(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    String::from_utf8(answer).ok().filter(|answer| !answer.is_empty())
}

/// The admin listener. What it shows is not swept: new keys are among it.
#[derive(Clone)]
pub(super) struct Operator {
    address: SocketAddr,
    token: String,
}

impl Operator {
    /// Gives a gateway that does not run yet an admin listener and a token for it.
    pub(super) async fn of(home: &Home) -> Self {
        let address = free_address();
        let config = std::fs::read_to_string(home.config()).expect("written");
        home.write(&config.replace("[admin]\n", &format!("[admin]\nlisten = \"{address}\"\n")));
        let token = home.run("admin tokens create rest --scope all -q").await.ok().trim().to_owned();
        home.sweep.keep_secret(&token);
        Self { address, token }
    }

    /// What was answered, if it came whole.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (length, token) = (body.len(), &self.token);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        );
        let answer = exchange(self.address, &head).await?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body = serde_json::from_str(body).ok()?;
        assert!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {head} {body}");
        Some(body)
    }

    async fn usage(&self) -> Value {
        self.ask("GET", "/api/usage", &Value::Null).await.expect("the gateway runs")
    }

    /// Makes keys, rotates and revokes them, until the gateway is gone.
    async fn act(self, round: usize, acknowledged: Arc<AtomicUsize>) -> Told {
        let mut told = Told::default();
        for number in 0.. {
            if self.change_a_key(&format!("key-{round}-{number}"), number % 3, &mut told, &acknowledged).await.is_none() {
                break;
            }
        }
        told
    }

    async fn change_a_key(&self, name: &str, fate: usize, told: &mut Told, acknowledged: &AtomicUsize) -> Option<()> {
        let text = |key: &Value| key["apiKey"]["apiKey"].as_str().expect("a key").to_owned();
        let made = self.ask("POST", "/api/api-keys", &json!({ "name": name, "userId": "alice" })).await?;
        let id = made["apiKey"]["id"].as_str().expect("an id").to_owned();
        acknowledged.fetch_add(1, Ordering::Relaxed);
        told.acts.push(("created", id.clone()));
        // Until the next answer is here it may be either: only what was acknowledged is looked at.
        let next = match fate {
            0 => None,
            1 => Some(("rotated", self.ask("POST", &format!("/api/api-keys/{id}/rotate"), &json!({ "overlapSeconds": 0 })).await?)),
            _ => Some(("revoked", self.ask("DELETE", &format!("/api/api-keys/{id}"), &Value::Null).await?)),
        };
        told.keys.push((text(&made), next.is_none()));
        if let Some((verb, answer)) = next {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            told.acts.push((verb, id));
            if verb == "rotated" {
                told.keys.push((text(&answer), true));
            }
        }
        Some(())
    }
}

/// Requests of all keys that are in the store for sure: they were counted two writings ago.
async fn written(operator: &Operator) -> u64 {
    let counted = |usage: &Value| usage["upstreams"]["audiobookshelf"]["counts"]["requests"].as_u64().unwrap_or_default();
    let patience = tokio::time::Instant::now() + PATIENCE;
    let first = operator.usage().await;
    let mut writings = vec![first["writtenAt"].clone()];
    // The first that is seen may have begun before.
    while writings.len() < 3 {
        let usage = operator.usage().await;
        if writings.last() != Some(&usage["writtenAt"]) {
            writings.push(usage["writtenAt"].clone());
        }
        assert!(tokio::time::Instant::now() < patience, "{writings:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    counted(&first)
}

/// All lines of the audit log that tell of keys.
async fn lines_of_keys(operator: &Operator) -> Vec<(String, String)> {
    let (mut lines, mut after) = (Vec::new(), Some(0));
    while let Some(number) = after {
        let page = operator.ask("GET", &format!("/api/audit?sort=acts&limit=1000&after={number}"), &Value::Null).await.expect("a page");
        let entries = page["entries"].as_array().expect("a list").iter().filter(|entry| entry["object"]["kind"] == "key");
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        lines.extend(entries.map(|entry| (word(&entry["verb"]), word(&entry["object"]["id"]))));
        after = page["next"].as_u64();
    }
    lines
}

/// What is there after a kill, with the gateway running again.
async fn compare(home: &Home, operator: &Operator, told: &Told) {
    let lines = lines_of_keys(operator).await;
    for (verb, id) in &told.acts {
        let times = lines.iter().filter(|line| line.0 == *verb && line.1 == *id).count();
        assert_eq!(times, 1, "{verb} {id} was acknowledged: {lines:?}");
    }
    for (key, is_good) in &told.keys {
        home.sweep.keep_secret(key);
        let status = home.status("/api/me", key).await;
        // Of dead keys, there are more than an address may try.
        assert!(if *is_good { status == 200 } else { matches!(status, 401 | 429) }, "{}: {status}", &key[..13]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_under_load_loses_what_was_counted_after_the_last_writing_and_no_key_no_revocation_and_no_line_of_the_log() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[usage]\nflush = \"1s\"");
    let operator = Operator::of(&home).await;
    home.add_alice("alice").await;
    let key = home.key("busy", "alice").await;
    home.start().await;
    let (mut sent, mut stored) = (0, 0);
    for round in 0..ROUNDS {
        let load = Arc::new(Load { address: home.address, key: key.clone(), sent: AtomicU64::new(0) });
        let asking: Vec<_> = (0..4).map(|_| tokio::spawn(Arc::clone(&load).run())).collect();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let acting = tokio::spawn(operator.clone().act(round, Arc::clone(&acknowledged)));
        let kept = written(&operator).await;
        assert!(kept >= stored, "{kept} of {stored}");
        let before = acknowledged.load(Ordering::Relaxed);
        support::until("more was done", || acknowledged.load(Ordering::Relaxed) >= before + ACTS + round).await;
        home.kill();
        let told = acting.await.expect("no panic");
        for one in asking {
            one.await.expect("no panic");
        }
        sent += load.sent.load(Ordering::Relaxed);

        assert_eq!(json!([]), serde_json::from_str::<Value>(&home.run("store check -o json").await.ok()).expect("JSON")["problems"]);
        home.start().await;
        stored = operator.usage().await["upstreams"]["audiobookshelf"]["counts"]["requests"].as_u64().expect("a number");
        assert!(
            (kept..=sent).contains(&stored),
            "round {round}: {stored} are there, of {sent} that were sent and {kept} that were written"
        );
        compare(&home, &operator, &told).await;
        sent += told.keys.len() as u64;
    }
    home.signal("TERM");
    home.ended().await;
}
