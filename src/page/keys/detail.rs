//! One key: what it may do, what it did, what runs on it, and who changed it.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::Html;
use maud::{Markup, html};

use crate::admin::api::KeyView;
use crate::admin::audit::{AuditQuery, Sort};
use crate::admin::error::AdminError;
use crate::admin::usage::{ClientView, KeyUsageView, StreamLine};
use crate::page::error::PageError;
use crate::page::keys::used;
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;
use crate::page::{audit, plot, show};

/// Lines of the audit log, of each sort.
const LINES: usize = 20;
/// Groups of paths that are shown.
const PATHS: usize = 10;
/// Of two days that are kept, the plot shows one.
const HOURS: usize = 24;

pub(crate) async fn show(visitor: Visitor, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    let key = visitor.desk.key(id).await?;
    let usage = visitor.desk.usages(vec![key.id.clone()]).await?.pop();
    let usage = usage.ok_or_else(|| AdminError::NotFound("there is no such key".to_owned()))?;
    let lines = |sort| AuditQuery { key: Some(key.id.clone()), limit: Some(LINES), sort: Some(sort), ..AuditQuery::default() };
    let notices = visitor.desk.audit(lines(Sort::Notices)).await?.entries;
    let acts = visitor.desk.audit(lines(Sort::Acts)).await?.entries;
    let tickets = visitor.desk.tickets(key.id.clone()).await?.len();
    let body = html! {
        div.title { h1 { (key.name) " " (show::key_pill(&key)) } (actions(&visitor, &key)) }
        (facts(&visitor, &key))
        @if let Some(limits) = &key.limits { h2 { "Limits" } (used::shown(limits, key.limits_used.as_ref())) }
        (figures(&usage))
        h2 { "Running now" }
        (running(&visitor, &key, &usage.open))
        @if tickets > 0 {
            p.row {
                span { (tickets) @if tickets == 1 { " ticket or id opens" } @else { " tickets and ids open" } " media without the key." }
                a.button href={ "/keys/" (key.id) "/tickets" } { "Take back" }
            }
        }
        h2 { "Clients of the last 30 days" }
        @if usage.clients.is_empty() { p.faint { "none" } } @else { (clients(&visitor, &usage.clients.iter().collect::<Vec<_>>())) }
        h2 { "Last events" }
        (audit::table(&notices, "Nothing was refused or throttled."))
        h2 { "Audit trail" }
        (audit::table(&acts, "Nothing is written down."))
    };
    Ok(layout::page(&visitor, Place::Keys, &key.name, &body))
}

fn actions(visitor: &Visitor, key: &KeyView) -> Markup {
    let to = |what: &str| format!("/keys/{}/{what}", key.id);
    html! {
        @if key.status != "revoked" {
            div.row {
                a.button href=(to("edit")) { "Edit" }
                a.button href=(to("rotate")) { "Rotate" }
                @if key.is_active { a.button href=(to("disable")) { "Disable" } } @else {
                    form method="post" action=(to("enable")) { (layout::csrf(visitor)) button { "Enable" } }
                }
                a.button.danger href=(to("revoke")) { "Revoke" }
            }
        }
    }
}

pub(super) fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn facts(visitor: &Visitor, key: &KeyView) -> Markup {
    let now = visitor.desk.now();
    let may = key.preset.clone().unwrap_or_else(|| "custom".to_owned());
    html! {
        dl.facts {
            (fact("Id", &html! { code { (key.id) } }))
            (fact("Account", &html! { (key.account) }))
            (fact("May", &html! { (may) @if key.preset.is_none() { small { (key.scopes.join(", ")) } } }))
            @if let Some(libraries) = &key.libraries { (fact("Libraries", &html! { (libraries.join(", ")) })) }
            (fact("Expires", &key.expires_at.as_deref().map_or_else(|| html! { "never" }, show::time)))
            (fact("Made", &html! { (show::time(&key.created_at)) small { "by " (key.created_by) } }))
            @if let Some(at) = &key.last_used_at {
                (fact("Last used", &html! {
                    (show::ago(at, now))
                    small { (key.last_used_from.as_deref().unwrap_or_default()) " " (key.last_used_by.as_deref().unwrap_or_default()) }
                }))
            } @else { (fact("Last used", &html! { "never" })) }
            @if let Some(at) = &key.previous_secret_until { (fact("Old secret good until", &show::time(at))) }
            @if let Some(at) = &key.revoked_at { (fact("Revoked", &show::time(at))) }
        }
    }
}

fn figures(usage: &KeyUsageView) -> Markup {
    let counts = &usage.counts;
    let day = &usage.hours[usage.hours.len().saturating_sub(HOURS)..];
    let paths: Vec<(&str, u64)> = usage.paths.iter().take(PATHS).map(|(path, times)| (path.as_str(), *times)).collect();
    html! {
        h2 { "Requests" }
        div.plots { (plot::large("By hour, 24 hours", day, "h")) (plot::large("By day, 30 days", &usage.days, "d")) }
        div.columns {
            (sums("In all", &pairs(&counts.by_class), &html! {
                tr { th scope="row" { "to the server" } td { (show::bytes(counts.bytes_in)) } }
                tr { th scope="row" { "to clients" } td { (show::bytes(counts.bytes_out)) } }
            }))
            (sums("By where the key was", &pairs(&usage.carriers), &html! {}))
            (sums("By path", &paths, &html! {}))
        }
    }
}

fn pairs(map: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut pairs: Vec<_> = map.iter().filter(|(_, times)| **times > 0).map(|(name, times)| (name.as_str(), *times)).collect();
    pairs.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    pairs
}

fn sums(title: &str, pairs: &[(&str, u64)], more: &Markup) -> Markup {
    html! {
        table.figures {
            caption { (title) }
            tbody {
                @for (name, times) in pairs { tr { th scope="row" { (name) } td { (show::number(*times)) } } }
                @if pairs.is_empty() { tr { td.faint { "no requests" } } }
                (more)
            }
        }
    }
}

fn running(visitor: &Visitor, key: &KeyView, open: &[StreamLine]) -> Markup {
    let now = visitor.desk.now();
    html! {
        @if open.is_empty() { p.faint { "nothing" } } @else {
            table.running {
                thead { tr { @for name in ["What", "Client", "Began", "To the client", "Actions"] { th scope="col" { (name) } } } }
                tbody {
                    @for one in open {
                        tr {
                            th scope="row" { (one.sort) small { (one.upstream) (one.path) } }
                            td { (one.client) small { (one.agent) } }
                            td { (show::ago(&one.started, now)) }
                            td { (show::bytes(one.bytes_out)) }
                            td { a.button href={ "/keys/" (key.id) "/streams/" (one.id) "/close" } { "Close" } }
                        }
                    }
                }
            }
        }
    }
}

/// Who uses a key.
pub(super) fn clients(visitor: &Visitor, clients: &[&ClientView]) -> Markup {
    let now = visitor.desk.now();
    html! {
        table.clients {
            thead { tr { @for name in ["Client", "Secret", "Carrier", "Last seen", "Requests"] { th scope="col" { (name) } } } }
            tbody {
                @for client in clients {
                    tr {
                        th scope="row" { (client.address) small { (client.agent) } }
                        td { (client.secret) }
                        td { (client.carrier.as_deref().unwrap_or("–")) }
                        td { (show::ago(&client.last, now)) }
                        td { (show::number(client.requests)) }
                    }
                }
            }
        }
    }
}
