//! Configuration files on a real disk: certificates, secrets, `check-config`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keygate::cli::check_config::check;
use keygate::config::{CertificateSource, Config, tls};
use keygate::upstream::Kind;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

const UPSTREAM: &str = "[[upstream]]\nkind = \"audiobookshelf\"\nurl = \"http://127.0.0.1:13378\"\n";

/// A folder with a configuration, its store and key below the same folder.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let store = "[store]\npath = \"store/keygate.redb\"\nmaster_key = { file = \"master.key\" }\n";
        folder.write("config.toml", &format!("{text}\n{store}{UPSTREAM}"), 0o644);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn check(&self) -> Result<String, String> {
        check(Some(&self.path("config.toml"))).map_err(|problems| problems.to_string())
    }

    /// Writes a self-signed CA certificate, as `openssl req -x509` makes it, and the key of `key_of`.
    fn write_pair(&self, end_year: i32, own_key: bool) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["media.example.org".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "media.example.org");
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(end_year, 2, 1);
        self.write("cert.pem", &parameters.self_signed(&key).unwrap().pem(), 0o644);
        let other = KeyPair::generate().unwrap();
        self.write("key.pem", &if own_key { key } else { other }.serialize_pem(), 0o600);
    }
}

const TLS: &str = "[server.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_self_signed_pair_is_loaded_and_check_config_says_what_it_found() {
    let folder = Folder::new(TLS);
    folder.write_pair(2090, true);
    let text = folder.check().unwrap();
    assert_says(&text, &["ok: ", "audiobookshelf (audiobookshelf at 127.0.0.1:13378)", "listening on 127.0.0.1:8443 (TLS)"]);
    assert!(!text.contains("warning"), "{text}");
    let (config, _) = Config::load(&folder.path("config.toml")).unwrap();
    let CertificateSource::Files(files) = config.server.tls.unwrap().source else { unreachable!("files are configured") };
    let pair = tls::load(&files[0]).unwrap();
    assert_eq!(pair.cert.len(), 1);
    assert_eq!(config.store.path, folder.path("store/keygate.redb"));
}

#[test]
fn an_expired_certificate_and_an_open_key_file_are_warnings() {
    let folder = Folder::new(TLS);
    folder.write_pair(2021, true);
    fs::set_permissions(folder.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path("config.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let text = folder.check().unwrap();
    assert_says(&text, &["config.toml can be changed by other users: chmod 644"]);
    assert_says(
        &text,
        &[
            "config.toml:2: server.tls: the certificate has expired (cert: ",
            "CN=media.example.org, ends 2021-02-01",
            "config.toml:3: ",
            "chmod 600",
        ],
    );
}

#[test]
fn a_key_of_another_certificate_is_refused_with_the_certificates_name() {
    let folder = Folder::new(TLS);
    folder.write_pair(2027, false);
    let text = folder.check().unwrap_err();
    assert_says(
        &text,
        &[
            "server.tls: key_file does not belong to cert_file (cert: ",
            "CN=media.example.org, ends 2027-02-01)",
            "config.toml:3:",
            "1 problem in ",
        ],
    );
}

#[test]
fn missing_and_broken_files_are_all_reported() {
    let folder = Folder::new(TLS);
    let text = folder.check().unwrap_err();
    assert_says(&text, &["cert.pem", "key.pem", "config.toml:2:", "config.toml:3:", "2 problems in "]);
    folder.write_pair(2090, true);
    folder.write("key.pem", "no key", 0o600);
    assert_says(&folder.check().unwrap_err(), &["key.pem holds no PRIVATE KEY", "config.toml:3:", "1 problem"]);
    folder.write("cert.pem", "-----BEGIN CERTIFICATE-----\n???", 0o600);
    assert_says(&folder.check().unwrap_err(), &["cert.pem ", "config.toml:2:"]);
}

#[test]
fn a_master_key_that_others_may_read_is_refused_and_a_missing_one_needs_a_missing_store() {
    let folder = Folder::new("");
    folder.check().unwrap();
    folder.write("master.key", "hunter2", 0o644);
    let text = folder.check().unwrap_err();
    assert_says(&text, &["store.master_key: the secret file ", "(mode 0644): chmod 600 ", "1 problem"]);
    assert!(!text.contains("hunter2"));
    fs::remove_file(folder.path("master.key")).unwrap();
    fs::create_dir(folder.path("store")).unwrap();
    folder.write("store/keygate.redb", "", 0o600);
    assert_says(
        &folder.check().unwrap_err(),
        &["store.master_key: cannot read the secret file", "the store cannot be opened without the master key"],
    );
}

#[test]
fn a_missing_configuration_is_named() {
    let text = check(Some(Path::new("/nonexistent/keygate.toml"))).unwrap_err().to_string();
    assert_says(&text, &["cannot read the configuration", "1 problem in /nonexistent/keygate.toml", "config.example.toml"]);
}

#[test]
fn one_upstream_needs_no_file() {
    let (config, _) = Config::for_upstream("http://127.0.0.1:8096", Some("127.0.0.1:0"), Kind::Jellyfin).unwrap();
    assert_eq!(config.file, None);
    assert_eq!(config.server.listen, ["127.0.0.1:0".parse().unwrap()]);
    let text = Config::for_upstream("127.0.0.1:8096", Some("0.0.0.0:80"), Kind::Emby).unwrap_err().to_string();
    assert_says(
        &text,
        &[
            "upstream.url is not a URL (--upstream)",
            "0.0.0.0:80 is reachable from other machines, and speaks no TLS (--listen)",
            "2 problems",
        ],
    );
}
