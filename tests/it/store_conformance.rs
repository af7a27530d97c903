//! What every store must do, run over every store; and what the one on disk must survive and refuse.
#![expect(clippy::expect_used, reason = "helpers of tests fail loudly")]

mod audit;
mod on_disk;

use std::sync::Arc;

use keygate::clock::Timestamp;
use keygate::keys::admin::{AdminScope, AdminTokenRecord};
use keygate::keys::record::{IndexEntry, KeyRecord, PreviousSecret};
use keygate::keys::{KeyDigest, KeyId, Scopes};
use keygate::store::acme::{AcmeAccount, AcmeCertificate, AcmeFailure, AcmeRecord};
use keygate::store::memory::MemoryStore;
use keygate::store::records::{AccountRecord, Handed, HandoutRecord, SessionRecord};
use keygate::store::{Change, Store};
use keygate::upstream::session::SessionId;
use keygate::upstream::{AccountId, Credential, UpstreamName};

use self::on_disk::OnDisk;

/// Runs a behaviour over every store.
fn with_every_store(behaviour: impl Fn(&dyn Store)) {
    behaviour(&MemoryStore::new());
    behaviour(&OnDisk::new().create());
}

fn key(number: u64) -> KeyRecord {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    KeyRecord {
        id: KeyId::from_u64(number),
        name: format!("key {number}"),
        account: AccountId(1),
        digest: KeyDigest::from_bytes(digest),
        previous: None,
        expires_at: None,
        is_active: true,
        scopes: Scopes::ALL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_at: Timestamp::from_millis(1_000),
        created_by: "cli".to_owned(),
        updated_at: Timestamp::from_millis(1_000),
        revoked_at: None,
        reborn_at: None,
    }
}

fn account(number: u32) -> AccountRecord {
    AccountRecord {
        id: AccountId(number),
        upstream: UpstreamName::new("home"),
        name: format!("user{number}"),
        credential: Credential::Password("correct horse battery".into()),
        device_id: "0123456789abcdef".repeat(2),
        user_id: Some("u-1".to_owned()),
        created_at: Timestamp::from_millis(1_000),
        broken: Some("refused".to_owned()),
        is_administrator: number == 2,
    }
}

fn session(account: u32, key: Option<u64>) -> SessionRecord {
    SessionRecord {
        id: SessionId { account: AccountId(account), key: key.map(KeyId::from_u64) },
        generation: 7,
        token: "upstream-session-token".into(),
        refresh_token: Some("upstream-refresh-token".into()),
        other_secrets: vec!["upstream-legacy-token".into()],
        obtained_at: Timestamp::from_millis(1_000),
        expires_at: Some(Timestamp::from_millis(9_000)),
        minted_id: Some("minted-1".to_owned()),
    }
}

fn handout(number: u8, what: Handed) -> HandoutRecord {
    HandoutRecord {
        digest: KeyDigest::from_bytes([number; 32]),
        what,
        secret: KeyDigest::from_bytes([99; 32]),
        key: KeyId::from_u64(5),
        account: AccountId(1),
        upstream: UpstreamName::new("home"),
        created_at: Timestamp::from_millis(1_000),
        last_used_at: Timestamp::from_millis(2_000),
        is_taken_back: false,
    }
}

fn acme_account() -> AcmeRecord {
    AcmeRecord::Account(AcmeAccount {
        directory: "https://acme.test/directory".to_owned(),
        eab_kid: None,
        contact: vec!["ann@example.org".to_owned()],
        credentials: "acme-account-key".into(),
        created_at: Timestamp::from_millis(1_000),
    })
}

fn acme_certificate(domains: &[&str], key: &str) -> AcmeRecord {
    AcmeRecord::Certificate(AcmeCertificate {
        directory: "https://acme.test/directory".to_owned(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        profile: Some("shortlived".to_owned()),
        chain: "chain in PEM".to_owned(),
        key: key.into(),
        obtained_at: Timestamp::from_millis(2_000),
    })
}

fn index_of(store: &dyn Store) -> Vec<IndexEntry> {
    let (mut announced, mut entries) = (0, Vec::new());
    let count = store.load_index(&mut |count| announced = count, &mut |entry| entries.push(entry)).expect("index");
    assert_eq!((announced, count), (entries.len(), entries.len()));
    entries.sort_by_key(|entry| *entry.digest.as_bytes());
    entries
}

fn all_keys(store: &dyn Store) -> Vec<KeyRecord> {
    let mut records = Vec::new();
    store
        .visit_keys(&mut |record| {
            records.push(record);
            true
        })
        .expect("keys");
    records
}

#[test]
fn a_new_store_is_empty() {
    with_every_store(|store| {
        assert!(index_of(store).is_empty() && all_keys(store).is_empty());
        assert!(store.accounts().expect("accounts").is_empty() && store.sessions().expect("sessions").is_empty());
        assert_eq!(store.key(KeyId::from_u64(1)).expect("key"), None);
        assert_eq!(store.next_account().expect("number"), AccountId(1));
    });
}

#[test]
fn a_key_comes_back_as_it_was_written() {
    with_every_store(|store| {
        let mut record = key(5);
        record.previous = Some(PreviousSecret { digest: KeyDigest::from_bytes([9; 32]), expires_at: Timestamp::from_millis(4_000) });
        record.expires_at = Some(Timestamp::from_millis(8_000));
        record.limits = keygate::limits::Limits {
            networks: Some(vec!["192.0.2.0/24".parse().expect("a network")]),
            rate: Some("60/min burst 5".parse().expect("a rate")),
            streams: Some(3),
            bandwidth: Some("20Mbit".parse().expect("a bandwidth")),
            daily: Some("50GiB".parse().expect("bytes a day")),
        };
        store.commit(vec![Change::PutKey(record.clone())]).expect("committed");
        assert_eq!(store.key(record.id).expect("key"), Some(record.clone()));
        let mut expected = record.index_entries();
        expected.sort_by_key(|entry| *entry.digest.as_bytes());
        assert_eq!(index_of(store), expected);
    });
}

#[test]
fn the_index_follows_a_rotation_and_loses_the_secret_before_the_last() {
    with_every_store(|store| {
        let first = key(5);
        let second = KeyRecord {
            digest: KeyDigest::from_bytes([2; 32]),
            previous: Some(PreviousSecret { digest: first.digest.clone(), expires_at: Timestamp::from_millis(5) }),
            ..first.clone()
        };
        let third = KeyRecord {
            digest: KeyDigest::from_bytes([3; 32]),
            previous: Some(PreviousSecret { digest: second.digest.clone(), expires_at: Timestamp::from_millis(6) }),
            ..first.clone()
        };
        for record in [first, second, third] {
            store.commit(vec![Change::PutKey(record)]).expect("committed");
        }
        let digests: Vec<[u8; 32]> = index_of(store).iter().map(|entry| *entry.digest.as_bytes()).collect();
        assert_eq!(digests, [[2; 32], [3; 32]]);
    });
}

#[test]
fn a_revoked_key_keeps_its_record_and_loses_its_index_entry() {
    with_every_store(|store| {
        store.commit(vec![Change::PutKey(key(5)), Change::PutKey(key(6))]).expect("committed");
        let times = (Some(Timestamp::from_millis(2_000)), Some(Timestamp::from_millis(1_500)));
        let tombstone = KeyRecord { revoked_at: times.0, reborn_at: times.1, ..key(5) };
        store.commit(vec![Change::PutKey(tombstone.clone())]).expect("committed");
        assert_eq!(store.key(tombstone.id).expect("key"), Some(tombstone));
        assert_eq!(index_of(store), key(6).index_entries());
    });
}

#[test]
fn keys_are_visited_by_id_until_the_visitor_has_enough() {
    with_every_store(|store| {
        store.commit([9, 3, 6].map(|number| Change::PutKey(key(number))).into()).expect("committed");
        assert_eq!(all_keys(store), [key(3), key(6), key(9)]);
        let mut seen = 0;
        store
            .visit_keys(&mut |_| {
                seen += 1;
                seen < 2
            })
            .expect("keys");
        assert_eq!(seen, 2);
    });
}

#[test]
fn of_two_changes_of_one_key_in_a_transaction_the_later_one_counts() {
    with_every_store(|store| {
        let later = KeyRecord { digest: KeyDigest::from_bytes([7; 32]), ..key(5) };
        store.commit(vec![Change::PutKey(key(5)), Change::PutKey(key(4)), Change::PutKey(later.clone())]).expect("committed");
        assert_eq!(store.key(later.id).expect("key"), Some(later.clone()));
        let digests: Vec<_> = index_of(store).into_iter().map(|entry| entry.digest).collect();
        assert_eq!(digests, [key(4).digest, later.digest]);
    });
}

#[test]
fn accounts_and_sessions_come_back_with_their_secrets() {
    with_every_store(|store| {
        store.commit(vec![Change::PutAccount(account(1)), Change::PutSession(session(1, Some(5)))]).expect("committed");
        assert_eq!(format!("{:?}", store.accounts().expect("accounts")), format!("{:?}", [account(1)]));
        let Credential::Password(password) = &store.accounts().expect("accounts")[0].credential else { panic!("a password account") };
        assert_eq!(password.expose(), "correct horse battery");
        let sessions = store.sessions().expect("sessions");
        assert_eq!(format!("{sessions:?}"), format!("{:?}", [session(1, Some(5))]));
        assert_eq!(sessions[0].token.expose(), "upstream-session-token");
        assert_eq!(sessions[0].refresh_token.as_ref().map(|secret| secret.expose().as_str()), Some("upstream-refresh-token"));
        assert_eq!(sessions[0].other_secrets[0].expose(), "upstream-legacy-token");
    });
}

#[test]
fn a_minted_account_an_administrator_and_the_id_of_what_was_minted_come_back() {
    with_every_store(|store| {
        let minted = AccountRecord { credential: Credential::Minted { user_id: "u-7".to_owned() }, ..account(1) };
        store
            .commit(vec![Change::PutAccount(minted), Change::PutAccount(account(2)), Change::PutSession(session(1, None))])
            .expect("committed");
        let accounts = store.accounts().expect("accounts");
        assert!(matches!(&accounts[0].credential, Credential::Minted { user_id } if user_id == "u-7"));
        assert_eq!((accounts[0].is_administrator, accounts[1].is_administrator), (false, true));
        assert_eq!(store.sessions().expect("sessions")[0].minted_id.as_deref(), Some("minted-1"));
    });
}

#[test]
fn removing_an_account_removes_its_sessions_and_no_others() {
    with_every_store(|store| {
        let sessions = [session(1, None), session(1, Some(0)), session(1, Some(u64::MAX)), session(2, None), session(256, Some(1))];
        let mut changes: Vec<Change> = sessions.into_iter().map(Change::PutSession).collect();
        changes.extend([1, 2, 256].map(|number| Change::PutAccount(account(number))));
        store.commit(changes).expect("committed");
        store.commit(vec![Change::RemoveAccount(AccountId(1))]).expect("committed");
        let left: Vec<u32> = store.sessions().expect("sessions").iter().map(|session| session.id.account.0).collect();
        assert_eq!(left, [2, 256]);
        assert_eq!(store.accounts().expect("accounts").len(), 2);
    });
}

#[test]
fn a_session_is_replaced_and_removed_by_its_id() {
    with_every_store(|store| {
        store.commit(vec![Change::PutSession(session(1, None)), Change::PutSession(session(1, Some(0)))]).expect("committed");
        store.commit(vec![Change::PutSession(SessionRecord { generation: 8, ..session(1, None) })]).expect("committed");
        assert_eq!(store.sessions().expect("sessions")[0].generation, 8);
        store.commit(vec![Change::RemoveSession(session(1, None).id), Change::RemoveSession(session(9, None).id)]).expect("committed");
        assert_eq!(store.sessions().expect("sessions").iter().map(|session| session.id).collect::<Vec<_>>(), [session(1, Some(0)).id]);
    });
}

#[test]
fn handouts_come_back_as_they_were_written_and_are_replaced_and_removed_by_their_digest() {
    with_every_store(|store| {
        assert!(store.handouts().expect("handouts").is_empty());
        let whats = [Handed::Ticket, Handed::PlaySession("play-session-id".into()), Handed::Playback { item: "abc".to_owned() }];
        let records: Vec<_> = (1..).zip(whats).map(|(number, what)| handout(number, what)).collect();
        store.commit(records.iter().cloned().map(Change::PutHandout).collect()).expect("committed");
        let stored = store.handouts().expect("handouts");
        assert_eq!(format!("{stored:?}"), format!("{records:?}"));
        assert!(stored.iter().zip(&records).all(|(stored, record)| stored.digest == record.digest && stored.secret == record.secret));
        assert!(matches!(&stored[1].what, Handed::PlaySession(id) if id.expose() == "play-session-id"));
        let used = HandoutRecord { last_used_at: Timestamp::from_millis(9_000), is_taken_back: true, ..records[0].clone() };
        let gone = [records[2].digest.clone(), KeyDigest::from_bytes([77; 32])].map(Change::RemoveHandout);
        store.commit(std::iter::once(Change::PutHandout(used.clone())).chain(gone).collect()).expect("committed");
        assert_eq!(format!("{:?}", store.handouts().expect("handouts")), format!("{:?}", [used, records[1].clone()]));
    });
}

#[test]
fn the_number_of_a_removed_account_is_never_given_again() {
    with_every_store(|store| {
        store.commit(vec![Change::PutAccount(account(1)), Change::PutAccount(account(2))]).expect("committed");
        store.commit(vec![Change::RemoveAccount(AccountId(2))]).expect("committed");
        assert_eq!(store.next_account().expect("number"), AccountId(3));
    });
}

#[test]
fn the_time_that_was_written_down_is_there_and_a_later_word_counts_also_when_it_is_earlier() {
    with_every_store(|store| {
        assert_eq!(store.time_mark().expect("mark"), None);
        for millis in [1_700_000_000_123, 0, -5] {
            let mark = Timestamp::from_millis(millis);
            store.commit(vec![Change::MarkTime(mark), Change::PutKey(key(5))]).expect("committed");
            assert_eq!(store.time_mark().expect("mark"), Some(mark));
        }
        assert_eq!(store.next_account().expect("number"), AccountId(1), "nothing else of the store's own is touched");
    });
}

#[test]
fn admin_tokens_and_the_hash_of_the_pages_password_come_back_and_are_replaced() {
    with_every_store(|store| {
        assert!(store.admin_tokens().expect("tokens").is_empty() && store.page_password().expect("hash").is_none());
        let token = |number: u64| AdminTokenRecord {
            id: KeyId::from_u64(number),
            name: format!("token {number}"),
            digest: KeyDigest::from_bytes([number as u8; 32]),
            scopes: vec![AdminScope::Read, AdminScope::Keys],
            expires_at: Some(Timestamp::from_millis(9_000)),
            created_at: Timestamp::from_millis(1_000),
            created_by: "uid 0".to_owned(),
            last_used_at: None,
            revoked_at: None,
        };
        store.commit(vec![Change::PutAdminToken(token(9)), Change::PutAdminToken(token(4))]).expect("committed");
        assert_eq!(store.admin_tokens().expect("tokens"), [token(4), token(9)]);
        let revoked = AdminTokenRecord { revoked_at: Some(Timestamp::from_millis(3)), ..token(4) };
        store.commit(vec![Change::PutAdminToken(revoked.clone()), Change::PutPagePassword("$argon2id$one".into())]).expect("committed");
        store.commit(vec![Change::PutPagePassword("$argon2id$two".into())]).expect("committed");
        assert_eq!(store.admin_tokens().expect("tokens"), [revoked, token(9)]);
        assert_eq!(store.page_password().expect("hash").expect("one").expose(), "$argon2id$two");
        assert!(index_of(store).is_empty(), "a token is no key");
    });
}

#[test]
fn a_store_can_be_shared_between_threads() {
    let store: Arc<dyn Store> = Arc::new(OnDisk::new().create());
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                (0..5).for_each(|number| store.commit(vec![Change::PutKey(key(writer * 10 + number))]).expect("committed"))
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("finished"));
    assert_eq!(all_keys(store.as_ref()).len(), 20);
}

#[test]
fn what_acme_leaves_comes_back_with_its_keys_and_is_replaced_and_removed_by_what_it_is_for() {
    with_every_store(|store| {
        assert!(store.acme().expect("records").is_empty());
        let (account, both) = (acme_account(), acme_certificate(&["a.test", "b.test"], "first-key"));
        let renewed = acme_certificate(&["a.test", "b.test"], "second-key");
        let alone = acme_certificate(&["a.test"], "third-key");
        let failure = |sentence: &str| {
            let (wanted, next) = ("settings".to_owned(), Timestamp::from_millis(3_000));
            AcmeRecord::Failure(AcmeFailure { wanted, count: 2, sentence: sentence.to_owned(), next })
        };
        let (first, last) = (failure("first-failure"), failure("last-failure"));
        let records = [&account, &first, &both, &alone, &renewed, &last];
        store.commit(records.map(|record| Change::PutAcme(record.clone())).into()).expect("committed");
        let mut secrets: Vec<_> = store
            .acme()
            .expect("records")
            .into_iter()
            .map(|record| match record {
                AcmeRecord::Account(account) => account.credentials.expose().clone(),
                AcmeRecord::Certificate(certificate) => certificate.key.expose().clone(),
                AcmeRecord::Failure(failure) => failure.sentence,
            })
            .collect();
        secrets.sort_unstable();
        assert_eq!(secrets, ["acme-account-key", "last-failure", "second-key", "third-key"]);
        store.commit([&both, &alone, &first].map(|record| Change::RemoveAcme(record.id())).into()).expect("committed");
        assert_eq!(format!("{:?}", store.acme().expect("records")), format!("{:?}", [account]));
    });
}
