//! Routes of the admin socket. Handlers translate; what they ask for is done in [`Admin`]'s own methods.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use http::{HeaderValue, Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::admin::api::{
    AccountList, AccountRemoved, AvailableUsers, CredentialRequest, ErrorBody, Forwarding, KeyList, NewAccountRequest, NewKeyRequest,
    OneAccount, OneKey, PatchAccountRequest, PatchKeyRequest, Reloaded, RotateRequest, StatusView, TimeForgotten,
};
use crate::admin::audit::{AuditPage, AuditQuery};
use crate::admin::certificates::TlsView;
use crate::admin::door::Rights;
use crate::admin::error::AdminError;
use crate::admin::explain::{ExplainRequest, Explanation, KeyTest, TestKeyRequest};
use crate::admin::extract::{Asked, Given, Named};
use crate::admin::guard::MAX_BODY_BYTES;
use crate::admin::key_list::KeyFilter;
use crate::admin::lines::Lines;
use crate::admin::navigation::Said;
use crate::admin::outstanding::{SessionList, SessionsDropped, TicketList, TicketsTakenBack};
use crate::admin::table::{For, Stream, Table};
use crate::admin::usage::{KeyUsageView, StreamLine, StreamList, TotalsView};
use crate::admin::{Actor, Admin, credentials, emby, health, metrics, openapi, summary};
use crate::doctor::Examined;
use crate::keys::admin::AdminScope;
use crate::registry::Removal;
use crate::store::inventory::{Compacted, Inventory};

type Shared = State<Arc<Admin>>;
type Asker = Extension<Actor>;
type Answer<T> = Result<Json<T>, AdminError>;

/// The interface at the socket. Every request must carry an [`Actor`] among its extensions.
pub fn router(admin: Arc<Admin>) -> Router {
    finished(routes(Table::new(false)), admin).layer(Extension(Rights::all()))
}

/// The interface at the listener, to be put behind its guard.
pub(super) fn for_listener(admin: Arc<Admin>) -> Router {
    finished(routes(Table::new(true)), admin)
}

fn finished(table: Table, admin: Arc<Admin>) -> Router {
    table
        .into_router()
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(admin)
}

/// All routes, whom they are for, and what they do in a few words.
pub(super) fn routes(table: Table) -> Table {
    let (get, post, put, patch, delete) = (Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    let [read, keys, accounts, all] = AdminScope::EACH.map(For::Holders);
    table
        .at(&get, "/api/api-keys", read, "List keys", list_keys)
        .at(&post, "/api/api-keys", keys, "Make a key; the answer shows it, once", create_key)
        .at(&post, "/api/api-keys/bulk", For::Socket, "Make many keys", create_keys)
        .at(&post, "/api/api-keys/test", read, "Say what the gateway would do with a key", test_key)
        .at(&post, "/api/explain", read, "Say what the gateway would do with a request", explain)
        .at(&get, "/api/api-keys/{id}", read, "Show a key", show_key)
        .at(&patch, "/api/api-keys/{id}", keys, "Change a key; what is absent stays", patch_key)
        .at(&delete, "/api/api-keys/{id}", keys, "Revoke a key for good", revoke_key)
        .at(&post, "/api/api-keys/{id}/rotate", keys, "Give a key a new secret; the answer shows it, once", rotate_key)
        .at(&get, "/api/api-keys/{id}/usage", read, "Show what a key is used for, by whom, and what runs on it", key_usage)
        .at(&get, "/api/api-keys/{id}/tickets", read, "List what was handed out to a key and opens media without it", tickets)
        .at(&delete, "/api/api-keys/{id}/tickets", keys, "Take that back; the key stays good", take_tickets_back)
        .at(&get, "/api/usage", read, "Sums by media server since there is a store", totals)
        .at(&get, "/api/streams", read, "List what runs now", streams)
        .at(&delete, "/api/streams/{id}", keys, "Close one thing that runs; its key stays good", close_stream)
        .at(&get, "/api/audit", read, "Read the audit log, in pages", audit)
        .at(&get, "/api/accounts", read, "List accounts", list_accounts)
        .at(&post, "/api/accounts", accounts, "Add an account, if its media server accepts it", add_account)
        .at(&get, "/api/accounts/available", read, "List the users of media servers that have an administrator account", available)
        .at(&get, "/api/accounts/{id}", read, "Show an account", show_account)
        .at(&patch, "/api/accounts/{id}", accounts, "Change an account", patch_account)
        .at(&delete, "/api/accounts/{id}", accounts, "Remove an account", remove_account)
        .at(&post, "/api/accounts/{id}/login", accounts, "Log an account in at its media server now", login)
        .at(&put, "/api/accounts/{id}/credential", accounts, "Give an account another credential", set_credential)
        .at(&get, "/api/accounts/{id}/forwarding", read, "Ask the media server whether it believes keygate's X-Forwarded-For", forwarding)
        .at(&get, "/api/accounts/{id}/sessions", read, "List an account's sessions at its media server", sessions)
        .at(&delete, "/api/accounts/{id}/sessions", accounts, "Let them go; the next request logs in anew", drop_sessions)
        .at(&get, "/api/admin-tokens", read, "List admin tokens", credentials::list_tokens)
        .at(&post, "/api/admin-tokens", all, "Make an admin token; the answer shows it, once", credentials::create_token)
        .at(&delete, "/api/admin-tokens/{id}", all, "Revoke an admin token for good", credentials::revoke_token)
        .at(&put, "/api/page-password", For::Socket, "Set the password of the admin page", credentials::set_password)
        .at(&get, "/api/page-sessions", all, "List who is logged in to the admin page", credentials::list_sessions)
        .at(&delete, "/api/page-sessions/{number}", all, "End a login to the admin page", credentials::end_session)
        .at(&get, "/api/session", read, "Show who asks, and what they may do", credentials::who_am_i)
        .at(&post, "/api/session", For::Anyone, "Log in with the page's password; sets a cookie", credentials::log_in)
        .at(&delete, "/api/session", read, "Log out of the page", credentials::log_out)
        .at(&get, "/Auth/Keys", read, "List keys as Emby and Jellyfin do", emby::list)
        .at(&post, "/Auth/Keys", keys, "Make a key as Emby and Jellyfin do; the answer shows it, once", emby::create)
        .at(&delete, "/Auth/Keys/{key}", keys, "Revoke a key as Emby and Jellyfin do", emby::delete)
        .at(&post, "/Auth/Keys/{key}/Delete", keys, "Revoke a key as Emby does, without DELETE", emby::delete)
        .at(&get, "/api/summary", read, "Numbers at a glance, for dashboards", summary::show)
        .at(&get, "/healthz", For::Anyone, "Say whether the gateway lives", health::healthz)
        .at(&get, "/readyz", For::Anyone, "Say whether the gateway is ready for requests", health::readyz)
        .at(&get, "/metrics", read, "Figures for Prometheus", metrics::show)
        .at(&get, "/api/openapi.json", read, "This document", openapi::show)
        .at(&get, "/api/status", read, "Show what the gateway does", status)
        .at(&get, "/api/tls", read, "Show the certificates that are served", tls)
        .at(&post, "/api/tls/authority/renew", all, "Make a new authority of the gateway's own", renew_authority)
        .at(&post, "/api/tls/renew", all, "Order a new certificate by ACME now, and wait for it", renew)
        .at(&post, "/api/doctor", all, "Look at the whole installation", examine)
        .at(&post, "/api/reload", all, "Read the configuration again; a wrong one changes nothing", reload)
        .at(&post, "/api/time/forget", For::Socket, "Judge keys by the machine's clock again", forget_time)
        .at(&post, "/api/store/check", For::Socket, "Look through the whole store", check_store)
        .at(&post, "/api/store/compact", For::Socket, "Give unused space back", compact_store)
        .at(&get, "/api/store/backup", For::Socket, "A copy of the store", back_up)
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfKey {
    /// Of the key with this id only.
    key: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only what this text can mean.
    r#match: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemovalQuery {
    #[serde(default)]
    revoke_keys: bool,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// Of this upstream only.
    upstream: Option<String>,
}

async fn list_keys(State(admin): Shared, Asked(filter): Asked<KeyFilter>) -> Answer<KeyList> {
    admin.blocking(move |admin| admin.list_keys(&filter)).await.map(Json)
}

async fn create_key(State(admin): Shared, Extension(peer): Asker, Given(mut request): Given<NewKeyRequest>) -> Answer<OneKey> {
    request.libraries = admin.libraries_of(&request.user_id, request.libraries.take()).await?;
    admin.blocking(move |admin| admin.create_key(request, peer)).await.map(Json)
}

async fn create_keys(State(admin): Shared, Extension(peer): Asker, Given(mut request): Given<NewKeyRequest>) -> Result<Stream, AdminError> {
    request.libraries = admin.libraries_of(&request.user_id, request.libraries.take()).await?;
    let created = admin.blocking(move |admin| admin.create_keys(request, peer)).await?;
    Ok(Stream(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines::new(created))).into_response()))
}

async fn show_key(State(admin): Shared, Named(id): Named) -> Answer<OneKey> {
    admin.blocking(move |admin| admin.show_key(&id)).await.map(Json)
}

async fn patch_key(
    State(admin): Shared,
    Extension(peer): Asker,
    Named(id): Named,
    Given(mut request): Given<PatchKeyRequest>,
) -> Answer<OneKey> {
    request.libraries = admin.libraries_for(&id, &request).await?;
    admin.blocking(move |admin| admin.patch_key(&id, request, peer)).await.map(Json)
}

async fn test_key(State(admin): Shared, Given(request): Given<TestKeyRequest>) -> Answer<KeyTest> {
    admin.blocking(move |admin| admin.test_key(&request)).await.map(Json)
}

async fn explain(State(admin): Shared, Given(request): Given<ExplainRequest>) -> Answer<Explanation> {
    admin.explain(&request).map(Json)
}

async fn rotate_key(
    State(admin): Shared,
    Extension(peer): Asker,
    Named(id): Named,
    Given(request): Given<RotateRequest>,
) -> Answer<OneKey> {
    let overlap = Duration::from_secs(request.overlap_seconds);
    admin.blocking(move |admin| admin.rotate_key(&id, overlap, peer)).await.map(Json)
}

async fn revoke_key(State(admin): Shared, Extension(peer): Asker, Named(id): Named) -> Answer<OneKey> {
    admin.blocking(move |admin| admin.revoke_key(&id, peer)).await.map(Json)
}

async fn list_accounts(State(admin): Shared, Asked(which): Asked<Which>) -> Answer<AccountList> {
    Ok(Json(admin.list_accounts(which.r#match.as_deref())))
}

async fn show_account(State(admin): Shared, Named(id): Named) -> Answer<OneAccount> {
    admin.show_account(&id).map(Json)
}

async fn add_account(State(admin): Shared, Extension(peer): Asker, Given(request): Given<NewAccountRequest>) -> Answer<OneAccount> {
    admin.tasks.spawn(Arc::clone(&admin).add_account(request, peer)).await?.map(Json)
}

async fn set_credential(
    State(admin): Shared,
    Extension(peer): Asker,
    Named(id): Named,
    Given(request): Given<CredentialRequest>,
) -> Answer<OneAccount> {
    admin.tasks.spawn(Arc::clone(&admin).set_credential(id, request, peer)).await?.map(Json)
}

async fn login(State(admin): Shared, Extension(peer): Asker, Named(id): Named) -> Answer<OneAccount> {
    admin.tasks.spawn(Arc::clone(&admin).login(id, peer)).await?.map(Json)
}

async fn forwarding(State(admin): Shared, Named(id): Named) -> Answer<Forwarding> {
    admin.forwarding(&id).await.map(Json)
}

async fn remove_account(
    State(admin): Shared,
    Extension(peer): Asker,
    Named(id): Named,
    Asked(removal): Asked<RemovalQuery>,
) -> Answer<AccountRemoved> {
    let RemovalQuery { revoke_keys, force } = removal;
    let removal = Removal { revoke_keys, force };
    admin.tasks.spawn(Arc::clone(&admin).remove_account(id, removal, peer)).await?.map(Json)
}

async fn patch_account(
    State(admin): Shared,
    Extension(peer): Asker,
    Named(id): Named,
    Given(request): Given<PatchAccountRequest>,
) -> Answer<OneAccount> {
    admin.tasks.spawn(Arc::clone(&admin).patch_account(id, request, peer)).await?.map(Json)
}

async fn available(State(admin): Shared, Asked(whose): Asked<Whose>) -> Answer<AvailableUsers> {
    admin.available(whose.upstream.as_deref()).await.map(Json)
}

async fn key_usage(State(admin): Shared, Named(id): Named) -> Answer<KeyUsageView> {
    admin.blocking(move |admin| admin.key_usage(&id)).await.map(Json)
}

async fn tickets(State(admin): Shared, Named(id): Named) -> Answer<TicketList> {
    admin.blocking(move |admin| admin.tickets(&id)).await.map(Json)
}

async fn take_tickets_back(State(admin): Shared, Extension(peer): Asker, Named(id): Named) -> Answer<TicketsTakenBack> {
    admin.blocking(move |admin| admin.take_tickets_back(&id, peer)).await.map(Json)
}

async fn sessions(State(admin): Shared, Named(id): Named) -> Answer<SessionList> {
    admin.blocking(move |admin| admin.account_sessions(&id)).await.map(Json)
}

async fn drop_sessions(State(admin): Shared, Extension(peer): Asker, Named(id): Named) -> Answer<SessionsDropped> {
    admin.blocking(move |admin| admin.drop_sessions(&id, peer)).await.map(Json)
}

async fn totals(State(admin): Shared) -> Answer<TotalsView> {
    admin.blocking(Admin::totals).await.map(Json)
}

async fn streams(State(admin): Shared, Asked(of): Asked<OfKey>) -> Answer<StreamList> {
    admin.blocking(move |admin| admin.streams(of.key.as_deref())).await.map(Json)
}

async fn close_stream(State(admin): Shared, Extension(peer): Asker, Named(id): Named) -> Answer<StreamLine> {
    admin.blocking(move |admin| admin.close_stream(&id, peer)).await.map(Json)
}

async fn audit(State(admin): Shared, Asked(asked): Asked<AuditQuery>) -> Answer<AuditPage> {
    admin.blocking(move |admin| admin.audit(&asked)).await.map(Json)
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

async fn renew(State(admin): Shared, Extension(peer): Asker) -> Answer<TlsView> {
    admin.renew(peer).await?;
    admin.blocking(|admin| Ok(admin.tls())).await.map(Json)
}

async fn status(State(admin): Shared) -> Answer<StatusView> {
    admin.blocking(Admin::status).await.map(Json)
}

async fn reload(State(admin): Shared, Extension(peer): Asker) -> Answer<Reloaded> {
    admin.blocking(move |admin| admin.reload(Some(peer))).await.map(Json)
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

async fn back_up(State(admin): Shared, Extension(peer): Asker) -> Result<Stream, AdminError> {
    admin.back_up(peer).await.map(Stream)
}

async fn no_route() -> Response {
    refused(StatusCode::NOT_FOUND, "no_such_route", "there is no such route here")
}

pub(super) async fn no_method() -> Response {
    refused(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "this route has no such method")
}

fn refused(status: StatusCode, word: &str, message: &str) -> Response {
    let said = Said(message.to_owned());
    (status, Extension(said), Json(ErrorBody { error: word.to_owned(), message: message.to_owned() })).into_response()
}

/// Keys are shown in answers: nothing may keep them.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
