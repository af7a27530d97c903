//! Media tickets: what stands in the URLs that keygate writes, in place of the key.
//!
//! `kgt_` and 28 URL-safe characters, 32 in all: as long as a session token of Emby and Jellyfin, so that one can take the place of the
//! other without changing the length of an answer.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use zeroize::Zeroize;

use crate::keys::{KeyDigest, KeyHasher, MalformedKey};

/// Length of a ticket's text in bytes.
pub const TICKET_LEN: usize = 32;
const PREFIX: &str = "kgt_";
/// 21 bytes are 28 characters of base 64, without padding.
const RANDOM_BYTES: usize = 21;

/// A well-formed ticket as somebody presented it, or as it was just made. Whether it is known is another question.
#[derive(Clone)]
pub struct Ticket([u8; TICKET_LEN]);

impl Ticket {
    /// Checks the shape; allocates nothing.
    ///
    /// # Errors
    /// [`MalformedKey`].
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let rest = text.strip_prefix(PREFIX).ok_or(MalformedKey::Foreign)?;
        if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(MalformedKey::Shape);
        }
        text.as_bytes().try_into().map(Self).map_err(|_| MalformedKey::Shape)
    }

    /// Whether a text in a carrier is meant as a ticket.
    pub fn claims_to_be_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Makes a new one: 168 random bits.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let mut text = [b'A'; TICKET_LEN];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        // The rest has exactly the room for it.
        let _ = URL_SAFE_NO_PAD.encode_slice(random, &mut text[PREFIX.len()..]);
        random.zeroize();
        Ok(Self(text))
    }

    /// The whole text, to be written into URLs.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(kgt_***)")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl KeyHasher {
    /// The digest of any other text that opens something: a ticket, an upstream's capability id. `domain` keeps equal texts of
    /// different meanings apart.
    pub fn digest_of(&self, domain: &str, text: &str) -> KeyDigest {
        let mut mac = self.mac();
        mac.update(domain.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        KeyDigest::from_bytes(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_ticket_parses_and_has_the_length_of_an_upstreams_token() {
        let ticket = Ticket::generate().expect("random bytes");
        assert_eq!(ticket.expose().len(), 32);
        assert_eq!(Ticket::parse(ticket.expose()).expect("well formed").expose(), ticket.expose());
        assert_ne!(Ticket::generate().expect("random bytes").expose(), ticket.expose());
    }

    #[test]
    fn what_is_no_ticket_is_told_from_a_damaged_one() {
        let good = Ticket::generate().expect("random bytes");
        assert_eq!(Ticket::parse("0123456789abcdef0123456789abcdef").err(), Some(MalformedKey::Foreign));
        for damaged in [&good.expose()[..31], "kgt_", "kgt_0123456789abcdef0123456789a.", "kgt_0123456789abcdef0123456789abc"] {
            assert_eq!(Ticket::parse(damaged).err(), Some(MalformedKey::Shape), "{damaged}");
        }
        assert_eq!(format!("{good:?}"), "Ticket(kgt_***)");
    }
}
