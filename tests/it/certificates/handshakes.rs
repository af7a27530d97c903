//! What a handshake is given and what it is refused: names, sessions, old protocols, clients without a certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keygate::certificates::Served;
use keygate::config::{CertificateSource, ClientCa, Listen, Tls};
use keygate::upstream::Kind;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::authority::{Authority, Client, Issued};
use crate::support::http::PATIENCE;
use crate::support::net::TcpStream;
use crate::support::wire::Wire;
use crate::support::{Rig, Setup};

async fn serving(issued: &[&Issued]) -> Rig {
    let served = Served::new(issued.iter().map(|one| one.pair()));
    Setup::new(Kind::Jellyfin).served(Arc::new(served)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new();
    let (first, star, exact) = (authority.issue(&["first.test"]), authority.issue(&["*.home.test"]), authority.issue(&["books.home.test"]));
    let rig = serving(&[&first, &star, &exact]).await;
    let client = authority.client();
    for (name, expected) in [("first.test", &first), ("films.home.test", &star), ("books.home.test", &exact)] {
        assert_eq!(client.sees(rig.address, name).await.expect("trusted"), expected.pair().cert[0], "{name}");
    }
    // A stranger's name gets the first certificate, which a client does not take for that name.
    let error = client.sees(rig.address, "unknown.test").await.expect_err("another name").to_string();
    assert!(error.contains("unknown.test") && error.contains("first.test"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_taken_up_again_in_both_versions() {
    let authority = Authority::new();
    let rig = serving(&[&authority.issue(&["localhost"])]).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Client::new(&authority.pem, &[version], None);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let (answer, kind) = client.get(rig.address, "/System/Info", rig.secret()).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            kinds.push(kind);
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed], "{version:?}");
    }
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// A client's first message with these suites, for servers with an ECDSA certificate.
fn hello(version: [u8; 2], suites: &[u16]) -> Vec<u8> {
    hello_with(version, suites, &[])
}

/// The same with one more extension.
fn hello_with(version: [u8; 2], suites: &[u16], more: &[u8]) -> Vec<u8> {
    let extensions = [
        extension(10, &[0, 4, 0, 29, 0, 23]),
        extension(11, &[1, 0]),
        // Elliptic curves and RSA, with SHA-256 and SHA-1.
        extension(13, &[0, 8, 4, 3, 4, 1, 2, 3, 2, 1]),
        extension(23, &[]),
        more.to_vec(),
    ]
    .concat();
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let body = [
        &version[..],
        &[7; 32],
        &[0],
        &(suites.len() as u16).to_be_bytes(),
        &suites,
        &[1, 0],
        &(extensions.len() as u16).to_be_bytes(),
        &extensions,
    ]
    .concat();
    let length = body.len() as u32;
    let message = [&[1][..], &length.to_be_bytes()[1..], &body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// Type of the first record that comes back, and of an alert its description.
async fn answer_to(address: SocketAddr, hello: &[u8]) -> (u8, Option<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(hello).await.expect("written");
    let mut record = [0; 7];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut record)).await.expect("in time").expect("an answer");
    (record[0], (record[0] == 21).then_some(record[6]))
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_and_ciphers_without_authentication_are_refused() {
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    let authority = Authority::new();
    let rig = serving(&[&authority.issue(&["localhost"])]).await;
    let (gcm, chacha, cbc) = ([0xc02b], [0xcca9], [0xc009, 0xc00a, 0xc023, 0xc024, 0xc013, 0xc014, 0x002f, 0x0035, 0x000a]);
    for good in [&gcm, &chacha] {
        assert_eq!(answer_to(rig.address, &hello([3, 3], good)).await, (HANDSHAKE, None), "the message itself is right: {good:x?}");
    }
    assert_eq!(answer_to(rig.address, &hello([3, 3], &cbc)).await, (ALERT, Some(HANDSHAKE_FAILURE)));
    // No forward secrecy, no encryption at all.
    assert_eq!(answer_to(rig.address, &hello([3, 3], &[0x009c, 0x009d, 0x0002])).await, (ALERT, Some(HANDSHAKE_FAILURE)));
    for old in [[3, 0], [3, 1], [3, 2]] {
        assert_eq!(answer_to(rig.address, &hello(old, &[gcm[0], cbc[0]])).await, (ALERT, Some(PROTOCOL_VERSION)), "{old:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_speaks_neither_http2_nor_http1_is_told_so_and_one_that_says_nothing_is_served() {
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    let authority = Authority::new();
    let rig = serving(&[&authority.issue(&["localhost"])]).await;
    let offering = |names: &[&str]| {
        let list: Vec<u8> = names.iter().flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat()).collect();
        hello_with([3, 3], &[0xc02b], &extension(16, &[&(list.len() as u16).to_be_bytes()[..], &list].concat()))
    };
    for strange in [&["h3"][..], &["http/1.0", "spdy/3"], &["acme-tls/1"], &["h2c"]] {
        assert_eq!(answer_to(rig.address, &offering(strange)).await, (ALERT, Some(NO_APPLICATION_PROTOCOL)), "{strange:?}");
    }
    for known in [&["h3", "h2"][..], &["http/1.1"], &["h2"]] {
        assert_eq!(answer_to(rig.address, &offering(known)).await, (HANDSHAKE, None), "{known:?}");
    }
    assert_eq!(answer_to(rig.address, &hello([3, 3], &[0xc02b])).await, (HANDSHAKE, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_tls_is_told_where_to_write_https() {
    let rig = serving(&[&Authority::new().issue(&["localhost"])]).await;
    let key = rig.secret().to_owned();
    let long = format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n{}", "x".repeat(50_000));
    for request in [
        "GET /System/Info HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &format!("GET /System/Info?api_key={key} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long,
    ] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(request).await;
        let answer = String::from_utf8(wire.rest().await).expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.ends_with("write https:// in place of http:// and try again\n")
        );
        assert!(!answer.contains(&key), "nothing of the request comes back");
    }
    assert_eq!(rig.standin.control().journal().iter().filter(|seen| seen.path() == "/System/Info").count(), 0);
    // What is no request either gets no page.
    let mut wire = Wire::plain(rig.address).await;
    wire.write("\u{5}hello").await;
    assert!(!wire.rest().await.starts_with(b"HTTP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_hold_up_nobody() {
    let authority = Authority::new();
    let served = Served::new([authority.issue(&["localhost"]).pair()]);
    // One core: whoever waits behind them waits there.
    let rig = Setup::new(Kind::Jellyfin).served(Arc::new(served)).with(|config| config.server.threads = 1).start().await;
    let whole = hello([3, 3], &[0xc02b]);
    let mut hanging = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(rig.address).await.expect("connected");
        // Nothing, half a message, all of it without a second one.
        stream.write_all(&whole[..[0, whole.len() / 2, whole.len()][number % 3]]).await.expect("written");
        hanging.push(stream);
    }
    let gateway = &rig.app().gateway;
    crate::support::until("all are there", || gateway.open_connections() >= 200).await;
    let (answer, _) = authority.client().get(rig.address, "/System/Info", rig.secret()).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(gateway.open_connections() >= 200, "they hang still");
}

fn tls(client_ca: Option<ClientCa>, hsts: Duration) -> Tls {
    Tls { source: CertificateSource::Files(Vec::new()), client_ca, hsts }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_gets_nowhere_where_one_is_asked_for() {
    let (authority, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clients.pem");
    std::fs::write(&file, &clients.pem).expect("written");
    let served = Arc::new(Served::new([authority.issue(&["localhost"]).pair()]));
    // Two addresses, of which one asks.
    let asking: Listen = "127.0.0.2:0".parse().expect("address");
    let rig = Setup::new(Kind::Jellyfin).served(served).with(move |config| {
        config.server.listen.push(asking.clone());
        config.server.tls = Some(tls(Some(ClientCa { file, listen: vec![asking] }), Duration::ZERO));
    });
    let rig = rig.start().await;
    let [open, asking] = rig.app().addresses() else { panic!("two addresses") };
    let (own, foreign) = (clients.issue(&["tv"]), stranger.issue(&["tv"]));
    let client = |own: Option<&Issued>| Client::new(&authority.pem, rustls::DEFAULT_VERSIONS, own);
    let status = async |client: &Client, address: &SocketAddr, key: &str| {
        client.get(*address, "/System/Info", key).await.map(|(answer, _)| answer[9..12].to_owned())
    };

    let with = client(Some(&own));
    assert_eq!(status(&with, asking, rig.secret()).await.expect("an answer"), "200");
    assert_eq!(status(&with, asking, "").await.expect("an answer"), "401", "the certificate takes no key's place");
    assert_eq!(status(&client(Some(&foreign)), asking, rig.secret()).await.expect_err("refused").kind(), std::io::ErrorKind::InvalidData);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let without = Client::new(&authority.pem, &[version], None);
        assert_eq!(status(&without, open, rig.secret()).await.expect("an answer"), "200");
        // It knows a session by now, under the same name; that session began without a certificate.
        status(&without, asking, rig.secret()).await.expect_err("refused");
        assert_eq!(status(&without, open, rig.secret()).await.expect("an answer"), "200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_come_by_tls_in_answers_of_both_and_never_in_plain_text() {
    let authority = Authority::new();
    let served = Arc::new(Served::new([authority.issue(&["localhost"]).pair()]));
    let rig = Setup::new(Kind::Jellyfin).served(served).with(|config| {
        config.server.tls = Some(tls(None, Duration::from_secs(86_400)));
        config.server.listen_plain.push("127.0.0.1:0".parse().expect("address"));
        config.server.listen_redirect.push("127.0.0.1:0".parse().expect("address"));
    });
    let rig = rig.start().await;
    let [secure, plain, redirect] = rig.app().addresses() else { panic!("three addresses") };
    let client = authority.client();
    for (path, key, status) in
        [("/System/Info", rig.secret(), 200), ("/System/Info", "", 401), ("/keygate-test/status/404", rig.secret(), 404)]
    {
        let (answer, _) = client.get(*secure, path, key).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.to_ascii_lowercase().matches("\r\nstrict-transport-security: max-age=86400\r\n").count(), 1, "{answer}");
        let answer = crate::support::http::get(*plain, path, &[("x-emby-token", key)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("strict-transport-security")), (status, None));
    }
    let answer = crate::support::http::get(*redirect, "/System/Info", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("strict-transport-security")), (308, None));
}
