//! Behind a load balancer that speaks the PROXY protocol: before TLS and without it, and who may not speak it.

use keygate::upstream::Kind;
use tokio::io::AsyncWriteExt;

use crate::support::net::TcpStream;
use crate::support::wire::{Wire, eventually};
use crate::support::{Rig, Setup};

/// A gateway that takes headers from these networks; its second listener is a plain one.
async fn rig(from: &'static str, limit: usize) -> Rig {
    let setup = Setup::new(Kind::Jellyfin).with(move |config| {
        config.server.proxy_protocol = vec![from.parse().expect("a network")];
        config.server.listen_plain = vec!["127.0.0.1:0".parse().expect("address")];
        config.limits.max_connections_per_address = limit;
    });
    setup.start().await
}

fn request(rig: &Rig, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {}\r\n\r\n", rig.secret())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_in_the_header_is_the_clients_for_the_media_server() {
    let rig = rig("127.0.0.0/8", 0).await;
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[203, 0, 113, 9, 127, 0, 0, 1, 1, 2, 1, 0xbb]].concat();
    for (header, address) in [(b"PROXY TCP4 203.0.113.7 127.0.0.1 50000 443\r\n".to_vec(), "203.0.113.7"), (v2, "203.0.113.9")] {
        let mut wire = Wire::plain(rig.address).await;
        // In pieces, as a network may deliver it.
        for piece in header.chunks(7) {
            wire.write(piece).await;
        }
        wire.write(request(&rig, "/keygate-test/bytes/0")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        let arrived = rig.standin.control().journal();
        let last = arrived.last().expect("a request");
        assert_eq!(last.header("x-forwarded-for"), Some(address));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_nothing_or_nonsense_is_not_served_and_plain_listeners_do_not_ask() {
    let rig = rig("127.0.0.0/8", 0).await;
    for start in ["", "PROXY TCP4 nonsense\r\n"] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(format!("{start}{}", request(&rig, "/System/Info"))).await;
        assert!(wire.rest().await.is_empty(), "{start}");
    }
    let plain = rig.app().addresses()[1];
    let mut wire = Wire::plain(plain).await;
    wire.write(request(&rig, "/System/Info")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_say_who_he_is() {
    let rig = rig("192.0.2.0/24", 0).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(format!("PROXY TCP4 203.0.113.7 127.0.0.1 50000 443\r\n{}", request(&rig, "/System/Info"))).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 400"), "it is no request");
    let mut wire = Wire::plain(rig.address).await;
    wire.write(request(&rig, "/System/Info")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"), "and without it everything is as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_connections_counts_the_clients_behind_the_proxy() {
    let rig = rig("127.0.0.0/8", 2).await;
    let open = async |client: &str| {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(format!("PROXY TCP4 {client} 127.0.0.1 50000 443\r\n{}", request(&rig, "/System/Info"))).await;
        (wire.head().await.starts_with("HTTP/1.1 200"), wire)
    };
    let (first, second) = (open("203.0.113.7").await, open("203.0.113.7").await);
    assert!(first.0 && second.0);
    assert!(!open("203.0.113.7").await.0, "a third one of the same client");
    assert!(open("203.0.113.8").await.0, "another client");
    drop(first);
    let gateway = &rig.app().gateway;
    eventually("the place is free again", || gateway.open_connections() <= 2).await;
    assert!(open("203.0.113.7").await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_before_tls() {
    let trust = crate::support::tls::Trust::new();
    let setup = Setup::new(Kind::Jellyfin).tls(trust.certificate());
    let rig = setup.with(|config| config.server.proxy_protocol = vec!["127.0.0.0/8".parse().expect("a network")]).start().await;
    let mut stream = TcpStream::bare(rig.address).await.expect("connected");
    stream.write_all(b"PROXY TCP6 2001:db8::7 ::1 50000 443\r\n").await.expect("written");
    let mut wire = Wire::over(trust.over(stream, &["http/1.1"]).await);
    wire.write(request(&rig, "/keygate-test/bytes/0")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    let arrived = rig.standin.control().journal();
    assert_eq!(arrived.last().expect("a request").header("x-forwarded-for"), Some("2001:db8::7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_listeners_are_named_no_other_one_listens_to_a_header() {
    let setup = Setup::new(Kind::Jellyfin).with(|config| {
        let proxied: keygate::config::Listen = "127.0.0.2:0".parse().expect("address");
        config.server.listen.push(proxied.clone());
        config.server.proxy_protocol = vec!["127.0.0.0/8".parse().expect("a network")];
        config.server.proxy_protocol_listen = vec![proxied];
    });
    let rig = setup.start().await;
    let [open, proxied] = rig.app().addresses() else { panic!("two addresses") };
    let header = "PROXY TCP4 203.0.113.7 127.0.0.1 50000 443\r\n";
    let ask = async |address: &std::net::SocketAddr, header: &str| {
        let mut wire = Wire::plain(*address).await;
        wire.write(format!("{header}{}", request(&rig, "/keygate-test/bytes/0"))).await;
        wire.head().await.get(9..12).unwrap_or_default().to_owned()
    };
    assert_eq!((ask(proxied, header).await, ask(proxied, "").await), ("200".to_owned(), String::new()));
    let last = || rig.standin.control().journal().last().expect("a request").header("x-forwarded-for").map(str::to_owned);
    assert_eq!(last().as_deref(), Some("203.0.113.7"));
    assert_eq!((ask(open, header).await, ask(open, "").await), ("400".to_owned(), "200".to_owned()));
    assert_eq!(last().as_deref(), Some("127.0.0.1"));
}
