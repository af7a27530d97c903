//! Accounts at media servers: how they stand, logging in again, another password.

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{Markup, html};

use crate::admin::api::AccountView;
use crate::clock::Timestamp;
use crate::page::error::PageError;
use crate::page::form::Sent;
use crate::page::layout::{self, Place};
use crate::page::show;
use crate::page::visitor::Visitor;

pub(crate) async fn show(visitor: Visitor) -> Html<String> {
    let accounts = visitor.desk.accounts();
    let body = html! {
        h1 { "Accounts" }
        @if accounts.is_empty() {
            p.note { "There is no account yet. Add one on the gateway's machine: " code { "keygate accounts add NAME" } }
        } @else {
            table.accounts {
                thead { tr { @for name in ["Account", "State", "Sessions", "Last renewed", "Good until", "Credential", "Actions"] { th scope="col" { (name) } } } }
                tbody { @for account in &accounts { (line(&visitor, account)) } }
            }
        }
    };
    layout::page(&visitor, Place::Accounts, "Accounts", &body)
}

fn pill(account: &AccountView) -> Markup {
    let (kind, text) = match account.state.as_str() {
        "live" => ("good", "logged in"),
        "idle" => ("off", "not logged in yet"),
        "waiting" => ("warn", "waiting"),
        "broken" => ("bad", "broken"),
        other => ("off", other),
    };
    show::pill(kind, text)
}

/// How much of a session's life is left, and when the next begins.
fn life(account: &AccountView, now: Timestamp) -> Markup {
    let Some(until) = &account.until else {
        return html! { span.faint { @if account.sessions > 0 { "no end by time" } @else { "–" } } };
    };
    let millis = |iso: &str| iso.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let of = account.obtained_at.as_deref().and_then(millis).zip(millis(until));
    let left = of.map(|(from, to)| (to - from, (to - now.as_millis()).clamp(0, to - from))).filter(|(whole, _)| *whole > 0);
    html! {
        (show::time(until))
        @if let Some((whole, left)) = left {
            progress max=(whole) value=(left) aria-label="what is left of it" {}
        }
        @if let Some(at) = &account.renew_at { small { "next renewal from " (show::time(at)) } }
    }
}

fn line(visitor: &Visitor, account: &AccountView) -> Markup {
    let now = visitor.desk.now();
    html! {
        tr {
            th scope="row" {
                (account.upstream) "/" (account.name)
                small { (account.kind.as_deref().unwrap_or("not in the configuration")) @if account.administrator { ", administrator" } }
            }
            td { (pill(account)) @if let Some(why) = &account.why { small { (why) } } }
            td { (account.sessions) }
            td { @match &account.obtained_at { Some(at) => (show::ago(at, now)), None => span.faint { "–" } } }
            td { (life(account, now)) }
            td { (account.method) }
            td.row {
                form method="post" action={ "/accounts/" (account.id) "/login" } { (layout::csrf(visitor)) button { "Log in again" } }
                @if account.method == "password" { a.button href={ "/accounts/" (account.id) "/password" } { "New password" } }
            }
        }
    }
}

pub(crate) async fn log_in(visitor: Visitor, Path(id): Path<String>) -> Result<Redirect, PageError> {
    visitor.desk.log_account_in(id).await?;
    Ok(Redirect::to("/accounts?done=logged-in"))
}

pub(crate) async fn ask_for_password(visitor: Visitor, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    Ok(form(&visitor, &visitor.desk.account(&id)?, None))
}

pub(crate) async fn set_password(visitor: Visitor, Path(id): Path<String>, Sent(fields): Sent) -> Result<Response, PageError> {
    let account = visitor.desk.account(&id)?;
    match visitor.desk.set_account_password(id, fields.secret("password")).await {
        Ok(_) => Ok(Redirect::to("/accounts?done=password").into_response()),
        Err(error) => Ok((error.status(), form(&visitor, &account, Some(error.to_string()))).into_response()),
    }
}

fn form(visitor: &Visitor, account: &AccountView, error: Option<String>) -> Html<String> {
    let title = format!("Password of {}/{}", account.upstream, account.name);
    let body = html! {
        h1 { (title) }
        @if let Some(error) = error { p.note.bad role="alert" { (error) } }
        @if let Some(why) = &account.why { p.note.warn { (why) } }
        form.card.narrow method="post" {
            (layout::csrf(visitor))
            p { "The account's own password at the media server. It is tried there once; it is kept only if the server takes it." }
            label { "Password" input type="password" name="password" required autofocus autocomplete="off"; }
            p.row { button.main { "Try and keep it" } a.button href="/accounts" { "Cancel" } }
        }
    };
    layout::page(visitor, Place::Accounts, &title, &body)
}
