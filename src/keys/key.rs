//! The text of a key: `kg_<id>_<secret><checksum>`.
//!
//! | part | characters | what |
//! |---|---|---|
//! | `kg_` | 3 | marks it for people and for secret scanners |
//! | id | 10 of Crockford's base 32, lower case | public, may be logged |
//! | `_` | 1 | double-clicking selects across it |
//! | secret | 43 of base 62 | 256 random bits |
//! | checksum | 6 of base 62 | CRC-32 of all before it: a typing error is told from a guess before any look-up |

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::secret::Secret;

/// Length of a key's text in bytes.
pub const KEY_LEN: usize = 3 + ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;
const PREFIX: &str = "kg_";
pub(super) const ID_LEN: usize = 10;
pub(super) const SECRET_LEN: usize = 43;
pub(super) const CHECKSUM_LEN: usize = 6;
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of each byte as a digit of Crockford's base 32; 255 for none.
const DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
    let mut value = 0;
    while value < 32 {
        digits[CROCKFORD[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// Public id of a key: 50 random bits, shown as ten characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u64);

impl KeyId {
    /// From its number; bits above the fiftieth are cut.
    pub const fn from_u64(number: u64) -> Self {
        Self(number & ((1 << 50) - 1))
    }

    /// Its number, below 2^50.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A new random one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_u64(u64::from_le_bytes(bytes)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ID_LEN];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = CROCKFORD[usize::try_from(rest & 31).unwrap_or(0)];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or("??????????"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<Self, MalformedKey> {
        if text.len() != ID_LEN {
            return Err(MalformedKey::Shape);
        }
        let number = text.bytes().try_fold(0_u64, |number, byte| {
            let digit = DIGITS[usize::from(byte)];
            (digit < 32).then_some(number << 5 | u64::from(digit))
        });
        number.map(Self).ok_or(MalformedKey::Shape)
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedKey {
    /// It does not look like a key at all: perhaps an upstream token.
    #[error("not a keygate key (those begin with \"kg_\")")]
    Foreign,
    /// It begins like a key, but has the wrong length or alphabet.
    #[error("a keygate key that was cut off or altered: it must have {KEY_LEN} characters")]
    Shape,
    /// The checksum does not fit: a typing error.
    #[error("a keygate key with a typing error: its checksum does not fit")]
    Checksum,
}

/// A well-formed key as somebody presented it, or as it was just made. Whether it is known is another question.
pub struct ApiKey {
    text: [u8; KEY_LEN],
    id: KeyId,
}

impl ApiKey {
    /// Checks shape and checksum; allocates nothing.
    ///
    /// # Errors
    /// [`MalformedKey`].
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        if !Self::claims_to_be_one(text) {
            return Err(MalformedKey::Foreign);
        }
        let text: [u8; KEY_LEN] = text.as_bytes().try_into().map_err(|_| MalformedKey::Shape)?;
        let (body, checksum) = text.split_at(KEY_LEN - CHECKSUM_LEN);
        let (head, secret) = body.split_at(PREFIX.len() + ID_LEN + 1);
        if !head.starts_with(PREFIX.as_bytes()) || head.last() != Some(&b'_') || !secret.iter().all(u8::is_ascii_alphanumeric) {
            return Err(MalformedKey::Shape);
        }
        let id = std::str::from_utf8(&head[PREFIX.len()..PREFIX.len() + ID_LEN]).map_err(|_| MalformedKey::Shape)?.parse()?;
        if checksum != checksum_of(body) {
            return Err(MalformedKey::Checksum);
        }
        Ok(Self { text, id })
    }

    /// Whether a text in a carrier is meant as a keygate credential: everything that begins with `kg`, dead and malformed
    /// ones too. Such a text is judged here alone and never falls back to anything else.
    pub fn claims_to_be_one(text: &str) -> bool {
        text.starts_with("kg")
    }

    /// Makes a new key with this id.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate(id: KeyId) -> Result<Self, getrandom::Error> {
        let mut text = [0; KEY_LEN];
        text[..3].copy_from_slice(PREFIX.as_bytes());
        text[3..3 + ID_LEN].copy_from_slice(id.to_string().as_bytes());
        text[3 + ID_LEN] = b'_';
        fill_base62(&mut text[4 + ID_LEN..KEY_LEN - CHECKSUM_LEN])?;
        let checksum = checksum_of(&text[..KEY_LEN - CHECKSUM_LEN]);
        text[KEY_LEN - CHECKSUM_LEN..].copy_from_slice(&checksum);
        Ok(Self { text, id })
    }

    /// The public id within the key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The whole text, to be shown once.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(kg_{}_***)", self.id)
    }
}

impl Drop for ApiKey {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// Uniform characters by rejection: 248 is the largest multiple of 62 in a byte.
pub(super) fn fill_base62(out: &mut [u8]) -> Result<(), getrandom::Error> {
    let mut pool = [0; 64];
    let mut used = pool.len();
    for place in out {
        loop {
            if used == pool.len() {
                getrandom::fill(&mut pool)?;
                used = 0;
            }
            let byte = pool[used];
            used += 1;
            if byte < 248 {
                *place = BASE62[usize::from(byte % 62)];
                break;
            }
        }
    }
    pool.zeroize();
    Ok(())
}

pub(super) fn checksum_of(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut text = [b'0'; CHECKSUM_LEN];
    let mut rest = crc32fast::hash(body);
    for place in text.iter_mut().rev() {
        *place = BASE62[usize::try_from(rest % 62).unwrap_or(0)];
        rest /= 62;
    }
    text
}

/// Keyed hash of a key's text: all that is stored of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyDigest(#[serde(with = "hex_bytes")] pub(crate) [u8; 32]);

impl KeyDigest {
    /// From stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyDigest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(***)")
    }
}

/// Makes digests: HMAC-SHA-256 under a pepper that is sealed under the master key, so that a stolen store alone cannot even confirm a
/// guess. A slow hash would buy nothing for 256 random bits and would be a gift to a flood of bad keys.
#[derive(Clone)]
pub struct KeyHasher(Hmac<Sha256>);

impl KeyHasher {
    /// A hasher under this pepper.
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(pepper: &Secret<[u8; 32]>) -> Self {
        Self(Hmac::new_from_slice(pepper.expose()).expect("HMAC takes a key of any length"))
    }

    /// A fresh computation under the pepper.
    pub(super) fn mac(&self) -> Hmac<Sha256> {
        self.0.clone()
    }

    /// The digest of a key: of its id and its secret.
    pub fn digest(&self, key: &ApiKey) -> KeyDigest {
        let mut mac = self.0.clone();
        // Prefix and checksum follow from the rest. Without them the text and its padding fit into one block of the hash.
        mac.update(&key.text[PREFIX.len()..KEY_LEN - CHECKSUM_LEN]);
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(***)")
    }
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let text = bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(serde::de::Error::custom("a digest has 64 hex digits"));
        }
        // Not from_str_radix: that one takes a sign.
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(|| serde::de::Error::custom("a digest has 64 hex digits"))?;
            *byte = high << 4 | low;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ApiKey {
        ApiKey::generate(KeyId::from_u64(0x0001_2345_6789_abcd)).expect("random bytes")
    }

    #[test]
    fn a_generated_key_parses_and_keeps_its_id() {
        let key = sample();
        let parsed = ApiKey::parse(key.expose()).expect("well formed");
        assert_eq!(parsed.id(), key.id());
        assert_eq!(key.expose().len(), KEY_LEN);
    }

    #[test]
    fn any_one_altered_character_is_noticed() {
        let key = sample();
        for place in 0..KEY_LEN {
            let mut text = key.expose().as_bytes().to_vec();
            text[place] = if text[place] == b'0' { b'1' } else { b'0' };
            let text = String::from_utf8(text).expect("ASCII");
            assert!(ApiKey::parse(&text).is_err(), "altered at {place}");
        }
    }

    #[test]
    fn a_cut_off_key_is_told_from_a_foreign_token() {
        let key = sample();
        assert_eq!(ApiKey::parse(&key.expose()[..40]).err(), Some(MalformedKey::Shape));
        assert_eq!(ApiKey::parse("0123456789abcdef0123456789abcdef").err(), Some(MalformedKey::Foreign));
    }

    #[test]
    fn debug_shows_the_id_and_not_the_secret() {
        let key = sample();
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("ApiKey(kg_{}_***)", key.id()));
        assert!(!shown.contains(&key.expose()[14..18]));
    }

    #[test]
    fn a_text_with_another_prefix_is_no_key_though_its_checksum_fits() {
        let mut text = *sample().expose().as_bytes().first_chunk::<KEY_LEN>().expect("length");
        text[2] = b't';
        let checksum = checksum_of(&text[..KEY_LEN - CHECKSUM_LEN]);
        text[KEY_LEN - CHECKSUM_LEN..].copy_from_slice(&checksum);
        assert_eq!(ApiKey::parse(std::str::from_utf8(&text).expect("ASCII")).err(), Some(MalformedKey::Shape));
    }

    #[test]
    fn a_digest_is_read_from_64_hex_digits_only() {
        let digest: KeyDigest = serde_json::from_str(&format!("\"{}\"", "0a".repeat(32))).expect("hex");
        assert_eq!(digest.as_bytes(), &[10; 32]);
        for wrong in ["+a".repeat(32), "0g".repeat(32), "0a".repeat(31), "é".repeat(32)] {
            assert!(serde_json::from_str::<KeyDigest>(&format!("\"{wrong}\"")).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_whatever_makes_the_parser_panic(text in ".{0,80}", tail in "[0-9a-zA-Z_]{0,70}") {
            let _ = ApiKey::parse(&text);
            let _ = ApiKey::parse(&format!("kg_{tail}"));
            let _ = text.parse::<KeyId>();
        }
    }

    #[test]
    fn ids_round_trip_through_their_text() {
        for number in [0, 1, 31, 32, (1 << 50) - 1] {
            let id = KeyId::from_u64(number);
            assert_eq!(id.to_string().parse::<KeyId>().expect("own text"), id);
        }
    }

    #[test]
    fn digests_depend_on_the_pepper() {
        let key = sample();
        let one = KeyHasher::new(&Secret::new([1; 32])).digest(&key);
        let two = KeyHasher::new(&Secret::new([2; 32])).digest(&key);
        assert_ne!(one, two);
        assert_eq!(one, KeyHasher::new(&Secret::new([1; 32])).digest(&key));
    }
}
