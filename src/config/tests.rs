//! Whole files and their messages.

mod acme;
mod traces;

use std::path::Path;
use std::time::Duration;

use crate::config::environment::Environment;
use crate::config::file::SECTIONS;
use crate::config::{CertificateSource, ClientCa, Config, Outside, SelfSigned, Tls, TlsFiles};

const EXAMPLE: &str = include_str!("../../config.example.toml");
const UPSTREAM: &str = "[[upstream]]\nkind = \"jellyfin\"\nurl = \"http://127.0.0.1:8096\"\n";

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment { variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(), is_root: true }
}

fn read(text: &str) -> Result<Config, String> {
    read_with(text, &[]).map(|(config, _)| config)
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
    Config::read(Path::new("config.toml"), text, &environment(variables), Outside::Ignore)
        .map(|(config, warnings)| (config, warnings.iter().map(ToString::to_string).collect()))
        .map_err(|problems| problems.to_string())
}

/// The message of a file that must be wrong.
fn message(text: &str) -> String {
    read(text).expect_err("the file should be wrong")
}

/// The message of a file with one wrong upstream.
fn upstream_message(lines: &str) -> String {
    message(&format!("[[upstream]]\nkind = \"emby\"\n{lines}\n"))
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// The example with each `# name = value` turned into `name = value`.
fn uncommented() -> String {
    let field = |line: &str| line.split_once(" = ").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    let lines: Vec<&str> = EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|rest| field(rest)).unwrap_or(line)).collect();
    lines.join("\n")
}

#[test]
fn the_example_holds_every_field_with_its_default() {
    let defaults = read(EXAMPLE).unwrap();
    assert_eq!(read(&uncommented()).unwrap(), defaults);
    let named: toml::Table = uncommented().parse().unwrap();
    for (section, fields) in SECTIONS {
        let table = match *section {
            "upstream" => named["upstream"][0].as_table(),
            "server.tls" => named["server"]["tls"].as_table(),
            "server.tls.acme" => {
                // One without the other is a mistake: neither can stand here alone.
                assert!(EXAMPLE.contains("    eab_hmac_key = { file = "));
                let acme = named["server"]["tls"]["acme"].as_table().expect("a section");
                assert!(fields.iter().all(|field| *field == "eab_hmac_key" || acme.contains_key(*field)), "{acme:?}");
                continue;
            }
            // A list, empty by default: its fields are in the words above it.
            "server.tls.certificate" => {
                assert!(fields.iter().all(|field| EXAMPLE.contains(&format!("{field} = \""))));
                continue;
            }
            name => named[name].as_table(),
        };
        for field in *fields {
            assert!(table.is_some_and(|table| table.contains_key(*field)), "[{section}] {field} is not in the example");
        }
    }
}

#[test]
fn defaults_are_safe() {
    let config = read(UPSTREAM).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:8443".parse().unwrap()]);
    assert!(config.server.trusted_proxies.is_empty());
    assert_eq!(config.limits.max_header_bytes, 32 << 10);
    assert!(config.upstreams[0].session_per_key);
    assert_eq!(config.upstreams[0].name.as_str(), "jellyfin");
    assert_eq!(config.store.path, Path::new("/var/lib/keygate/store/keygate.redb"));
}

#[test]
fn all_problems_are_shown_at_once_in_order_with_line_caret_and_help() {
    let text = message(
        "[server]\nlisten = \"localhost:8443\"\nthreads = \"many\"\n\n[[upstream]]\nkind = \"plex\"\nur1 = \"http://127.0.0.1:80\"\n",
    );
    assert_says(
        &text,
        &[
            "error: server.listen is not an address",
            "--> config.toml:2:10",
            "2 | listen = \"localhost:8443\"",
            "^^^^^^^^^^^^^^^^ expected an IP address and a port",
            "help: write \"127.0.0.1:8443\"",
            "server.threads must be a whole number",
            "upstream.kind must be one of \"audiobookshelf\", \"emby\", \"jellyfin\"",
            "error: unknown field in [upstream]: \"ur1\"",
            "--> config.toml:7:1",
            "help: did you mean \"url\"? (config.example.toml, section [upstream])",
        ],
    );
    assert!(text.ends_with("4 problems in config.toml"), "{text}");
    assert!(text.find("server.listen").unwrap() < text.find("server.threads").unwrap());
}

#[test]
fn a_field_in_the_wrong_section_is_sent_to_the_right_one() {
    assert_says(
        &message(&format!("[admin]\nmaster_key = {{ file = \"x\" }}\n{UPSTREAM}")),
        &["\"master_key\" belongs in the section [store]"],
    );
    assert_says(&message(&format!("[sever]\n{UPSTREAM}")), &["unknown section: \"sever\"", "did you mean \"server\"?"]);
    assert_says(
        &message("[upstream]\nkind = \"emby\"\nurl = \"http://h\"\n"),
        &["upstream is a list", "write [[upstream]]", "1 problem in"],
    );
    assert_says(&message("server = 1\n"), &["server must be a section", "there is no [[upstream]]"]);
}

#[test]
fn every_syntax_error_is_shown_and_nothing_follows_from_it() {
    let text = message("[server]\nlisten = \nthreads == 2\n");
    assert_says(&text, &["the file is not TOML", "config.toml:2:", "config.toml:3:", "help: a line is"]);
    assert!(!text.contains("[[upstream]]"), "{text}");
}

#[test]
fn mistakes_in_a_url_are_told_apart() {
    for (url, says) in [
        ("127.0.0.1:13378", "is not a URL"),
        ("127.0.0.1:13378", "for a local Audiobookshelf this is usually http://127.0.0.1:13378"),
        ("ftp://127.0.0.1", "is not an http or https address"),
        ("http://h:80/emby/", "write url = \"http://h:80\" and base_path = \"/emby\""),
        ("https://h/emby", "write url = \"https://h\" and base_path = \"/emby\""),
        ("http://h:80/?a", "has a query or a fragment"),
        ("http://h:99999", "is not a URL"),
    ] {
        assert_says(&upstream_message(&format!("url = \"{url}\"")), &["error: upstream.url ", "config.toml:3:7", says, "1 problem in"]);
    }
    let text = upstream_message("url = \"http://root:hunter2@h\"");
    assert_says(&text, &["upstream.url holds a user name or password"]);
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_https_upstream_is_trusted_by_one_way_at_a_time() {
    let digits = "5a".repeat(32);
    for (lines, says) in [
        ("url = \"http://h\"\nca_file = \"ca.pem\"", "upstream.ca_file needs an https url"),
        ("url = \"http://h\"\nfingerprint = \"sha256:x\"", "write url = \"https://…\", or remove fingerprint"),
        ("url = \"https://h\"\nfingerprint = \"5a5a\"", "expected \"sha256:…\" with 64 hexadecimal digits"),
        ("url = \"https://h\"\nfingerprint = \"sha256:5a5a\"", "ask: keygate check-config --online"),
        ("url = \"https://h\"\ninsecure = true", "unknown field in [upstream]: \"insecure\""),
    ] {
        assert_says(&upstream_message(lines), &["error: ", "config.toml:4:", says, "1 problem in"]);
    }
    let both = format!("url = \"https://h\"\nca_file = \"ca.pem\"\nfingerprint = \"sha256:{digits}\"");
    let says =
        ["upstream.ca_file and upstream.fingerprint exclude each other", "config.toml:5:15", "remove one of the two", "1 problem in"];
    assert_says(&upstream_message(&both), &says);
    // What is wrong with the url is one problem and not two.
    assert_says(&upstream_message("url = \"h\"\nca_file = \"ca.pem\""), &["upstream.url is not a URL", "1 problem in"]);
    let upstream = |lines: &str| read(&format!("[[upstream]]\nkind = \"emby\"\n{lines}\n")).unwrap().upstreams.remove(0);
    let pinned = upstream(&format!("url = \"https://h\"\nfingerprint = \"sha256:{digits}\""));
    assert_eq!((pinned.port, pinned.tls.is_some()), (443, true));
    assert_eq!(pinned, upstream(&format!("url = \"https://h:443\"\nfingerprint = \"SHA256:{}\"", digits.to_uppercase())));
    assert_ne!(pinned, upstream(&format!("url = \"https://h\"\nfingerprint = \"sha256:{}\"", "5b".repeat(32))));
    assert!(upstream("url = \"http://h\"\nca_file = \"\"\nfingerprint = \"\"").tls.is_none());
}

#[test]
fn mistakes_in_an_upstream_are_told_apart() {
    for (line, says) in [
        ("base_path = \"emby/\"", "write base_path = \"/emby\""),
        ("hosts = [\"https://h\"]", "without scheme, port and path"),
        ("name = \"a b\"", "upstream.name is not a name"),
        ("connect_timeout = 5", "write \"5s\" for seconds"),
        ("connect_timeout = \"0s\"", "from \"100ms\" to \"5m\"; the default is \"5s\""),
        ("images = \"Pass\"", "did you mean \"pass\"?"),
        ("listen = [1]", "upstream.listen must hold strings only"),
        ("forward_host = \"yes\"", "upstream.forward_host must be true or false"),
        ("password = \"hunter2\"", "unknown field in [upstream]: \"password\""),
    ] {
        let text = upstream_message(&format!("url = \"http://h\"\n{line}"));
        assert_says(&text, &[says, "config.toml:4:", "1 problem in"]);
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_upstream_without_kind_and_url_is_told_of_both() {
    assert_says(
        &message("[[upstream]]\nname = \"a\"\n"),
        &["upstream.kind is missing", "upstream.url is missing", "config.toml:1:1", "2 problems"],
    );
}

#[test]
fn several_upstreams_must_be_told_apart() {
    let text = message(&format!("{UPSTREAM}{UPSTREAM}"));
    assert_says(&text, &["two upstreams are named \"jellyfin\"", "each needs hosts or a listen of its own", "3 problems"]);
    let text = message(&format!("{UPSTREAM}hosts = [\"A.example\"]\n{UPSTREAM}name = \"b\"\nhosts = [\"a.example.\"]\n"));
    assert_says(&text, &["the host name a.example is given twice", "1 problem"]);
    let text = message(&format!("{UPSTREAM}listen = \"127.0.0.1:1\"\n{UPSTREAM}name = \"b\"\nlisten = \"127.0.0.1:1\"\n"));
    assert_says(&text, &["127.0.0.1:1 is listened on twice", "1 problem"]);
    let config = read(&format!("{UPSTREAM}listen = \"127.0.0.1:1\"\n{UPSTREAM}name = \"b\"\nlisten = \"127.0.0.1:2\"\n")).unwrap();
    assert!(config.server.listen.is_empty(), "nobody asked for 8443");
}

#[test]
fn a_public_address_needs_tls_or_plain_words() {
    let text = message(&format!("[server]\nlisten = [\"127.0.0.1:80\", \"[::]:443\"]\n{UPSTREAM}"));
    assert_says(&text, &["[::]:443 is reachable from other machines", "config.toml:2:27", "allow_plaintext = true", "1 problem"]);
    assert_says(
        &message(&format!("{UPSTREAM}listen = \"192.168.1.9:80\"")),
        &["192.168.1.9:80 is reachable", "keys would travel in clear text"],
    );
    assert!(read(&format!("[server]\nlisten = \"[::]:443\"\nallow_plaintext = true\n{UPSTREAM}")).is_ok());
    let tls = "[server.tls]\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n";
    let empty = "[server.tls]\ncert_file = \"\"\nkey_file = \"\"\n";
    assert_says(&message(&format!("[server]\nlisten = \"[::]:443\"\n{empty}{UPSTREAM}")), &["[::]:443 is reachable"]);
    let config = read(&format!("[server]\nlisten = \"[::]:443\"\n{tls}{UPSTREAM}")).unwrap();
    let files = TlsFiles { cert_file: "c.pem".into(), key_file: "k.pem".into() };
    assert_eq!(config.server.tls, Some(Tls { source: CertificateSource::Files(vec![files]), client_ca: None, hsts: Duration::ZERO }));
    assert_says(&message(&format!("[server.tls]\ncert_file = \"c.pem\"\n{UPSTREAM}")), &["server.tls.key_file is missing"]);
}

#[test]
fn one_word_names_the_way_to_a_certificate() {
    let tls = |text: &str| read(&format!("{text}\n{UPSTREAM}")).expect("good").server.tls;
    let own = |names: &[&str], folder: &str| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(CertificateSource::SelfSigned(SelfSigned { folder: folder.into(), names }))
    };
    let source = |text: &str| tls(text).map(|tls| tls.source);
    assert_eq!(source("[server]\nlisten = \"[::]:443\"\ntls = \"self-signed\""), own(&[], "/var/lib/keygate/tls"));
    let section = "[server.tls]\nmode = \"self-signed\"\nnames = [\"NAS.lan\", \"192.168.1.9\", \"*.home.arpa\"]\nfolder = \"ca\"";
    assert_eq!(source(section), own(&["nas.lan", "192.168.1.9", "*.home.arpa"], "ca"));
    assert_eq!(tls("[server]\ntls = \"off\""), None);
    let off = |allow: bool| message(&format!("[server]\nlisten = \"[::]:443\"\ntls = \"off\"\nallow_plaintext = {allow}\n{UPSTREAM}"));
    assert_says(&off(false), &["[::]:443 is reachable from other machines, and speaks no TLS", "tls = \"self-signed\""]);
    assert!(read(&format!("[server]\nlisten = \"[::]:443\"\ntls = \"off\"\nallow_plaintext = true\n{UPSTREAM}")).is_ok(), "said twice");
    let hosts = format!("[server]\ntls = \"self-signed\"\n{UPSTREAM}hosts = [\"media.example.org\"]\n");
    let config = read(&hosts).expect("good");
    assert_eq!(config.server.tls.map(|tls| tls.source), own(&["media.example.org"], "/var/lib/keygate/tls"), "public names too");
}

#[test]
fn several_certificates_come_in_the_order_of_the_file() {
    let section = "[server.tls]\ncert_file = \"a.pem\"\nkey_file = \"a.key\"\n";
    let more = "[[server.tls.certificate]]\ncert_file = \"b.pem\"\nkey_file = \"b.key\"\n";
    let files = |name: &str| TlsFiles { cert_file: format!("{name}.pem").into(), key_file: format!("{name}.key").into() };
    let source = |text: &str| read(&format!("{text}{UPSTREAM}")).expect("good").server.tls.map(|tls| tls.source);
    assert_eq!(source(&format!("{section}{more}")), Some(CertificateSource::Files(vec![files("a"), files("b")])));
    assert_eq!(source(more), Some(CertificateSource::Files(vec![files("b")])), "without one in the section itself");
    for (text, says) in [
        ("[[server.tls.certificate]]\n", "server.tls.certificate.cert_file is missing"),
        ("[[server.tls.certificate]]\ncert_file = \"a\"\n", "server.tls.certificate.key_file is missing"),
        ("[server.tls.certificate]\ncert_file = \"a\"\nkey_file = \"b\"\n", "server.tls.certificate is a list"),
        ("[[server.tls.certificate]]\ncertfile = \"a\"\n", "did you mean \"cert_file\"?"),
        ("[server.tls]\nnames = [\"https://x\"]\nmode = \"self-signed\"\n", "neither a host name nor an address"),
        ("[server.tls]\nmode = \"self-signed\"\ncert_file = \"a\"\nkey_file = \"b\"\n", "server.tls has files, but its mode is"),
    ] {
        assert_says(&message(&format!("{text}{UPSTREAM}")), &[says]);
    }
}

#[test]
fn certificates_of_clients_are_asked_for_where_keygate_listens() {
    let file = |more: &str| {
        format!("[server]\nlisten = [\"[::]:443\", \"127.0.0.1:1\"]\n[server.tls]\nmode = \"self-signed\"\n{more}\n{UPSTREAM}")
    };
    let config = read(&file("client_ca_file = \"ca.pem\"\nclient_ca_listen = \"[::]:443\"\nhsts = \"365d\"")).expect("good");
    let tls = config.server.tls.expect("TLS");
    assert_eq!(tls.client_ca, Some(ClientCa { file: "ca.pem".into(), listen: vec!["[::]:443".parse().expect("address")] }));
    assert_eq!(tls.hsts, Duration::from_secs(365 * 86_400));
    assert_says(&message(&file("client_ca_file = \"ca.pem\"\nclient_ca_listen = \"[::]:444\"")), &["no listener with TLS is [::]:444"]);
    assert_says(&message(&file("client_ca_listen = \"[::]:443\"")), &["server.tls.client_ca_file is missing"]);
}

#[test]
fn proxies_speak_first_at_the_listeners_that_are_named_and_at_all_when_none_is() {
    let file = |more: &str| {
        let server = "listen = [\"systemd:https\", \"127.0.0.1:8443\"]\nlisten_plain = \"127.0.0.1:1\"\nallow_plaintext = true";
        format!("[server]\n{server}\n{more}\n{UPSTREAM}")
    };
    let proxies = "proxy_protocol = \"10.0.0.1\"";
    let takes = |more: &str| {
        let server = read(&file(more)).expect("good").server;
        ["systemd:https", "127.0.0.1:8443"].map(|listen| server.takes_proxies(&listen.parse().expect("a listener")))
    };
    assert_eq!(takes(proxies), [true, true]);
    assert_eq!(takes(&format!("{proxies}\nproxy_protocol_listen = \"systemd:https\"")), [true, false]);
    assert_eq!(takes(&format!("{proxies}\nproxy_protocol_listen = [\"127.0.0.1:8443\"]")), [false, true]);
    assert_says(&message(&file("proxy_protocol_listen = \"127.0.0.1:8443\"")), &["server.proxy_protocol is missing"]);
    for nobody in ["127.0.0.1:2", "127.0.0.1:1", "systemd:http"] {
        let text = message(&file(&format!("{proxies}\nproxy_protocol_listen = \"{nobody}\"")));
        assert_says(&text, &[&format!("no listener is {nobody}"), "listen_plain never speaks it"]);
    }
}

#[test]
fn certificates_of_clients_are_asked_for_on_sockets_of_systemds_too() {
    let file = |listen: &str| {
        format!(
            "[server]\nlisten = [\"systemd:https\", \"[::]:443\"]\n[server.tls]\nmode = \"self-signed\"\nclient_ca_file = \"ca.pem\"\n{listen}\n{UPSTREAM}"
        )
    };
    let asked = |listen: &str| {
        let config = read(&file(listen)).expect("good");
        let ca = config.server.tls.and_then(|tls| tls.client_ca).expect("an authority");
        config.server.listen.iter().map(|listen| ca.is_for(listen)).collect::<Vec<_>>()
    };
    assert_eq!(asked(""), [true, true]);
    assert_eq!(asked("client_ca_listen = \"systemd:https\""), [true, false]);
    assert_eq!(asked("client_ca_listen = \"[::]:443\""), [false, true]);
    assert_says(&message(&file("client_ca_listen = \"systemd:http\"")), &["no listener with TLS is systemd:http"]);
}

#[test]
fn a_listener_may_lead_to_https_whichever_way_there_is_tls() {
    let file = |tls: &str| format!("[server]\nlisten_redirect = \"[::]:80\"\n{tls}\n{UPSTREAM}");
    let pair = "cert_file = \"c.pem\"\nkey_file = \"k.pem\"";
    for tls in ["tls = \"self-signed\"", &format!("[server.tls]\n{pair}"), &format!("[[server.tls.certificate]]\n{pair}")] {
        assert_eq!(read(&file(tls)).expect(tls).server.listen_redirect.len(), 1);
    }
    for tls in ["", "tls = \"off\"", &format!("[server.tls]\nmode = \"off\"\n{pair}")] {
        assert_says(&message(&file(tls)), &["server.listen_redirect leads to https, but there is no TLS", "tls = \"self-signed\""]);
    }
}

#[test]
fn a_plain_listener_stays_on_loopback_although_there_is_a_certificate() {
    let file = |plain: &str| {
        format!("[server]\nlisten_plain = [\"{plain}\"]\n[server.tls]\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n{UPSTREAM}")
    };
    assert_says(&message(&file("0.0.0.0:8080")), &["0.0.0.0:8080 is reachable from other machines, and speaks no TLS"]);
    let config = read(&file("127.0.0.1:8080")).expect("loopback is nobody else's");
    assert_eq!(config.server.listen_plain, ["127.0.0.1:8080".parse().expect("address")]);
}

#[test]
fn an_upstream_that_is_keygate_itself_is_refused() {
    let plain = "[server]\nallow_plaintext = true\n";
    for listen in ["127.0.0.1:8096", "0.0.0.0:8096", "[::]:8096"] {
        let text = message(&format!("{plain}listen = \"{listen}\"\n{UPSTREAM}"));
        assert_says(&text, &["upstream.url leads to keygate itself", "config.toml:6:7", "1 problem in"]);
    }
    assert!(read(&format!("{plain}listen = \"192.168.1.9:8096\"\n{UPSTREAM}")).is_ok());
}

#[test]
fn other_wrong_values_say_what_is_right() {
    for (section, says) in [
        ("[server]\nlisten = \"127.0.0.1\"", "add a port: \"127.0.0.1:8443\""),
        ("[server]\nlisten = \":80\"", "write \"127.0.0.1:80\" for this machine alone, \"[::]:80\" for all addresses"),
        ("[server]\nlisten = []", "server.listen is empty"),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/40\"]", "a network like \"10.0.0.0/8\""),
        ("[server]\ntls = true", "server.tls must be a word or a section"),
        ("[server]\ntls = \"selfsigned\"", "did you mean \"self-signed\"?"),
        ("[server]\ntls = \"files\"", "server.tls.mode is \"files\", but there is no cert_file"),
        ("[server.tls]\nclient_ca_file = \"c\"", "certificates of clients need TLS"),
        ("[limits]\nmax_headers = -1", "limits.max_headers must be a whole number"),
        ("[limits]\nmax_headers = 1", "from 16 to 1000; the default is 100"),
        ("[limits]\nmax_header_bytes = \"32k\"", "a string like \"32KiB\""),
        ("[limits]\nmax_header_bytes = \"8KiB\"", "limits.max_uri_bytes (16384) is larger than limits.max_header_bytes (8192)"),
        ("[log]\nlevel = \"inof\"", "did you mean \"info\"?"),
        ("[log]\nformat = \"xml\"", "log.format must be one of \"text\", \"json\""),
        ("[store]\npath = \"\"", "store.path must name a file"),
        ("[store]\nmaster_key = { file = \"a\", env = \"B\" }", "exactly one of file, env and credential"),
        ("[store]\nmaster_key = { credential = \"../x\" }", "without a path"),
    ] {
        assert_says(&message(&format!("{section}\n{UPSTREAM}")), &[says, "--> config.toml:2:", "1 problem in"]);
    }
    let long = "s".repeat(108);
    assert_says(&message(&format!("[admin]\nsocket = \"/{long}\"\n{UPSTREAM}")), &["too long for a Unix socket (109 bytes"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    for value in [
        "\"hunter2\"",
        "'hunter2'",
        "[\"hunter2\"]",
        "{ value = \"hunter2\" }",
        "{ env = \"hunter2=\" }",
        "{ env = \"hunter2$\", x = 1 }",
        "{\n  env = \"hunter2=\"\n}",
        "\"hunter2",
    ] {
        let text = message(&format!("[store]\nmaster_key = {value}\n{UPSTREAM}"));
        assert!(!text.contains("hunter2"), "{text}");
        assert_says(&text, &["config.toml:2:"]);
    }
    let syntax = message(&format!("[store]\nmaster_key = {{\n  env = \"hunter2\n}}\n{UPSTREAM}"));
    assert!(!syntax.contains("hunter2"), "{syntax}");
    for key in [
        "\"-----BEGIN PRIVATE KEY-----\\nhunter2\"",
        "\"\"\"-----BEGIN PRIVATE KEY-----\nhunter2\n\"\"\"",
        "\"\"\"\n-----BEGIN PRIVATE KEY-----\nhunter2\"\"\"",
    ] {
        let text = message(&format!("[server.tls]\ncert_file = \"c\"\nkey_file = {key}\n{UPSTREAM}"));
        assert_says(&text, &["server.tls.key_file must be a path, it never holds the PEM itself"]);
        assert!(!text.contains("hunter2"), "{text}");
    }
    let text = message(&format!("[store]\nmaster_key = \"hunter2\"\n{UPSTREAM}"));
    assert_says(&text, &["store.master_key must say where the secret is", "write { file = \"/path\" }"]);
}

#[test]
fn the_environment_overrides_fields_and_is_named_when_wrong() {
    let good = [
        ("KEYGATE_SERVER__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("KEYGATE_SERVER__TLS__CERT_FILE", ""),
        ("KEYGATE_LOG__ACCESS", "false"),
        ("KEYGATE_LIMITS__MAX_HEADER_BYTES", "64KiB"),
        ("KEYGATE_STORE__MASTER_KEY__CREDENTIAL", "master-key"),
        ("KEYGATE_CONFIG", "/x"),
    ];
    let (config, _) = read_with(UPSTREAM, &good).unwrap();
    assert_eq!(config.server.listen.len(), 2);
    assert!(!config.log.access);
    assert_eq!(config.limits.max_header_bytes, 64 << 10);
    let wrong = [
        ("KEYGATE_SERVER__THREADS", "x"),
        ("KEYGATE_SERVER__LISTNE", "x"),
        ("KEYGATE_STORE__MASTER_KEY", "hunter2"),
        ("KEYGATE_UPSTREAM__URL", "x"),
        ("KEYGATE_NOTHING__AT_ALL", "x"),
    ];
    let text = read_with(UPSTREAM, &wrong).unwrap_err();
    assert_says(
        &text,
        &[
            "server.threads must be a whole number, 0 or more (environment variable KEYGATE_SERVER__THREADS)",
            "did you mean \"listen\"?",
            "set KEYGATE_STORE__MASTER_KEY__FILE",
            "upstreams cannot be set by the environment",
            "5 problems in config.toml",
        ],
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_works_but_should_be_looked_at_is_a_warning_with_its_line() {
    let (_, warnings) = read_with(&format!("[server]\ntrusted_proxies = \"::/0\"\n{UPSTREAM}"), &[]).unwrap();
    assert_says(&warnings.join("\n"), &["config.toml:2: server.trusted_proxies believes everybody"]);
    let text = "[store]\nmaster_key = { env = \"MASTER\" }\n[[upstream]]\nkind = \"audiobookshelf\"\nurl = \"http://h\"\npool_idle_timeout = \"5s\"\n";
    let (_, warnings) = read_with(text, &[]).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_says(
        &warnings.join("\n"),
        &["config.toml:2: the secret in the environment variable MASTER", "config.toml:6: upstream.pool_idle_timeout"],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = read_with(&text, &[("KEYGATE_SERVER__LISTEN", &text), ("KEYGATE_LOG__LEVEL", &text)]);
    }

    #[test]
    fn no_mixture_of_toml_makes_the_loader_panic(lines in proptest::collection::vec("(\\[\\[?(server|upstream|store|log|server\\.tls)\\]\\]?|(listen|url|hosts|kind|master_key|level|base_path|threads) = (\"\\PC{0,12}\"|[0-9xé]{1,4}|\\[\"\\PC{0,4}\", 1?\\]|\\{ (file|env) = \"\\PC{0,4}\" \\}|\"\"\"|true))", 0..12)) {
        let _ = read(&lines.join("\n"));
    }

    #[test]
    fn no_value_is_shown_for_a_master_key(secret in "[a-zA-Z0-9+/]{12,40}", form in 0..4usize) {
        let value = [format!("\"{secret}\""), format!("'{secret}'"), format!("\"{secret}"), format!("{{ key = \"{secret}\" }}")][form].clone();
        let shown = message(&format!("[store]\nmaster_key = {value}\n"));
        proptest::prop_assert!(!shown.contains(&secret), "{}", shown);
    }
}
