//! `keygate audit`: who changed what, and who was refused.

use std::time::Duration;

use clap::Subcommand;

use crate::admin::audit::{AuditPage, AuditView, MOST};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::time::parse_span;
use crate::cli::{Global, keys};
use crate::clock::{Clock, SystemClock};

/// How often `--follow` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `keygate audit …`.
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Show the newest lines, the newest last
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
        /// Go on with what comes, until it is interrupted
        #[arg(short, long)]
        follow: bool,
        /// Of this key only: id, name, or the last four of the id
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Not older than this span: 30m, 12h, 7d
        #[arg(long, value_name = "SPAN")]
        since: Option<String>,
        /// Only what was done, nothing of who was refused
        #[arg(long)]
        acts: bool,
    },
}

pub(crate) async fn run(command: &AuditCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let AuditCommand::Tail { lines, follow, key, since, acts } = command;
    let backend = Backend::open(global, output).await?;
    let mut filter = String::new();
    if let Some(key) = key {
        filter.push_str(&format!("&key={}", keys::find(&backend, key, true).await?.id));
    }
    if let Some(since) = since {
        let span = parse_span(since).map_err(|error| Failure::usage(format!("--since: {error}")))?;
        filter.push_str(&format!("&since={}", encoded(&SystemClock::new().now().minus(span).to_string())));
    }
    if *acts {
        filter.push_str("&sort=acts");
    }
    let mut page: AuditPage = backend.get(&format!("/api/audit?limit={lines}{filter}")).await?;
    page.entries.reverse();
    if !follow {
        return show(page, output);
    }
    let mut last = newest(&backend, &page).await?;
    each(&page.entries, output)?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let page: AuditPage = backend.get(&format!("/api/audit?limit={MOST}&after={last}{filter}")).await?;
        each(&page.entries, output)?;
        last = page.entries.last().map_or(last, |entry| entry.number);
    }
}

/// From where to go on. Where the filter left nothing, it is the newest line of all.
async fn newest(backend: &Backend, page: &AuditPage) -> Result<u64, Failure> {
    if let Some(last) = page.entries.last() {
        return Ok(last.number);
    }
    let newest: AuditPage = backend.get("/api/audit?limit=1").await?;
    Ok(newest.entries.first().map_or(0, |entry| entry.number))
}

fn show(page: AuditPage, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(&page);
    }
    let rows: Vec<Vec<String>> = page.entries.iter().map(|entry| row(entry).into()).collect();
    output.rows(&["NUMBER", "TIME", "BY", "WHAT", "OF", "HOW"], &rows)
}

/// One line each, as they come; JSON one object a line.
fn each(entries: &[AuditView], output: &mut Output) -> Result<(), Failure> {
    for entry in entries {
        if output.format() == Format::Json {
            let text = serde_json::to_string(entry).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
            output.line(&text)?;
        } else {
            output.sentence(&row(entry).join("  "))?;
        }
    }
    Ok(())
}

fn row(entry: &AuditView) -> [String; 6] {
    let object = &entry.object;
    let of = if object.id.is_empty() { object.name.to_string() } else { format!("{} {}", object.kind.as_str(), quoted(entry)) };
    [entry.number.to_string(), seconds(&entry.at), entry.by.clone(), entry.verb.clone(), of, how(entry)]
}

fn quoted(entry: &AuditView) -> String {
    let object = &entry.object;
    if object.name.as_str() == object.id { object.id.clone() } else { format!("{} \"{}\"", object.id, object.name) }
}

fn seconds(at: &str) -> String {
    at.split_once('.').map_or_else(|| at.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

fn how(entry: &AuditView) -> String {
    let field = |field: &crate::audit::Field| match (&field.before, &field.after) {
        (Some(before), Some(after)) => format!("{}: {before} → {after}", field.name),
        (None, Some(after)) => format!("{}: {after}", field.name),
        (_, None) => field.name.clone(),
    };
    entry.fields.iter().map(field).collect::<Vec<_>>().join(", ")
}
