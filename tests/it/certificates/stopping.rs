//! A stop over TLS, and the restart that nobody notices.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http_body_util::BodyExt;

use super::running::{ask, request, socket, stream};
use super::{FILES, standin};
use crate::support::authority::{Authority, Client};
use crate::support::daemon::Home;
use crate::support::http::PATIENCE;
use crate::support::tls::exchange;
use crate::support::until;
use crate::support::wire::{Wire, eventually};

/// Short, so that what is cut at the bound is cut soon; long for eight pieces of a slow stream.
const DRAIN: &str = "drain_timeout = \"3s\"";

async fn opened(client: &Client, home: &Home, key: &str, path: &str) -> Wire {
    let mut wire = client.wire(home.address, "localhost").await;
    wire.write(ask(key, path, "")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"), "{path}");
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_streams_end_within_the_bound_cuts_the_others_at_it_and_says_so_to_sockets() {
    let (standin, authority) = (standin().await, Authority::new());
    let mut home = Home::of(&[&standin], FILES);
    assert!(std::fs::read_to_string(home.config()).expect("the configuration").contains(DRAIN));
    authority.issue(&["localhost"]).write(home.folder.path(), "a");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    let client = authority.client();

    let mut socket = socket(&client, &home, &key).await;
    let mut idle = opened(&client, &home, &key, "/keygate-test/bytes/0").await;
    let mut short = opened(&client, &home, &key, "/keygate-test/slow?pause=100").await;
    let mut endless = opened(&client, &home, &key, "/keygate-test/slow?pause=3600000").await;
    let (mut ends, mut stays) = (client.http2(home.address).await, client.http2(home.address).await);
    let short2 = stream(&mut ends, &key, "/keygate-test/slow?pause=100").await;
    let mut endless2 = stream(&mut stays, &key, "/keygate-test/slow?pause=3600000").await;
    let mut idle2 = client.http2(home.address).await;
    assert_eq!(exchange(&mut idle2, request(&key, "/keygate-test/bytes/3")).await.body.len(), 3);
    assert!(endless2.frame().await.expect("its first piece").is_ok());

    home.signal("TERM");
    assert!(idle.rest().await.is_empty());
    eventually("the idle connection of HTTP/2 is closed", || idle2.is_closed()).await;
    assert!(short.rest().await.ends_with(b"piece 8\n\r\n0\r\n\r\n"), "it runs to its end");
    let whole = tokio::time::timeout(PATIENCE, short2.collect()).await.expect("in time").expect("it runs to its end");
    assert!(whole.to_bytes().ends_with(b"piece 8\n"));
    let heard = socket.rest().await;
    assert!(heard.ends_with(b"\x88\x0c\x03\xe9going away"), "{}", String::from_utf8_lossy(&heard));
    // Nothing new on a connection that is still there.
    assert!(stays.ready().await.is_err() || stays.send_request(request(&key, "/System/Info")).await.is_err());

    assert!(!endless.rest().await.ends_with(b"0\r\n\r\n"), "what was cut does not look whole");
    let cut = tokio::time::timeout(PATIENCE, endless2.frame()).await.expect("in time");
    assert!(cut.is_some_and(|frame| frame.is_err()), "here neither");
    assert_eq!(home.ended().await, 0);
    eventually("the server has lost the two that were cut", || standin.control().counters().aborted_answers == 2).await;
    eventually("and the socket", || standin.control().counters().open_sockets == 0).await;
}

/// Asks again and again, each time by a new connection, until told to stop. Whatever is not a 200 is a failure.
async fn hammer(
    pem: String,
    address: SocketAddr,
    key: String,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    is_http2: bool,
) -> Vec<String> {
    let client = Client::trusting(&pem);
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
        if is_http2 {
            let mut http2 = client.http2(address).await;
            let status = exchange(&mut http2, request(&key, "/System/Info")).await.status;
            failures.extend((status != 200).then(|| status.to_string()));
        } else {
            match client.get(address, "/System/Info", &key).await {
                Ok((answer, _)) if answer.starts_with("HTTP/1.1 200") => {}
                Ok((answer, _)) => failures.push(answer),
                Err(error) => failures.push(error.to_string()),
            }
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_no_handshake_and_breaks_no_stream_where_systemd_holds_the_socket() {
    let (standin, authority) = (standin().await, Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut home = Home::of(&[&standin], FILES);
    authority.issue(&["localhost"]).write(home.folder.path(), "a");
    let config = std::fs::read_to_string(home.config()).expect("the configuration");
    home.write(&config.replace(&format!("listen = \"{}\"", home.address), "listen = \"systemd:https\""));
    home.address = listener.local_addr().expect("address");
    home.sweep.cover(&[home.address]);
    home.spawn_activated(&listener, "https");
    home.logged("ready").await;
    home.add_alice("alice").await;
    let key = home.key("k", "alice").await;
    let client = authority.client();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let hammers: Vec<_> = [false, false, false, true, true]
        .into_iter()
        .map(|is_http2| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(hammer(authority.pem.clone(), home.address, key.clone(), stop, asked, is_http2))
        })
        .collect();
    for _ in 0..3 {
        let before = asked.load(Ordering::Relaxed);
        until("requests are answered", || asked.load(Ordering::Relaxed) > before + 10).await;
        let mut first = opened(&client, &home, &key, "/keygate-test/slow?pause=50").await;
        let mut http2 = client.http2(home.address).await;
        let second = stream(&mut http2, &key, "/keygate-test/slow?pause=50").await;
        home.signal("TERM");
        assert!(first.rest().await.ends_with(b"piece 8\n\r\n0\r\n\r\n"), "the stream runs to its end");
        assert!(second.collect().await.expect("the stream runs to its end").to_bytes().ends_with(b"piece 8\n"));
        assert_eq!(home.ended().await, 0);
        home.spawn_activated(&listener, "https");
        home.logged("ready").await;
    }
    stop.store(true, Ordering::Relaxed);
    for hammer in hammers {
        assert_eq!(hammer.await.expect("no panic"), Vec::<String>::new());
    }
}
