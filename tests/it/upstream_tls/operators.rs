//! The whole program before an encrypted media server: what its commands say, and that pasting it works.

use std::fs;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::front::{Authority, Front, Pair};

/// A stand-in, TLS in front of it, and a folder for the program.
async fn start(pair: &Pair) -> (StandIn, Front, Home) {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let front = Front::start(pair).await;
    front.leads_to(standin.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"));
    let home = Home::empty();
    (standin, front, home)
}

fn configure(home: &Home, standin: &StandIn, front: &Front, line: &str) {
    home.configure(&[standin], "");
    let url = format!("url = \"https://{}\"\n{line}", front.address);
    let text = fs::read_to_string(home.config()).expect("there").replace(&format!("url = \"{}\"", standin.url), &url);
    home.write(&text);
}

/// `fingerprint = "…"` out of a sentence.
fn setting(text: &str) -> &str {
    let start = text.find("fingerprint = \"sha256:").expect("a setting");
    let length = "fingerprint = \"sha256:\"".len() + 64;
    &text[start..start + length]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_media_server_works_once_the_line_from_the_message_is_pasted() {
    let pair = Pair::of_openssl("nas");
    let (standin, front, mut home) = start(&pair).await;
    fs::write(home.folder.path().join("ca.pem"), Authority::new("Another CA").pem).expect("written");
    configure(&home, &standin, &front, "ca_file = \"ca.pem\"");
    home.start().await;
    let url = format!("https://{}", front.address);
    let line = home.logged("self-signed").await;
    assert!(line.contains("ERROR") && line.contains(&url), "{line}");
    let online = home.run("check-config --online").await.refused(1);
    assert!(online.contains("self-signed CA certificate used as a server certificate") && online.contains("CN=nas"), "{online}");
    let added = home.run_with("accounts add alice --secret-stdin", "alice-password\n").await.refused(5);
    assert!(added.contains("self-signed"), "{added}");
    let pin = format!("fingerprint = \"{}\"", pair.fingerprint());
    assert_eq!([setting(&line), setting(&online), setting(&added)], [&*pin, &*pin, &*pin]);
    assert_eq!(standin.control().counters().logins, 0, "no password went to somebody unknown");

    let status = home.run("status").await.ok();
    assert!(status.contains("cannot connect: ") && setting(&status) == pin, "{status}");
    configure(&home, &standin, &front, setting(&added));
    let said = home.run("reload").await.ok();
    assert!(said.contains("upstream audiobookshelf changed"), "{said}");
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    assert_eq!(home.status("/api/libraries", &key).await, 200);
    let online = home.run("check-config --online").await.ok();
    assert!(online.contains(&format!("answers at {url}")), "{online}");
    let status = home.run("status").await.ok();
    assert!(status.contains(&url) && !status.contains("cannot connect"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_over_a_ca_file_that_changed_and_keeps_the_old_one_where_it_is_broken() {
    let authority = Authority::new("Home CA");
    let (standin, front, mut home) = start(&authority.leaf()).await;
    let file = home.folder.path().join("ca.pem");
    fs::write(&file, Authority::new("Another CA").pem).expect("written");
    configure(&home, &standin, &front, "ca_file = \"ca.pem\"");
    home.start().await;
    home.run_with("accounts add alice --secret-stdin", "alice-password\n").await.refused(5);
    fs::write(&file, &authority.pem).expect("written");
    assert!(home.run("reload").await.ok().contains("upstream audiobookshelf changed"));
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    let before = front.handshakes().len();
    assert_eq!(home.status("/api/libraries", &key).await, 200);
    fs::write(&file, "not PEM").expect("written");
    let said = home.run("reload").await;
    assert!(said.code != 0 && said.err.contains("ca_file"), "{said:?}");
    assert!(home.run("check-config").await.refused(2).contains("holds no CERTIFICATE"));
    assert_eq!(home.status("/api/libraries", &key).await, 200);
    assert!(front.handshakes().len() > before, "and all the while it was TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_that_cannot_be_used_is_shown_with_its_line() {
    let home = Home::empty();
    home.write("[[upstream]]\nkind = \"emby\"\nurl = \"https://127.0.0.1:8920\"\nca_file = \"ca.pem\"\n");
    let says = |text: String, parts: &[&str]| parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text}"));
    says(
        home.run("check-config").await.refused(2),
        &["upstream.ca_file: cannot read", "ca.pem", "config.toml:4:", "^^^", "help: a PEM file"],
    );
    fs::write(home.folder.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
    says(home.run("check-config").await.refused(2), &["holds a certificate that cannot be trusted", "config.toml:4:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_trust_store_counts_where_nothing_else_is_said() {
    let authority = Authority::new("Home CA");
    let (standin, front, home) = start(&authority.leaf()).await;
    configure(&home, &standin, &front, "");
    let check = async |store: &str| {
        let file = home.folder.path().join("store.pem");
        fs::write(&file, store).expect("written");
        let mut command = home.program();
        command.env("SSL_CERT_FILE", &file).env_remove("SSL_CERT_DIR").args(["check-config", "--online"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("its end");
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (code, said) = check(&authority.pem).await;
    assert!(code == Some(0) && said.contains("answers at https://"), "{said}");
    let (code, said) = check(&Authority::new("Another CA").pem).await;
    assert!(code == Some(1) && said.contains("not in the system's trust store: CN=Home CA"), "{said}");
    let (code, said) = check("").await;
    assert!(code == Some(2) && said.contains("holds no certificate") && said.contains("install the package ca-certificates"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_a_media_server_that_is_not_trusted_is_said_to_need_one() {
    let (_standin, front, home) = start(&Pair::of_openssl("nas")).await;
    let file = home.folder.path().join("store.pem");
    fs::write(&file, Authority::new("Another CA").pem).expect("written");
    let mut command = home.program();
    command.env("SSL_CERT_FILE", &file).env_remove("SSL_CERT_DIR").env_remove("KEYGATE_CONFIG");
    command.args(["serve", "--upstream", &format!("https://{}", front.address), "--listen", "127.0.0.1:0"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("its end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("self-signed") && said.contains("[[upstream]]") && !said.contains("--kind"), "{said}");
}
