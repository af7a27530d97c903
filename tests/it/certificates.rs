//! Certificates that change while everything runs, that are chosen by name, and that keygate makes itself; with the real program.

mod clients;
mod handshakes;
pub(crate) mod running;
mod stopping;

use std::net::TcpListener;
use std::path::Path;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::authority::{Authority, Client};
use crate::support::daemon::Home;
use running::Running;

const FILES: &str = "[server.tls]\ncert_file = \"a.pem\"\nkey_file = \"a.key\"\n";
const SELF_SIGNED: &str = "[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\nnames = [\"nas.test\"]\n";

async fn standin() -> StandIn {
    StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in")
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_a_socket_run_through_a_new_certificate_a_broken_one_and_reloads() {
    let (standin, authority) = (standin().await, Authority::new());
    let mut home = Home::of(&[&standin], FILES);
    let folder = home.folder.path().to_owned();
    let (first, second, third) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    first.write(&folder, "a");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    let client = authority.client();
    let mut running = Running::start(&client, &home, &standin, &key).await;
    // A session that is taken up again shows the certificate that it began with.
    let served = async |home: &Home| authority.client().sees(home.address, "localhost").await.expect("a handshake");
    assert_eq!(served(&home).await, first.pair().cert[0]);

    // By itself, within seconds.
    second.write(&folder, "a");
    home.logged("the certificate was replaced: localhost, until").await;
    assert_eq!(served(&home).await, second.pair().cert[0]);
    running.goes_on().await;

    // A key of another certificate: told once, and the old pair stays.
    std::fs::write(folder.join("a.key"), &third.key).expect("written");
    let line = home.logged("no new certificate from").await;
    assert!(
        line.contains("key_file does not belong to cert_file") && line.contains("the old one stays in use (localhost, until"),
        "{line}"
    );
    assert_eq!(served(&home).await, second.pair().cert[0]);
    let said = home.run("reload").await.refused(2);
    assert!(said.contains("key_file does not belong to cert_file") && said.contains("config.toml:3:"), "{said}");
    assert!(home.run("status").await.ok().contains("no newer one: key_file does not belong"));
    assert!(home.run("tls show").await.err.contains("warning: no newer certificate: key_file does not belong"));
    running.goes_on().await;

    // Mended, and taken over by a reload at once, together with the rest of the configuration.
    third.write(&folder, "a");
    home.configure(&[&standin], &format!("{FILES}hsts = \"1d\"\n[limits]\nmax_headers = 90\n"));
    let said = home.run("reload").await.ok();
    assert!(said.contains("limits changed") && said.contains("server.tls.hsts changed"), "{said}");
    assert_eq!(served(&home).await, third.pair().cert[0]);
    running.goes_on().await;

    // A broken configuration changes nothing.
    home.configure(&[&standin], "[server.tls]\ncert_file = \"none.pem\"\nkey_file = \"a.key\"\n");
    home.run("reload").await.refused(2);
    assert_eq!(served(&home).await, third.pair().cert[0]);
    running.goes_on().await;
    running.ends_well().await;
    assert_eq!(home.log().matches("no new certificate").count(), 1, "once:\n{}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_a_socket_run_through_a_renewal_by_keygates_own_authority_and_through_a_new_authority() {
    let standin = standin().await;
    let mut home = Home::of(&[&standin], SELF_SIGNED);
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    let pem = home.run("tls ca").await.ok();
    let client = Client::trusting(&pem);
    let mut running = Running::start(&client, &home, &standin, &key).await;
    let served = async |pem: &str| Client::trusting(pem).sees(home.address, "localhost").await;
    let first = served(&pem).await.expect("a handshake");

    // One name more makes another certificate.
    let wanted = SELF_SIGNED.replace("\"nas.test\"", "\"nas.test\", \"box.lan\"");
    home.configure(&[&standin], &wanted);
    assert!(home.run("reload").await.ok().contains("reloaded: certificate for localhost"));
    let second = served(&pem).await.expect("a handshake");
    assert_ne!(first, second);
    running.goes_on().await;
    home.configure(&[&standin], "[server.tls]\nmode = \"self-sined\"\n");
    home.run("reload").await.refused(2);
    assert_eq!(served(&pem).await.expect("a handshake"), second);
    running.goes_on().await;

    home.configure(&[&standin], &wanted);
    let new = home.run("tls ca --renew --yes").await.ok();
    served(&pem).await.expect_err("of another authority");
    served(&new).await.expect("a handshake");
    running.goes_on().await;
    running.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_to_a_certificate_is_taken_over_by_a_reload_and_tls_itself_is_not() {
    let (standin, authority) = (standin().await, Authority::new());
    let mut home = Home::of(&[&standin], FILES);
    authority.issue(&["localhost"]).write(home.folder.path(), "a");
    home.start().await;
    home.configure(&[&standin], SELF_SIGNED);
    let said = home.run("reload").await.ok();
    assert!(said.contains("reloaded: certificate for localhost"), "{said}");
    let own = Client::trusting(&home.run("tls ca").await.ok());
    own.sees(home.address, "localhost").await.expect("of keygate's own authority");
    authority.client().sees(home.address, "localhost").await.expect_err("the files are not served any more");
    home.configure(&[&standin], "");
    let said = home.run("reload").await.refused(2);
    assert!(said.contains("server.tls.mode cannot change while keygate runs; restart it"), "{said}");
    home.configure(&[&standin], &format!("{SELF_SIGNED}client_ca_file = \"a.pem\"\n"));
    assert!(home.run("reload").await.refused(2).contains("server.tls.client_ca_file cannot change"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_without_a_public_name_has_an_authority_of_its_own() {
    let standin = standin().await;
    let mut home = Home::of(&[&standin], SELF_SIGNED);
    let said = home.run("tls ca").await.refused(3);
    assert!(said.contains("there is no certificate in") && said.contains("keygate makes it when it starts"), "{said}");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    let pem = home.run("tls ca").await.ok();
    let client = Client::trusting(&pem);
    for name in ["localhost", "nas.test", "127.0.0.1"] {
        client.sees(home.address, name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    client.sees(home.address, "elsewhere.test").await.expect_err("not a name of this machine");
    let (answer, _) = client.get(home.address, "/System/Info", &key).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let show = async |home: &Home| -> Value { serde_json::from_str(&home.run("-o json tls show").await.ok()).expect("JSON") };
    let shown = show(&home).await;
    let days = shown["certificates"][0]["daysLeft"].as_u64().expect("days");
    assert!(shown["source"] == "self-signed" && (363..=365).contains(&days), "{shown}");
    assert!(shown["certificates"][0]["names"].as_array().expect("names").contains(&Value::from("nas.test")));
    assert_eq!(shown["authority"]["pem"].as_str(), Some(pem.as_str()));
    let text = home.run("tls show").await.ok();
    assert!(text.contains("DAYS LEFT") && text.contains("self-signed") && text.contains("authority: sha256:"), "{text}");
    assert!(home.run("status").await.ok().contains(" days left, until "));
    let mode = |file: &str| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(home.folder.path().join(file)).expect("there")) & 0o777;
    assert_eq!(["tls", "tls/issuer.pem", "tls/leaf.pem"].map(mode), [0o700, 0o600, 0o600]);

    // The same after a restart, and to a command beside it.
    home.kill();
    let offline = home.run("-o json tls show").await;
    assert!(offline.err.contains("no running keygate: looking at the files"), "{}", offline.err);
    let offline: Value = serde_json::from_str(&offline.ok()).expect("JSON");
    assert_eq!(offline["authority"], shown["authority"]);
    assert_eq!(offline["certificates"][0]["fingerprint"], shown["certificates"][0]["fingerprint"]);
    home.start().await;
    assert_eq!(show(&home).await["certificates"][0]["fingerprint"], shown["certificates"][0]["fingerprint"]);
    client.sees(home.address, "localhost").await.expect("the authority stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_authority_may_not_vouch_for_is_told_and_a_new_authority_has_it() {
    let standin = standin().await;
    let mut home = Home::of(&[&standin], SELF_SIGNED);
    home.start().await;
    let old = Client::trusting(&home.run("tls ca").await.ok());
    let wanted = SELF_SIGNED.replace("\"nas.test\"", "\"nas.test\", \"box.lan\", \"films.example.org\"");
    home.configure(&[&standin], &wanted);
    let said = home.run("reload").await.ok();
    let warning = "keygate's own authority may not vouch for films.example.org: ";
    assert!(said.contains(&format!("reloaded: warning: {warning}")) && said.contains("keygate tls ca --renew"), "{said}");
    home.logged(warning).await;
    assert!(home.run("tls show").await.err.contains(warning) && home.run("status").await.ok().contains(warning));
    // Whatever else was asked for is there.
    for name in ["nas.test", "box.lan", "localhost"] {
        old.sees(home.address, name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    old.sees(home.address, "films.example.org").await.expect_err("not a name of the certificate");

    assert!(home.run("tls ca --renew").await.refused(2).contains("say --yes"));
    let new = home.run("tls ca --renew --yes").await.ok();
    assert_eq!(new, home.run("tls ca").await.ok());
    let new = Client::trusting(&new);
    for name in ["nas.test", "films.example.org"] {
        new.sees(home.address, name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        old.sees(home.address, name).await.expect_err("of another authority");
    }
    let shown = home.run("tls show").await;
    assert!(
        shown.out.contains("it may vouch for: localhost, local, lan, ") && shown.out.contains("films.example.org, 127.0.0.0/8"),
        "{shown:?}"
    );
    assert!(!shown.err.contains("warning"), "{shown:?}");
    // The same after a restart: the authority is there, and knows what it may.
    home.kill();
    home.run("tls ca --renew --yes").await.refused(4);
    home.start().await;
    new.sees(home.address, "films.example.org").await.expect("as before");
    home.kill();
    home.configure(&[&standin], &SELF_SIGNED.replace("nas.test", "nas.example.com"));
    home.start().await;
    assert!(home.log().contains("may not vouch for nas.example.com: "), "also at the start:\n{}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authoritys_certificate_comes_in_the_form_that_a_device_wants() {
    let standin = standin().await;
    let mut home = Home::of(&[&standin], SELF_SIGNED);
    home.start().await;
    let pem = home.run("tls ca").await.ok();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.lines().all(|line| line.len() <= 64) && !pem.contains("KEY"), "{pem}");
    assert_eq!(pem, std::fs::read_to_string(home.folder.path().join("tls/ca.pem")).expect("there").replace("\r\n", "\n"));
    let output = home.program().args(["tls", "ca", "--der"]).output().expect("it ran");
    assert_eq!(vec![output.stdout], certificates(&home.folder.path().join("tls/ca.pem")));
    home.kill();
    let authority = Authority::new();
    authority.issue(&["localhost"]).write(home.folder.path(), "a");
    home.configure(&[&standin], FILES);
    home.start().await;
    let said = home.run("tls ca").await.refused(3);
    assert!(said.contains("certificates come from \"files\"") && said.contains("tls = \"self-signed\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_systemds_speak_tls_and_ask_clients_for_certificates_too() {
    let (standin, clients) = (standin().await, Authority::new());
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut home = Home::of(&[&standin], &format!("{SELF_SIGNED}client_ca_file = \"clients.pem\"\nclient_ca_listen = \"systemd:https\"\n"));
    std::fs::write(home.folder.path().join("clients.pem"), &clients.pem).expect("written");
    let config = std::fs::read_to_string(home.config()).expect("the configuration");
    let listens = format!("listen = [\"systemd:https\", \"{}\"]\nlisten_redirect = \"127.0.0.1:0\"", home.address);
    home.write(&config.replace(&format!("listen = \"{}\"", home.address), &listens));
    let asking = socket.local_addr().expect("address");
    home.sweep.cover(&[asking]);
    home.spawn_activated(&socket, "https");
    home.logged("ready").await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    let authority = home.run("tls ca").await.ok();
    let (without, own) = (Client::trusting(&authority), clients.issue(&["tv"]));
    let with = Client::new(&authority, rustls::DEFAULT_VERSIONS, Some(&own));
    for (client, address) in [(&with, asking), (&without, home.address)] {
        let (answer, _) = client.get(address, "/System/Info", &key).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    without.get(asking, "/System/Info", &key).await.expect_err("refused");
    let status = home.run("status").await.ok();
    for part in
        [format!("https://{asking} (by host name)"), "(none: leads to https)".to_owned(), " bytes)".to_owned(), " days left".to_owned()]
    {
        assert!(status.contains(&part), "{part:?} is not in:\n{status}");
    }
    assert!(home.run("healthcheck").await.ok().contains("3 listeners accept connections"));
}

fn certificates(path: &Path) -> Vec<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_file_iter(path).expect("a file").map(|one| one.expect("PEM").to_vec()).collect()
}
