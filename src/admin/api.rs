//! The words of the admin socket: what is asked and what is answered, for both of its ends.
//!
//! Keys have the shape of Audiobookshelf's own `/api/api-keys` (its `server/models/ApiKey.js`, release 2.31), with the fields that
//! only keygate has beside it. Unknown fields in a request are refused, so that a restriction which keygate does not know is
//! never silently left out. One difference is deliberate: `isActive` absent makes an *active* key.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::admin::available::{AvailableUser, AvailableUsers};
use crate::admin::certificates::CertificateView;
use crate::admin::limits::{LimitsUsed, PatchLimits};
use crate::admin::open::OpenView;
use crate::admin::reload::ReloadView;
use crate::limits::LimitsText;
use crate::secret::Secret;

/// A key as answers show it. Times are RFC 3339 with milliseconds, in UTC.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// The key's text: there right after it was made or rotated, never again.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret<String>>,
    /// Public id.
    pub id: String,
    /// The operator's name of it.
    pub name: String,
    /// Always null, as upstream.
    pub description: Option<String>,
    /// When it dies; null: never.
    pub expires_at: Option<String>,
    /// When it was last let in; null: never, or nothing is counted.
    pub last_used_at: Option<String>,
    /// From which address that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<String>,
    /// What the client called itself, shortened; may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_by: Option<String>,
    /// Requests so far.
    #[serde(default)]
    pub requests: u64,
    /// Whether it is switched on.
    pub is_active: bool,
    /// What it may do: names of scopes.
    pub scopes: Vec<String>,
    /// The preset that is exactly these scopes; null: none is.
    pub preset: Option<String>,
    /// The media server's ids of the libraries that it is confined to where a route names one; null: not confined.
    pub libraries: Option<Vec<String>>,
    /// What it may do no more than; null: it has no limits.
    pub limits: Option<LimitsText>,
    /// How much of them is used now; null in lists, for a key without limits, and where no running gateway is asked.
    #[serde(default)]
    pub limits_used: Option<LimitsUsed>,
    /// Always null, as upstream.
    pub permissions: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// The number of the account it acts for.
    pub user_id: String,
    /// Always null: operators are no users.
    pub created_by_user_id: Option<String>,
    /// The account it acts for; null when that was removed.
    pub user: Option<UserView>,
    /// `upstream/name` of the account, or `#7` when it was removed.
    pub account: String,
    /// `active`, `disabled`, `expired` or `revoked`.
    pub status: String,
    /// How many days are left, where these are 30 or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u64>,
    /// Who made it.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// Until when the secret before the last rotation is still good.
    pub previous_secret_until: Option<String>,
}

/// The account within a [`KeyView`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UserView {
    /// The account's number.
    pub id: String,
    /// Its name.
    pub username: String,
    /// Always `user`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `{"apiKeys": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyList {
    /// In the order that was asked for, newest first if in none.
    pub api_keys: Vec<KeyView>,
    /// How many there are, those beyond `limit` included.
    #[serde(default)]
    pub total: usize,
}

/// `{"apiKey": {…}}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneKey {
    /// The key.
    pub api_key: KeyView,
}

/// Asks for one key, or for `count` of them (`POST /api/api-keys/bulk`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKeyRequest {
    /// Its name; in bulk the names are `name-1`, `name-2`, …
    pub name: String,
    /// The account: its number, `upstream/name`, or a name that is unambiguous.
    pub user_id: String,
    /// Seconds from now, above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// RFC 3339; instead of `expiresIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Absent: active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
    /// What it may do, for example `["browse", "stream"]`; with `preset`, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// What it may do, by a name: for example `"dashboard"`. Without this and `scopes` it is `"full"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The libraries that it is confined to, by the media server's ids or by their names; absent or null: not confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libraries: Option<Vec<String>>,
    /// What it may do no more than; absent or null: it has no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsText>,
    /// In bulk only: how many, 1 to [`MAX_BULK`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// Most keys of one bulk request.
pub const MAX_BULK: u32 = 1_000_000;

/// One line of the answer to a bulk request.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkLine {
    /// Public id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The key's text.
    #[serde(with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret<String>>,
}

/// Changes a key; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchKeyRequest {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New account, as in [`NewKeyRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// New expiry, RFC 3339; null: never.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Option<String>>,
    /// New expiry in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// Enable or disable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
    /// The scopes that it has from now on, in place of all that it had; with `preset`, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// The same by a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The libraries that it is confined to from now on, as in [`NewKeyRequest`]; null: none any more.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub libraries: Option<Option<Vec<String>>>,
    /// Changes to its limits; null: it has none any more.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub limits: Option<Option<PatchLimits>>,
}

/// Gives a key a new secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateRequest {
    /// How long the old secret stays good; 0: it dies at once.
    #[serde(default)]
    pub overlap_seconds: u64,
}

/// An account as answers show it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    /// Its number.
    pub id: String,
    /// The upstream it lives on.
    pub upstream: String,
    /// What that is; null when the configuration no longer has it.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// `password`, `token` or `minted`.
    pub method: String,
    /// Whether the sessions of minted accounts are made with it.
    #[serde(default)]
    pub administrator: bool,
    /// The upstream's id of the user, once known.
    pub upstream_user_id: Option<String>,
    /// When it was added.
    pub created_at: String,
    /// `idle`, `live`, `waiting` or `broken`.
    pub state: String,
    /// Why it waits or is broken.
    pub why: Option<String>,
    /// How many sessions live.
    pub sessions: usize,
    /// When the newest of them was got, by a login or a renewal; null: they are tokens that were given, or there are none.
    #[serde(default)]
    pub obtained_at: Option<String>,
    /// From when on the next request renews the first of them; null: it is not renewed by time.
    #[serde(default)]
    pub renew_at: Option<String>,
    /// When the first of them dies, or until when keygate holds back.
    pub until: Option<String>,
}

/// `{"accounts": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountList {
    /// By upstream and name.
    pub accounts: Vec<AccountView>,
}

/// What adding an account, giving it another credential, or logging it in answers.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneAccount {
    /// The account.
    pub account: AccountView,
    /// What the login found; null when none was made.
    pub login: Option<LoginView>,
}

/// What a login found out.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginView {
    /// The upstream's id of the user.
    pub user_id: Option<String>,
    /// The upstream's name of the user.
    pub user_name: Option<String>,
    /// How long the token lives, in seconds; null: not by time.
    pub token_life_seconds: Option<u64>,
}

/// Adds an account. Exactly one of `password`, `token` and `mint`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAccountRequest {
    /// The upstream; absent when `name` is `upstream/name`, or when there is one upstream only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The account's name: for `password` the upstream's user name.
    pub name: String,
    /// The account's own password.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret<String>>,
    /// A static upstream token.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub token: Option<Secret<String>>,
    /// Let the upstream's administrator make the account's sessions: `name` is one of the upstream's users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mint: Option<bool>,
    /// Make it the upstream's administrator, in the place of the one that is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administrator: Option<bool>,
    /// Whether to log in first; absent: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
}

/// Changes an account; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchAccountRequest {
    /// Whether it is the upstream's administrator; if so, in the place of the one that is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administrator: Option<bool>,
    /// Take it away although minted accounts need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Gives an account another credential. Exactly one of `password` and `token`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialRequest {
    /// The account's own password.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret<String>>,
    /// A static upstream token.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub token: Option<Secret<String>>,
    /// Whether to log in with it; absent: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
}

/// What a media server makes of `X-Forwarded-For` as keygate sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarding {
    /// Whether it believes it; absent where the server does not say.
    pub believed: Option<bool>,
}

/// What removing an account did.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountRemoved {
    /// `upstream/name`.
    pub account: String,
    /// How many keys were revoked with it.
    pub revoked_keys: usize,
    /// What was minted for it could not be deleted at the media server yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_behind: bool,
}

/// `GET /api/status`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// keygate's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The configuration file, if there is one.
    pub config: Option<String>,
    /// Where it listens.
    #[serde(default)]
    pub listeners: Vec<ListenerView>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamView>,
    /// The store's file; null: it is in memory.
    #[serde(default)]
    pub store: Option<StoreView>,
    /// The certificates that are served; none where TLS is off.
    #[serde(default)]
    pub certificates: Vec<CertificateView>,
    /// How many accounts.
    pub accounts: usize,
    /// How many of them are broken.
    pub broken_accounts: usize,
    /// How each of them stands.
    #[serde(default)]
    pub account_states: Vec<AccountView>,
    /// How many keys that are not revoked.
    pub keys: usize,
    /// What is open now; null: no gateway runs.
    #[serde(default)]
    pub open: Option<OpenView>,
    /// What keys are judged by: the latest time that was seen.
    pub time: String,
    /// By how much the machine's clock is behind that.
    pub clock_behind_seconds: u64,
    /// How the latest reload went; null: there was none.
    #[serde(default)]
    pub last_reload: Option<ReloadView>,
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerView {
    /// With scheme and port.
    pub url: String,
    /// The address itself.
    pub address: std::net::SocketAddr,
    /// The upstream whose own it is; null: by host name.
    pub upstream: Option<String>,
    /// Networks of those who must begin with a PROXY header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<String>,
}

/// The store's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreView {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// `POST /api/time/forget`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeForgotten {
    /// What keys were judged by.
    pub before: String,
    /// What they are judged by now.
    pub now: String,
}

/// An upstream as answers show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamView {
    /// The operator's name of it.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Its address.
    pub url: String,
    /// Whether the latest connection to it could be made; null: nobody has tried yet.
    #[serde(default)]
    pub reachable: Option<bool>,
    /// Since when it cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<String>,
    /// Why no connection to it can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its version, as it said last.
    #[serde(default)]
    pub version: Option<String>,
}

/// `POST /api/reload`: what changed, one sentence each.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Empty: nothing.
    pub changes: Vec<String>,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// A word for programs.
    pub error: String,
    /// A sentence for people.
    pub message: String,
}

/// A field that is there, null or not: told from one that is absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Secrets cross the socket, and the listener, in clear: the one is a Unix socket, the other encrypted or on this machine. This is the one
/// place that reads and writes them there.
pub(crate) mod secret_text {
    use super::{Deserialize, Deserializer, Secret, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(secret: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests;
