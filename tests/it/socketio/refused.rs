//! What is refused within a session of Engine.IO is told in the audit log and in the figures, as what is refused of requests.

use keygate::audit::{Reading, Verb};
use keygate::keys::{ApiKey, KeyId};
use keygate::registry::KeyPatch;
use keygate::store::Store;
use keygate::upstream::Kind;

use super::{OPEN, auth, connected};
use crate::support::{self, Rig};

/// A bad credential in an `auth` of a session of its own.
async fn try_one(rig: &Rig, credential: &str) {
    let mut socket = connected(rig, OPEN).await;
    socket.say(&auth(credential)).await;
    assert_eq!(socket.hear().await, r#"42["auth_failed",{"message":"Invalid token"}]"#);
}

/// How often keygate refused, by reason.
fn refusals(rig: &Rig) -> Vec<(String, u64)> {
    let totals = rig.keep().usage.totals().expect("read");
    totals.get("media").map(|totals| totals.refusals.clone().into_iter().collect()).unwrap_or_default()
}

/// What the audit log says of refusals: why, of what, how often.
fn notices(rig: &Rig) -> Vec<(String, String, String)> {
    rig.keep().usage.finish().expect("written");
    let mut notices = Vec::new();
    let mut note = |entry: keygate::audit::Entry| {
        let line = entry.line;
        let field = |name: &str| line.fields.iter().find(|field| field.name == name).and_then(|field| field.after.clone());
        if matches!(line.verb, Verb::Refused | Verb::Throttled) {
            let texts = [field("why"), field("times")].map(|value| value.expect("a field").to_string());
            let [why, times] = texts;
            notices.push((why, line.object.name.to_string(), times));
        }
        true
    };
    rig.store.read_audit(Reading::After(0), &mut note).expect("the log");
    notices.sort();
    notices
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_refused_within_a_socket_are_in_the_audit_log_and_in_the_figures() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let (revoked, disabled) = (rig.another_key("revoked"), rig.another_key("disabled"));
    rig.keep().registry.revoke_key(revoked.id()).expect("revoked");
    rig.keep().registry.edit_key(disabled.id(), KeyPatch { is_active: Some(false), ..KeyPatch::default() }).expect("disabled");
    let unknown = ApiKey::generate(KeyId::from_u64(4711)).expect("a key");
    let forged = ApiKey::generate(rig.key.id()).expect("a key");
    rig.sweep.keep_secret(unknown.expose());
    rig.sweep.keep_secret(forged.expose());
    for bad in [revoked.expose(), disabled.expose(), unknown.expose(), unknown.expose(), forged.expose(), "kg_damaged"] {
        try_one(&rig, bad).await;
    }
    // What is none of keygate's guesses at nothing: apps have such tokens for years.
    try_one(&rig, "eyJhbGciOiJIUzI1NiJ9.e30.x").await;
    let expected = [("dead-key", 1), ("disabled-key", 1), ("foreign-credential", 1), ("malformed-key", 1), ("unknown-key", 3)]
        .map(|(kind, times)| (kind.to_owned(), times));
    support::until("all are counted", || refusals(&rig) == expected).await;
    let name = |key: &ApiKey| rig.keep().registry.key(key.id()).expect("a key").name;
    let expected = [
        ("dead-key".to_owned(), name(&revoked), "1"),
        ("disabled-key".to_owned(), name(&disabled), "1"),
        ("malformed-key".to_owned(), "127.0.0.1".to_owned(), "1"),
        // Of two keys: of neither.
        ("unknown-key".to_owned(), "127.0.0.1".to_owned(), "3"),
    ];
    let expected: Vec<_> = expected.map(|(why, of, times)| (why, of, times.to_owned())).into();
    assert_eq!(notices(&rig), expected);
    let counts = rig.keep().usage.totals().expect("read")["media"].counts;
    assert_eq!(counts.of(keygate::usage::count::Class::Refused), 0, "the requests themselves were not refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_within_sockets_come_to_an_end_and_the_log_says_how_many_there_were() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let unknown = ApiKey::generate(KeyId::from_u64(4711)).expect("a key");
    rig.sweep.keep_secret(unknown.expose());
    for _ in 0..20 {
        try_one(&rig, unknown.expose()).await;
    }
    for _ in 0..3 {
        let mut socket = connected(&rig, OPEN).await;
        socket.say(&auth(unknown.expose())).await;
        assert_eq!(socket.closed().await, (1008, "too many failed authentications".to_owned()));
    }
    support::until("all are counted", || refusals(&rig).iter().map(|(_, times)| times).sum::<u64>() == 23).await;
    let notices = notices(&rig);
    // On a slow machine, one more guess comes back every three seconds.
    assert!(notices.iter().any(|(why, of, _)| why == "too-many-failures" && of == "127.0.0.1"), "{notices:?}");
    assert_eq!(notices.iter().map(|(_, _, times)| times.parse::<u32>().expect("a number")).sum::<u32>(), 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_only_an_administrator_may_send_are_noted_as_the_keys() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = connected(&rig, OPEN).await;
    socket.say(&auth(rig.secret())).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
    for event in ["cancel_scan", "message_all_users"] {
        socket.say(&format!("42[\"{event}\",\"x\"]")).await;
    }
    support::until("both are counted", || refusals(&rig) == [("missing-scope".to_owned(), 2)]).await;
    assert_eq!(notices(&rig), [("missing-scope".to_owned(), "test key".to_owned(), "2".to_owned())]);
}
