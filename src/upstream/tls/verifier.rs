//! Judges an upstream's certificate: by authorities, or by its fingerprint.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::Origin;
use super::fingerprint::Fingerprint;
use super::presented::Untrusted;

/// What makes a certificate good.
#[derive(Debug)]
pub(super) enum Rule {
    /// A chain to an authority, dates and name. `None`: there is no authority, and so no certificate is good.
    Authorities(Option<Arc<WebPkiServerVerifier>>, Origin),
    /// This leaf, whatever it says of itself.
    Pinned(Fingerprint),
}

/// A rule, and the signatures that may prove possession of a certificate's key: those are checked under every rule.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) rule: Rule,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let untrusted = match &self.rule {
            Rule::Pinned(pinned) if Fingerprint::of(leaf) == *pinned => return Ok(ServerCertVerified::assertion()),
            Rule::Pinned(pinned) => Untrusted::by_pin(leaf, *pinned),
            Rule::Authorities(verifier, origin) => {
                let judged = match verifier {
                    Some(verifier) => verifier.verify_server_cert(leaf, intermediates, name, ocsp_response, now),
                    None => Err(CertificateError::UnknownIssuer.into()),
                };
                match judged {
                    Ok(verified) => return Ok(verified),
                    Err(error) => Untrusted::by_authorities(leaf, name, &error, origin),
                }
            }
        };
        // The handshake hands on nothing but this error: the sentence travels in it.
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(untrusted)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
