//! `keygate status` and `keygate reload`: what only a running gateway can answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Method;
use tokio::net::TcpStream;

use crate::admin::api::{ListenerView, Reloaded, StatusView};
use crate::admin::certificates::CertificateView;
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::{Global, timekeeping};

/// How long a healthy gateway may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

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
        let problem = one.problem.map(|problem| format!(": cannot connect: {problem}")).unwrap_or_default();
        rows.push(vec!["upstream".to_owned(), format!("{} ({}) {}{problem}", one.name, one.kind, one.url)]);
    }
    output.rows(&["WHAT", "VALUE"], &rows)
}

/// How long it is still good, and what is wrong with it.
fn certificate(one: &CertificateView) -> String {
    let name = one.names.first().unwrap_or(&one.subject);
    let day = one.not_after.split('T').next().unwrap_or_default();
    let problem = match (&one.problem, one.days_left) {
        (Some(problem), _) => format!("; no newer one: {problem}"),
        (None, 0) => "; clients refuse it, or will within a day".to_owned(),
        _ => String::new(),
    };
    format!("{name}: {} days left, until {day}{problem}", one.days_left)
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
        let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(reachable(listener.address))).await;
        let cannot = |why: &dyn std::fmt::Display| ill(format!("{} accepts no connection: {why}", listener.url));
        connected.map_err(|late| cannot(&late))?.map_err(|error| cannot(&error))?;
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

/// Every address is also this machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let own: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(own, address.port())
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
