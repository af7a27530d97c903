//! What a key is used for, in words: for `keys show`, and before a revocation.

use crate::admin::api::KeyView;
use crate::admin::usage::{ClientView, KeyUsageView};
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::time::ago;

/// Clients that are named one by one.
const NAMED: usize = 10;

/// Asks for it.
pub(crate) async fn of(backend: &Backend, key: &KeyView) -> Result<KeyUsageView, Failure> {
    backend.get(&format!("/api/api-keys/{}/usage", key.id)).await
}

/// `3 min ago from 192.168.1.7 (Kodi/20.2)`.
fn who(client: &ClientView) -> String {
    let agent = if client.agent.is_empty() { String::new() } else { format!(" ({})", client.agent) };
    format!("{} from {}{agent}", ago(&client.last), client.address)
}

/// The rows of `keys show`.
pub(crate) fn rows(usage: &KeyUsageView) -> Vec<(&'static str, Option<String>)> {
    let old = usage.clients.iter().find(|client| client.secret == "old");
    vec![
        ("used", Some(usage.clients.first().map_or_else(|| "never".to_owned(), who))),
        ("old secret used", old.map(|client| format!("last {}", who(client)))),
        (
            "traffic",
            Some(format!("{} requests, {} bytes in, {} bytes out", usage.counts.requests, usage.counts.bytes_in, usage.counts.bytes_out)),
        ),
        ("open", (!usage.open.is_empty()).then(|| format!("{} now", usage.open.len()))),
    ]
}

/// Whom it would hit if the key died now; one sentence each.
pub(crate) fn impact(usage: &KeyUsageView) -> Vec<String> {
    let Some(last) = usage.clients.first() else { return vec!["Nobody has ever used this key.".to_owned()] };
    let mut lines = vec![format!("Last used {}.", who(last))];
    lines.extend(usage.clients.iter().take(NAMED).map(|client| {
        let old = if client.secret == "current" { String::new() } else { format!(", with a secret that is {}", client.secret) };
        format!("  {} requests, {}{old}", client.requests, who(client))
    }));
    if usage.clients.len() > NAMED {
        lines.push(format!("  and {} more clients", usage.clients.len() - NAMED));
    }
    for stream in &usage.open {
        lines.push(format!("Runs now and would be cut: a {} of {} since {}", stream.sort, stream.client, ago(&stream.started)));
    }
    lines
}
