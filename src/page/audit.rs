//! The audit log, and of it what strangers brought about: refused attempts.

use axum::response::Html;
use maud::{Markup, html};

use crate::admin::audit::{AuditPage, AuditQuery, AuditView, Sort};
use crate::admin::usage::TotalsView;
use crate::audit::{Field, ObjectKind};
use crate::page::error::PageError;
use crate::page::form::Query;
use crate::page::layout::{self, Place};
use crate::page::show;
use crate::page::visitor::Visitor;

/// Lines of one page.
const LINES: usize = 30;

async fn lines(visitor: &Visitor, sort: Sort, before: &str) -> Result<AuditPage, PageError> {
    let query = AuditQuery { before: before.parse().ok(), limit: Some(LINES), sort: Some(sort), ..AuditQuery::default() };
    Ok(visitor.desk.audit(query).await?)
}

pub(crate) async fn show(visitor: Visitor, Query(fields): Query) -> Result<Html<String>, PageError> {
    let page = lines(&visitor, Sort::Acts, fields.text("before")).await?;
    let body = html! {
        h1 { "Audit" }
        p.faint { "Who changed what. No secret is ever written here." }
        (table(&page.entries, "Nothing has been changed yet."))
        (older("/audit", page.next))
    };
    Ok(layout::page(&visitor, Place::Audit, "Audit", &body))
}

pub(crate) async fn refused(visitor: Visitor, Query(fields): Query) -> Result<Html<String>, PageError> {
    let page = lines(&visitor, Sort::Notices, fields.text("before")).await?;
    let totals = visitor.desk.totals().await?;
    let body = html! {
        h1 { "Refused attempts" }
        p.faint { "Guesses, keys that are no longer good, throttled addresses and failed logins, gathered by the minute." }
        (reasons(&totals))
        (table(&page.entries, "Nothing was refused."))
        (older("/refused", page.next))
    };
    Ok(layout::page(&visitor, Place::Refused, "Refused attempts", &body))
}

fn reasons(totals: &TotalsView) -> Markup {
    let all = totals.upstreams.iter().flat_map(|(name, of)| of.refusals.iter().map(move |(reason, times)| (name, reason, *times)));
    let mut all: Vec<_> = all.filter(|(_, _, times)| *times > 0).collect();
    all.sort_by_key(|(_, _, times)| std::cmp::Reverse(*times));
    html! {
        @if !all.is_empty() {
            details.card {
                summary { "All refusals by reason, since there is a store" }
                table.figures {
                    thead { tr { th scope="col" { "Reason" } th scope="col" { "At" } th scope="col" { "Times" } } }
                    tbody {
                        @for (name, reason, times) in all { tr { th scope="row" { (reason) } td { (name) } td { (show::number(times)) } } }
                    }
                }
            }
        }
    }
}

fn older(path: &str, next: Option<u64>) -> Markup {
    html! { @if let Some(next) = next { p { a.button rel="next" href={ (path) "?before=" (next) } { "Older" } } } }
}

/// Lines of the log.
pub(super) fn table(entries: &[AuditView], none: &str) -> Markup {
    html! {
        @if entries.is_empty() { p.faint { (none) } } @else {
            table.audit {
                thead { tr { @for name in ["When", "Who", "What", "Details"] { th scope="col" { (name) } } } }
                tbody { @for entry in entries { (line(entry)) } }
            }
        }
    }
}

fn line(entry: &AuditView) -> Markup {
    let object = &entry.object;
    html! {
        tr {
            td { (show::time(&entry.at)) }
            td { (entry.by) }
            td {
                b { (entry.verb) } " " (object.kind.as_str()) " "
                @if object.kind == ObjectKind::Key { a href={ "/keys/" (object.id) } { (object.name) } } @else { (object.name) }
            }
            td { @for field in &entry.fields { div { (of_field(field)) } } }
        }
    }
}

fn of_field(field: &Field) -> Markup {
    html! {
        span.faint { (field.name) } " "
        @match (&field.before, &field.after) {
            (Some(before), Some(after)) => { del { (before) } " → " (after) },
            (Some(before), None) => del { (before) },
            (None, Some(after)) => (after),
            (None, None) => "",
        }
    }
}
