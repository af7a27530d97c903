//! Keys in the shape of Emby's and Jellyfin's `/Auth/Keys` (Jellyfin's `ApiKeyController`, Emby's REST reference), as far as "shown once"
//! allows: a list shows `kg_<id>_***` where those servers show the key, and that, the id and the key itself all name it for `DELETE`.
//! Where they answer a `POST` with nothing, and leave finding the new key to a second look, this answers with the key.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::api::{KeyView, NewKeyRequest};
use crate::admin::error::AdminError;
use crate::admin::extract::{Asked, Named};
use crate::admin::key_list::KeyFilter;
use crate::admin::table::Nothing;
use crate::admin::{Actor, Admin};
use crate::secret::Secret;

/// Characters of a key's id.
const ID_LENGTH: usize = 10;

/// `GET /Auth/Keys`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys {
    items: Vec<Item>,
    total_record_count: usize,
    start_index: usize,
}

/// A key.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// Its public id.
    id: String,
    /// `kg_<id>_***`; the key itself right after it was made, never again.
    access_token: String,
    /// Its name.
    app_name: String,
    /// Number of the account that it acts for.
    user_id: String,
    /// Name of that account.
    user_name: String,
    /// Whether it is good now.
    is_active: bool,
    /// When it was made.
    date_created: String,
    /// When it was revoked; always null in a list, which has living keys only.
    date_revoked: Option<String>,
    /// When it was used last.
    date_last_activity: Option<String>,
}

/// What a new key is for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewItem {
    /// The key's name.
    #[serde(rename = "App", alias = "app")]
    app: String,
    /// The account that it acts for: number, `upstream/name` or name. May be left out where there is one account only: keys of those servers
    /// have no user.
    #[serde(rename = "UserId", alias = "userId", default)]
    user_id: Option<String>,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Keys>, AdminError> {
    let list = admin.blocking(|admin| admin.list_keys(&KeyFilter::default())).await?;
    let items: Vec<Item> = list.api_keys.into_iter().map(item).collect();
    Ok(Json(Keys { total_record_count: items.len(), items, start_index: 0 }))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Asked(new): Asked<NewItem>,
) -> Result<Json<Item>, AdminError> {
    let user_id = match new.user_id {
        Some(user_id) => user_id,
        None => only_account(&admin)?,
    };
    let request = NewKeyRequest { name: new.app, user_id, ..NewKeyRequest::default() };
    let made = admin.blocking(move |admin| admin.create_key(request, actor)).await?;
    Ok(Json(item(made.api_key)))
}

fn only_account(admin: &Admin) -> Result<String, AdminError> {
    match admin.sessions.accounts().as_slice() {
        [account] => Ok(account.id.0.to_string()),
        _ => {
            Err(AdminError::Invalid("say for whom the key is to act: UserId with the account's number, upstream/name, or name".to_owned()))
        }
    }
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Named(key): Named,
) -> Result<Nothing, AdminError> {
    let id = key.strip_prefix("kg_").and_then(|rest| rest.get(..ID_LENGTH)).unwrap_or(&key).to_owned();
    admin.blocking(move |admin| admin.revoke_key(&id, actor)).await?;
    Ok(Nothing)
}

fn item(view: KeyView) -> Item {
    let shown = view.api_key.as_ref().map(Secret::expose).cloned();
    Item {
        access_token: shown.unwrap_or_else(|| format!("kg_{}_***", view.id)),
        app_name: view.name,
        user_name: view.user.map_or_else(|| view.account.clone(), |user| user.username),
        user_id: view.user_id,
        is_active: view.status == "active",
        date_created: view.created_at,
        date_revoked: view.revoked_at,
        date_last_activity: view.last_used_at,
        id: view.id,
    }
}
