//! Whose cryptography listeners run on.
//!
//! Key exchange, signatures and tickets are always those of aws-lc-rs: a handshake costs it two thirds of what it costs ring. AES-GCM, which is
//! nearly all of what a stream over TLS costs, is another matter. aws-lc has code for single AES blocks and code for AVX-512, and
//! nothing between them; ring has code for processors with wide AES and without AVX-512 (Zen 3, Alder Lake, the N100 of small servers),
//! on which it takes about half of aws-lc's instructions. There, and only there, the cipher suites with AES-GCM are ring's: rustls
//! lets a provider be put together from both, and both take the same keys. Clients see no difference; FIPS is claimed for neither.

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

/// Whose AES-GCM it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AesGcm {
    /// aws-lc's.
    AwsLc,
    /// ring's.
    Ring,
}

impl AesGcm {
    /// The quicker one on this processor.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("avx2")
            && !is_x86_feature_detected!("avx512f")
        {
            return Self::Ring;
        }
        Self::AwsLc
    }
}

/// The provider for listeners on this processor.
pub fn provider() -> CryptoProvider {
    with(AesGcm::best())
}

/// A provider with the cipher suites in the order of aws-lc-rs, and AES-GCM of this origin. All of them are authenticated encryption over an
/// ephemeral key exchange.
pub fn with(aes_gcm: AesGcm) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if aes_gcm == AesGcm::Ring {
        provider.cipher_suites.iter_mut().for_each(|suite| *suite = of_ring(*suite).unwrap_or(*suite));
    }
    provider
}

/// The same suite by ring, where it is one with AES-GCM.
fn of_ring(suite: SupportedCipherSuite) -> Option<SupportedCipherSuite> {
    let name = suite.suite();
    let is_aes_gcm = name.as_str().is_some_and(|name| name.contains("_AES_") && name.contains("_GCM_"));
    ring::ALL_CIPHER_SUITES.iter().copied().find(|other| is_aes_gcm && other.suite() == name)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

    use super::*;

    /// A server with this provider and a client that knows nothing but one suite of aws-lc's, after the handshake.
    fn connected(server: CryptoProvider, suite: SupportedCipherSuite) -> [Connection; 2] {
        let versions = &[suite.version()];
        let name = format!("{:?}", suite.suite());
        let key = if name.contains("RSA") { KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256) } else { KeyPair::generate() };
        let key = key.expect("a key");
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).and_then(|params| params.self_signed(&key)).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let own = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(Arc::new(server)).with_protocol_versions(versions).expect("versions");
        let server = server.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], own).expect("a pair");
        let client = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        let client = ClientConfig::builder_with_provider(Arc::new(client)).with_protocol_versions(versions).expect("versions");
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let client = ClientConnection::new(Arc::new(client), "localhost".try_into().expect("a name")).expect("a client");
        let mut both = [Connection::from(ServerConnection::new(Arc::new(server)).expect("a server")), client.into()];
        while both.iter().any(|end| end.is_handshaking()) {
            let [server, client] = &mut both;
            carry(client, server);
            carry(server, client);
        }
        both
    }

    /// Carries what one end has to say to the other.
    fn carry(from: &mut Connection, to: &mut Connection) {
        while from.wants_write() {
            let mut wire = Vec::new();
            from.write_tls(&mut wire).expect("written");
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                to.read_tls(&mut rest).expect("read");
                to.process_new_packets().expect("what was meant");
            }
        }
    }

    #[test]
    fn every_suite_carries_bytes_both_ways_whosever_it_is() {
        let text: Vec<u8> = (0..20_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        for suite in aws_lc_rs::default_provider().cipher_suites {
            for whose in [AesGcm::AwsLc, AesGcm::Ring] {
                let mut both = connected(with(whose), suite);
                assert_eq!(both[0].negotiated_cipher_suite().map(|suite| suite.suite()), Some(suite.suite()));
                for _ in 0..2 {
                    let [from, to] = &mut both;
                    from.writer().write_all(&text).expect("taken");
                    carry(from, to);
                    let mut read = vec![0; text.len()];
                    to.reader().read_exact(&mut read).expect("all of it");
                    assert!(read == text, "{suite:?} of {whose:?}");
                    both.reverse();
                }
            }
        }
    }

    fn names(provider: &CryptoProvider) -> Vec<rustls::CipherSuite> {
        provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect()
    }

    #[test]
    fn both_offer_the_same_suites_in_the_same_order() {
        assert_eq!(names(&with(AesGcm::Ring)), names(&with(AesGcm::AwsLc)));
    }

    /// Suites are equal when their names are: here it counts where they stand.
    fn is_taken_over(ours: SupportedCipherSuite, theirs: SupportedCipherSuite) -> bool {
        match (ours, theirs) {
            (SupportedCipherSuite::Tls12(ours), SupportedCipherSuite::Tls12(theirs)) => !std::ptr::eq(ours, theirs),
            (SupportedCipherSuite::Tls13(ours), SupportedCipherSuite::Tls13(theirs)) => !std::ptr::eq(ours, theirs),
            _ => false,
        }
    }

    #[test]
    fn all_of_aes_gcm_is_taken_over_and_nothing_else() {
        let (ours, theirs) = (with(AesGcm::AwsLc), with(AesGcm::Ring));
        for (ours, theirs) in ours.cipher_suites.iter().zip(&theirs.cipher_suites) {
            let is_aes = format!("{:?}", ours.suite()).contains("AES");
            assert_eq!(is_taken_over(*ours, *theirs), is_aes, "{ours:?}");
        }
        assert!(ours.kx_groups.iter().zip(&theirs.kx_groups).all(|(one, other)| one.name() == other.name()));
    }

    #[test]
    fn the_processor_decides() {
        assert_eq!(names(&provider()), names(&with(AesGcm::best())));
    }
}
