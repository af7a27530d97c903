//! Where to listen: an address, or a socket that systemd holds.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::config::check::Checker;
use crate::config::environment::Environment;
use crate::config::problem::{Place, Problem};
use crate::config::upstream;
use crate::config::value::{Placed, Strings};
use crate::config::{Server, is_public};

/// Before the name of a socket of systemd's.
const SYSTEMD: &str = "systemd:";

/// One place to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An address; port 0 lets the system choose.
    Address(SocketAddr),
    /// `systemd:NAME`: every socket that systemd hands over under this name (`FileDescriptorName=` of the socket unit).
    Systemd(String),
}

impl Listen {
    /// The address, where the configuration names one.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Systemd(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Systemd(name) => write!(f, "{SYSTEMD}{name}"),
        }
    }
}

/// Neither an address with a port nor `systemd:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an address with a port nor {SYSTEMD}NAME")]
pub struct NotListen;

impl FromStr for Listen {
    type Err = NotListen;

    fn from_str(text: &str) -> Result<Self, NotListen> {
        match text.strip_prefix(SYSTEMD) {
            // What systemd allows (systemd.socket(5)) also holds spaces; names of people's own do not need them.
            Some(name) if is_descriptor_name(name) => Ok(Self::Systemd(name.to_owned())),
            Some(_) => Err(NotListen),
            None => text.parse().map(Self::Address).map_err(|_| NotListen),
        }
    }
}

/// What systemd calls the sockets that it hands over, in their order, with `:` between them.
pub fn descriptor_names() -> String {
    Environment::of_process().variable("LISTEN_FDNAMES").unwrap_or_default().to_owned()
}

fn is_descriptor_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A place to listen on, and whether keys are taken there in clear text.
pub(crate) struct Listened {
    pub(crate) listen: Placed<Listen>,
    pub(crate) is_plain: bool,
}

impl Checker<'_> {
    /// Each string as a place to listen on.
    pub(crate) fn listens(&mut self, field: &str, strings: &Strings) -> Vec<Placed<Listen>> {
        let mut listens = Vec::new();
        for Placed { value: text, place } in &strings.0 {
            match text.parse() {
                Ok(value) => listens.push(Placed { value, place: place.clone() }),
                Err(NotListen) => {
                    let problem = Problem::new(place, format!("{field} is not an address")).label("expected an IP address and a port");
                    self.report.problem(problem.help(address_help(text)));
                }
            }
        }
        listens
    }

    /// Those that lead to https, which there must be then.
    pub(crate) fn redirects(&mut self, field: Option<&Placed<Strings>>, is_plain: bool) -> Vec<Placed<Listen>> {
        let Some(field) = field else { return Vec::new() };
        if is_plain && !field.value.0.is_empty() {
            let problem = Problem::new(&field.place, "server.listen_redirect leads to https, but there is no TLS");
            self.report.problem(
                problem.help(
                    "write tls = \"self-signed\" in [server], or set cert_file and key_file in [server.tls]; or remove listen_redirect",
                ),
            );
        }
        self.listens("server.listen_redirect", &field.value)
    }

    /// Those at which proxies speak first: of these listeners, and only where there are proxies.
    pub(crate) fn proxied(&mut self, field: Option<&Placed<Strings>>, server: &Server, of: &[Placed<Listen>]) -> Vec<Listen> {
        const NAME: &str = "server.proxy_protocol_listen";
        let Some(field) = field.filter(|field| !field.value.0.is_empty()) else { return Vec::new() };
        if server.proxy_protocol.is_empty() {
            let problem = Problem::new(&field.place, "server.proxy_protocol is missing");
            self.report.problem(problem.help("it names the load balancers that begin their connections with the PROXY protocol"));
        }
        let asked = self.listens(NAME, &field.value);
        for Placed { value, place } in asked.iter().filter(|asked| of.iter().all(|listen| listen.value != asked.value)) {
            let problem = Problem::new(place, format!("{NAME}: no listener is {value}"));
            self.report.problem(problem.help(
                "write it exactly as in server.listen, an upstream's listen or server.listen_redirect; listen_plain never speaks it",
            ));
        }
        asked.into_iter().map(|asked| asked.value).collect()
    }

    /// All of them together. What systemd hands over is judged when it is there.
    pub(crate) fn check_listeners(&mut self, listeners: &[Listened], allow_plaintext: bool) {
        let mut seen = HashSet::new();
        for Listened { listen: Placed { value: listen, place }, is_plain } in listeners {
            let is_any_port = listen.address().is_some_and(|address| address.port() == 0);
            if !is_any_port && !seen.insert(listen) {
                let what = if listen.address().is_some() { "the address" } else { "the socket" };
                let problem = Problem::new(place, format!("{what} {listen} is listened on twice")).label("second time");
                self.report.problem(
                    problem.help("an address leads either to all upstreams by host name (server.listen) or to one (upstream.listen)"),
                );
            }
            if let (Listen::Address(address), true, false) = (listen, *is_plain, allow_plaintext)
                && is_public(address.ip())
            {
                let problem = Problem::new(place, format!("{address} is reachable from other machines, and speaks no TLS"));
                self.report.problem(problem.label("keys would travel in clear text").help(format!(
                    "write tls = \"self-signed\" in [server], or set cert_file and key_file in [server.tls]; or listen on 127.0.0.1:{}; or, behind a TLS proxy or in a network that you trust, allow_plaintext = true in [server]",
                    address.port()
                )));
            }
        }
    }

    /// An upstream that is keygate itself would send each request round for ever.
    pub(crate) fn check_circles(&mut self, upstreams: &[upstream::Checked], listeners: &[Listened]) {
        for upstream in upstreams {
            let host = if upstream.config.host == "localhost" { "127.0.0.1" } else { &upstream.config.host };
            let Ok(address) = host.parse().map(|ip| SocketAddr::new(ip, upstream.config.port)) else { continue };
            let is_circle = |listened: &Listened| {
                listened.listen.value.address().is_some_and(|listen| {
                    let own = listen.ip();
                    listen.port() == address.port() && (own == address.ip() || (own.is_unspecified() && address.ip().is_loopback()))
                })
            };
            if listeners.iter().any(is_circle) {
                let problem = Problem::new(&upstream.url_place, format!("upstream.url leads to keygate itself ({address} is listened on)"));
                self.report.problem(problem.help("write the address of the media server, or let keygate listen on another port"));
            }
        }
    }
}

/// The default is nobody's line of the file.
pub(crate) const fn by_default(address: SocketAddr) -> Placed<Listen> {
    Placed { value: Listen::Address(address), place: Place::Nowhere }
}

fn address_help(text: &str) -> String {
    if text == "systemd" || text.starts_with(SYSTEMD) {
        return "write \"systemd:\" and the FileDescriptorName= of the socket unit (letters, digits, dot, underscore and dash), like \"systemd:https\"".to_owned();
    }
    let port = text.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse::<u16>().ok()).unwrap_or(8443);
    if text.starts_with("localhost") {
        return format!("write \"127.0.0.1:{port}\"");
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return format!("add a port: \"{text}:8443\"");
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("write brackets and a port: \"[{text}]:8443\"");
    }
    format!("write \"127.0.0.1:{port}\" for this machine alone, \"[::]:{port}\" for all addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_the_name_of_a_socket() {
        assert_eq!("[::]:443".parse::<Listen>().map(|listen| listen.to_string()), Ok("[::]:443".to_owned()));
        assert_eq!("systemd:https".parse(), Ok(Listen::Systemd("https".to_owned())));
        assert_eq!(Listen::Systemd("https".to_owned()).to_string(), "systemd:https");
        for wrong in ["", "systemd", "systemd:", "systemd:a b", "systemd:a:b", "systemd:ä", "https", ":443", "127.0.0.1"] {
            assert_eq!(wrong.parse::<Listen>(), Err(NotListen), "{wrong}");
        }
    }
}
