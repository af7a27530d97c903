//! The real program when it is told to stop, and when the machine has no more descriptors for it.

use std::process::{Command, Stdio};

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::net::TcpStream;
use crate::support::wire::{Wire, eventually};

const HANDSHAKE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A running daemon in front of a stand-in, and a key.
async fn running(drain: &str) -> (StandIn, Home, String) {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    let config = std::fs::read_to_string(home.config()).expect("the configuration");
    let changed = config.replace("drain_timeout = \"3s\"", &format!("drain_timeout = \"{drain}\""));
    assert!(drain == "3s" || changed != config, "{config}");
    home.write(&changed);
    home.start().await;
    home.add_alice("jellyfin/alice").await;
    let key = home.key("k", "alice").await;
    (standin, home, key)
}

async fn ask(home: &Home, key: &str, path: &str, lines: &str) -> Wire {
    let mut wire = Wire::plain(home.address).await;
    wire.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n{lines}\r\n")).await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_runs_and_closes_what_idles_and_sockets() {
    let (standin, mut home, key) = running("2s").await;
    let mut socket = ask(&home, &key, "/socket?deviceId=d", HANDSHAKE).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
    let mut idle = ask(&home, &key, "/keygate-test/bytes/0", "").await;
    assert!(idle.head().await.starts_with("HTTP/1.1 200"));
    let mut unused = Wire::plain(home.address).await;
    let mut stream = ask(&home, &key, "/keygate-test/slow?pause=100", "").await;
    assert!(stream.head().await.starts_with("HTTP/1.1 200"));
    home.signal("TERM");
    assert!(idle.rest().await.is_empty());
    assert!(unused.rest().await.is_empty());
    let address = home.address;
    // The sockets of all cores close one after the other.
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::http::PATIENCE, refused).await.expect("nothing listens any more");
    assert!(stream.rest().await.ends_with(b"piece 8\n\r\n0\r\n\r\n"), "the stream runs to its end");
    let heard = socket.rest().await;
    assert!(heard.ends_with(b"\x88\x0c\x03\xe9going away"), "{}", String::from_utf8_lossy(&heard));
    assert_eq!(home.ended().await, 0);
    eventually("the upstream's side of the socket is closed", || standin.control().counters().open_sockets == 0).await;
    assert_eq!(standin.control().counters().aborted_answers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connected_before_the_stop_may_still_ask_once() {
    let (_standin, mut home, key) = running("3s").await;
    let mut fresh = Wire::plain(home.address).await;
    // It is accepted: another one on each core was answered after it.
    for _ in 0..20 {
        assert_eq!(home.status("/System/Info", &key).await, 200);
    }
    home.signal("TERM");
    home.logged("stopping").await;
    fresh.write(format!("GET /System/Info HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n\r\n")).await;
    assert!(fresh.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(home.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_everything_at_once() {
    // Without it, this test would take an hour.
    let (_standin, mut home, key) = running("1h").await;
    let mut stream = ask(&home, &key, "/keygate-test/slow?pause=3600000", "").await;
    assert!(stream.head().await.starts_with("HTTP/1.1 200"));
    home.signal("TERM");
    home.logged("stopping").await;
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    assert!(!stream.rest().await.ends_with(b"0\r\n\r\n"), "what was cut does not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_ends_no_listener() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[limits]\nmax_connections = 10000\n");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" serve", env!("CARGO_BIN_EXE_keygate")]);
    command.env("KEYGATE_CONFIG", home.config()).env_remove("KEYGATE_SOCKET").env_remove("NOTIFY_SOCKET");
    command.current_dir(home.folder.path()).stderr(Stdio::piped());
    home.spawn(command);
    home.logged("ready").await;
    home.add_alice("jellyfin/alice").await;
    let key = home.key("k", "alice").await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    let mut many = Vec::new();
    for _ in 0..100 {
        many.push(TcpStream::connect(home.address).await.expect("the kernel takes it"));
    }
    home.logged("cannot accept connections").await;
    drop(many);
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
}
