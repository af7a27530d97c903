//! What is handed out, to whom it stays, and when it ends: over a store in memory and a clock moved by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::audit::{Act, Actor, Field, Object, ObjectKind, Reading, Value, Verb};
use crate::clock::ManualClock;
use crate::keys::record::KeyRecord;
use crate::keys::{KeyId, Scopes};
use crate::store::Change;
use crate::store::memory::{Fault, MemoryStore};
use crate::upstream::AccountId;

const HOUR: Duration = Duration::from_secs(3600);
const ID: &str = "0bcd8d8f-66fb-498c-a797-4fd5538cc58c";

struct World {
    handouts: Arc<Handouts>,
    store: Arc<MemoryStore>,
    index: Arc<KeyIndex>,
    clock: Arc<ManualClock>,
}

fn key(number: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId::from_u64(number.into()),
        name: "tv".to_owned(),
        account: AccountId(1),
        digest: KeyDigest::from_bytes([number; 32]),
        previous: None,
        expires_at: None,
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: crate::limits::Limits::default(),
        created_at: Timestamp::from_millis(0),
        created_by: "cli".to_owned(),
        updated_at: Timestamp::from_millis(0),
        revoked_at: None,
        reborn_at: None,
    }
}

impl World {
    fn new() -> Self {
        let (store, index) = (Arc::new(MemoryStore::new()), Arc::new(KeyIndex::new()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000_000)));
        index.replace(None, &key(1));
        index.replace(None, &key(2));
        let handouts = load(&store, &index, &clock);
        Self { handouts, store, index, clock }
    }

    fn key(&self, number: u8) -> Verified {
        self.index.find(&key(number).digest).expect("known")
    }

    fn ticket(&self, number: u8) -> Ticket {
        self.handouts.ticket_for(&self.key(number), &home()).expect("a ticket")
    }

    fn opens(&self, ticket: &Ticket) -> bool {
        self.handouts.by_ticket(ticket, &home()).is_some()
    }

    fn restarted(self) -> Self {
        let handouts = load(&self.store, &self.index, &self.clock);
        Self { handouts, ..self }
    }

    /// Takes back what the first key has.
    fn take_back(&self) -> Result<usize, StoreError> {
        let object = Object { kind: ObjectKind::Key, id: "1".to_owned(), name: Value::from("tv") };
        let told = |count: usize| Act::new(Verb::TicketsTakenBack, object).with([Field::new("count", count)]);
        self.handouts.take_back(key(1).id, |count| told(count).by(&Actor::Gateway, self.clock.now()))
    }

    /// What the audit log says of it.
    fn told(&self) -> Vec<String> {
        let mut counts = Vec::new();
        let mut note = |entry: crate::audit::Entry| {
            counts.extend(entry.line.fields[0].after.as_ref().map(ToString::to_string));
            true
        };
        self.store.read_audit(Reading::After(0), &mut note).expect("the log");
        counts
    }

    /// One round of the keeper's.
    async fn tidy(&self) {
        self.handouts.bury_dead();
        self.handouts.hold_bounds();
        self.handouts.write(None).expect("written");
    }
}

fn load(store: &Arc<MemoryStore>, index: &Arc<KeyIndex>, clock: &Arc<ManualClock>) -> Arc<Handouts> {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let control = tokio::runtime::Handle::current();
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let sessions = Sessions::load(Arc::clone(&store), HashMap::new(), Arc::clone(&clock), control.clone()).expect("loaded");
    let hasher = KeyHasher::new(&Secret::new([7; 32]));
    Handouts::load(Around { hasher, index: Arc::clone(index), clock, store, sessions, control }).expect("loaded")
}

fn home() -> UpstreamName {
    UpstreamName::new("home")
}

fn away() -> UpstreamName {
    UpstreamName::new("away")
}

#[tokio::test]
async fn a_key_gets_one_ticket_an_hour_and_no_other_keys() {
    let world = World::new();
    let first = world.ticket(1);
    assert_eq!(world.ticket(1).expose(), first.expose());
    assert_ne!(world.ticket(2).expose(), first.expose());
    world.clock.advance(HOUR);
    let second = world.ticket(1);
    assert_ne!(second.expose(), first.expose());
    assert!(world.opens(&first) && world.opens(&second));
    assert_eq!(world.handouts.by_ticket(&second, &home()).map(|key| key.id()), Some(KeyId::from_u64(1)));
    assert!(world.handouts.by_ticket(&second, &away()).is_none(), "of another upstream");
    assert!(!world.opens(&Ticket::generate().expect("random bytes")));
}

#[tokio::test]
async fn a_handout_is_good_for_hours_after_each_use_and_not_for_ever() {
    let world = World::new();
    let ticket = world.ticket(1);
    for _ in 0..5 {
        world.clock.advance(GOOD_FOR - Duration::from_secs(61));
        assert!(world.opens(&ticket));
    }
    world.clock.advance(GOOD_FOR);
    assert!(!world.opens(&ticket));
    world.tidy().await;
    assert_eq!((world.handouts.len(), world.store.handouts().expect("read").len()), (0, 0));
    assert!(GOOD_FOR > 6 * HOUR);
}

#[tokio::test]
async fn a_capability_opens_what_it_was_handed_out_for_and_stays_with_its_key() {
    let world = World::new();
    let by = |id: &str, item: Option<&str>, upstream: &UpstreamName| world.handouts.by_capability(id, item, upstream).map(|key| key.id());
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(2), &home());
    assert_eq!(by(ID, None, &home()), Some(KeyId::from_u64(1)), "whoever got it first");
    assert_eq!((by(ID, Some("7"), &home()), by(ID, None, &away()), by(&ID[1..], None, &home())), (None, None, None));
    world.handouts.hand_out("abcdef0123456789", Capability::Playback { item: "AB-12-cd" }, &world.key(2), &home());
    assert_eq!(by("abcdef0123456789", Some("ab12CD"), &home()), Some(KeyId::from_u64(2)), "in any spelling");
    assert_eq!((by("abcdef0123456789", Some("ab12ce"), &home()), by("abcdef0123456789", None, &home())), (None, None));
    for odd in ["short", "", "has/slash/in/it", &"a".repeat(LONGEST_ID + 1)] {
        world.handouts.hand_out(odd, Capability::PlaySession, &world.key(1), &home());
        assert_eq!(by(odd, None, &home()), None, "{odd}");
    }
    world.handouts.forget(ID, &home());
    assert_eq!(by(ID, None, &home()), None);
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(2), &home());
    assert_eq!(by(ID, None, &home()), Some(KeyId::from_u64(2)));
}

#[tokio::test]
async fn only_its_own_key_keeps_an_id_going() {
    let world = World::new();
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.clock.advance(GOOD_FOR - HOUR);
    world.handouts.keep_going(ID, &Holder::Key(world.key(2)), &home());
    world.clock.advance(HOUR);
    assert!(world.handouts.by_capability(ID, None, &home()).is_none(), "somebody else's key");
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.clock.advance(GOOD_FOR - HOUR);
    world.handouts.keep_going(ID, &Holder::Key(world.key(1)), &home());
    world.clock.advance(GOOD_FOR - HOUR);
    assert!(world.handouts.by_capability(ID, None, &home()).is_some());
}

#[tokio::test]
async fn whatever_kills_a_key_kills_its_handouts_for_good() {
    for change in [
        |key: &mut KeyRecord| key.revoked_at = Some(Timestamp::from_millis(1)),
        |key: &mut KeyRecord| key.is_active = false,
        |key: &mut KeyRecord| key.expires_at = Some(Timestamp::from_secs(1_000_000)),
        |key: &mut KeyRecord| key.account = AccountId(2),
        |key: &mut KeyRecord| key.digest = KeyDigest::from_bytes([9; 32]),
    ] {
        let world = World::new();
        let (mine, theirs) = (world.ticket(1), world.ticket(2));
        world.handouts.start();
        let mut after = key(1);
        change(&mut after);
        world.index.replace(Some(&key(1)), &after);
        // Without waiting: whoever killed the key has buried what was its own.
        world.index.replace(Some(&after), &key(1));
        assert!(!world.opens(&mine) && world.opens(&theirs));
        assert_ne!(world.ticket(1).expose(), mine.expose());
        world.tidy().await;
        assert_eq!(world.store.handouts().expect("read").len(), 2);
    }
}

#[tokio::test]
async fn what_is_taken_back_of_a_key_is_gone_for_good_and_nothing_else_is() {
    let world = World::new();
    let (mine, theirs) = (world.ticket(1), world.ticket(2));
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.tidy().await;
    let sorts: Vec<_> = world.handouts.of_key(key(1).id).into_iter().map(|view| view.sort).collect();
    assert!(sorts.len() == 2 && sorts.contains(&"ticket") && sorts.contains(&"play-session"), "{sorts:?}");
    assert_eq!((world.take_back().expect("taken back"), world.take_back().expect("taken back")), (2, 0));
    assert!(!world.opens(&mine) && world.opens(&theirs) && world.handouts.by_capability(ID, None, &home()).is_none());
    let new = world.ticket(1);
    assert!(new.expose() != mine.expose() && world.opens(&new), "the key gets another one");
    world.tidy().await;
    let world = world.restarted();
    assert!(!world.opens(&mine) && world.opens(&new) && world.opens(&theirs));
}

#[tokio::test]
async fn what_is_taken_back_is_so_in_the_store_before_that_is_acknowledged() {
    let world = World::new();
    let (mine, theirs) = (world.ticket(1), world.ticket(2));
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.tidy().await;
    // One that the store has not heard of yet.
    world.handouts.hand_out("play-session-2", Capability::PlaySession, &world.key(1), &home());
    assert_eq!(world.take_back().expect("taken back"), 3);
    assert_eq!(world.told(), ["3"]);
    let world = world.restarted();
    let is_open = |id| world.handouts.by_capability(id, None, &home()).is_some();
    assert!(!world.opens(&mine) && !is_open(ID) && !is_open("play-session-2") && world.opens(&theirs));
    assert_eq!(world.handouts.of_key(key(1).id), []);
}

#[tokio::test]
async fn what_is_taken_back_on_a_full_disk_holds_at_once_and_is_written_with_its_line_later() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new();
        let ticket = world.ticket(1);
        world.tidy().await;
        world.store.fail_commit(1, fault);
        assert!(world.take_back().is_err());
        assert!(!world.opens(&ticket));
        world.tidy().await;
        // What a failed commit wrote all the same stands there twice.
        assert_eq!(world.told(), vec!["1"; if matches!(fault, Fault::After) { 2 } else { 1 }]);
        assert!(!world.restarted().opens(&ticket));
    }
}

#[tokio::test]
async fn handouts_survive_a_restart_with_their_last_use() {
    let world = World::new();
    let ticket = world.ticket(1);
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.tidy().await;
    world.clock.advance(GOOD_FOR - HOUR);
    assert!(world.opens(&ticket));
    world.tidy().await;
    let world = world.restarted();
    world.clock.advance(HOUR);
    assert!(world.opens(&ticket), "used an hour ago");
    assert!(world.handouts.by_capability(ID, None, &home()).is_none(), "not used since");
    assert_ne!(world.ticket(1).expose(), ticket.expose(), "its text is nowhere any more");
}

#[tokio::test]
async fn what_a_key_had_before_it_died_stays_dead_when_it_lives_again_although_nobody_wrote_that_down() {
    let world = World::new();
    let (ticket, other) = (world.ticket(1), world.ticket(2));
    world.handouts.hand_out(ID, Capability::PlaySession, &world.key(1), &home());
    world.tidy().await;
    // Killed, and the key disabled and enabled by somebody else over the same store.
    let reborn = KeyRecord { reborn_at: Some(world.clock.now()), ..key(1) };
    world.store.commit(vec![Change::PutKey(reborn), Change::PutKey(key(2))]).expect("written");
    let world = world.restarted();
    assert!(!world.opens(&ticket) && world.opens(&other));
    assert!(world.handouts.by_capability(ID, None, &home()).is_none());
    world.clock.advance(Duration::from_millis(1));
    let next = world.ticket(1);
    world.handouts.start();
    world.tidy().await;
    assert_eq!(world.store.handouts().expect("read").len(), 2, "nothing stays of what is dead");
    let world = world.restarted();
    assert!(world.opens(&next) && !world.opens(&ticket));
}

#[tokio::test]
async fn uses_are_written_now_and_then_only() {
    let world = World::new();
    let ticket = world.ticket(1);
    world.tidy().await;
    let commits = world.store.commits();
    for _ in 0..9 {
        world.clock.advance(Duration::from_secs(61));
        assert!(world.opens(&ticket));
        world.tidy().await;
    }
    assert_eq!(world.store.commits(), commits);
    world.clock.advance(Duration::from_secs(61));
    assert!(world.opens(&ticket));
    world.tidy().await;
    assert_eq!(world.store.commits(), commits + 1);
}

#[tokio::test]
async fn the_longest_unused_ones_of_a_key_go_and_nobody_elses() {
    let world = World::new();
    let id = |number: usize| format!("play-session-{number}");
    let other = world.ticket(2);
    for number in 0..MOST_PER_KEY + 10 {
        world.handouts.hand_out(&id(number), Capability::PlaySession, &world.key(1), &home());
        world.clock.advance(Duration::from_secs(1));
    }
    // The first one is in use.
    world.clock.advance(HOUR);
    let opens = |number| world.handouts.by_capability(&id(number), None, &home()).is_some();
    assert!(opens(0));
    world.tidy().await;
    assert_eq!(world.handouts.len(), MOST_PER_KEY + 1);
    assert!(opens(0) && !opens(1) && !opens(10) && opens(11) && opens(MOST_PER_KEY + 9) && world.opens(&other));
}

#[tokio::test]
async fn a_flood_ends_before_the_memory_does() {
    let world = World::new();
    for number in 0..2 * MOST + 1 {
        world.handouts.hand_out(&format!("play-session-{number}"), Capability::PlaySession, &world.key(1), &home());
    }
    assert_eq!(world.handouts.len(), 2 * MOST);
    world.handouts.hold_bounds();
    assert_eq!(world.handouts.entries.len(), 2 * MOST, "nothing is forgotten before the store has forgotten it");
    world.tidy().await;
    assert_eq!(world.handouts.len(), MOST_PER_KEY);
}

#[tokio::test]
async fn a_flood_on_a_full_disk_leaves_room_for_others() {
    let world = World::new();
    for number in 0..2 * MOST {
        world.handouts.hand_out(&format!("play-session-{number}"), Capability::PlaySession, &world.key(1), &home());
    }
    assert!(world.handouts.ticket_for(&world.key(2), &home()).is_none(), "until the keeper has looked");
    world.handouts.hold_bounds();
    world.store.fail_commit(1, Fault::Before);
    assert!(world.handouts.write(None).is_err());
    world.handouts.make_room();
    assert_eq!(world.handouts.len(), MOST_PER_KEY);
    assert!(world.handouts.ticket_for(&world.key(2), &home()).is_some());
}

#[tokio::test]
async fn a_failed_write_is_made_good_by_the_next_one() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new();
        let ticket = world.ticket(1);
        world.store.fail_commit(1, fault);
        assert!(world.handouts.write(None).is_err());
        world.tidy().await;
        assert_eq!(world.store.handouts().expect("read").len(), 1);
        world.index.remove([&key(1)]);
        world.handouts.bury_dead();
        world.store.fail_commit(1, fault);
        assert!(world.handouts.write(None).is_err());
        world.tidy().await;
        assert_eq!((world.handouts.len(), world.store.handouts().expect("read").len()), (0, 0));
        assert!(!world.opens(&ticket));
    }
}

#[tokio::test]
async fn an_id_is_learnt_from_an_answer_that_comes_in_pieces() {
    let world = World::new();
    let mut learning = Learning::new(Arc::clone(&world.handouts), "id", None, Holder::Key(world.key(1)), home());
    let text = format!(r#"{{"x":{{"id":"{}"}},"id":"{ID}","y":1}}"#, "f".repeat(36));
    for piece in text.as_bytes().chunks(7) {
        learning.see(piece);
    }
    assert!(learning.is_done() && world.handouts.len() == 1);
    assert!(world.handouts.by_capability(ID, None, &home()).is_some());
}

#[tokio::test]
async fn what_people_opened_is_bounded_and_the_longest_unused_makes_room() {
    let world = World::new();
    let id = |number: usize| format!("session-{number}");
    for number in 0..4096 {
        world.clock.advance(Duration::from_millis(1));
        world.handouts.hand_out_to_person(&id(number), &home());
    }
    world.clock.advance(Duration::from_millis(1));
    assert!(world.handouts.is_of_person(&id(0), &home()));
    world.handouts.hand_out_to_person(&id(4096), &home());
    assert_eq!(world.handouts.people.len(), 4096);
    let known = |number| world.handouts.is_of_person(&id(number), &home());
    assert!(known(0) && !known(1) && known(2) && known(4096));
    assert!(!world.handouts.is_of_person(&id(0), &UpstreamName::new("other")), "of another upstream");
    world.handouts.hand_out_to_person("a b", &home());
    assert!(!world.handouts.is_of_person("a b", &home()), "no id of a server's");
}
