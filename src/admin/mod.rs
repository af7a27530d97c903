//! The admin room: keys, accounts, status and reload as REST, over a Unix socket and over a listener of its own.
//!
//! The same routes serve the socket of a running gateway ([`socket`]), the admin listener ([`listener`], without what is the socket's alone)
//! and, within one process, the command line when no gateway runs: there is one form of every request and answer ([`api`]), one table that
//! says whom each route is for (`table`), and one place that does what they ask. None of it is ever on a listener of media servers. At the
//! socket, the permissions of its file and folder decide who may connect, and who did may do everything; at the listener, every request is
//! judged (`guard`) and needs an admin token or a login to the page ([`door`]). Who changed something ([`Actor`]) is in the log line of every change.

mod accounts;
pub mod actor;
pub mod api;
pub mod audit;
mod available;
pub mod certificates;
pub mod credentials;
mod desk;
pub mod door;
mod emby;
pub mod error;
pub mod explain;
mod exposition;
mod extract;
mod guard;
mod health;
pub mod key_list;
mod keys;
mod libraries;
pub mod limits;
mod lines;
pub mod listener;
pub mod metrics;
mod names;
pub mod navigation;
pub mod open;
pub mod openapi;
pub mod outstanding;
pub mod page_sessions;
mod password;
mod power;
pub mod reload;
mod router;
pub mod socket;
mod summary;
mod table;
mod upkeep;
pub mod usage;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio_util::task::TaskTracker;

use crate::admin::api::{ListenerView, Reloaded, StatusView, StoreView, TimeForgotten, UpstreamView};
use crate::admin::door::{Door, SESSION_LIMITS};
use crate::admin::error::AdminError;
use crate::admin::health::LastWriting;
use crate::admin::keys::iso;
use crate::admin::page_sessions::SessionLimits;
use crate::admin::reload::ReloadView;
use crate::audit::{Act, Field, Object, Value, Verb};
use crate::certificates::Certificates;
use crate::clock::{Clock, Timestamp};
use crate::config::Metrics;
use crate::doctor::{Examined, Finding, Verdict};
use crate::gateway::Gateway;
use crate::handouts::Handouts;
use crate::registry::{Forgotten, Registry};
use crate::server::clients::ClientAuthorities;
use crate::server::pulse::Pulses;
use crate::store::redb::RedbStore;
use crate::upstream::UpstreamName;
use crate::upstream::session::{AccountState, Sessions};
use crate::usage::Usage;

pub use actor::Actor;
pub use desk::{Desk, LibraryIds};
pub use router::router;

/// Reads the configuration again. Blocking. Gives what was taken over, or the text of all problems.
pub type Reload = dyn Fn() -> Result<TakenOver, String> + Send + Sync;

/// What a reload brought.
#[derive(Debug)]
pub struct TakenOver {
    /// What changed, one sentence each.
    pub changes: Vec<String>,
    /// The upstreams that there are now.
    pub upstreams: Vec<UpstreamView>,
}

/// Looks at the whole installation.
pub type Examine = dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Finding>> + Send>> + Send + Sync;

/// What the admin socket works with.
pub struct Admin {
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    upstreams: ArcSwap<Vec<UpstreamView>>,
    tasks: TaskTracker,
    started: Duration,
    reload: Option<Box<Reload>>,
    last_reload: ArcSwapOption<ReloadView>,
    doctor: Option<Box<Examine>>,
    config_file: Option<PathBuf>,
    store: Option<Arc<RedbStore>>,
    listeners: Vec<ListenerView>,
    certificates: Option<Arc<Certificates>>,
    clients: Option<Arc<ClientAuthorities>>,
    door: Door,
    usage: Option<Arc<Usage>>,
    handouts: Option<Arc<Handouts>>,
    running: Option<Running>,
    metrics: Metrics,
    born: Timestamp,
    last_writing: LastWriting,
}

/// What serves requests.
struct Running {
    gateway: Arc<Gateway>,
    pulses: Arc<Pulses>,
}

impl Admin {
    /// Over the one registry and the sessions it works with. `tasks` holds what must end although the asking client went away.
    pub fn new(
        registry: Arc<Registry>,
        sessions: Arc<Sessions>,
        clock: Arc<dyn Clock>,
        upstreams: Vec<UpstreamView>,
        tasks: TaskTracker,
    ) -> Self {
        let (started, born, door) = (clock.monotonic(), clock.now(), Door::new(&clock, SESSION_LIMITS));
        Self {
            registry,
            sessions,
            clock,
            upstreams: ArcSwap::from_pointee(upstreams),
            tasks,
            started,
            reload: None,
            last_reload: ArcSwapOption::empty(),
            doctor: None,
            config_file: None,
            store: None,
            listeners: Vec::new(),
            certificates: None,
            clients: None,
            door,
            usage: None,
            handouts: None,
            running: None,
            metrics: Metrics::default(),
            born,
            last_writing: LastWriting::default(),
        }
    }

    /// With a configuration file that can be read again.
    #[must_use]
    pub fn with_reload(mut self, config_file: PathBuf, reload: Box<Reload>) -> Self {
        self.config_file = Some(config_file);
        self.reload = Some(reload);
        self
    }

    /// With what looks at the whole installation.
    #[must_use]
    pub fn with_doctor(mut self, doctor: Box<Examine>) -> Self {
        self.doctor = Some(doctor);
        self
    }

    /// With the store's file, to look after it.
    #[must_use]
    pub fn with_store(mut self, store: Arc<RedbStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// With what keys are used for.
    #[must_use]
    pub fn with_usage(mut self, usage: Arc<Usage>) -> Self {
        self.usage = Some(usage);
        self
    }

    /// With what opens media without a key.
    #[must_use]
    pub fn with_handouts(mut self, handouts: Arc<Handouts>) -> Self {
        self.handouts = Some(handouts);
        self
    }

    /// With what serves requests, for metrics and health.
    #[must_use]
    pub fn with_running(mut self, gateway: Arc<Gateway>, pulses: Arc<Pulses>) -> Self {
        self.running = Some(Running { gateway, pulses });
        self
    }

    /// With what `/metrics` shall show, and to whom.
    #[must_use]
    pub const fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// With the addresses that are listened on.
    #[must_use]
    pub fn with_listeners(mut self, listeners: Vec<ListenerView>) -> Self {
        self.listeners = listeners;
        self
    }

    /// With the certificates that are served, and the authorities of clients'.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Option<Arc<Certificates>>, clients: Option<Arc<ClientAuthorities>>) -> Self {
        self.certificates = certificates;
        self.clients = clients;
        self
    }

    /// With these limits of logins to the page.
    #[must_use]
    pub fn with_session_limits(mut self, limits: SessionLimits) -> Self {
        self.door = Door::new(&self.clock, limits);
        self
    }

    /// What `keygate status` shows. Blocking.
    fn status(&self) -> Result<StatusView, AdminError> {
        let accounts = self.sessions.accounts();
        let broken = accounts.iter().filter(|account| matches!(self.sessions.state(account.id), AccountState::Broken { .. }));
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.clock.monotonic().saturating_sub(self.started).as_secs(),
            config: self.config_file.as_ref().map(|file| file.display().to_string()),
            listeners: self.listeners.clone(),
            upstreams: self.upstreams.load().iter().map(|view| self.with_health(view)).collect(),
            store: self.store.as_ref().map(|store| StoreView { path: store.path().display().to_string(), bytes: store.size() }),
            certificates: self.served_certificates(),
            accounts: accounts.len(),
            broken_accounts: broken.count(),
            account_states: self.list_accounts(None).accounts,
            keys: self.registry.count_living()?,
            open: self.open_now()?,
            time: self.clock.now().to_string(),
            clock_behind_seconds: self.clock.behind().as_secs(),
            last_reload: self.last_reload.load_full().map(|last| ReloadView::clone(&last)),
        })
    }

    fn with_health(&self, view: &UpstreamView) -> UpstreamView {
        let Some(upstream) = self.sessions.upstream(&UpstreamName::new(&view.name)) else { return view.clone() };
        let (down, heard) = (upstream.health.down(), upstream.health.heard());
        let of_tls = || Some(upstream.tls.as_ref()?.problem()?.to_string());
        let problem = down.as_ref().map(|(_, down)| down.why.clone()).or_else(of_tls);
        UpstreamView {
            reachable: if problem.is_some() { Some(false) } else { heard.map(|_| true) },
            down_since: down.as_ref().map(|(for_so_long, _)| iso(self.clock.now().minus(*for_so_long))),
            problem,
            version: upstream.health.version().map(|version| String::clone(&version)),
            ..view.clone()
        }
    }

    /// Looks at the whole installation.
    async fn examine(&self, asked_by: Actor) -> Result<Examined, AdminError> {
        let Some(doctor) = &self.doctor else {
            return Err(AdminError::Invalid("this gateway cannot be looked at as a whole: it has no listeners of its own".into()));
        };
        let findings = doctor().await;
        let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
        tracing::info!(checks = findings.len(), failed, "the installation was looked at, asked by {asked_by}");
        Ok(Examined { findings })
    }

    /// Judges keys by the machine's clock again. Blocking.
    fn forget_time(&self, asked_by: Actor) -> Result<TimeForgotten, AdminError> {
        let Forgotten { before, now } = self.acting(asked_by).forget_time()?;
        tracing::warn!("keys are judged by the machine's clock again, {now}, and not by {before} any more: asked by {asked_by}");
        Ok(TimeForgotten { before: before.to_string(), now: now.to_string() })
    }

    /// Reads the configuration again; a wrong one changes nothing. `by`: who asked for it; `None`: a signal. Blocking.
    ///
    /// # Errors
    /// [`AdminError::Config`] with all problems; [`AdminError::Invalid`] when there is no file.
    pub fn reload(&self, by: Option<Actor>) -> Result<Reloaded, AdminError> {
        let Some(reload) = &self.reload else {
            return Err(AdminError::Invalid("this gateway was started without a configuration file: there is nothing to reload".into()));
        };
        let asked_by = by.map_or_else(|| "SIGHUP".to_owned(), |actor| actor.to_string());
        let registry = by.map_or_else(|| self.registry.by(crate::audit::Actor::Signal), |actor| self.acting(actor));
        let outcome = reload();
        self.last_reload.store(Some(Arc::new(ReloadView::new(&outcome, self.clock.now(), &asked_by))));
        match outcome {
            Ok(TakenOver { changes, upstreams }) => {
                self.upstreams.store(Arc::new(upstreams));
                let what = if changes.is_empty() { "nothing changed".to_owned() } else { changes.join("; ") };
                tracing::info!("configuration read again, asked by {asked_by}: {what}");
                let act = Act::new(Verb::Reloaded, Object::configuration());
                write_down(&registry, act.with([Field::new("changes", Value::text(&what))]));
                Ok(Reloaded { changes })
            }
            Err(problems) => {
                tracing::warn!(
                    "the configuration has problems and was not taken over (asked by {asked_by}); the old one stays in force:\n{problems}"
                );
                let act = Act::new(Verb::Reloaded, Object::configuration());
                write_down(&registry, act.with([Field::new("changes", "none: it has problems")]));
                Err(AdminError::Config(problems))
            }
        }
    }
}

impl Admin {
    /// The registry in somebody's hand: the audit log says that it was they. Blocking.
    fn acting(&self, actor: Actor) -> Registry {
        let name = |id| self.registry.admin_tokens().ok()?.into_iter().find(|token| token.id == id).map(|token| token.name);
        self.registry.by(actor.audited(name))
    }

    /// Writes down what was done elsewhere than in the store's records. What is done stays done if that fails. Blocking.
    fn recorded(&self, act: Act, actor: Actor) {
        write_down(&self.acting(actor), act);
    }
}

fn write_down(registry: &Registry, act: Act) {
    if let Err(error) = registry.record(act) {
        tracing::error!(%error, "the audit log could not be written");
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("upstreams", &self.upstreams).field("config_file", &self.config_file).finish_non_exhaustive()
    }
}
