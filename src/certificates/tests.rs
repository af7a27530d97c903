//! Files that change under a running gateway.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use rustls::server::ResolvesServerCert;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::config::TlsFiles;

fn now() -> Timestamp {
    Timestamp::from_millis(SystemClock::new().now().as_millis())
}

/// Certificate and key in PEM.
fn made(name: &str, first_year: i32, last_year: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    parameters.not_before = rcgen::date_time_ymd(first_year, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    (parameters.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

struct Pair {
    folder: tempfile::TempDir,
    certificates: Certificates,
}

impl Pair {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, (certificate, key): &(String, String)) {
        fs::write(self.path("cert.pem"), certificate).expect("written");
        fs::write(self.path("key.pem"), key).expect("written");
    }

    fn title(&self) -> String {
        let shown = self.certificates.show().1;
        assert_eq!(shown.len(), 1);
        shown[0].facts.title()
    }

    fn problem(&self) -> Option<String> {
        self.certificates.show().1[0].problem.clone()
    }
}

fn source(folder: &Path) -> CertificateSource {
    CertificateSource::Files(vec![TlsFiles { cert_file: folder.join("cert.pem"), key_file: folder.join("key.pem") }])
}

fn start(first: &(String, String)) -> Pair {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("cert.pem"), &first.0).expect("written");
    fs::write(folder.path().join("key.pem"), &first.1).expect("written");
    let certificates = Certificates::load(&source(folder.path()), Arc::new(ManualClock::new(now()))).expect("a pair");
    Pair { folder, certificates }
}

#[test]
fn a_new_pair_is_served_from_the_next_look_on() {
    let pair = start(&made("old.test", 2020, 2090));
    pair.certificates.look();
    assert_eq!(pair.title(), "old.test");
    pair.write(&made("new.test", 2020, 2090));
    assert_eq!(pair.title(), "old.test");
    pair.certificates.look();
    assert_eq!(pair.title(), "new.test");
    assert_eq!(format!("{:?}", pair.certificates.served()), "[[Exact(\"new.test\")]]", "what handshakes get");
}

#[test]
fn a_half_written_pair_is_passed_over_without_a_word() {
    let pair = start(&made("old.test", 2020, 2090));
    let new = made("new.test", 2020, 2090);
    for half in ["", &new.0[..new.0.len() / 2], new.0.as_str()] {
        fs::write(pair.path("cert.pem"), half).expect("written");
        pair.certificates.look();
        assert_eq!((pair.title(), pair.problem()), ("old.test".to_owned(), None), "{} bytes", half.len());
    }
    fs::write(pair.path("key.pem"), &new.1).expect("written");
    pair.certificates.look();
    assert_eq!((pair.title(), pair.problem()), ("new.test".to_owned(), None));
}

#[test]
fn a_broken_pair_is_told_at_the_second_look_and_forgotten_when_it_is_mended() {
    let old = made("old.test", 2020, 2090);
    let pair = start(&old);
    let stranger = made("stranger.test", 2020, 2090);
    fs::write(pair.path("key.pem"), &stranger.1).expect("written");
    pair.certificates.look();
    assert_eq!(pair.problem(), None);
    pair.certificates.look();
    let problem = pair.problem().expect("told");
    assert!(problem.contains("key_file does not belong to cert_file"), "{problem}");
    assert_eq!(pair.title(), "old.test");
    fs::remove_file(pair.path("key.pem")).expect("removed");
    pair.certificates.look();
    pair.certificates.look();
    assert!(pair.problem().expect("told").contains("cannot read"));
    pair.write(&old);
    pair.certificates.look();
    assert_eq!((pair.title(), pair.problem()), ("old.test".to_owned(), None));
}

#[test]
fn links_that_are_turned_to_another_folder_are_followed() {
    let pair = start(&made("unused.test", 2020, 2090));
    for (folder, name) in [("archive1", "one.test"), ("archive2", "two.test")] {
        let (certificate, key) = made(name, 2020, 2090);
        fs::create_dir(pair.path(folder)).expect("a folder");
        fs::write(pair.path(folder).join("cert.pem"), certificate).expect("written");
        fs::write(pair.path(folder).join("key.pem"), key).expect("written");
        for file in ["cert.pem", "key.pem"] {
            // As certbot does: a new link, and a rename over the old one.
            symlink(Path::new(folder).join(file), pair.path("next")).expect("a link");
            fs::rename(pair.path("next"), pair.path(file)).expect("renamed");
        }
        pair.certificates.look();
        assert_eq!(pair.title(), name);
    }
}

#[test]
fn one_that_is_over_or_not_yet_good_does_not_replace_one_that_is_good() {
    let pair = start(&made("old.test", 2020, 2090));
    for (new, says) in [(made("over.test", 2020, 2021), "has expired"), (made("early.test", 2089, 2091), "is not valid yet")] {
        pair.write(&new);
        pair.certificates.look();
        pair.certificates.look();
        assert_eq!(pair.title(), "old.test");
        assert!(pair.problem().expect("told").contains(says));
    }
    let over = start(&made("over.test", 2020, 2021));
    over.write(&made("over-too.test", 2020, 2022));
    over.certificates.look();
    assert_eq!(over.title(), "over-too.test", "neither is good, and the newer one is what the operator wants");
}

#[test]
fn one_broken_pair_does_not_hold_up_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let files =
        |name: &str| TlsFiles { cert_file: folder.path().join(format!("{name}.pem")), key_file: folder.path().join(format!("{name}.key")) };
    let write = |name: &str, (certificate, key): &(String, String)| {
        fs::write(files(name).cert_file, certificate).expect("written");
        fs::write(files(name).key_file, key).expect("written");
    };
    write("a", &made("a.test", 2020, 2090));
    write("b", &made("b.test", 2020, 2090));
    let source = CertificateSource::Files(vec![files("a"), files("b")]);
    let certificates = Certificates::load(&source, Arc::new(ManualClock::new(now()))).expect("two pairs");
    fs::write(files("a").cert_file, "no certificate").expect("written");
    write("b", &made("c.test", 2020, 2090));
    certificates.look();
    certificates.look();
    let shown = certificates.show().1;
    assert_eq!(shown.iter().map(|one| one.facts.title()).collect::<Vec<_>>(), ["a.test", "c.test"]);
    assert!(shown[0].problem.is_some() && shown[1].problem.is_none());
    // A reload takes all or nothing, and says what is wrong.
    assert!(certificates.change(&source).is_err());
    write("a", &made("d.test", 2020, 2090));
    let changes = certificates.change(&source).expect("both are good");
    assert!(changes.len() == 1 && changes[0].starts_with("certificate for d.test, until 2090-01-01, sha256:"), "{changes:?}");
    let resolver: Arc<dyn ResolvesServerCert> = certificates.served();
    assert!(format!("{resolver:?}").contains("d.test"));
}
