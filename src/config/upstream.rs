//! The checks of `[[upstream]]`.

use std::collections::HashSet;

use http::uri::Authority;

use crate::config::check::Checker;
use crate::config::file::UpstreamSection;
use crate::config::problem::{Place, Problem};
use crate::config::value::{Field, Placed, Sessions, Strings};
use crate::config::{Access, Listen, UpstreamConfig, trust};
use crate::upstream::client::Timeouts;
use crate::upstream::{Kind, UpstreamName};

/// An upstream, and where its addresses were written.
pub(crate) struct Checked {
    pub(crate) config: UpstreamConfig,
    pub(crate) listeners: Vec<Placed<Listen>>,
    pub(crate) url_place: Place,
}

/// The upstreams, each by itself and all together.
pub(crate) fn check(checker: &mut Checker<'_>, sections: Vec<Placed<UpstreamSection>>) -> Vec<Checked> {
    if sections.is_empty() {
        let problem = Problem::new(&Place::Nowhere, "there is no [[upstream]]: keygate needs a media server to stand in front of");
        checker.report.problem(problem.help("add\n[[upstream]]\nkind = \"audiobookshelf\"\nurl = \"http://127.0.0.1:13378\""));
    }
    let several = sections.len() > 1;
    let (mut names, mut hosts) = (HashSet::new(), HashSet::new());
    let mut all = Vec::new();
    for Placed { value: section, place } in sections {
        check_reachable(checker, &section, &place, several);
        let name_place = section.name.as_ref().map_or(&place, |field| &field.place).clone();
        let host_places: Vec<Place> = section.hosts.iter().flat_map(|field| &field.value.0).map(|host| host.place.clone()).collect();
        let checked = one(checker, section, &place);
        if !names.insert(checked.config.name.clone()) {
            let problem = Problem::new(&name_place, format!("two upstreams are named \"{}\"", checked.config.name));
            checker.report.problem(problem.help("give each [[upstream]] a name of its own; without a name it has that of its kind"));
        }
        for (host, host_place) in checked.config.hosts.iter().zip(&host_places) {
            if !hosts.insert(host.clone()) {
                let problem = Problem::new(host_place, format!("the host name {host} is given twice"));
                checker.report.problem(problem.help("a host name leads to one upstream only"));
            }
        }
        all.push(checked);
    }
    all
}

fn check_reachable(checker: &mut Checker<'_>, section: &UpstreamSection, place: &Place, several: bool) {
    let empty = |field: &Field<Strings>| field.as_ref().is_none_or(|field| field.value.0.is_empty());
    if several && empty(&section.hosts) && empty(&section.listen) {
        let problem = Problem::new(place, "with several upstreams each needs hosts or a listen of its own").label("nothing leads here");
        checker.report.problem(problem.help("write hosts = [\"media.example.org\"], or listen = [\"127.0.0.1:8444\"]"));
    }
}

fn one(checker: &mut Checker<'_>, section: UpstreamSection, place: &Place) -> Checked {
    let kind = kind(checker, &section, place);
    let address = match &section.url {
        Some(url) => url_parts(checker, url),
        None if section.misfits.contains(&"url") => None,
        None => {
            let problem = Problem::new(place, "upstream.url is missing");
            checker.report.problem(problem.help("for example url = \"http://127.0.0.1:13378\""));
            None
        }
    };
    let tls = trust::check(checker, &section, address.as_ref().map(|address| address.is_tls));
    let Address { host, port, .. } = address.unwrap_or_default();
    let listeners = section.listen.as_ref().map(|listen| checker.listens("upstream.listen", &listen.value)).unwrap_or_default();
    let sessions = section.sessions.as_ref().map_or_else(|| default_sessions(kind), |field| field.value.0);
    let images = if kind == Kind::Emby { Access::Refuse } else { Access::Pass };
    let config = UpstreamConfig {
        name: name(checker, &section, kind),
        kind,
        host,
        port,
        tls,
        hosts: section.hosts.as_ref().map(|hosts| host_names(checker, &hosts.value)).unwrap_or_default(),
        listen: listeners.iter().map(|listener| listener.value.clone()).collect(),
        base_path: section.base_path.as_ref().map(|path| base_path(checker, path)).unwrap_or_default(),
        timeouts: timeouts(checker, &section, kind),
        session_per_key: sessions == Sessions::Key,
        forward_host: section.forward_host.is_none_or(|field| field.value),
        web_ui: section.web_ui.map_or(Access::Refuse, |field| field.value.0),
        images: section.images.map_or(images, |field| field.value.0),
        shares: section.shares.map_or(Access::Refuse, |field| field.value.0),
        native_logins: section.native_logins.map_or(Access::Refuse, |field| field.value.0),
    };
    let url_place = section.url.map_or_else(|| place.clone(), |url| url.place);
    Checked { config, listeners, url_place }
}

fn kind(checker: &mut Checker<'_>, section: &UpstreamSection, place: &Place) -> Kind {
    match &section.kind {
        Some(kind) => kind.value.0,
        None => {
            if !section.misfits.contains(&"kind") {
                let problem = Problem::new(place, "upstream.kind is missing");
                checker.report.problem(problem.help("write kind = \"audiobookshelf\", \"emby\" or \"jellyfin\""));
            }
            Kind::Audiobookshelf
        }
    }
}

/// Audiobookshelf has no notion of a device: there a session is the account's. The other two show one device per key.
const fn default_sessions(kind: Kind) -> Sessions {
    match kind {
        Kind::Audiobookshelf => Sessions::Account,
        Kind::Emby | Kind::Jellyfin => Sessions::Key,
    }
}

fn name(checker: &mut Checker<'_>, section: &UpstreamSection, kind: Kind) -> UpstreamName {
    let Some(field) = &section.name else { return UpstreamName::new(kind.as_str()) };
    if !UpstreamName::is_valid(&field.value) {
        let problem = Problem::new(&field.place, "upstream.name is not a name");
        checker.report.problem(problem.help("1 to 64 of letters, digits, dot, underscore and dash, like \"books\""));
    }
    UpstreamName::new(&field.value)
}

fn timeouts(checker: &mut Checker<'_>, section: &UpstreamSection, kind: Kind) -> Timeouts {
    let pool_idle = if kind == Kind::Audiobookshelf { 4_000 } else { 60_000 };
    let timeouts = Timeouts {
        connect: checker.duration("upstream.connect_timeout", &section.connect_timeout, 5_000, 100..=300_000),
        response_header: checker.duration("upstream.response_header_timeout", &section.response_header_timeout, 60_000, 100..=3_600_000),
        pool_idle: checker.duration("upstream.pool_idle_timeout", &section.pool_idle_timeout, pool_idle, 0..=600_000),
    };
    if let (Kind::Audiobookshelf, Some(field), true) = (kind, &section.pool_idle_timeout, timeouts.pool_idle.as_millis() >= 5_000) {
        let problem =
            Problem::new(&field.place, "upstream.pool_idle_timeout is not below 5 s, when Audiobookshelf closes idle connections");
        checker.report.warning(problem.help("the default \"4s\" avoids requests on connections that are just being closed"));
    }
    timeouts
}

fn url_parts(checker: &mut Checker<'_>, url: &Placed<String>) -> Option<Address> {
    match parse_url(&url.value) {
        Ok(parts) => Some(parts),
        Err((title, label, help)) => {
            checker.report.problem(Problem::new(&url.place, format!("upstream.url {title}")).label(label).help(help));
            None
        }
    }
}

type UrlMistake = (&'static str, &'static str, String);

/// The parts of an upstream's URL.
#[derive(Debug, Default, PartialEq, Eq)]
struct Address {
    is_tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
}

/// What is wrong is never repeated when it may be a password.
fn parse_url(url: &str) -> Result<Address, UrlMistake> {
    let expected = "expected http://host:port or https://host:port";
    let usual =
        || "for a local Audiobookshelf this is usually http://127.0.0.1:13378, for Emby and Jellyfin http://127.0.0.1:8096".to_owned();
    let Some((scheme, rest)) = url.split_once("://") else { return Err(("is not a URL", expected, usual())) };
    let is_tls = scheme.eq_ignore_ascii_case("https");
    if !is_tls && !scheme.eq_ignore_ascii_case("http") {
        return Err(("is not an http or https address", expected, usual()));
    }
    if rest.contains('@') {
        return Err((
            "holds a user name or password",
            "expected no credentials",
            "remove what stands before the @; then: keygate accounts add".to_owned(),
        ));
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains(['?', '#']) {
        return Err(("has a query or a fragment", expected, "end the address after the port".to_owned()));
    }
    let path = tail.trim_end_matches('/');
    if !path.is_empty() {
        return Err((
            "has a path",
            expected,
            format!("write url = \"{}://{authority}\" and base_path = \"{path}\"", scheme.to_ascii_lowercase()),
        ));
    }
    host_and_port(authority, if is_tls { 443 } else { 80 })
        .map(|(host, port)| Address { is_tls, host, port })
        .ok_or_else(|| ("is not a URL", expected, usual()))
}

pub(super) fn host_and_port(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let parsed: Authority = authority.parse().ok()?;
    let bare = parsed.host();
    let port = match authority.get(bare.len()..)? {
        "" => default_port,
        colon_port => colon_port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let host = match bare.strip_prefix('[') {
        Some(six) => six.strip_suffix(']').filter(|six| six.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => bare,
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

fn host_names(checker: &mut Checker<'_>, hosts: &Strings) -> Vec<String> {
    let mut names = Vec::new();
    for Placed { value: host, place } in &hosts.0 {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if !is_host_name(&name) {
            let problem = Problem::new(place, "upstream.hosts holds something that is not a host name").label("expected a name alone");
            checker.report.problem(problem.help("without scheme, port and path, like \"media.example.org\"; a wildcard is not possible"));
        }
        names.push(name);
    }
    names
}

/// A DNS name (RFC 1123, with the underscore that home networks use) or an IP address without brackets.
fn is_host_name(name: &str) -> bool {
    let label =
        |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

fn base_path(checker: &mut Checker<'_>, field: &Placed<String>) -> String {
    let path = field.value.as_str();
    let segment = |part: &str| {
        !part.is_empty()
            && !matches!(part, "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    };
    let good = path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
    if !good {
        let clean: Vec<&str> = path.split('/').filter(|part| segment(part)).collect();
        let help = format!(
            "write base_path = \"{}{}\": one leading slash, none at the end",
            if clean.is_empty() { "" } else { "/" },
            clean.join("/")
        );
        checker
            .report
            .problem(Problem::new(&field.place, "upstream.base_path is not a path prefix").label("expected \"/prefix\"").help(help));
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_and_port() {
        let address = |is_tls, host: &str, port| Address { is_tls, host: host.to_owned(), port };
        assert_eq!(parse_url("http://127.0.0.1:13378").unwrap(), address(false, "127.0.0.1", 13378));
        assert_eq!(parse_url("HTTP://Media.Local/").unwrap(), address(false, "media.local", 80));
        assert_eq!(parse_url("http://[::1]:8096").unwrap(), address(false, "::1", 8096));
        assert_eq!(parse_url("HTTPS://Media.Local").unwrap(), address(true, "media.local", 443));
        assert_eq!(parse_url("https://192.168.1.5:8920/").unwrap(), address(true, "192.168.1.5", 8920));
        for wrong in [
            "",
            "http://",
            "http://:80",
            "http://h:99999",
            "http://h:0",
            "http://h:",
            "http://[::1",
            "http://[x]:1",
            "http://a b",
            "ftp://h",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_url_makes_the_reader_panic(url in "(https?://)?\\PC{0,20}") {
            let _ = parse_url(&url);
        }
    }
}
