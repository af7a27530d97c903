//! What an answer holds of the caller's own credential where a client needs it: URLs that work with it alone, tokens that a login gave.
//! Everywhere else it is simply taken out.

use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::{Media, RouteClass, of};

/// What a client needs of an answer beyond what may simply be taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    Nothing,
    /// URLs that need a credential to work.
    Urls,
    /// A user object whose token fields clients judge their login by.
    Tokens,
    /// The server's own addresses, which apps remember and would connect to, past the gateway.
    Addresses,
}

/// Playback is negotiated here: `TranscodingUrl`, `DeliveryUrl`, `DirectStreamUrl` (`MediaInfoHelper.cs`, `StreamInfo.cs`).
const NEGOTIATION: &[&str] = &["/Items/{id}/PlaybackInfo", "/LiveStreams/Open", "/LiveStreams/MediaInfo"];
/// `SystemInfoDto.cs`, `PublicSystemInfo.cs`; Emby's have `LocalAddresses`, `RemoteAddresses` and `WanAddress` as well.
const ADDRESSES: &[&str] = &["/System/Info", "/System/Info/Public"];
/// The user as its own apps read it (`User.toOldJSONForBrowser`): on `isOldToken`, and on a `token` that is the one in use, they log out
/// (audiobookshelf-app, `layouts/default.vue`).
const USER: &[&str] = &["/api/authorize", "/api/me"];

/// A path, and its first segment: every request asks, and few begin like a pattern.
#[derive(Clone, Copy)]
struct Asked<'p> {
    path: &'p Path<'p>,
    base_paths: &'p [&'p str],
    first: &'p str,
}

impl<'p> Asked<'p> {
    fn new(path: &'p Path<'p>, base_paths: &'p [&'p str]) -> Self {
        Self { path, base_paths, first: path.segments(base_paths).next().unwrap_or_default() }
    }

    fn is_any(self, patterns: &[&str]) -> bool {
        let begins = |pattern: &&&str| pattern.get(1..=self.first.len()).is_some_and(|front| front.eq_ignore_ascii_case(self.first));
        patterns.iter().filter(begins).any(|pattern| self.path.matches(self.base_paths, pattern))
    }
}

/// What the answer on a route holds.
pub fn holding(kind: Kind, class: RouteClass, path: &Path<'_>) -> Holding {
    if let (Kind::Emby | Kind::Jellyfin, RouteClass::Media(Media::Bytes | Media::Text | Media::Either)) = (kind, class) {
        return Holding::Urls;
    }
    if !matches!(class, RouteClass::Keyed | RouteClass::Identity) {
        return Holding::Nothing;
    }
    let asked = Asked::new(path, of(kind).base_paths());
    match (kind, class) {
        (Kind::Emby | Kind::Jellyfin, RouteClass::Keyed) if asked.is_any(NEGOTIATION) => Holding::Urls,
        (Kind::Emby | Kind::Jellyfin, _) if asked.is_any(ADDRESSES) => Holding::Addresses,
        (Kind::Audiobookshelf, RouteClass::Keyed) if asked.is_any(USER) => Holding::Tokens,
        _ => Holding::Nothing,
    }
}

/// Families of routes below which Emby and Jellyfin answer with JSON and XML, but for what the table of routes knows as media.
const TEXTS: &[&str] = &[
    "albums",
    "artists",
    "auth",
    "branding",
    "channels",
    "collections",
    "connect",
    "devices",
    "displaypreferences",
    "environment",
    "genres",
    "items",
    "library",
    "livestreams",
    "livetv",
    "localization",
    "mediasegments",
    "movies",
    "musicgenres",
    "notifications",
    "packages",
    "persons",
    "playback",
    "playingitems",
    "playlists",
    "plugins",
    "providers",
    "quickconnect",
    "scheduledtasks",
    "search",
    "sessions",
    "shows",
    "startup",
    "studios",
    "sync",
    "syncplay",
    "system",
    "trailers",
    "useritems",
    "users",
    "userviews",
    "years",
];

/// Whether a route that no table knows is one of the API, which answers with texts; else it may be anybody's, a plugin's or a proxy's, and
/// answer with media.
pub fn is_of_the_api(kind: Kind, path: &Path<'_>) -> bool {
    let first = path.segments(of(kind).base_paths()).next().unwrap_or_default();
    match kind {
        Kind::Audiobookshelf => first.eq_ignore_ascii_case("api"),
        Kind::Emby | Kind::Jellyfin => TEXTS.iter().any(|family| family.eq_ignore_ascii_case(first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_told_from_what_may_be_anybodys() {
        let is = |kind, path: &str| is_of_the_api(kind, &Path::parse(path).expect("a path"));
        assert!(is(Kind::Jellyfin, "/emby/USERS/1") && is(Kind::Emby, "/Items") && is(Kind::Audiobookshelf, "/audiobookshelf/api/me"));
        assert!(!is(Kind::Jellyfin, "/media/film.mkv") && !is(Kind::Emby, "/") && !is(Kind::Audiobookshelf, "/apis/x"));
    }

    #[test]
    fn playback_is_negotiated_on_few_routes_and_every_media_route_may_need_a_credential() {
        let hold = |kind, class, path: &str| holding(kind, class, &Path::parse(path).expect("a path"));
        for kind in [Kind::Emby, Kind::Jellyfin] {
            assert_eq!(hold(kind, RouteClass::Keyed, "/emby/items/1/playbackINFO"), Holding::Urls);
            assert_eq!(hold(kind, RouteClass::Media(Media::Text), "/videos/1/master.m3u8"), Holding::Urls);
            assert_eq!(hold(kind, RouteClass::Identity, "/System/Info/Public"), Holding::Addresses);
            assert_eq!(hold(kind, RouteClass::Keyed, "/Items/1"), Holding::Nothing);
            assert_eq!(hold(kind, RouteClass::Image, "/Items/1/Images/Primary"), Holding::Nothing);
        }
        let abs = Kind::Audiobookshelf;
        assert_eq!(hold(abs, RouteClass::Keyed, "/audiobookshelf/api/authorize"), Holding::Tokens);
        assert_eq!(hold(abs, RouteClass::Keyed, "/api/me"), Holding::Tokens);
        assert_eq!(hold(abs, RouteClass::Keyed, "/api/users"), Holding::Nothing);
        assert_eq!(hold(abs, RouteClass::Media(Media::Bytes), "/api/items/1/download"), Holding::Nothing);
    }
}
