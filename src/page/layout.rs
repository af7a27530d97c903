//! The frame around every page.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use crate::page::assets::PATHS;
use crate::page::visitor::Visitor;

/// Where in the menu a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Keys,
    Accounts,
    Refused,
    Audit,
    Status,
    Sessions,
}

const MENU: [(Place, &str, &str); 6] = [
    (Place::Keys, "/keys", "Keys"),
    (Place::Accounts, "/accounts", "Accounts"),
    (Place::Refused, "/refused", "Refused"),
    (Place::Audit, "/audit", "Audit"),
    (Place::Status, "/status", "Status"),
    (Place::Sessions, "/sessions", "Logins"),
];

/// What was just done, by its word in the address: a fixed sentence, so that no address can make the page say anything else.
pub(super) fn told(word: &str) -> Option<&'static str> {
    Some(match word {
        "changed" => "The key was changed.",
        "disabled" => "The key is disabled: what ran on it has ended.",
        "enabled" => "The key is enabled again.",
        "revoked" => "The key is revoked: what ran on it has ended, and it is no use to anybody any more.",
        "closed" => "It is being closed. Its key stays good.",
        "taken-back" => "What was handed out opens nothing any more. Its key stays good.",
        "ended" => "That login has ended.",
        "logged-in" => "The account is logged in at its media server.",
        "password" => "The media server accepts the password. It is kept, sealed.",
        "stored" => "The key is ready to be used.",
        _ => return None,
    })
}

/// A page of somebody who is logged in.
pub(super) fn page(visitor: &Visitor, place: Place, title: &str, body: &Markup) -> Html<String> {
    let bar = html! {
        header.bar {
            a.brand href="/keys" { img src=(PATHS.icon) alt="" width="24" height="24"; "keygate" }
            nav aria-label="Pages" {
                @for (this, path, name) in MENU {
                    a href=(path) aria-current=[(this == place).then_some("page")] { (name) }
                }
            }
            form method="post" action="/logout" { (csrf(visitor)) button.plain { "Log out" } }
        }
    };
    let done = visitor.done.as_deref().and_then(told);
    let body = html! {
        @if let Some(done) = done { p.note.good role="status" { (done) } }
        (body)
    };
    Html(document(title, &bar, &body).into_string())
}

/// A page without a menu.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    let bar = html! {
        header.bar { a.brand href="/keys" { img src=(PATHS.icon) alt="" width="24" height="24"; "keygate" } }
    };
    document(title, &bar, body)
}

/// A page that loads nothing.
pub(super) fn plain(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (about(title)) }
            body { main { (body) } }
        }
    }
}

fn about(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        title { (title) " · keygate" }
        meta name="viewport" content="width=device-width,initial-scale=1";
        meta name="color-scheme" content="light dark";
        meta name="robots" content="noindex";
    }
}

fn document(title: &str, bar: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (about(title))
                link rel="icon" href=(PATHS.icon);
                link rel="stylesheet" href=(PATHS.style);
                script src=(PATHS.script) defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                (bar)
                main #main { (body) }
            }
        }
    }
}

/// The field without which no form is taken.
pub(super) fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf()); }
}

/// A question before something that cannot be taken back.
pub(super) struct Question<'a> {
    pub(super) place: Place,
    pub(super) title: String,
    /// What it means.
    pub(super) body: Markup,
    /// On the button.
    pub(super) yes: &'a str,
    /// Where *no* leads to.
    pub(super) back: String,
    /// What was wrong with the last answer.
    pub(super) error: Option<String>,
}

/// Asks it. The answer is posted to the page's own address.
pub(super) fn ask(visitor: &Visitor, question: &Question<'_>) -> Html<String> {
    let body = html! {
        h1 { (question.title) }
        @if let Some(error) = &question.error { p.note.bad role="alert" { (error) } }
        form.card.narrow method="post" {
            (csrf(visitor))
            (question.body)
            p.row {
                button.danger { (question.yes) }
                a.button href=(question.back) { "Cancel" }
            }
        }
    };
    page(visitor, question.place, &question.title, &body)
}
