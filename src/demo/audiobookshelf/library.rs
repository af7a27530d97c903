//! One library with two books, their files, playback sessions and the playlists behind them.

use std::sync::Arc;

use http::header::{LOCATION, SET_COOKIE};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Caller, VERSION};
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::media::{Media, SECONDS};
use crate::demo::mediabrowser::PICTURE;
use crate::demo::mpegts;
use crate::demo::random;
use crate::demo::standin::Server;

/// Id of the only library.
pub(super) const LIBRARY: &str = "09b7edeb-801b-4ab4-ade9-724b6214747b";
const FOLDER: &str = "abfcc923-708d-4f73-a6c2-b25b639d8bad";
const ADDED: i64 = 1_795_303_151_638;

/// A book with one file.
struct Book {
    id: &'static str,
    title: &'static str,
    ino: &'static str,
    file: &'static str,
    mime: &'static str,
    media: Media,
}

fn books(server: &Server) -> [Book; 2] {
    [
        Book {
            id: "cdc24c99-721f-4d05-9e52-a4cbec99cd76",
            title: "A Sweep of Sines",
            ino: "10127535",
            file: "sweep.wav",
            mime: "audio/wav",
            media: Media::wav(),
        },
        Book {
            id: "7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0",
            title: "The Long Pattern",
            ino: "10127536",
            file: "pattern.mp3",
            mime: "audio/mpeg",
            media: Media::Pattern(server.options.large_file_bytes),
        },
    ]
}

/// Routes below `/api` that need nothing but a user.
pub(super) async fn route(server: &Arc<Server>, call: &mut Call, caller: &Caller, names: &[&str]) -> Option<Response<Body>> {
    let method = call.parts.method.clone();
    let is_read = matches!(method, Method::GET | Method::HEAD);
    let books = books(server);
    let book = |id: &str| books.iter().find(|book| book.id == id);
    Some(match names {
        ["libraries"] if is_read => answer::json(&json!({"libraries": [library()]})),
        ["libraries", LIBRARY] if is_read => answer::json(&library()),
        ["libraries", LIBRARY, "items"] if is_read => items(call, &books),
        ["items", id] if is_read => answer::json(&item(book(id)?)),
        ["items", id, "file", ino] | ["items", id, "file", ino, "download"] if is_read => {
            let book = book(id).filter(|book| book.ino == *ino);
            book?.media.answer(&method, &call.parts.headers, book?.mime)
        }
        ["items", id, "play"] if method == Method::POST => {
            let wishes = call.json().await.unwrap_or_default();
            answer::json(&open_session(server, book(id)?, caller, &wishes))
        }
        ["session", id] if is_read && server.control.ledger().playbacks.contains_key(*id) => {
            answer::json(&json!({"id": id, "userId": caller.id}))
        }
        ["session", id, action @ ("sync" | "close")] if method == Method::POST => {
            let report = call.json().await.unwrap_or_default();
            end_or_sync(server, id, action, &report)
        }
        ["me", "progress", id] if method == Method::PATCH => {
            let change = call.json().await.unwrap_or_default();
            tell_user(server, caller, &progress(id, &change));
            answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK")
        }
        ["me", "progress", _] if is_read => not_found(),
        ["me", "listening-sessions"] if is_read => {
            answer::json(&json!({"total": 0, "numPages": 0, "page": 0, "itemsPerPage": 10, "sessions": []}))
        }
        _ => return None,
    })
}

/// How far somebody is in a book.
fn progress(item: &str, change: &Value) -> Value {
    json!({
        "id": random::uuid(), "libraryItemId": item, "episodeId": null, "duration": SECONDS, "progress": change["progress"].as_f64().unwrap_or(0.0),
        "currentTime": change["currentTime"].as_f64().unwrap_or(0.0), "isFinished": change["isFinished"].as_bool().unwrap_or(false),
        "hideFromContinueListening": false, "lastUpdate": ADDED, "startedAt": ADDED, "finishedAt": null
    })
}

/// What a change of progress sends to the user's sockets: the whole user, with the token that never dies.
fn tell_user(server: &Server, caller: &Caller, progress: &Value) {
    let mut user = super::auth::user_of(server, caller);
    user["mediaProgress"] = json!([progress]);
    server.control.push(&format!("42{}", json!(["user_updated", user])));
}

/// `GET /api/items/:id/cover`, open to everybody.
pub(super) fn cover() -> Response<Body> {
    answer::bytes("image/png", PICTURE)
}

/// `/hls/<session>/<file>`: whoever knows the id of an open transcode may read.
pub(super) fn hls(server: &Server, call: &Call, session: &str, file: &str) -> Response<Body> {
    if !server.control.ledger().playbacks.get(session).is_some_and(|(_, is_transcode)| *is_transcode) {
        return not_found();
    }
    if file == "output.m3u8" {
        let lines: String = (0..5).map(|n| format!("#EXTINF:6,\noutput-{n}.ts\n")).collect();
        let head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-ALLOW-CACHE:NO\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n";
        return answer::text(StatusCode::OK, "application/vnd.apple.mpegurl", format!("{head}{lines}#EXT-X-ENDLIST\n"));
    }
    let number = file.strip_prefix("output-").and_then(|rest| rest.strip_suffix(".ts")).and_then(|number| number.parse().ok());
    match number.filter(|number| *number < 5) {
        Some(number) => Media::Bytes(mpegts::segment(number, 6)).answer(&call.parts.method, &call.parts.headers, "video/mp2t"),
        None => not_found(),
    }
}

/// `/public/session/<id>/track/<n>`: the file itself, or a redirect for a transcode.
pub(super) fn public_track(server: &Server, call: &Call, session: &str) -> Response<Body> {
    let playback = server.control.ledger().playbacks.get(session).cloned();
    let Some((item, is_transcode)) = playback else { return not_found() };
    if is_transcode {
        let mut response = answer::empty(StatusCode::FOUND);
        answer::set(&mut response, LOCATION, &format!("/hls/{session}/output.m3u8"));
        return response;
    }
    match books(server).into_iter().find(|book| book.id == item) {
        Some(book) => book.media.answer(&call.parts.method, &call.parts.headers, book.mime),
        None => not_found(),
    }
}

/// A share of the first book, for everybody who has its slug; a visitor is known again by a cookie.
pub(super) fn share(server: &Server, call: &Call, rest: &[&str]) -> Response<Body> {
    let visitor = call.header("cookie").and_then(|line| line.split("; ").find_map(|pair| pair.strip_prefix("share_session_id=")));
    match (call.parts.method.as_str(), rest) {
        ("GET" | "HEAD", []) => {
            let mut response = answer::json(&json!({"slug": "sines", "mediaItemType": "book", "playbackSession": {"id": random::uuid()}}));
            answer::append(&mut response, SET_COOKIE, "connect.sid=s%3Aabc; Path=/; HttpOnly");
            if visitor.is_none() {
                answer::append(
                    &mut response,
                    SET_COOKIE,
                    &format!("share_session_id={}; Max-Age=2592000; Path=/; HttpOnly", random::uuid()),
                );
            }
            response
        }
        ("GET" | "HEAD", ["track", _]) if visitor.is_some() => {
            let [book, _] = books(server);
            book.media.answer(&call.parts.method, &call.parts.headers, book.mime)
        }
        ("PATCH", ["progress"]) if visitor.is_some() => answer::empty(StatusCode::NO_CONTENT),
        _ => answer::text(StatusCode::NOT_FOUND, "text/html; charset=utf-8", "Share session not set"),
    }
}

fn not_found() -> Response<Body> {
    answer::text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "Not Found")
}

/// Keeps or forgets an open session.
fn end_or_sync(server: &Server, session: &str, action: &str, report: &Value) -> Response<Body> {
    let Some((item, _)) = server.control.ledger().playbacks.get(session).cloned() else { return not_found() };
    if action == "close" {
        server.control.ledger().playbacks.remove(session);
    } else {
        let progress = progress(&item, report);
        let event = json!({"id": progress["id"], "sessionId": session, "deviceDescription": null, "data": progress});
        server.control.push(&format!("42{}", json!(["user_item_progress_updated", event])));
    }
    answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK")
}

fn library() -> Value {
    json!({
        "id": LIBRARY, "oldLibraryId": null, "name": "Books",
        "folders": [{"id": FOLDER, "fullPath": "/books", "libraryId": LIBRARY, "addedAt": ADDED}],
        "displayOrder": 1, "icon": "database", "mediaType": "book", "provider": "google",
        "settings": {"coverAspectRatio": 1, "disableWatcher": false, "autoScanCronExpression": null, "markAsFinishedTimeRemaining": 10},
        "lastScan": ADDED, "lastScanVersion": VERSION, "createdAt": ADDED, "lastUpdate": ADDED
    })
}

fn items(call: &Call, books: &[Book]) -> Response<Body> {
    let number = |name: &str| call.parameters(name).first().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let (limit, page) = (number("limit"), number("page"));
    let shown: Vec<Value> = if limit == 0 {
        books.iter().map(minified).collect()
    } else {
        books.iter().skip(limit.saturating_mul(page)).take(limit).map(minified).collect()
    };
    answer::json(&json!({
        "results": shown, "total": books.len(), "limit": limit, "page": page, "sortDesc": false, "mediaType": "book", "minified": true,
        "collapseseries": false, "include": "", "offset": 0
    }))
}

/// What full and minified items have in common.
fn base(book: &Book) -> Value {
    json!({
        "id": book.id, "ino": "10127530", "oldLibraryItemId": null, "libraryId": LIBRARY, "folderId": FOLDER,
        "path": format!("/books/{}", book.title), "relPath": book.title, "isFile": false, "mtimeMs": ADDED, "ctimeMs": ADDED,
        "birthtimeMs": ADDED, "addedAt": ADDED, "updatedAt": ADDED, "isMissing": false, "isInvalid": false, "mediaType": "book",
        "numFiles": 1, "size": book.media.len()
    })
}

fn metadata(book: &Book) -> Value {
    json!({
        "title": book.title, "titleIgnorePrefix": book.title, "subtitle": null, "authors": [{"id": "cb600b1a-7bc4-4289-b69e-ad2586344b4c", "name": "Keygate"}],
        "authorName": "Keygate", "authorNameLF": "Keygate", "narrators": [], "narratorName": "", "series": [], "seriesName": "",
        "genres": [], "publishedYear": "2026", "publishedDate": null, "publisher": null, "description": null, "descriptionPlain": null,
        "isbn": null, "asin": null, "language": null, "explicit": false, "abridged": false
    })
}

fn minified(book: &Book) -> Value {
    let mut value = base(book);
    value["media"] = json!({
        "id": book.id, "metadata": metadata(book), "coverPath": null, "tags": [], "numTracks": 1, "numAudioFiles": 1, "numChapters": 0,
        "duration": SECONDS, "size": book.media.len(), "ebookFormat": null
    });
    value
}

fn track(book: &Book) -> Value {
    json!({
        "index": 1, "ino": book.ino, "metadata": file_metadata(book), "addedAt": ADDED, "updatedAt": ADDED, "manuallyVerified": false, "exclude": false, "error": null,
        "format": "WAV / WAVE (Waveform Audio)", "duration": SECONDS, "bitRate": 705_600, "language": null, "codec": "pcm_s16le",
        "timeBase": "1/44100", "channels": 1, "channelLayout": "mono", "chapters": [], "embeddedCoverArt": null, "metaTags": {},
        "mimeType": book.mime, "title": book.file, "startOffset": 0, "contentUrl": format!("/api/items/{}/file/{}", book.id, book.ino)
    })
}

fn file_metadata(book: &Book) -> Value {
    let extension = book.file.rsplit_once('.').map_or("", |(_, extension)| extension);
    json!({
        "filename": book.file, "ext": format!(".{extension}"), "path": format!("/books/{}/{}", book.title, book.file), "relPath": book.file,
        "size": book.media.len(), "mtimeMs": ADDED, "ctimeMs": ADDED, "birthtimeMs": ADDED
    })
}

fn item(book: &Book) -> Value {
    let mut value = base(book);
    value["lastScan"] = json!(ADDED);
    value["scanVersion"] = json!(VERSION);
    value["libraryFiles"] = json!([{"ino": book.ino, "metadata": file_metadata(book), "isSupplementary": null, "addedAt": ADDED, "updatedAt": ADDED, "fileType": "audio"}]);
    value["media"] = json!({
        "id": book.id, "libraryItemId": book.id, "metadata": metadata(book), "coverPath": null, "tags": [], "audioFiles": [track(book)],
        "chapters": [], "ebookFile": null, "duration": SECONDS, "size": book.media.len(), "tracks": [track(book)], "numTracks": 1
    });
    value
}

/// A new playback session; its id is the capability for the open routes.
fn open_session(server: &Server, book: &Book, caller: &Caller, wishes: &Value) -> Value {
    let is_transcode = wishes["forceTranscode"] == true;
    let id = random::uuid();
    server.control.ledger().playbacks.insert(id.clone(), (book.id.to_owned(), is_transcode));
    let mut audio = track(book);
    if is_transcode {
        audio["contentUrl"] = json!(format!("/hls/{id}/output.m3u8"));
        audio["mimeType"] = json!("application/vnd.apple.mpegurl");
    }
    json!({
        "id": id, "userId": caller.id, "libraryId": LIBRARY, "libraryItemId": book.id, "bookId": book.id, "episodeId": null, "mediaType": "book",
        "mediaMetadata": metadata(book), "chapters": [], "displayTitle": book.title, "displayAuthor": "Keygate", "coverPath": null,
        "duration": SECONDS, "playMethod": if is_transcode { 2 } else { 0 }, "mediaPlayer": wishes["mediaPlayer"].as_str().unwrap_or("unknown"),
        "deviceInfo": {"deviceId": wishes["deviceInfo"]["deviceId"].as_str().unwrap_or_default(), "clientName": caller.name, "clientVersion": VERSION},
        "serverVersion": VERSION, "date": "2026-11-21", "dayOfWeek": "Saturday", "timeListening": 0, "startTime": 0, "currentTime": 0,
        "startedAt": ADDED, "updatedAt": ADDED, "audioTracks": [audio], "libraryItem": item(book)
    })
}
