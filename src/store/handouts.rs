//! The bytes of a handout: as other records are, the id of a play session sealed.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::keys::{KeyDigest, KeyId};
use crate::store::encode::{Format, RecordError};
use crate::store::records::{Handed, HandoutRecord};
use crate::store::seal::{Place, Sealer};
use crate::upstream::{AccountId, UpstreamName};

pub(super) const HANDOUTS: &str = "handouts";
const FORMAT: Format = Format { oldest: 1, upgrades: &[] };

/// A handout as it lies in the store, below its digest.
#[derive(Serialize, Deserialize)]
struct Stored {
    what: StoredWhat,
    secret: KeyDigest,
    key: KeyId,
    account: AccountId,
    upstream: UpstreamName,
    created_at: Timestamp,
    last_used_at: Timestamp,
    is_taken_back: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredWhat {
    Ticket,
    PlaySession { sealed: String },
    Playback { item: String },
}

/// The id is bound to the upstream and the account that it is of.
fn place<'a>(digest: &'a KeyDigest, field: &'a [&'a [u8]]) -> Place<'a> {
    Place { table: HANDOUTS, record: digest.as_bytes(), field }
}

/// The bytes of a handout.
pub(super) fn encode(sealer: &Sealer, record: &HandoutRecord) -> Result<Vec<u8>, RecordError> {
    let what = match &record.what {
        Handed::Ticket => StoredWhat::Ticket,
        Handed::PlaySession(id) => {
            let account = record.account.0.to_be_bytes();
            let field: [&[u8]; 3] = [b"play_session", record.upstream.as_str().as_bytes(), &account];
            StoredWhat::PlaySession { sealed: sealer.seal(place(&record.digest, &field), id.expose().as_bytes())? }
        }
        Handed::Playback { item } => StoredWhat::Playback { item: item.clone() },
    };
    FORMAT.encode(&Stored {
        what,
        secret: record.secret.clone(),
        key: record.key,
        account: record.account,
        upstream: record.upstream.clone(),
        created_at: record.created_at,
        last_used_at: record.last_used_at,
        is_taken_back: record.is_taken_back,
    })
}

/// A handout from its digest and bytes.
pub(super) fn decode(sealer: &Sealer, digest: [u8; 32], bytes: &[u8]) -> Result<HandoutRecord, RecordError> {
    let stored: Stored = FORMAT.decode(bytes)?;
    let digest = KeyDigest::from_bytes(digest);
    let what = match stored.what {
        StoredWhat::Ticket => Handed::Ticket,
        StoredWhat::PlaySession { sealed } => {
            let account = stored.account.0.to_be_bytes();
            let field: [&[u8]; 3] = [b"play_session", stored.upstream.as_str().as_bytes(), &account];
            Handed::PlaySession(sealer.open(place(&digest, &field), &sealed)?)
        }
        StoredWhat::Playback { item } => Handed::Playback { item },
    };
    Ok(HandoutRecord {
        digest,
        what,
        secret: stored.secret,
        key: stored.key,
        account: stored.account,
        upstream: stored.upstream,
        created_at: stored.created_at,
        last_used_at: stored.last_used_at,
        is_taken_back: stored.is_taken_back,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::seal::{MasterKey, SealError};

    fn sealer() -> Sealer {
        MasterKey::parse(&"07".repeat(32).into()).expect("master key").sealer()
    }

    #[test]
    fn the_id_of_a_play_session_is_sealed_and_opens_for_no_other_account() {
        let record = HandoutRecord {
            digest: KeyDigest::from_bytes([1; 32]),
            what: Handed::PlaySession("0bcd8d8f-66fb-498c".into()),
            secret: KeyDigest::from_bytes([2; 32]),
            key: KeyId::from_u64(3),
            account: AccountId(4),
            upstream: UpstreamName::new("home"),
            created_at: Timestamp::from_millis(5),
            last_used_at: Timestamp::from_millis(6),
            is_taken_back: false,
        };
        let bytes = encode(&sealer(), &record).expect("encoded");
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        assert!(!text.contains("0bcd8d8f"), "{text}");
        assert!(decode(&sealer(), [1; 32], &bytes).is_ok());
        assert!(matches!(decode(&sealer(), [9; 32], &bytes), Err(RecordError::Seal(SealError::Closed))));
        for altered in [text.replace("\"account\":4", "\"account\":5"), text.replace("\"home\"", "\"evil\"")] {
            assert_ne!(altered, text);
            assert!(matches!(decode(&sealer(), [1; 32], altered.as_bytes()), Err(RecordError::Seal(SealError::Closed))));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut versioned = vec![1];
            versioned.extend_from_slice(&bytes);
            let _ = (decode(&sealer(), [0; 32], &bytes), decode(&sealer(), [0; 32], &versioned));
        }
    }
}
