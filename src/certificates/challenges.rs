//! What ACME servers are shown while an order is under way: a file on the listeners that lead to https (http-01, RFC 8555, section 8.3),
//! or a handshake on those that speak TLS (tls-alpn-01, RFC 8737).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::certificates::CertificateError;

/// The one protocol that a handshake of tls-alpn-01 offers.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What is shown now; empty unless an order is under way.
#[derive(Default)]
pub struct Challenges {
    files: ArcSwap<HashMap<String, String>>,
    handshakes: ArcSwap<HashMap<String, Arc<ServerConfig>>>,
    /// Whether there are `handshakes`: all that other handshakes look at.
    has_handshakes: AtomicBool,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, handshakes) = (self.files.load(), self.handshakes.load());
        f.debug_struct("Challenges").field("files", &files.len()).field("handshakes", &handshakes.keys().collect::<Vec<_>>()).finish()
    }
}

impl Challenges {
    /// From now on, `token` is answered with its key authorization.
    pub fn set(&self, token: &str, authorization: &str) {
        self.files.rcu(|known| with(known, token, || authorization.to_owned()));
    }

    /// The challenge is over.
    pub fn remove(&self, token: &str) {
        self.files.rcu(|known| without(known, token));
    }

    /// The key authorization of a token.
    pub fn answer(&self, token: &str) -> Option<String> {
        self.files.load().get(token).cloned()
    }

    /// From now on, a handshake that offers nothing but `acme-tls/1` for `name` is shown the digest of the key authorization.
    ///
    /// # Errors
    /// [`CertificateError`] when its certificate cannot be made.
    pub fn set_handshake(&self, name: &str, digest: &[u8]) -> Result<(), CertificateError> {
        let config = Arc::new(handshake(name, digest)?);
        self.handshakes.rcu(|known| with(known, name, || Arc::clone(&config)));
        self.has_handshakes.store(true, Ordering::Release);
        Ok(())
    }

    /// The challenge is over.
    pub fn remove_handshake(&self, name: &str) {
        self.handshakes.rcu(|known| without(known, name));
        self.has_handshakes.store(!self.handshakes.load().is_empty(), Ordering::Release);
    }

    /// Whether any handshake could be one of these.
    pub fn await_handshakes(&self) -> bool {
        self.has_handshakes.load(Ordering::Acquire)
    }

    /// How to shake hands with a client that asks for this name and offers these protocols; `None`: as with everybody.
    pub fn handshake<'a>(&self, name: Option<&str>, mut protocols: impl Iterator<Item = &'a [u8]>) -> Option<Arc<ServerConfig>> {
        // Exactly this one (RFC 8737, section 3).
        let is_challenge = protocols.next() == Some(ACME_TLS) && protocols.next().is_none();
        name.filter(|_| is_challenge).and_then(|name| self.handshakes.load().get(name).cloned())
    }
}

fn with<T: Clone>(known: &HashMap<String, T>, name: &str, value: impl Fn() -> T) -> HashMap<String, T> {
    let mut known = known.clone();
    known.insert(name.to_owned(), value());
    known
}

fn without<T: Clone>(known: &HashMap<String, T>, name: &str) -> HashMap<String, T> {
    let mut known = known.clone();
    known.remove(name);
    known
}

/// A certificate for this name with the digest in an extension that nobody else may accept (RFC 8737, section 3), and no session that
/// could be taken up again later.
fn handshake(name: &str, digest: &[u8]) -> Result<ServerConfig, CertificateError> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = parameters.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not by `from_der`, which refuses a critical extension that it does not know.
    let pair = CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&private)?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(challenges: &Challenges, name: Option<&str>, protocols: &[&[u8]]) -> bool {
        challenges.handshake(name, protocols.iter().copied()).is_some()
    }

    #[test]
    fn a_handshake_is_a_challenge_only_with_the_one_protocol_and_a_name_that_is_waited_for() {
        let challenges = Challenges::default();
        assert!(!challenges.await_handshakes() && !asks(&challenges, Some("a.test"), &[ACME_TLS]));
        challenges.set_handshake("a.test", &[7; 32]).expect("made");
        assert!(challenges.await_handshakes() && asks(&challenges, Some("a.test"), &[ACME_TLS]));
        for (name, protocols) in [
            (Some("b.test"), vec![ACME_TLS]),
            (None, vec![ACME_TLS]),
            (Some("a.test"), vec![]),
            (Some("a.test"), vec![b"h2".as_slice()]),
            (Some("a.test"), vec![ACME_TLS, b"h2"]),
            (Some("a.test"), vec![b"h2", ACME_TLS]),
            (Some("a.test"), vec![ACME_TLS, ACME_TLS]),
        ] {
            assert!(!asks(&challenges, name, &protocols), "{name:?} {protocols:?}");
        }
        challenges.set_handshake("b.test", &[8; 32]).expect("made");
        challenges.remove_handshake("a.test");
        assert!(challenges.await_handshakes() && !asks(&challenges, Some("a.test"), &[ACME_TLS]));
        challenges.remove_handshake("b.test");
        assert!(!challenges.await_handshakes());
    }

    #[test]
    fn the_certificate_has_the_name_and_the_digest_and_nothing_is_remembered() {
        let config = handshake("a.test", &[7; 32]).expect("made");
        assert_eq!((config.alpn_protocols.as_slice(), config.send_tls13_tickets), ([ACME_TLS.to_vec()].as_slice(), 0));
        assert!(!config.session_storage.can_cache() && !config.ticketer.enabled());
    }

    #[test]
    fn a_token_is_answered_while_it_is_set() {
        let challenges = Challenges::default();
        challenges.set("token", "token.thumb");
        assert_eq!(challenges.answer("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.answer("toke"), None);
        challenges.remove("token");
        assert_eq!(challenges.answer("token"), None);
    }
}
