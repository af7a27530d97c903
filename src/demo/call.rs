//! A received request, with the readings that the servers' frameworks give their handlers.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::control::Control;
use super::journal::Upload;
use super::random;

/// Express's limit for JSON bodies; one for all kinds will do.
const JSON_LIMIT: usize = 10 << 20;

/// One request.
pub(super) struct Call {
    pub(super) parts: Parts,
    pub(super) body: Option<Incoming>,
    pub(super) peer: IpAddr,
}

/// Why a body is no JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadBody {
    /// Not JSON, or broken off.
    Malformed,
    /// More than 10 MiB.
    TooLarge,
}

impl Call {
    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    pub(super) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The first value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a query parameter, decoded, names compared exactly as Express does.
    pub(super) fn parameters(&self, name: &str) -> Vec<String> {
        pairs(self.query()).filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// A query parameter as ASP.NET reads it: names in any letter case, repeated ones joined by commas.
    pub(super) fn joined_parameter(&self, name: &str) -> Option<String> {
        let values: Vec<_> = pairs(self.query()).filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// A cookie's value.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie")?.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether the request asks for a WebSocket.
    pub(super) fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) && self.header("sec-websocket-key").is_some()
    }

    /// The connection after a 101, once.
    pub(super) fn take_upgrade(&mut self) -> Option<OnUpgrade> {
        self.parts.extensions.remove::<OnUpgrade>()
    }

    /// The body as JSON, or as a form turned into an object of strings; an empty body is `null`.
    pub(super) async fn json(&mut self) -> Result<Value, BadBody> {
        let is_form = self.header("content-type").is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let Some(mut body) = self.body.take() else { return Ok(Value::Null) };
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BadBody::Malformed)?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if bytes.len() > JSON_LIMIT {
                return Err(BadBody::TooLarge);
            }
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        if is_form {
            let text = String::from_utf8(bytes).map_err(|_| BadBody::Malformed)?;
            return Ok(pairs(&text).map(|(key, value)| (key.into_owned(), Value::from(value.into_owned()))).collect());
        }
        serde_json::from_slice(&bytes).map_err(|_| BadBody::Malformed)
    }

    /// Reads what nobody read of a body, up to 1 MiB, as Kestrel and Express do before they answer: the reset that follows on an
    /// unread body can swallow the answer.
    pub(super) async fn drain(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let mut left: usize = 1 << 20;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }

    /// Reads the body to its end without keeping it. `None` when it broke off, which is counted.
    pub(super) async fn sink(&mut self, control: &Control) -> Option<Upload> {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let guard = Broken(control);
        if let Some(mut body) = self.body.take() {
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.ok()?.into_data() {
                    bytes += data.len() as u64;
                    hash.update(&data);
                }
            }
        }
        std::mem::forget(guard);
        Some(Upload { bytes, sha256: random::to_hex(&hash.finalize()) })
    }
}

/// Counts an upload that ended early, also when the whole request is dropped.
struct Broken<'a>(&'a Control);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        self.0.count(|counters| counters.aborted_uploads += 1);
    }
}

/// The pairs of a query or form, decoded.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// Percent-decodes, `+` as a space; broken escapes stay as they are.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_pair_by_pair() {
        let all: Vec<_> = pairs("a=1&b=%20x+y&&c&d=%zz").map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(all, ["a=1", "b= x y", "c=", "d=%zz"]);
    }
}
