//! What holds for every line of the tables, and how the tree reads a path.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::keys::{Preset, Scope};
use crate::upstream::Kind;
use crate::upstream::dialect::{self, Media, OwnAnswer};

const KINDS: [Kind; 3] = [Kind::Audiobookshelf, Kind::Emby, Kind::Jellyfin];
const METHODS: [Method; 8] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];

fn routed(kind: Kind, method: &Method, path: &str) -> Routed {
    dialect::of(kind).routed(method, &crate::target::Path::parse(path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

fn class(kind: Kind, method: &Method, path: &str) -> RouteClass {
    routed(kind, method, path).class
}

fn classes(kind: Kind, method: &str, path: &str) -> RouteClass {
    class(kind, &method.parse().expect("a method"), path)
}

/// Paths that fit a pattern and, as far as may be, no other.
fn examples(pattern: &str) -> Vec<String> {
    let mut fronts = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let ends = match (part, part.split_once('{')) {
            ("*", _) => vec!["/x1".to_owned(), "/x1/x2/x3".to_owned()],
            ("**", _) => vec![String::new(), "/x1".to_owned(), "/x1/x2/x3".to_owned()],
            (_, Some((front, rest))) => vec![format!("/{front}x1{}", rest.split_once('}').expect("closed").1)],
            (name, None) => vec![format!("/{name}")],
        };
        fronts = fronts.iter().flat_map(|front| ends.iter().map(move |end| format!("{front}{end}"))).collect();
    }
    fronts.into_iter().map(|path| if path.is_empty() { "/".to_owned() } else { path }).collect()
}

#[test]
fn every_line_of_every_table_is_in_force_for_all_its_methods() {
    for kind in KINDS {
        for route in dialect::of(kind).routes() {
            for path in examples(route.pattern) {
                for method in METHODS.iter().filter(|method| route.methods.contains(method)) {
                    let routed = routed(kind, method, &path);
                    assert_eq!((routed.class, routed.needs), (route.class, route.needs), "{kind}: {method} {path} of {}", route.pattern);
                }
            }
        }
    }
}

#[test]
fn no_two_lines_say_something_about_the_same_request() {
    for kind in KINDS {
        let mut seen: HashMap<String, Vec<Route>> = HashMap::new();
        for route in dialect::of(kind).routes() {
            let names: Vec<_> = examples(route.pattern);
            let others = seen.entry(names[names.len() - 1].to_ascii_lowercase()).or_default();
            for other in others.iter() {
                assert!(!other.methods.overlaps(route.methods), "{kind}: {other:?} and {route:?}");
            }
            others.push(*route);
            assert!(!route.pattern.ends_with('/') || route.pattern == "/", "{route:?}");
        }
    }
}

/// A ticket opens media routes, and the answers of most are passed as they are: neither may hold for a route that nobody looked at, nor
/// for one that changes something.
#[test]
fn media_routes_are_named_to_their_end_and_only_read() {
    for kind in KINDS {
        for route in dialect::of(kind).routes().iter().filter(|route| matches!(route.class, RouteClass::Media(_))) {
            assert!(!route.pattern.contains('*'), "{route:?}");
            for method in &METHODS {
                assert_eq!(route.methods.contains(method), matches!(*method, Method::GET | Method::HEAD), "{route:?}");
            }
        }
    }
}

#[test]
fn open_classes_only_read_but_for_the_few_that_the_servers_have() {
    let known = ["/System/Ping", "/public/share/{slug}/progress"];
    for kind in KINDS {
        for route in dialect::of(kind).routes() {
            let is_open = matches!(
                route.class,
                RouteClass::Identity
                    | RouteClass::Answered(_)
                    | RouteClass::Image
                    | RouteClass::WebUi
                    | RouteClass::Share
                    | RouteClass::Capability
            );
            assert!(!is_open || !WRITE.overlaps(route.methods) || known.contains(&route.pattern), "{route:?}");
        }
    }
}

/// How a request is treated and what it takes are two things, but for this: what is on a deny list takes the scope `admin`, and nothing else
/// does; and no line takes more than one scope.
#[test]
fn the_deny_lists_are_what_takes_admin() {
    for kind in KINDS {
        for route in dialect::of(kind).routes() {
            assert_eq!(route.class == RouteClass::Restricted, route.needs.contains(Scope::Admin), "{route:?}");
            assert!(route.needs.iter().count() <= 1, "{route:?}");
        }
    }
}

/// Without a key, or with any, a media server tells who it is and lets people log in; it shows pictures. All else takes a scope.
#[test]
fn what_every_key_may_is_little() {
    let known = ["/api/me", "/api/authorize", "/Users/Me", "/System/Endpoint"];
    for kind in KINDS {
        for route in dialect::of(kind).routes().iter().filter(|route| route.needs.is_empty()) {
            let is_for_all = !matches!(
                route.class,
                RouteClass::Keyed | RouteClass::Media(_) | RouteClass::Capability | RouteClass::Share | RouteClass::Socket
            );
            assert!(is_for_all || known.contains(&route.pattern), "{route:?}");
        }
        for method in ["GET", "POST", "DELETE"] {
            let unknown = routed(kind, &method.parse().expect("a method"), "/nobody/knows/this");
            assert_eq!((unknown, unknown.needs), (Routed::UNKNOWN, Scopes::of(Scope::Manage)));
        }
    }
}

/// What is called read-only, and what it may all the same, since these read, or do no more than to let somebody play or log in.
#[test]
fn who_may_only_read_has_few_routes_that_are_not_asked_for_by_get() {
    let reading = Preset::ReadOnly.scopes().or(Preset::StreamOnly.scopes()).or(Preset::Dashboard.scopes());
    let known = [
        "/login",
        "/logout",
        "/auth/refresh",
        "/socket.io/**",
        "/api/authorize",
        "/api/items/batch/get",
        "/api/items/{id}/play",
        "/api/items/{id}/play/{episode}",
        "/System/Ping",
        "/Users/AuthenticateByName",
        "/Sessions/Logout",
        "/LiveTv/Programs",
        "/Items/{id}/PlaybackInfo",
        "/LiveStreams/Open",
        "/LiveStreams/Close",
        "/LiveStreams/MediaInfo",
        "/Videos/ActiveEncodings",
        "/Videos/ActiveEncodings/Delete",
        "/Sessions/Playing/Ping",
        "/Sessions/Capabilities",
        "/Sessions/Capabilities/Full",
    ];
    for kind in KINDS {
        for route in dialect::of(kind).routes() {
            let may = route.needs.without(reading).is_empty() && route.methods.overlaps(WRITE);
            assert!(!may || known.contains(&route.pattern), "{route:?}");
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_takes_what_both_take() {
    let needs = |kind, method: &str, path| routed(kind, &method.parse().expect("a method"), path).needs;
    for (method, path, scope) in [
        ("POST", "/Items/7/Delete.json", Scope::Delete),
        ("DELETE", "/Items/7.xml", Scope::Delete),
        ("GET", "/Items/7/PlaybackInfo.json", Scope::Stream),
        ("POST", "/Library/Refresh.json", Scope::Scan),
    ] {
        assert_eq!(needs(Kind::Emby, method, path), Scopes::of(scope), "{method} {path}");
    }
    for (method, path, scopes) in [
        ("DELETE", "/books/api/items/7", Scopes::of(Scope::Delete)),
        ("GET", "/books/api/items/7", Scopes::of(Scope::Browse)),
        ("GET", "/library/api/items/7", Scopes::of(Scope::Browse)),
        ("GET", "/books/socket.io/", Scopes::of(Scope::Events)),
    ] {
        assert_eq!(needs(Kind::Audiobookshelf, method, path), scopes, "{method} {path}");
    }
}

#[test]
fn the_most_specific_line_that_has_the_method_counts() {
    let media = |what| RouteClass::Media(what);
    for kind in [Kind::Emby, Kind::Jellyfin] {
        for (method, path, expected) in [
            ("GET", "/Users/Public", RouteClass::Answered(OwnAnswer::EmptyList)),
            ("DELETE", "/Users/Public", RouteClass::Restricted),
            ("GET", "/QuickConnect/Enabled", RouteClass::Answered(OwnAnswer::False)),
            ("POST", "/QuickConnect/Enabled", RouteClass::Restricted),
            ("POST", "/Users/Configuration", RouteClass::Keyed),
            ("POST", "/Users/7c/Configuration", RouteClass::Keyed),
            ("POST", "/Users/7c", RouteClass::Restricted),
            ("GET", "/Users/7c", RouteClass::Keyed),
            ("GET", "/Plugins/1/2.0/Image", RouteClass::Image),
            ("GET", "/Plugins/1/2.0/Images", RouteClass::Restricted),
            ("GET", "/Videos/1/stream.m3u8", media(Media::Text)),
            ("GET", "/Videos/1/stream.mkv", media(Media::Bytes)),
            ("GET", "/Videos/1/hls/p/stream.m3u8", media(Media::Text)),
            ("GET", "/Videos/1/hls/p/0.ts", media(Media::Bytes)),
            ("GET", "/Audio/1/hls/3/stream.aac", media(Media::Bytes)),
            ("GET", "/Videos/1/1/Subtitles/2/0/Stream.srt", media(Media::Text)),
            ("GET", "/Videos/1/Trickplay/320/tiles.m3u8", media(Media::Text)),
            ("GET", "/Videos/1/Trickplay/320/7.jpg", media(Media::Bytes)),
            ("GET", "/Videos/1/AdditionalParts", RouteClass::Keyed),
            ("GET", "/Audio/1/Lyrics", RouteClass::Keyed),
            ("DELETE", "/Videos/ActiveEncodings", RouteClass::Keyed),
        ] {
            assert_eq!(classes(kind, method, path), expected, "{kind}: {method} {path}");
        }
    }
    for (method, path, expected) in [
        ("POST", "/api/libraries/1/scan", RouteClass::Keyed),
        ("PATCH", "/api/libraries/1/scan", RouteClass::Restricted),
        ("PATCH", "/api/libraries/1/narrators/n", RouteClass::Keyed),
        ("GET", "/api/libraries/1/items", RouteClass::Keyed),
        ("GET", "/api/items/1/ffprobe/2", RouteClass::Keyed),
        ("DELETE", "/api/items/1/file/2", RouteClass::Keyed),
        ("PATCH", "/public/share/s/progress", RouteClass::Share),
        ("POST", "/public/share/s/progress", RouteClass::Keyed),
        ("GET", "/socket.io/anything", RouteClass::Socket),
        ("GET", "/api/session/1", RouteClass::Keyed),
        ("GET", "/api/sessions", RouteClass::Restricted),
    ] {
        assert_eq!(classes(Kind::Audiobookshelf, method, path), expected, "{method} {path}");
    }
}

#[test]
fn embys_ways_of_writing_a_path_reach_the_same_line() {
    for path in [
        "/System/Restart.json",
        "/System/Restart.XML",
        "/System/Restart/.json",
        "/emby/emby/System/Restart",
        "/emby/mediabrowser/System/Restart",
        "/Auth/%E2%84%AAeys",
        "/%C5%BFystem/Re%C5%BFtart",
        "/Env%C4%B1ronment/Dr%C4%B0ves",
    ] {
        assert_eq!(classes(Kind::Emby, "POST", path), RouteClass::Restricted, "{path}");
    }
    assert_eq!(classes(Kind::Emby, "POST", "/Sessions/Logout.json"), RouteClass::Logout);
    assert_eq!(classes(Kind::Emby, "GET", "/System/Info/Public.json"), RouteClass::Keyed, "what is open is not widened");
    assert_eq!(classes(Kind::Audiobookshelf, "GET", "/api/users.json"), RouteClass::Keyed, "Express has no such habit");
}

#[test]
fn a_name_in_another_script_stays_what_it_is() {
    assert_eq!(classes(Kind::Jellyfin, "GET", "/Artists/I%C5%9F%C4%B1l/Images/Primary"), RouteClass::Image);
    assert_eq!(classes(Kind::Jellyfin, "GET", "/Artists/%E2%84%AA/Images"), RouteClass::Keyed);
}

/// One spelling of a path that the servers read as the same.
fn respelled(path: &str, choices: &[bool], bases: &[&str]) -> String {
    let mut choices = choices.iter().copied().cycle();
    let mut next = || choices.next().unwrap_or(false);
    let mut spelled = if next() { format!("/{}", bases[0]) } else { String::new() };
    for letter in path.chars() {
        match (letter, next()) {
            ('/', true) => spelled.push_str("//"),
            (letter, true) if letter.is_ascii_alphabetic() && next() => spelled.push_str(&format!("%{:02X}", letter as u32)),
            (letter, true) if letter.is_ascii_lowercase() => spelled.push(letter.to_ascii_uppercase()),
            (letter, _) => spelled.push(letter),
        }
    }
    if next() { spelled + "/" } else { spelled }
}

proptest! {
    #[test]
    fn the_class_of_a_line_is_the_same_in_every_spelling(choices in proptest::collection::vec(any::<bool>(), 1..40)) {
        for kind in KINDS {
            for route in dialect::of(kind).routes() {
                for path in examples(route.pattern) {
                    let spelled = respelled(&path, &choices, dialect::of(kind).base_paths());
                    let method = METHODS.iter().find(|method| route.methods.contains(method)).expect("one");
                    let routed = routed(kind, method, &spelled);
                    prop_assert_eq!((routed.class, routed.needs), (route.class, route.needs), "{} {} as {}", kind, path, spelled);
                }
            }
        }
    }

    #[test]
    fn no_path_whatever_upsets_the_tree(path in "(/[a-zA-Z.%2]{0,9}){0,30}", method in 0_usize..8) {
        if let Ok(path) = crate::target::Path::parse(&path) {
            for kind in KINDS {
                let _ = dialect::of(kind).route(&METHODS[method], &path);
            }
        }
    }
}

#[test]
fn what_is_closed_is_closed_below_a_base_path_that_nobody_told_of() {
    for (path, expected) in [
        ("/books/api/users", RouteClass::Restricted),
        ("/media/Books/API/api-keys/7", RouteClass::Restricted),
        ("/books/init", RouteClass::Restricted),
        ("/library/api/users", RouteClass::Restricted),
        ("/library/7/series/8", RouteClass::WebUi),
        ("/books/socket.io/", RouteClass::Socket),
        ("/books/api/items/7/cover", RouteClass::Keyed),
        ("/books/status", RouteClass::Keyed),
        ("/api/items/7/auth/x", RouteClass::Keyed),
        ("/audiobookshelf/books/api/users", RouteClass::Restricted),
    ] {
        assert_eq!(classes(Kind::Audiobookshelf, "GET", path), expected, "{path}");
    }
    assert_eq!(classes(Kind::Audiobookshelf, "POST", "/books/login"), RouteClass::Login);
}
