//! What answers at an upstream's address: which kind of server, and which version.

use std::net::{IpAddr, Ipv4Addr};

use http::header::DATE;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::upstream::Kind;
use crate::upstream::call::{CallError, call, speaks_tls};
use crate::upstream::client::Upstream;
use crate::upstream::dialect::{Answer, Call};
use crate::upstream::mixup;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One of the three servers.
    Server {
        /// Which.
        kind: Kind,
        /// Its version, if it said so.
        version: Option<String>,
    },
    /// A server that is starting (503 on everything).
    Starting,
    /// Something else.
    Stranger,
}

/// Asks an address what it is, by routes that need no credential: `/System/Info/Public` (Jellyfin names itself in `ProductName`, Emby
/// does not have that field) and `/status` (Audiobookshelf).
///
/// # Errors
/// [`CallError`] when nothing answers.
pub async fn survey(upstream: &Upstream) -> Result<Found, CallError> {
    let found = look(upstream).await?;
    if let Found::Server { version: Some(version), .. } = &found {
        upstream.health.tell_version(version);
    }
    Ok(found)
}

async fn look(upstream: &Upstream) -> Result<Found, CallError> {
    let public = call(upstream, question("/System/Info/Public"), None).await?;
    if public.status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(Found::Starting);
    }
    if let Some(found) = read_public_info(&public) {
        return Ok(found);
    }
    let status = call(upstream, question("/status"), None).await?;
    match read_status(&status) {
        Some(found) => Ok(found),
        // Some servers of TLS have a page for plain requests.
        None if upstream.tls.is_none() && status.status == StatusCode::BAD_REQUEST && mixup::speaks_tls(upstream).await => {
            Err(speaks_tls(upstream))
        }
        None => Ok(Found::Stranger),
    }
}

/// What was found at an upstream's address, in a sentence.
pub enum Judged {
    /// What is configured.
    Good(String),
    /// Nobody, for now.
    Away(String),
    /// Something else.
    Wrong(String),
}

/// Compares what was found with what is configured.
pub fn judge(upstream: &Upstream, found: Result<Found, CallError>) -> Judged {
    let (kind, url) = (upstream.kind, upstream.url());
    match found {
        Ok(Found::Server { kind: found, version }) if found == kind => {
            Judged::Good(format!("{} {} answers at {url}", kind.product(), version.unwrap_or_default()))
        }
        Ok(Found::Server { kind: found, .. }) => {
            Judged::Wrong(format!("upstream.kind is \"{kind}\", but {url} answers as {}. Set kind = \"{found}\".", found.product()))
        }
        Ok(Found::Starting) => Judged::Away(format!("{url} is still starting; clients get 503 until it is up")),
        Ok(Found::Stranger) => {
            Judged::Wrong(format!("{url} does not answer as {}: is upstream.url right, and does it need a base_path?", kind.product()))
        }
        Err(CallError::Tls { cause, .. }) => Judged::Wrong(format!("keygate cannot connect to {url}: {cause}")),
        Err(error) => Judged::Away(format!("upstream {url} cannot be reached; clients get 502 until it is back: {error}")),
    }
}

/// The media server's clock, from the `Date` of an answer (RFC 9110, section 6.6.1); `None`: it tells none.
pub async fn time_of(upstream: &Upstream) -> Option<Timestamp> {
    let path = if upstream.kind == Kind::Audiobookshelf { "/status" } else { "/System/Info/Public" };
    let answer = call(upstream, question(path), None).await.ok()?;
    let date = jiff::fmt::rfc2822::parse(answer.headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(Timestamp::from_secs(date.timestamp().as_second()))
}

/// A JSON document of the media server's; `None` where it is refused or is none. `headers` may carry a session.
pub async fn read(upstream: &Upstream, path: &str, headers: HeaderMap) -> Option<Value> {
    let answer = call(upstream, Call { headers, ..question(path) }, None).await.ok()?;
    json(&answer)
}

/// An address for documentation (RFC 5737): no network that a server takes for its own has it.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// Whether Jellyfin believes `X-Forwarded-For` from here: it must not take an address of the internet for one of its own network. `None`:
/// the server does not say. `headers` carry a session.
///
/// # Errors
/// [`CallError`] when nothing answers.
pub async fn believes_forwarding(upstream: &Upstream, headers: HeaderMap) -> Result<Option<bool>, CallError> {
    let answer = call(upstream, Call { headers, ..question("/System/Endpoint") }, Some(STRANGER)).await?;
    Ok(json(&answer).and_then(|endpoint| endpoint.get("IsInNetwork")?.as_bool()).map(|is_near| !is_near))
}

fn question(path: &str) -> Call {
    Call { method: Method::GET, path: path.to_owned(), headers: HeaderMap::new(), body: Secret::new(Vec::new()) }
}

fn json(answer: &Answer) -> Option<Value> {
    answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok()).flatten()
}

fn read_public_info(answer: &Answer) -> Option<Found> {
    let info = json(answer)?;
    info.get("Id")?;
    let version = info.get("Version").and_then(Value::as_str).map(ToOwned::to_owned);
    let kind = match info.get("ProductName").and_then(Value::as_str) {
        Some(name) if name.contains("Jellyfin") => Kind::Jellyfin,
        _ => Kind::Emby,
    };
    Some(Found::Server { kind, version })
}

fn read_status(answer: &Answer) -> Option<Found> {
    let status = json(answer)?;
    (status.get("app").and_then(Value::as_str) == Some("audiobookshelf")).then(|| Found::Server {
        kind: Kind::Audiobookshelf,
        version: status.get("serverVersion").and_then(Value::as_str).map(ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    #[test]
    fn the_three_servers_are_told_apart_by_what_they_say_of_themselves() {
        let jellyfin = answer(r#"{"ProductName":"Jellyfin Server","Version":"12.0.0","Id":"a"}"#);
        let emby = answer(r#"{"Version":"4.8.11.0","Id":"b","ServerName":"home"}"#);
        let audiobookshelf = answer(r#"{"app":"audiobookshelf","serverVersion":"2.36.0","isInit":true}"#);
        let server = |kind, version: &str| Some(Found::Server { kind, version: Some(version.to_owned()) });
        assert_eq!(read_public_info(&jellyfin), server(Kind::Jellyfin, "12.0.0"));
        assert_eq!(read_public_info(&emby), server(Kind::Emby, "4.8.11.0"));
        assert_eq!(read_public_info(&audiobookshelf), None);
        assert_eq!(read_status(&audiobookshelf), server(Kind::Audiobookshelf, "2.36.0"));
    }

    #[test]
    fn a_page_of_something_else_is_a_stranger() {
        assert_eq!(read_public_info(&answer("<html>")), None);
        assert_eq!(read_status(&answer(r#"{"app":"nextcloud"}"#)), None);
    }
}
