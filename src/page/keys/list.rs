//! All keys: searched, filtered, sorted, in pages.

use std::cmp::Reverse;

use axum::response::{Html, Redirect};
use maud::{Markup, html};

use crate::admin::api::KeyView;
use crate::admin::usage::KeyUsageView;
use crate::page::error::PageError;
use crate::page::form::{Fields, Query};
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;
use crate::page::{plot, show};

/// Keys of one page: with all their figures it stays well below 40 kB.
const ON_A_PAGE: usize = 20;

/// The states to choose from, with their names.
const STATES: [(&str, &str); 7] = [
    ("", "All but revoked"),
    ("active", "Active"),
    ("expiring", "Expire within 30 days"),
    ("unused", "Never used"),
    ("disabled", "Disabled"),
    ("expired", "Expired"),
    ("revoked", "Revoked"),
];
const ORDERS: [(&str, &str); 4] =
    [("", "Newest first"), ("used", "Last used first"), ("name", "By name"), ("requests", "Most requests first")];

/// What was asked for.
struct Wanted {
    text: String,
    state: String,
    order: String,
    /// From 1 on.
    page: usize,
}

impl Wanted {
    fn of(fields: &Fields) -> Self {
        let page = fields.text("page").parse().unwrap_or(1).max(1);
        Self { text: fields.text("q").to_owned(), state: fields.text("state").to_owned(), order: fields.text("sort").to_owned(), page }
    }

    /// Small and capital letters are the same; the end of an id is enough.
    fn fits(&self, key: &KeyView, text: &str) -> bool {
        let is_found = text.is_empty()
            || key.name.to_lowercase().contains(text)
            || key.account.to_lowercase().contains(text)
            || key.id.to_lowercase().contains(text.strip_prefix("kg_").unwrap_or(text));
        is_found
            && match self.state.as_str() {
                "" => key.status != "revoked",
                "expiring" => key.expires_in_days.is_some(),
                "unused" => key.last_used_at.is_none() && key.status == "active",
                state => key.status == state,
            }
    }

    fn choose(&self, mut keys: Vec<KeyView>) -> Vec<KeyView> {
        let text = self.text.to_lowercase();
        keys.retain(|key| self.fits(key, &text));
        // Times of one form are in the order of their texts.
        match self.order.as_str() {
            "used" => keys.sort_by(|one, other| other.last_used_at.cmp(&one.last_used_at)),
            "name" => keys.sort_by_cached_key(|key| key.name.to_lowercase()),
            "requests" => keys.sort_by_key(|key| Reverse(key.requests)),
            _ => {}
        }
        keys
    }

    /// The same question for another page.
    fn at(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("q", &self.text), ("state", &self.state), ("sort", &self.order)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        format!("/keys?{}", query.append_pair("page", &page.to_string()).finish())
    }
}

/// The page begins with the keys.
pub(crate) async fn start() -> Redirect {
    Redirect::to("/keys")
}

pub(crate) async fn show(visitor: Visitor, Query(fields): Query) -> Result<Html<String>, PageError> {
    let wanted = Wanted::of(&fields);
    let all = visitor.desk.keys(wanted.state == "revoked").await?;
    let has_any = !all.is_empty();
    let mut found = wanted.choose(all);
    let count = found.len();
    let last_page = count.div_ceil(ON_A_PAGE).max(1);
    let first = (wanted.page.min(last_page) - 1) * ON_A_PAGE;
    let shown: Vec<KeyView> = found.drain(first..(first + ON_A_PAGE).min(count)).collect();
    let usages = visitor.desk.usages(shown.iter().map(|key| key.id.clone()).collect()).await?;
    let body = html! {
        div.title { h1 { "Keys" } a.button.main href="/keys/new" { "New key" } }
        @if has_any || !wanted.state.is_empty() {
            (filter(&wanted))
            p.faint role="status" { (show::number(count as u64)) @if count == 1 { " key" } @else { " keys" } }
            @if count > 0 { (table(&visitor, &shown, &usages)) }
            (pages(&wanted, wanted.page.min(last_page), last_page))
        } @else { (empty()) }
    };
    Ok(layout::page(&visitor, Place::Keys, "Keys", &body))
}

fn choice(name: &str, label: &str, options: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label { (label)
            select name=(name) { @for (value, text) in options { option value=(value) selected[*value == chosen] { (text) } } }
        }
    }
}

fn filter(wanted: &Wanted) -> Markup {
    html! {
        form.filter role="search" action="/keys" {
            label { "Search" input type="search" name="q" value=(wanted.text) placeholder="name, account or id"; }
            (choice("state", "State", &STATES, &wanted.state))
            (choice("sort", "Order", &ORDERS, &wanted.order))
            button { "Show" }
        }
    }
}

fn table(visitor: &Visitor, keys: &[KeyView], usages: &[KeyUsageView]) -> Markup {
    html! {
        table.keys {
            thead {
                tr { @for name in ["Name", "State", "Account", "May", "Last used", "24 h", "Expires"] { th scope="col" { (name) } } }
            }
            tbody { @for (key, usage) in keys.iter().zip(usages) { (line(visitor, key, usage)) } }
        }
    }
}

fn line(visitor: &Visitor, key: &KeyView, usage: &KeyUsageView) -> Markup {
    let now = visitor.desk.now();
    html! {
        tr {
            th scope="row" { a href={ "/keys/" (key.id) } { (key.name) } code { (key.id) } }
            td { (show::key_pill(key)) }
            td { (key.account) }
            td { (key.preset.as_deref().unwrap_or("custom")) }
            td {
                @match &key.last_used_at {
                    Some(at) => {
                        (show::ago(at, now))
                        small { (key.last_used_from.as_deref().unwrap_or_default()) " " (key.last_used_by.as_deref().unwrap_or_default()) }
                    }
                    None => span.faint { "never" },
                }
            }
            td { (plot::small(&usage.hours)) }
            td { @match &key.expires_at { Some(at) => (show::time(at)), None => span.faint { "never" } } }
        }
    }
}

fn pages(wanted: &Wanted, page: usize, last: usize) -> Markup {
    html! {
        @if last > 1 {
            nav.pages aria-label="Pages of the list" {
                @if page > 1 { a.button href=(wanted.at(page - 1)) rel="prev" { "Before" } }
                span { "Page " (page) " of " (last) }
                @if page < last { a.button href=(wanted.at(page + 1)) rel="next" { "Next" } }
            }
        }
    }
}

fn empty() -> Markup {
    html! {
        section.card {
            h2 { "There is no key yet" }
            p { "A key lets one program act for one account of a media server. Make one for each program: then you see what each does, and can end one without the others." }
            p { "Whatever can send a key can use it, in any of these ways:" }
            pre tabindex="0" { "curl -H 'Authorization: Bearer KEY' …\ncurl -H 'X-Emby-Token: KEY' …\ncurl '…?api_key=KEY'" }
            p { "Apps that know only a user name and a password take the key as the password." }
            p { a.button.main href="/keys/new" { "Make the first key" } }
        }
    }
}
