//! Which credential a request carries, in the order in which each server looks, and whether it is good.

use crate::demo::call::{Call, decode};
use crate::demo::standin::Server;
use crate::upstream::Kind;

/// Client identity and token of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) token: Option<String>,
    pub(super) client: Option<String>,
    pub(super) device: Option<String>,
    pub(super) device_id: Option<String>,
    pub(super) version: Option<String>,
}

/// What the token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// None was sent.
    Nothing,
    /// Not a token of this server (any more), or its user is disabled.
    Unknown,
    /// A key of the server itself: an administrator without a user.
    ApiKey,
    /// A session of a user.
    User { id: String, is_admin: bool },
}

impl Identity {
    /// Reads the carriers that the server knows; the first one that is not empty wins.
    pub(super) fn read(server: &Server, call: &Call) -> Self {
        let is_legacy = server.options.legacy_authorization;
        let mut identity = Self::default();
        if let Some(text) = structured(server, call) {
            identity.parse(text, server.kind);
        }
        let header = |name: &str| call.header(name).map(str::to_owned);
        let query = |name: &str| call.joined_parameter(name);
        let token = identity.token.take();
        let token = match server.kind {
            // ASP.NET compares query names without case: `apikey` counts, while `api_key` is another name.
            Kind::Jellyfin if !is_legacy => first(vec![token, query("ApiKey")]),
            Kind::Jellyfin | Kind::Audiobookshelf => {
                first(vec![token, header("x-emby-token"), header("x-mediabrowser-token"), query("ApiKey"), query("api_key")])
            }
            Kind::Emby => {
                first(vec![token, header("x-emby-token"), header("x-mediabrowser-token"), query("api_key"), query("X-Emby-Token")])
            }
        };
        identity.token = token;
        if server.kind == Kind::Emby {
            identity.device_id = first(vec![identity.device_id, header("x-emby-device-id"), query("X-Emby-Device-Id")]);
            identity.client = first(vec![identity.client, header("x-emby-client"), query("X-Emby-Client")]);
        }
        identity
    }

    /// Whether the token is good.
    pub(super) fn judge(&self, server: &Server) -> Judged {
        let Some(token) = &self.token else { return Judged::Nothing };
        let ledger = server.control.ledger();
        let Some(device) = ledger.devices.iter().find(|device| device.token == *token) else { return Judged::Unknown };
        if device.user.is_empty() {
            return Judged::ApiKey;
        }
        match ledger.by_id(&device.user) {
            Some(account) if account.is_active => Judged::User { id: account.id.clone(), is_admin: account.is_admin },
            _ => Judged::Unknown,
        }
    }

    /// Reads `k="v", …`. Emby compares names without case; Jellyfin does not, and URL-decodes the values.
    fn parse(&mut self, text: &str, kind: Kind) {
        for (key, value) in fields(text, kind) {
            let value = if kind == Kind::Jellyfin { decode(value).into_owned() } else { value.to_owned() };
            let is = |name: &str| if kind == Kind::Jellyfin { key == name } else { key.eq_ignore_ascii_case(name) };
            let slot = if is("Token") {
                &mut self.token
            } else if is("Client") {
                &mut self.client
            } else if is("Device") {
                &mut self.device
            } else if is("DeviceId") {
                &mut self.device_id
            } else if is("Version") {
                &mut self.version
            } else {
                continue;
            };
            *slot = Some(value).filter(|value| !value.is_empty());
        }
    }
}

/// The fields of a structured header. Emby splits at every comma, Jellyfin only outside quotes.
fn fields(text: &str, kind: Kind) -> Vec<(&str, &str)> {
    let mut is_quoted = false;
    text.split(|character| {
        is_quoted ^= character == '"';
        character == ',' && (kind == Kind::Emby || !is_quoted)
    })
    .filter_map(|pair| pair.trim().split_once('='))
    .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
    .collect()
}

/// What stands behind the scheme of the structured header that the server reads; the other one is not looked at.
fn structured<'a>(server: &Server, call: &'a Call) -> Option<&'a str> {
    let is_new = server.kind == Kind::Jellyfin && !server.options.legacy_authorization;
    let value = if is_new { None } else { call.header("x-emby-authorization") };
    let (scheme, rest) = value.or_else(|| call.header("authorization"))?.split_once(' ')?;
    let is_known = scheme.eq_ignore_ascii_case("MediaBrowser") || (!is_new && scheme.eq_ignore_ascii_case("Emby"));
    is_known.then_some(rest)
}

fn first(candidates: Vec<Option<String>>) -> Option<String> {
    candidates.into_iter().flatten().find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_splits_the_structured_header_its_own_way() {
        let text = r#"Client="a, b", Token="t""#;
        assert_eq!(fields(text, Kind::Jellyfin), [("Client", "a, b"), ("Token", "t")]);
        assert_eq!(fields(text, Kind::Emby), [("Client", "a"), ("Token", "t")]);
    }

    #[test]
    fn jellyfin_reads_field_names_in_their_own_case_only() {
        let mut identity = Identity::default();
        identity.parse(r#"token="t", DeviceId="a%20b""#, Kind::Jellyfin);
        assert_eq!((identity.token, identity.device_id.as_deref()), (None, Some("a b")));
        let mut identity = Identity::default();
        identity.parse(r#"token="t""#, Kind::Emby);
        assert_eq!(identity.token.as_deref(), Some("t"));
    }
}
