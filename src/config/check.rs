//! From the shape of the file to a [`Config`] in which every value is usable. Nothing here stops at the first problem.

use std::net::SocketAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::config::environment::{DefaultPaths, Environment};
use crate::config::file::{AuditSection, File, LimitsSection, LogSection, ServerSection, StoreSection, UsageSection};
use crate::config::listen::{self, Listen, Listened};
use crate::config::problem::{Place, Problem, Report};
use crate::config::source::SecretSource;
use crate::config::value::{Field, OneOf, Placed, Size, Strings, TlsMode};
use crate::config::{Audit, Config, Limits, Log, LogFormat, Metrics, Outside, Server, Store, Tls, Usage, certificates, upstream};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);
const DAY_MILLIS: u64 = 86_400_000;
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// What the checks share.
pub(crate) struct Checker<'a> {
    /// Relative paths are below this.
    pub(crate) folder: PathBuf,
    /// Variables and user.
    pub(crate) environment: &'a Environment,
    /// Whether files and secrets are looked at.
    pub(crate) outside: Outside,
    /// What was found.
    pub(crate) report: &'a mut Report,
}

impl Checker<'_> {
    /// The configuration, complete with defaults. It is of use only when the report holds no problem.
    pub(crate) fn config(&mut self, mut file: File, path: Option<&Path>) -> Config {
        let paths = self.environment.default_paths(path);
        let upstreams = upstream::check(self, std::mem::take(&mut file.upstreams));
        let default_listen = upstreams.is_empty() || upstreams.iter().any(|upstream| upstream.config.listen.is_empty());
        let hosts: Vec<String> = upstreams.iter().flat_map(|upstream| upstream.config.hosts.iter().cloned()).collect();
        let tls = self.tls(&file, &hosts, &paths);
        // What the file says of TLS counts, not whether the files are good: one mistake, one message.
        let plain = certificates::mode(&file) == TlsMode::Off;
        let allow_plaintext = file.server.allow_plaintext.as_ref().is_some_and(|allow| allow.value);
        let plain_listeners =
            file.server.listen_plain.as_ref().map(|listen| self.listens("server.listen_plain", &listen.value)).unwrap_or_default();
        let redirects = file.server.listen_redirect.clone();
        let proxied = file.server.proxy_protocol_listen.clone();
        let admin = self.admin(file.admin, &paths, plain);
        let (mut server, mut listeners) = self.server(file.server, tls, default_listen);
        server.listen_plain = plain_listeners.iter().map(|listener| listener.value.clone()).collect();
        listeners.extend(upstreams.iter().flat_map(|upstream| upstream.listeners.iter().cloned()));
        if !plain {
            self.client_ca_listens(&file.tls, &listeners);
        }
        let redirects = self.redirects(redirects.as_ref(), plain);
        server.listen_redirect = redirects.iter().map(|listener| listener.value.clone()).collect();
        server.proxy_protocol_listen = self.proxied(proxied.as_ref(), &server, &[&listeners[..], &redirects].concat());
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|listen| Listened { listen, is_plain: plain })
            .chain(plain_listeners.into_iter().map(|listen| Listened { listen, is_plain: true }))
            .chain(redirects.into_iter().map(|listen| Listened { listen, is_plain: false }))
            .chain(admin.listener.map(|listen| Listened { listen, is_plain: false }))
            .collect();
        self.check_listeners(&listeners, allow_plaintext);
        self.check_circles(&upstreams, &listeners);
        Config {
            file: path.map(Path::to_owned),
            server,
            limits: self.limits(&file.limits),
            store: self.store(file.store, &paths),
            admin: admin.config,
            log: self.log(file.log),
            audit: self.audit(&file.audit),
            usage: self.usage(&file.usage),
            metrics: Metrics { per_key: is_on(&file.metrics.per_key), open: is_on(&file.metrics.open) },
            traces: self.traces(file.traces),
            upstreams: upstreams.into_iter().map(|upstream| upstream.config).collect(),
        }
    }

    fn server(&mut self, section: ServerSection, tls: Option<Tls>, default_listen: bool) -> (Server, Vec<Placed<Listen>>) {
        let listeners = match &section.listen {
            Some(listen) => self.listens("server.listen", &listen.value),
            None if default_listen => vec![listen::by_default(DEFAULT_LISTEN)],
            None => Vec::new(),
        };
        if let (Some(listen), true, true) = (&section.listen, default_listen, listeners.is_empty())
            && listen.value.0.is_empty()
        {
            let problem = Problem::new(&listen.place, "server.listen is empty, but an upstream has no address of its own");
            self.report.problem(problem.help("write listen = [\"127.0.0.1:8443\"], or give every [[upstream]] a listen"));
        }
        let threads = match self.number("server.threads", section.threads, 0, 0..=1024) {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        };
        let server = Server {
            listen: listeners.iter().map(|listener| listener.value.clone()).collect(),
            listen_plain: Vec::new(),
            listen_redirect: Vec::new(),
            https_port: u16::try_from(self.number("server.https_port", section.https_port, 0, 0..=65_535)).unwrap_or(0),
            allow_plaintext: section.allow_plaintext.is_some_and(|allow| allow.value),
            tls,
            proxy_protocol: self.networks("server.proxy_protocol", section.proxy_protocol),
            proxy_protocol_listen: Vec::new(),
            trusted_proxies: self.networks("server.trusted_proxies", section.trusted_proxies),
            threads,
            drain_timeout: self.duration("server.drain_timeout", &section.drain_timeout, 30_000, 0..=3_600_000),
        };
        (server, listeners)
    }

    fn networks(&mut self, name: &str, field: Field<Strings>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for Placed { value: text, place } in field.into_iter().flat_map(|field| field.value.0) {
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().map(IpNet::from).ok());
            match network {
                Some(network) => {
                    if network.prefix_len() == 0 {
                        let problem = Problem::new(&place, format!("{name} believes everybody: client addresses can be forged"));
                        self.report.warning(problem.help("name the proxies in front of keygate only"));
                    }
                    networks.push(network.trunc());
                }
                None => self.report.problem(
                    Problem::new(&place, format!("{name} holds something that is not a network"))
                        .label("expected an address or a network")
                        .help("write an address like \"192.168.1.2\" or a network like \"10.0.0.0/8\" or \"fd00::/8\""),
                ),
            }
        }
        networks
    }

    fn limits(&mut self, section: &LimitsSection) -> Limits {
        let header = self.size("limits.max_header_bytes", &section.max_header_bytes, 32 << 10, 8 << 10..=1 << 20);
        let uri = self.size("limits.max_uri_bytes", &section.max_uri_bytes, 16 << 10, 256..=65_534);
        let uri_place = section.max_uri_bytes.as_ref().map(|field| &field.place);
        let place = uri_place.or_else(|| section.max_header_bytes.as_ref().map(|field| &field.place));
        if let (Some(field), true) = (place, uri > header) {
            let problem = Problem::new(field, format!("limits.max_uri_bytes ({uri}) is larger than limits.max_header_bytes ({header})"));
            self.report.problem(problem.help("the target is a part of the head: make the one smaller or the other larger"));
        }
        let per_address = section.max_connections_per_address.clone();
        Limits {
            max_connections: self.number("limits.max_connections", section.max_connections.clone(), 0, 0..=10_000_000),
            max_connections_per_address: self.number("limits.max_connections_per_address", per_address, 256, 0..=10_000_000),
            max_header_bytes: header,
            max_headers: self.number("limits.max_headers", section.max_headers.clone(), 100, 16..=1000),
            max_uri_bytes: uri,
            header_timeout: self.duration("limits.header_timeout", &section.header_timeout, 10_000, 100..=600_000),
            keep_alive_timeout: self.duration("limits.keep_alive_timeout", &section.keep_alive_timeout, 60_000, 100..=3_600_000),
            idle_timeout: self.duration("limits.idle_timeout", &section.idle_timeout, 600_000, 1_000..=86_400_000),
        }
    }

    fn store(&mut self, section: StoreSection, paths: &DefaultPaths) -> Store {
        let path = self.path("store.path", section.path, &paths.store);
        let (master_key, place) = match section.master_key {
            Some(field) => (field.value.below(&self.folder), field.place),
            None => (SecretSource::File(paths.master_key.clone()), Place::Nowhere),
        };
        if let Some(text) = master_key.warning() {
            self.report.warning(Problem::new(&place, text));
        }
        if self.outside == Outside::Look {
            self.look_at_master_key(&master_key, &place, path.exists());
        }
        Store { path, master_key }
    }

    /// A missing key file is fine as long as there is no store: both are made together.
    fn look_at_master_key(&mut self, source: &SecretSource, place: &Place, store_exists: bool) {
        use crate::config::source::SourceError;
        match source.read_in(self.environment) {
            Ok(_) => {}
            Err(SourceError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound && !store_exists => {}
            Err(error @ SourceError::NoCredentials(_)) => {
                self.report.warning(Problem::new(place, format!("store.master_key was not looked at: {error}")));
            }
            Err(error) => self.report.problem(
                Problem::new(place, format!("store.master_key: {error}"))
                    .help("the store cannot be opened without the master key that it was made with"),
            ),
        }
    }

    fn log(&mut self, section: LogSection) -> Log {
        let Placed { value: level, place } = section.level.unwrap_or_else(|| Placed { value: "info".to_owned(), place: Place::Nowhere });
        // A single unknown word would be a valid filter, for a module of that name.
        let one_word = !level.contains(['=', ',']);
        if (one_word && !LEVELS.contains(&level.as_str())) || EnvFilter::try_new(&level).is_err() {
            let close = crate::config::similar::closest(&level.to_ascii_lowercase(), &LEVELS);
            let help = close.map_or_else(
                || "write error, warn, info, debug, trace or off, or a filter like \"info,keygate::session=debug\"".to_owned(),
                |word| format!("did you mean \"{word}\"?"),
            );
            self.report.problem(Problem::new(&place, "log.level is not a level").help(help));
        }
        let OneOf(format) = section.format.map_or(OneOf(LogFormat::Text), |field| field.value);
        Log { level, format, access: section.access.is_none_or(|field| field.value) }
    }

    fn audit(&mut self, section: &AuditSection) -> Audit {
        Audit {
            keep: self.duration("audit.keep", &section.keep, 365 * DAY_MILLIS, DAY_MILLIS..=3_650 * DAY_MILLIS),
            max_entries: self.number("audit.max_entries", section.max_entries.clone(), 100_000, 1_000..=10_000_000) as u64,
        }
    }

    fn usage(&mut self, section: &UsageSection) -> Usage {
        Usage {
            is_enabled: section.enabled.as_ref().is_none_or(|field| field.value),
            flush: self.duration("usage.flush", &section.flush, 10_000, 1_000..=3_600_000),
        }
    }

    pub(crate) fn path(&mut self, name: &str, field: Field<String>, default: &Path) -> PathBuf {
        let Some(Placed { value, place }) = field else { return default.to_owned() };
        if value.is_empty() || value.contains('\0') {
            self.report.problem(
                Problem::new(&place, format!("{name} must name a file")).help(format!("the default is \"{}\"", default.display())),
            );
        }
        self.folder.join(value)
    }

    fn number(&mut self, name: &str, field: Field<u64>, default: usize, range: RangeInclusive<u64>) -> usize {
        let Some(Placed { value, place }) = field else { return default };
        if !range.contains(&value) {
            let problem = Problem::new(&place, format!("{name} is out of range"));
            self.report.problem(problem.help(format!("from {} to {}; the default is {default}", range.start(), range.end())));
        }
        usize::try_from(value).unwrap_or(default)
    }

    fn size(&mut self, name: &str, field: &Field<Size>, default: usize, range: RangeInclusive<u64>) -> usize {
        self.number(name, field.as_ref().map(|field| Placed { value: field.value.0, place: field.place.clone() }), default, range)
    }

    /// Default and range are in milliseconds.
    pub(crate) fn duration(&mut self, name: &str, field: &Field<Duration>, default: u64, range: RangeInclusive<u64>) -> Duration {
        let Some(Placed { value, place }) = field else { return Duration::from_millis(default) };
        if !range.contains(&u64::try_from(value.as_millis()).unwrap_or(u64::MAX)) {
            let [least, most, usual] = [*range.start(), *range.end(), default].map(show_millis);
            let problem = Problem::new(place, format!("{name} is out of range"));
            self.report.problem(problem.help(format!("from \"{least}\" to \"{most}\"; the default is \"{usual}\"")));
        }
        *value
    }
}

/// Milliseconds as the file writes them.
fn is_on(field: &Field<bool>) -> bool {
    field.as_ref().is_some_and(|field| field.value)
}

fn show_millis(millis: u64) -> String {
    match millis {
        m if m % 3_600_000 == 0 && m > 0 => format!("{}h", m / 3_600_000),
        m if m % 60_000 == 0 && m > 0 => format!("{}m", m / 60_000),
        m if m % 1000 == 0 => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}
