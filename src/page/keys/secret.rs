//! A new secret, shown once, with lines that are ready to be pasted.

use std::net::IpAddr;

use axum::extract::Path;
use axum::response::Html;
use http::Method;
use maud::{Markup, html};

use crate::admin::api::{KeyView, ListenerView, StatusView};
use crate::page::error::PageError;
use crate::page::layout::{self, Place};
use crate::page::visitor::Visitor;
use crate::secret::Secret;

pub(crate) async fn show(visitor: Visitor, method: Method, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    let key = visitor.desk.key(id).await?;
    let status = visitor.desk.status().await?;
    // Last, so that nothing that fails costs the secret; and HEAD shows nothing.
    let is_shown = method == Method::GET;
    let secret = is_shown.then(|| visitor.once.take(visitor.session.number, &key.id, visitor.desk.now())).flatten();
    let body = match &secret {
        Some(secret) => shown(&visitor, &key, secret, &status),
        None => gone(&key),
    };
    Ok(layout::page(&visitor, Place::Keys, &format!("The key {}", key.name), &body))
}

fn gone(key: &KeyView) -> Markup {
    html! {
        h1 { (key.name) }
        p.note.warn { "The secret was shown already, or never here. keygate has only a hash of it: if it is lost, rotate the key." }
        p.row { a.button.main href={ "/keys/" (key.id) } { "To the key" } a.button href={ "/keys/" (key.id) "/rotate" } { "Rotate it" } }
    }
}

fn shown(visitor: &Visitor, key: &KeyView, secret: &Secret<String>, status: &StatusView) -> Markup {
    let (upstream, user) = key.account.split_once('/').unwrap_or(("", key.account.as_str()));
    let kind = status.upstreams.iter().find(|one| one.name == upstream).map_or("", |one| one.kind.as_str());
    let url = base_url(status, upstream, &visitor.host);
    html! {
        h1 { "The key " (key.name) }
        section.card {
            p.note.warn { b { "Store it now." } " It is shown this once: keygate keeps only a hash of it." }
            label { "Key" input.secret #secret readonly value=(secret.expose()) autocomplete="off" spellcheck="false"; }
            p.row {
                button type="button" hidden data-copy="secret" { "Copy" }
                a.button.main href={ "/keys/" (key.id) "?done=stored" } { "I have stored it" }
            }
        }
        h2 { "Ready to paste" }
        p.faint { "With " code { (url) } " as the address: put the one there by which your clients reach keygate." }
        @for (name, text) in snippets(kind, &url, user, secret.expose()) { (snippet(name, &text)) }
    }
}

fn snippet(name: &str, text: &str) -> Markup {
    let id = name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    html! {
        details.snippet open[name == "curl"] {
            summary { (name) }
            pre id=(id) tabindex="0" { (text) }
            button type="button" hidden data-copy=(id) { "Copy" }
        }
    }
}

/// What people use keys with, by the kind of media server (`deploy/docs/clients.md`).
fn snippets(kind: &str, url: &str, user: &str, key: &str) -> Vec<(&'static str, String)> {
    let path = if kind == "audiobookshelf" { "/api/libraries" } else { "/Items/Counts" };
    let curl = format!(
        "curl -H 'Authorization: Bearer {key}' {url}{path}\n\ncurl -H 'X-Emby-Token: {key}' {url}{path}\n\ncurl '{url}{path}?api_key={key}'"
    );
    let (field, name) = match kind {
        "jellyfin" => ("Password", "Jellyfin"),
        "emby" => ("API key", "Emby"),
        _ => ("API key", "Audiobookshelf"),
    };
    let home_assistant =
        format!("Settings > Devices & services > Add integration > {name}\n\nURL: {url}\nUser name (if asked): {user}\n{field}: {key}");
    let homepage = format!("- {name}:\n    widget:\n      type: {}\n      url: {url}\n      key: {key}", name.to_ascii_lowercase());
    let (host, port, is_tls) = parts(url);
    let arr = format!(
        "Settings > Connect > Emby / Jellyfin\n\nHost: {host}\nPort: {port}\nUse SSL: {}\nAPI key: {key}\n\nIts library update needs the preset admin.",
        if is_tls { "yes" } else { "no" }
    );
    let kodi = format!("In the add-on for {name}, log in by hand:\n\nServer: {url}\nUser name: {user}\nPassword: {key}");
    let mut all = vec![("curl", curl), ("Home Assistant", home_assistant), ("Homepage", homepage)];
    if kind != "audiobookshelf" {
        all.extend([("Sonarr, Radarr", arr), ("Kodi", kodi)]);
    } else {
        all.push(("Apps", format!("Server: {url}\nUser name: {user}\nPassword: {key}")));
    }
    all
}

fn parts(url: &str) -> (&str, &str, bool) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let is_tls = scheme == "https";
    let has_port = rest.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let (host, port) = has_port.unwrap_or((rest, if is_tls { "443" } else { "80" }));
    (host, port, is_tls)
}

/// The address by which clients most likely reach an upstream: its listener, with a name of the certificate where there is one, and the
/// host by which this page was asked for where it listens everywhere.
fn base_url(status: &StatusView, upstream: &str, host: &str) -> String {
    let of = |wanted: Option<&str>| status.listeners.iter().find(|one| one.upstream.as_deref() == wanted);
    let Some(listener) = of(Some(upstream)).or_else(|| of(None)).or_else(|| status.listeners.first()) else {
        return format!("http://{host}");
    };
    let is_tls = listener.url.starts_with("https");
    let mut certified = status.certificates.iter().flat_map(|one| &one.names);
    let certified = certified.find(|name| name.parse::<IpAddr>().is_err() && !name.starts_with('*'));
    let name = match certified {
        Some(name) if is_tls => name.clone(),
        _ => literal(listener, host),
    };
    let (scheme, usual) = if is_tls { ("https", 443) } else { ("http", 80) };
    let port = listener.address.port();
    if port == usual { format!("{scheme}://{name}") } else { format!("{scheme}://{name}:{port}") }
}

fn literal(listener: &ListenerView, host: &str) -> String {
    match listener.address.ip() {
        address if address.is_unspecified() => host.to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        assert_eq!(parts("https://books.example.org"), ("books.example.org", "443", true));
        assert_eq!(parts("http://127.0.0.1:8443"), ("127.0.0.1", "8443", false));
        assert_eq!(parts("http://[::1]"), ("[::1]", "80", false));
    }

    #[test]
    fn every_kind_has_the_three_carriers_and_its_own_programs() {
        for (kind, program) in [("audiobookshelf", "Apps"), ("emby", "Kodi"), ("jellyfin", "Kodi")] {
            let all = snippets(kind, "http://h", "alice", "kg_x");
            let curl = &all[0].1;
            assert!(curl.contains("Bearer kg_x") && curl.contains("X-Emby-Token: kg_x") && curl.contains("?api_key=kg_x"), "{curl}");
            assert!(all.iter().any(|(name, _)| *name == program), "{kind}");
            assert!(all.iter().all(|(_, text)| text.contains("kg_x")));
        }
    }
}
