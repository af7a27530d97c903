//! The bytes of a record: one version byte, then JSON; and the fixed binary form of index entries, of which a million must load
//! within a second.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::keys::{KeyDigest, KeyId, Scopes};
use crate::limits::Limits;
use crate::secret::Secret;
use crate::store::records::{AccountRecord, SessionRecord};
use crate::store::seal::{Place, SealError, Sealer};
use crate::upstream::session::SessionId;
use crate::upstream::{AccountId, Credential, UpstreamName};

pub(super) const ACCOUNTS: &str = "accounts";
pub(super) const SESSIONS: &str = "sessions";

/// Lifts a record from one version to the next.
pub(super) type Upgrade = fn(Value) -> Result<Value, serde_json::Error>;

/// A record's form: which version is written, and how older ones become it.
pub(super) struct Format {
    /// Version of the oldest records that are still read.
    pub(super) oldest: u8,
    /// `upgrades[i]` lifts version `oldest + i` to the next one.
    pub(super) upgrades: &'static [Upgrade],
}

pub(super) const KEY_FORMAT: Format = Format { oldest: 1, upgrades: &[] };
pub(super) const ADMIN_TOKEN_FORMAT: Format = Format { oldest: 1, upgrades: &[] };
const ACCOUNT_FORMAT: Format = Format { oldest: 1, upgrades: &[] };
const SESSION_FORMAT: Format = Format { oldest: 1, upgrades: &[] };

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// No bytes.
    #[error("a record is empty")]
    Empty,
    /// A later keygate wrote it.
    #[error("a record of version {0} comes from a newer keygate; use that one, or restore a backup of before the update")]
    Newer(u8),
    /// An earlier keygate than any wrote it.
    #[error("a record has the unknown version {0}")]
    Unknown(u8),
    /// Not the form that its version has.
    #[error("a record is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// An index entry of the wrong length.
    #[error("an index entry is damaged")]
    Entry,
    /// A sealed field.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Format {
    fn current(&self) -> u8 {
        self.oldest.saturating_add(u8::try_from(self.upgrades.len()).unwrap_or(u8::MAX))
    }

    /// Writes a record in the current version.
    pub(super) fn encode<T: Serialize>(&self, record: &T) -> Result<Vec<u8>, RecordError> {
        let mut bytes = vec![self.current()];
        serde_json::to_writer(&mut bytes, record)?;
        Ok(bytes)
    }

    /// Reads a record of any known version.
    pub(super) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, RecordError> {
        let (&version, json) = bytes.split_first().ok_or(RecordError::Empty)?;
        if version == self.current() {
            return Ok(serde_json::from_slice(json)?);
        }
        if version > self.current() {
            return Err(RecordError::Newer(version));
        }
        let first = version.checked_sub(self.oldest).ok_or(RecordError::Unknown(version))?;
        let lifted = self.upgrades[usize::from(first)..].iter().try_fold(serde_json::from_slice(json)?, |value, upgrade| upgrade(value))?;
        Ok(serde_json::from_value(lifted)?)
    }
}

/// A key's record from its bytes.
pub(super) fn decode_key(bytes: &[u8]) -> Result<KeyRecord, RecordError> {
    KEY_FORMAT.decode(bytes)
}

/// Bytes before the name in an index entry: id, account, expiry, flags, scopes; integers little-endian. Between them and the name stand the
/// libraries of a key that is confined to some: their length in four bytes, and each with a line feed after it; then the limits of a key
/// that has some: their length in four bytes, and JSON.
const ENTRY_HEAD: usize = 8 + 4 + 8 + 1 + 2;
const ACTIVE: u8 = 1 << 0;
const CONFINED: u8 = 1 << 1;
const LIMITED: u8 = 1 << 2;

/// The value of the index table; its key is the digest.
pub(super) fn encode_entry(entry: &IndexEntry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_HEAD + entry.name.len());
    bytes.extend_from_slice(&entry.id.as_u64().to_le_bytes());
    bytes.extend_from_slice(&entry.account.0.to_le_bytes());
    bytes.extend_from_slice(&entry.expires_at.as_millis().to_le_bytes());
    let limits = (!entry.limits.is_none()).then(|| serde_json::to_string(&entry.limits).unwrap_or_default());
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    bytes.push(flag(entry.is_active, ACTIVE) | flag(entry.libraries.is_some(), CONFINED) | flag(limits.is_some(), LIMITED));
    bytes.extend_from_slice(&entry.scopes.bits().to_le_bytes());
    if let Some(libraries) = &entry.libraries {
        let text = libraries.iter().fold(String::new(), |text, id| text + id + "\n");
        put_text(&mut bytes, &text);
    }
    if let Some(limits) = limits {
        put_text(&mut bytes, &limits);
    }
    bytes.extend_from_slice(entry.name.as_bytes());
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads what [`encode_entry`] wrote.
pub(super) fn decode_entry(digest: [u8; 32], bytes: &[u8]) -> Result<IndexEntry, RecordError> {
    let (id, rest) = bytes.split_first_chunk::<8>().ok_or(RecordError::Entry)?;
    let (account, rest) = rest.split_first_chunk::<4>().ok_or(RecordError::Entry)?;
    let (expires_at, rest) = rest.split_first_chunk::<8>().ok_or(RecordError::Entry)?;
    let (&flags, rest) = rest.split_first().ok_or(RecordError::Entry)?;
    let (scopes, rest) = rest.split_first_chunk::<2>().ok_or(RecordError::Entry)?;
    if flags & !(ACTIVE | CONFINED | LIMITED) != 0 {
        return Err(RecordError::Entry);
    }
    let (libraries, rest) = if flags & CONFINED == 0 { (None, rest) } else { decode_libraries(rest)? };
    let (limits, name) = if flags & LIMITED == 0 { (Limits::default(), rest) } else { decode_limits(rest)? };
    Ok(IndexEntry {
        digest: KeyDigest::from_bytes(digest),
        id: KeyId::from_u64(u64::from_le_bytes(*id)),
        account: AccountId(u32::from_le_bytes(*account)),
        expires_at: Timestamp::from_millis(i64::from_le_bytes(*expires_at)),
        is_active: flags & ACTIVE != 0,
        scopes: Scopes::from_bits(u16::from_le_bytes(*scopes)).ok_or(RecordError::Entry)?,
        libraries,
        limits,
        name: std::str::from_utf8(name).map_err(|_| RecordError::Entry)?.to_owned(),
    })
}

/// A text with its length before it, and what comes after.
fn take_text(bytes: &[u8]) -> Result<(&str, &[u8]), RecordError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(RecordError::Entry)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| RecordError::Entry)?;
    let (text, rest) = rest.split_at_checked(length).ok_or(RecordError::Entry)?;
    Ok((std::str::from_utf8(text).map_err(|_| RecordError::Entry)?, rest))
}

/// The libraries before a name, and what comes after.
fn decode_libraries(bytes: &[u8]) -> Result<(Option<Vec<String>>, &[u8]), RecordError> {
    let (text, rest) = take_text(bytes)?;
    Ok((Some(text.split_terminator('\n').map(str::to_owned).collect()), rest))
}

/// The limits before a name, and the name.
fn decode_limits(bytes: &[u8]) -> Result<(Limits, &[u8]), RecordError> {
    let (text, rest) = take_text(bytes)?;
    Ok((serde_json::from_str(text)?, rest))
}

/// An account as it lies in the store.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    id: AccountId,
    upstream: UpstreamName,
    name: String,
    method: Method,
    sealed: String,
    device_id: String,
    user_id: Option<String>,
    created_at: Timestamp,
    broken: Option<String>,
    #[serde(default)]
    is_administrator: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Password,
    Token,
    Minted,
}

impl StoredAccount {
    /// The credential is bound to the upstream and the user that it is for: nobody can redirect it by altering the record.
    fn open(self, sealer: &Sealer) -> Result<AccountRecord, RecordError> {
        let secret = sealer.open(
            Place {
                table: ACCOUNTS,
                record: &self.id.0.to_be_bytes(),
                field: &[method_word(self.method), self.upstream.as_str().as_bytes(), self.name.as_bytes()],
            },
            &self.sealed,
        )?;
        Ok(AccountRecord {
            id: self.id,
            upstream: self.upstream,
            name: self.name,
            credential: match self.method {
                Method::Password => Credential::Password(secret),
                Method::Token => Credential::Token(secret),
                Method::Minted => Credential::Minted { user_id: secret.expose().clone() },
            },
            device_id: self.device_id,
            user_id: self.user_id,
            created_at: self.created_at,
            broken: self.broken,
            is_administrator: self.is_administrator,
        })
    }
}

const fn method_word(method: Method) -> &'static [u8] {
    match method {
        Method::Password => b"password",
        Method::Token => b"token",
        Method::Minted => b"minted",
    }
}

/// The bytes of an account, its credential sealed.
pub(super) fn encode_account(sealer: &Sealer, account: &AccountRecord) -> Result<Vec<u8>, RecordError> {
    let (method, secret) = match &account.credential {
        Credential::Password(secret) => (Method::Password, secret.expose()),
        Credential::Token(secret) => (Method::Token, secret.expose()),
        // No secret, but sealed as if it were one: whose sessions are made must not be for others to write.
        Credential::Minted { user_id } => (Method::Minted, user_id),
    };
    let field = [method_word(method), account.upstream.as_str().as_bytes(), account.name.as_bytes()];
    let place = Place { table: ACCOUNTS, record: &account.id.0.to_be_bytes(), field: &field };
    ACCOUNT_FORMAT.encode(&StoredAccount {
        id: account.id,
        upstream: account.upstream.clone(),
        name: account.name.clone(),
        method,
        sealed: sealer.seal(place, secret.as_bytes())?,
        device_id: account.device_id.clone(),
        user_id: account.user_id.clone(),
        created_at: account.created_at,
        broken: account.broken.clone(),
        is_administrator: account.is_administrator,
    })
}

/// An account from its bytes.
pub(super) fn decode_account(sealer: &Sealer, bytes: &[u8]) -> Result<AccountRecord, RecordError> {
    ACCOUNT_FORMAT.decode::<StoredAccount>(bytes)?.open(sealer)
}

/// A session as it lies in the store.
#[derive(Serialize, Deserialize)]
struct StoredSession {
    account: AccountId,
    key: Option<KeyId>,
    generation: u64,
    token: String,
    refresh_token: Option<String>,
    other_secrets: Vec<String>,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    minted_id: Option<String>,
}

/// Table key of a session: account, whether it is a key's, the key; big-endian, so that an account's sessions lie together.
pub(super) fn session_key(id: SessionId) -> [u8; 13] {
    let mut bytes = [0; 13];
    bytes[..4].copy_from_slice(&id.account.0.to_be_bytes());
    if let Some(key) = id.key {
        bytes[4] = 1;
        bytes[5..].copy_from_slice(&key.as_u64().to_be_bytes());
    }
    bytes
}

/// First and last table key that an account's sessions can have.
pub(super) fn session_range(account: AccountId) -> ([u8; 13], [u8; 13]) {
    let (mut first, mut last) = ([0; 13], [0xff; 13]);
    first[..4].copy_from_slice(&account.0.to_be_bytes());
    last[..4].copy_from_slice(&account.0.to_be_bytes());
    (first, last)
}

/// The bytes of a session, its tokens sealed.
pub(super) fn encode_session(sealer: &Sealer, session: &SessionRecord) -> Result<Vec<u8>, RecordError> {
    let record = session_key(session.id);
    let generation = session.generation.to_le_bytes();
    let seal = |field: &[u8], secret: &Secret<String>| {
        sealer.seal(Place { table: SESSIONS, record: &record, field: &[field, &generation] }, secret.expose().as_bytes())
    };
    SESSION_FORMAT.encode(&StoredSession {
        account: session.id.account,
        key: session.id.key,
        generation: session.generation,
        token: seal(b"token", &session.token)?,
        refresh_token: session.refresh_token.as_ref().map(|secret| seal(b"refresh_token", secret)).transpose()?,
        other_secrets: session.other_secrets.iter().map(|secret| seal(b"other", secret)).collect::<Result<_, _>>()?,
        obtained_at: session.obtained_at,
        expires_at: session.expires_at,
        minted_id: session.minted_id.clone(),
    })
}

/// A session from its bytes.
pub(super) fn decode_session(sealer: &Sealer, bytes: &[u8]) -> Result<SessionRecord, RecordError> {
    let stored: StoredSession = SESSION_FORMAT.decode(bytes)?;
    let id = SessionId { account: stored.account, key: stored.key };
    let record = session_key(id);
    let generation = stored.generation.to_le_bytes();
    let open = |field: &[u8], sealed: &str| sealer.open(Place { table: SESSIONS, record: &record, field: &[field, &generation] }, sealed);
    Ok(SessionRecord {
        id,
        generation: stored.generation,
        token: open(b"token", &stored.token)?,
        refresh_token: stored.refresh_token.as_deref().map(|sealed| open(b"refresh_token", sealed)).transpose()?,
        other_secrets: stored.other_secrets.iter().map(|sealed| open(b"other", sealed)).collect::<Result<_, _>>()?,
        obtained_at: stored.obtained_at,
        expires_at: stored.expires_at,
        minted_id: stored.minted_id,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::Scope;
    use crate::store::seal::MasterKey;

    fn sealer() -> Sealer {
        MasterKey::parse(&"07".repeat(32).into()).expect("master key").sealer()
    }

    fn account() -> AccountRecord {
        AccountRecord {
            id: AccountId(3),
            upstream: UpstreamName::new("home"),
            name: "alice".to_owned(),
            credential: Credential::Password("hunter2".into()),
            device_id: "0".repeat(32),
            user_id: None,
            created_at: Timestamp::from_millis(1),
            broken: None,
            is_administrator: false,
        }
    }

    #[test]
    fn an_older_record_is_lifted_to_the_current_version() {
        let format = Format {
            oldest: 0,
            upgrades: &[|mut value| {
                value["name"] = value["title"].take();
                Ok(value)
            }],
        };
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let old: Named = format.decode(b"\0{\"title\":\"tv\"}").expect("lifted");
        assert_eq!(old.name, "tv");
        let new: Named = format.decode(b"\x01{\"name\":\"tv\"}").expect("current");
        assert_eq!(new.name, "tv");
        assert!(matches!(format.decode::<Named>(b"\x02{}"), Err(RecordError::Newer(2))));
    }

    #[test]
    fn a_version_before_the_first_is_refused() {
        assert!(matches!(decode_key(b"\0{}"), Err(RecordError::Unknown(0))));
    }

    #[test]
    fn a_credential_does_not_open_for_another_upstream_or_user() {
        let bytes = encode_account(&sealer(), &account()).expect("encoded");
        assert!(decode_account(&sealer(), &bytes).is_ok());
        let text = String::from_utf8(bytes).expect("JSON");
        for altered in [text.replace("\"home\"", "\"evil\""), text.replace("\"alice\"", "\"mallory\""), text.replace(":3,", ":4,")] {
            assert_ne!(altered, text);
            assert!(matches!(decode_account(&sealer(), altered.as_bytes()), Err(RecordError::Seal(SealError::Closed))));
        }
    }

    #[test]
    fn nobody_can_make_a_minted_account_mint_for_another_user_by_altering_its_record() {
        let minted = |user_id: &str| AccountRecord { credential: Credential::Minted { user_id: user_id.to_owned() }, ..account() };
        let bytes = encode_account(&sealer(), &minted("user-1")).expect("encoded");
        let Credential::Minted { user_id } = decode_account(&sealer(), &bytes).expect("decoded").credential else { panic!("not minted") };
        assert_eq!(user_id, "user-1");
        let text = String::from_utf8(bytes).expect("JSON");
        assert!(!text.contains("user-1"));
        let password = String::from_utf8(encode_account(&sealer(), &account()).expect("encoded")).expect("JSON");
        for altered in [text.replace("\"minted\"", "\"token\""), password.replace("\"password\"", "\"minted\"")] {
            assert!(matches!(decode_account(&sealer(), altered.as_bytes()), Err(RecordError::Seal(SealError::Closed))));
        }
    }

    #[test]
    fn an_index_entry_round_trips_and_unknown_scopes_are_not_guessed_at() {
        let entry = IndexEntry {
            digest: KeyDigest::from_bytes([9; 32]),
            id: KeyId::from_u64(77),
            account: AccountId(5),
            expires_at: Timestamp::from_millis(-4),
            is_active: true,
            scopes: Scopes::of(Scope::Admin),
            libraries: Some(vec!["lib".to_owned(), "f7".to_owned()]),
            limits: Limits { networks: Some(vec!["10.0.0.0/8".parse().expect("a network")]), ..Limits::default() },
            name: "Küche".to_owned(),
        };
        for libraries in [Some(Vec::new()), None, entry.libraries.clone()] {
            for limits in [Limits::default(), entry.limits.clone()] {
                let entry = IndexEntry { libraries: libraries.clone(), limits, ..entry.clone() };
                assert_eq!(decode_entry([9; 32], &encode_entry(&entry)).expect("decoded"), entry);
            }
        }
        let mut bytes = encode_entry(&entry);
        bytes[ENTRY_HEAD - 1] = 0x80;
        assert!(matches!(decode_entry([9; 32], &bytes), Err(RecordError::Entry)));
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..3) {
            let mut versioned = vec![version];
            versioned.extend_from_slice(&bytes);
            for bytes in [&bytes, &versioned] {
                let _ = decode_key(bytes);
                let _ = decode_account(&sealer(), bytes);
                let _ = decode_session(&sealer(), bytes);
                let _ = decode_entry([0; 32], bytes);
            }
        }
    }
}
