//! How the gateway stands: certificates, media servers, listeners, the store, the last reload.

use axum::response::Html;
use maud::{Markup, html};

use crate::admin::api::{StatusView, UpstreamView};
use crate::admin::certificates::{CertificateView, TlsView};
use crate::admin::usage::{LatencyView, TotalsView};
use crate::page::error::PageError;
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;
use crate::page::{plot, show};

/// Days below which a certificate's end is worth a warning, and a louder one.
const SOON: u64 = 21;
const VERY_SOON: u64 = 7;

pub(crate) async fn show(visitor: Visitor) -> Result<Html<String>, PageError> {
    let (status, tls, totals) = (visitor.desk.status().await?, visitor.desk.tls().await?, visitor.desk.totals().await?);
    let body = html! {
        h1 { "Status" }
        (facts(&status))
        h2 { "Media servers" }
        (upstreams(&status, &totals))
        h2 { "Certificates" }
        (certificates(&tls))
        h2 { "Listeners" }
        table.figures {
            thead { tr { th scope="col" { "Address" } th scope="col" { "For" } } }
            tbody {
                @for one in &status.listeners {
                    tr { th scope="row" { (one.url) } td { (one.upstream.as_deref().unwrap_or("all, by host name")) } }
                }
            }
        }
    };
    Ok(layout::page(&visitor, Place::Status, "Status", &body))
}

fn facts(status: &StatusView) -> Markup {
    html! {
        dl.facts {
            div { dt { "Version" } dd { (status.version) } }
            div { dt { "Running for" } dd { (show::length(status.uptime_seconds)) } }
            div { dt { "Keys" } dd { (show::number(status.keys as u64)) } }
            div { dt { "Accounts" } dd {
                (status.accounts) " " @if status.broken_accounts > 0 { (show::pill("bad", &format!("{} broken", status.broken_accounts))) }
            } }
            @if let Some(open) = &status.open {
                div { dt { "Open now" } dd {
                    (counted(open.connections, "connection")) small { (counted(open.streams, "stream")) ", " (counted(open.sockets, "socket")) }
                } }
            }
            div { dt { "Configuration" } dd { (status.config.as_deref().unwrap_or("none: by arguments")) } }
            div { dt { "Last reload" } dd {
                @match &status.last_reload {
                    None => span.faint { "none since the start" },
                    Some(last) => {
                        (show::time(&last.at)) small { "by " (last.asked_by) }
                        @match &last.problems {
                            Some(problems) => { (show::pill("bad", "not taken over")) small { (problems) } },
                            None if last.changes.is_empty() => small { "nothing changed" },
                            None => small { (last.changes.join("; ")) },
                        }
                    }
                }
            } }
            div { dt { "Store" } dd {
                @match &status.store { Some(store) => { (show::bytes(store.bytes)) small { (store.path) } }, None => "in memory" }
            } }
            @if status.clock_behind_seconds > 0 {
                div { dt { "Clock" } dd { (show::pill("bad", "behind")) " by " (show::length(status.clock_behind_seconds)) } }
            }
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{} {what}{}", show::number(count as u64), if count == 1 { "" } else { "s" })
}

fn health(upstream: &UpstreamView) -> Markup {
    match upstream.reachable {
        Some(true) => show::pill("good", "reachable"),
        Some(false) => show::pill("bad", "not reachable"),
        None => show::pill("off", "not tried yet"),
    }
}

fn upstreams(status: &StatusView, totals: &TotalsView) -> Markup {
    html! {
        table.upstreams {
            thead { tr { @for name in ["Name", "State", "Version", "Latency, last hour", "Requests", "To clients"] { th scope="col" { (name) } } } }
            tbody {
                @for one in &status.upstreams {
                    @let of = totals.upstreams.get(&one.name);
                    @let counts = of.map(|of| &of.counts);
                    tr {
                        th scope="row" { (one.name) small { (one.kind) " at " (one.url) } }
                        td {
                            (health(one))
                            @if let Some(since) = &one.down_since { small { "since " (show::time(since)) } }
                            @if let Some(problem) = &one.problem { small { (problem) } }
                        }
                        td { (one.version.as_deref().unwrap_or("–")) }
                        td { (latency(of.and_then(|of| of.latency.as_ref()))) }
                        td { (show::number(counts.map_or(0, |counts| counts.requests))) }
                        td { (show::bytes(counts.map_or(0, |counts| counts.bytes_out))) }
                    }
                }
            }
        }
    }
}

fn latency(latency: Option<&LatencyView>) -> Markup {
    let Some(latency) = latency else { return html! { span.faint { "nobody asked" } } };
    let (half, most) = (show::millis(latency.p50_ms), show::millis(latency.p95_ms));
    let highest = latency.p95_ms_by_five_minutes.iter().flatten().copied().fold(0.0, f64::max);
    let answers = usize::try_from(latency.answers).unwrap_or(usize::MAX);
    let label = format!("95 of 100 answers, by five minutes of the last hour: at most within {}", show::millis(highest));
    html! {
        (half) " " (plot::line(&latency.p95_ms_by_five_minutes, &label))
        small { "half of " (counted(answers, "answer")) "; 95 % within " (most) }
    }
}

fn days(certificate: &CertificateView) -> Markup {
    let kind = match certificate.days_left {
        ..VERY_SOON => "bad",
        VERY_SOON..SOON => "warn",
        _ => "good",
    };
    show::pill(kind, &format!("{} d left", certificate.days_left))
}

fn certificates(tls: &TlsView) -> Markup {
    html! {
        p.faint { @if tls.source == "off" { "TLS is off." } @else { "From: " (tls.source) } }
        @if !tls.certificates.is_empty() {
            table.certificates {
                thead { tr { @for name in ["Names", "State", "Good until"] { th scope="col" { (name) } } } }
                tbody {
                    @for one in &tls.certificates {
                        tr {
                            th scope="row" { (one.names.join(", ")) @if let Some(file) = &one.file { small { (file) } } }
                            td {
                                (days(one))
                                @if let Some(problem) = &one.problem { small { (problem) } }
                                @if let Some(standing) = &one.standing { small { (standing) } }
                            }
                            td { (show::time(&one.not_after)) }
                        }
                    }
                }
            }
        }
    }
}
