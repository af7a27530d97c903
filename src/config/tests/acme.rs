//! Files that want certificates by ACME.

use std::time::Duration;

use super::*;
use crate::config::source::SecretSource;
use crate::config::{AcmeChallenge, AcmeEab, AcmeSettings, DnsHook};

const PUBLIC: &str = "[server]\nlisten = \"[::]:443\"\n";
const OWN_CA: &str = "directory = \"https://ca.lan:9000/acme/acme/directory\"\n";

/// `[server.tls.acme]` with these lines, and an upstream with these.
fn file(lines: &str, upstream: &str) -> String {
    format!("{PUBLIC}tls = {{ mode = \"acme\", acme = {{ {} }} }}\n{UPSTREAM}{upstream}\n", lines.trim_end().replace('\n', ", "))
}

fn settings(text: &str) -> AcmeSettings {
    match read(text).unwrap_or_else(|problems| panic!("{problems}")).server.tls.expect("TLS").source {
        CertificateSource::Acme(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

fn plain(domains: &[&str]) -> AcmeSettings {
    AcmeSettings {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        contact: Vec::new(),
        directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        ca_file: None,
        challenge: AcmeChallenge::TlsAlpn01,
        profile: None,
        eab: None,
    }
}

#[test]
fn one_word_and_the_hosts_of_the_upstreams_are_enough() {
    let text = format!("{PUBLIC}tls = \"acme\"\n{UPSTREAM}hosts = [\"Media.example.org\", \"books.example.org\"]\n");
    assert_eq!(settings(&text), plain(&["books.example.org", "media.example.org"]));
    let text = format!("{PUBLIC}[server.tls.acme]\ndomains = \"media.example.org\"\n{UPSTREAM}");
    assert_eq!(settings(&text), plain(&["media.example.org"]), "the section alone says it too");
}

#[test]
fn every_field_arrives() {
    let lines = "domains = [\"*.example.org\", \"EXAMPLE.org\", \"example.org\"]\ncontact = [\"ann@example.org\", \"mailto:bob@example.org\"]\n\
                 directory = \"https://ca.lan/dir\"\nca_file = \"root.pem\"\nchallenge = \"dns-01\"\ndns_hook = [\"bin/hook\", \"--zone\"]\n\
                 dns_hook_timeout = \"2m\"\ndns_propagation_delay = \"0s\"\nprofile = \"shortlived\"\neab_kid = \"kid-1\"\n\
                 eab_hmac_key = { credential = \"eab\" }";
    let hook = DnsHook {
        program: "bin/hook".into(),
        arguments: vec!["--zone".to_owned()],
        timeout: Duration::from_secs(120),
        propagation_delay: Duration::ZERO,
    };
    let expected = AcmeSettings {
        contact: vec!["ann@example.org".to_owned(), "bob@example.org".to_owned()],
        directory: "https://ca.lan/dir".to_owned(),
        ca_file: Some("root.pem".into()),
        challenge: AcmeChallenge::Dns01(hook),
        profile: Some("shortlived".to_owned()),
        eab: Some(AcmeEab { kid: "kid-1".to_owned(), hmac_key: SecretSource::Credential("eab".to_owned()) }),
        ..plain(&["*.example.org", "example.org"])
    };
    assert_eq!(settings(&file(lines, "")), expected);
}

#[test]
fn directories_have_names() {
    let directory = |name: &str| settings(&file(&format!("domains = \"a.example.org\"\ndirectory = \"{name}\""), "")).directory;
    assert_eq!(directory("letsencrypt-staging"), "https://acme-staging-v02.api.letsencrypt.org/directory");
    assert_eq!(directory("https://127.0.0.1:14000/dir"), "https://127.0.0.1:14000/dir");
}

#[test]
fn an_authority_of_ones_own_certifies_names_of_the_house() {
    let text = file(OWN_CA, "hosts = [\"nas.lan\", \"192.168.1.9\"]");
    assert_eq!(settings(&text).domains, ["nas.lan"]);
    assert_eq!(settings(&file(&format!("{OWN_CA}domains = \"nas\""), "")).domains, ["nas"]);
    let text = file("", "hosts = [\"nas.lan\", \"media.example.org\"]");
    let (_, warnings) = read_with(&text, &[]).expect("good");
    assert!(warnings.iter().any(|warning| warning.contains("the upstream's host nas.lan is not in the certificate")), "{warnings:?}");
    assert_eq!(settings(&text).domains, ["media.example.org"]);
}

#[test]
fn each_mistake_has_its_words() {
    let good = "domains = \"media.example.org\"\n";
    for (lines, says, helps) in [
        ("", "there is no name to ask an ACME server for", "write domains = [\"media.example.org\"]"),
        ("domains = \"nas.local\"", "no public authority certifies nas.local", "tls = \"self-signed\""),
        ("domains = \"nas\"", "no public authority certifies nas", "self-signed"),
        ("domains = \"https://media.example.org\"", "something that is no host name", "without scheme and port"),
        ("domains = \"1.2.3.4\"", "something that is no host name", "without scheme and port"),
        ("domains = \"bücher.example.org\"", "something that is no host name", "xn--"),
        ("domains = \"*.example.org\"", "*.example.org needs challenge = \"dns-01\"", "or name each host"),
        ("contact = \"ann\"\ndomains = \"a.example.org\"", "something that is no mail address", "ann@example.org"),
        ("directory = \"letsencript\"\ndomains = \"a.example.org\"", "neither a known name nor a URL", "did you mean \"letsencrypt\"?"),
        ("directory = \"http://ca.lan/dir\"\ndomains = \"nas.lan\"", "directory must be https", "ca_file"),
        ("directory = \"zerossl\"\ndomains = \"a.example.org\"", "eab_kid and eab_hmac_key are missing", "letsencrypt"),
        ("eab_kid = \"x\"\ndomains = \"a.example.org\"", "server.tls.acme.eab_hmac_key is missing", "come together"),
        ("eab_hmac_key = \"c2VjcmV0\"\ndomains = \"a.example.org\"", "eab_hmac_key must say where the secret is", "{ file"),
        ("challenge = \"http-01\"\ndomains = \"a.example.org\"", "needs server.listen_redirect", "listen_redirect = [\"[::]:80\"]"),
        ("challenge = \"dns-01\"\ndomains = \"a.example.org\"", "needs server.tls.acme.dns_hook", "present|cleanup DOMAIN"),
        ("challenge = \"dns\"\ndomains = \"a.example.org\"", "must be one of \"tls-alpn-01\", \"http-01\", \"dns-01\"", "dns-01"),
        ("domain = \"a.example.org\"", "unknown field in [server.tls.acme]: \"domain\"", "did you mean \"domains\"?"),
        (
            "dns_hook_timeout = \"1ms\"\nchallenge = \"dns-01\"\ndns_hook = \"/x\"\ndomains = \"a.example.org\"",
            "out of range",
            "the default is \"1m\"",
        ),
    ] {
        assert_says(&message(&file(lines, "")), &[says, helps, "config.toml:3:"]);
    }
    let text = message(&format!(
        "{PUBLIC}[server.tls]\nmode = \"acme\"\ncert_file = \"a\"\nkey_file = \"b\"\n[server.tls.acme]\n{good}{UPSTREAM}"
    ));
    assert_says(&text, &["server.tls has files, but its mode is \"acme\"", "config.toml:5:13"]);
    let text = message(&format!("[server]\ntls = {{ mode = \"acme\", acme = true }}\n{UPSTREAM}"));
    assert_says(&text, &["server.tls.acme must be a section"]);
}

#[test]
fn a_message_points_at_the_name_that_is_meant() {
    let text = message(&format!("{PUBLIC}tls = \"acme\"\n[server.tls_acme]\n{UPSTREAM}"));
    assert_says(&text, &["unknown field in [server]: \"tls_acme\""]);
    let text = message(&format!("{PUBLIC}[server.tls.acme]\ndomains = [\"a.example.org\", \"nas.home.arpa\"]\n{UPSTREAM}"));
    assert_says(&text, &["--> config.toml:4:29", "4 | domains = [\"a.example.org\", \"nas.home.arpa\"]", "     ^^^^^^^^^^^^^^^\n"]);
}

#[test]
fn what_cannot_work_from_outside_is_a_warning() {
    let warns = |text: &str, says: &str| {
        let (_, warnings) = read_with(text, &[]).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(warnings.iter().any(|warning| warning.contains(says)), "{says:?} is not in {warnings:?}");
    };
    let acme = "[server.tls.acme]\ndomains = \"a.example.org\"\n";
    warns(&format!("[server]\nlisten = \"127.0.0.1:8443\"\n{acme}{UPSTREAM}"), "keygate listens on this machine only");
    let http = format!("{PUBLIC}listen_redirect = \"[::]:8080\"\n{acme}challenge = \"http-01\"\n{UPSTREAM}");
    warns(&http, "asks on port 80, and no listen_redirect has it");
    warns(
        &format!("{PUBLIC}tls = \"off\"\nallow_plaintext = true\n{UPSTREAM}")
            .replace("tls = \"off\"", "tls = { mode = \"off\", acme = { domains = \"a.example.org\" } }"),
        "get no certificate by ACME",
    );
}

#[test]
fn the_environment_sets_fields_and_the_place_of_the_key() {
    let text = format!("{PUBLIC}{UPSTREAM}");
    let variables = [
        ("KEYGATE_SERVER__TLS__ACME__DOMAINS", "a.example.org, b.example.org"),
        ("KEYGATE_SERVER__TLS__ACME__EAB_KID", "kid-1"),
        ("KEYGATE_SERVER__TLS__ACME__EAB_HMAC_KEY__FILE", "eab.key"),
    ];
    let (config, _) = read_with(&text, &variables).expect("good");
    let expected = AcmeSettings {
        eab: Some(AcmeEab { kid: "kid-1".to_owned(), hmac_key: SecretSource::File("eab.key".into()) }),
        ..plain(&["a.example.org", "b.example.org"])
    };
    assert_eq!(config.server.tls.map(|tls| tls.source), Some(CertificateSource::Acme(Box::new(expected))));
    let wrong = read_with(&text, &[("KEYGATE_SERVER__TLS__ACME__EAB_HMAC_KEY", "hunter2")]).expect_err("the key itself");
    assert_says(&wrong, &["it never holds the secret itself", "KEYGATE_SERVER__TLS__ACME__EAB_HMAC_KEY__FILE"]);
    assert!(!wrong.contains("hunter2"), "{wrong}");
}

#[test]
fn what_the_section_points_to_is_looked_at() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("[store]\npath = \"{0}/s.redb\"\nmaster_key = {{ file = \"{0}/m.key\" }}\n", folder.path().display());
    let said = |lines: &str| {
        let text = file(&format!("domains = \"a.example.org\"\nchallenge = \"dns-01\"\n{lines}"), "");
        let read = Config::read(&folder.path().join("config.toml"), &format!("{text}{store}"), &environment(&[]), Outside::Look);
        read.map(|_| String::new()).unwrap_or_else(|problems| problems.to_string())
    };
    assert_says(&said("dns_hook = \"hook\""), &["server.tls.acme.dns_hook: ", "/hook cannot be found", "executable (chmod 755)"]);
    let hook = folder.path().join("hook");
    std::fs::write(&hook, "").expect("written");
    for (mode, says) in [(0o644, "/hook is not executable"), (0o757, "/hook can be changed by everybody")] {
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(mode)).expect("mode");
        assert_says(&said("dns_hook = \"hook\""), &[says]);
    }
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(said("dns_hook = \"hook\""), "");
    let both = said("dns_hook = \"hook\"\nca_file = \"root.pem\"\neab_kid = \"k\"\neab_hmac_key = { file = \"eab.key\" }");
    assert_says(
        &both,
        &["server.tls.acme.ca_file: cannot read", "server.tls.acme.eab_hmac_key: cannot read the secret file", "2 problems"],
    );
}
