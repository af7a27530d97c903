//! The routes of Emby and Jellyfin, in one table: a route that only one of them has is nothing to the other.
//!
//! Sources: `Jellyfin.Api/Controllers` of 10.8 to 12; `MediaBrowser.Api` of Emby 3.5.2; the OpenAPI file of the Emby SDK 4.8. Where
//! Jellyfin has DELETE, Emby has a POST of `…/Delete` beside it.

use crate::upstream::dialect::routes::{ANY, POST, READ, Route, WRITE, on};
use crate::upstream::dialect::{Media, OwnAnswer, RouteClass};

use RouteClass::{Answered, Identity, Image, Keyed, Login, Logout, Restricted, WebUi};

const BYTES: RouteClass = RouteClass::Media(Media::Bytes);
const TEXT: RouteClass = RouteClass::Media(Media::Text);

/// The table.
pub(in crate::upstream::dialect) const ROUTES: &[Route] = &[
    // Public facts, which every app reads before its login.
    on(READ, "/System/Info/Public", Identity),
    on(READ, "/System/Ping", Identity),
    on(POST, "/System/Ping", Identity),
    on(READ, "/health", Identity),
    on(READ, "/GetUtcTime", Identity),
    on(READ, "/Branding/**", Identity),
    on(READ, "/Users/Public", Answered(OwnAnswer::EmptyList)),
    on(READ, "/QuickConnect/Enabled", Answered(OwnAnswer::False)),
    // Login and logout (`UserController.cs`, `SessionController.cs`).
    on(POST, "/Users/AuthenticateByName", Login),
    on(POST, "/Sessions/Logout", Logout),
    // Other ways to a token: Quick Connect (Authorize mints one for any user if the account is an administrator's), the login by a user's
    // id, the reset of a password, Emby's cloud, the plugin for OpenID and SAML, which also links foreign identities to an account.
    on(ANY, "/QuickConnect/**", Restricted),
    on(ANY, "/Users/AuthenticateWithQuickConnect", Restricted),
    on(ANY, "/Users/{id}/Authenticate", Restricted),
    on(ANY, "/Users/ForgotPassword/**", Restricted),
    on(ANY, "/Connect/**", Restricted),
    on(ANY, "/sso/**", Restricted),
    // All tokens and all API keys, in clear (`ApiKeyController.cs`, `DevicesController.cs`); Emby's providers of logins.
    on(ANY, "/Auth/**", Restricted),
    on(ANY, "/Devices/**", Restricted),
    // Users: made, renamed, removed, their passwords and what they may do. Their own settings (`…/Configuration`) are theirs.
    on(ANY, "/Users/New", Restricted),
    on(WRITE, "/Users", Restricted),
    on(WRITE, "/Users/{id}", Restricted),
    on(ANY, "/Users/{id}/Delete", Restricted),
    on(ANY, "/Users/Password", Restricted),
    on(ANY, "/Users/{id}/Password", Restricted),
    on(ANY, "/Users/{id}/EasyPassword", Restricted),
    on(ANY, "/Users/{id}/Policy", Restricted),
    on(ANY, "/Users/{id}/Connect/**", Restricted),
    on(WRITE, "/Users/Configuration", Keyed),
    // The server itself. It lets anybody in its own network restart it, and through a gateway everybody is that (jellyfin#16673). Its logs
    // hold tokens.
    on(ANY, "/System/Restart", Restricted),
    on(ANY, "/System/Shutdown", Restricted),
    on(ANY, "/System/Logs/**", Restricted),
    // The path and the options of the encoder, a program that the server runs (`SystemController.cs` up to 10.8; Emby).
    on(ANY, "/System/MediaEncoder/**", Restricted),
    on(ANY, "/Encoding/**", Restricted),
    on(READ, "/Encoding/PublicToneMapOptions", Keyed),
    on(ANY, "/System/Configuration/**", Restricted),
    on(ANY, "/System/ActivityLog/**", Restricted),
    on(ANY, "/Startup/**", Restricted),
    on(ANY, "/Environment/**", Restricted),
    on(ANY, "/ScheduledTasks/**", Restricted),
    on(ANY, "/Backup/**", Restricted),
    on(ANY, "/BackupRestore/**", Restricted),
    // Code that runs in it: plugins, where they come from, their pages.
    on(ANY, "/Plugins/**", Restricted),
    on(ANY, "/Packages/**", Restricted),
    on(ANY, "/Repositories/**", Restricted),
    on(ANY, "/web/ConfigurationPage/**", Restricted),
    on(ANY, "/web/ConfigurationPages/**", Restricted),
    on(READ, "/Plugins/{id}/{version}/Image", Image),
    // What the libraries are made of; the passwords of tuners and programme guides.
    on(ANY, "/Library/VirtualFolders/**", Restricted),
    on(ANY, "/Library/Media/Updated", Restricted),
    on(ANY, "/LiveTv/TunerHosts/**", Restricted),
    on(ANY, "/LiveTv/ListingProviders/**", Restricted),
    // Pictures (`ImageController.cs`): `…/Images/{type}` of everything that has some. The list of them (`…/Images`) is none.
    on(READ, "/Items/{id}/Images/{type}/**", Image),
    on(READ, "/Artists/{name}/Images/{type}/**", Image),
    on(READ, "/Genres/{name}/Images/{type}/**", Image),
    on(READ, "/GameGenres/{name}/Images/{type}/**", Image),
    on(READ, "/MusicGenres/{name}/Images/{type}/**", Image),
    on(READ, "/Persons/{name}/Images/{type}/**", Image),
    on(READ, "/Studios/{name}/Images/{type}/**", Image),
    on(READ, "/Users/{id}/Images/{type}/**", Image),
    on(READ, "/UserImage", Image),
    on(READ, "/Images/General/{name}/{type}", Image),
    on(READ, "/Images/Ratings/{theme}/{name}", Image),
    on(READ, "/Images/MediaInfo/{theme}/{name}", Image),
    // Streams (`VideosController.cs`, `AudioController.cs`, `UniversalAudioController.cs`; `original` is Emby's).
    on(READ, "/Videos/{id}/stream", BYTES),
    on(READ, "/Videos/{id}/stream.{ext}", BYTES),
    on(READ, "/Videos/{id}/original", BYTES),
    on(READ, "/Videos/{id}/original.{ext}", BYTES),
    on(READ, "/Audio/{id}/stream", BYTES),
    on(READ, "/Audio/{id}/stream.{ext}", BYTES),
    on(READ, "/Audio/{id}/original", BYTES),
    on(READ, "/Audio/{id}/original.{ext}", BYTES),
    on(READ, "/Audio/{id}/universal", RouteClass::Media(Media::Either)),
    on(READ, "/Audio/{id}/universal.{ext}", RouteClass::Media(Media::Either)),
    // Playlists and segments (`DynamicHlsController.cs`, `HlsSegmentController.cs`). An ending does not choose the handler where it is a
    // parameter: what ends like a playlist is taken for one wherever it stands.
    on(READ, "/Videos/{id}/{name}.m3u8", TEXT),
    on(READ, "/Videos/{id}/{name}.mpd", TEXT),
    on(READ, "/Videos/{id}/hls/{playlist}/{name}.m3u8", TEXT),
    on(READ, "/Videos/{id}/hls/{playlist}/{segment}", BYTES),
    on(READ, "/Videos/{id}/hls1/{playlist}/{name}.m3u8", TEXT),
    on(READ, "/Videos/{id}/hls1/{playlist}/{segment}", BYTES),
    on(READ, "/Audio/{id}/{name}.m3u8", TEXT),
    on(READ, "/Audio/{id}/{name}.mpd", TEXT),
    on(READ, "/Audio/{id}/hls/{playlist}/{name}.m3u8", TEXT),
    on(READ, "/Audio/{id}/hls/{segment}/stream.{ext}", BYTES),
    on(READ, "/Audio/{id}/hls1/{playlist}/{name}.m3u8", TEXT),
    on(READ, "/Audio/{id}/hls1/{playlist}/{segment}", BYTES),
    on(READ, "/LiveTv/LiveRecordings/{id}/stream", BYTES),
    on(READ, "/LiveTv/LiveStreamFiles/{id}/stream.{ext}", BYTES),
    on(READ, "/LiveTv/LiveStreamFiles/{id}/{name}.m3u8", TEXT),
    // Subtitles (`SubtitleController.cs`; Emby also below `/Items`).
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/Stream.{format}", TEXT),
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/{ticks}/Stream.{format}", TEXT),
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/{name}.m3u8", TEXT),
    on(READ, "/Items/{id}/{source}/Subtitles/{index}/Stream.{format}", TEXT),
    on(READ, "/Items/{id}/{source}/Subtitles/{index}/{ticks}/Stream.{format}", TEXT),
    // Attachments (fonts), and tiles of the timeline (`TrickplayController.cs`; `index.bif` is Emby's).
    on(READ, "/Videos/{id}/{source}/Attachments/{index}", BYTES),
    on(READ, "/Videos/{id}/{source}/Attachments/{index}/Stream", BYTES),
    on(READ, "/Videos/{id}/Trickplay/{width}/{name}.m3u8", TEXT),
    on(READ, "/Videos/{id}/Trickplay/{width}/{index}.jpg", BYTES),
    on(READ, "/Videos/{id}/index.bif", BYTES),
    // Files as they are (`LibraryController.cs`; `/Sync` is Emby's).
    on(READ, "/Items/{id}/Download", BYTES),
    on(READ, "/Items/{id}/File", BYTES),
    on(READ, "/Sync/JobItems/{id}/File", BYTES),
    on(READ, "/Sync/JobItems/{id}/AdditionalFiles", BYTES),
    // The web client.
    on(READ, "/", WebUi),
    on(READ, "/web/**", WebUi),
    on(READ, "/favicon.ico", WebUi),
    on(READ, "/robots.txt", WebUi),
];
