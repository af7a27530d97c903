//! What a listener answers that only leads to https. Nothing is forwarded from there, and a key that comes there is burnt: everybody on
//! the way could read it. So is one that comes in clear text to a port that speaks TLS.

use std::net::IpAddr;

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::carrier::{self, Presented};
use crate::certificates::challenges::Challenges;
use crate::forward::body::GatewayBody;
use crate::gateway::inspect::{self, Head};
use crate::gateway::refusal::Refusal;
use crate::gateway::{Worker, guessing, respond};
use crate::keys::index::Verified;
use crate::target::Host;
use crate::usage::tally::Refused;

/// Where an ACME server asks (RFC 8555, section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The answer to an ACME server's question, if it is one.
fn challenge(challenges: &Challenges, path: &str) -> Option<Response<GatewayBody>> {
    let token = path.strip_prefix(CHALLENGES)?;
    let mut response = match challenges.answer(token) {
        Some(authorization) => Response::new(GatewayBody::own(authorization.into())),
        None => {
            let mut response = Response::new(GatewayBody::EMPTY);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Some(response)
}

/// What came in clear text that must not.
enum Burnt {
    /// A known key, and where it was.
    Key(Verified, &'static str),
    /// Something that looks like a key or a ticket.
    Unknown,
}

impl Worker {
    /// Answers a request that came to a redirecting listener. `https_port`: where https is.
    pub(crate) fn redirect<B>(&self, client: IpAddr, request: &Request<B>, https_port: u16) -> Response<GatewayBody> {
        let answer = self.lead_to_https(client, request, https_port);
        let mut answer = answer.unwrap_or_else(|refusal| {
            tracing::debug!(%client, %refusal, "not redirected");
            respond::refusal(&refusal)
        });
        // A connection in clear text has no future.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    fn lead_to_https<B>(&self, client: IpAddr, request: &Request<B>, https_port: u16) -> Result<Response<GatewayBody>, Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        // First of all, whatever else is wrong with it: the operator must hear of a burnt key.
        if let Some(burnt) = self.burnt(uri, headers) {
            self.report(client, &burnt, "an address that only redirects");
            return Err(Refusal::ClearText);
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if let Some(answer) = is_read.then(|| challenge(self.gateway().challenges(), uri.path())).flatten() {
            return Ok(answer);
        }
        let shown = Head { method: request.method(), uri, version: request.version(), headers };
        let inspected = inspect::inspect(shown, &self.gateway().settings().limits, inspect::Listener::Clear)?;
        // Credentials of other kinds are not repeated in an address that browsers remember.
        let found = carrier::read(headers, inspected.query, true)?;
        let path = if inspected.server_wide { "/" } else { uri.path() };
        let location = location(&inspected.host, https_port, path, found.query.as_deref());
        let location = HeaderValue::try_from(location).map_err(|_| inspect::Refused::Target)?;
        let mut response = Response::new(GatewayBody::EMPTY);
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location);
        // What https leads to may change with the configuration; browsers keep a 308 for ever otherwise.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Looks for a key in what came in clear text to a port that speaks TLS.
    pub(crate) fn overheard(&self, client: IpAddr, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let (uri, headers) = head(&text);
        let burnt = self.burnt(&uri, &headers).or_else(|| carrier::holds_key(&text).then_some(Burnt::Unknown));
        if let Some(burnt) = burnt {
            self.report(client, &burnt, "a port that speaks https");
        }
    }

    /// Tells the operator, in the log and in the audit log. Nobody else learns whether the key was a good one.
    fn report(&self, client: IpAddr, burnt: &Burnt, place: &str) {
        let (key, carrier) = match burnt {
            Burnt::Key(key, carrier) => {
                tracing::warn!(
                    %client, key = %key.id(), name = key.name(), carrier,
                    "this key is burnt: it came in clear text to {place}, and was not forwarded; rotate it (keygate keys rotate), and let the \
                     client ask by https"
                );
                (Some(key.id()), Some(*carrier))
            }
            Burnt::Unknown => {
                tracing::warn!(
                    %client,
                    "something like a key came in clear text to {place}; it was not forwarded. If it is one of yours, it is burnt: rotate it"
                );
                (None, None)
            }
        };
        self.refused(None, Refused { kind: Refusal::ClearText.kind(), noted: Some(guessing::network(client)), carrier }, key);
    }

    fn burnt(&self, uri: &Uri, headers: &HeaderMap) -> Option<Burnt> {
        match carrier::read(headers, uri.query(), true).map(|found| found.presented) {
            Ok(Presented::Key(key, carrier)) => {
                let verified = self.gateway().find(&key);
                return Some(verified.map_or(Burnt::Unknown, |verified| Burnt::Key(verified, carrier.as_str())));
            }
            Ok(Presented::Ticket(..) | Presented::Malformed(..)) => return Some(Burnt::Unknown),
            Ok(Presented::Nothing | Presented::Foreign(_)) | Err(_) => {}
        }
        let holds_key = |text: &str| carrier::holds_key(text);
        let is_anywhere = holds_key(uri.path())
            || uri.query().is_some_and(holds_key)
            || headers.values().any(|value| value.to_str().is_ok_and(holds_key));
        is_anywhere.then_some(Burnt::Unknown)
    }
}

/// The target and the header lines of a request, as far as they can be read.
fn head(text: &str) -> (Uri, HeaderMap) {
    let (mut lines, mut headers) = (text.split('\n').map(str::trim_end), HeaderMap::new());
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|target| target.parse().ok());
    for (name, value) in lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value.trim())) {
            // More than a map takes are no request of anybody who means it.
            let _ = headers.try_append(name, value);
        }
    }
    (target.unwrap_or_default(), headers)
}

fn location(host: &Host<'_>, port: u16, path: &str, query: Option<&str>) -> String {
    let mut location = format!("https://{}", host.name());
    if port != 443 {
        location.push(':');
        location.push_str(&port.to_string());
    }
    location.push_str(path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}
