//! Routes of the admin socket. Handlers translate; what they ask for is done in [`Admin`]'s own methods.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admin::api::{
    AccountList, AccountRemoved, AvailableUsers, CredentialRequest, ErrorBody, Forwarding, KeyList, NewAccountRequest, NewKeyRequest,
    OneAccount, OneKey, PatchAccountRequest, PatchKeyRequest, Reloaded, RotateRequest, StatusView, TimeForgotten,
};
use crate::admin::certificates::TlsView;
use crate::admin::error::AdminError;
use crate::admin::lines::Lines;
use crate::admin::{Actor, Admin};
use crate::doctor::Examined;
use crate::registry::Removal;
use crate::store::inventory::{Compacted, Inventory};

/// Largest request body.
const MAX_BODY_BYTES: usize = 64 * 1024;

type Shared = State<Arc<Admin>>;
type Asker = Extension<Actor>;
type Answer<T> = Result<Json<T>, AdminError>;
type BytesResult = Result<Bytes, BytesRejection>;

/// All routes. Every request must carry a [`Actor`] among its extensions.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/api/api-keys", get(list_keys).post(create_key))
        .route("/api/api-keys/bulk", post(create_keys))
        .route("/api/api-keys/{id}", get(show_key).patch(patch_key).delete(revoke_key))
        .route("/api/api-keys/{id}/rotate", post(rotate_key))
        .route("/api/accounts", get(list_accounts).post(add_account))
        .route("/api/accounts/available", get(available))
        .route("/api/accounts/{id}", get(show_account).patch(patch_account).delete(remove_account))
        .route("/api/accounts/{id}/login", post(login))
        .route("/api/accounts/{id}/credential", put(set_credential))
        .route("/api/accounts/{id}/forwarding", get(forwarding))
        .route("/api/status", get(status))
        .route("/api/doctor", post(examine))
        .route("/api/tls", get(tls))
        .route("/api/tls/authority/renew", post(renew_authority))
        .route("/api/reload", post(reload))
        .route("/api/time/forget", post(forget_time))
        .route("/api/store/check", post(check_store))
        .route("/api/store/compact", post(compact_store))
        .route("/api/store/backup", get(back_up))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(admin)
}

impl Admin {
    /// Runs what blocks where it may.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let admin = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&admin)).await?
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only what this text can mean.
    r#match: Option<String>,
    /// Revoked keys too.
    #[serde(default)]
    revoked: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemovalQuery {
    #[serde(default)]
    revoke_keys: bool,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// Of this upstream only.
    upstream: Option<String>,
}

async fn list_keys(State(admin): Shared, filter: Result<Query<Filter>, QueryRejection>) -> Answer<KeyList> {
    let filter = query(filter)?;
    admin.blocking(move |admin| admin.list_keys(filter.r#match.as_deref(), filter.revoked)).await.map(Json)
}

async fn create_key(State(admin): Shared, Extension(peer): Asker, body: BytesResult) -> Answer<OneKey> {
    let request: NewKeyRequest = json(body)?;
    admin.blocking(move |admin| admin.create_key(request, peer)).await.map(Json)
}

async fn create_keys(State(admin): Shared, Extension(peer): Asker, body: BytesResult) -> Result<Response, AdminError> {
    let request: NewKeyRequest = json(body)?;
    let created = admin.blocking(move |admin| admin.create_keys(request, peer)).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines::new(created))).into_response())
}

async fn show_key(State(admin): Shared, Path(id): Path<String>) -> Answer<OneKey> {
    admin.blocking(move |admin| admin.show_key(&id)).await.map(Json)
}

async fn patch_key(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>, body: BytesResult) -> Answer<OneKey> {
    let request: PatchKeyRequest = json(body)?;
    admin.blocking(move |admin| admin.patch_key(&id, request, peer)).await.map(Json)
}

async fn rotate_key(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>, body: BytesResult) -> Answer<OneKey> {
    let request: RotateRequest = json(body)?;
    let overlap = Duration::from_secs(request.overlap_seconds);
    admin.blocking(move |admin| admin.rotate_key(&id, overlap, peer)).await.map(Json)
}

async fn revoke_key(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>) -> Answer<OneKey> {
    admin.blocking(move |admin| admin.revoke_key(&id, peer)).await.map(Json)
}

async fn list_accounts(State(admin): Shared, filter: Result<Query<Filter>, QueryRejection>) -> Answer<AccountList> {
    Ok(Json(admin.list_accounts(query(filter)?.r#match.as_deref())))
}

async fn show_account(State(admin): Shared, Path(id): Path<String>) -> Answer<OneAccount> {
    admin.show_account(&id).map(Json)
}

async fn add_account(State(admin): Shared, Extension(peer): Asker, body: BytesResult) -> Answer<OneAccount> {
    let request: NewAccountRequest = json(body)?;
    admin.tasks.spawn(Arc::clone(&admin).add_account(request, peer)).await?.map(Json)
}

async fn set_credential(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>, body: BytesResult) -> Answer<OneAccount> {
    let request: CredentialRequest = json(body)?;
    admin.tasks.spawn(Arc::clone(&admin).set_credential(id, request, peer)).await?.map(Json)
}

async fn login(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>) -> Answer<OneAccount> {
    admin.tasks.spawn(Arc::clone(&admin).login(id, peer)).await?.map(Json)
}

async fn forwarding(State(admin): Shared, Path(id): Path<String>) -> Answer<Forwarding> {
    admin.forwarding(&id).await.map(Json)
}

async fn remove_account(
    State(admin): Shared,
    Extension(peer): Asker,
    Path(id): Path<String>,
    removal: Result<Query<RemovalQuery>, QueryRejection>,
) -> Answer<AccountRemoved> {
    let RemovalQuery { revoke_keys, force } = query(removal)?;
    let removal = Removal { revoke_keys, force };
    admin.tasks.spawn(Arc::clone(&admin).remove_account(id, removal, peer)).await?.map(Json)
}

async fn patch_account(State(admin): Shared, Extension(peer): Asker, Path(id): Path<String>, body: BytesResult) -> Answer<OneAccount> {
    let request: PatchAccountRequest = json(body)?;
    admin.tasks.spawn(Arc::clone(&admin).patch_account(id, request, peer)).await?.map(Json)
}

async fn available(State(admin): Shared, whose: Result<Query<Whose>, QueryRejection>) -> Answer<AvailableUsers> {
    admin.available(query(whose)?.upstream.as_deref()).await.map(Json)
}

async fn tls(State(admin): Shared) -> Answer<TlsView> {
    admin.blocking(|admin| Ok(admin.tls())).await.map(Json)
}

async fn renew_authority(State(admin): Shared, Extension(peer): Asker) -> Answer<TlsView> {
    admin.blocking(move |admin| admin.renew_authority(peer)).await.map(Json)
}

async fn examine(State(admin): Shared, Extension(peer): Asker) -> Answer<Examined> {
    let examining = Arc::clone(&admin);
    admin.tasks.spawn(async move { examining.examine(peer).await }).await?.map(Json)
}

async fn status(State(admin): Shared) -> Answer<StatusView> {
    admin.blocking(Admin::status).await.map(Json)
}

async fn reload(State(admin): Shared, Extension(peer): Asker) -> Answer<Reloaded> {
    admin.blocking(move |admin| admin.reload(&peer)).await.map(Json)
}

async fn forget_time(State(admin): Shared, Extension(peer): Asker) -> Answer<TimeForgotten> {
    admin.blocking(move |admin| admin.forget_time(peer)).await.map(Json)
}

async fn check_store(State(admin): Shared) -> Answer<Inventory> {
    admin.blocking(Admin::check_store).await.map(Json)
}

async fn compact_store(State(admin): Shared, Extension(peer): Asker) -> Answer<Compacted> {
    admin.blocking(move |admin| admin.compact_store(peer)).await.map(Json)
}

async fn back_up(State(admin): Shared, Extension(peer): Asker) -> Result<Response, AdminError> {
    admin.back_up(peer).await
}

async fn no_route() -> Response {
    refused(StatusCode::NOT_FOUND, "no_such_route", "the admin socket has no such route")
}

async fn no_method() -> Response {
    refused(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "the admin socket has no such method on this route")
}

fn refused(status: StatusCode, word: &str, message: &str) -> Response {
    (status, Json(ErrorBody { error: word.to_owned(), message: message.to_owned() })).into_response()
}

/// Keys are shown in answers: nothing may keep them.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An absent body is an empty object. The message names the place, and never what stood there.
fn json<T: DeserializeOwned>(body: BytesResult) -> Result<T, AdminError> {
    let body = body.map_err(|error| AdminError::Invalid(format!("the body cannot be read, or is larger than 64 KiB: {error}")))?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| AdminError::Invalid(describe(&error)))
}

/// serde's own text quotes a value of the wrong type, which may be a password; its data errors about fields do not.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("unknown field") || text.starts_with("missing field") || text.starts_with("duplicate field") {
        return format!("the body is not what this route takes: {text}");
    }
    format!("the body is not valid JSON of the right types (line {}, column {})", error.line(), error.column())
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, AdminError> {
    query.map(|Query(query)| query).map_err(|error| AdminError::Invalid(error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_the_body_never_quotes_a_value() {
        for body in
            [r#"{"name":1,"password":"hunter2"}"#, r#"{"name":"n","token":["hunter2"]}"#, r#"{"name":"n","verify":"hunter2"}"#, "hunter2"]
        {
            let error = json::<NewAccountRequest>(Ok(Bytes::from(body))).expect_err("wrong").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = json::<NewKeyRequest>(Ok(Bytes::from_static(br#"{"networks":[]}"#))).expect_err("unknown").to_string();
        assert!(error.contains("unknown field `networks`"), "{error}");
    }
}
