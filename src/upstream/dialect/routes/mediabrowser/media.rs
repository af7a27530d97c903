//! Pictures, streams, files, and the negotiation of playback.

use crate::upstream::dialect::routes::need::*;
use crate::upstream::dialect::routes::{DELETE, POST, READ, Route, keyed, on};
use crate::upstream::dialect::{Media, RouteClass};

use RouteClass::Image;

const BYTES: RouteClass = RouteClass::Media(Media::Bytes);
const TEXT: RouteClass = RouteClass::Media(Media::Text);

/// This part of the table.
pub(super) const ROUTES: &[Route] = &[
    // Pictures (`ImageController.cs`): `…/Images/{type}` of everything that has some. The list of them (`…/Images`) is none.
    on(READ, "/Items/{id}/Images/{type}/**", Image, NOTHING),
    on(READ, "/Artists/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/Genres/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/GameGenres/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/MusicGenres/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/Persons/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/Studios/{name}/Images/{type}/**", Image, NOTHING),
    on(READ, "/Users/{id}/Images/{type}/**", Image, NOTHING),
    on(READ, "/UserImage", Image, NOTHING),
    on(READ, "/Images/General/{name}/{type}", Image, NOTHING),
    on(READ, "/Images/Ratings/{theme}/{name}", Image, NOTHING),
    on(READ, "/Images/MediaInfo/{theme}/{name}", Image, NOTHING),
    // Streams (`VideosController.cs`, `AudioController.cs`, `UniversalAudioController.cs`; `original` is Emby's).
    on(READ, "/Videos/{id}/stream", BYTES, STREAM),
    on(READ, "/Videos/{id}/stream.{ext}", BYTES, STREAM),
    on(READ, "/Videos/{id}/original", BYTES, STREAM),
    on(READ, "/Videos/{id}/original.{ext}", BYTES, STREAM),
    on(READ, "/Audio/{id}/stream", BYTES, STREAM),
    on(READ, "/Audio/{id}/stream.{ext}", BYTES, STREAM),
    on(READ, "/Audio/{id}/original", BYTES, STREAM),
    on(READ, "/Audio/{id}/original.{ext}", BYTES, STREAM),
    on(READ, "/Audio/{id}/universal", RouteClass::Media(Media::Either), STREAM),
    on(READ, "/Audio/{id}/universal.{ext}", RouteClass::Media(Media::Either), STREAM),
    // Playlists and segments (`DynamicHlsController.cs`, `HlsSegmentController.cs`). An ending does not choose the handler where it is a
    // parameter: what ends like a playlist is taken for one wherever it stands.
    on(READ, "/Videos/{id}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Videos/{id}/{name}.mpd", TEXT, STREAM),
    on(READ, "/Videos/{id}/hls/{playlist}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Videos/{id}/hls/{playlist}/{segment}", BYTES, STREAM),
    on(READ, "/Videos/{id}/hls1/{playlist}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Videos/{id}/hls1/{playlist}/{segment}", BYTES, STREAM),
    on(READ, "/Audio/{id}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Audio/{id}/{name}.mpd", TEXT, STREAM),
    on(READ, "/Audio/{id}/hls/{playlist}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Audio/{id}/hls/{segment}/stream.{ext}", BYTES, STREAM),
    on(READ, "/Audio/{id}/hls/{playlist}/{segment}", BYTES, STREAM),
    on(READ, "/Audio/{id}/hls1/{playlist}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Audio/{id}/hls1/{playlist}/{segment}", BYTES, STREAM),
    on(READ, "/LiveTv/LiveRecordings/{id}/stream", BYTES, STREAM),
    on(READ, "/LiveTv/LiveStreamFiles/{id}/stream.{ext}", BYTES, STREAM),
    on(READ, "/LiveTv/LiveStreamFiles/{id}/{name}.m3u8", TEXT, STREAM),
    // Subtitles (`SubtitleController.cs`; Emby also below `/Items`).
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/Stream.{format}", TEXT, STREAM),
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/{ticks}/Stream.{format}", TEXT, STREAM),
    on(READ, "/Videos/{id}/{source}/Subtitles/{index}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Items/{id}/{source}/Subtitles/{index}/Stream.{format}", TEXT, STREAM),
    on(READ, "/Items/{id}/{source}/Subtitles/{index}/{ticks}/Stream.{format}", TEXT, STREAM),
    // Attachments (fonts), and tiles of the timeline (`TrickplayController.cs`; `index.bif` is Emby's).
    on(READ, "/Videos/{id}/{source}/Attachments/{index}", BYTES, STREAM),
    on(READ, "/Videos/{id}/{source}/Attachments/{index}/Stream", BYTES, STREAM),
    on(READ, "/Videos/{id}/Trickplay/{width}/{name}.m3u8", TEXT, STREAM),
    on(READ, "/Videos/{id}/Trickplay/{width}/{index}.jpg", BYTES, STREAM),
    on(READ, "/Videos/{id}/index.bif", BYTES, STREAM),
    // Files as they are (`LibraryController.cs`; `/Sync` is Emby's).
    on(READ, "/Items/{id}/Download", BYTES, DOWNLOAD),
    on(READ, "/Items/{id}/File", BYTES, DOWNLOAD),
    on(READ, "/Sync/JobItems/{id}/File", BYTES, DOWNLOAD),
    on(READ, "/Sync/JobItems/{id}/AdditionalFiles", BYTES, DOWNLOAD),
    // What a player asks and says before, while and after it plays. What it reports of itself is progress.
    keyed(READ, "/Items/{id}/PlaybackInfo", STREAM),
    keyed(POST, "/Items/{id}/PlaybackInfo", STREAM),
    keyed(POST, "/LiveStreams/Open", STREAM),
    keyed(POST, "/LiveStreams/Close", STREAM),
    keyed(POST, "/LiveStreams/MediaInfo", STREAM),
    keyed(READ, "/Playback/BitrateTest", STREAM),
    keyed(DELETE, "/Videos/ActiveEncodings", STREAM),
    keyed(POST, "/Videos/ActiveEncodings/Delete", STREAM),
    keyed(POST, "/Sessions/Playing/Ping", STREAM),
    keyed(POST, "/Sessions/Capabilities", STREAM),
    keyed(POST, "/Sessions/Capabilities/Full", STREAM),
    keyed(READ, "/MediaSegments/{id}", STREAM),
    keyed(READ, "/Audio/{id}/Lyrics", STREAM),
    keyed(READ, "/FallbackFont/Fonts", STREAM),
    keyed(READ, "/FallbackFont/Fonts/{name}", STREAM),
    keyed(READ, "/Items/{id}/ThumbnailSet", STREAM),
    // Streams by a file name of the client's choice (Emby), and live television's segments.
    keyed(READ, "/Videos/{id}/{name}", STREAM),
    keyed(READ, "/Audio/{id}/{name}", STREAM),
    keyed(READ, "/LiveTv/LiveRecordings/{id}/hls/{segment}", STREAM),
    keyed(READ, "/LiveTv/LiveStreamFiles/{id}/hls/{segment}", STREAM),
    // Emby's downloads to devices: to ask for one makes the server work, and writes.
    keyed(READ, "/Sync/Items/Ready", DOWNLOAD),
    keyed(READ, "/Sync/JobItems", DOWNLOAD),
    keyed(READ, "/Sync/Jobs", DOWNLOAD),
    keyed(READ, "/Sync/Jobs/{id}", DOWNLOAD),
    keyed(READ, "/Sync/Options", DOWNLOAD),
    keyed(READ, "/Sync/Targets", DOWNLOAD),
    keyed(POST, "/Sync/**", PERSONAL),
    keyed(DELETE, "/Sync/*", PERSONAL),
    keyed(POST, "/Sync/OfflineActions", PROGRESS),
];
