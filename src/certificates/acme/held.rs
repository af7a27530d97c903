//! A certificate that is served: one that an ACME server gave, or a temporary one.

use std::fmt;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::certificates::{CertificateError, Facts, local};
use crate::clock::Timestamp;
use crate::config::AcmeSettings;
use crate::store::acme::AcmeCertificate;

/// A certificate that is served.
pub(in crate::certificates) struct Held {
    pub(in crate::certificates) pair: Arc<CertifiedKey>,
    pub(in crate::certificates) facts: Facts,
    /// When it came, or was made.
    pub(super) obtained_at: Timestamp,
    /// What it was ordered as; `None`: it is temporary.
    order: Option<Ordered>,
}

#[derive(Debug, PartialEq, Eq)]
struct Ordered {
    directory: String,
    domains: Vec<String>,
    profile: Option<String>,
}

impl Held {
    /// `None` when it cannot be served.
    pub(super) fn of(stored: &AcmeCertificate) -> Option<Self> {
        Self::read(stored).inspect_err(|why| tracing::warn!("a certificate of ACME in the store is passed over: {why}")).ok()
    }

    /// With the words for why not.
    pub(super) fn read(stored: &AcmeCertificate) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(stored.chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("it is not PEM: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(stored.key.expose().as_bytes()).map_err(|_| "its key is not PEM")?;
        let facts = chain.first().and_then(Facts::of).ok_or("it cannot be read")?;
        let pair = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| format!("key and certificate do not go together: {error}"))?;
        if let Some(name) = stored.domains.iter().find(|name| !facts.names.contains(name)) {
            return Err(format!("it is not for {name}"));
        }
        let order = Ordered { directory: stored.directory.clone(), domains: stored.domains.clone(), profile: stored.profile.clone() };
        Ok(Self { pair: Arc::new(pair), facts, obtained_at: stored.obtained_at, order: Some(order) })
    }

    /// One of keygate's own that nobody trusts and nobody keeps.
    pub(super) fn temporary(domains: &[String], now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut parameters = local::leaf_parameters(domains, now)?;
        parameters.use_authority_key_identifier_extension = false;
        parameters.distinguished_name = local::named("keygate: waiting for a certificate by ACME");
        let certificate = parameters.self_signed(&key)?.der().clone();
        let facts = Facts::of(&certificate).ok_or(CertificateError::Unreadable)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let pair = CertifiedKey::from_der(vec![certificate], key, &rustls::crypto::aws_lc_rs::default_provider())?;
        Ok(Self { pair: Arc::new(pair), facts, obtained_at: now, order: None })
    }

    pub(in crate::certificates) const fn is_temporary(&self) -> bool {
        self.order.is_none()
    }

    /// Whether it is what these settings ask for.
    pub(super) fn is_for(&self, settings: &AcmeSettings) -> bool {
        self.order.as_ref().is_some_and(|order| {
            order.directory == settings.directory && order.domains == settings.domains && order.profile == settings.profile
        })
    }

    /// Whether it is one of this server's.
    pub(super) fn is_of(&self, directory: &str) -> bool {
        self.order.as_ref().is_some_and(|order| order.directory == directory)
    }

    /// How many of the wanted names it has.
    pub(super) fn shared_names(&self, settings: &AcmeSettings) -> usize {
        settings.domains.iter().filter(|name| self.facts.names.contains(name)).count()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("facts", &self.facts).field("order", &self.order).finish_non_exhaustive()
    }
}
