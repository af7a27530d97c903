//! Admin tokens, the page's password and its logins, as the interface shows and changes them.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::api::secret_text;
use crate::admin::door::{Rights, Visit, set_cookie};
use crate::admin::error::AdminError;
use crate::admin::extract::{Given, Named};
use crate::admin::keys::iso;
use crate::admin::page_sessions::Session;
use crate::admin::table::WithHeaders;
use crate::admin::{Actor, Admin};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::admin::{AdminScope, AdminTokenRecord};
use crate::registry::admin::NewAdminToken;
use crate::secret::Secret;

/// An admin token as answers show it. Times are RFC 3339 with milliseconds, in UTC.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminTokenView {
    /// The token's text: there right after it was made, never again.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "secret_text")]
    #[schemars(with = "Option<String>")]
    pub token: Option<Secret<String>>,
    /// Public id.
    pub id: String,
    /// The operator's name of it.
    pub name: String,
    /// What it may do: `read`, `keys`, `accounts`, `all`.
    pub scopes: Vec<String>,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    /// When it dies; null: never.
    pub expires_at: Option<String>,
    /// When it was used last; a minute may be missing.
    pub last_used_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
}

/// `{"adminTokens": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminTokenList {
    /// Newest first.
    pub admin_tokens: Vec<AdminTokenView>,
}

/// `{"adminToken": {…}}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneAdminToken {
    /// The token.
    pub admin_token: AdminTokenView,
}

/// Asks for an admin token.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAdminTokenRequest {
    /// Its name.
    pub name: String,
    /// At least one of `read`, `keys`, `accounts` and `all`.
    pub scopes: Vec<String>,
    /// Seconds from now, above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// RFC 3339; instead of `expiresIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A password, to log in with or to be set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The page's password.
    #[serde(with = "secret_text")]
    #[schemars(with = "String")]
    pub password: Option<Secret<String>>,
}

/// What setting the page's password did.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSet {
    /// How many logins it ended.
    pub ended_sessions: usize,
}

/// A login to the page.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageSessionView {
    /// Its number, which begins anew with each start of the gateway.
    pub number: u64,
    /// Where it was logged in from.
    pub address: String,
    /// When.
    pub created_at: String,
    /// When it was used last.
    pub last_used_at: String,
    /// When it ends at the latest.
    pub ends_at: String,
}

/// `{"sessions": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PageSessionList {
    /// The latest first.
    pub sessions: Vec<PageSessionView>,
}

/// What was ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PageSessionEnded {
    /// Its number.
    pub ended: u64,
}

/// Who asks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// In words.
    pub actor: String,
    /// What they may do: `read`, `keys`, `accounts`, `all`.
    pub scopes: Vec<String>,
    /// For logins to the page: what each change must bring along as `X-CSRF-Token`.
    pub csrf: Option<String>,
    /// For logins to the page: when it ends at the latest.
    pub ends_at: Option<String>,
}

type Shared = State<Arc<Admin>>;
type Answer<T> = Result<Json<T>, AdminError>;

pub(super) async fn list_tokens(State(admin): Shared) -> Answer<AdminTokenList> {
    let tokens = admin.blocking(|admin| Ok(admin.registry.admin_tokens()?)).await?;
    let now = admin.clock.now();
    Ok(Json(AdminTokenList { admin_tokens: tokens.iter().map(|token| view(token, now)).collect() }))
}

pub(super) async fn create_token(
    State(admin): Shared,
    Extension(actor): Extension<Actor>,
    Given(request): Given<NewAdminTokenRequest>,
) -> Answer<OneAdminToken> {
    let scopes = request.scopes.iter().map(|name| name.parse::<AdminScope>()).collect::<Result<Vec<_>, _>>();
    let new = NewAdminToken {
        name: request.name,
        scopes: scopes.map_err(|error| AdminError::Invalid(error.to_string()))?,
        expires_at: admin.expiry(request.expires_in, request.expires_at)?,
        created_by: actor.created_by(),
    };
    let created = admin.blocking(move |admin| Ok(admin.acting(actor).create_admin_token(new)?)).await?;
    let (id, name) = (created.record.id, &created.record.name);
    tracing::info!(token_id = %id, token_name = name, %actor, "admin token {id} {name:?} created by {actor}");
    let mut admin_token = view(&created.record, admin.clock.now());
    admin_token.token = Some(created.token.expose().into());
    Ok(Json(OneAdminToken { admin_token }))
}

pub(super) async fn revoke_token(State(admin): Shared, Extension(actor): Extension<Actor>, Named(id): Named) -> Answer<OneAdminToken> {
    let id: KeyId = id.parse().map_err(|_| AdminError::NotFound(format!("there is no admin token {id:?}: an id has ten characters")))?;
    let revoked = admin.blocking(move |admin| Ok(admin.acting(actor).revoke_admin_token(id)?)).await?;
    tracing::info!(token_id = %id, token_name = revoked.name, %actor, "admin token {id} {:?} revoked by {actor}", revoked.name);
    Ok(Json(OneAdminToken { admin_token: view(&revoked, admin.clock.now()) }))
}

pub(super) async fn set_password(
    State(admin): Shared,
    Extension(actor): Extension<Actor>,
    Given(request): Given<PasswordRequest>,
) -> Answer<PasswordSet> {
    let password = given(request)?;
    let ended_sessions = admin.blocking(move |admin| admin.set_page_password(&password, actor)).await?;
    Ok(Json(PasswordSet { ended_sessions }))
}

pub(super) async fn list_sessions(State(admin): Shared) -> Answer<PageSessionList> {
    let view = |session: Session| PageSessionView {
        number: session.number,
        address: session.address.to_string(),
        created_at: iso(session.created_at),
        last_used_at: iso(session.last_used_at),
        ends_at: iso(session.ends_at),
    };
    Ok(Json(PageSessionList { sessions: admin.page_sessions().list().into_iter().map(view).collect() }))
}

pub(super) async fn end_session(
    State(admin): Shared,
    Extension(actor): Extension<Actor>,
    Named(number): Named,
) -> Answer<PageSessionEnded> {
    let nobody = || AdminError::NotFound(format!("nobody is logged in to the page with the number {number:?}"));
    let ended = number.parse().map_err(|_| nobody())?;
    if admin.end_page_session(ended, actor).await? { Ok(Json(PageSessionEnded { ended })) } else { Err(nobody()) }
}

pub(super) async fn who_am_i(
    Extension(actor): Extension<Actor>,
    Extension(rights): Extension<Rights>,
    session: Option<Extension<Session>>,
) -> Answer<WhoAmI> {
    let session = session.map(|Extension(session)| session);
    Ok(Json(who(actor, &rights, session.as_ref())))
}

pub(super) async fn log_in(
    State(admin): Shared,
    visit: Option<Extension<Visit>>,
    Given(request): Given<PasswordRequest>,
) -> Result<WithHeaders<WhoAmI>, AdminError> {
    let visit = at_the_listener(visit)?;
    let (id, session) = admin.log_in(given(request)?, visit.address).await?;
    let cookie = cookie(set_cookie(Some(&id), visit, admin.page_sessions().limits()))?;
    let actor = Actor::Page { session: session.number, address: visit.address };
    Ok(WithHeaders(vec![cookie], Json(who(actor, &Rights::all(), Some(&session)))))
}

pub(super) async fn log_out(
    State(admin): Shared,
    visit: Option<Extension<Visit>>,
    session: Option<Extension<Session>>,
) -> Result<WithHeaders<PageSessionEnded>, AdminError> {
    let visit = at_the_listener(visit)?;
    let Some(Extension(session)) = session else {
        return Err(AdminError::Invalid(
            "only a login to the page can log out; revoke a token with DELETE /api/admin-tokens/{id}".to_owned(),
        ));
    };
    admin.end_page_session(session.number, Actor::Page { session: session.number, address: visit.address }).await?;
    let cookie = cookie(set_cookie(None, visit, admin.page_sessions().limits()))?;
    Ok(WithHeaders(vec![cookie], Json(PageSessionEnded { ended: session.number })))
}

fn at_the_listener(visit: Option<Extension<Visit>>) -> Result<Visit, AdminError> {
    let missing = || AdminError::Invalid("logins are for the admin listener: who reaches the socket may do everything already".to_owned());
    visit.map(|Extension(visit)| visit).ok_or_else(missing)
}

fn given(request: PasswordRequest) -> Result<Secret<String>, AdminError> {
    request.password.ok_or_else(|| AdminError::Invalid("there is no password".to_owned()))
}

/// It holds a secret: no log may have it, and HTTP/2 no table.
fn cookie(text: String) -> Result<(http::HeaderName, HeaderValue), AdminError> {
    let value = HeaderValue::try_from(text).map_err(|_| AdminError::Failed("a cookie could not be written".to_owned()));
    value.map(|mut value| {
        value.set_sensitive(true);
        (header::SET_COOKIE, value)
    })
}

fn who(actor: Actor, rights: &Rights, session: Option<&Session>) -> WhoAmI {
    WhoAmI {
        actor: actor.to_string(),
        scopes: rights.names(),
        csrf: session.map(|session| session.csrf.expose().clone()),
        ends_at: session.map(|session| iso(session.ends_at)),
    }
}

fn view(record: &AdminTokenRecord, now: Timestamp) -> AdminTokenView {
    let status = match (record.revoked_at, record.is_good(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "active",
        (None, false) => "expired",
    };
    AdminTokenView {
        token: None,
        id: record.id.to_string(),
        name: record.name.clone(),
        scopes: record.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        status: status.to_owned(),
        expires_at: record.expires_at.map(iso),
        last_used_at: record.last_used_at.map(iso),
        created_at: iso(record.created_at),
        created_by: record.created_by.clone(),
    }
}
