//! Canaries: after all that can go right and wrong, with the most talkative log, no secret stands in the log, in an answer of keygate's
//! own, in what commands print, or in the store's file.

use std::io::{Read, Write};

use bytes::Bytes;
use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support;
use crate::support::daemon::Home;
use crate::support::http as client;
use crate::support::net::blocking::TcpStream;
use crate::support::sweep::search::{Index, SHORTEST};

const WRONG: &str = "wrong-password-4711";
const NEVER_ISSUED: &str = "kg_0123456789_neverissuedneverissuedneverissued";

/// What must not be found, and the texts in which it must not be found.
struct Hunt {
    secrets: Vec<String>,
    texts: Vec<(&'static str, Vec<u8>)>,
}

impl Hunt {
    /// Every place in which a secret stands.
    fn found(&self) -> Vec<String> {
        let mut index = Index::default();
        for secret in &self.secrets {
            assert!(secret.len() >= SHORTEST, "too short to hunt for: {secret}");
            index.add(secret);
        }
        let found = self.texts.iter().map(|(place, text)| (place, index.find(text)));
        found.flat_map(|(place, hits)| hits.into_iter().map(move |hit| format!("{} in {place}", hit.secret))).collect()
    }
}

fn path(kind: Kind) -> &'static str {
    if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Info" }
}

/// One request with a host name and headers; the answer's text if it is a refusal of keygate's own.
async fn ask(home: &Home, kind: Kind, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: {kind}.test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let address = home.address;
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(head.as_bytes()).expect("written");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let answer = answer.await.expect("no panic");
    if answer.starts_with("HTTP/1.1 2") { String::new() } else { answer }
}

/// The same key in every carrier, and where no key belongs.
async fn every_carrier(home: &Home, kind: Kind, key: &str, answers: &mut String) {
    let path = path(kind);
    let structured = format!("MediaBrowser Client=\"a\", Device=\"b\", DeviceId=\"c\", Version=\"1\", Token=\"{key}\"");
    let bearer = format!("Bearer {key}");
    let basic = format!("Basic {key}");
    for headers in [
        vec![("authorization", bearer.as_str())],
        vec![("authorization", structured.as_str())],
        vec![("authorization", basic.as_str())],
        vec![("x-emby-authorization", structured.as_str())],
        vec![("x-emby-token", key)],
        vec![("X-MediaBrowser-Token", key)],
        vec![("x-emby-token", key), ("authorization", "Bearer another-secret-value")],
        vec![("x-emby-token", key), ("x-emby-token", key)],
        vec![("cookie", key), ("referer", key), ("user-agent", key), ("x-forwarded-for", key), ("x-unknown", key)],
    ] {
        answers.push_str(&ask(home, kind, path, &headers).await);
    }
    for target in [
        format!("{path}?api_key={key}"),
        format!("{path}?ApiKey={key}&a=1"),
        format!("{path}?X-Emby-Token={key}"),
        format!("{path}?token={key}"),
        format!("{path}?a={key}"),
        format!("/{key}"),
        format!("/items/{key}/..;/x"),
        format!("/{key}/../{key}"),
        format!("/%zz{key}"),
        format!("//{key}@{key}/"),
        format!("{path}?api_key=%{key}"),
    ] {
        answers.push_str(&ask(home, kind, &target, &[("x-emby-token", "")]).await);
        answers.push_str(&ask(home, kind, &target, &[]).await);
    }
}

async fn failures(home: &Home, standin: &StandIn, key: &str, answers: &mut String) {
    let (kind, control) = (standin.kind, standin.control());
    let headers = [("x-emby-token", key)];
    for path in ["/keygate-test/close-without-answer", "/keygate-test/status/500", "/keygate-test/bytes/100", "/keygate-test/redirect"] {
        answers.push_str(&ask(home, kind, path, &headers).await);
    }
    control.kill_all_tokens();
    answers.push_str(&ask(home, kind, path(kind), &headers).await);
    control.kill_all_tokens();
    control.faults(|faults| faults.login_status = Some((500, None)));
    answers.push_str(&ask(home, kind, path(kind), &headers).await);
    control.faults(|faults| faults.login_status = None);
    control.set_password("alice", "changed-password-4711");
    control.kill_all_tokens();
    home.run(&format!("accounts login {kind}/alice")).await;
    answers.push_str(&ask(home, kind, path(kind), &headers).await);
    home.run_with(&format!("accounts set-credential {kind}/alice --secret-stdin"), WRONG).await;
    home.run_with(&format!("accounts login {kind}/alice --password-stdin"), "changed-password-4711").await.ok();
    answers.push_str(&ask(home, kind, path(kind), &headers).await);
    control.faults(|faults| faults.no_answer = true);
    answers.push_str(&ask(home, kind, path(kind), &headers).await);
    control.faults(|faults| faults.no_answer = false);
}

async fn hunt(format: &str) -> Hunt {
    let mut standins = Vec::new();
    for kind in Kind::ALL {
        standins.push(StandIn::start(kind, Options::default()).await.expect("a stand-in"));
    }
    let mut home = Home::of(&standins.iter().collect::<Vec<_>>(), &format!("[log]\nformat = \"{format}\"\nlevel = \"trace\""));
    home.start().await;
    let (mut secrets, mut answers, mut said) = (vec![WRONG.to_owned(), NEVER_ISSUED.to_owned()], String::new(), String::new());
    let mut keep = |output: support::daemon::Said| said.push_str(&(output.out + &output.err));
    for standin in &standins {
        let kind = standin.kind;
        keep(home.run_with(&format!("accounts add {kind}/alice --secret-stdin"), WRONG).await);
        keep(home.run_with(&format!("accounts add {kind}/alice --secret-stdin"), "alice-password").await);
        let token = standin.control().create_api_key("root").expect("a token");
        keep(home.run_with(&format!("accounts add {kind}/static --token --secret-stdin"), &token).await);
        let key = home.key("canary", &format!("{kind}/alice")).await;
        let fixed = home.key("fixed", &format!("{kind}/static")).await;
        let rotated = home.run("keys rotate fixed --overlap 1h -q").await.ok().trim_end().to_owned();
        for text in [&key, &rotated, &fixed, NEVER_ISSUED] {
            every_carrier(&home, kind, text, &mut answers).await;
        }
        failures(&home, standin, &key, &mut answers).await;
        keep(home.run(&format!("keys show {key}")).await);
        for words in [
            "keys list -o json",
            "accounts list -o json",
            "status -o json",
            "reload",
            "keys revoke canary --yes",
            "keys revoke fixed --yes",
        ] {
            keep(home.run(words).await);
        }
        every_carrier(&home, kind, &key, &mut answers).await;
        secrets.extend([key, fixed, rotated]);
        secrets.extend(standin.control().secrets());
    }
    secrets.push(std::fs::read_to_string(home.folder.path().join("master.key")).expect("there").trim().to_owned());
    home.signal("TERM");
    home.ended().await;
    assert!(!answers.is_empty() && home.log().contains("account-broken") && home.log().contains("malformed-key"), "{}", home.log());
    let store = std::fs::read(home.store()).expect("there");
    let texts = vec![
        ("the log", home.log().into_bytes()),
        ("answers", answers.into_bytes()),
        ("what commands print", said.into_bytes()),
        ("the store's file", store),
    ];
    Hunt { secrets, texts }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_anybody_is_found_anywhere() {
    for format in ["text", "json"] {
        let mut hunt = hunt(format).await;
        assert!(hunt.secrets.len() > 40, "{}", hunt.secrets.len());
        assert_eq!(hunt.found(), Vec::<String>::new(), "{format}");
        // The hunt itself works: whatever is planted is found.
        for place in 0..hunt.texts.len() {
            let secret = hunt.secrets[place * 7].clone();
            hunt.texts[place].1.extend_from_slice(format!("…{secret}…").as_bytes());
            assert!(hunt.found().contains(&format!("{secret} in {}", hunt.texts[place].0)), "{format}");
        }
    }
}

/// A server that answers everything with a status and with what it was sent.
fn mirror(status: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut request = vec![0; 16 << 10];
                let mut length = 0;
                // Heads and small bodies come in one or two pieces; a client that waits gets its answer at the second read.
                while let Ok(count) = stream.read(&mut request[length..]) {
                    length += count;
                    if count == 0 || request[..length].windows(4).any(|window| window == b"\r\n\r\n") {
                        break;
                    }
                }
                let body = String::from_utf8_lossy(&request[..length]).into_owned();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_what_it_was_sent_brings_nothing_of_it_into_the_log_or_an_error() {
    for status in ["500 Oops", "200 OK", "400 Bad Request", "401 Unauthorized", "302 Found", "nonsense"] {
        for kind in Kind::ALL {
            let mut home = Home::empty();
            home.write(&format!(
                "[server]\nlisten = \"{}\"\n[store]\npath = \"store/keygate.redb\"\nmaster_key = {{ file = \"master.key\" }}\n[admin]\n\
                 socket = \"run/admin.sock\"\n[log]\nlevel = \"trace\"\n[[upstream]]\nkind = \"{kind}\"\nurl = \"{}\"\n",
                home.address,
                mirror(status)
            ));
            home.start().await;
            let (password, token) = ("mirrored-password-4711", "mirrored-token-4711");
            let said = home.run_with("accounts add alice --secret-stdin", password).await;
            assert_ne!(said.code, 0, "{kind} {status}");
            home.run_with("accounts add alice --no-verify --secret-stdin", password).await.ok();
            home.run_with("accounts add static --no-verify --token --secret-stdin", token).await.ok();
            let (key, fixed) = (home.key("a", "alice").await, home.key("b", "static").await);
            let mut texts = said.out + &said.err;
            let body = Bytes::from_static(b"{}");
            let answer = client::send(home.address, Method::POST, path(kind), &[("x-emby-token", &key)], body).await;
            assert!(answer.status.is_server_error(), "{kind} {status}: {}", answer.status);
            texts.push_str(&answer.text());
            client::get(home.address, path(kind), &[("x-emby-token", &fixed)]).await;
            home.signal("TERM");
            home.ended().await;
            texts.push_str(&home.log());
            for secret in [password, token, &key, &fixed] {
                assert!(!texts.contains(secret), "{kind} {status}: {secret} in {texts}");
            }
        }
    }
}
