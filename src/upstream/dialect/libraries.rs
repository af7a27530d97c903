//! Which libraries a request is about, for keys that are confined to some.
//!
//! A gateway sees what a request says, not what its answer holds. So a confined key may ask for what names one of its libraries, and for
//! single things by their ids, which nobody but the media server can tell the library of; it may not ask for what goes across libraries.
//! Where the account itself must not see a library, the media server has to know: this confines well-meant programs and what they can list.

use std::borrow::Cow;

use http::{Method, StatusCode};
use serde::Deserialize;

use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::{Headers, encoded, with};
use crate::upstream::dialect::reading::{json, plain, unavailable};
use crate::upstream::dialect::{Answer, Call, GrantError, of};

/// A library, as an account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The server's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The libraries of `/api/libraries`.
#[derive(Deserialize)]
struct Shelves {
    libraries: Vec<Shelf>,
}

#[derive(Deserialize)]
struct Shelf {
    id: String,
    name: String,
}

/// A user's views.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Views {
    items: Vec<View>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    id: String,
    name: String,
}

/// The path of the list of libraries that an account sees. A token of the server's own belongs to no user of Emby's or Jellyfin's: it sees all.
fn list_path(kind: Kind, user_id: Option<&str>) -> String {
    match (kind, user_id) {
        (Kind::Audiobookshelf, _) => "/api/libraries".to_owned(),
        (Kind::Emby | Kind::Jellyfin, Some(id)) => format!("/Users/{}/Views", encoded(id)),
        (Kind::Emby | Kind::Jellyfin, None) => "/Library/MediaFolders".to_owned(),
    }
}

/// The call that lists the libraries that an account sees. `headers`: of a session of the account's.
pub fn list(kind: Kind, user_id: Option<&str>, headers: &Headers) -> Call {
    with(plain(Method::GET, &list_path(kind, user_id)), headers)
}

/// The libraries of the answer to [`list`].
///
/// # Errors
/// [`GrantError::Unavailable`] or [`GrantError::Limited`].
pub fn read_list(kind: Kind, answer: &Answer) -> Result<Vec<Library>, GrantError> {
    const WHAT: &str = "the list of libraries";
    if answer.status != StatusCode::OK {
        return Err(unavailable(kind, WHAT, answer));
    }
    Ok(match kind {
        Kind::Audiobookshelf => {
            let shelves = json::<Shelves>(kind, WHAT, &answer.body)?.libraries.into_iter();
            shelves.map(|Shelf { id, name }| Library { id, name }).collect()
        }
        Kind::Emby | Kind::Jellyfin => {
            let views = json::<Views>(kind, WHAT, &answer.body)?.items.into_iter();
            views.map(|View { id, name }| Library { id, name }).collect()
        }
    })
}

/// How far an answer goes, from the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// One thing by its id, or the account's own things.
    Thing,
    /// The library that the path names (`/api/libraries/{id}/…` of Audiobookshelf).
    Library,
    /// All libraries, unless the query names one (`ParentId` of Emby and Jellyfin).
    Listing,
    /// All libraries.
    Everything,
}

/// What a request says of libraries.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Of which kind of server.
    pub kind: Kind,
    /// What its route says.
    pub reach: Reach,
    /// Its path.
    pub path: &'a Path<'a>,
    /// Its query.
    pub query: Option<&'a str>,
}

impl Subject<'_> {
    /// Whether it is about nothing but the libraries that are allowed, as far as it says.
    pub fn is_within<'l>(&self, allowed: impl Iterator<Item = &'l str> + Clone) -> bool {
        let is_allowed = |id: &str| allowed.clone().any(|allowed| is_same(allowed, id));
        let (mut count, mut all) = (0, true);
        for id in self.named() {
            count += 1;
            all &= is_allowed(&id);
        }
        all && match self.reach {
            Reach::Thing => true,
            Reach::Library | Reach::Listing => count > 0,
            Reach::Everything => false,
        }
    }

    /// The libraries that it names.
    fn named(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let is_shelf = self.kind == Kind::Audiobookshelf;
        let path = (is_shelf && self.reach == Reach::Library).then(|| after_libraries(self.path, self.kind)).flatten();
        let query = self.query.filter(|_| !is_shelf).into_iter().flat_map(|query| query.split('&')).filter_map(parent);
        path.into_iter().map(Cow::Borrowed).chain(query)
    }
}

/// What follows `libraries` in a path, below whatever base path.
fn after_libraries<'p>(path: &'p Path<'_>, kind: Kind) -> Option<&'p str> {
    let mut segments = path.segments(of(kind).base_paths()).filter(|segment| !segment.is_empty());
    segments.find(|segment| segment.eq_ignore_ascii_case("libraries"))?;
    segments.next()
}

/// The value of a piece of a query, if its name is the one that means the folder to list.
fn parent(piece: &str) -> Option<Cow<'_, str>> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    decoded(name).eq_ignore_ascii_case("parentid").then(|| decoded(value))
}

/// With what is percent-encoded decoded, as far as it is text.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().filter(|_| first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether two ids are one: Jellyfin reads a GUID with and without its dashes, in any letter case.
pub fn is_same(one: &str, other: &str) -> bool {
    let plain = |id: &str| -> Vec<u8> { id.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect() };
    let other = plain(other);
    !other.is_empty() && plain(one) == other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(kind: Kind, method: &str, target: &str) -> bool {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = Path::parse(path).expect(target);
        let reach = of(kind).routed(&method.parse().expect("a method"), &path).reach;
        Subject { kind, reach, path: &path, query }.is_within(["AB-12", "cd"].into_iter())
    }

    #[test]
    fn what_names_an_allowed_library_or_a_single_thing_is_within() {
        for target in [
            "/api/libraries/ab-12/items",
            "/audiobookshelf//API/Libraries/cd/personalized/",
            "/api/libraries/cd",
            "/books/api/libraries/cd/items",
            "/api/libraries/cd/stats",
            "/api/libraries/cd/download?ids=1",
            "/api/libraries",
            "/api/items/7",
            "/api/items/7/cover",
            "/api/me/progress/7",
            "/hls/7/output.m3u8",
        ] {
            assert!(is_within(Kind::Audiobookshelf, "GET", target), "{target}");
        }
        assert!(is_within(Kind::Audiobookshelf, "POST", "/api/libraries/cd/scan"));
        for target in [
            "/Items?ParentId=ab12",
            "/emby/Items?x=1&PARENTID=cd",
            "/Users/7/Items?parentId=AB12",
            "/Users/7/Items/Latest?Parent%49d=cd",
            "/Shows/NextUp?parentid=c%64",
            "/Items.json?ParentId=cd",
            "/Items/7",
            "/Users/7/Items/8",
            "/Users/7/Views",
            "/Shows/7/Episodes",
            "/Items/7/PlaybackInfo",
            "/Videos/7/stream.mkv",
        ] {
            assert!(is_within(Kind::Emby, "GET", target), "{target}");
        }
    }

    #[test]
    fn what_names_another_library_or_goes_across_all_is_not() {
        for (method, target) in [
            ("GET", "/api/libraries/ef/items"),
            ("GET", "/books/api/libraries/ef/items"),
            ("POST", "/api/libraries/ef/scan"),
            ("GET", "/api/libraries/ef"),
            ("GET", "/api/collections"),
            ("GET", "/api/tags"),
            ("GET", "/api/tasks"),
            ("POST", "/api/upload"),
            ("POST", "/api/podcasts"),
            ("GET", "/api/stats/server"),
            ("GET", "/socket.io/"),
            ("GET", "/nobody/knows"),
        ] {
            assert!(!is_within(Kind::Audiobookshelf, method, target), "{target}");
        }
        for (method, target) in [
            ("GET", "/Items"),
            ("GET", "/Items.json"),
            ("GET", "/Items?ParentId="),
            ("GET", "/Items?ParentId=ef"),
            ("GET", "/Items?ParentId=cd&ParentId=ef"),
            ("GET", "/Items?ParentId=cd&parent%49d=ef"),
            ("GET", "/Users/7/Items/Resume"),
            ("GET", "/Search/Hints?searchTerm=x"),
            ("GET", "/Items/Counts?ParentId=cd"),
            ("GET", "/Sessions"),
            ("GET", "/Channels?ParentId=cd"),
            ("GET", "/socket"),
            ("POST", "/Library/Refresh"),
            ("GET", "/Nobody/Knows?ParentId=cd"),
        ] {
            for kind in [Kind::Emby, Kind::Jellyfin] {
                assert!(!is_within(kind, method, target), "{kind} {target}");
            }
        }
    }

    #[test]
    fn the_libraries_of_each_server_are_read() {
        let answer = |status: u16, body: &str| Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
        };
        let found = [Library { id: "a-1".to_owned(), name: "Books".to_owned() }];
        let shelves = r#"{"libraries":[{"id":"a-1","name":"Books","folders":[]}]}"#;
        assert_eq!(read_list(Kind::Audiobookshelf, &answer(200, shelves)), Ok(found.to_vec()));
        let views = r#"{"Items":[{"Name":"Books","Id":"a-1","Type":"CollectionFolder"}],"TotalRecordCount":1}"#;
        for kind in [Kind::Emby, Kind::Jellyfin] {
            assert_eq!(read_list(kind, &answer(200, views)), Ok(found.to_vec()));
            assert_eq!(list(kind, Some("a/b"), &[]).path, "/Users/a%2Fb/Views");
        }
        for (status, body) in [(401, ""), (403, ""), (503, ""), (200, "<html>")] {
            assert!(matches!(read_list(Kind::Jellyfin, &answer(status, body)), Err(GrantError::Unavailable(_))));
        }
    }

    #[test]
    fn a_key_that_is_confined_to_nothing_lists_nothing() {
        let path = Path::parse("/api/libraries/cd/items").expect("a path");
        let subject = Subject { kind: Kind::Audiobookshelf, reach: Reach::Library, path: &path, query: None };
        assert!(!subject.is_within([].into_iter()));
        assert!(!Subject { reach: Reach::Listing, kind: Kind::Emby, query: Some("ParentId=-"), ..subject }.is_within(["-"].into_iter()));
    }
}
