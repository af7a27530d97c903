//! What a key may do: every route, every preset, both outcomes, in every spelling that reaches the same handler.

mod commands;
mod documents;
mod libraries;
mod spelled;

use http::{Method, StatusCode};
use keygate::keys::{ApiKey, Preset, Scope, Scopes};
use keygate::registry::KeyPatch;
use keygate::target::Path;
use keygate::upstream::Kind;
use keygate::upstream::dialect::{self, Media, Route, RouteClass, Routed};

use crate::deny_lists::documents as deny_lists;
use crate::support::http as client;
use crate::support::socket::Socket;
use crate::support::spelling::{Connection, examples, methods, parsed, spellings};
use crate::support::{Rig, Setup};

fn routed(kind: Kind, method: &Method, target: &str) -> Routed {
    let path = target.split('?').next().unwrap_or_default();
    dialect::of(kind).routed(method, &Path::parse(path).expect(target))
}

/// Emby takes them off.
fn has_ending(target: &str) -> bool {
    target.ends_with(".json") || target.ends_with(".xml")
}

/// A key with these scopes, of the rig's account.
fn key_with(rig: &Rig, scopes: Scopes) -> ApiKey {
    let key = rig.another_key("some");
    let patch = KeyPatch { scopes: Some(scopes), ..KeyPatch::default() };
    rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    key
}

async fn with_key(rig: &Rig, key: &ApiKey, method: Method, path: &str) -> client::Answer {
    client::send(rig.address, method, path, &[("x-emby-token", key.expose())], "").await
}

#[test]
fn the_tables_say_of_every_request_what_the_documents_say() {
    let mut count = [0, 0];
    for kind in Kind::ALL {
        let is_shelf = kind == Kind::Audiobookshelf;
        let (expected, denied) = match is_shelf {
            true => (documents::AUDIOBOOKSHELF, deny_lists::AUDIOBOOKSHELF),
            false => (documents::MEDIABROWSER, deny_lists::MEDIABROWSER),
        };
        let admin = [("admin", denied)];
        for (scope, requests) in expected.iter().chain(&admin) {
            let needs = if *scope == "-" { Scopes::NONE } else { Scopes::of(scope.parse().expect("a scope")) };
            for (method, path) in requests.iter().map(|request| parsed(request)) {
                assert_eq!(routed(kind, &method, path).needs, needs, "{kind}: {method} {path}");
                count[usize::from(is_shelf)] += 1;
            }
        }
        let named = |scope: Scope| expected.iter().any(|(name, _)| *name == scope.name());
        let absent: Vec<_> = Scope::ALL.into_iter().filter(|scope| !named(*scope)).collect();
        assert_eq!(absent, if is_shelf { vec![Scope::Control] } else { vec![] }, "{kind}: a scope without an example");
    }
    assert!(count.iter().all(|count| *count >= 60));
}

#[test]
fn a_route_takes_the_same_in_every_spelling() {
    for kind in Kind::ALL {
        for route in dialect::of(kind).routes() {
            for path in examples(route.pattern) {
                for (method, spelled) in
                    methods(route).flat_map(|method| spellings(&path, kind).into_iter().map(move |spelled| (method, spelled)))
                {
                    let needs = routed(kind, method, &spelled).needs;
                    if has_ending(&spelled) {
                        // Two readings, where the name could be another thing's: it takes what both take.
                        assert!(route.needs.without(needs).is_empty(), "{kind}: {method} {spelled} takes {needs:?}");
                    } else {
                        assert_eq!(needs, route.needs, "{kind}: {method} {spelled} of {}", route.pattern);
                    }
                }
            }
        }
    }
}

#[test]
fn no_preset_below_admin_has_what_a_route_of_the_deny_lists_takes() {
    let below = Preset::ALL.into_iter().filter(|preset| *preset != Preset::Admin);
    let below: Scopes = below.flat_map(|preset| preset.scopes().iter()).collect();
    for kind in Kind::ALL {
        let denied = if kind == Kind::Audiobookshelf { deny_lists::AUDIOBOOKSHELF } else { deny_lists::MEDIABROWSER };
        for (method, path) in denied.iter().map(|request| parsed(request)) {
            for spelled in spellings(path, kind) {
                let needs = routed(kind, &method, &spelled).needs;
                assert!(!needs.without(below).is_empty(), "{kind}: {method} {spelled} takes {needs:?}");
            }
        }
    }
}

/// Routes that are forwarded: keygate itself answers the others.
fn forwarded(kind: Kind) -> impl Iterator<Item = &'static Route> {
    use RouteClass::{Answered, Login, Logout, Refresh, Socket};
    dialect::of(kind).routes().iter().filter(|route| !matches!(route.class, Answered(_) | Login | Logout | Refresh | Socket))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_preset_reaches_what_it_has_the_scope_for_and_nothing_else() {
    for kind in Kind::ALL {
        let rig = Setup::new(kind).start().await;
        let keys = Preset::ALL.map(|preset| (preset, key_with(&rig, preset.scopes())));
        for (_, key) in &keys {
            // Each key has its session before the upstream answers nothing but 404.
            let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Endpoint" };
            with_key(&rig, key, Method::GET, path).await;
        }
        rig.standin.control().faults(|faults| faults.status = Some((404, None)));
        let mut connection = Connection::to(rig.address).await;
        let mut passed = [0; Preset::ALL.len()];
        for (turn, route) in forwarded(kind).enumerate() {
            let paths = examples(route.pattern);
            let spelled = spellings(&paths[turn % paths.len()], kind);
            for (place, (preset, key)) in keys.iter().enumerate() {
                let method = methods(route).nth((turn + place) % methods(route).count()).expect("one");
                let target = &spelled[(turn + place) % spelled.len()];
                let before = rig.standin.control().counters().requests;
                let answer = connection.ask(method, target, Some(key)).await;
                let arrived = rig.standin.control().counters().requests - before;
                let needs = if has_ending(target) { routed(kind, method, target).needs } else { route.needs };
                let missing = needs.without(preset.scopes());
                if missing.is_empty() {
                    assert_eq!((answer.status.as_u16(), arrived), (404, 1), "{kind}: {preset}: {method} {target}: {}", answer.text());
                    passed[place] += 1;
                } else {
                    assert_eq!((answer.status.as_u16(), arrived), (403, 0), "{kind}: {preset}: {method} {target}: {}", answer.text());
                    let (scope, listed) = (missing.names().join(" "), missing.listed());
                    let challenge = format!(r#"Bearer realm="keygate", error="insufficient_scope", scope="{scope}""#);
                    assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()), "{method} {target}");
                    if method != Method::HEAD {
                        let body = answer.json();
                        assert_eq!((&body["error"], &body["scope"]), (&"missing_scope".into(), &listed.as_str().into()), "{body}");
                        assert_eq!(body["preset"], preset.name(), "{body}");
                    }
                }
            }
        }
        let all = forwarded(kind).count();
        for (place, (preset, _)) in keys.iter().enumerate() {
            assert_eq!(passed[place] == all, *preset == Preset::Admin, "{kind}: {preset} reached {} of {all}", passed[place]);
            assert!(passed[place] > 0, "{kind}: {preset} reached nothing");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_a_scope_reads_which_one_and_what_the_key_has() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let cases = [
        (Preset::Dashboard.scopes(), "This needs the scope stream, which this API key does not have (preset dashboard).", "\"dashboard\""),
        (
            Scopes::among(&[Scope::Browse, Scope::Progress, Scope::Events]),
            "This needs the scope stream, which this API key does not have (scopes browse, progress, events).",
            "null",
        ),
    ];
    for (scopes, message, preset) in cases {
        let key = key_with(&rig, scopes);
        let answer = with_key(&rig, &key, Method::GET, "/Videos/7/stream.mkv").await;
        let body = format!("{{\"error\":\"missing_scope\",\"message\":\"{message}\",\"scope\":\"stream\",\"preset\":{preset}}}\n");
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_can_log_in_by_the_form_and_then_does_what_it_may() {
    for kind in [Kind::Audiobookshelf, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let key = key_with(&rig, Preset::StreamOnly.scopes());
        let (login, form, me, other) = match kind {
            Kind::Audiobookshelf => ("/login", format!(r#"{{"username":"x","password":"{}"}}"#, key.expose()), "/api/me", "/api/libraries"),
            _ => ("/Users/AuthenticateByName", format!(r#"{{"Username":"x","Pw":"{}"}}"#, key.expose()), "/Users/Me", "/Items"),
        };
        let json = [("content-type", "application/json")];
        assert_eq!(client::send(rig.address, Method::POST, login, &json, form).await.status, 200, "{kind}");
        assert_eq!(with_key(&rig, &key, Method::GET, me).await.status, 200, "{kind}: what a login tells, every key may ask for");
        if kind == Kind::Audiobookshelf {
            let authorized = with_key(&rig, &key, Method::POST, "/api/authorize").await;
            assert_eq!((authorized.status.as_u16(), &authorized.json()["user"]["username"]), (200, &"alice".into()));
        }
        assert_eq!(with_key(&rig, &key, Method::GET, other).await.status, 403, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_to_a_key_opens_no_more_than_the_key() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let listed = rig.get("/Items?Recursive=true").await.json();
        let id = listed["Items"][0]["Id"].as_str().expect("an id").to_owned();
        let key = key_with(&rig, Preset::StreamOnly.scopes());
        let verified = rig.keep().find(&key).expect("a known key");
        let ticket = rig.keep().handouts.ticket_for(&verified, &rig.account.upstream).expect("a ticket");
        let ask = async |path: &str| client::get(rig.address, &format!("{path}?api_key={}", ticket.expose()), &[]).await.status.as_u16();
        assert_eq!(ask(&format!("/Audio/{id}/stream")).await, 200, "{kind}");
        assert_eq!(ask(&format!("/Items/{id}/Download")).await, 403, "{kind}: it may not download");
        let patch = KeyPatch { scopes: Some(Preset::Dashboard.scopes()), ..KeyPatch::default() };
        rig.keep().registry.edit_key(key.id(), patch).expect("edited");
        assert_eq!(ask(&format!("/Audio/{id}/stream")).await, 403, "{kind}: from the next request on");
    }
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let key = key_with(&rig, Preset::StreamOnly.scopes());
    let book = rig.get("/api/libraries").await.json()["libraries"][0]["id"].as_str().expect("an id").to_owned();
    let books = rig.get(&format!("/api/libraries/{book}/items")).await.json();
    let play = format!("/api/items/{}/play", books["results"][0]["id"].as_str().expect("an id"));
    let session = with_key(&rig, &key, Method::POST, &play).await.json()["id"].as_str().expect("an id").to_owned();
    let track = format!("/public/session/{session}/track/1");
    assert_eq!(client::get(rig.address, &track, &[]).await.status, 200);
    let patch = KeyPatch { scopes: Some(Preset::Dashboard.scopes()), ..KeyPatch::default() };
    rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    assert_ne!(client::get(rig.address, &track, &[]).await.status, 200);
}

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_takes_events_on_whatever_path_and_however_the_key_comes() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let (quiet, listening) = (key_with(&rig, Preset::Dashboard.scopes()), key_with(&rig, Preset::ReadOnly.scopes()));
        let paths: &[&str] = match kind {
            Kind::Audiobookshelf => &["/socket.io/?EIO=4&transport=websocket", "/socket.io/?EIO=4&transport=polling"],
            Kind::Emby => &["/embywebsocket", "/", "/Items", "/emby/embywebsocket"],
            Kind::Jellyfin => &["/socket", "/", "/Items"],
        };
        for path in paths {
            let headers: Vec<_> =
                UPGRADE.into_iter().filter(|_| !path.contains("polling")).chain([("x-emby-token", quiet.expose())]).collect();
            let answer = client::get(rig.address, path, &headers).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["scope"]), (403, &"events".into()), "{kind}: {path}");
        }
        let token = if kind == Kind::Audiobookshelf { "token" } else { "api_key" };
        let separator = if paths[0].contains('?') { '&' } else { '?' };
        let mut socket = Socket::open(&rig, &format!("{}{separator}{token}={}", paths[0], listening.expose()), "").await;
        socket.hear().await;
    }
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = crate::socketio::connected(&rig, crate::socketio::OPEN).await;
    socket.say(&crate::socketio::auth(key_with(&rig, Preset::Dashboard.scopes()).expose())).await;
    assert!(socket.hear().await.starts_with("42[\"auth_failed\""), "in an auth as well");
    socket.say(&crate::socketio::auth(key_with(&rig, Preset::ReadOnly.scopes()).expose())).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
}

#[test]
fn media_takes_stream_or_download_and_nothing_else_does() {
    for kind in Kind::ALL {
        for route in dialect::of(kind).routes() {
            let is_media = matches!(route.class, RouteClass::Media(Media::Bytes | Media::Text | Media::Either) | RouteClass::Capability);
            let takes = [Scope::Stream, Scope::Download].into_iter().any(|scope| route.needs.contains(scope));
            assert!(!is_media || takes, "{route:?}");
        }
    }
}
