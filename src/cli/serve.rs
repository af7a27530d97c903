//! `keygate serve`: the daemon, from its configuration to its last connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::server::ResolvesServerCert;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::api::ListenerView;
use crate::admin::listener::{self, AdminListener};
use crate::admin::page_sessions::SessionLimits;
use crate::admin::socket::{self, AdminSocket, SocketAccess};
use crate::admin::{Admin, Reload, TakenOver};
use crate::app::{self, App, Keep};
use crate::audit::Bounds;
use crate::certificates::{Certificates, Served, acme};
use crate::cli::failure::Failure;
use crate::cli::signals::{Asked, Signals};
use crate::cli::{Global, doctor, housekeeping, init, open, process, timekeeping, tls, watchdog};
use crate::clock::{Clock, SystemClock};
use crate::config::problem::Warning;
use crate::config::{Config, is_public};
use crate::gateway::Gateway;
use crate::gateway::routing::Settings;
use crate::page;
use crate::server::activation::Activated;
use crate::server::clients::ClientAuthorities;
use crate::server::listener::{Listener, Purpose};
use crate::server::tls::Acceptor;
use crate::upstream::client::Upstream;
use crate::upstream::survey::{Judged, judge, survey};
use crate::upstream::{Kind, UpstreamName};

/// How often changes are written again that hold in memory and are not yet durable.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// How often an upstream that is down is tried, when no request does it.
const LOOK_AT_DOWN_EVERY: Duration = Duration::from_secs(5);

/// How often an upstream is looked at that no request goes to.
const LOOK_AT_QUIET_EVERY: Duration = Duration::from_secs(300);

/// `keygate serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Serve this one media server without a configuration file, for example <http://127.0.0.1:13378>
    #[arg(long, value_name = "URL", requires = "listen")]
    pub upstream: Option<String>,
    /// What the media server is; found out when left away
    #[arg(long, value_parser = kind, requires = "upstream", value_name = "audiobookshelf|emby|jellyfin")]
    pub kind: Option<Kind>,
    /// Listen here, for example 127.0.0.1:8080; with --upstream
    #[arg(long, value_name = "ADDR", requires = "upstream")]
    pub listen: Option<SocketAddr>,
}

/// A kind on the command line.
pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| format!("one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

/// Runs the gateway until it is stopped.
///
/// # Errors
/// [`Failure`], before it listens.
pub fn run(args: &ServeArgs, global: &Global) -> Result<(), Failure> {
    process::harden();
    // Before there are threads: it changes the environment.
    let activated = Activated::of_process();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        let (mut config, warnings) = configuration(args, global).await?;
        if global.verbose > 0 {
            config.log.level = if global.verbose > 1 { "trace" } else { "debug" }.to_owned();
        }
        let _log = crate::telemetry::start(&config.log).map_err(|error| Failure::usage(error.to_string()))?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Daemon::start(config, activated)?.run().await
    })
}

async fn configuration(args: &ServeArgs, global: &Global) -> Result<(Config, Vec<Warning>), Failure> {
    let Some(url) = &args.upstream else {
        return open::config(global);
    };
    let listen = args.listen.map(|listen| listen.to_string());
    let of_kind = |kind| Config::for_upstream(url, listen.as_deref(), kind).map_err(open::problems);
    if let Some(kind) = args.kind {
        return of_kind(kind);
    }
    of_kind(init::recognise(url, listen.as_deref()).await?.kind)
}

struct Daemon {
    app: App,
    config: Config,
    admin: Arc<Admin>,
    socket: AdminSocket,
    listener: Option<AdminListener>,
    background: Background,
    clock: Arc<dyn Clock>,
    certificates: Option<Arc<Certificates>>,
}

/// Tasks beside the requests, and their end.
#[derive(Clone)]
struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Looks at upstreams that nobody has asked for yet, or that have another address now.
    fn look_at(&self, upstreams: impl IntoIterator<Item = Arc<Upstream>>, runtime: &Handle) {
        for upstream in upstreams {
            self.tasks.spawn_on(look_at(upstream, self.stop.clone()), runtime);
        }
    }
}

impl Daemon {
    fn start(mut config: Config, mut activated: Activated) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
        process::raise_descriptor_limit();
        if config.limits.max_connections == 0 {
            config.limits.max_connections = process::affordable_connections();
        }
        let opened = app::open_store(&config).map_err(|error| open::OpenError::from(error).into_failure(&config.admin.socket))?;
        if let Some(warning) = &opened.warning {
            tracing::warn!("{warning}");
        }
        if opened.is_new {
            tracing::info!(path = %config.store.path.display(), "made a new store; back it up, and its master key too, but in another place");
        }
        let clock = app::clock(&*opened.store, Arc::new(SystemClock::new())).map_err(|error| failed(&error))?;
        let settings = Settings::new(&config, None);
        let store = Arc::clone(&opened.store);
        let keep =
            Keep::load(opened.store, opened.hasher, &settings, Arc::clone(&clock), Handle::current()).map_err(|error| failed(&error))?;
        let certificates = tls::load(&config, &store, &clock)?;
        // The socket first: it is refused where another keygate answers, before any port is taken.
        let socket = AdminSocket::bind(&config.admin.socket, SocketAccess::Group).map_err(|error| failed(&error))?;
        let served = certificates.as_ref().map(|certificates| certificates.served());
        let listener = admin_listener(&config, served.as_ref())?;
        let app = App::start_with(&config, settings, keep, served, &mut activated).map_err(|error| failed(&error))?;
        for name in activated.names() {
            tracing::warn!("systemd has handed over the socket {name}, but no listener is \"systemd:{name}\": nothing answers there");
        }
        let admin = Admin::new(
            Arc::clone(&app.keep.registry),
            Arc::clone(&app.keep.sessions),
            Arc::clone(&clock),
            open::views(&config),
            TaskTracker::new(),
        )
        .with_store(store)
        .with_usage(Arc::clone(&app.keep.usage))
        .with_handouts(Arc::clone(&app.keep.handouts))
        .with_running(Arc::clone(&app.gateway), app.server.pulses())
        .with_metrics(config.metrics)
        .with_listeners(listening(&app))
        .with_certificates(certificates.clone(), app.clients.clone())
        .with_session_limits(SessionLimits { lifetime: config.admin.session_lifetime, idle: config.admin.session_idle });
        let background = Background { tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let running = Arc::new(Running { config: config.clone().into(), certificates: certificates.clone(), clients: app.clients.clone() });
        let admin = admin.with_doctor(doctor::examiner(&running, &app, &clock, config.file.clone()));
        let admin = match &config.file {
            Some(file) => admin.with_reload(file.clone(), reloader(file.clone(), running, &app, background.clone())),
            None => admin,
        };
        Ok(Self { app, config, admin: Arc::new(admin), socket, listener, background, clock, certificates })
    }

    async fn run(self) -> Result<(), Failure> {
        let Self { app, config, admin, socket, listener, background, clock, certificates } = self;
        let mut signals = Signals::new().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
        background.look_at(app.gateway.settings().upstreams().into_values(), &Handle::current());
        let Background { tasks, stop } = background;
        tasks.spawn(socket::serve(socket, Arc::clone(&admin), tasks.clone(), stop.clone()));
        if let Some(listener) = listener {
            tracing::info!(url = %listener.url(), "admin listener");
            let page = page::pages(Arc::clone(&admin));
            tasks.spawn(listener::serve(listener, Arc::clone(&admin), page, tasks.clone(), stop.clone()));
        }
        tasks.spawn(settle(Arc::clone(&app.keep.registry), stop.clone()));
        tasks.spawn(watch_upstreams(Arc::clone(&app.gateway), stop.clone()));
        let registry = Arc::clone(&app.keep.registry);
        tasks.spawn(timekeeping::keep(registry, clock, stop.clone()));
        let bounds = Bounds::new(config.audit.keep, config.audit.max_entries);
        tasks.spawn(housekeeping::keep(Arc::clone(&app.keep.registry), bounds, stop.clone()));
        if let Some(certificates) = certificates {
            tasks.spawn(acme::keep(Arc::clone(&certificates), stop.clone()));
            tasks.spawn(tls::watch(certificates, app.clients.clone(), stop.clone()));
        }
        // Until the last connection has ended: a stop that hangs is for the watchdog too.
        let over = CancellationToken::new();
        tasks.spawn(watchdog::watch(app.server.pulses(), over.clone()));
        announce(&config, &app);
        watchdog::ready();
        while matches!(signals.next().await, Asked::Reload) {
            reload_by_signal(&admin).await;
        }
        tracing::info!(drain_s = config.server.drain_timeout.as_secs(), "stopping: running requests may finish");
        watchdog::stopping(config.server.drain_timeout);
        stop.cancel();
        let (server, gateway, drain, usage) = (app.server, app.gateway, config.server.drain_timeout, app.keep.usage);
        // Joining threads blocks; a second signal does not wait for the drain.
        let hard = server.stop();
        let draining = tokio::task::spawn_blocking(move || server.shut_down(drain));
        tokio::select! {
            _ = draining => {}
            _ = signals.next_stop() => hard.finish(),
        }
        if let Some(tracer) = &gateway.settings().tracer {
            tracer.finish().await;
        }
        match tokio::task::spawn_blocking(move || usage.finish()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the latest use of keys could not be written"),
            Err(error) => tracing::error!(%error, "the latest use of keys was not written"),
        }
        over.cancel();
        tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
        Ok(())
    }
}

/// The admin listener, if one is wanted: plain on loopback only.
fn admin_listener(config: &Config, served: Option<&Arc<Served>>) -> Result<Option<AdminListener>, Failure> {
    let Some(address) = config.admin.listen else { return Ok(None) };
    let acceptor = match (is_public(address.ip()), served) {
        (false, _) => None,
        (true, Some(served)) => {
            let certificates: Arc<dyn ResolvesServerCert> = Arc::<Served>::clone(served);
            Some(Acceptor::http1_only(certificates).map_err(|error| Failure::failed(error.to_string()))?)
        }
        (true, None) => {
            return Err(Failure::usage(format!("admin.listen: {address} is reachable from other machines, and there is no TLS")));
        }
    };
    let bound = AdminListener::bind(address, acceptor, &config.admin.hosts);
    bound.map(Some).map_err(|error| Failure::failed(error.to_string()))
}

fn listening(app: &App) -> Vec<ListenerView> {
    let view = |(listener, &address): (&Listener, &SocketAddr)| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        let upstream = match listener.purpose {
            Purpose::Redirect { .. } => Some("none: leads to https".to_owned()),
            Purpose::Serve => listener.upstream.as_ref().map(ToString::to_string),
        };
        ListenerView {
            url: format!("{scheme}://{address}"),
            address,
            upstream,
            proxies: listener.proxies.iter().map(ToString::to_string).collect(),
        }
    };
    app.server.listeners.iter().zip(app.addresses()).map(view).collect()
}

fn announce(config: &Config, app: &App) {
    for listener in listening(app) {
        let upstream = listener.upstream.as_deref().unwrap_or("by host name");
        tracing::info!(url = %listener.url, upstream, "listening");
    }
    let accounts = app.keep.sessions.accounts().len();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), accounts, socket = %config.admin.socket.display(), "ready");
}

/// Writes again what a failed commit left behind.
async fn settle(registry: Arc<crate::registry::Registry>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SETTLE_EVERY) => {}
        }
        if registry.unsettled() == 0 {
            continue;
        }
        let again = Arc::clone(&registry);
        match tokio::task::spawn_blocking(move || again.retry_unsettled()).await {
            Ok(Ok(())) => tracing::info!("changes that could not be written before are durable now"),
            Ok(Err(error)) => tracing::error!(%error, "changes hold, but still cannot be written"),
            Err(error) => tracing::error!(%error, "changes could not be written again"),
        }
    }
}

/// Says at the start what an operator would otherwise find out from clients: an upstream that is down, or is another kind of server.
async fn look_at(upstream: Arc<Upstream>, stop: CancellationToken) {
    let found = tokio::select! {
        () = stop.cancelled() => return,
        found = survey(&upstream) => found,
    };
    match judge(&upstream, found) {
        Judged::Good(text) => tracing::info!(upstream = %upstream.name, "{text}"),
        // It was said when no connection could be made.
        Judged::Away(_) if upstream.health.down().is_some() => {}
        Judged::Away(text) => tracing::warn!(upstream = %upstream.name, "{text}"),
        Judged::Wrong(text) => tracing::error!(upstream = %upstream.name, "{text}"),
    }
}

/// Looks now and then at upstreams that nobody asks for, so that an operator reads how they are, and more often at those that are down.
async fn watch_upstreams(gateway: Arc<Gateway>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AT_DOWN_EVERY) => {}
        }
        for upstream in gateway.settings().upstreams().into_values() {
            let health = &upstream.health;
            let is_quiet = health.heard().is_none_or(|heard| heard > LOOK_AT_QUIET_EVERY);
            if health.down().is_none() && !is_quiet {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // What it finds of connections is told by the upstream itself.
                _ = survey(&upstream) => {}
            }
        }
    }
}

async fn reload_by_signal(admin: &Arc<Admin>) {
    watchdog::reloading();
    let admin = Arc::clone(admin);
    // It logs how it went.
    let _ = tokio::task::spawn_blocking(move || admin.reload(None).is_ok()).await;
    watchdog::ready();
}

/// What is in force: a reload starts from it.
pub(crate) struct Running {
    pub(crate) config: std::sync::Mutex<Config>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    clients: Option<Arc<ClientAuthorities>>,
}

impl Running {
    /// Takes over certificates and the authorities of clients: what changed.
    fn change_tls(&self, config: &Config) -> Result<Vec<String>, String> {
        let (Some(certificates), Some(tls)) = (&self.certificates, &config.server.tls) else { return Ok(Vec::new()) };
        let clients = self.clients.as_ref().zip(tls.client_ca.as_ref());
        // Both can fail, and one alone must not be taken over.
        if let Some((_, ca)) = clients {
            ClientAuthorities::check(ca).map_err(|error| error.to_string())?;
        }
        let mut changes = certificates.change(&tls.source).map_err(|error| format!("server.tls: {error}"))?;
        if let Some((authorities, ca)) = clients {
            changes.extend(authorities.change(ca).map_err(|error| error.to_string())?);
        }
        Ok(changes)
    }
}

/// What reading the configuration again does: all or nothing.
fn reloader(file: PathBuf, running: Arc<Running>, app: &App, background: Background) -> Box<Reload> {
    let runtime = Handle::current();
    let (gateway, keep) = (Arc::clone(&app.gateway), app.keep.clone());
    Box::new(move || {
        let before = gateway.settings().upstreams();
        let taken_over = reload(&file, &running, &gateway, &keep)?;
        let after = gateway.settings().upstreams().into_iter();
        let is_new = |name: &UpstreamName, upstream: &Arc<Upstream>| before.get(name).is_none_or(|before| !Arc::ptr_eq(before, upstream));
        background.look_at(after.filter(|(name, upstream)| is_new(name, upstream)).map(|(_, upstream)| upstream), &runtime);
        Ok(taken_over)
    })
}

fn reload(file: &std::path::Path, running: &Running, gateway: &Gateway, keep: &Keep) -> Result<TakenOver, String> {
    let (mut config, _) = Config::load(file).map_err(|problems| problems.to_string())?;
    let mut before = running.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if config.limits.max_connections == 0 {
        config.limits.max_connections = before.limits.max_connections;
    }
    let fixed = crate::cli::changes::needing_restart(&before, &config);
    if !fixed.is_empty() {
        return Err(format!("{} cannot change while keygate runs; restart it", fixed.join(", ")));
    }
    let mut changes = crate::cli::changes::between(&before, &config);
    let now = gateway.settings();
    let tracer = keep.tracer(&config, now.tracer.as_ref()).map_err(|error| error.to_string())?;
    // The last step that can fail; nothing has changed before it.
    changes.extend(running.change_tls(&config)?);
    let settings = Settings::new(&config, Some(&now)).traced_by(tracer);
    keep.sessions.set_upstreams(settings.upstreams());
    gateway.set_settings(settings);
    let upstreams = open::views(&config);
    *before = config;
    Ok(TakenOver { changes, upstreams })
}
