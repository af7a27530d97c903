//! One music library with two tracks, and what the server says about itself.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Visit;
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::media::{Media, SECONDS};
use crate::demo::random;
use crate::demo::standin::Server;
use crate::upstream::Kind;

/// Seconds to ticks of 100 ns.
const TICKS: u64 = 10_000_000;

/// A track.
pub(super) struct Track {
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) container: &'static str,
    pub(super) media: Media,
}

/// The library's tracks. Emby numbers its items, Jellyfin's ids are 32 hex digits.
pub(super) fn tracks(server: &Server) -> [Track; 2] {
    let id = |number: &str, name: &str| if server.kind == Kind::Emby { number.to_owned() } else { id(name) };
    [
        Track { id: id("1001", "sweep"), name: "A Sweep of Sines", container: "wav", media: Media::wav() },
        Track {
            id: id("1002", "pattern"),
            name: "The Long Pattern",
            container: "mp3",
            media: Media::Pattern(server.options.large_file_bytes),
        },
    ]
}

/// A stable id of 32 hex digits for a name.
pub(super) fn id(name: &str) -> String {
    random::to_hex(&Sha256::digest(name.as_bytes())[..16])
}

/// A track by its id, with or without dashes.
pub(super) fn track(server: &Server, given: &str) -> Option<Track> {
    let given = given.replace('-', "");
    tracks(server).into_iter().find(|track| track.id == given)
}

/// Views and items, for a request with a good token.
pub(super) fn route(visit: &Visit<'_>, call: &Call) -> Option<Response<Body>> {
    let server = visit.server;
    if !matches!(call.parts.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    Some(match visit.names.as_slice() {
        ["userviews"] if server.kind == Kind::Jellyfin => answer::json(&listing(vec![view(server)])),
        ["users", _, "views"] | ["library", "mediafolders"] => answer::json(&listing(vec![view(server)])),
        ["items"] | ["users", _, "items"] => answer::json(&listing(items(server, call))),
        ["items", "latest"] | ["users", _, "items", "latest"] => answer::json(&json!(items(server, call))),
        ["useritems", "resume"] | ["users", _, "items", "resume"] => answer::json(&listing(Vec::new())),
        ["items", given] | ["users", _, "items", given] => answer::json(&item(server, &track(server, given)?)),
        ["items", given, "download" | "file"] | ["audio", given, "universal"] => media(server, call, given),
        _ => return None,
    })
}

/// The file of a track, whole or in ranges.
pub(super) fn media(server: &Server, call: &Call, given: &str) -> Response<Body> {
    match track(server, given) {
        Some(track) => {
            let content_type = if track.container == "wav" { "audio/wav" } else { "audio/mpeg" };
            track.media.answer(&call.parts.method, &call.parts.headers, content_type)
        }
        None => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// `/System/Info/Public`: it tells everybody the server's own address.
pub(super) fn public_info(visit: &Visit<'_>, call: &Call) -> Response<Body> {
    answer::json(&about(visit, call))
}

/// `/System/Info`.
pub(super) fn info(visit: &Visit<'_>, call: &Call) -> Response<Body> {
    let mut value = about(visit, call);
    value["HasPendingRestart"] = json!(false);
    value["SupportsLibraryMonitor"] = json!(true);
    value["WebSocketPortNumber"] = json!(8096);
    answer::json(&value)
}

fn about(visit: &Visit<'_>, call: &Call) -> Value {
    let server = visit.server;
    let faults = server.control.ordered_faults();
    let version = match (server.kind, server.options.legacy_authorization) {
        (Kind::Emby, _) => "4.8.11.0",
        (_, true) => "10.10.7",
        (_, false) => "12.0.0",
    };
    let mut value = json!({
        "LocalAddress": local_address(server, call), "ServerName": format!("{} stand-in", server.kind.product()),
        "Version": faults.version.as_deref().unwrap_or(version), "Id": server.server_id,
    });
    if server.kind == Kind::Jellyfin {
        value["ProductName"] = json!("Jellyfin Server");
        value["StartupWizardCompleted"] = json!(true);
    } else {
        value["LocalAddresses"] = json!([server.url]);
        value["RemoteAddresses"] = json!([]);
    }
    value
}

/// Its own, or the one that the request names, as far as whoever forwards is believed.
fn local_address(server: &Server, call: &Call) -> String {
    let faults = server.control.ordered_faults();
    if !faults.addresses_by_request {
        return server.url.clone();
    }
    let forwarded = |name: &str| call.header(name).filter(|_| !faults.ignore_forwarded_for);
    let host = forwarded("x-forwarded-host").or_else(|| call.header("host")).unwrap_or_default();
    format!("{}://{host}", forwarded("x-forwarded-proto").unwrap_or("http"))
}

/// `/System/Configuration`: what a user may read of it.
pub(super) fn configuration(server: &Server) -> Response<Body> {
    let mut value = json!({"ServerName": "stand-in", "IsStartupWizardCompleted": true});
    match server.kind {
        Kind::Emby => {
            value["IsBehindProxy"] = json!(false);
            value["WanDdns"] = json!("");
        }
        // Versions up to 10.10 have no such switch.
        _ if server.options.legacy_authorization => {}
        _ => value["EnableLegacyAuthorization"] = json!(false),
    }
    answer::json(&changed(value, server.control.ordered_faults().configuration))
}

/// `/System/Configuration/network`.
pub(super) fn network(server: &Server) -> Response<Body> {
    let value = json!({
        "KnownProxies": ["127.0.0.1"], "AutoDiscovery": true, "EnablePublishedServerUriByRequest": false, "PublishedServerUriBySubnet": []
    });
    answer::json(&changed(value, server.control.ordered_faults().network))
}

fn changed(mut value: Value, changes: serde_json::Map<String, Value>) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.extend(changes);
    }
    value
}

fn listing(items: Vec<Value>) -> Value {
    json!({"TotalRecordCount": items.len(), "Items": items, "StartIndex": 0})
}

fn view(server: &Server) -> Value {
    json!({
        "Name": "Music", "ServerId": server.server_id, "Id": if server.kind == Kind::Emby { "7".to_owned() } else { id("music") },
        "IsFolder": true, "Type": "CollectionFolder", "CollectionType": "music", "MediaType": "Unknown", "ImageTags": {}
    })
}

fn items(server: &Server, call: &Call) -> Vec<Value> {
    let number = |name: &str| call.joined_parameter(name).and_then(|text| text.parse::<usize>().ok());
    let tracks = if server.control.ordered_faults().no_media { Vec::new() } else { tracks(server).into() };
    let shown = tracks.iter().skip(number("StartIndex").unwrap_or(0)).take(number("Limit").unwrap_or(usize::MAX));
    shown.map(|track| item(server, track)).collect()
}

fn item(server: &Server, track: &Track) -> Value {
    let mut value = json!({
        "Name": track.name, "ServerId": server.server_id, "Id": track.id, "Container": track.container, "RunTimeTicks": ticks(),
        "IsFolder": false, "Type": "Audio", "MediaType": "Audio", "ImageTags": {"Primary": id(track.name)}, "Artists": ["Keygate"], "Album": "Demo"
    });
    if server.kind == Kind::Emby {
        value["MediaSources"] = json!([{"Id": track.id, "Container": track.container, "Size": track.media.len()}]);
    }
    value
}

/// The length of every track.
pub(super) fn ticks() -> u64 {
    u64::from(SECONDS) * TICKS
}
