//! PlaybackInfo and the playlists: the places where these servers write a token into an answer.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Visit;
use super::library::{Track, ticks, track};
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::media::Media;
use crate::demo::mpegts;
use crate::demo::random;
use crate::upstream::Kind;

const PLAYLIST: &str = "application/x-mpegURL";
/// Segments of a transcode and how long each plays: together as long as the file.
const SEGMENTS: u64 = 5;
const SEGMENT_SECONDS: u64 = 6;

/// Playback, for a request with a good token.
pub(super) async fn route(visit: &Visit<'_>, call: &mut Call) -> Option<Response<Body>> {
    let method = call.parts.method.clone();
    let is_read = matches!(method, Method::GET | Method::HEAD);
    Some(match visit.names.as_slice() {
        ["items", given, "playbackinfo"] if is_read || method == Method::POST => {
            call.sink(&visit.server.control).await;
            answer::json(&playback_info(visit, &track(visit.server, given)?))
        }
        ["items", _, "images", _] if method == Method::POST => {
            let upload = call.sink(&visit.server.control).await?;
            visit.server.control.record_upload(upload);
            answer::empty(StatusCode::NO_CONTENT)
        }
        ["videos" | "audio", given, "master.m3u8"] if is_read => {
            track(visit.server, given)?;
            answer::text(StatusCode::OK, PLAYLIST, master(visit, call))
        }
        ["videos" | "audio", given, "main.m3u8" | "live.m3u8"] if is_read => {
            track(visit.server, given)?;
            answer::text(StatusCode::OK, PLAYLIST, segments(call))
        }
        ["videos" | "audio", _, "hls1", "main", file] if is_read => {
            let number = file.strip_suffix(".ts")?.parse().ok().filter(|number| *number < SEGMENTS)?;
            Media::Bytes(mpegts::segment(number, SEGMENT_SECONDS)).answer(&method, &call.parts.headers, "video/mp2t")
        }
        ["videos", _, _, "subtitles", _, "subtitles.m3u8"] if is_read => {
            let line = format!("#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:30,\nstream.vtt?{}\n#EXT-X-ENDLIST\n", credential(visit));
            answer::text(StatusCode::OK, PLAYLIST, line)
        }
        ["videos", _, _, "subtitles", _, file] if is_read && file.starts_with("stream.") => {
            answer::text(StatusCode::OK, "text/vtt", "WEBVTT\n\n00:00.000 --> 00:30.000\n(sines, rising)\n")
        }
        ["videos", "activeencodings"] if method == Method::DELETE => answer::empty(StatusCode::NO_CONTENT),
        _ => return None,
    })
}

/// `ApiKey=T` or `api_key=T`, as the version writes it, with the token that the request was authenticated by.
fn credential(visit: &Visit<'_>) -> String {
    let is_new = visit.server.kind == Kind::Jellyfin && !visit.server.options.legacy_authorization;
    format!("{}={}", if is_new { "ApiKey" } else { "api_key" }, visit.identity.token.as_deref().unwrap_or_default())
}

fn playback_info(visit: &Visit<'_>, track: &Track) -> Value {
    let play_session = random::hex(16);
    let credential = credential(visit);
    let id = &track.id;
    let query = format!("DeviceId=demo&MediaSourceId={id}&PlaySessionId={play_session}&AudioCodec=aac&{credential}");
    let mut source = json!({
        "Protocol": "File", "Id": id, "Path": format!("/music/{}.{}", track.name, track.container), "Type": "Default", "Container": track.container,
        "Size": track.media.len(), "Name": track.name, "IsRemote": false, "RunTimeTicks": ticks(), "SupportsTranscoding": true,
        "SupportsDirectStream": true, "SupportsDirectPlay": true, "IsInfiniteStream": false, "RequiresOpening": false, "RequiresClosing": false,
        "MediaStreams": [
            {"Codec": "pcm_s16le", "Type": "Audio", "Index": 0, "IsDefault": true, "IsExternal": false, "SampleRate": 44_100, "Channels": 1},
            {
                "Codec": "vtt", "Type": "Subtitle", "Index": 1, "IsExternal": true, "DeliveryMethod": "External",
                "DeliveryUrl": format!("/Videos/{id}/{id}/Subtitles/1/Stream.vtt?{credential}")
            }
        ],
        "TranscodingUrl": format!("/videos/{id}/master.m3u8?{query}"), "TranscodingSubProtocol": "hls", "TranscodingContainer": "ts"
    });
    if visit.server.kind == Kind::Emby {
        source["DirectStreamUrl"] = json!(format!("/audio/{id}/stream.{}?{query}", track.container));
        source["AddApiKeyToDirectStreamUrl"] = json!(false);
    }
    json!({"MediaSources": [source], "PlaySessionId": play_session})
}

/// The subtitles' line carries the authenticated token; the variant's echoes the query of the request.
fn master(visit: &Visit<'_>, call: &Call) -> String {
    format!(
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"Tones\",DEFAULT=NO,URI=\"1/Subtitles/1/subtitles.m3u8?SegmentLength=30&{}\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=192000,CODECS=\"mp4a.40.2\",SUBTITLES=\"subs\"\nmain.m3u8?{}\n",
        credential(visit),
        call.query()
    )
}

/// Each line repeats the query of the request.
fn segments(call: &Call) -> String {
    let query = call.query();
    let lines: String = (0..SEGMENTS).map(|n| format!("#EXTINF:6.000000, nodesc\nhls1/main/{n}.ts?{query}\n")).collect();
    format!(
        "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n{lines}#EXT-X-ENDLIST\n"
    )
}
