//! A whole gateway on a free port in front of stand-in media servers, and clients to ask it with.

pub(crate) mod authority;
pub(crate) mod daemon;
pub(crate) mod front;
pub(crate) mod http;
pub(crate) mod net;
pub(crate) mod python;
pub(crate) mod socket;
pub(crate) mod spelling;
pub(crate) mod sweep;
pub(crate) mod tls;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keygate::app::{App, Keep};
use keygate::certificates::Served;
use keygate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use keygate::config::source::SecretSource;
use keygate::config::{Access, Admin, Audit, Config, Limits, Log, LogFormat, Metrics, Server, Store as StoreConfig, UpstreamConfig, Usage};
use keygate::demo::{Options, StandIn};
use keygate::gateway::routing::Settings;
use keygate::keys::{ApiKey, KeyHasher, Scopes};
use keygate::registry::NewKey;
use keygate::secret::Secret;
use keygate::store::Store;
use keygate::store::memory::MemoryStore;
use keygate::store::records::AccountRecord;
use keygate::upstream::client::Timeouts;
use keygate::upstream::{Credential, Kind, UpstreamName};
use sweep::Sweep;

/// The password of the stand-ins' user `alice`.
pub(crate) const ALICE_PASSWORD: &str = "alice-password";

/// A stand-in, a gateway in front of it, an account `alice` with her password, and a key for her.
pub(crate) struct Rig {
    pub(crate) standin: StandIn,
    pub(crate) app: Option<App>,
    pub(crate) address: SocketAddr,
    pub(crate) account: AccountRecord,
    pub(crate) key: ApiKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) config: Config,
    /// Looks through all that the gateway lets out, and fails the test at the rig's end if a secret was in it.
    pub(crate) sweep: Arc<Sweep>,
}

/// What differs from the usual rig.
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) options: Options,
    pub(crate) adjust: Box<dyn FnOnce(&mut Config) + Send>,
    pub(crate) credential: Option<Credential>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) certificates: Option<Arc<Served>>,
}

impl Setup {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            options: Options::default(),
            adjust: Box::new(|_| ()),
            credential: None,
            clock: Arc::new(SystemClock::new()),
            certificates: None,
        }
    }

    /// With a change to the configuration.
    pub(crate) fn with(mut self, adjust: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.adjust = Box::new(adjust);
        self
    }

    /// With a stand-in that behaves otherwise.
    pub(crate) fn standin(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    pub(crate) fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    pub(crate) fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// With TLS, by this certificate for every name.
    pub(crate) fn tls(self, certificate: Arc<rustls::sign::CertifiedKey>) -> Self {
        self.served(Arc::new(Served::new([certificate])))
    }

    /// With TLS, by these certificates.
    pub(crate) fn served(mut self, certificates: Arc<Served>) -> Self {
        self.certificates = Some(certificates);
        self
    }

    pub(crate) async fn start(self) -> Rig {
        let standin = StandIn::start(self.kind, self.options).await.expect("a stand-in on a free port");
        let port = standin.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the stand-in's port");
        let mut config = config(vec![upstream("media", self.kind, port)]);
        (self.adjust)(&mut config);
        let credential = self.credential.unwrap_or_else(|| Credential::Password(Secret::from(ALICE_PASSWORD)));
        let sweep = swept(&standin, &credential);
        let store = Arc::new(MemoryStore::new());
        let keep = keep(&config, Arc::clone(&store) as Arc<dyn Store>, &self.clock);
        let settings = Settings::new(&config, None);
        let app = App::start(&config, settings, keep, self.certificates).expect("the gateway starts");
        sweep.cover(app.addresses());
        let account = app.keep.registry.add_account(config.upstreams[0].name.clone(), "alice".to_owned(), credential).expect("an account");
        let key = make_key(&app.keep, "test key", &account);
        let address = app.addresses()[0];
        sweep.keep_secret(key.expose());
        Rig { standin, app: Some(app), address, account, key, clock: self.clock, store, config, sweep }
    }
}

/// A sweep for a gateway in front of a stand-in, whose account has this credential.
fn swept(standin: &StandIn, credential: &Credential) -> Arc<Sweep> {
    sweep::logs::listen();
    let sweep = Arc::new(Sweep::default());
    sweep.watch(standin);
    let (Credential::Password(text) | Credential::Token(text)) = credential else { return sweep };
    sweep.keep_secret(text.expose());
    sweep
}

impl Rig {
    /// The usual rig for a kind.
    pub(crate) async fn new(kind: Kind) -> Self {
        Setup::new(kind).start().await
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().expect("running")
    }

    pub(crate) fn keep(&self) -> &Keep {
        &self.app().keep
    }

    /// The text of the rig's key.
    pub(crate) fn secret(&self) -> &str {
        self.key.expose()
    }

    /// One more key for alice.
    pub(crate) fn another_key(&self, name: &str) -> ApiKey {
        let key = make_key(self.keep(), name, &self.account);
        self.sweep.keep_secret(key.expose());
        key
    }

    /// The gateway that runs from now on.
    pub(crate) fn run(&mut self, app: App) {
        self.sweep.cover(app.addresses());
        self.address = app.addresses()[0];
        self.app = Some(app);
    }

    /// A GET with the key as a bearer token.
    pub(crate) async fn get(&self, path: &str) -> http::Answer {
        http::get(self.address, path, &[("authorization", &format!("Bearer {}", self.secret()))]).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            // Threads of cores must not outlive the test; what hangs is cut.
            std::thread::spawn(move || app.server.shut_down(Duration::ZERO)).join().expect("the server stops");
        }
        self.sweep.finish();
    }
}

/// A key that acts for an account.
pub(crate) fn make_key(keep: &Keep, name: &str, account: &AccountRecord) -> ApiKey {
    let new = NewKey {
        name: name.to_owned(),
        account: account.id,
        expires_at: None,
        is_active: true,
        scopes: Scopes::FULL,
        libraries: None,
        limits: keygate::limits::Limits::default(),
        created_by: "test".to_owned(),
    };
    keep.registry.create_key(new).expect("a key").key
}

/// Everything over a store, with a fixed pepper.
pub(crate) fn keep(config: &Config, store: Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Keep {
    let hasher = KeyHasher::new(&Secret::new([7; 32]));
    Keep::load(store, hasher, &Settings::new(config, None), Arc::clone(clock), tokio::runtime::Handle::current()).expect("the store loads")
}

/// A manual clock that stands at the machine's time, so that stand-ins and gateway agree at the start.
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(SystemClock::new().now().as_millis())))
}

/// Waits until something is so, which must be soon.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + http::PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < patience, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A configuration for tests: loopback, a free port, two cores, defaults elsewhere.
pub(crate) fn config(upstreams: Vec<UpstreamConfig>) -> Config {
    Config {
        file: None,
        server: Server {
            listen: vec!["127.0.0.1:0".parse().expect("address")],
            listen_plain: Vec::new(),
            listen_redirect: Vec::new(),
            https_port: 0,
            allow_plaintext: false,
            tls: None,
            proxy_protocol: Vec::new(),
            proxy_protocol_listen: Vec::new(),
            trusted_proxies: Vec::new(),
            threads: 2,
            drain_timeout: Duration::from_secs(5),
        },
        limits: Limits {
            max_connections: 0,
            max_connections_per_address: 0,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_uri_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
        },
        store: StoreConfig { path: "unused".into(), master_key: SecretSource::File("unused".into()) },
        admin: Admin {
            socket: "unused".into(),
            listen: None,
            hosts: Vec::new(),
            session_lifetime: Duration::from_secs(12 * 3600),
            session_idle: Duration::from_secs(3600),
        },
        audit: Audit { keep: Duration::from_secs(365 * 86_400), max_entries: 10_000 },
        // Not within a test: faults on demand are for commits that the test makes.
        usage: Usage { is_enabled: true, flush: Duration::from_secs(3600) },
        metrics: Metrics::default(),
        traces: None,
        log: Log { level: "info".to_owned(), format: LogFormat::Text, access: true },
        upstreams,
    }
}

/// An upstream on a port of loopback, as the defaults have it.
pub(crate) fn upstream(name: &str, kind: Kind, port: u16) -> UpstreamConfig {
    UpstreamConfig {
        name: UpstreamName::new(name),
        kind,
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        hosts: Vec::new(),
        listen: Vec::new(),
        base_path: String::new(),
        timeouts: Timeouts { connect: Duration::from_secs(5), response_header: Duration::from_secs(60), pool_idle: Duration::from_secs(4) },
        session_per_key: kind != Kind::Audiobookshelf,
        forward_host: true,
        web_ui: Access::Refuse,
        images: if kind == Kind::Emby { Access::Refuse } else { Access::Pass },
        shares: Access::Refuse,
        native_logins: Access::Refuse,
    }
}

/// A running `keygate demo`; it is killed when this is dropped.
pub(crate) struct Demo(std::process::Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    /// Sends it a signal (`TERM`) and waits for its end: its exit code.
    pub(crate) async fn end(&mut self, signal: &str) -> Option<i32> {
        let sent = std::process::Command::new("kill").args([format!("-{signal}"), self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let mut ended = None;
        until("the demo ends", || {
            ended = self.0.try_wait().expect("its state");
            ended.is_some()
        })
        .await;
        ended.and_then(|status| status.code())
    }
}

/// The real program as `keygate demo -o json`: its description, and what keeps it running.
pub(crate) async fn demo() -> (serde_json::Value, Demo) {
    demo_in(None).await
}

/// The same with a folder for its temporary ones.
pub(crate) async fn demo_in(folder: Option<&std::path::Path>) -> (serde_json::Value, Demo) {
    use std::io::BufRead;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_keygate"))
        .envs(folder.map(|folder| ("TMPDIR", folder)))
        .args(["demo", "-o", "json"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let stdout = child.stdout.take().expect("piped");
    let demo = Demo(child);
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let line = line.await.expect("read").expect("one line");
    (serde_json::from_str(&line).expect("one JSON object"), demo)
}
