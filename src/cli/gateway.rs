//! `keygate status` and `keygate reload`: what only a running gateway can answer.

use std::time::Duration;

use http::Method;

use crate::admin::api::{AccountView, ListenerView, Reloaded, StatusView, UpstreamView};
use crate::admin::certificates::CertificateView;
use crate::admin::reload::ReloadView;
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::{Global, timekeeping};
use crate::doctor::front::Front;

/// How long a healthy gateway may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most accounts that are shown one by one.
const SHOWN_ACCOUNTS: usize = 20;

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
    let listener =
        |one: ListenerView| vec!["listener".to_owned(), format!("{} ({})", one.url, one.upstream.as_deref().unwrap_or("by host name"))];
    rows.extend(status.listeners.into_iter().map(listener));
    rows.extend(status.store.map(|store| vec!["store".to_owned(), format!("{} ({} bytes)", store.path, store.bytes)]));
    rows.extend(status.certificates.iter().map(|one| vec!["certificate".to_owned(), certificate(one)]));
    for one in status.upstreams {
        rows.push(vec!["upstream".to_owned(), format!("{} ({}{}) {}{}", one.name, one.kind, version(&one), one.url, health(&one))]);
    }
    let hidden = status.account_states.len().saturating_sub(SHOWN_ACCOUNTS);
    rows.extend(status.account_states.iter().take(SHOWN_ACCOUNTS).map(|one| vec!["account".to_owned(), account(one)]));
    if hidden > 0 {
        rows.push(vec!["account".to_owned(), format!("{hidden} more: keygate accounts list")]);
    }
    rows.extend(status.last_reload.iter().map(|last| vec!["last reload".to_owned(), reload_of(last)]));
    output.rows(&["WHAT", "VALUE"], &rows)
}

fn version(one: &UpstreamView) -> String {
    one.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default()
}

fn health(one: &UpstreamView) -> String {
    match (one.reachable, &one.down_since, &one.problem) {
        (_, Some(since), problem) => format!(": down since {since}: {}", problem.as_deref().unwrap_or("no connection")),
        (_, None, Some(problem)) => format!(": cannot connect: {problem}"),
        (Some(true), ..) => ": reachable".to_owned(),
        _ => ": not tried yet".to_owned(),
    }
}

fn account(one: &AccountView) -> String {
    let sessions = match one.sessions {
        0 => String::new(),
        1 => " (1 session)".to_owned(),
        count => format!(" ({count} sessions)"),
    };
    let why = one.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}/{}: {}{sessions}{why}", one.upstream, one.name, one.state)
}

fn reload_of(last: &ReloadView) -> String {
    let ReloadView { at, asked_by, changes, problems } = last;
    let what = match problems {
        // The whole picture went to whoever asked, and into the log.
        Some(problems) => format!("refused, the old configuration stays: {}", problems.lines().last().unwrap_or_default()),
        None if changes.is_empty() => "nothing changed".to_owned(),
        None => changes.join("; "),
    };
    format!("{at}, asked by {asked_by}: {what}")
}

/// How long it is still good, and what is wrong with it.
fn certificate(one: &CertificateView) -> String {
    let name = one.names.first().unwrap_or(&one.subject);
    let day = one.not_after.split('T').next().unwrap_or_default();
    let standing = one.standing.as_ref().map(|standing| format!("; {standing}")).unwrap_or_default();
    let problem = match (&one.problem, one.days_left) {
        (Some(problem), _) => format!("; no newer one: {problem}"),
        (None, 0) => "; clients refuse it, or will within a day".to_owned(),
        _ => String::new(),
    };
    format!("{name}: {} days left, until {day}{standing}{problem}", one.days_left)
}

/// `keygate healthcheck`. Whether media servers are up does not matter: a restart of the gateway would not help them.
///
/// # Errors
/// Always with exit code 1: what asks for health knows no other.
pub(crate) async fn healthcheck(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let ill = |why: String| Failure::failed(format!("not healthy: {why}"));
    let asked = async { Backend::running(global).await?.get::<StatusView>("/api/status").await };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    let status = asked.map_err(|_| ill("the gateway does not answer in time".to_owned()))?.map_err(|failure| ill(failure.message))?;
    for listener in &status.listeners {
        // A listener of TLS must speak it: the handshake is done to its end.
        front(listener, &status.certificates)
            .connect()
            .await
            .map_err(|why| ill(format!("{} accepts no connection: {why}", listener.url)))?;
    }
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "healthy": true, "listeners": status.listeners.len() }));
    }
    let listeners = match status.listeners.len() {
        1 => "its listener accepts".to_owned(),
        count => format!("{count} listeners accept"),
    };
    output.sentence(&format!("healthy: keygate {} answers, and {listeners} connections", status.version))
}

fn front(listener: &ListenerView, certificates: &[CertificateView]) -> Front {
    let first = || certificates.first().map(|one| one.fingerprint.clone()).unwrap_or_default();
    Front {
        address: listener.address,
        certificate: listener.url.starts_with("https:").then(first),
        proxies: listener.proxies.iter().filter_map(|net| net.parse().ok()).collect(),
    }
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
