//! No credential of an upstream comes out of keygate, and what needs one to work gets the client's own.

mod bodies;
mod codings;
mod headers;
mod requests;

use ::http::Method;
use bytes::Bytes;
use keygate::config::Config;
use keygate::demo::{Canned, Options, User};
use keygate::keys::Scopes;
use keygate::registry::NewKey;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};

use crate::support::http::{self, Answer};
use crate::support::{Rig, Setup};

/// A rig whose session exists already, and the token of it.
async fn warm(setup: Setup) -> (Rig, String) {
    let rig = setup.start().await;
    let path = if rig.standin.kind == Kind::Audiobookshelf { "/api/libraries" } else { "/System/Info" };
    assert_eq!(rig.get(path).await.status, 200, "{}", rig.standin.kind);
    let token = session_token(&rig);
    (rig, token)
}

/// The token that the upstream saw last.
fn session_token(rig: &Rig) -> String {
    let seen = rig.standin.control().journal().pop().expect("a request");
    let value = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match rig.standin.kind {
        Kind::Audiobookshelf => value("authorization").and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned())),
        Kind::Emby => value("x-emby-token"),
        Kind::Jellyfin => value("authorization").and_then(|value| Some(value.split_once("Token=\"")?.1.split('"').next()?.to_owned())),
    }
    .expect("a session token")
}

/// What the stand-in answers from now on.
fn say(rig: &Rig, canned: Canned) {
    rig.standin.control().faults(|faults| faults.canned = Some(canned));
}

/// A request with the key in a header.
async fn ask(rig: &Rig, method: Method, path: &str, lines: &[(&str, &str)]) -> Answer {
    let lines: Vec<_> = lines.iter().copied().chain([("x-emby-token", rig.secret())]).collect();
    http::send(rig.address, method, path, &lines, Bytes::new()).await
}

/// No secret of the upstream's stands anywhere in an answer.
fn assert_clean(rig: &Rig, answer: &Answer, what: &str) {
    let mut text = answer.text();
    for (name, value) in &answer.headers {
        text.push_str(&format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    for secret in rig.standin.control().secrets() {
        assert!(!text.contains(&secret), "{what}: {secret} in {text}");
    }
}

/// An account that administers the server, and a key for it.
fn admin_key(rig: &Rig) -> String {
    let name = rig.config.upstreams[0].name.clone();
    let password = Credential::Password(Secret::from("root-password"));
    let account = rig.keep().registry.add_account(name, "root".to_owned(), password).expect("an account");
    let new = NewKey {
        name: "root key".to_owned(),
        account: account.id,
        expires_at: None,
        is_active: true,
        scopes: Scopes::ALL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    rig.keep().registry.create_key(new).expect("a key").key.expose().to_owned()
}
