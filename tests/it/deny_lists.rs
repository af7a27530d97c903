//! Routes that mint, reveal or change credentials of a media server, or rule it: refused to every key without the scope `admin`, in every
//! spelling that reaches the same handler, and open to a key with it. Made from the tables themselves, so that a new line is tried too.

pub(crate) mod documents;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use keygate::keys::{ApiKey, Scopes};
use keygate::registry::KeyPatch;
use keygate::target::Path;
use keygate::upstream::Kind;
use keygate::upstream::dialect::{self, Route, RouteClass};

use crate::support::http::{self as client, Answer};
use crate::support::spelling::{Connection, ambiguous, examples, methods, parsed, spellings};
use crate::support::tls::{Trust, exchange};
use crate::support::{Rig, Setup};

const CHALLENGE: &str = r#"Bearer realm="keygate", error="insufficient_scope", scope="admin""#;

fn documented(kind: Kind) -> &'static [&'static str] {
    if kind == Kind::Audiobookshelf { documents::AUDIOBOOKSHELF } else { documents::MEDIABROWSER }
}

fn every_day(kind: Kind) -> &'static [&'static str] {
    if kind == Kind::Audiobookshelf { documents::AUDIOBOOKSHELF_EVERY_DAY } else { documents::MEDIABROWSER_EVERY_DAY }
}

fn class(kind: Kind, method: &Method, path: &str) -> RouteClass {
    dialect::of(kind).route(method, &Path::parse(path).expect(path))
}

fn restricted(kind: Kind) -> impl Iterator<Item = &'static Route> {
    dialect::of(kind).routes().iter().filter(|route| route.class == RouteClass::Restricted)
}

/// A rig whose upstream answers 404 to whatever reaches it, and two keys of one account: without the scope, and with it.
struct Door {
    rig: Rig,
    plain: ApiKey,
    admin: ApiKey,
}

impl Door {
    async fn of(setup: Setup) -> Self {
        let rig = setup.start().await;
        let (plain, admin) = (rig.another_key("plain"), rig.another_key("boss"));
        let scopes = KeyPatch { scopes: Some(Scopes::ALL), ..KeyPatch::default() };
        rig.keep().registry.edit_key(admin.id(), scopes).unwrap();
        Self { rig, plain, admin }
    }

    /// Each key has its session before the upstream answers nothing but 404.
    async fn shut(&self) {
        for key in [&self.plain, &self.admin] {
            let bearer = format!("Bearer {}", key.expose());
            assert_eq!(client::get(self.rig.address, "/keygate-test/echo", &[("authorization", &bearer)]).await.status, 200);
        }
        self.rig.standin.control().faults(|faults| faults.status = Some((404, None)));
    }

    fn arrived(&self) -> u64 {
        self.rig.standin.control().counters().requests
    }

    /// What is asked for without the scope is answered 403 and never arrives; with it, it arrives.
    async fn try_both(&self, connection: &mut Connection, method: &Method, target: &str) {
        let before = self.arrived();
        let answer = connection.ask(method, target, Some(&self.plain)).await;
        assert_missing_scope(&answer, method, target);
        assert_eq!(self.arrived(), before, "{method} {target} reached the upstream");
        let answer = connection.ask(method, target, Some(&self.admin)).await;
        assert_eq!((answer.status.as_u16(), self.arrived()), (404, before + 1), "{method} {target} with the scope: {}", answer.text());
    }
}

fn assert_missing_scope(answer: &Answer, method: &Method, target: &str) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {target}: {}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE), "{method} {target}");
    assert!(method == Method::HEAD || answer.json()["error"] == "missing_scope", "{method} {target}: {}", answer.text());
}

#[test]
fn the_tables_hold_every_route_of_the_documents_and_no_other() {
    for kind in Kind::ALL {
        for (method, path) in documented(kind).iter().map(|request| parsed(request)) {
            assert_eq!(class(kind, &method, path), RouteClass::Restricted, "{kind}: {method} {path}");
            if method == Method::GET {
                assert_eq!(class(kind, &Method::HEAD, path), RouteClass::Restricted, "{kind}: HEAD {path}");
            }
        }
        let bases = dialect::of(kind).base_paths();
        for route in restricted(kind) {
            let is_documented = documented(kind)
                .iter()
                .map(|request| parsed(request))
                .any(|(method, path)| route.methods.contains(&method) && Path::parse(path).expect(path).matches(bases, route.pattern));
            assert!(is_documented, "{kind}: {} is restricted, and no example of it is written down", route.pattern);
        }
    }
}

#[test]
fn what_clients_ask_for_every_day_is_restricted_in_no_spelling() {
    for kind in Kind::ALL {
        for (method, path) in every_day(kind).iter().map(|request| parsed(request)) {
            // No client adds an ending; where it does not fit, the stricter of two readings counts.
            for spelled in spellings(path, kind).iter().filter(|spelled| !spelled.ends_with(".json") && !spelled.ends_with(".xml")) {
                let spelled = spelled.split('?').next().unwrap_or_default();
                assert_ne!(class(kind, &method, spelled), RouteClass::Restricted, "{kind}: {method} {spelled}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_restricted_route_in_every_spelling_asks_for_the_scope() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind)).await;
        door.shut().await;
        let mut connection = Connection::to(door.rig.address).await;
        for route in restricted(kind) {
            for path in examples(route.pattern) {
                for method in methods(route) {
                    door.try_both(&mut connection, method, &path).await;
                }
                let mut methods = methods(route).cycle();
                for spelled in spellings(&path, kind) {
                    door.try_both(&mut connection, methods.next().expect("one"), &spelled).await;
                }
                let absolute = format!("http://{}{path}", door.rig.address);
                door.try_both(&mut connection, methods.next().expect("one"), &absolute).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_they_are_401_and_what_is_ambiguous_is_400_for_every_key() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind)).await;
        door.shut().await;
        let before = door.arrived();
        for route in restricted(kind) {
            let path = examples(route.pattern).pop().expect("one");
            let method = methods(route).next().expect("one");
            let mut connection = Connection::to(door.rig.address).await;
            let answer = connection.ask(method, &path, None).await;
            assert_eq!(answer.status, 401, "{kind}: {method} {path}");
            for key in [None, Some(&door.plain), Some(&door.admin)] {
                for spelled in ambiguous(&path) {
                    // Some of these end the connection.
                    let mut connection = Connection::to(door.rig.address).await;
                    assert_eq!(connection.ask(method, &spelled, key).await.status, 400, "{kind}: {method} {spelled}");
                }
            }
        }
        assert_eq!(door.arrived(), before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_base_path_of_the_operators_own_it_is_the_same() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind).with(|config| config.upstreams[0].base_path = "/media/home".to_owned())).await;
        door.rig.standin.control().faults(|faults| faults.status = Some((404, None)));
        let mut connection = Connection::to(door.rig.address).await;
        let base = dialect::of(kind).base_paths()[0];
        for route in restricted(kind) {
            let method = methods(route).next().expect("one");
            for path in examples(route.pattern) {
                for front in ["/media/home", "/MEDIA//Home", &format!("/media/home/{base}"), &format!("/{base}"), ""] {
                    let target = format!("{front}{path}");
                    let answer = connection.ask(method, &target, Some(&door.plain)).await;
                    assert_missing_scope(&answer, method, &target);
                }
            }
        }
        assert_eq!(door.rig.standin.control().journal().len(), 0, "{kind}: not even a login");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_it_is_the_same() {
    let trust = Trust::new();
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind).tls(trust.certificate())).await;
        let mut http2 = trust.http2(door.rig.address).await;
        let mut ask = async |method: &Method, path: &str, key: &ApiKey| {
            let request = Request::builder().method(method).uri(format!("https://localhost{path}")).header("x-emby-token", key.expose());
            exchange(&mut http2, request.body(Full::default()).expect(path)).await
        };
        for key in [&door.plain, &door.admin] {
            assert_eq!(ask(&Method::GET, "/keygate-test/echo", key).await.status, 200);
        }
        door.rig.standin.control().faults(|faults| faults.status = Some((404, None)));
        for route in restricted(kind) {
            let path = examples(route.pattern).pop().expect("one").to_ascii_uppercase() + "/";
            for method in methods(route) {
                let before = door.arrived();
                assert_missing_scope(&ask(method, &path, &door.plain).await, method, &path);
                assert_eq!(door.arrived(), before, "{method} {path}");
                assert_eq!(ask(method, &path, &door.admin).await.status, 404, "{method} {path}");
                assert_eq!(door.arrived(), before + 1, "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_on_a_restricted_path_asks_for_the_scope_too() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind)).await;
        for route in restricted(kind).filter(|route| route.methods.contains(&Method::GET)) {
            for path in examples(route.pattern) {
                let lines = [
                    ("x-emby-token", door.plain.expose()),
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ];
                let answer = client::get(door.rig.address, &path, &lines).await;
                assert_missing_scope(&answer, &Method::GET, &path);
            }
        }
        assert_eq!(door.rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_key_elsewhere_than_in_its_form_arrives_for_nobody_and_a_logout_is_answered_for_every_key() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind)).await;
        door.shut().await;
        let mut connection = Connection::to(door.rig.address).await;
        let (login, logout, status) = match kind {
            Kind::Audiobookshelf => ("/login", "/logout", 200),
            Kind::Emby | Kind::Jellyfin => ("/Users/AuthenticateByName", "/Sessions/Logout", 204),
        };
        door.rig.standin.control().clear_journal();
        for spelled in spellings(login, kind) {
            for key in [&door.plain, &door.admin] {
                // keygate asks the server who the key's account is, with a call of its own.
                assert_eq!(connection.ask(&Method::POST, &spelled, Some(key)).await.status, 502, "{kind}: {spelled}");
            }
        }
        let arrived = door.rig.standin.control().journal();
        assert!(arrived.iter().all(|seen| !seen.target.to_ascii_lowercase().contains(&login.to_ascii_lowercase())), "{kind}: {arrived:?}");
        let before = door.arrived();
        for spelled in spellings(logout, kind) {
            for key in [&door.plain, &door.admin] {
                assert_eq!(connection.ask(&Method::POST, &spelled, Some(key)).await.status.as_u16(), status, "{kind}: {spelled}");
            }
        }
        assert_eq!(door.arrived(), before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_counts_from_the_next_request_on() {
    for kind in Kind::ALL {
        let door = Door::of(Setup::new(kind)).await;
        door.shut().await;
        let (method, path) = parsed(documented(kind)[0]);
        let mut connection = Connection::to(door.rig.address).await;
        door.try_both(&mut connection, &method, path).await;
        let set = |scopes| door.rig.keep().registry.edit_key(door.admin.id(), KeyPatch { scopes: Some(scopes), ..KeyPatch::default() });
        set(Scopes::FULL).unwrap();
        assert_missing_scope(&connection.ask(&method, path, Some(&door.admin)).await, &method, path);
        assert_eq!(
            connection.ask(&Method::GET, "/keygate-test/echo", Some(&door.admin)).await.status,
            404,
            "{kind}: other routes are open to it"
        );
        set(Scopes::ALL).unwrap();
        assert_eq!(connection.ask(&method, path, Some(&door.admin)).await.status, 404);
    }
}
