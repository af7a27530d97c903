//! Admin tokens: what programs prove themselves with at the admin listener. They have the shape of keys, under another prefix, and are
//! good for nothing else: no key is an admin token, and no admin token a key.

use std::fmt;

use hmac::Mac;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::keys::key::{CHECKSUM_LEN, ID_LEN, SECRET_LEN, checksum_of, fill_base62};
use crate::keys::{KeyDigest, KeyHasher, KeyId, MalformedKey};
use crate::secret::Secret;

const PREFIX: &str = "kga_";
/// Length of a token's text in bytes.
pub const ADMIN_TOKEN_LEN: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;

/// A well-formed admin token as somebody presented it, or as it was just made: `kga_<id>_<secret><checksum>`.
pub struct AdminToken {
    text: Secret<String>,
    id: KeyId,
}

impl AdminToken {
    /// Checks shape and checksum.
    ///
    /// # Errors
    /// [`MalformedKey`].
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let rest = text.strip_prefix(PREFIX).ok_or(MalformedKey::Foreign)?;
        if text.len() != ADMIN_TOKEN_LEN || !rest.is_ascii() {
            return Err(MalformedKey::Shape);
        }
        let (id, secret) = rest.split_once('_').ok_or(MalformedKey::Shape)?;
        let id = id.parse()?;
        if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(MalformedKey::Shape);
        }
        let (body, checksum) = text.split_at(ADMIN_TOKEN_LEN - CHECKSUM_LEN);
        if checksum.as_bytes() != checksum_of(body.as_bytes()) {
            return Err(MalformedKey::Checksum);
        }
        Ok(Self { text: text.into(), id })
    }

    /// Makes a new one with this id.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate(id: KeyId) -> Result<Self, getrandom::Error> {
        // At once as large as it gets: a buffer that grows leaves copies behind.
        let mut text = String::with_capacity(ADMIN_TOKEN_LEN);
        text.push_str(PREFIX);
        text.push_str(&id.to_string());
        text.push('_');
        text.push_str(random_text::<SECRET_LEN>()?.expose());
        let checksum = checksum_of(text.as_bytes());
        text.push_str(std::str::from_utf8(&checksum).unwrap_or_default());
        Ok(Self { text: Secret::new(text), id })
    }

    /// The public id within the token.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The whole text, to be shown once.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({PREFIX}{}_***)", self.id)
    }
}

/// So many random letters and digits, 5.95 bits each.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn random_text<const LENGTH: usize>() -> Result<Secret<String>, getrandom::Error> {
    let mut bytes = Secret::new([b'0'; LENGTH]);
    let mut filled = *bytes.expose();
    fill_base62(&mut filled)?;
    bytes = Secret::new(filled);
    Ok(Secret::new(String::from_utf8_lossy(bytes.expose()).into_owned()))
}

impl KeyHasher {
    /// The digest of an admin token. It begins with the token's prefix, which no digest of a key does.
    pub fn admin_token(&self, token: &AdminToken) -> KeyDigest {
        self.labelled("admin token/", token.expose())
    }

    /// What a person's password becomes before it is hashed slowly: without the pepper, which is sealed under the master key, a stolen
    /// store does not even allow to try passwords.
    pub fn peppered(&self, password: &str) -> Secret<[u8; 32]> {
        Secret::new(*self.labelled("admin password/", password).as_bytes())
    }

    /// No other digest's input begins with such a label: they begin with an id, and tickets with their prefix, without a slash.
    fn labelled(&self, label: &str, text: &str) -> KeyDigest {
        let mut mac = self.mac();
        mac.update(label.as_bytes());
        mac.update(text.as_bytes());
        KeyDigest::from_bytes(mac.finalize().into_bytes().into())
    }
}

/// What an admin token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminScope {
    /// Look at everything. Nothing that can be read at the admin listener is a secret.
    Read,
    /// Make, change and revoke keys, of whatever scope and account; and look.
    Keys,
    /// Add, change and remove accounts, and end their sessions; and look.
    Accounts,
    /// All of that, and admin tokens, sessions of the page, and reading the configuration again.
    All,
}

impl AdminScope {
    /// All of them.
    pub const EACH: [Self; 4] = [Self::Read, Self::Keys, Self::Accounts, Self::All];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Keys => "keys",
            Self::Accounts => "accounts",
            Self::All => "all",
        }
    }

    /// Whether holding this one is enough for what needs `needed`.
    pub fn covers(self, needed: Self) -> bool {
        self == needed || self == Self::All || needed == Self::Read
    }
}

impl std::str::FromStr for AdminScope {
    type Err = UnknownAdminScope;

    fn from_str(text: &str) -> Result<Self, UnknownAdminScope> {
        Self::EACH.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownAdminScope)
    }
}

/// A name that no scope of admin tokens has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("admin tokens have the scopes read, keys, accounts and all")]
pub struct UnknownAdminScope;

/// All of an admin token but its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminTokenRecord {
    /// Public id.
    pub id: KeyId,
    /// The operator's name of it, 1 to 200 bytes without control characters.
    pub name: String,
    /// Keyed hash of the text.
    pub digest: KeyDigest,
    /// At least one.
    pub scopes: Vec<AdminScope>,
    /// Dead from this moment on; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When and by whom it was made.
    pub created_at: Timestamp,
    /// "uid 1000", "admin page", …
    pub created_by: String,
    /// When it was used last; a minute may be missing.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked, for good.
    pub revoked_at: Option<Timestamp>,
}

impl AdminTokenRecord {
    /// Whether it is good at a moment.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether it may do what needs this scope.
    pub fn may(&self, needed: AdminScope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ApiKey;

    fn token() -> AdminToken {
        AdminToken::generate(KeyId::from_u64(77)).expect("random bytes")
    }

    #[test]
    fn a_generated_token_parses_and_any_altered_character_is_noticed() {
        let token = token();
        assert_eq!(AdminToken::parse(token.expose()).expect("well formed").id(), KeyId::from_u64(77));
        assert_eq!(token.expose().len(), ADMIN_TOKEN_LEN);
        for place in 0..ADMIN_TOKEN_LEN {
            let mut text = token.expose().as_bytes().to_vec();
            text[place] = if text[place] == b'0' { b'1' } else { b'0' };
            assert!(AdminToken::parse(std::str::from_utf8(&text).expect("ASCII")).is_err(), "altered at {place}");
        }
        assert!(!format!("{token:?}").contains(&token.expose()[20..]));
    }

    #[test]
    fn no_key_is_an_admin_token_and_no_admin_token_a_key() {
        let key = ApiKey::generate(KeyId::from_u64(77)).expect("random bytes");
        assert_eq!(AdminToken::parse(key.expose()).err(), Some(MalformedKey::Foreign));
        assert_eq!(ApiKey::parse(token().expose()).err(), Some(MalformedKey::Shape));
        assert!(ApiKey::claims_to_be_one(token().expose()), "the proxy must not take it for somebody else's");
    }

    #[test]
    fn a_scope_covers_itself_and_reading_and_only_one_covers_all() {
        let covered = |scope: AdminScope| AdminScope::EACH.map(|needed| scope.covers(needed));
        assert_eq!(covered(AdminScope::Read), [true, false, false, false]);
        assert_eq!(covered(AdminScope::Keys), [true, true, false, false]);
        assert_eq!(covered(AdminScope::Accounts), [true, false, true, false]);
        assert_eq!(covered(AdminScope::All), [true; 4]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}", tail in "[0-9a-zA-Z_]{0,70}") {
            let _ = AdminToken::parse(&text);
            let _ = AdminToken::parse(&format!("kga_{tail}"));
        }
    }
}
