//! Changing a key.

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;

use crate::admin::api::{KeyView, PatchKeyRequest};
use crate::page::error::PageError;
use crate::page::field::{Back, Wrong};
use crate::page::form::Sent;
use crate::page::keys::fields::{Draft, Expiry};
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;

pub(crate) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    let key = visitor.desk.key(id).await?;
    Ok(form(&visitor, &key, &Draft::from_key(&key), &Wrong::default()))
}

pub(crate) async fn change(visitor: Visitor, Path(id): Path<String>, Sent(fields): Sent) -> Result<Response, PageError> {
    let key = visitor.desk.key(id).await?;
    let draft = Draft::of(&fields);
    match changed(&visitor, &key, &draft).await {
        Ok(()) => Ok(Redirect::to(&format!("/keys/{}?done=changed", key.id)).into_response()),
        Err(Back { status, wrong }) => Ok((status, form(&visitor, &key, &draft, &wrong)).into_response()),
    }
}

async fn changed(visitor: &Visitor, key: &KeyView, draft: &Draft) -> Result<(), Back> {
    draft.check(visitor.desk.now())?;
    // A media server that is down is no reason not to change anything else.
    let is_as_before = draft.account == key.user_id && draft.libraries() == key.libraries;
    let libraries = if is_as_before { None } else { Some(draft.libraries_of(visitor).await?) };
    visitor.desk.change(key.id.clone(), request(draft), libraries).await?;
    Ok(())
}

fn request(draft: &Draft) -> PatchKeyRequest {
    let (preset, scopes) = draft.rights();
    let (expires_in, expires_at) = match draft.expiry() {
        Expiry::Keep => (None, None),
        Expiry::Never => (None, Some(None)),
        Expiry::In(seconds) => (Some(seconds), None),
        Expiry::At(at) => (None, Some(Some(at))),
    };
    PatchKeyRequest {
        name: Some(draft.name.clone()),
        user_id: Some(draft.account.clone()),
        expires_at,
        expires_in,
        scopes,
        preset,
        limits: Some(Some(draft.limits.patch())),
        ..PatchKeyRequest::default()
    }
}

fn form(visitor: &Visitor, key: &KeyView, draft: &Draft, wrong: &Wrong) -> Html<String> {
    let title = format!("Edit {}", key.name);
    let body = html! {
        h1 { (title) }
        (wrong.show())
        form.card method="post" {
            (layout::csrf(visitor))
            (draft.show(&visitor.desk.accounts(), false, wrong))
            p.row { button.main { "Change it" } a.button href={ "/keys/" (key.id) } { "Cancel" } }
        }
    };
    layout::page(visitor, Place::Keys, &title, &body)
}
