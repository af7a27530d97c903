//! What the gateway would do with a request, and with a key: judged as requests are, forwarded nowhere.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::api::secret_text;
use crate::admin::error::AdminError;
use crate::admin::keys::iso;
use crate::clock::Timestamp;
use crate::keys::index::Verified;
use crate::keys::{ApiKey, Preset};
use crate::policy::{self, Wanted};
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::dialect::libraries::{Reach, Subject};
use crate::upstream::dialect::{Media, OwnAnswer, RouteClass, Routed};
use crate::upstream::{Kind, UpstreamName};

/// `POST /api/explain`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    /// The method.
    pub method: String,
    /// A path with or without a query, or a whole URL.
    pub url: String,
    /// Which upstream; absent where there is one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// What a request is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The upstream.
    pub upstream: String,
    /// What that is.
    pub kind: String,
    /// The method.
    pub method: String,
    /// The path as it is judged, below the upstream's base path.
    pub path: String,
    /// The scopes that it takes, all of them; empty: every key may.
    pub scopes: Vec<String>,
    /// The presets that have them.
    pub presets: Vec<String>,
    /// How it is treated, in a sentence.
    pub treatment: String,
    /// What it is to keys that are confined to libraries, in a sentence.
    pub libraries: String,
}

/// `POST /api/api-keys/test`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestKeyRequest {
    /// The key's text.
    #[serde(with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret<String>>,
    /// A request to judge it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ExplainRequest>,
}

/// What the gateway makes of a key.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyTest {
    /// Whether it would be let through: to the request, or, without one, to anything at all.
    pub may: bool,
    /// Why not.
    pub why: Option<String>,
    /// The key, if it is known.
    pub key: Option<TestedKey>,
    /// The request.
    pub request: Option<Explanation>,
}

/// A known key.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestedKey {
    /// Public id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `upstream/name`; null when it was removed.
    pub account: Option<String>,
    /// Whether it is switched on.
    pub is_active: bool,
    /// When this secret dies; null: never. After a rotation with an overlap the old secret dies before the key.
    pub expires_at: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The preset that is exactly these scopes.
    pub preset: Option<String>,
    /// The libraries that it is confined to.
    pub libraries: Option<Vec<String>>,
}

impl Admin {
    /// What a request is to the gateway.
    pub(super) fn explain(&self, request: &ExplainRequest) -> Result<Explanation, AdminError> {
        let place = self.place(request.upstream.as_deref())?;
        self.look(request, &place, |look| Ok(look.explanation()))
    }

    /// What the gateway would do with a key.
    pub(super) fn test_key(&self, request: &TestKeyRequest) -> Result<KeyTest, AdminError> {
        let text = request.api_key.as_ref().map_or("", |key| key.expose().trim());
        let key = match ApiKey::parse(text) {
            Ok(key) => key,
            Err(why) => return Ok(refused(format!("this is no key: {why}"))),
        };
        let Some(verified) = self.registry.find(&key) else {
            return Ok(refused("no key that lives has this secret: it was revoked or rotated, or belongs to another keygate".to_owned()));
        };
        let account = self.sessions.account(verified.account());
        let own = account.as_ref().map(|account| account.upstream.clone());
        let tested = Some(tested(&verified, account.as_ref().map(|account| account.full_name())));
        let Some(asked) = &request.request else {
            let why = policy::judge_alone(&verified, account, self.clock.now()).err().map(|denied| denied.to_string());
            return Ok(KeyTest { may: why.is_none(), why, key: tested, request: None });
        };
        let place = match (&asked.upstream, own) {
            (None, Some(own)) => own,
            (given, _) => self.place(given.as_deref())?,
        };
        self.look(asked, &place, |look| {
            let subject = Some(Subject { kind: look.kind, reach: look.routed.reach, path: &look.path, query: look.query });
            let wanted = Wanted { upstream: &place, needs: look.routed.needs, subject, now: self.clock.now() };
            let why = policy::judge(&verified, account, wanted).err().map(|denied| denied.to_string());
            Ok(KeyTest { may: why.is_none(), why, key: tested, request: Some(look.explanation()) })
        })
    }

    /// The upstream that is meant.
    fn place(&self, name: Option<&str>) -> Result<UpstreamName, AdminError> {
        let upstreams = self.upstreams.load();
        let names: Vec<&str> = upstreams.iter().map(|one| one.name.as_str()).collect();
        match (name, names.as_slice()) {
            (None, [only]) => Ok(UpstreamName::new(only)),
            (Some(name), names) if names.contains(&name) => Ok(UpstreamName::new(name)),
            (Some(name), names) => {
                Err(AdminError::Invalid(format!("there is no upstream {name:?}; the configuration has {}", names.join(", "))))
            }
            (None, names) => Err(AdminError::Invalid(format!("say for which upstream: {}", names.join(", ")))),
        }
    }

    fn look<T>(
        &self,
        request: &ExplainRequest,
        place: &UpstreamName,
        then: impl FnOnce(&Look<'_>) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let upstream =
            self.sessions.upstream(place).ok_or_else(|| AdminError::Invalid(format!("upstream {place} is not in the configuration")))?;
        let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| AdminError::Invalid(format!("{:?} is no method of HTTP", request.method)))?;
        let target = target(&request.url)?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = Path::parse(path).map_err(|why| AdminError::Invalid(format!("{why}: such a request is answered 400, whoever asks")))?;
        let path = path.below(&upstream.base_path);
        let routed = upstream.dialect().routed(&method, &path);
        then(&Look { place, kind: upstream.kind, method, path, query, routed })
    }
}

/// Path and query of a URL.
fn target(url: &str) -> Result<&str, AdminError> {
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') {
        return Ok(url);
    }
    let rest = url.split_once("://").map(|(_, rest)| rest).filter(|rest| !rest.is_empty());
    let rest = rest.ok_or_else(|| AdminError::Invalid(format!("{url:?} is neither a path like /Items nor a URL")))?;
    Ok(rest.find('/').map_or("/", |slash| &rest[slash..]))
}

/// A request that was looked up.
struct Look<'a> {
    place: &'a UpstreamName,
    kind: Kind,
    method: Method,
    path: Path<'a>,
    query: Option<&'a str>,
    routed: Routed,
}

impl Look<'_> {
    fn explanation(&self) -> Explanation {
        let needs = self.routed.needs;
        let has = |preset: &Preset| needs.without(preset.scopes()).is_empty();
        Explanation {
            upstream: self.place.to_string(),
            kind: self.kind.as_str().to_owned(),
            method: self.method.to_string(),
            path: self.path.as_str().to_owned(),
            scopes: needs.names(),
            presets: Preset::ALL.iter().filter(|preset| has(preset)).map(|preset| preset.name().to_owned()).collect(),
            treatment: treatment(self.routed.class).to_owned(),
            libraries: libraries(self.routed.reach).to_owned(),
        }
    }
}

fn refused(why: String) -> KeyTest {
    KeyTest { may: false, why: Some(why), key: None, request: None }
}

fn tested(key: &Verified, account: Option<String>) -> TestedKey {
    let expires_at = key.expires_at();
    TestedKey {
        id: key.id().to_string(),
        name: key.name().to_owned(),
        account,
        is_active: key.is_active(),
        expires_at: (expires_at != Timestamp::NEVER).then(|| iso(expires_at)),
        scopes: key.scopes().names(),
        preset: Preset::of(key.scopes()).map(|preset| preset.name().to_owned()),
        libraries: key.libraries().map(|ids| ids.map(str::to_owned).collect()),
    }
}

const fn treatment(class: RouteClass) -> &'static str {
    match class {
        RouteClass::Identity => "forwarded for everybody, without a credential",
        RouteClass::Answered(OwnAnswer::EmptyList) => "answered by keygate itself, with an empty list",
        RouteClass::Answered(OwnAnswer::False) => "answered by keygate itself, with false",
        RouteClass::Login => "the login form: with a key as the password it is answered by keygate",
        RouteClass::Refresh => "the renewal of a login: with a key it is answered by keygate",
        RouteClass::Logout => "the logout: answered by keygate, it ends nothing",
        RouteClass::Socket => "the socket, where a key may come later, inside",
        RouteClass::Image => "a picture: without a key where the upstream's images = \"pass\"",
        RouteClass::WebUi => "the server's own web client: without a key where the upstream's web_ui = \"pass\"",
        RouteClass::Share => "a share page or feed: without a key where the upstream's shares = \"pass\"",
        RouteClass::Capability => "media below an id that the server gave out: for a key, or for whom a key gave the id",
        RouteClass::Media(Media::Bytes) => "media: for a key or a media ticket, passed as it is",
        RouteClass::Media(Media::Text | Media::Either) => "media with URLs in it: for a key or a media ticket, searched for credentials",
        RouteClass::Restricted => "on the deny list: for keys with the scope admin alone",
        RouteClass::Keyed => "for a key, searched for credentials",
    }
}

const fn libraries(reach: Reach) -> &'static str {
    match reach {
        Reach::Thing => "open to keys that are confined to libraries: it is about one thing, or the account's own",
        Reach::Library => "to keys that are confined to libraries: open if the path names one of them",
        Reach::Listing => "to keys that are confined to libraries: open if ParentId names one of them",
        Reach::Everything => "closed to keys that are confined to libraries: it goes across all of them",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_a_path_or_by_a_whole_url() {
        for (url, expected) in [
            ("/Items?a=/b", "/Items?a=/b"),
            ("https://media.example.org/Items?x#y", "/Items?x"),
            ("http://[::1]:8096", "/"),
            ("//api//me", "//api//me"),
        ] {
            assert_eq!(target(url).expect(url), expected);
        }
        for url in ["Items", "", "https://", "#x"] {
            assert!(target(url).is_err(), "{url}");
        }
    }
}
