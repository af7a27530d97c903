//! What is looked at without a gateway, where the real thing needs addresses, names or dates that a test cannot have.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use keygate::certificates::{Facts, Shown};
use keygate::clock::SystemClock;
use keygate::config::{CertificateSource, SelfSigned, Tls, UpstreamConfig};
use keygate::demo::StandIn;
use keygate::doctor::{Finding, Installation, Verdict, examine};
use keygate::upstream::Kind;

use super::standin;
use crate::support::front::{Authority, Front, Pair};
use crate::support::{config, upstream};

fn upstream_at(standin: &StandIn) -> UpstreamConfig {
    let port = standin.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    upstream("media", standin.kind, port)
}

fn installation(upstream: UpstreamConfig, addresses: &[IpAddr]) -> Installation {
    Installation {
        config: config(vec![upstream]),
        clock: Arc::new(SystemClock::new()),
        addresses: addresses.to_vec(),
        certificates: Ok(Vec::new()),
        inside: None,
    }
}

async fn found(installation: &Installation, check: &str) -> Finding {
    let findings = examine(installation).await;
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check} in {findings:#?}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_server_whose_port_is_open_to_others_is_told_with_the_address() {
    let standin = standin(Kind::Emby).await;
    // Of loopback, only the first address is listened on: it plays the one that other machines know.
    let (open, closed) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([127, 0, 0, 9]));
    let exposure = found(&installation(upstream_at(&standin), &[closed, open]), "exposure").await;
    assert_eq!(exposure.verdict, Verdict::Warning);
    let said = exposure.sentence();
    let address = standin.url.trim_start_matches("http://");
    assert!(said.contains(&format!("its port is open at {address} too: whoever comes there needs no key")), "{said}");
    assert!(said.contains("listen on 127.0.0.1 alone") && said.contains("firewall"), "{said}");
    assert_eq!(found(&installation(upstream_at(&standin), &[closed]), "exposure").await.verdict, Verdict::Ok);
    let elsewhere = UpstreamConfig { host: "media.invalid".to_owned(), ..upstream_at(&standin) };
    let exposure = found(&installation(elsewhere, &[closed]), "exposure").await;
    assert_eq!(exposure.verdict, Verdict::NotLookedAt);
    assert!(exposure.text.contains("only keygate's address may connect"), "{exposure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_connection_trusts_is_told_and_what_is_wrong_with_a_certificate() {
    let standin = standin(Kind::Emby).await;
    let (authority, pair) = (Authority::new("Home CA"), Pair::of_openssl("home"));
    let front = Front::start(&pair).await;
    let plain = upstream_at(&standin);
    front.leads_to(plain.port);
    let at = |tls| UpstreamConfig { port: front.address.port(), tls, ..plain.clone() };
    let tls = found(&installation(at(pair.pin()), &[]), "upstream tls").await;
    assert_eq!((tls.verdict, tls.text), (Verdict::Ok, format!("its certificate is the pinned one, {}", pair.fingerprint())));
    let refused = installation(at(authority.trust()), &[]);
    let tls = found(&refused, "upstream tls").await;
    assert_eq!(tls.verdict, Verdict::Failed);
    assert!(tls.text.contains(&format!("fingerprint = \"{}\"", pair.fingerprint())), "{}", tls.text);
    assert_eq!(found(&refused, "upstream").await.verdict, Verdict::Failed);
    let far = UpstreamConfig { host: "media.invalid.example.org".to_owned(), ..plain };
    let tls = found(&installation(far, &[]), "upstream tls").await;
    assert_eq!(tls.verdict, Verdict::Warning);
    assert!(tls.sentence().contains("in clear text. Let it speak TLS, and write url = \"https://"), "{}", tls.sentence());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_no_certificate_is_for_is_named_and_so_is_an_end_that_is_near() {
    let standin = standin(Kind::Emby).await;
    let mut upstream = upstream_at(&standin);
    upstream.hosts = vec!["films.example.org".to_owned(), "books.example.org".to_owned()];
    let mut installation = installation(upstream, &[]);
    let source = CertificateSource::SelfSigned(SelfSigned { folder: "unused".into(), names: Vec::new() });
    installation.config.server.tls = Some(Tls { source, client_ca: None, hsts: Duration::ZERO });
    let now = installation.clock.now();
    let day = Duration::from_secs(86_400);
    let facts = Facts {
        subject: String::new(),
        names: vec!["films.example.org".to_owned()],
        not_before: now.minus(day * 80),
        not_after: now.plus(day * 10),
        fingerprint: String::new(),
    };
    installation.certificates =
        Ok(vec![Shown { facts, file: Some("fullchain.pem".into()), problem: None, standing: None, is_temporary: false }]);
    let findings = examine(&installation).await;
    let of_certificates: Vec<_> = findings.iter().filter(|finding| finding.check == "certificate").collect();
    let [dates, names, _own] = of_certificates.as_slice() else { panic!("{of_certificates:#?}") };
    assert_eq!((dates.verdict, dates.about.as_deref()), (Verdict::Warning, Some("fullchain.pem")));
    assert!(dates.sentence().contains("films.example.org, until ") && dates.sentence().contains("Look why it was not renewed"));
    assert_eq!((names.verdict, names.about.as_deref()), (Verdict::Failed, Some("books.example.org")));
    assert!(names.text.contains("no certificate is for books.example.org, a host of upstream \"media\": clients refuse to connect"));
    installation.certificates = Err("cert_file is missing".to_owned());
    let missing = found(&installation, "certificate").await;
    assert_eq!((missing.verdict, missing.text.as_str()), (Verdict::Failed, "cert_file is missing"));
}
