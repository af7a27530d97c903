//! `keygate status` and `keygate reload`: what only a running gateway can answer.

use http::Method;

use crate::admin::api::{Reloaded, StatusView};
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::{Global, timekeeping};

/// `keygate status`.
pub(crate) async fn status(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let status: StatusView = Backend::running(global).await?.get("/api/status").await?;
    if output.format() == Format::Json {
        return output.json(&status);
    }
    let accounts = match status.broken_accounts {
        0 => status.accounts.to_string(),
        broken => format!("{} ({broken} broken: see keygate accounts list)", status.accounts),
    };
    let mut rows = vec![
        vec!["version".to_owned(), status.version],
        vec!["process".to_owned(), status.pid.to_string()],
        vec!["uptime".to_owned(), format!("{} s", status.uptime_seconds)],
        vec!["configuration".to_owned(), status.config.unwrap_or_else(|| "none".to_owned())],
        vec!["accounts".to_owned(), accounts],
        vec!["keys".to_owned(), status.keys.to_string()],
    ];
    let time = match status.clock_behind_seconds {
        behind if behind > timekeeping::NOTABLE.as_secs() => {
            format!("{}; the machine's clock is {behind} s behind: see keygate store forget-time --help", status.time)
        }
        _ => status.time,
    };
    rows.push(vec!["time".to_owned(), time]);
    for one in status.upstreams {
        let problem = one.problem.map(|problem| format!(": cannot connect: {problem}")).unwrap_or_default();
        rows.push(vec!["upstream".to_owned(), format!("{} ({}) {}{problem}", one.name, one.kind, one.url)]);
    }
    output.rows(&["WHAT", "VALUE"], &rows)
}

/// `keygate reload`.
pub(crate) async fn reload(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let reloaded: Reloaded = Backend::running(global).await?.call(Method::POST, "/api/reload", &()).await?;
    if output.format() == Format::Json {
        return output.json(&reloaded);
    }
    if reloaded.changes.is_empty() {
        return output.sentence("reloaded: nothing changed");
    }
    for change in &reloaded.changes {
        output.sentence(&format!("reloaded: {change}"))?;
    }
    Ok(())
}
