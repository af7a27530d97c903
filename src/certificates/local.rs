//! keygate's own authority, for homes without a public name: a certificate for the devices, and from it a certificate for this machine, made
//! again when its names change or a third of its life is left.
//!
//! The authority signs one certificate in its life, that of the issuer, and its key is never stored: what can be stolen here is the issuer's,
//! and with that go its limits. They stand in both certificates, but some programs do not heed those of an authority that a person
//! installed (RFC 5280, section 6.1.1, leaves it to them); those of an issuer all do.
//!
//! The folder holds `issuer.pem` and `leaf.pem` (each certificate and key in one file, so that a crash leaves no half pair), both 0600, and
//! `ca.pem`, which may be given to everybody.

pub(super) mod limits;

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::certificates::local::limits::Limits;
use crate::certificates::{CertificateError, Facts, to_pem};
use crate::clock::Timestamp;
use crate::config::source::check_mode;
use crate::config::{TlsFiles, tls};
use crate::store::owner;

/// Apple's devices take no longer ones from an authority that a user installed (825 days); a year passes the stricter rules too.
const LIFE: Duration = Duration::from_secs(365 * 86_400);
/// A client's clock may be a little behind.
const EARLIER: Duration = Duration::from_secs(86_400);
/// The authority's years. It is trusted until somebody takes it off a device; and a machine that begins with a wrong clock must not
/// make one that is over when the clock is right.
const AUTHORITY_YEARS: (i32, i32) = (2020, 2049);

/// What the folder holds.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn leaf_files(&self) -> TlsFiles {
        TlsFiles { cert_file: self.file("leaf.pem"), key_file: self.file("leaf.pem") }
    }

    /// The authority's certificate; `None` before there is one.
    pub(super) fn authority(&self) -> Result<Option<CertificateDer<'static>>, CertificateError> {
        let path = self.file("ca.pem");
        let Some(text) = read(&path)? else { return Ok(None) };
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|error| broken(&path, &format!("is not PEM: {error}")))?;
        Ok(Some(certificate))
    }

    /// The leaf as it is; `None` before there is one.
    pub(super) fn leaf(&self) -> Result<Option<CertifiedKey>, CertificateError> {
        let files = self.leaf_files();
        if !files.cert_file.exists() {
            return Ok(None);
        }
        Ok(Some(tls::load(&files)?))
    }

    /// Those of `names` that a leaf can have, and those that it cannot: the authority may not vouch for them.
    pub(super) fn within_limits(&self, names: Vec<String>) -> Result<(Vec<String>, Vec<String>), CertificateError> {
        Ok(match self.authority()?.as_ref().and_then(Limits::of) {
            None => (names, Vec::new()),
            Some(limits) => names.into_iter().partition(|name| limits.allow(name)),
        })
    }

    /// The leaf, made new unless the one that is there still has all `names` that it can have and much of its life before it.
    pub(super) fn up_to_date(&self, names: &[String], now: Timestamp) -> Result<CertifiedKey, CertificateError> {
        let (issuer, certificate) = self.open_issuer(names)?;
        let (names, left_out) = self.within_limits(names.to_vec())?;
        let names = &names[..];
        // A leaf that cannot be read is no loss.
        if let Some(leaf) = self.leaf().ok().flatten()
            && leaf.cert.first().and_then(Facts::of).is_some_and(|facts| !is_due(&facts, names, now))
            && leaf.cert.first().is_some_and(|leaf| is_issued_by(leaf, &certificate))
        {
            return Ok(leaf);
        }
        let key = KeyPair::generate()?;
        let made = leaf_parameters(names, now)?.signed_by(&key, &issuer)?;
        let chain = format!("{}{}", made.pem(), to_pem(&certificate));
        let text = Zeroizing::new(format!("{chain}{}", Zeroizing::new(key.serialize_pem()).as_str()));
        self.write("leaf.pem", &text)?;
        if !left_out.is_empty() {
            tracing::info!("the new certificate is not for {}: keygate's own authority may not vouch for that", left_out.join(", "));
        }
        Ok(tls::load(&self.leaf_files())?)
    }

    /// Puts the authority out of use, so that the next leaf comes from a new one. Its certificate stays beside it, as `ca.pem.old`, so that
    /// people can tell which one to take off their devices; what signs in its name does not.
    pub(super) fn set_aside(&self) -> Result<(), CertificateError> {
        let path = self.file("ca.pem");
        fs::rename(&path, self.file("ca.pem.old")).map_err(io_error("rename", &path))
    }

    /// What signs leaves, and its certificate; made when there is none, for a home and these names. An authority without it is not replaced:
    /// devices trust it.
    fn open_issuer(&self, names: &[String]) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), CertificateError> {
        let path = self.file("issuer.pem");
        match (read(&path)?, self.authority()?) {
            (Some(text), Some(authority)) => self.read_issuer(&text, &authority),
            (None, Some(_)) => {
                Err(broken(&path, "is missing, although ca.pem is there: put it back, or move ca.pem away for a new authority"))
            }
            (Some(_) | None, None) => self.make_authority(names),
        }
    }

    fn read_issuer(
        &self,
        text: &[u8],
        authority: &CertificateDer<'_>,
    ) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), CertificateError> {
        let path = self.file("issuer.pem");
        check_mode(&path)?;
        let certificate = CertificateDer::from_pem_slice(text).map_err(|error| broken(&path, &format!("holds no certificate: {error}")))?;
        let key = key_in(text).map_err(|why| broken(&path, &format!("holds no private key: {why}")))?;
        if !has_key(&certificate, &key) {
            return Err(broken(&path, "does not hold the key of its certificate"));
        }
        if !is_issued_by(&certificate, authority) {
            return Err(broken(&path, "is not of the ca.pem beside it"));
        }
        Ok((Issuer::new(issuer_parameters(&key, None), key), certificate))
    }

    fn make_authority(&self, names: &[String]) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), CertificateError> {
        owner::make_folder(self.0).map_err(io_error("make the folder", self.0))?;
        let limits = Limits::around(names);
        // It signs once, here, and is forgotten.
        let key = KeyPair::generate()?;
        let parameters = authority_parameters(&key, &limits);
        let authority = parameters.self_signed(&key)?;
        let (root, key) = (Issuer::new(parameters, key), KeyPair::generate()?);
        let parameters = issuer_parameters(&key, Some(&limits));
        let issuer = parameters.signed_by(&key, &root)?;
        self.write("issuer.pem", &Zeroizing::new(format!("{}{}", issuer.pem(), Zeroizing::new(key.serialize_pem()).as_str())))?;
        // The certificate last: with it, the authority is complete.
        self.write("ca.pem", &authority.pem())?;
        tracing::info!(folder = %self.0.display(), "made an authority of keygate's own; \"keygate tls ca\" prints its certificate for your devices");
        Ok((Issuer::new(parameters, key), issuer.der().clone()))
    }

    /// 0600, and whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), CertificateError> {
        let path = self.file(name);
        let mut file = tempfile::Builder::new().prefix(".keygate-").tempfile_in(self.0).map_err(io_error("write", &path))?;
        owner::hand_over(file.as_file(), &path).map_err(io_error("write", &path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(io_error("write", &path))?;
        file.persist(&path).map_err(|error| io_error("write", &path)(error.error))?;
        Ok(())
    }
}

/// Whether a leaf must be made anew: it lacks a name, or a third of its life or less is left.
pub(super) fn is_due(leaf: &Facts, names: &[String], now: Timestamp) -> bool {
    let lacks_a_name = names.iter().any(|name| !leaf.names.contains(name));
    lacks_a_name || !leaf.is_valid(now) || leaf.not_after.since(now) <= leaf.lifetime() / 3
}

fn authority_parameters(key: &KeyPair, limits: &Limits) -> CertificateParams {
    signing_parameters("keygate CA", key, Some(limits), 1)
}

/// The limits stand in its certificate; who signs with its key does not need them.
fn issuer_parameters(key: &KeyPair, limits: Option<&Limits>) -> CertificateParams {
    let mut parameters = signing_parameters("keygate issuer", key, limits, 0);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

fn signing_parameters(name: &str, key: &KeyPair, limits: Option<&Limits>, below: u8) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // Several keygates in one house have several authorities: the name tells them apart, and is the same whenever it is made from the key.
    let mark: String = Sha256::digest(key.der_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    parameters.distinguished_name = named(&format!("{name} {mark}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.name_constraints = limits.map(Limits::constraints);
    parameters.not_before = rcgen::date_time_ymd(AUTHORITY_YEARS.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(AUTHORITY_YEARS.1, 12, 31);
    parameters
}

pub(super) fn leaf_parameters(names: &[String], now: Timestamp) -> Result<CertificateParams, CertificateError> {
    let mut parameters = CertificateParams::new(names.to_vec())?;
    // Names stand in the extension alone; a subject longer than 64 characters would be refused.
    parameters.distinguished_name = named("keygate");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let ((year, month, day), (last_year, last_month, last_day)) = (date(now.minus(EARLIER)), date(now.plus(LIFE)));
    parameters.not_before = rcgen::date_time_ymd(year, month, day);
    parameters.not_after = rcgen::date_time_ymd(last_year, last_month, last_day);
    Ok(parameters)
}

pub(super) fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Year, month and day in UTC, as rcgen wants them.
fn date(at: Timestamp) -> (i32, u8, u8) {
    let date = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
    (i32::from(date.year()), u8::try_from(date.month()).unwrap_or(1), u8::try_from(date.day()).unwrap_or(1))
}

/// The key of a file that holds other things as well.
fn key_in(text: &[u8]) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| error.to_string())?;
    KeyPair::try_from(&key).map_err(|error| error.to_string())
}

fn has_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, parsed)| parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes())
}

/// By the authority's name, which is made from its key.
fn is_issued_by(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let (Ok((_, leaf)), Ok((_, authority))) = (x509_parser::parse_x509_certificate(leaf), x509_parser::parse_x509_certificate(authority))
    else {
        return false;
    };
    leaf.issuer() == authority.subject()
}

/// Names in the form in which [`Facts`] has them, each once.
pub(super) fn normal(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut normal = Vec::new();
    for name in names {
        let name = name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string());
        if !normal.contains(&name) {
            normal.push(name);
        }
    }
    normal
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertificateError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::Io { what, path, source }
}

fn broken(path: &Path, why: &str) -> CertificateError {
    CertificateError::Authority { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests;
