//! Ids that the servers hand out and for which they want no further credential: where they are made, asked for, and ended.
//!
//! Audiobookshelf: `server/routers/HlsRouter.js`, `PublicRouter.js`, `controllers/SessionController.js`. Emby and Jellyfin: the
//! `PlaySessionId` of PlaybackInfo, which players put into the query of each media request.

use http::Method;
use serde_json::json;

use super::audiobookshelf::BASE_PATHS as SHELF;
use super::mediabrowser::BASE_PATHS as BROWSER;
use super::reading::post_json;
use super::{Call, RouteClass};
use crate::target::Path;
use crate::upstream::Kind;

/// What a request has to do with such ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling<'p> {
    /// Its answer hands one out.
    HandsOut {
        /// Where it stands: a string at the top of a JSON object.
        field: &'static str,
        /// The one item that it is for; `None`: a play session of its own.
        item: Option<&'p str>,
    },
    /// It keeps this one going.
    Uses(&'p str),
    /// It ends this one.
    Closes(&'p str),
}

/// An id that a request for media comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedBy<'p> {
    /// The id.
    pub id: &'p str,
    /// The item that is asked for, where the id stands beside it.
    pub item: Option<&'p str>,
}

/// What a request that needs a key has to do with such ids.
pub fn handling<'p>(kind: Kind, method: &Method, path: &'p Path<'_>) -> Option<Handling<'p>> {
    match kind {
        Kind::Audiobookshelf if method == Method::POST || method == Method::GET => of_audiobookshelf(method, path),
        Kind::Emby | Kind::Jellyfin if ends_in(path, "playbackinfo") => of_playback_info(path),
        _ => None,
    }
}

fn of_audiobookshelf<'p>(method: &Method, path: &'p Path<'_>) -> Option<Handling<'p>> {
    let mut segments = path.segments(SHELF);
    segments.next().filter(|first| first.eq_ignore_ascii_case("api"))?;
    let (room, id, action) = (segments.next()?, segments.next()?, segments.next());
    let is_last = segments.next().is_none();
    let is = |text: Option<&str>, wanted: &str| text.is_some_and(|text| text.eq_ignore_ascii_case(wanted));
    let fresh = Some(Handling::HandsOut { field: "id", item: None });
    match () {
        // With or without an episode.
        () if method == Method::POST && is(Some(room), "items") && is(action, "play") => fresh,
        () if !is(Some(room), "session") => None,
        () if method == Method::GET => action.is_none().then_some(fresh).flatten(),
        () if is_last && is(action, "sync") => Some(Handling::Uses(id)),
        () if is_last && is(action, "close") => Some(Handling::Closes(id)),
        () => None,
    }
}

fn of_playback_info<'p>(path: &'p Path<'_>) -> Option<Handling<'p>> {
    let is_one = path.matches(BROWSER, "/Items/{id}/PlaybackInfo");
    let item = path.segments(BROWSER).nth(1)?;
    is_one.then_some(Handling::HandsOut { field: "PlaySessionId", item: Some(item) })
}

fn ends_in(path: &Path<'_>, last: &str) -> bool {
    let text = path.as_str().trim_end_matches('/');
    text.len() >= last.len() && text.as_bytes()[text.len() - last.len()..].eq_ignore_ascii_case(last.as_bytes())
}

/// The id that a request of this class comes with in the place of a credential.
pub fn asked_by<'p>(kind: Kind, class: RouteClass, path: &'p Path<'_>, query: Option<&'p str>) -> Option<AskedBy<'p>> {
    match (kind, class) {
        (Kind::Audiobookshelf, RouteClass::Capability) => {
            let mut segments = path.segments(SHELF);
            let skipped = if segments.next()?.eq_ignore_ascii_case("public") { segments.next() } else { Some("") };
            skipped?;
            Some(AskedBy { id: segments.next()?, item: None })
        }
        (Kind::Emby | Kind::Jellyfin, RouteClass::Media(_)) => {
            let id = parameter(query?, "playsessionid")?;
            Some(AskedBy { id, item: Some(path.segments(BROWSER).nth(1)?) })
        }
        _ => None,
    }
}

/// The value of a parameter that may stand in the query once; its name in any case. No client encodes letters and digits.
fn parameter<'q>(query: &'q str, wanted: &str) -> Option<&'q str> {
    let mut values = query.split('&').filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.eq_ignore_ascii_case(wanted).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The call that closes a play session of Audiobookshelf; needs the account's credential. `id`: letters, digits and dashes only.
pub fn close_call(id: &str) -> Call {
    post_json(&format!("/api/session/{id}/close"), &json!({}))
}

/// Whether a path is one of a share's data, where the server knows its visitors by a cookie.
pub fn is_share_data(path: &Path<'_>) -> bool {
    path.matches(SHELF, "/public/share/**")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::dialect::Media;

    fn path(text: &str) -> Path<'_> {
        Path::parse(text).expect(text)
    }

    #[test]
    fn answers_that_hand_out_an_id_are_known_in_any_spelling() {
        let session = Some(Handling::HandsOut { field: "id", item: None });
        for (method, text, handling_of) in [
            (Method::POST, "/api/items/i/play", session),
            (Method::POST, "/audiobookshelf/API/Items/i/Play/episode/", session),
            (Method::GET, "/api/session/s-1", session),
            (Method::POST, "/api/session/s-1/sync", Some(Handling::Uses("s-1"))),
            (Method::POST, "/api/session/s-1/close/", Some(Handling::Closes("s-1"))),
            (Method::GET, "/api/items/i/play", None),
            (Method::POST, "/api/session/s-1", None),
            (Method::DELETE, "/api/session/s-1/close", None),
            (Method::POST, "/x/api/items/i/play", None),
            (Method::POST, "/api/session/s-1/close/x", None),
        ] {
            assert_eq!(handling(Kind::Audiobookshelf, &method, &path(text)), handling_of, "{method} {text}");
        }
        let playback = Some(Handling::HandsOut { field: "PlaySessionId", item: Some("7") });
        for kind in [Kind::Emby, Kind::Jellyfin] {
            for text in ["/Items/7/PlaybackInfo", "/emby/items/7/playbackinfo/"] {
                assert_eq!(handling(kind, &Method::POST, &path(text)), playback, "{text}");
                assert_eq!(handling(kind, &Method::GET, &path(text)), playback, "{text}");
            }
            for text in ["/Items/7/PlaybackInfo/x", "/PlaybackInfo", "/x/Items/7/PlaybackInfo", "/"] {
                assert_eq!(handling(kind, &Method::GET, &path(text)), None, "{text}");
            }
        }
    }

    #[test]
    fn ids_are_read_from_the_path_or_the_query() {
        let asked =
            |kind, class, text, query| asked_by(kind, class, &path(text), query).map(|by| (by.id.to_owned(), by.item.map(str::to_owned)));
        let capability = |text| asked(Kind::Audiobookshelf, RouteClass::Capability, text, Some("a=b")).map(|(id, _)| id);
        for text in ["/hls/s-1/output.m3u8", "/Audiobookshelf/HLS/s-1/a.ts", "/public/session/s-1/track/1"] {
            assert_eq!(capability(text).as_deref(), Some("s-1"), "{text}");
        }
        let media = |query| asked(Kind::Jellyfin, RouteClass::Media(Media::Bytes), "/emby/Videos/7/stream.mp4", Some(query));
        for query in ["PlaySessionId=abc", "a=1&playsessionid=abc&b"] {
            assert_eq!(media(query), Some(("abc".to_owned(), Some("7".to_owned()))), "{query}");
        }
        for query in ["PlaySessionId=abc&playSessionId=def", "PlaySession=abc", "x=PlaySessionId"] {
            assert_eq!(media(query), None, "{query}");
        }
        assert_eq!(asked(Kind::Jellyfin, RouteClass::Keyed, "/Videos/7/x", Some("PlaySessionId=abc")), None);
    }
}
