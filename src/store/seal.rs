//! The master key and what hangs on it: the encryption of passwords, tokens and the pepper of the key hashes at rest.
//!
//! The pepper is random and sealed in the store, not derived: the master key can be replaced, while nobody has the keys' texts to hash
//! them anew.
//!
//! Sub-keys come from HKDF-SHA-256 (RFC 5869) with a label each; sealing is XChaCha20-Poly1305 with a random nonce. The associated
//! data names the record and the field, so that a sealed value opens in its own place only.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroize;

use crate::config::source::SecretSource;
use crate::keys::KeyHasher;
use crate::secret::Secret;
use crate::store::{StoreError, files};

const SEAL_LABEL: &[u8] = b"keygate/1/seal";
/// First byte of everything sealed; part of the associated data.
const SEAL_VERSION: u8 = 1;
const NONCE_LEN: usize = 24;

/// What the master key's source holds, as read by the configuration room.
#[derive(Debug)]
pub enum MasterKeyText {
    /// This text.
    Found(Secret<String>),
    /// Nothing: there is no such file, variable or credential.
    Missing,
}

/// 32 bytes from which all secrets of the store derive. Store and master key are one unit of backup, kept in two places.
#[derive(Clone, Debug)]
pub struct MasterKey(Secret<[u8; 32]>);

impl MasterKey {
    /// Reads base64 (as `openssl rand -base64 32` prints it) or 64 hex digits; white space around it does not matter.
    ///
    /// # Errors
    /// [`StoreError::MasterKey`] when the text is not 32 bytes in one of the two forms.
    pub fn parse(text: &Secret<String>) -> Result<Self, StoreError> {
        let text = text.expose().trim();
        let decoded = if text.len() == 64 { decode_hex(text) } else { STANDARD.decode(text).ok() };
        let mut decoded = decoded.unwrap_or_default();
        let key = <[u8; 32]>::try_from(decoded.as_slice()).map(|bytes| Self(Secret::new(bytes)));
        decoded.zeroize();
        key.map_err(|_| {
            StoreError::MasterKey(
                "the master key is not 32 bytes in base64 or hex; restore it from your backup (one for a new store: openssl rand -base64 32)".to_owned(),
            )
        })
    }

    /// The master key for a store, and a warning for the operator if its source is a weak one.
    ///
    /// A key is made only together with a new store, and only where its source is a file; a store whose key is missing is refused.
    ///
    /// # Errors
    /// [`StoreError::MasterKey`] when there is none and none may be made, or it is malformed; [`StoreError::Io`] when a new one
    /// cannot be written.
    pub fn obtain(source: &SecretSource, text: &MasterKeyText, store_exists: bool) -> Result<(Self, Option<String>), StoreError> {
        match (text, source) {
            (MasterKeyText::Found(text), SecretSource::Env(name)) => {
                let warning = format!(
                    "the master key comes from the environment variable {name}, which other programs of the same user can read; \
                     a file or a systemd credential is safer"
                );
                Ok((Self::parse(text)?, Some(warning)))
            }
            (MasterKeyText::Found(text), _) => Ok((Self::parse(text)?, None)),
            (MasterKeyText::Missing, SecretSource::Credential(_)) if store_exists => Err(StoreError::MasterKey(format!(
                "there is a store, but not its master key: {} is not here. systemd hands it to the service only: while the service runs, \
                 commands go through it; if the service itself says this, restore the key from your backup",
                describe(source)
            ))),
            (MasterKeyText::Missing, _) if store_exists => Err(StoreError::MasterKey(format!(
                "there is a store, but its master key is missing: {} does not exist; restore it from your backup. A new one would not open this store",
                describe(source)
            ))),
            (MasterKeyText::Missing, SecretSource::File(path)) => Ok((Self::create_file(path)?, None)),
            (MasterKeyText::Missing, _) => Err(StoreError::MasterKey(format!(
                "{} does not exist; keygate makes a master key only in a file. Make one with: openssl rand -base64 32",
                describe(source)
            ))),
        }
    }

    /// Makes a new one and writes it to a file that must not exist yet, 0600, durable on return.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Unusable`] for the directory.
    pub fn create_file(path: &Path) -> Result<Self, StoreError> {
        Self::create_for(path, Some(path))
    }

    /// The same for whoever owns what lies at `place`, or its folder; `None`: for whoever makes it.
    pub(super) fn create_for(path: &Path, place: Option<&Path>) -> Result<Self, StoreError> {
        let key = Self(random_bytes()?);
        let mut text = STANDARD.encode(key.0.expose());
        text.push('\n');
        let written = files::write_new(path, &text, place);
        text.zeroize();
        written.map(|()| key)
    }

    /// What seals and opens the store's secrets.
    pub(crate) fn sealer(&self) -> Sealer {
        Sealer(self.clone())
    }

    #[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8160 bytes; these are 32")]
    fn derive(&self, labels: &[&[u8]]) -> Secret<[u8; 32]> {
        let mut bytes = [0; 32];
        let info: Vec<u8> = framed(labels);
        Hkdf::<Sha256>::new(None, self.0.expose()).expand(&info, &mut bytes).expect("32 bytes are not too many");
        let derived = Secret::new(bytes);
        bytes.zeroize();
        derived
    }
}

/// 32 random bytes.
fn random_bytes() -> Result<Secret<[u8; 32]>, StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::MasterKey(format!("the operating system gives no random bytes: {error}")))?;
    let secret = Secret::new(bytes);
    bytes.zeroize();
    Ok(secret)
}

/// What keys are hashed under. Made with the store, and the same for as long as the store lives.
pub(crate) struct Pepper(Secret<[u8; 32]>);

impl Pepper {
    /// That of a new store.
    pub(crate) fn random() -> Result<Self, StoreError> {
        random_bytes().map(Self)
    }

    /// Sealed for the store of this id.
    pub(crate) fn seal(&self, sealer: &Sealer, store_id: &[u8]) -> Result<String, SealError> {
        let mut text = STANDARD.encode(self.0.expose());
        let sealed = sealer.seal(pepper_place(store_id), text.as_bytes());
        text.zeroize();
        sealed
    }

    /// What [`Pepper::seal`] sealed.
    pub(crate) fn open(sealer: &Sealer, store_id: &[u8], sealed: &str) -> Result<Self, SealError> {
        let text = sealer.open(pepper_place(store_id), sealed)?;
        let mut decoded = STANDARD.decode(text.expose()).map_err(|_| SealError::Closed)?;
        let pepper = <[u8; 32]>::try_from(decoded.as_slice()).map(|bytes| Self(Secret::new(bytes)));
        decoded.zeroize();
        pepper.map_err(|_| SealError::Closed)
    }

    /// The hasher of API keys under it.
    pub(crate) fn hasher(&self) -> KeyHasher {
        KeyHasher::new(&self.0)
    }
}

fn pepper_place(store_id: &[u8]) -> Place<'_> {
    Place { table: "meta", record: store_id, field: &[b"pepper"] }
}

/// The place of a sealed value: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Table.
    pub(crate) table: &'a str,
    /// Record, in the bytes of its table key.
    pub(crate) record: &'a [u8],
    /// Field, with whatever else of the record must not be altered beside it.
    pub(crate) field: &'a [&'a [u8]],
}

/// Seals and opens with one key per record.
#[derive(Clone, Debug)]
pub(crate) struct Sealer(MasterKey);

impl Sealer {
    /// version, nonce, cipher text with its tag; base64.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<String, SealError> {
        let mut sealed = vec![SEAL_VERSION];
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plain, aad: &associated_data(place) };
        sealed.extend(self.cipher(place).encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Closed)?);
        Ok(STANDARD.encode(sealed))
    }

    /// The value that was sealed in this place.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &str) -> Result<Secret<String>, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Closed)?;
        let (version, rest) = bytes.split_first().ok_or(SealError::Closed)?;
        let (nonce, cipher_text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Closed)?;
        if *version != SEAL_VERSION {
            return Err(SealError::Closed);
        }
        let payload = Payload { msg: cipher_text, aad: &associated_data(place) };
        let plain = self.cipher(place).decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Closed)?;
        String::from_utf8(plain).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            SealError::Closed
        })
    }

    fn cipher(&self, place: Place<'_>) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.derive(&[SEAL_LABEL, place.table.as_bytes(), place.record]).expose().into())
    }
}

/// Why a value was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// Another master key, another place, or altered bytes: which of them cannot be told.
    #[error("a sealed value does not open: it was altered, or sealed in another place or under another master key")]
    Closed,
    /// No nonce.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

fn associated_data(place: Place<'_>) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = vec![&[SEAL_VERSION], place.table.as_bytes(), place.record];
    parts.extend(place.field);
    framed(&parts)
}

/// Parts with their lengths before them, so that no two lists give the same bytes.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn describe(source: &SecretSource) -> String {
    match source {
        SecretSource::File(path) => format!("the file {}", path.display()),
        SecretSource::Env(name) => format!("the environment variable {name}"),
        SecretSource::Credential(name) => format!("the systemd credential {name}"),
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const PLACE: Place<'static> = Place { table: "accounts", record: b"1", field: &[b"password", b"home"] };

    fn sealer(byte: u8) -> Sealer {
        MasterKey(Secret::new([byte; 32])).sealer()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place() {
        let sealed = sealer(1).seal(PLACE, b"hunter2").expect("sealed");
        assert!(!sealed.contains("hunter2"));
        assert_eq!(sealer(1).open(PLACE, &sealed).expect("opened").expose(), "hunter2");
    }

    #[test]
    fn a_sealed_value_opens_in_no_other_place_and_under_no_other_key() {
        let sealed = sealer(1).seal(PLACE, b"hunter2").expect("sealed");
        for other in [
            Place { table: "sessions", ..PLACE },
            Place { record: b"2", ..PLACE },
            Place { field: &[b"password", b"away"], ..PLACE },
            Place { field: &[b"passwordhome"], ..PLACE },
        ] {
            assert!(sealer(1).open(other, &sealed).is_err(), "{other:?}");
        }
        assert!(sealer(2).open(PLACE, &sealed).is_err());
    }

    #[test]
    fn sealing_twice_never_gives_the_same_text() {
        assert_ne!(sealer(1).seal(PLACE, b"x").expect("sealed"), sealer(1).seal(PLACE, b"x").expect("sealed"));
    }

    #[test]
    fn both_text_forms_of_a_master_key_are_read() {
        let hex = MasterKey::parse(&"07".repeat(32).as_str().into()).expect("hex");
        let base64 = MasterKey::parse(&format!("{}\n", STANDARD.encode([7; 32])).into()).expect("base64");
        assert_eq!(hex.0.expose(), base64.0.expose());
        for wrong in ["", "short", "zz", &"z".repeat(64), &"é".repeat(32)] {
            assert!(MasterKey::parse(&wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_credential_that_only_the_service_has_is_not_called_lost() {
        let source = SecretSource::Credential("master-key".to_owned());
        let error = MasterKey::obtain(&source, &MasterKeyText::Missing, true).expect_err("none is made").to_string();
        assert!(error.contains("systemd hands it to the service only"), "{error}");
    }

    #[test]
    fn a_new_store_gets_a_key_file_that_opens_it_again() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join("secrets/master.key");
        let source = SecretSource::File(path.clone());
        let (made, warning) = MasterKey::obtain(&source, &MasterKeyText::Missing, false).expect("made");
        assert_eq!(warning, None);
        assert_eq!(std::fs::metadata(&path).expect("file").mode() & 0o777, 0o600);
        let text = MasterKeyText::Found(std::fs::read_to_string(&path).expect("text").into());
        let (read, _) = MasterKey::obtain(&source, &text, true).expect("read");
        assert_eq!(made.0.expose(), read.0.expose());
    }

    #[test]
    fn a_store_without_its_key_is_refused_and_given_none() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join("master.key");
        let refused = MasterKey::obtain(&SecretSource::File(path.clone()), &MasterKeyText::Missing, true).expect_err("refused");
        assert!(refused.to_string().contains("restore it"), "{refused}");
        assert!(!path.exists());
    }

    #[test]
    fn no_key_is_made_for_a_variable_or_a_credential() {
        for source in [SecretSource::Env("KEY".to_owned()), SecretSource::Credential("key".to_owned())] {
            assert!(MasterKey::obtain(&source, &MasterKeyText::Missing, false).is_err());
        }
    }

    #[test]
    fn a_key_from_the_environment_is_taken_with_a_warning() {
        let text = MasterKeyText::Found("07".repeat(32).into());
        let (_, warning) = MasterKey::obtain(&SecretSource::Env("KEY".to_owned()), &text, true).expect("taken");
        assert!(warning.expect("a warning").contains("KEY"));
    }
}
