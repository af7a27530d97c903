//! What the audit log says of refusals: why, of what, how often, and where the credential was.

use std::collections::{BTreeMap, BTreeSet};

use keygate::audit::{Entry, Reading, Verb};
use keygate::store::Store as _;

use super::*;
use crate::socketio::{OPEN, auth, connected};
use crate::support::until;

/// By why and of what: how often, and where the credentials were.
type Notices = BTreeMap<(String, String), (u64, BTreeSet<String>)>;

fn notices(rig: &Rig) -> Notices {
    rig.keep().usage.finish().expect("written");
    let mut notices = Notices::new();
    let mut note = |entry: Entry| {
        let line = entry.line;
        let field = |name: &str| line.fields.iter().find(|field| field.name == name).and_then(|field| field.after.as_ref());
        if matches!(line.verb, Verb::Refused | Verb::Throttled) {
            let text = |name| field(name).map(ToString::to_string).unwrap_or_default();
            // What came later has a line of its own.
            let noted = notices.entry((text("why"), line.object.name.to_string())).or_default();
            noted.0 += text("times").parse::<u64>().expect("a number");
            noted.1.extend(text("carrier").split(' ').map(str::to_owned));
        }
        true
    };
    rig.store.read_audit(Reading::After(0), &mut note).expect("the log");
    notices
}

/// Asks with what is refused, each in another way.
async fn try_all(rig: &Rig) {
    let key = |name: &str| rig.another_key(name);
    let (revoked, disabled, narrow) = (key("revoked"), key("disabled"), key("narrow"));
    rig.keep().registry.revoke_key(revoked.id()).expect("revoked");
    let edit = |key: &ApiKey, patch| drop(rig.keep().registry.edit_key(key.id(), patch).expect("edited"));
    edit(&disabled, KeyPatch { is_active: Some(false), ..KeyPatch::default() });
    edit(&narrow, KeyPatch { scopes: Some(Scopes::NONE), ..KeyPatch::default() });
    let unknown = ApiKey::generate(KeyId::from_u64(4711)).expect("a key");
    rig.sweep.keep_secret(unknown.expose());
    let ask = async |header: &str, value: String, query: String, status: u16| {
        let answer = http::get(rig.address, &format!("{PATH}{query}"), &[(header, &value)]).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    };
    ask("authorization", format!("Bearer {}", unknown.expose()), String::new(), 401).await;
    for _ in 0..2 {
        ask("accept", "*/*".to_owned(), format!("?token={}", unknown.expose()), 401).await;
    }
    ask("x-emby-token", revoked.expose().to_owned(), String::new(), 401).await;
    ask("accept", "*/*".to_owned(), format!("?api_key={}", disabled.expose()), 401).await;
    ask("authorization", format!("Bearer {}", narrow.expose()), String::new(), 403).await;
    let mut socket = connected(rig, OPEN).await;
    socket.say(&auth("kg_damaged")).await;
    assert!(socket.hear().await.contains("auth_failed"));
    // No credential, no note.
    assert_eq!(http::get(rig.address, PATH, &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_noted_whether_or_not_requests_are_counted() {
    for (is_counting, has_lines) in [(true, true), (false, true), (false, false)] {
        let setup = Setup::new(Kind::Audiobookshelf).with(move |config| {
            config.usage.is_enabled = is_counting;
            config.log.access = has_lines;
        });
        let rig = setup.start().await;
        try_all(&rig).await;
        let expected: Notices = [
            ("dead-key", "revoked", 1, "x-emby-token"),
            ("disabled-key", "disabled", 1, "api_key"),
            ("malformed-key", "127.0.0.1", 1, "auth-packet"),
            ("missing-scope", "narrow", 1, "bearer"),
            ("unknown-key", "127.0.0.1", 3, "bearer token"),
        ]
        .map(|(why, of, times, carriers)| ((why.to_owned(), of.to_owned()), (times, carriers.split(' ').map(str::to_owned).collect())))
        .into();
        until("all are noted", || notices(&rig).values().map(|(times, _)| times).sum::<u64>() == 7).await;
        assert_eq!(notices(&rig), expected, "counting: {is_counting}, access log: {has_lines}");
        let counted: u64 = rig.keep().usage.totals().expect("read").values().flat_map(|of| of.refusals.values()).sum();
        assert_eq!(counted > 0, is_counting);
    }
}
