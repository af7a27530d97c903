//! What certificates by ACME leave behind, and its bytes: an account's key and a certificate's key are sealed, each for what it is for.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::store::encode::{Format, RecordError};
use crate::store::seal::{Place, SealError, Sealer};

pub(super) const ACME: &str = "acme";
const FORMAT: Format = Format { oldest: 1, upgrades: &[] };

/// What is kept of ACME.
#[derive(Clone, Debug)]
pub enum AcmeRecord {
    /// An account at an ACME server.
    Account(AcmeAccount),
    /// A certificate that one gave.
    Certificate(AcmeCertificate),
    /// Why there is no newer one.
    Failure(AcmeFailure),
}

/// An account at an ACME server. Its credentials are sealed at rest.
#[derive(Clone, Debug)]
pub struct AcmeAccount {
    /// The server, by the URL of its directory.
    pub directory: String,
    /// The account of another kind that it belongs to (RFC 8555, section 7.3.4), by that server's name of it.
    pub eab_kid: Option<String>,
    /// Whom the server writes to, as it knows them.
    pub contact: Vec<String>,
    /// Its private key and URL, in the form of `instant_acme::AccountCredentials`.
    pub credentials: Secret<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A certificate and its private key, which is sealed at rest.
#[derive(Clone, Debug)]
pub struct AcmeCertificate {
    /// The server, by the URL of its directory.
    pub directory: String,
    /// The names that were asked for, sorted.
    pub domains: Vec<String>,
    /// The profile that was asked for.
    pub profile: Option<String>,
    /// PEM, leaf first.
    pub chain: String,
    /// PEM.
    pub key: Secret<String>,
    /// When it was obtained.
    pub obtained_at: Timestamp,
}

/// Why there is no newer certificate, and when the next try is. There is one of these: the last failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeFailure {
    /// What was wanted, as a fingerprint of the settings.
    pub wanted: String,
    /// Failures in a row.
    pub count: u32,
    /// For people.
    pub sentence: String,
    /// Not before this moment.
    pub next: Timestamp,
}

impl AcmeRecord {
    /// The id of the last failure.
    pub fn failure_id() -> [u8; 32] {
        Self::Failure(AcmeFailure { wanted: String::new(), count: 0, sentence: String::new(), next: Timestamp::from_millis(0) }).id()
    }

    /// The same for all records for one purpose: a later one takes the place of the one before.
    pub fn id(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        match self {
            Self::Account(account) => {
                part("account");
                part(&account.directory);
                part(account.eab_kid.as_deref().unwrap_or_default());
            }
            Self::Certificate(certificate) => {
                part("certificate");
                part(&certificate.directory);
                part(certificate.profile.as_deref().unwrap_or_default());
                certificate.domains.iter().for_each(|domain| part(domain));
            }
            Self::Failure(_) => part("failure"),
        }
        hasher.finalize().into()
    }
}

/// As it lies in the store, below its id.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Account { directory: String, eab_kid: Option<String>, contact: Vec<String>, credentials: String, created_at: Timestamp },
    Certificate { directory: String, domains: Vec<String>, profile: Option<String>, chain: String, key: String, obtained_at: Timestamp },
    Failure { wanted: String, count: u32, sentence: String, next: Timestamp },
}

/// The id says what a secret is for: what was sealed for one account or certificate opens for no other.
fn place<'a>(id: &'a [u8; 32], field: &'a [&'a [u8]]) -> Place<'a> {
    Place { table: ACME, record: id, field }
}

const CREDENTIALS: &[&[u8]] = &[b"credentials"];
const KEY: &[&[u8]] = &[b"key"];

/// The bytes of a record.
pub(super) fn encode(sealer: &Sealer, record: &AcmeRecord) -> Result<Vec<u8>, RecordError> {
    let id = record.id();
    let seal = |field, secret: &Secret<String>| sealer.seal(place(&id, field), secret.expose().as_bytes());
    FORMAT.encode(&match record {
        AcmeRecord::Account(account) => Stored::Account {
            directory: account.directory.clone(),
            eab_kid: account.eab_kid.clone(),
            contact: account.contact.clone(),
            credentials: seal(CREDENTIALS, &account.credentials)?,
            created_at: account.created_at,
        },
        AcmeRecord::Certificate(certificate) => Stored::Certificate {
            directory: certificate.directory.clone(),
            domains: certificate.domains.clone(),
            profile: certificate.profile.clone(),
            chain: certificate.chain.clone(),
            key: seal(KEY, &certificate.key)?,
            obtained_at: certificate.obtained_at,
        },
        AcmeRecord::Failure(AcmeFailure { wanted, count, sentence, next }) => {
            Stored::Failure { wanted: wanted.clone(), count: *count, sentence: sentence.clone(), next: *next }
        }
    })
}

/// A record from its id and bytes.
pub(super) fn decode(sealer: &Sealer, id: [u8; 32], bytes: &[u8]) -> Result<AcmeRecord, RecordError> {
    let open = |field, sealed: &str| sealer.open(place(&id, field), sealed);
    let record = match FORMAT.decode(bytes)? {
        Stored::Account { directory, eab_kid, contact, credentials, created_at } => {
            let credentials = open(CREDENTIALS, &credentials)?;
            AcmeRecord::Account(AcmeAccount { directory, eab_kid, contact, credentials, created_at })
        }
        Stored::Certificate { directory, domains, profile, chain, key, obtained_at } => {
            let key = open(KEY, &key)?;
            AcmeRecord::Certificate(AcmeCertificate { directory, domains, profile, chain, key, obtained_at })
        }
        Stored::Failure { wanted, count, sentence, next } => AcmeRecord::Failure(AcmeFailure { wanted, count, sentence, next }),
    };
    // Its secret was sealed for this id, and now stands beside another purpose.
    if record.id() == id { Ok(record) } else { Err(RecordError::Seal(SealError::Closed)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::seal::MasterKey;

    fn sealer() -> Sealer {
        MasterKey::parse(&"07".repeat(32).into()).expect("master key").sealer()
    }

    fn records() -> [AcmeRecord; 2] {
        let account = AcmeAccount {
            directory: "https://acme.test/dir".to_owned(),
            eab_kid: Some("kid-1".to_owned()),
            contact: vec!["ann@example.org".to_owned()],
            credentials: "the-account-key".into(),
            created_at: Timestamp::from_millis(1),
        };
        let certificate = AcmeCertificate {
            directory: "https://acme.test/dir".to_owned(),
            domains: vec!["media.example.org".to_owned()],
            profile: None,
            chain: "-----BEGIN CERTIFICATE-----".to_owned(),
            key: "the-certificate-key".into(),
            obtained_at: Timestamp::from_millis(2),
        };
        [AcmeRecord::Account(account), AcmeRecord::Certificate(certificate)]
    }

    #[test]
    fn keys_are_sealed_and_open_for_no_other_server_and_no_other_name() {
        for record in records() {
            let bytes = encode(&sealer(), &record).expect("encoded");
            let text = String::from_utf8(bytes.clone()).expect("JSON");
            assert!(!text.contains("the-account-key") && !text.contains("the-certificate-key"), "{text}");
            assert_eq!(format!("{:?}", decode(&sealer(), record.id(), &bytes).expect("decoded")), format!("{record:?}"));
            assert!(matches!(decode(&sealer(), [9; 32], &bytes), Err(RecordError::Seal(SealError::Closed))));
            let altered = text.replace("acme.test", "evil.test").replace("media.example.org", "evil.example.org");
            assert_ne!(altered, text);
            assert!(matches!(decode(&sealer(), record.id(), altered.as_bytes()), Err(RecordError::Seal(SealError::Closed))));
        }
    }

    #[test]
    fn of_failures_there_is_one() {
        let next = Timestamp::from_millis(7);
        let failure = AcmeFailure { wanted: "ab".to_owned(), count: 3, sentence: "the name is wrong".to_owned(), next };
        let record = AcmeRecord::Failure(failure.clone());
        assert_eq!(record.id(), AcmeRecord::failure_id());
        let bytes = encode(&sealer(), &record).expect("encoded");
        let AcmeRecord::Failure(read) = decode(&sealer(), record.id(), &bytes).expect("decoded") else { panic!("a failure") };
        assert_eq!(read, failure);
        assert!(records().iter().all(|other| other.id() != record.id()));
    }

    #[test]
    fn the_id_tells_purposes_apart() {
        let [account, certificate] = records();
        let AcmeRecord::Certificate(one) = certificate.clone() else { panic!("a certificate") };
        let joined = AcmeCertificate { domains: vec!["a".to_owned(), "b".to_owned()], ..one.clone() };
        let apart = AcmeCertificate { domains: vec!["ab".to_owned()], ..one.clone() };
        let short = AcmeCertificate { profile: Some("shortlived".to_owned()), ..one };
        let mut ids: Vec<_> = [joined, apart, short].map(|one| AcmeRecord::Certificate(one).id()).to_vec();
        ids.extend([account.id(), certificate.id()]);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5);
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
