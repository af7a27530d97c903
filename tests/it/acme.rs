//! Certificates by ACME, with the real program and Let's Encrypt's own ACME server for tests.

mod handshakes;
mod pebble;

use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use self::pebble::{Pebble, Wishes};
use crate::certificates::running::Running;
use crate::support::daemon::{Home, free_address};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A gateway that is not started yet, its redirecting listener, and an ACME server that is.
struct Setting {
    standin: StandIn,
    home: Home,
    redirect: String,
    pebble: Pebble,
}

impl Setting {
    async fn new(refused_nonces: u32, life: Duration) -> Self {
        Self::with(refused_nonces, life, false).await
    }

    /// `is_astray`: port 80 of all names leads to keygate's other port.
    async fn with(refused_nonces: u32, life: Duration, is_astray: bool) -> Self {
        let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
        let (home, redirect) = (Home::empty(), free_address());
        // The name server gives one address for all names.
        let redirect = std::net::SocketAddr::new(home.address.ip(), redirect.port());
        let http = if is_astray { home.address.port() } else { redirect.port() };
        let wishes = Wishes { http, tls: home.address.port(), refused_nonces, life };
        let pebble = Pebble::new(home.address.ip(), wishes).await;
        Self { standin, home, redirect: redirect.to_string(), pebble }
    }

    /// `[server.tls.acme]` with these lines.
    fn configure(&self, lines: &str) {
        let more = self.pebble.section(lines);
        self.home.configure(&[&self.standin], &more);
        let text = std::fs::read_to_string(self.home.config()).expect("written");
        let redirect = format!("[server]\nlisten_redirect = \"{}\"\n", self.redirect);
        self.home.write(&text.replacen("[server]\n", &redirect, 1));
    }

    /// Waits for a certificate that the ACME server gave.
    async fn replaced(&mut self) -> String {
        let home = &mut self.home;
        home.logged("the certificate was replaced").await
    }

    /// What `keygate tls show` says of the only certificate.
    async fn shown(&self) -> Value {
        let json: Value = serde_json::from_str(&self.home.run("tls show -o json").await.ok()).expect("JSON");
        assert_eq!((json["source"].as_str(), json["certificates"].as_array().map(Vec::len)), (Some("acme"), Some(1)));
        json["certificates"][0].clone()
    }

    /// The daemon once more, from its beginning.
    async fn restart(&mut self) {
        self.home.signal("TERM");
        assert_eq!(self.home.ended().await, 0);
        self.home.start().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_by_a_handshake_although_most_nonces_are_refused_and_outlives_restarts() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(70, YEAR).await;
    setting.pebble.start().await;
    setting.configure("domains = [\"b.acme.test\", \"a.acme.test\"]\ncontact = \"ann@acme.test\"");
    setting.home.start().await;
    setting.replaced().await;
    let client = setting.pebble.client().await;
    let first = client.sees(setting.home.address, "a.acme.test").await.expect("trusted");
    assert_eq!(client.sees(setting.home.address, "b.acme.test").await.expect("trusted"), first, "one for both names");
    let shown = setting.shown().await;
    assert!(shown["standing"].as_str().is_some_and(|text| text.starts_with("renewed at about 20")), "{shown}");
    assert_eq!(shown["problem"], Value::Null);
    assert!(setting.home.run("status").await.ok().contains("renewed at about"));

    // The store has it, under another master key too: nobody is asked.
    setting.pebble.stop();
    setting.home.signal("TERM");
    assert_eq!(setting.home.ended().await, 0);
    assert!(setting.home.run("store check").await.ok().contains("certificates and accounts of ACME"));
    assert_eq!(setting.home.run("tls show -o json").await.ok().matches("\"fingerprint\"").count(), 1, "without a gateway");
    setting.home.run("store rekey").await.ok();
    setting.home.start().await;
    assert_eq!(client.sees(setting.home.address, "a.acme.test").await.expect("trusted"), first);
    let log = setting.home.log();
    assert!(!log.contains("for a certificate for"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_by_a_file_and_another_one_for_new_names_without_a_restart() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(0, YEAR).await;
    setting.pebble.start().await;
    setting.configure("domains = \"a.acme.test\"\nchallenge = \"http-01\"");
    setting.home.start().await;
    setting.replaced().await;
    let client = setting.pebble.client().await;
    let first = client.sees(setting.home.address, "a.acme.test").await.expect("trusted");
    client.sees(setting.home.address, "b.acme.test").await.expect_err("another name");

    // For other names, another one; the old one until then.
    setting.configure("domains = [\"a.acme.test\", \"b.acme.test\"]\nchallenge = \"http-01\"");
    let said = setting.home.run("reload").await.ok();
    assert!(said.contains("server.tls.acme changed: a certificate for a.acme.test, b.acme.test is wanted"), "{said}");
    setting.home.logged("the certificate was replaced: a.acme.test, b.acme.test").await;
    let second = client.sees(setting.home.address, "b.acme.test").await.expect("trusted");
    assert_eq!(client.sees(setting.home.address, "a.acme.test").await.expect("trusted"), second);
    assert_ne!(first, second);

    // And at the operator's word.
    let said = setting.home.run("tls renew -o json").await.ok();
    let third = client.sees(setting.home.address, "b.acme.test").await.expect("trusted");
    assert_ne!(second, third);
    assert!(said.contains("\"source\": \"acme\"") || said.contains("\"source\":\"acme\""), "{said}");
    setting.restart().await;
    assert_eq!(client.sees(setting.home.address, "b.acme.test").await.expect("trusted"), third, "the last one is kept");

    // From one way to another and back, without a restart and without another order.
    setting.home.configure(&[&setting.standin], "[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\n");
    assert!(setting.home.run("reload").await.refused(2).contains("server.listen_redirect cannot change"));
    let text = std::fs::read_to_string(setting.home.config()).expect("written");
    setting.home.write(&text.replacen("[server]\n", &format!("[server]\nlisten_redirect = \"{}\"\n", setting.redirect), 1));
    setting.home.run("reload").await.ok();
    client.sees(setting.home.address, "b.acme.test").await.expect_err("keygate's own authority");
    assert!(setting.home.run("tls renew").await.refused(1).contains("certificates do not come from ACME"));
    setting.configure("domains = [\"a.acme.test\", \"b.acme.test\"]\nchallenge = \"http-01\"");
    setting.home.run("reload").await.ok();
    assert_eq!(client.sees(setting.home.address, "b.acme.test").await.expect("trusted"), third, "the last one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_a_stop_cuts_off_is_cleared_away_and_made_again_at_the_next_start() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(0, YEAR).await;
    setting.pebble.start().await;
    let (lines, notes) = setting.pebble.dns_hook();
    let slow = notes.with_file_name("slow");
    std::fs::write(&slow, "").expect("written");
    setting.configure(&format!("domains = \"a.acme.test\"\n{lines}"));
    setting.home.start().await;
    let told = || std::fs::read_to_string(&notes).unwrap_or_default();
    crate::support::until("the program runs", || told().contains("present a.acme.test")).await;
    setting.home.signal("TERM");
    assert_eq!(setting.home.ended().await, 0);
    assert!(told().contains("cleanup a.acme.test"), "{}", told());
    std::fs::remove_file(&slow).expect("removed");
    setting.home.start().await;
    setting.replaced().await;
    setting.pebble.client().await.sees(setting.home.address, "a.acme.test").await.expect("trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_a_star_comes_by_records_that_a_program_writes_and_removes() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(0, YEAR).await;
    setting.pebble.start().await;
    let (lines, notes) = setting.pebble.dns_hook();
    setting.configure(&format!("domains = [\"acme.test\", \"*.acme.test\"]\n{lines}"));
    setting.home.start().await;
    setting.replaced().await;
    let client = setting.pebble.client().await;
    client.sees(setting.home.address, "acme.test").await.expect("trusted");
    client.sees(setting.home.address, "anything.acme.test").await.expect("trusted");
    let told = std::fs::read_to_string(notes).expect("notes");
    let count = |action: &str| told.matches(&format!("{action} acme.test _acme-challenge.acme.test\n")).count();
    assert_eq!((count("present"), count("cleanup"), told.lines().count()), (2, 2, 4), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acme_server_that_is_down_is_waited_for_and_the_certificate_comes_by_itself() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(0, YEAR).await;
    setting.configure("domains = \"a.acme.test\"");
    setting.home.start().await;
    let line = setting.home.logged("no certificate from").await;
    assert!(
        line.contains("Connection refused") && line.contains("is the server down") && line.contains("a temporary one is served"),
        "{line}"
    );
    let said = setting.home.run("status").await.ok();
    assert!(
        said.contains("a temporary certificate, which clients refuse, until the first one comes") && said.contains("next try at"),
        "{said}"
    );
    assert!(setting.home.run("tls renew").await.refused(5).contains("cannot connect to"));
    setting.pebble.start().await;
    setting.replaced().await;
    setting.pebble.client().await.sees(setting.home.address, "a.acme.test").await.expect("trusted");
    assert_eq!(setting.shown().await["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_is_told_with_what_to_do() {
    if !pebble::is_here() {
        return;
    }
    // Nobody listens where it asks.
    let mut setting = Setting::new(0, YEAR).await;
    setting.pebble.start().await;
    setting.redirect = "127.0.0.1:0".to_owned();
    setting.configure("domains = \"a.acme.test\"\nchallenge = \"http-01\"");
    setting.home.start().await;
    let line = setting.home.logged("no certificate from").await;
    assert!(
        line.contains("a.acme.test: the ACME server says") && line.contains("port 80 of the name is not reachable from outside"),
        "{line}"
    );
    let said = setting.home.run("tls show").await;
    assert!(said.err.contains("warning: no newer certificate: a.acme.test: the ACME server says"), "{}", said.err);
    assert!(said.err.contains("a temporary certificate, which clients refuse"), "{}", said.err);
    assert!(setting.home.run("tls renew").await.refused(5).contains("lead it to keygate in the router"));
    assert!(setting.home.run("status").await.ok().contains("failed 2 times"));
    let problem = setting.shown().await["problem"].clone();
    for _ in 0..3 {
        setting.home.kill();
        setting.home.start().await;
        assert_eq!(setting.shown().await["problem"], problem, "a start is no reason for another try");
    }
    let log = setting.home.log();
    assert!(!log.contains("for a certificate for"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_at_which_something_else_answers_is_told_with_what_to_do() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::with(0, YEAR, true).await;
    setting.pebble.start().await;
    setting.configure("domains = \"a.acme.test\"\nchallenge = \"http-01\"");
    setting.home.start().await;
    let line = setting.home.logged("no certificate from").await;
    assert!(line.contains("somebody else answered there") && line.contains("port 80 to keygate and nothing else"), "{line}");
    assert!(setting.home.run("doctor").await.out.contains("a temporary certificate, which clients refuse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_comes_by_itself_waits_for_a_server_that_is_away_and_touches_nothing_that_runs() {
    if !pebble::is_here() {
        return;
    }
    let mut setting = Setting::new(0, Duration::from_secs(24)).await;
    setting.pebble.start().await;
    let (lines, _) = setting.pebble.dns_hook();
    setting.configure(&format!("domains = \"localhost\"\n{lines}"));
    setting.home.start().await;
    setting.replaced().await;
    setting.home.add_alice("alice").await;
    let key = setting.home.key("tv", "alice").await;
    let client = setting.pebble.client().await;
    let mut running = Running::start(&client, &setting.home, &setting.standin, &key).await;
    let first = client.sees(setting.home.address, "localhost").await.expect("trusted");

    // It is away when the renewal is due, and then has forgotten everything, keygate's account too.
    setting.pebble.stop();
    let line = setting.home.logged("no certificate from").await;
    assert!(line.contains("the old one stays in use, until"), "{line}");
    assert!(setting.shown().await["problem"].as_str().is_some_and(|text| text.contains("is the server down")));
    running.goes_on().await;
    setting.pebble.start().await;
    setting.home.logged("has forgotten keygate's account").await;
    let renewed = setting.pebble.client().await;
    crate::support::until("a new certificate", || setting.home.log().matches("the certificate was replaced").count() > 1).await;
    assert_ne!(renewed.sees(setting.home.address, "localhost").await.expect("trusted"), first, "{}", setting.pebble.log());
    running.goes_on().await;
    running.ends_well().await;
}
