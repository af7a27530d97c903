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
    assert_eq!(burnt_by_the_audit_log(&mut home).await, ["kitchen-radio 1"]);
}

/// What the audit log says of keys that came in clear text: which, and how often. Ends the gateway.
async fn burnt_by_the_audit_log(home: &mut Home) -> Vec<String> {
    home.signal("TERM");
    home.ended().await;
    let page: serde_json::Value = serde_json::from_str(&home.run("audit tail -n 1000 -o json").await.ok()).expect("JSON");
    let entries = page["entries"].as_array().expect("a list").iter();
    let burnt = entries.filter(|entry| entry["fields"][0]["after"] == "clear-text-key");
    burnt.map(|entry| format!("{} {}", entry["object"]["name"], entry["fields"][1]["after"]).replace('"', "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_in_clear_text_to_a_port_with_tls_is_told_as_burnt_wherever_it_stands() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\n");
    home.start().await;
    home.add_alice("alice").await;
    for (name, carrier, request) in [
        ("radio", "api_key", "GET /x?api_key=KEY HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("phone", "bearer", "GET /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer KEY\r\n\r\n"),
        ("kodi", "x-emby-token", "GET /x HTTP/1.1\r\nx-emby-token:KEY\r\nHost: h\r\n\r\n"),
        // The head does not end.
        ("slow", "x-emby-token", "GET /x HTTP/1.1\r\nx-emby-token: KEY\r\n"),
    ] {
        let key = home.key(name, "alice").await;
        let mut wire = Wire::plain(home.address).await;
        let (begin, end) = request.split_once("KEY").expect("a place for the key");
        // In two pieces, through the key.
        wire.write(format!("{begin}{}", &key[..20])).await;
        wire.write(format!("{}{end}", &key[20..])).await;
        let answer = String::from_utf8(wire.rest().await).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains(&key[..12]), "{answer}");
        drop(wire);
        let line = home.logged(&format!("name=\"{name}\" carrier=")).await;
        assert!(line.contains("this key is burnt") && line.contains("a port that speaks https") && line.contains(carrier), "{line}");
        assert!(!home.log().contains(&key[..20]), "{}", home.log());
        assert!(standin.control().journal().iter().all(|seen| seen.path() != "/x"), "nothing is forwarded");
    }
    let key = home.key("form", "alice").await;
    let body = format!("POST /Users/AuthenticateByName HTTP/1.1\r\nHost: h\r\n\r\n{{\"Username\":\"x\",\"Pw\":\"{key}\"}}");
    Wire::plain(home.address).await.write(body).await;
    home.logged("something like a key came in clear text to a port that speaks https").await;
    Wire::plain(home.address).await.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // Gathered by address: of several keys within a minute, the log has the names.
    let burnt = burnt_by_the_audit_log(&mut home).await;
    let times = burnt.iter().map(|line| line.rsplit(' ').next().and_then(|times| times.parse::<u32>().ok()).expect("a number"));
    assert_eq!(times.sum::<u32>(), 5, "{burnt:?}");
}
