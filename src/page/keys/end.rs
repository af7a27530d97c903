//! What takes something away from a key. Each asks first, on a page of its own.

use std::time::Duration;

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};

use crate::admin::api::{KeyView, PatchKeyRequest};
use crate::admin::usage::{ClientView, KeyUsageView};
use crate::page::error::PageError;
use crate::page::form::Sent;
use crate::page::keys::detail;
use crate::page::layout::{self, Place, Question};
use crate::page::visitor::Visitor;

/// How long the old secret may stay good: seconds and name.
const OVERLAPS: [(&str, &str); 5] = [
    ("86400", "for a day"),
    ("3600", "for an hour"),
    ("604800", "for a week"),
    ("2592000", "for 30 days"),
    ("0", "not at all: it dies at once"),
];

type Page = Result<Html<String>, PageError>;

fn question<'a>(key: &KeyView, title: &str, body: Markup, yes: &'a str) -> Question<'a> {
    Question { place: Place::Keys, title: title.to_owned(), body, yes, back: format!("/keys/{}", key.id), error: None }
}

async fn with_usage(visitor: &Visitor, id: String) -> Result<(KeyView, KeyUsageView), PageError> {
    let key = visitor.desk.key(id).await?;
    let mut usages = visitor.desk.usages(vec![key.id.clone()]).await?;
    let usage = usages.pop().ok_or_else(|| crate::admin::error::AdminError::NotFound("there is no such key".to_owned()))?;
    Ok((key, usage))
}

/// Who would notice, among clients of the last 30 days.
fn who_would_break(visitor: &Visitor, usage: &KeyUsageView) -> Markup {
    let living: Vec<&ClientView> = usage.clients.iter().filter(|client| client.secret != "gone").collect();
    html! {
        @if living.is_empty() {
            p { "Nobody has used it in the last 30 days." }
        } @else {
            p { b { "Who has used it in the last 30 days, and would break:" } }
            (detail::clients(visitor, &living))
        }
        @if !usage.open.is_empty() { p.note.warn { (usage.open.len()) " running streams or sockets would be cut." } }
    }
}

pub(crate) async fn ask_to_rotate(visitor: Visitor, Path(id): Path<String>) -> Page {
    let (key, usage) = with_usage(&visitor, id).await?;
    let body = html! {
        p { "The key gets a new secret, which is shown once. Its name, its rights and its figures stay." }
        label { "The old secret stays good"
            select name="overlap" { @for (seconds, name) in OVERLAPS { option value=(seconds) { (name) } } }
        }
        (who_would_break(&visitor, &usage))
    };
    Ok(layout::ask(&visitor, &question(&key, &format!("Rotate {}?", key.name), body, "Rotate")))
}

pub(crate) async fn rotate(visitor: Visitor, Path(id): Path<String>, Sent(fields): Sent) -> Result<Redirect, PageError> {
    let wrong = || crate::admin::error::AdminError::Invalid("say how long the old secret stays good".to_owned());
    let seconds = fields.text("overlap").parse().map_err(|_| wrong())?;
    let mut key = visitor.desk.rotate(id, Duration::from_secs(seconds)).await?;
    if let Some(secret) = key.api_key.take() {
        visitor.once.put(visitor.session.number, &key.id, secret, visitor.desk.now());
    }
    Ok(Redirect::to(&format!("/keys/{}/secret", key.id)))
}

pub(crate) async fn ask_to_disable(visitor: Visitor, Path(id): Path<String>) -> Page {
    let (key, usage) = with_usage(&visitor, id).await?;
    let body = html! {
        p { "What runs on it ends at once, and nothing new begins until you enable it again." }
        (who_would_break(&visitor, &usage))
    };
    Ok(layout::ask(&visitor, &question(&key, &format!("Disable {}?", key.name), body, "Disable")))
}

async fn switch(visitor: &Visitor, id: String, is_active: bool) -> Result<KeyView, PageError> {
    let request = PatchKeyRequest { is_active: Some(is_active), ..PatchKeyRequest::default() };
    Ok(visitor.desk.change(id, request, None).await?)
}

pub(crate) async fn disable(visitor: Visitor, Path(id): Path<String>) -> Result<Redirect, PageError> {
    let key = switch(&visitor, id, false).await?;
    Ok(Redirect::to(&format!("/keys/{}?done=disabled", key.id)))
}

pub(crate) async fn enable(visitor: Visitor, Path(id): Path<String>) -> Result<Redirect, PageError> {
    let key = switch(&visitor, id, true).await?;
    Ok(Redirect::to(&format!("/keys/{}?done=enabled", key.id)))
}

fn revocation(visitor: &Visitor, key: &KeyView, usage: &KeyUsageView, error: Option<String>) -> Html<String> {
    let body = html! {
        p { "This is for good: the key can never be used again. To stop it for a while, " a href={ "/keys/" (key.id) "/disable" } { "disable" } " it." }
        (who_would_break(visitor, usage))
        label { "Type the key's name to go on: " b { (key.name) } input name="name" autocomplete="off" required autofocus; }
    };
    layout::ask(visitor, &Question { error, ..question(key, &format!("Revoke {}?", key.name), body, "Revoke") })
}

pub(crate) async fn ask_to_revoke(visitor: Visitor, Path(id): Path<String>) -> Page {
    let (key, usage) = with_usage(&visitor, id).await?;
    Ok(revocation(&visitor, &key, &usage, None))
}

pub(crate) async fn revoke(visitor: Visitor, Path(id): Path<String>, Sent(fields): Sent) -> Result<Response, PageError> {
    let (key, usage) = with_usage(&visitor, id).await?;
    if fields.text("name") != key.name.trim() {
        let error = "That is not the key's name: nothing was revoked.".to_owned();
        return Ok((StatusCode::BAD_REQUEST, revocation(&visitor, &key, &usage, Some(error))).into_response());
    }
    let key = visitor.desk.revoke(key.id).await?;
    Ok(Redirect::to(&format!("/keys/{}?done=revoked", key.id)).into_response())
}

pub(crate) async fn ask_to_close(visitor: Visitor, Path((id, stream)): Path<(String, String)>) -> Page {
    let (key, usage) = with_usage(&visitor, id).await?;
    let body = html! {
        @match usage.open.iter().find(|one| one.id == stream) {
            Some(one) => p { "The " (one.sort) " of " (one.client) " to " (one.upstream) (one.path) " is cut. The key stays good: its client may begin anew." },
            None => p { "It has ended by itself." },
        }
    };
    Ok(layout::ask(&visitor, &question(&key, "Close it?", body, "Close")))
}

pub(crate) async fn close(visitor: Visitor, Path((id, stream)): Path<(String, String)>) -> Result<Redirect, PageError> {
    let key = visitor.desk.key(id).await?;
    visitor.desk.close_stream(stream).await?;
    Ok(Redirect::to(&format!("/keys/{}?done=closed", key.id)))
}

pub(crate) async fn ask_to_take_back(visitor: Visitor, Path(id): Path<String>) -> Page {
    let key = visitor.desk.key(id).await?;
    let tickets = visitor.desk.tickets(key.id.clone()).await?.len();
    let body = html! {
        p { "Players were given " (tickets) " tickets and ids that open media in place of the key. All of them die; what runs on them goes on." }
        p { "The key stays good, and its clients are given new ones when they ask again." }
    };
    Ok(layout::ask(&visitor, &question(&key, &format!("Take back what was handed out to {}?", key.name), body, "Take back")))
}

pub(crate) async fn take_back(visitor: Visitor, Path(id): Path<String>) -> Result<Redirect, PageError> {
    let key = visitor.desk.key(id).await?;
    visitor.desk.take_tickets_back(key.id.clone()).await?;
    Ok(Redirect::to(&format!("/keys/{}?done=taken-back", key.id)))
}
