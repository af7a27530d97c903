//! Before an `auth`: only the opening, not for long, and not many.

use std::time::Duration;

use keygate::upstream::Kind;
use tokio::net::TcpListener;

use super::{OPEN, auth, connected};
use crate::support::http;
use crate::support::socket::{ACCEPT, HANDSHAKE, Socket, frame};
use crate::support::wire::{Wire, eventually};
use crate::support::{Rig, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_opening_does_not_reach_the_server() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let texts = ["42[\"cancel_scan\",\"x\"]", "42[\"message_all_users\"]", "40/admin,", "43[]", "450-[\"x\"]", "4", "0", "6", "bAAAA", "x"];
    for packet in texts {
        let mut socket = connected(&rig, OPEN).await;
        socket.say(packet).await;
        assert_eq!(socket.closed().await, (1008, "authentication comes first".to_owned()), "{packet}");
    }
    let mut socket = connected(&rig, OPEN).await;
    socket.wire.write(frame(0x82, b"binary", Some([1, 1, 1, 1]))).await;
    assert_eq!(socket.closed().await.0, 1008);
    eventually("all are closed", || rig.standin.control().counters().open_sockets == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_before_the_auth_is_not_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let rig = Setup::new(Kind::Audiobookshelf).with(move |config| config.upstreams[0].port = port).start().await;
    let mut client = Wire::plain(rig.address).await;
    client.write(format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n")).await;
    let mut upstream = Wire::over(listener.accept().await.expect("a connection").0);
    let handshake = upstream.head().await;
    assert!(!handshake.to_ascii_lowercase().contains("authorization"), "{handshake}");
    let early = [frame(0x81, b"0{\"sid\":\"x\"}", None), frame(0x81, b"42[\"secret\"]", None)].concat();
    let accepted = format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
    upstream.write([accepted.as_bytes(), &early].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    let mut socket = Socket { wire: client };
    assert_eq!(socket.hear().await, "0{\"sid\":\"x\"}");
    assert_eq!(socket.closed().await.0, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_authenticate_in_time_is_closed_and_who_did_is_not() {
    let limit = Duration::from_millis(300);
    let rig = Setup::new(Kind::Audiobookshelf).with(move |config| config.limits.header_timeout = limit).start().await;
    let mut known = connected(&rig, OPEN).await;
    known.say(&auth(rig.secret())).await;
    assert!(known.hear().await.starts_with("42[\"init\","));
    let mut late = connected(&rig, OPEN).await;
    late.say("3").await;
    assert_eq!(late.closed().await, (1008, "not authenticated in time".to_owned()));
    known.say("2x").await;
    assert_eq!(known.hear().await, "3x");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_sockets_of_an_address_wait_for_their_auth() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(connected(&rig, OPEN).await);
    }
    for target in [OPEN, "/socket.io/?EIO=4&transport=polling"] {
        let lines = if target == OPEN { HANDSHAKE } else { "" };
        let mut ninth = Wire::plain(rig.address).await;
        ninth.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")).await;
        let answer = ninth.head().await;
        assert!(answer.starts_with("HTTP/1.1 429"), "{target}: {answer}");
    }
    // One that authenticates makes room, and a key in a carrier needs none.
    let mut first = waiting.remove(0);
    Socket::with_key(&rig, Kind::Audiobookshelf).await;
    first.say(&auth(rig.secret())).await;
    assert!(first.hear().await.starts_with("42[\"init\","));
    connected(&rig, OPEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_engine_io_4_is_refused_before_anything_is_sent() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let bearer = format!("Bearer {}", rig.secret());
    for key in [false, true] {
        for (target, code) in [
            ("/socket.io/?EIO=3&transport=polling", 5),
            ("/socket.io/?transport=polling", 5),
            ("/socket.io/?EIO=4&transport=polling&j=0", 3),
            ("/socket.io/?EIO=4&transport=webtransport", 0),
            ("/socket.io/?EIO=4&transport=websocket", 3),
            ("/socket.io/?EIO=4&transport=polling&sid=a&sid=b", 3),
            ("/socket.io/?EIO=4&transport=polling&sid=nobodys", 1),
            ("/socket.io/x?EIO=4&transport=polling", 3),
            ("/audiobookshelf/socket.io/a/b?EIO=4&transport=polling", 3),
        ] {
            let headers = [("authorization", bearer.as_str())];
            let answer = http::get(rig.address, target, if key { &headers } else { &[] }).await;
            assert_eq!((answer.status.as_u16(), answer.json()["code"].as_i64()), (400, Some(code)), "{target}");
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        }
    }
    assert_eq!(rig.standin.control().journal().len(), 0);
}
