//! A new key.

use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;

use crate::admin::api::NewKeyRequest;
use crate::admin::error::AdminError;
use crate::page::form::Sent;
use crate::page::keys::fields::{Draft, Expiry};
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;

pub(crate) async fn show(visitor: Visitor) -> Html<String> {
    form(&visitor, &Draft::fresh(), None)
}

pub(crate) async fn create(visitor: Visitor, Sent(fields): Sent) -> Response {
    let draft = Draft::of(&fields);
    let request = match request(&draft) {
        Ok(request) => request,
        Err(error) => return again(&visitor, &draft, &error),
    };
    match visitor.desk.create(request).await {
        Ok(mut key) => {
            if let Some(secret) = key.api_key.take() {
                visitor.once.put(visitor.session.number, &key.id, secret, visitor.desk.now());
            }
            Redirect::to(&format!("/keys/{}/secret", key.id)).into_response()
        }
        Err(error) => again(&visitor, &draft, &error),
    }
}

fn request(draft: &Draft) -> Result<NewKeyRequest, AdminError> {
    let (preset, scopes) = draft.rights();
    let (expires_in, expires_at) = match draft.expiry() {
        Expiry::Never => (None, None),
        Expiry::In(seconds) => (Some(seconds), None),
        Expiry::At(at) => (None, Some(at)),
        Expiry::Keep => return Err(AdminError::Invalid("say when the key expires, or that it never does".to_owned())),
    };
    Ok(NewKeyRequest {
        name: draft.name.clone(),
        user_id: draft.account.clone(),
        expires_in,
        expires_at,
        scopes,
        preset,
        libraries: draft.libraries(),
        ..NewKeyRequest::default()
    })
}

fn again(visitor: &Visitor, draft: &Draft, error: &AdminError) -> Response {
    (error.status(), form(visitor, draft, Some(error.to_string()))).into_response()
}

fn form(visitor: &Visitor, draft: &Draft, error: Option<String>) -> Html<String> {
    let accounts = visitor.desk.accounts();
    let body = html! {
        h1 { "New key" }
        @if let Some(error) = error { p.note.bad role="alert" { (error) } }
        @if accounts.is_empty() {
            p.note.warn { "There is no account yet that a key could act for. Add one on the gateway's machine: " code { "keygate accounts add NAME" } }
        }
        form.card method="post" {
            (layout::csrf(visitor))
            (draft.show(&accounts, true))
            p.row { button.main { "Make the key" } a.button href="/keys" { "Cancel" } }
        }
    };
    layout::page(visitor, Place::Keys, "New key", &body)
}
