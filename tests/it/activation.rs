//! The real program with sockets that systemd holds: this process stands for systemd.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::http as client;
use crate::support::until;
use crate::support::wire::Wire;

/// A folder whose daemon listens on `systemd:https`, and the socket of that name.
fn home(standin: &StandIn, listen: &str) -> (Home, TcpListener) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut home = Home::of(&[standin], "");
    let config = std::fs::read_to_string(home.config()).expect("the configuration");
    home.write(&config.replace(&format!("listen = \"{}\"", home.address), listen));
    home.address = socket.local_addr().expect("address");
    (home, socket)
}

async fn standin() -> StandIn {
    StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in")
}

/// Asks again and again, each time by a new connection, until told to stop. Whatever is not a 200 is a failure.
async fn hammer(address: SocketAddr, key: String, stop: Arc<AtomicBool>, asked: Arc<AtomicU32>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
        let headers = [("x-emby-token", key.as_str()), ("connection", "close")];
        match client::try_send(address, Method::GET, "/System/Info", &headers, Bytes::new()).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => failures.push(answer.status.to_string()),
            Err(error) => failures.push(error.to_string()),
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_no_connection_and_breaks_no_stream() {
    let standin = standin().await;
    let (mut home, socket) = home(&standin, "listen = [\"systemd:https\"]");
    home.spawn_activated(&socket, "https");
    home.logged("ready").await;
    home.add_alice("jellyfin/alice").await;
    let key = home.key("k", "alice").await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let hammers: Vec<_> = (0..8).map(|_| tokio::spawn(hammer(home.address, key.clone(), Arc::clone(&stop), Arc::clone(&asked)))).collect();
    for _ in 0..5 {
        let before = asked.load(Ordering::Relaxed);
        until("requests are answered", || asked.load(Ordering::Relaxed) > before + 20).await;
        let mut stream = Wire::plain(home.address).await;
        stream.write(format!("GET /keygate-test/slow?pause=50 HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n\r\n")).await;
        assert!(stream.head().await.starts_with("HTTP/1.1 200"));
        home.signal("TERM");
        assert!(stream.rest().await.ends_with(b"piece 8\n\r\n0\r\n\r\n"), "the stream runs to its end");
        assert_eq!(home.ended().await, 0);
        home.spawn_activated(&socket, "https");
        home.logged("ready").await;
    }
    stop.store(true, Ordering::Relaxed);
    for hammer in hammers {
        assert_eq!(hammer.await.expect("no panic"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sockets_of_one_name_are_one_listener_and_one_that_nobody_names_is_told() {
    let standin = standin().await;
    let (mut home, socket) = home(&standin, "listen = [\"systemd:https\"]");
    home.spawn_activated(&socket, "https:https:spare");
    home.logged("ready").await;
    assert_eq!(home.log().matches("listening").count(), 2, "{}", home.log());
    assert!(home.log().contains("no listener is \"systemd:spare\""), "{}", home.log());
    home.add_alice("jellyfin/alice").await;
    let key = home.key("k", "alice").await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_missing_names_are_told() {
    let standin = standin().await;
    let (mut home, socket) = home(&standin, "listen = [\"systemd:https\"]");
    home.spawn_activated(&socket, "web:http");
    let said = home.logged("cannot listen on").await;
    assert!(said.contains("cannot listen on systemd:https: systemd has handed over no socket of this name, only: http, web."), "{said}");
    assert_ne!(home.ended().await, 0);
    let said = home.run("serve").await;
    assert!(said.err.contains("systemd has handed over no sockets") && said.err.contains("keygate.socket"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_socket_of_another_family_are_no_listeners() {
    let standin = standin().await;
    let (mut home, _) = home(&standin, "listen = [\"systemd:https\"]");
    let file = std::fs::File::open("/dev/null").expect("there");
    home.spawn_activated(&file, "https");
    let said = home.logged("cannot listen on").await;
    assert!(said.contains("no TCP socket that listens") && said.contains("ListenStream="), "{said}");
    assert_ne!(home.ended().await, 0);
    let unix = std::os::unix::net::UnixListener::bind(home.folder.path().join("unix")).expect("bound");
    home.spawn_activated(&unix, "https");
    home.logged("no TCP socket that listens").await;
    assert_ne!(home.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_socket_needs_tls_as_a_public_address_does() {
    let standin = standin().await;
    let (mut home, _) = home(&standin, "listen = [\"systemd:https\"]");
    let public = TcpListener::bind("0.0.0.0:0").expect("bound");
    home.spawn_activated(&public, "https");
    let said = home.logged("cannot listen on").await;
    assert!(said.contains("reachable from other machines") && said.contains("allow_plaintext"), "{said}");
    assert_ne!(home.ended().await, 0);
}
