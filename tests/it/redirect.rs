//! Listeners that only lead to https: what they answer, what they never forward, and what the operator hears of a key that came there.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::http::{self as client, Answer};
use crate::support::tls::Trust;
use crate::support::wire::Wire;
use crate::support::{Rig, Setup};

/// A gateway with TLS and a redirecting listener, whose address is the second.
async fn rig(https_port: u16) -> (Rig, SocketAddr) {
    let setup = Setup::new(Kind::Jellyfin).tls(Trust::new().certificate()).with(move |config| {
        config.server.listen_redirect = vec!["127.0.0.1:0".parse().expect("address")];
        config.server.https_port = https_port;
    });
    let rig = setup.start().await;
    let address = rig.app().addresses()[1];
    (rig, address)
}

async fn ask(address: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    client::send(address, method, path, headers, Bytes::new()).await
}

/// What a client by hand is answered.
async fn raw(address: SocketAddr, head: &str) -> String {
    let mut wire = Wire::plain(address).await;
    wire.write(head).await;
    String::from_utf8(wire.rest().await).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_led_to_the_same_place_by_https() {
    let (rig, address) = rig(0).await;
    let port = rig.address.port();
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let answer = ask(address, method.clone(), "/Items/a%20b/x?limit=2&q=%C3%A4", &[]).await;
        assert_eq!(answer.status, 308, "{method}");
        let wanted = format!("https://127.0.0.1:{port}/Items/a%20b/x?limit=2&q=%C3%A4");
        assert_eq!(answer.header("location"), Some(wanted.as_str()), "{method}");
        assert!(answer.body.is_empty());
    }
    assert_eq!(rig.standin.control().counters().requests, 0, "nothing is forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_the_clients_and_the_port_is_the_one_that_clients_find() {
    let (_rig, address) = rig(443).await;
    for (host, location) in [
        ("Media.Example.org", "https://media.example.org/x"),
        ("media.example.org:80", "https://media.example.org/x"),
        ("[2001:db8::1]:80", "https://[2001:db8::1]/x"),
    ] {
        let answer = raw(address, &format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 308") && answer.contains(&format!("location: {location}\r\n")), "{answer}");
    }
    for head in ["GET /x HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let answer = raw(address, head).await;
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("location"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_other_kinds_do_not_stay_in_the_address() {
    let (rig, address) = rig(0).await;
    let path = "/x?a=1&api_key=0123456789abcdef0123456789abcdef&b=2";
    let answer = ask(address, Method::GET, path, &[]).await;
    assert_eq!(answer.status, 308);
    let wanted = format!("https://127.0.0.1:{}/x?a=1&b=2", rig.address.port());
    assert_eq!(answer.header("location"), Some(wanted.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_refused_wherever_it_stands_and_never_sent_back() {
    let (rig, address) = rig(0).await;
    let key = rig.secret().to_owned();
    let bearer = format!("Bearer {key}");
    let cookie = format!("refresh_token={key}");
    let referer = format!("http://media.example.org/x?api_key={key}");
    let (in_query, in_other, in_path) = (format!("/x?api_key={key}"), format!("/x?unknown={key}"), format!("/x/{key}"));
    let mistyped = format!("{}x", &key[..key.len() - 1]);
    let cases: [(&str, &[(&str, &str)]); 9] = [
        ("/x", &[("authorization", &bearer)]),
        ("/x", &[("x-emby-token", &key)]),
        ("/x", &[("x-emby-token", &mistyped)]),
        ("/x", &[("cookie", &cookie)]),
        ("/x", &[("referer", &referer)]),
        (&in_query, &[]),
        (&in_query, &[("x-emby-token", "something-else")]),
        (&in_other, &[]),
        (&in_path, &[]),
    ];
    for (path, headers) in cases {
        for path in [path.to_owned(), path.replace("/x", "/.well-known/acme-challenge/x")] {
            let answer = ask(address, Method::GET, &path, headers).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert_eq!(answer.json()["error"], "clear_text_key");
            assert!(answer.header("location").is_none() && !answer.text().contains(&key[..12]));
        }
    }
    assert_eq!(rig.standin.control().counters().requests, 0, "nothing is forwarded");
    assert_eq!(rig.standin.control().counters().logins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_of_acme_are_answered_while_they_are_set() {
    let (rig, address) = rig(0).await;
    let challenges = rig.app().gateway.challenges();
    let path = "/.well-known/acme-challenge/tOkEn-1_";
    assert_eq!(ask(address, Method::GET, path, &[]).await.status, 404);
    challenges.set("tOkEn-1_", "tOkEn-1_.thumbprint");
    let answer = ask(address, Method::GET, path, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "tOkEn-1_.thumbprint"));
    assert_eq!(ask(address, Method::GET, "/.well-known/acme-challenge/other", &[]).await.status, 404);
    assert_eq!(ask(address, Method::POST, path, &[]).await.status, 308, "only reading is answered here");
    challenges.remove("tOkEn-1_");
    assert_eq!(ask(address, Method::GET, path, &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_key_that_is_burnt() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[server.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(home.folder.path().join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(home.folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let mut command = home.program();
    command.env("KEYGATE_SERVER__LISTEN_REDIRECT", "127.0.0.1:0").env("KEYGATE_SERVER__HTTPS_PORT", "443").arg("serve");
    home.spawn(command);
    let line = home.logged("none: leads to https").await;
    let address: SocketAddr =
        line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address").parse().expect("one");
    home.add_alice("jellyfin/alice").await;
    let key = home.key("kitchen-radio", "alice").await;
    let answer = client::get(address, &format!("/x?api_key={key}"), &[]).await;
    assert_eq!(answer.status, 403);
    let line = home.logged("this key is burnt").await;
    assert!(line.contains("kitchen-radio") && line.contains("127.0.0.1") && line.contains("api_key"), "{line}");
    assert!(!home.log().contains(&key[..20]), "{}", home.log());
    assert_eq!(client::get(address, "/x", &[]).await.header("location"), Some("https://127.0.0.1/x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_there_is_nothing_to_lead_to() {
    let home = Home::empty();
    home.write("[server]\nlisten_redirect = [\"127.0.0.1:80\"]\n[[upstream]]\nkind = \"jellyfin\"\nurl = \"http://127.0.0.1:8096\"\n");
    let said = home.run("check-config").await.refused(2);
    assert!(said.contains("server.listen_redirect leads to https, but there is no TLS") && said.contains("cert_file"), "{said}");
}
