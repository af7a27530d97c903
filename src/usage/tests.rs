//! Counting, from requests to the books and the store.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::count::Class;
use super::tally::{Ended, Refused, SecretTag, Tally};
use super::{NO_UPSTREAM, Usage};
use crate::audit::{Entry, Reading, Verb};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::keys::{KeyDigest, KeyId};
use crate::store::Store;
use crate::store::memory::{Fault, MemoryStore};
use crate::upstream::UpstreamName;
use crate::usage::record::{KeyUsage, hour_of};

const KEY: KeyId = KeyId::from_u64(7);

struct House {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    usage: Arc<Usage>,
    upstream: UpstreamName,
    agent: HeaderValue,
}

fn house() -> House {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let usage = Usage::load(Arc::clone(&store) as _, Arc::clone(&clock) as _).expect("loaded");
    House { store, clock, usage, upstream: UpstreamName::new("home"), agent: HeaderValue::from_static("Kodi/20.2 (X11)") }
}

impl House {
    fn ended(&self) -> Ended<'_> {
        Ended {
            at: self.clock.now(),
            key: Some((KEY, SecretTag::from(&KeyDigest::from_bytes([1; 32])))),
            claimed: None,
            upstream: Some(&self.upstream),
            class: Class::Success,
            carrier: Some("bearer"),
            refusal: None,
            client: [192, 0, 2, 1].into(),
            agent: Some(&self.agent),
            target: Some("/api/items/li_1?x=y"),
            bytes_in: 10,
            bytes_out: 1000,
        }
    }

    fn of_key(&self) -> KeyUsage {
        self.usage.of_key(KEY).expect("read").unwrap_or_default()
    }

    fn log(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.store
            .read_audit(Reading::After(0), &mut |entry| {
                entries.push(entry);
                true
            })
            .expect("the log");
        entries
    }
}

fn refused<'a>(house: &'a House, kind: &'static str, address: [u8; 4]) -> Ended<'a> {
    let noted = Some(address.into());
    let refusal = Some(Refused { kind, noted, carrier: Some("bearer") });
    Ended { key: None, class: Class::Refused, refusal, client: address.into(), ..house.ended() }
}

#[test]
fn what_two_cores_count_comes_together_and_is_the_same_everywhere() {
    let house = house();
    let (one, other) = (house.usage.tally(0), house.usage.tally(1));
    for _ in 0..3 {
        one.count(&house.ended());
    }
    other.count(&Ended { class: Class::ServerError, carrier: Some("query-api-key"), ..house.ended() });
    other.count(&Ended { key: None, upstream: None, class: Class::Refused, ..house.ended() });
    for tally in [&one, &other] {
        tally.hand_over(house.clock.now());
        tally.hand_over(house.clock.now());
    }
    let usage = house.of_key();
    assert_eq!((usage.counts.requests(), usage.counts.of(Class::Success), usage.counts.of(Class::ServerError)), (4, 3, 1));
    assert_eq!((usage.counts.bytes_in, usage.counts.bytes_out), (40, 4000));
    assert_eq!(
        usage.carriers.iter().map(|(word, times)| (word.as_str(), *times)).collect::<Vec<_>>(),
        [("bearer", 3), ("query-api-key", 1)]
    );
    assert_eq!(usage.groups.iter().map(|(group, times)| (group.as_str(), *times)).collect::<Vec<_>>(), [("/api/items/*", 4)]);
    let [client] = usage.clients.as_slice() else { panic!("one client: {:?}", usage.clients) };
    assert_eq!((client.agent.as_str(), client.requests), ("Kodi/20.2", 4));
    let point = usage.hours.at(hour_of(house.clock.now()));
    assert_eq!((point.good, point.failed, point.kib), (3, 1, 3), "whole KiB of the sum");
    let totals = house.usage.totals().expect("read");
    let day: Vec<_> = totals["home"].last_day(house.clock.now()).collect();
    let counted: u32 = day.iter().map(|point| point.good + point.refused + point.failed).sum();
    assert_eq!((day.len(), u64::from(counted)), (24, totals["home"].counts.requests()));
    let tomorrow = house.clock.now().plus(Duration::from_secs(24 * 3600));
    assert!(totals["home"].last_day(tomorrow).all(|point| point.is_empty()), "that was yesterday");
    assert_eq!((totals["home"].counts.requests(), totals[NO_UPSTREAM].counts.requests()), (4, 1));
    assert_eq!(totals["home"].counts.bytes(), usage.counts.bytes());
    assert_eq!(house.usage.last_uses().expect("read")[&KEY].requests, 4);
}

#[test]
fn what_was_flushed_outlives_a_restart_and_is_added_to() {
    let house = house();
    let tally = house.usage.tally(0);
    tally.count(&house.ended());
    drop(tally);
    house.usage.flush().expect("written");
    let next = Usage::load(Arc::clone(&house.store) as _, Arc::clone(&house.clock) as _).expect("loaded");
    assert_eq!(next.last_uses().expect("read")[&KEY].requests, 1);
    let tally = next.tally(0);
    tally.count(&house.ended());
    tally.hand_over(house.clock.now());
    assert_eq!(next.of_key(KEY).expect("read").expect("used").counts.requests(), 2);
    assert_eq!(next.totals().expect("read")["home"].counts.requests(), 2);
}

#[test]
fn a_core_that_ends_hands_over_what_it_counted_last() {
    let house = house();
    let tally = house.usage.tally(0);
    tally.count(&house.ended());
    drop(tally);
    let usage = house.of_key();
    assert_eq!((usage.counts.requests(), usage.hours.at(hour_of(house.clock.now())).good), (1, 1), "and not in 1970");
}

#[test]
fn a_failed_flush_is_made_up_for_by_the_next_one() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        house.usage.tally(0).count(&house.ended());
        house.store.fail_commit(1, fault);
        assert!(house.usage.flush().is_err());
        assert_eq!(house.of_key().counts.requests(), 1, "{fault:?}");
        house.usage.flush().expect("written");
        let stored = house.store.usage(KEY).expect("read").expect("written");
        assert_eq!(stored.counts.requests(), 1, "{fault:?}: not twice");
        let commits = house.store.commits();
        house.usage.flush().expect("nothing to do");
        assert_eq!(house.store.commits(), commits, "nothing new: nothing is written");
    }
}

#[test]
fn a_refused_request_is_counted_and_is_no_use_of_the_key() {
    let house = house();
    house.usage.tally(0).count(&Ended { class: Class::Refused, ..house.ended() });
    let usage = house.of_key();
    assert_eq!((usage.counts.of(Class::Refused), usage.last()), (1, None));
}

#[test]
fn clients_are_told_apart_by_address_name_and_secret_and_the_longest_unseen_goes_first() {
    let house = house();
    let tally = house.usage.tally(0);
    for number in 0..40 {
        house.clock.advance(Duration::from_secs(60));
        tally.count(&Ended { client: [192, 0, 2, number].into(), ..house.ended() });
        tally.hand_over(house.clock.now());
    }
    tally.count(&Ended {
        key: Some((KEY, SecretTag::from(&KeyDigest::from_bytes([2; 32])))),
        client: [192, 0, 2, 39].into(),
        ..house.ended()
    });
    tally.hand_over(house.clock.now());
    let usage = house.of_key();
    assert_eq!(usage.clients.len(), 24);
    assert!(usage.clients.iter().all(|client| client.address >= std::net::IpAddr::from([192, 0, 2, 17])));
    house.clock.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(house.of_key().clients.len(), 24, "who used it last is known however long ago it was");
    tally.count(&house.ended());
    tally.hand_over(house.clock.now());
    assert_eq!(house.of_key().clients.len(), 1);
}

#[test]
fn a_key_that_is_seen_again_on_a_core_finds_its_place_and_many_keys_share_the_room() {
    let house = house();
    let tally = house.usage.tally(0);
    for number in 0..10_000 {
        tally.count(&Ended { key: Some((KeyId::from_u64(number), SecretTag::from(&KeyDigest::from_bytes([1; 32])))), ..house.ended() });
        if number % 1000 == 999 {
            tally.hand_over(house.clock.now());
        }
    }
    let last = house.usage.last_uses().expect("read");
    assert_eq!(last.len(), 10_000);
    assert!(last.values().all(|last| last.requests == 1));
}

#[test]
fn refusals_are_gathered_for_a_minute_and_written_as_a_few_lines() {
    let house = house();
    let tally = house.usage.tally(0);
    for round in 0..10_u8 {
        for number in 0..200_u8 {
            tally.count(&refused(&house, "unknown-key", [198, 51, round, number]));
        }
        tally.hand_over(house.clock.now());
        house.usage.flush().expect("written");
    }
    assert!(house.log().is_empty(), "not yet");
    house.clock.advance(Duration::from_secs(60));
    house.usage.flush().expect("written");
    let log = house.log();
    assert!(log.len() <= 41 && log.iter().all(|entry| entry.line.verb == Verb::Refused), "{}", log.len());
    let times: u64 = log.iter().flat_map(|entry| &entry.line.fields).filter(|field| field.name == "times").map(times_of).sum();
    assert_eq!(times, 2000, "none is left out of the sums");
}

fn times_of(field: &crate::audit::Field) -> u64 {
    field.after.as_ref().and_then(|value| value.as_str().parse().ok()).expect("a number")
}

#[test]
fn an_address_that_comes_again_and_again_has_one_line_a_minute() {
    let house = house();
    let tally: Tally = house.usage.tally(0);
    (0..500).for_each(|_| tally.count(&refused(&house, "too-many-failures", [198, 51, 100, 1])));
    tally.hand_over(house.clock.now());
    house.usage.finish().expect("written");
    let log = house.log();
    assert_eq!((log.len(), log[0].line.verb, times_of(&log[0].line.fields[1])), (1, Verb::Throttled, 500));
    assert_eq!(log[0].line.object.id, "198.51.100.1");
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_in_the_store_within_the_interval_however_short_that_is() {
    const STEP: Duration = Duration::from_millis(25);
    for millis in [1_000, 1_001, 1_500, 2_000, 3_999, 4_000, 10_000, 60_000] {
        let (house, flush) = (house(), Duration::from_millis(millis));
        house.usage.start(flush, &tokio::runtime::Handle::current());
        let tally = house.usage.tally(0);
        let core = async {
            // Not in step with the writing.
            tokio::time::sleep(STEP * 3 / 2).await;
            loop {
                tally.hand_over(house.clock.now());
                tokio::time::sleep(super::hand_over_every(flush)).await;
            }
        };
        let clients = async {
            let steps = u64::try_from(flush.as_millis() / STEP.as_millis()).expect("few");
            for step in 0..5 * steps {
                let stored = house.store.totals().expect("read").get("home").map_or(0, |of| of.counts.requests());
                // Those of an interval ago, and of before.
                assert!(stored >= step.saturating_sub(steps + 1), "{flush:?}: {stored} of {step}");
                tally.count(&house.ended());
                tokio::time::sleep(STEP).await;
            }
        };
        tokio::select! {
            () = core => {}
            () = clients => {}
        }
    }
}
