//! keygate's own authority, over the years.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn start() -> Timestamp {
    // 2027-01-15.
    Timestamp::from_secs(1_800_000_000)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn facts(pair: &CertifiedKey) -> Facts {
    Facts::of(&pair.cert[0]).expect("a certificate")
}

/// Whether a device that knows the authority lets this leaf speak for a name.
fn is_trusted(authority: &CertificateDer<'static>, pair: &CertifiedKey, name: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider).build().expect("a verifier");
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.as_millis()).expect("after 1970")));
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    verifier.verify_server_cert(&pair.cert[0], &pair.cert[1..], &name, &[], at).is_ok()
}

#[test]
fn devices_that_know_the_authority_trust_every_name_and_no_other() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("state/tls");
    let folder = Folder(&path);
    assert!(folder.authority().expect("readable").is_none() && folder.leaf().expect("readable").is_none());
    let pair = folder.up_to_date(&names(&["localhost", "nas.local", "192.168.1.10", "::1"]), start()).expect("made");
    let authority = folder.authority().expect("readable").expect("made");
    for name in ["localhost", "nas.local", "192.168.1.10", "::1"] {
        assert!(is_trusted(&authority, &pair, name, start()), "{name}");
    }
    assert!(!is_trusted(&authority, &pair, "example.org", start()));
    assert!(is_trusted(&authority, &pair, "localhost", start().plus(364 * DAY)));
    assert!(!is_trusted(&authority, &pair, "localhost", start().plus(367 * DAY)));
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("issuer.pem")), mode(&path.join("leaf.pem"))), (0o700, 0o600, 0o600));
}

#[test]
fn the_leaf_stays_until_a_third_of_its_life_is_left_and_the_authority_for_good() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    let wanted = names(&["localhost"]);
    let first = facts(&folder.up_to_date(&wanted, start()).expect("made"));
    let authority = folder.authority().expect("readable").expect("made");
    let later = |days: u32| facts(&folder.up_to_date(&wanted, start().plus(days * DAY)).expect("made"));
    assert_eq!(later(200), first);
    let second = later(250);
    assert_ne!(second.fingerprint, first.fingerprint);
    assert_eq!(folder.authority().expect("readable"), Some(authority.clone()));
    let pair = folder.leaf().expect("readable").expect("made");
    assert!(is_trusted(&authority, &pair, "localhost", start().plus(600 * DAY)));
    // Twenty years later.
    assert!(is_trusted(
        &authority,
        &folder.up_to_date(&wanted, start().plus(7300 * DAY)).expect("made"),
        "localhost",
        start().plus(7301 * DAY)
    ));
}

#[test]
fn a_new_name_makes_a_new_leaf_and_a_name_that_is_gone_does_not() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    let both = facts(&folder.up_to_date(&names(&["localhost", "10.0.0.2"]), start()).expect("made"));
    let fewer = facts(&folder.up_to_date(&names(&["localhost"]), start()).expect("kept"));
    assert_eq!(both, fewer);
    let more = facts(&folder.up_to_date(&names(&["localhost", "10.0.0.3"]), start()).expect("made"));
    assert_eq!(more.names, ["localhost", "10.0.0.3"]);
}

#[test]
fn a_machine_whose_clock_was_wrong_at_first_gets_a_good_leaf_once_it_is_right() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    let epoch = Timestamp::from_secs(86_400 * 20);
    folder.up_to_date(&names(&["localhost"]), epoch).expect("made");
    let pair = folder.up_to_date(&names(&["localhost"]), start()).expect("made");
    assert!(is_trusted(&folder.authority().expect("readable").expect("made"), &pair, "localhost", start()));
}

#[test]
fn an_authority_that_devices_may_trust_is_never_replaced_and_its_key_must_be_private() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    let wanted = names(&["localhost"]);
    folder.up_to_date(&wanted, start()).expect("made");
    let authority = folder.authority().expect("readable");
    let refused = || folder.up_to_date(&wanted, start()).expect_err("refused").to_string();
    let key = root.path().join("issuer.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    assert!(refused().contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    let text = fs::read_to_string(&key).expect("read");
    let (certificate, _) = text.split_once("-----BEGIN PRIVATE KEY-----").expect("both");
    fs::write(&key, format!("{certificate}{}", KeyPair::generate().expect("a key").serialize_pem())).expect("written");
    assert!(refused().contains("does not hold the key of its certificate"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    Folder(elsewhere.path()).up_to_date(&wanted, start()).expect("made");
    fs::copy(elsewhere.path().join("issuer.pem"), &key).expect("copied");
    assert!(refused().contains("is not of the ca.pem beside it"));
    fs::remove_file(&key).expect("removed");
    assert!(refused().contains("move ca.pem away for a new authority"));
    fs::write(&key, text).expect("written");
    // A restored file has the mode that the restoring program gave it.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    folder.up_to_date(&wanted, start()).expect("as before");
    assert_eq!(folder.authority().expect("readable"), authority);
    // A crash between the two files: nobody has seen that authority.
    fs::remove_file(root.path().join("ca.pem")).expect("removed");
    let pair = folder.up_to_date(&wanted, start()).expect("a new authority, and a leaf of it");
    let new = folder.authority().expect("readable").expect("made");
    assert!(is_trusted(&new, &pair, "localhost", start()) && Some(new) != authority);
}

/// What somebody makes who has the folder's key: a leaf for these names.
fn forged(root: &Path, wanted: &[&str]) -> CertifiedKey {
    let stolen = fs::read_to_string(root.join("issuer.pem")).expect("read");
    let key = key_in(stolen.as_bytes()).expect("a key");
    let issuer = Issuer::new(issuer_parameters(&key, None), key);
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf_parameters(&names(wanted), start()).expect("names").signed_by(&key, &issuer).expect("signed");
    fs::write(root.join("forged.pem"), format!("{}{stolen}", leaf.pem())).expect("written");
    fs::write(root.join("forged.key"), key.serialize_pem()).expect("written");
    tls::load(&TlsFiles { cert_file: root.join("forged.pem"), key_file: root.join("forged.key") }).expect("a pair")
}

#[test]
fn who_steals_the_authoritys_key_can_be_no_other_site() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    folder.up_to_date(&names(&["localhost", "nas", "media.example.org", "*.example.net"]), start()).expect("made");
    let authority = folder.authority().expect("readable").expect("made");
    let is_taken = |name: &str| is_trusted(&authority, &forged(root.path(), &[name]), name, start());
    for home in ["printer.local", "10.1.2.3", "fd00::7", "media.example.org", "a.example.net"] {
        assert!(is_taken(home), "{home}: what it is for");
    }
    for elsewhere in ["bank.example.com", "example.org", "other.example.org", "192.0.2.1", "2001:db8::1"] {
        assert!(!is_taken(elsewhere), "{elsewhere}");
    }
    // One name outside spoils the others beside it.
    assert!(!is_trusted(&authority, &forged(root.path(), &["printer.local", "bank.example.com"]), "printer.local", start()));
    let issuer = CertificateDer::from_pem_file(root.path().join("issuer.pem")).expect("a certificate");
    for certificate in [&authority, &issuer] {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
        assert!(parsed.name_constraints().expect("readable").expect("there").critical, "RFC 5280, section 4.2.1.10");
    }
    assert_eq!(Limits::of(&authority), Limits::of(&issuer));
    // Nothing in the folder is the authority's own key.
    let mut keys = 0;
    for file in fs::read_dir(root.path()).expect("read").map(|one| one.expect("one").path()) {
        let Ok(key) = key_in(&fs::read(file).expect("read")) else { continue };
        assert!(!has_key(&authority, &key));
        keys += 1;
    }
    assert_eq!(keys, 4, "the leaf's, the forged one's, and twice the issuer's");
}

#[test]
fn a_name_outside_the_limits_is_left_out_of_the_leaf_and_a_new_authority_has_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder(root.path());
    let first = names(&["localhost", "nas.test"]);
    folder.up_to_date(&first, start()).expect("made");
    let old = folder.authority().expect("readable").expect("made");
    let more = names(&["localhost", "nas.test", "films.example.org", "nas.local", "2001:db8::9"]);
    let leaf = folder.up_to_date(&more, start()).expect("made");
    assert_eq!(facts(&leaf).names, ["localhost", "nas.test", "nas.local"]);
    assert!(is_trusted(&old, &leaf, "nas.local", start()) && !is_trusted(&old, &leaf, "films.example.org", start()));
    assert_eq!(facts(&folder.up_to_date(&more, start()).expect("kept")), facts(&leaf), "and it is not made again at each look");
    let (within, left_out) = folder.within_limits(more.clone()).expect("readable");
    assert_eq!((within.len(), left_out), (3, names(&["films.example.org", "2001:db8::9"])));

    let key = fs::read(root.path().join("issuer.pem")).expect("read");
    folder.set_aside().expect("renamed");
    let leaf = folder.up_to_date(&more, start()).expect("made");
    let new = folder.authority().expect("readable").expect("made");
    for name in ["nas.test", "films.example.org", "2001:db8::9"] {
        assert!(is_trusted(&new, &leaf, name, start()) && !is_trusted(&old, &leaf, name, start()), "{name}");
    }
    assert_ne!(fs::read(root.path().join("issuer.pem")).expect("read"), key, "the old key is gone");
    let kept = CertificateDer::from_pem_file(root.path().join("ca.pem.old")).expect("kept");
    assert_eq!(kept, old);
}
