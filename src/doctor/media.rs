//! A ranged request for media and a WebSocket, through keygate's own front door, with a key that only memory knows.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request, response};
use http_body_util::Empty;
use serde_json::Value;

use crate::doctor::front::{Body, Front};
use crate::doctor::{Asker, Finding, Inside, Installation, Subject};
use crate::keys::ApiKey;
use crate::server::listener::{Listener, Purpose};
use crate::upstream::Kind;

const RANGE: &str = "range";
const WEBSOCKET: &str = "websocket";

/// The checks of this file.
pub(super) const NAMES: [&str; 2] = [RANGE, WEBSOCKET];

/// Most libraries that are looked into.
const MOST_LIBRARIES: usize = 8;
/// A sample (RFC 6455, section 1.2).
const SOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Both. The key ends with them.
pub(super) async fn check(subject: &Subject<'_>, inside: &Inside, asker: Option<&Asker>) -> Vec<Finding> {
    let not_looked_at = |text: &str| NAMES.map(|check| subject.finding(Finding::not_looked_at(check, text))).to_vec();
    let Some(asker) = asker else { return not_looked_at("there is no account to ask with") };
    let Some(front) = front(subject, inside) else {
        return not_looked_at("every listener that leads there wants a certificate of the client");
    };
    let lent = match inside.registry.lend_key("keygate doctor", asker.id) {
        Ok(lent) => lent,
        Err(error) => return not_looked_at(&error.to_string()),
    };
    let host = subject.config.hosts.first().map_or("localhost", String::as_str);
    let client = Client { front, host, kind: subject.upstream.kind, key: lent.key(), asker };
    let findings = [client.range().await, client.websocket().await];
    findings.into_iter().map(|finding| subject.finding(finding)).collect()
}

/// A listener that leads to the upstream and takes clients without a certificate.
fn front(subject: &Subject<'_>, inside: &Inside) -> Option<Front> {
    let leads_there = |listener: &Listener| match &listener.upstream {
        Some(name) => *name == subject.upstream.name,
        None => is_by_host(subject),
    };
    let (listener, address) = inside.listeners.iter().find(|(listener, _)| {
        listener.purpose == Purpose::Serve && leads_there(listener) && !wants_certificate(subject.installation, listener)
    })?;
    let certificate = listener.tls.is_some().then(|| first_certificate(subject.installation));
    Some(Front { address: *address, certificate, proxies: listener.proxies.to_vec() })
}

/// Whether a listener of all upstreams leads there, by some host name.
fn is_by_host(subject: &Subject<'_>) -> bool {
    !subject.config.hosts.is_empty() || subject.config.listen.is_empty() || subject.installation.config.upstreams.len() == 1
}

fn wants_certificate(installation: &Installation, listener: &Listener) -> bool {
    let ca = installation.config.server.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
    listener.tls.is_some() && ca.is_some_and(|ca| ca.is_for(&listener.listen))
}

/// The one for clients that name no host.
fn first_certificate(installation: &Installation) -> String {
    let shown = installation.certificates.as_ref().ok().and_then(|shown| shown.first());
    shown.map(|shown| shown.facts.fingerprint.clone()).unwrap_or_default()
}

struct Client<'a> {
    front: Front,
    host: &'a str,
    kind: Kind,
    key: &'a ApiKey,
    asker: &'a Asker,
}

/// Something that can be played, or why there is none.
enum Media {
    At(String),
    None,
    Failed(String),
}

impl Client<'_> {
    fn request(&self, target: &str) -> request::Builder {
        let mut key = HeaderValue::try_from(self.key.expose()).unwrap_or_else(|_| HeaderValue::from_static(""));
        key.set_sensitive(true);
        Request::builder().uri(target).header(header::HOST, self.host).header("x-emby-token", key)
    }

    async fn ask(&self, request: request::Builder, wanted: Body) -> Result<(response::Parts, Bytes), String> {
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        self.front.ask(request, wanted).await.map_err(|error| format!("{} cannot be used: {error}", self.front.address))
    }

    async fn json(&self, target: &str) -> Result<Value, String> {
        let (head, body) = self.ask(self.request(target), Body::Whole).await?;
        if head.status != StatusCode::OK {
            return Err(format!("{} for {}: {}", head.status, path_of(target), said(&body)));
        }
        serde_json::from_slice(&body).map_err(|_| format!("the answer to {} is not JSON", path_of(target)))
    }

    async fn range(&self) -> Finding {
        let name = &self.asker.name;
        let path = match self.media().await {
            Ok(Media::At(path)) => path,
            Ok(Media::None) => return Finding::not_applicable(RANGE, format!("{name} sees no media to try it with")),
            Ok(Media::Failed(why)) | Err(why) => return Finding::failed(RANGE, format!("no media could be found through keygate: {why}")),
        };
        match self.ask(self.request(&path).header(header::RANGE, "bytes=0-0"), Body::Left).await {
            Ok((head, _)) if is_one_byte(&head.headers) && head.status == StatusCode::PARTIAL_CONTENT => {
                Finding::ok(RANGE, format!("the first byte of a medium of {name} came through {} (206)", self.front.address))
            }
            Ok((head, _)) if head.status.is_redirection() => {
                Finding::warning(RANGE, format!("the media server answers {} and sends clients elsewhere for media", head.status))
            }
            Ok((head, _)) => {
                Finding::failed(RANGE, format!("a request for the first byte of a medium was answered {}, not 206", head.status))
                    .cure("Players cannot seek: look into keygate's log for the request of the key \"keygate doctor\"")
            }
            Err(why) => Finding::failed(RANGE, why),
        }
    }

    async fn media(&self) -> Result<Media, String> {
        match self.kind {
            Kind::Audiobookshelf => self.book().await,
            Kind::Emby | Kind::Jellyfin => self.item().await,
        }
    }

    async fn book(&self) -> Result<Media, String> {
        let libraries = self.json("/api/libraries").await?;
        let ids = libraries["libraries"].as_array().into_iter().flatten().filter_map(|library| library["id"].as_str());
        for library in ids.take(MOST_LIBRARIES) {
            let items = self.json(&format!("/api/libraries/{library}/items?limit=1")).await?;
            let Some(item) = items["results"][0]["id"].as_str() else { continue };
            let details = self.json(&format!("/api/items/{item}?expanded=1")).await?;
            if let Some(file) = details["libraryFiles"][0]["ino"].as_str() {
                return Ok(Media::At(format!("/api/items/{item}/file/{file}")));
            }
        }
        Ok(Media::None)
    }

    async fn item(&self) -> Result<Media, String> {
        let user = self.asker.user_id.as_ref().map(|id| format!("&UserId={id}")).unwrap_or_default();
        let query = "Recursive=true&Limit=1&IncludeItemTypes=Audio,Movie,Episode,MusicVideo,Video,AudioBook";
        let items = self.json(&format!("/Items?{query}{user}")).await?;
        let item = &items["Items"][0];
        let Some(id) = item["Id"].as_str() else { return Ok(Media::None) };
        Ok(match item["MediaType"].as_str() {
            Some("Audio") => Media::At(format!("/Audio/{id}/stream?static=true")),
            Some("Video") => Media::At(format!("/Videos/{id}/stream?static=true")),
            other => Media::Failed(format!("the server offers a medium of an unknown type ({})", other.unwrap_or("none"))),
        })
    }

    async fn websocket(&self) -> Finding {
        let target = match self.kind {
            Kind::Audiobookshelf => "/socket.io/?EIO=4&transport=websocket",
            Kind::Emby => "/embywebsocket?deviceId=keygate-doctor",
            Kind::Jellyfin => "/socket?deviceId=keygate-doctor",
        };
        let request = self.request(target).header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "websocket");
        let request = request.header(header::SEC_WEBSOCKET_VERSION, "13").header(header::SEC_WEBSOCKET_KEY, SOCKET_KEY);
        match self.ask(request, Body::Left).await {
            Ok((head, _)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                Finding::ok(WEBSOCKET, format!("{} opened through {} (101)", path_of(target), self.front.address))
            }
            Ok((head, _)) => Finding::failed(WEBSOCKET, format!("{} was answered {}, not 101", path_of(target), head.status)).cure(
                "Apps get no news of the server: see that nothing between keygate and the media server takes the Upgrade header away",
            ),
            Err(why) => Finding::failed(WEBSOCKET, why),
        }
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// keygate's own word for a refusal; the answers of others are not repeated.
fn said(body: &[u8]) -> String {
    let word = serde_json::from_slice::<Value>(body).ok().and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    let is_a_word = |word: &String| word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word.filter(is_a_word).unwrap_or_else(|| "the media server's own answer".to_owned())
}

fn is_one_byte(headers: &HeaderMap) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with("bytes 0-0/"))
}
