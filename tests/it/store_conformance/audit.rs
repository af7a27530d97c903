//! The audit log of every store: numbers without gaps over restarts, bounds that notices and acts have apart, and what a check finds.

use std::time::Duration;

use keygate::audit::{Act, Actor, Bounds, Entry, Field, Line, Object, Reading, Verb};
use keygate::clock::Timestamp;
use keygate::store::audit::Pruning;
use keygate::store::{Change, Store};

use super::on_disk::OnDisk;
use super::{key, with_every_store};

fn line(verb: Verb, second: i64) -> Line {
    Act::new(verb, Object::store())
        .with([Field::new("n", u64::try_from(second).expect("positive"))])
        .by(&Actor::Gateway, Timestamp::from_secs(second))
}

fn act(second: i64) -> Change {
    Change::Audit(line(Verb::Compacted, second))
}

fn notice(second: i64) -> Change {
    Change::Audit(line(Verb::Refused, second))
}

fn read(store: &dyn Store, from: Reading) -> Vec<Entry> {
    let mut entries = Vec::new();
    store
        .read_audit(from, &mut |entry| {
            entries.push(entry);
            true
        })
        .expect("the log");
    entries
}

fn numbers(store: &dyn Store, from: Reading) -> Vec<u64> {
    read(store, from).iter().map(|entry| entry.number).collect()
}

#[test]
fn lines_have_the_numbers_of_one_sequence_and_are_read_from_both_ends() {
    with_every_store(|store| {
        assert!(numbers(store, Reading::After(0)).is_empty() && numbers(store, Reading::Before(u64::MAX)).is_empty());
        store.commit(vec![act(1), notice(1), Change::PutKey(key(5)), act(2)]).expect("committed");
        store.commit(vec![notice(3)]).expect("committed");
        assert_eq!(numbers(store, Reading::After(0)), [1, 2, 3, 4]);
        assert_eq!(numbers(store, Reading::After(2)), [3, 4]);
        assert_eq!(numbers(store, Reading::Before(4)), [3, 2, 1]);
        let entries = read(store, Reading::After(0));
        assert_eq!(entries.iter().map(|entry| entry.previous).collect::<Vec<_>>(), [0, 0, 1, 2]);
        assert_eq!(entries[2].line, line(Verb::Compacted, 2));
        let mut seen = 0;
        store
            .read_audit(Reading::Before(u64::MAX), &mut |_| {
                seen += 1;
                seen < 2
            })
            .expect("the log");
        assert_eq!(seen, 2);
    });
}

#[test]
fn what_is_too_old_or_too_much_goes_and_no_number_is_given_twice() {
    with_every_store(|store| {
        store.commit((1..=10).map(act).chain((1..=10).map(notice)).collect()).expect("committed");
        let bounds = Bounds { keep: Duration::from_secs(95), acts: 4, notices: 100 };
        let prune = |second| store.commit(vec![Change::PruneAudit(Pruning { now: Timestamp::from_secs(second), bounds })]).expect("pruned");
        prune(100);
        assert_eq!(numbers(store, Reading::After(0)), [7, 8, 9, 10, 15, 16, 17, 18, 19, 20]);
        prune(1_000);
        assert!(numbers(store, Reading::After(0)).is_empty());
        store.commit(vec![act(1_000), notice(1_000)]).expect("committed");
        let entries = read(store, Reading::After(0));
        assert_eq!(entries.iter().map(|entry| (entry.number, entry.previous)).collect::<Vec<_>>(), [(21, 10), (22, 20)]);
    });
}

#[test]
fn a_flood_of_notices_takes_no_act_with_it() {
    with_every_store(|store| {
        let bounds = Bounds::new(Duration::from_secs(1_000_000), 100);
        store.commit((1..=90).map(act).collect()).expect("committed");
        for round in 0..20 {
            let flood = (0..500).map(|_| notice(100 + round));
            let pruning = Change::PruneAudit(Pruning { now: Timestamp::from_secs(200), bounds });
            store.commit(flood.collect()).and_then(|()| store.commit(vec![pruning])).expect("committed");
        }
        let entries = read(store, Reading::After(0));
        assert_eq!(entries.iter().filter(|entry| entry.line.verb == Verb::Compacted).count(), 90);
        assert_eq!(entries.len(), 100);
    });
}

#[test]
fn the_log_goes_on_after_opening_again_and_a_check_finds_it_whole() {
    let disk = OnDisk::new();
    disk.create().commit(vec![act(1), notice(1), act(2)]).expect("committed");
    let store = disk.open().expect("opened");
    store.commit(vec![act(3)]).expect("committed");
    assert_eq!(numbers(&store, Reading::After(0)), [1, 2, 3, 4]);
    let found = store.check().expect("looked through");
    assert_eq!((found.audit_lines, found.problems.as_slice()), (4, [].as_slice()));
}

#[test]
fn a_check_finds_lines_that_somebody_took_out() {
    for taken in [2, 4] {
        let disk = OnDisk::new();
        disk.create().commit((1..=4).map(act).collect()).expect("committed");
        let raw = redb::Database::open(disk.path()).expect("raw");
        let transaction = raw.begin_write().expect("transaction");
        let table = redb::TableDefinition::<u64, &[u8]>::new("audit_acts");
        transaction.open_table(table).expect("table").remove(taken).map(drop).expect("removed");
        transaction.commit().expect("committed");
        drop(raw);
        let problems = disk.open().expect("opened").check().expect("looked through").problems;
        assert!(problems.iter().any(|problem| problem.contains("missing")), "{taken}: {problems:?}");
    }
}

#[test]
fn what_keys_were_used_for_comes_back_and_only_used_keys_are_visited() {
    use keygate::keys::KeyId;
    use keygate::usage::record::{KeyUsage, UpstreamUsage};
    with_every_store(|store| {
        let id = KeyId::from_u64(5);
        assert!(store.usage(id).expect("read").is_none() && store.totals().expect("read").is_empty());
        let text = r#"{"counts":{"by_class":[0,3,0,0,0,1,0],"bytesIn":7,"bytesOut":9},"carriers":{"bearer":4},"groups":{"/x":4},
            "clients":[{"address":"192.0.2.1","agent":"Kodi/20","secret":77,"carrier":"bearer","first":1000,"last":2000,"requests":4}],
            "minutes":[[10,1,2,3,4]],"hours":[],"days":[[1,2,3,4,5]]}"#;
        let usage: KeyUsage = serde_json::from_str(&text.replace("by_class", "byClass")).expect("as it is stored");
        store
            .commit(vec![Change::PutKey(key(5)), Change::PutKey(key(6)), Change::PutUsage(id, Box::new(usage.clone()))])
            .expect("committed");
        assert_eq!(store.usage(id).expect("read"), Some(usage.clone()));
        let mut seen = Vec::new();
        store.visit_last_uses(&mut |key, last| seen.push((key, last.at, last.agent, last.requests))).expect("read");
        assert_eq!(seen, [(id, Timestamp::from_millis(2000), "Kodi/20".to_owned(), 4)]);
        let sums = UpstreamUsage { counts: usage.counts, ..UpstreamUsage::default() };
        store.commit(vec![Change::PutTotals("home".to_owned(), Box::new(sums.clone()))]).expect("committed");
        assert_eq!(store.totals().expect("read").get("home"), Some(&sums));
    });
}
