//! The configuration: every value in here is usable as it is.
//!
//! `file` is the shape of the TOML, `value` reads single values, `check`, `upstream` and `trust` judge them together, `environment` is all
//! that comes from outside, `load` the ways in, and [`problem`] is what can be wrong: everything at once, with line and caret.

mod acme;
mod admin;
mod certificates;
mod check;
mod environment;
mod file;
mod listen;
pub(crate) mod load;
pub mod problem;
mod redact;
mod similar;
pub mod source;
#[cfg(test)]
mod tests;
pub mod tls;
mod traces;
mod trust;
mod upstream;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use crate::config::acme::{AcmeChallenge, AcmeEab, AcmeSettings, DnsHook};
pub use crate::config::listen::{Listen, NotListen, descriptor_names};
pub use crate::config::load::Outside;
use crate::config::source::SecretSource;
pub use crate::config::traces::{Endpoint, HeadersError, Share, Traces};
use crate::upstream::client::Timeouts;
use crate::upstream::tls::Trust;
use crate::upstream::{Kind, UpstreamName};

/// A configuration in which nothing is missing and nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from; `None` for `serve --upstream`.
    pub file: Option<PathBuf>,
    /// Listeners and what they trust.
    pub server: Server,
    /// Limits toward clients.
    pub limits: Limits,
    /// The store and its master key.
    pub store: Store,
    /// The admin socket.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// The audit log.
    pub audit: Audit,
    /// Counting.
    pub usage: Usage,
    /// What `/metrics` shows, and to whom.
    pub metrics: Metrics,
    /// Where spans of requests go; `None`: there are none.
    pub traces: Option<Traces>,
    /// At least one.
    pub upstreams: Vec<UpstreamConfig>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses that serve every upstream by host name.
    pub listen: Vec<Listen>,
    /// Addresses that do the same in plain HTTP, certificate or not: for programs on this machine.
    pub listen_plain: Vec<Listen>,
    /// Addresses that only lead to https.
    pub listen_redirect: Vec<Listen>,
    /// The port that clients find https on; 0: that of the first TLS listener.
    pub https_port: u16,
    /// Whether keys may travel in clear text on addresses that other machines can reach.
    pub allow_plaintext: bool,
    /// How all listeners but the plain and the redirecting ones speak TLS; `None`: they do not.
    pub tls: Option<Tls>,
    /// Peers that must begin each connection with a PROXY header; not on plain listeners.
    pub proxy_protocol: Vec<IpNet>,
    /// The listeners at which they must, as they stand in the configuration; empty: all but the plain ones.
    pub proxy_protocol_listen: Vec<Listen>,
    /// Peers whose `X-Forwarded-For` is believed, from the right.
    pub trusted_proxies: Vec<IpNet>,
    /// Threads for traffic, each with a runtime of its own.
    pub threads: usize,
    /// How long SIGTERM waits for running requests.
    pub drain_timeout: Duration,
}

impl Server {
    /// Whether load balancers may say at this listener for whom their connections are.
    pub fn takes_proxies(&self, listener: &Listen) -> bool {
        self.proxy_protocol_listen.is_empty() || self.proxy_protocol_listen.contains(listener)
    }
}

/// `[server.tls]`, when it is not off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where certificates come from.
    pub source: CertificateSource,
    /// Listeners at which clients need a certificate too, beside their key.
    pub client_ca: Option<ClientCa>,
    /// How long browsers shall come by TLS only; zero: they are not told to.
    pub hsts: Duration,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files that somebody else keeps up to date. At least one pair; the first is for clients that name no host or an unknown one.
    Files(Vec<TlsFiles>),
    /// keygate's own authority.
    SelfSigned(SelfSigned),
    /// An ACME server, asked by keygate itself.
    Acme(Box<AcmeSettings>),
}

impl CertificateSource {
    /// As the file calls it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::SelfSigned(_) => "self-signed",
            Self::Acme(_) => "acme",
        }
    }
}

/// keygate's own authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// Where it is kept.
    pub folder: PathBuf,
    /// Names and addresses beside those that this machine has.
    pub names: Vec<String>,
}

/// Who signs the certificates of clients, and where they must show one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM, one or more authorities.
    pub file: PathBuf,
    /// The listeners, as they stand in the configuration; empty: all that speak TLS, also on sockets of systemd's.
    pub listen: Vec<Listen>,
}

impl ClientCa {
    /// Whether clients of this listener need a certificate.
    pub fn is_for(&self, listener: &Listen) -> bool {
        self.listen.is_empty() || self.listen.contains(listener)
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
}

/// `[limits]`. Idle limits only: nothing limits how long a film may play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections in all; 0 stands for as many as the descriptors allow.
    pub max_connections: usize,
    /// Open client connections from one address (IPv6: one /64); loopback and trusted proxies are exempt. 0: no limit.
    pub max_connections_per_address: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Bytes of a request's target.
    pub max_uri_bytes: usize,
    /// Until a request's head is complete; the TLS handshake has the same limit, and so has a socket of Audiobookshelf until its `auth`.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub keep_alive_timeout: Duration,
    /// While a body or a socket moves no byte.
    pub idle_timeout: Duration,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The redb file.
    pub path: PathBuf,
    /// Where the master key comes from.
    pub master_key: SecretSource,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Where the admin listener is; `None`: there is none. With TLS unless it is loopback.
    pub listen: Option<SocketAddr>,
    /// Names by which the listener may be asked, beside its address and `localhost`; lower case, without port.
    pub hosts: Vec<String>,
    /// How long a login to the page lasts.
    pub session_lifetime: Duration,
    /// How long it lasts without a request.
    pub session_idle: Duration,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
    /// Whether each request gets a line.
    pub access: bool,
}

/// `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How long lines are kept.
    pub keep: Duration,
    /// Most lines.
    pub max_entries: u64,
}

/// `[usage]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whether it is counted what keys are used for.
    pub is_enabled: bool,
    /// How often that is written down: so much of it is lost when the power is.
    pub flush: Duration,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Whether keys have figures of their own, by their ids.
    pub per_key: bool,
    /// Whether programs on this machine read them at the admin listener without a token.
    pub open: bool,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text with colours on a terminal, plain text elsewhere.
    Text,
    /// One JSON object a line.
    Json,
}

/// One `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: UpstreamName,
    /// What it is.
    pub kind: Kind,
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whom connections trust, for an `https://` URL.
    pub tls: Option<Trust>,
    /// Public host names that lead here, lower case, without port. Empty: every host (a single upstream, or one with `listen`).
    pub hosts: Vec<String>,
    /// Addresses that lead to this upstream whatever the host name.
    pub listen: Vec<Listen>,
    /// `/prefix` of the upstream or empty.
    pub base_path: String,
    /// Limits.
    pub timeouts: Timeouts,
    /// Whether each key has a session of its own.
    pub session_per_key: bool,
    /// Whether the client's Host is forwarded (else the upstream's own address).
    pub forward_host: bool,
    /// The server's own web files without a key.
    pub web_ui: Access,
    /// Pictures without a key.
    pub images: Access,
    /// Share pages and RSS feeds without a key (Audiobookshelf).
    pub shares: Access,
    /// People's own logins at the server, beside keys.
    pub native_logins: Access,
}

/// A switch for requests without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A key is needed.
    Refuse,
    /// Forwarded without one.
    Pass,
}

/// Whether an address is reachable from other machines: then TLS is needed, or plain text allowed in so many words.
pub fn is_public(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}
