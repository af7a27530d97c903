//! The real program: the listener from its configuration, tokens and the password from the command line.

use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::json;

use super::PASSWORD;
use crate::support::daemon::Home;
use crate::support::http as client;

/// A port that was free a moment ago, on an address of its own.
fn address(home: &Home) -> std::net::SocketAddr {
    let free = std::net::TcpListener::bind((home.address.ip(), 0)).and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

#[tokio::test]
async fn tokens_and_the_password_are_made_on_the_command_line_and_work_at_once() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let mut home = Home::of(&[&standin], "");
    let admin = address(&home);
    let config = std::fs::read_to_string(home.config()).unwrap().replace("[admin]\n", &format!("[admin]\nlisten = \"{admin}\"\n"));
    home.write(&config);
    // Before the first start too.
    let offline = home.run("admin tokens create offline --scope read -q").await.ok();
    home.start().await;
    let token = home.run("admin tokens create page --scope keys --scope accounts --expires 90d -q").await.ok();
    for token in [offline.trim(), token.trim()] {
        home.sweep.keep_secret(token);
        let answer = client::get(admin, "/api/status", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let list = home.run("admin tokens list -o plain").await.ok();
    assert!(list.contains("\tpage\tkeys, accounts\t") && list.contains("\toffline\tread\t"), "{list}");
    assert!(home.run("admin tokens create none").await.refused(2).contains("--scope"));
    home.run("admin tokens revoke offline --yes").await.ok();
    assert_eq!(client::get(admin, "/api/status", &[("authorization", &format!("Bearer {}", offline.trim()))]).await.status, 401);
    assert!(home.run("admin tokens revoke offline --yes").await.refused(3).contains("offline"));

    assert!(home.run_with("admin set-password --password-stdin", "short\n").await.refused(2).contains("12 characters"));
    home.run_with("admin set-password --password-stdin", &format!("{PASSWORD}\n")).await.ok();
    let body = json!({ "password": PASSWORD }).to_string();
    let login = client::send(admin, Method::POST, "/api/session", &[("content-type", "application/json")], body).await;
    assert_eq!(login.status, 200, "{}", login.text());
    assert!(home.run("admin sessions list -o plain").await.ok().starts_with("1\t127."));
    home.run("admin sessions end 1").await.ok();
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(client::get(admin, "/api/status", &[("cookie", &cookie)]).await.status, 401);
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    standin.stop().await;
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls_and_gets_the_gateways_own() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let home = Home::of(&[&standin], "");
    let plain = std::fs::read_to_string(home.config()).unwrap();
    let open = plain.replace("[admin]\n", "[admin]\nlisten = \"0.0.0.0:8444\"\nhosts = [\"https://x\"]\n");
    home.write(&open.replace("[server]\n", "[server]\nallow_plaintext = true\n"));
    let problems = home.run("check-config").await.refused(2);
    assert!(problems.contains("admin.listen: 0.0.0.0:8444 is reachable from other machines, and there is no TLS"), "{problems}");
    assert!(problems.contains("127.0.0.1:8444") && problems.contains("admin.hosts holds something that is no host name"), "{problems}");
    home.write(&open.replace("[server]\n", "[server]\ntls = \"self-signed\"\n").replace("https://x", "keys.example.org"));
    home.run("check-config").await.ok();
    standin.stop().await;
}
