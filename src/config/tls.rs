//! The static certificate of the listeners: reading, and whether key and certificate belong together.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::TlsFiles;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than PEM.
    #[error("{path} is not PEM: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no section of the kind that is needed.
    #[error("{path} holds no {what}")]
    Missing {
        /// Which.
        path: PathBuf,
        /// `CERTIFICATE` or `PRIVATE KEY`, as PEM calls it.
        what: &'static str,
    },
    /// The key is of another certificate.
    #[error("key_file does not belong to cert_file (cert: {certificate})")]
    Mismatch {
        /// Subject and end of the certificate.
        certificate: String,
    },
    /// The key or the certificate is of a kind that rustls does not know.
    #[error("cert_file and key_file cannot be used: {0}")]
    Unusable(Error),
    /// A certificate cannot be an authority's.
    #[error("{path} holds a certificate that cannot be an authority's: {source}")]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Error,
    },
}

impl TlsProblem {
    /// Whether it is this file's problem.
    pub(crate) fn concerns(&self, file: &Path) -> bool {
        match self {
            Self::Read { path, .. } | Self::Pem { path, .. } | Self::Missing { path, .. } | Self::Authority { path, .. } => path == file,
            Self::Mismatch { .. } | Self::Unusable(_) => false,
        }
    }

    /// What to do.
    pub(crate) const fn help(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path and its permissions; relative paths start at the configuration's own folder",
            Self::Pem { .. } | Self::Missing { .. } => {
                "cert_file is PEM with the server's certificate first and then its intermediates; key_file is its private key in PEM, not encrypted"
            }
            Self::Mismatch { .. } => {
                "name the key that the certificate was made with; with certbot: fullchain.pem and privkey.pem of the same folder"
            }
            Self::Authority { .. } => "name the certificate of the authority that signs the clients' certificates, in PEM",
            Self::Unusable(_) => "keys are RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519",
        }
    }
}

/// Reads the pair and checks that the key belongs to the first certificate. Expired and self-signed certificates are loaded:
/// judging them is the client's part.
///
/// # Errors
/// When a file cannot be read or parsed, or the two do not belong together.
pub fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsProblem> {
    Contents::read(files)?.pair(files)
}

/// What the two files of a pair hold.
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, TlsProblem> {
        Ok(Self { certificate: read(&files.cert_file)?, key: Zeroizing::new(read(&files.key_file)?) })
    }

    /// Differs when a byte differs.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let parts = [Sha256::digest(&self.certificate), Sha256::digest(&*self.key)];
        Sha256::digest(parts.concat()).into()
    }

    /// The two together; `files` is where they are from.
    pub(crate) fn pair(&self, files: &TlsFiles) -> Result<CertifiedKey, TlsProblem> {
        let chain = certificates_in(&files.cert_file, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| pem_problem(&files.key_file, source, "PRIVATE KEY"))?;
        let described = chain.first().map(describe).unwrap_or_default();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsProblem::Mismatch { certificate: described },
            other => TlsProblem::Unusable(other),
        })
    }
}

/// The certificates of authorities, one or more in one file, of which one must have signed a client's certificate.
pub(crate) struct Authorities {
    /// All of them.
    pub(crate) roots: RootCertStore,
    /// Of the file: differs when a byte differs.
    pub(crate) digest: [u8; 32],
}

impl Authorities {
    /// # Errors
    /// When the file cannot be read, or one of its certificates cannot be an authority's.
    pub(crate) fn read(path: &Path) -> Result<Self, TlsProblem> {
        let text = read(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates_in(path, &text)? {
            roots.add(certificate).map_err(|source| TlsProblem::Authority { path: path.to_owned(), source })?;
        }
        Ok(Self { roots, digest: Sha256::digest(&text).into() })
    }
}

/// What an operator should know about a pair that [`load`] accepts.
pub(crate) fn warning(pair: &CertifiedKey, now: Timestamp) -> Option<String> {
    let leaf = pair.cert.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let validity = certificate.validity();
    let what = if Timestamp::from_secs(validity.not_after.timestamp()) <= now {
        "has expired"
    } else if Timestamp::from_secs(validity.not_before.timestamp()) > now {
        "is not valid yet"
    } else {
        return None;
    };
    Some(format!("server.tls: the certificate {what} (cert: {}); clients will refuse it", describe(leaf)))
}

/// All certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    certificates_in(path, &read(path)?)
}

fn certificates_in(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|source| pem_problem(path, source, "CERTIFICATE"))?;
    if chain.is_empty() { Err(TlsProblem::Missing { path: path.to_owned(), what: "CERTIFICATE" }) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsProblem> {
    std::fs::read(path).map_err(|source| TlsProblem::Read { path: path.to_owned(), source })
}

fn pem_problem(path: &Path, source: pem::Error, what: &'static str) -> TlsProblem {
    let path = path.to_owned();
    match source {
        pem::Error::NoItemsFound => TlsProblem::Missing { path, what },
        source => TlsProblem::Pem { path, source },
    }
}

/// `CN=media.example.org, ends 2027-02-01`.
fn describe(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return "unreadable".to_owned() };
    let end = Timestamp::from_secs(parsed.validity().not_after.timestamp()).to_string();
    let day = end.split('T').next().unwrap_or_default();
    format!("{}, ends {day}", parsed.subject())
}
