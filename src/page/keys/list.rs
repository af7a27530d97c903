//! All keys: searched, filtered, sorted, in pages.

use axum::response::{Html, Redirect};
use maud::{Markup, html};

use crate::admin::api::KeyView;
use crate::admin::key_list::{KeyFilter, Order, Standing};
use crate::admin::usage::KeyUsageView;
use crate::page::error::PageError;
use crate::page::form::{Fields, Query};
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;
use crate::page::{plot, show};

/// Keys of one page: with all their figures it stays well below 40 kB.
const ON_A_PAGE: usize = 20;

/// Seconds within which an expiry is soon.
const SOON: u64 = 30 * 86_400;

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

    /// The keys of a page, from 1 on.
    fn filter(&self, page: usize) -> KeyFilter {
        let status = match self.state.as_str() {
            "active" | "unused" => Some(Standing::Active),
            "disabled" => Some(Standing::Disabled),
            "expired" => Some(Standing::Expired),
            "revoked" => Some(Standing::Revoked),
            _ => None,
        };
        let sort = match self.order.as_str() {
            "used" => Some(Order::LastUsed),
            "name" => Some(Order::Name),
            "requests" => Some(Order::Requests),
            _ => None,
        };
        KeyFilter {
            search: Some(self.text.clone()).filter(|text| !text.is_empty()),
            revoked: self.state == "revoked",
            status,
            expiring: (self.state == "expiring").then_some(SOON),
            unused: self.state == "unused",
            sort,
            limit: Some(ON_A_PAGE),
            page: page - 1,
            ..KeyFilter::default()
        }
    }

    /// Whether every living key is wanted.
    fn is_all(&self) -> bool {
        self.text.is_empty() && self.state.is_empty()
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
    let mut page = wanted.page;
    let mut found = visitor.desk.keys(wanted.filter(page)).await?;
    let last_page = found.total.div_ceil(ON_A_PAGE).max(1);
    if page > last_page {
        page = last_page;
        found = visitor.desk.keys(wanted.filter(page)).await?;
    }
    let usages = visitor.desk.usages(found.api_keys.iter().map(|key| key.id.clone()).collect()).await?;
    let body = html! {
        div.title { h1 { "Keys" } a.button.main href="/keys/new" { "New key" } }
        @if found.total == 0 && wanted.is_all() { (empty()) } @else {
            (filter(&wanted))
            p.faint role="status" { (show::number(found.total as u64)) @if found.total == 1 { " key" } @else { " keys" } }
            @if found.total > 0 { (table(&visitor, &found.api_keys, &usages)) }
            (pages(&wanted, page, last_page))
        }
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
                tr { @for name in ["Name", "State", "Account", "May", "Last used", "24 h", "Expires", "Actions"] { th scope="col" { (name) } } }
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
            td { (menu(key)) }
        }
    }
}

/// What can be done to a key. Each of it asks first, on a page of its own.
fn menu(key: &KeyView) -> Markup {
    let to = |what: &str| format!("/keys/{}/{what}", key.id);
    html! {
        @if key.status != "revoked" {
            details.menu {
                summary aria-label={ "Actions for " (key.name) } { "⋯" }
                div {
                    a href=(to("edit")) { "Edit" }
                    a href=(to("rotate")) { "Rotate" }
                    @if key.is_active { a href=(to("disable")) { "Disable" } }
                    a href=(to("revoke")) { "Revoke" }
                }
            }
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
