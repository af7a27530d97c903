//! The sweep itself ([`crate::support::sweep`]): whatever a gateway lets out is seen, by whichever client of the suite, and no test can open
//! a connection that nobody looks at.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::Full;
use keygate::demo::{Canned, Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::http as client;
use crate::support::socket::Socket;
use crate::support::sweep::search::OVERLAP;
use crate::support::tls::{Trust, exchange};
use crate::support::wire::{Wire, head};
use crate::support::{Rig, Setup, until};

/// A rig, and a credential that its gateway was never told of, so that no rule takes it out.
struct Leaky {
    rig: Rig,
    planted: String,
}

impl Leaky {
    async fn start(setup: Setup) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1000);
        // One of its own for each: what a test logs reaches every sweep.
        let planted = format!("planted/credential+of&nobody-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let rig = setup.start().await;
        rig.sweep.keep_secret(&planted);
        assert_eq!(rig.get("/keygate-test/bytes/1").await.status, 200);
        assert_eq!(rig.sweep.take_findings(), Vec::<String>::new());
        let leaky = Self { rig, planted };
        leaky.say(Canned::of("text/plain", format!("it is {}!", leaky.planted)));
        leaky
    }

    /// What the upstream answers from now on.
    fn say(&self, canned: Canned) {
        self.rig.standin.control().faults(|faults| faults.canned = Some(canned));
    }

    /// What the sweep found must be this one secret, and where; it is not told itself.
    fn assert_found(&self, place: &str) {
        let found = self.rig.sweep.take_findings();
        assert!(!found.is_empty(), "nothing found in {place}");
        for finding in &found {
            assert!(finding.contains(place) && finding.contains("33 characters") && !finding.contains(&self.planted), "{finding}");
        }
    }
}

/// A request by hand, and its whole answer.
async fn by_hand(mut wire: Wire, rig: &Rig) {
    wire.write(head(rig, "GET", "/anything", "Connection: close\r\n")).await;
    assert!(wire.rest().await.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_no_rule_takes_out_is_seen_by_every_client() {
    let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
    let rig = &leaky.rig;
    assert_eq!(rig.get("/anything").await.status, 200);
    leaky.assert_found("GET /anything");
    client::raw(rig.address, head(rig, "GET", "/anything", "Connection: close\r\n").as_bytes()).await;
    leaky.assert_found("GET /anything");
    by_hand(Wire::plain(rig.address).await, rig).await;
    leaky.assert_found("GET /anything");

    let trust = Trust::new();
    let rig = Setup::new(Kind::Jellyfin).tls(trust.certificate()).start().await;
    let planted = "planted-behind-tls-4711";
    rig.sweep.keep_secret(planted);
    rig.standin.control().faults(|faults| faults.canned = Some(Canned::of("text/plain", planted)));
    by_hand(Wire::over(trust.connect(rig.address, &["http/1.1"]).await), &rig).await;
    assert!(!rig.sweep.take_findings().is_empty());
    let request = Request::get("https://localhost/anything").header("x-emby-token", rig.secret());
    let mut http2 = trust.http2(rig.address).await;
    assert_eq!(exchange(&mut http2, request.body(Full::default()).unwrap()).await.status, 200);
    let found = rig.sweep.take_findings().len();
    assert!(found >= 2, "once as bytes of the connection, once as the answer: {found}");
    // The connection may show its last bytes once more when it ends.
    rig.sweep.allow(planted, "it was found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_in_a_header_a_frame_or_a_long_stream_is_seen() {
    let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
    let rig = &leaky.rig;
    leaky.say(Canned::of("video/mp4", "bytes").with("x-anything", &leaky.planted));
    rig.get("/Videos/1/stream").await;
    leaky.assert_found("GET /Videos/1/stream");
    for place in [OVERLAP - 10, 3 * OVERLAP - 1, 500_000] {
        let mut body = vec![0xf7; 1 << 20];
        body.splice(place..place, leaky.planted.bytes());
        leaky.say(Canned::of("video/mp4", body));
        rig.get("/Videos/1/stream").await;
        leaky.assert_found("GET /Videos/1/stream");
    }
    rig.standin.control().faults(|faults| faults.canned = None);
    let mut socket = Socket::with_key(rig, Kind::Jellyfin).await;
    rig.standin.control().push(&serde_json::json!({ "MessageType": "X", "Data": leaky.planted }).to_string());
    while !socket.hear().await.contains(&leaky.planted) {}
    leaky.assert_found("GET /socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_in_a_coded_answer_is_seen() {
    for coding in ["gzip", "deflate"] {
        let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
        let text = format!("{} {}", "filler ".repeat(1000), leaky.planted);
        let mut coded = Vec::new();
        let level = flate2::Compression::default();
        let _ = match coding {
            "gzip" => flate2::read::GzEncoder::new(text.as_bytes(), level).read_to_end(&mut coded),
            _ => flate2::read::ZlibEncoder::new(text.as_bytes(), level).read_to_end(&mut coded),
        };
        // A type that is not scrubbed, so that the coding passes.
        leaky.say(Canned::of("video/mp4", coded).with("content-encoding", coding));
        let answer = leaky.rig.get("/Videos/1/stream").await;
        assert_eq!(answer.header("content-encoding"), Some(coding));
        leaky.assert_found("GET /Videos/1/stream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_see_its_own_key_again_and_nobody_elses() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let other = rig.another_key("other");
    let body = format!("{{\"a\":\"{}\"}}", rig.secret());
    rig.standin.control().faults(|faults| faults.canned = Some(Canned::of("application/json", body)));
    let answer = rig.get("/anything").await;
    assert!(answer.text().contains(rig.secret()));
    assert_eq!(rig.sweep.take_findings(), Vec::<String>::new());
    client::send(rig.address, Method::GET, "/anything", &[("x-emby-token", other.expose())], Bytes::new()).await;
    let found = rig.sweep.take_findings();
    assert!(!found.is_empty() && found.iter().all(|finding| finding.starts_with(&format!("the key {}", rig.key.id()))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_seen_and_may_hold_no_key_at_all() {
    let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
    let (rig, planted) = (&leaky.rig, &leaky.planted);
    tracing::trace!(target: "keygate::gateway", "somebody sent {}", serde_json::json!({ "a": planted }));
    leaky.assert_found("the log");
    tracing::info!(target: "keygate::gateway", key = rig.secret(), "request");
    let found = rig.sweep.take_findings();
    assert!(found.len() == 1 && found[0].starts_with(&format!("the key {}", rig.key.id())), "{found:?}");
    tracing::debug!(target: "h2", "libraries are not written below info, {planted}");
    assert_eq!(rig.sweep.take_findings(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn access_lines_are_seen_which_are_no_events() {
    let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
    let (rig, path) = (&leaky.rig, "/planted-in-a-path-4711");
    leaky.say(Canned::of("text/plain", "nothing"));
    rig.sweep.keep_secret(path);
    assert_eq!(rig.get(path).await.status, 200);
    let mut found = Vec::new();
    until("its line is written", || {
        found.append(&mut rig.sweep.take_findings());
        !found.is_empty()
    })
    .await;
    assert!(found.len() == 1 && found[0].contains("the log"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_holds_for_clients_and_not_for_the_log() {
    let leaky = Leaky::start(Setup::new(Kind::Jellyfin)).await;
    let (rig, planted) = (&leaky.rig, &leaky.planted);
    rig.sweep.allow(planted, "this is what is tested");
    rig.get("/anything").await;
    assert_eq!(rig.sweep.take_findings(), Vec::<String>::new());
    tracing::warn!(target: "keygate::gateway", "{planted}");
    leaky.assert_found("the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_prints_logs_and_stores_is_seen() {
    let standin = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("kitchen", "alice").await;
    assert_eq!(home.sweep.take_findings(), Vec::<String>::new(), "a new key is shown once");
    home.sweep.printed(&format!("a list with {key} in it"), false, "keys list");
    let found = home.sweep.take_findings();
    assert!(!found.is_empty() && found.iter().all(|finding| finding.starts_with("the key") && finding.contains("keys list")), "{found:?}");
    home.signal("TERM");
    home.ended().await;
    // Its address is what a gateway logs first: that plays the secret here.
    home.sweep.keep_secret(&home.address.to_string());
    home.start().await;
    let found = home.sweep.take_findings();
    assert!(!found.is_empty() && found.iter().all(|finding| finding.contains("in the log")), "{found:?}");
    home.sweep.wrote(standin.control().secrets()[0].as_bytes(), "a file");
    assert_eq!(home.sweep.take_findings().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "what nobody may see was seen")]
async fn a_test_fails_at_the_end_of_its_rig_for_what_was_found() {
    Leaky::start(Setup::new(Kind::Jellyfin)).await.rig.get("/anything").await;
}

/// Files of the suite that may open connections: the sweep's own, and those that speak to stand-ins alone.
const MAY_CONNECT: [&str; 4] = ["support/net.rs", "support/front.rs", "standins.rs", "sweeping.rs"];

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn no_test_opens_a_connection_that_is_not_swept() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"), &mut all);
    assert!(all.len() > 50);
    for path in all.iter().filter(|path| !MAY_CONNECT.iter().any(|file| path.ends_with(file))) {
        let text = fs::read_to_string(path).unwrap();
        let imports = text.lines().filter(|line| line.contains("tokio::net") || line.contains("std::net"));
        for line in imports.filter(|line| !line.contains("stream: tokio::net::TcpStream") && !line.contains("TlsStream<tokio")) {
            assert!(!line.contains("TcpStream") && !line.contains("net::*"), "{path}: {line}");
        }
    }
}
