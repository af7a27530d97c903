//! `[admin]`: the socket, and the listener beside it.

use std::net::{IpAddr, SocketAddr};

use crate::config::check::Checker;
use crate::config::environment::DefaultPaths;
use crate::config::file::AdminSection;
use crate::config::listen::Listen;
use crate::config::problem::{Place, Problem};
use crate::config::value::{Field, Placed, Strings};
use crate::config::{Admin, is_public};

/// `[admin]`, and its listener with its place, to be judged with all others.
pub(crate) struct Checked {
    pub(crate) config: Admin,
    pub(crate) listener: Option<Placed<Listen>>,
}

impl Checker<'_> {
    /// `is_plain`: there is no TLS.
    pub(crate) fn admin(&mut self, section: AdminSection, paths: &DefaultPaths, is_plain: bool) -> Checked {
        let place = section.socket.as_ref().map_or(Place::Nowhere, |field| field.place.clone());
        let socket = self.path("admin.socket", section.socket, &paths.socket);
        // sockaddr_un.sun_path holds 108 bytes with the NUL (unix(7)).
        let length = socket.as_os_str().len();
        if length > 107 {
            let problem = Problem::new(&place, format!("admin.socket is too long for a Unix socket ({length} bytes, at most 107)"));
            self.report.problem(problem.help("choose a shorter path, like \"/run/keygate/admin.sock\""));
        }
        let listen = self.admin_listen(section.listen, is_plain);
        let config = Admin {
            socket,
            listen: listen.as_ref().map(|listen| listen.value),
            hosts: self.admin_hosts(section.hosts),
            session_lifetime: self.duration("admin.session_lifetime", &section.session_lifetime, 43_200_000, 60_000..=2_592_000_000),
            session_idle: self.duration("admin.session_idle", &section.session_idle, 3_600_000, 60_000..=2_592_000_000),
        };
        Checked { config, listener: listen.map(|Placed { value, place }| Placed { value: Listen::Address(value), place }) }
    }

    fn admin_listen(&mut self, field: Field<String>, is_plain: bool) -> Option<Placed<SocketAddr>> {
        let Placed { value: text, place } = field.filter(|field| !field.value.is_empty())?;
        let Ok(address) = text.parse::<SocketAddr>() else {
            let problem = Problem::new(&place, "admin.listen is not an address").label("expected an IP address and a port");
            self.report.problem(problem.help("write \"127.0.0.1:8444\", or \"\" for no admin listener"));
            return None;
        };
        if is_plain && is_public(address.ip()) {
            let problem = Problem::new(&place, format!("admin.listen: {address} is reachable from other machines, and there is no TLS"));
            self.report.problem(problem.label("admin tokens and the password would travel in clear text").help(format!(
                "write tls = \"self-signed\" in [server], or set cert_file and key_file in [server.tls]; or listen on 127.0.0.1:{} only \
                 (allow_plaintext does not count here)",
                address.port()
            )));
        }
        Some(Placed { value: address, place })
    }

    fn admin_hosts(&mut self, field: Field<Strings>) -> Vec<String> {
        let mut hosts = Vec::new();
        for Placed { value: text, place } in field.into_iter().flat_map(|field| field.value.0) {
            let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            if is_name || text.parse::<IpAddr>().is_ok() {
                hosts.push(text.to_ascii_lowercase());
            } else {
                let problem =
                    Problem::new(&place, "admin.hosts holds something that is no host name").label("expected a name or an address");
                self.report.problem(problem.help("write it without scheme, port and star, like \"keygate.example.org\""));
            }
        }
        hosts
    }
}
