//! A new key.

use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;

use crate::admin::api::{KeyView, NewKeyRequest};
use crate::page::field::{Back, Wrong};
use crate::page::form::Sent;
use crate::page::keys::fields::{Draft, Expiry};
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;

pub(crate) async fn show(visitor: Visitor) -> Html<String> {
    form(&visitor, &Draft::fresh(), &Wrong::default())
}

pub(crate) async fn create(visitor: Visitor, Sent(fields): Sent) -> Response {
    let draft = Draft::of(&fields);
    match made(&visitor, &draft).await {
        Ok(mut key) => {
            if let Some(secret) = key.api_key.take() {
                visitor.once.put(visitor.session.number, &key.id, secret, visitor.desk.now());
            }
            Redirect::to(&format!("/keys/{}/secret", key.id)).into_response()
        }
        Err(Back { status, wrong }) => (status, form(&visitor, &draft, &wrong)).into_response(),
    }
}

async fn made(visitor: &Visitor, draft: &Draft) -> Result<KeyView, Back> {
    draft.check(visitor.desk.now())?;
    let request = request(draft)?;
    let libraries = draft.libraries_of(visitor).await?;
    Ok(visitor.desk.create(request, libraries).await?)
}

fn request(draft: &Draft) -> Result<NewKeyRequest, Wrong> {
    let (preset, scopes) = draft.rights();
    let (expires_in, expires_at) = match draft.expiry() {
        Expiry::Never => (None, None),
        Expiry::In(seconds) => (Some(seconds), None),
        Expiry::At(at) => (None, Some(at)),
        Expiry::Keep => return Err(Wrong::at("expires", "say when the key expires, or that it never does")),
    };
    Ok(NewKeyRequest {
        name: draft.name.clone(),
        user_id: draft.account.clone(),
        expires_in,
        expires_at,
        scopes,
        preset,
        limits: Some(draft.limits.written()),
        ..NewKeyRequest::default()
    })
}

fn form(visitor: &Visitor, draft: &Draft, wrong: &Wrong) -> Html<String> {
    let accounts = visitor.desk.accounts();
    let body = html! {
        h1 { "New key" }
        (wrong.show())
        @if accounts.is_empty() {
            p.note.warn { "There is no account yet that a key could act for. Add one on the gateway's machine: " code { "keygate accounts add NAME" } }
        }
        form.card method="post" {
            (layout::csrf(visitor))
            (draft.show(&accounts, true, wrong))
            p.row { button.main { "Make the key" } a.button href="/keys" { "Cancel" } }
        }
    };
    layout::page(visitor, Place::Keys, "New key", &body)
}
