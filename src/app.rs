//! The program put together: store, keys, sessions, gateway, listeners. Used by `serve`, by `demo` and by the tests.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::ResolvesServerCert;

use crate::certificates::Served;
use crate::certificates::challenges::Challenges;
use crate::clock::{Clock, SteadyClock};
use crate::config::source::SourceError;
use crate::config::{ClientCa, Config, HeadersError, Listen};
use crate::gateway::routing::Settings;
use crate::gateway::{Gateway, Known};
use crate::handouts::{Around, Handouts};
use crate::keys::index::{KeyIndex, Verified};
use crate::keys::{ApiKey, KeyHasher};
use crate::registry::Registry;
use crate::server::Server;
use crate::server::activation::Activated;
use crate::server::clients::{ClientAuthorities, ClientsError};
use crate::server::listener::{BindError, Listener, Purpose};
use crate::server::tls::{Acceptor, AcceptorError};
use crate::store::seal::{MasterKey, MasterKeyText};
use crate::store::{self, Store, StoreError};
use crate::telemetry::traces::Tracer;
use crate::upstream::UpstreamName;
use crate::upstream::session::Sessions;
use crate::usage::{self, Usage};

/// Keys, accounts and sessions over one store: everything but the network side.
#[derive(Clone)]
pub struct Keep {
    /// Changes keys and accounts.
    pub registry: Arc<Registry>,
    /// Sessions with upstreams.
    pub sessions: Arc<Sessions>,
    /// Tickets and capability ids.
    pub handouts: Arc<Handouts>,
    /// What keys are used for.
    pub usage: Arc<Usage>,
    index: Arc<KeyIndex>,
    hasher: KeyHasher,
    clock: Arc<dyn Clock>,
    control: tokio::runtime::Handle,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] AcceptorError),
    /// The authorities of clients.
    #[error(transparent)]
    Clients(#[from] ClientsError),
    /// Traces.
    #[error(transparent)]
    Traces(#[from] HeadersError),
}

impl Keep {
    /// Loads what the store holds. `control`: the runtime on which logins run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(
        store: Arc<dyn Store>,
        hasher: KeyHasher,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        control: tokio::runtime::Handle,
    ) -> Result<Self, StoreError> {
        let index = Arc::new(KeyIndex::load(|capacity, visit| store.load_index(capacity, visit))?);
        let sessions = Sessions::load(Arc::clone(&store), settings.upstreams(), Arc::clone(&clock), control.clone())?;
        let handouts = Handouts::load(Around {
            hasher: hasher.clone(),
            index: Arc::clone(&index),
            clock: Arc::clone(&clock),
            store: Arc::clone(&store),
            sessions: Arc::clone(&sessions),
            control: control.clone(),
        })?;
        let usage = Usage::load(Arc::clone(&store), Arc::clone(&clock))?;
        let listener: Arc<Sessions> = Arc::clone(&sessions);
        let registry = Arc::new(Registry::new(store, hasher.clone(), Arc::clone(&index), listener, Arc::clone(&clock)));
        Ok(Self { registry, sessions, handouts, usage, index, hasher, clock, control })
    }

    /// A key as requests find it, if it is known.
    pub fn find(&self, key: &ApiKey) -> Option<Verified> {
        self.index.find(&self.hasher.digest(key))
    }

    /// Who makes spans of requests as this configuration has it, if anybody. `before`: who does it now.
    ///
    /// # Errors
    /// [`HeadersError`].
    pub fn tracer(&self, config: &Config, before: Option<&Arc<Tracer>>) -> Result<Option<Arc<Tracer>>, HeadersError> {
        let start = |traces| Tracer::start(traces, before, &self.clock, &self.control);
        config.traces.as_ref().map(start).transpose()
    }

    fn known(&self, config: &Config, challenges: Arc<Challenges>) -> Known {
        let Self { sessions, handouts, index, hasher, clock, usage, .. } = self.clone();
        let hand_over_every = usage::hand_over_every(config.usage.flush);
        Known { hasher, index, sessions, handouts, clock, challenges, usage, counts: config.usage.is_enabled, hand_over_every }
    }
}

/// Opens the configured store with its master key, or makes both where there is neither.
///
/// # Errors
/// [`StoreError`]; whatever was refused is left as it was.
pub fn open_store(config: &Config) -> Result<store::Opened, StoreError> {
    store::open(&config.store.path, &config.store.master_key, &master_key_text(config)?)
}

/// The master key of a store that is there already, or is to be put back.
///
/// # Errors
/// [`StoreError::MasterKey`].
pub fn master_key(config: &Config) -> Result<MasterKey, StoreError> {
    MasterKey::obtain(&config.store.master_key, &master_key_text(config)?, true).map(|(key, _)| key)
}

fn master_key_text(config: &Config) -> Result<MasterKeyText, StoreError> {
    match config.store.master_key.read() {
        Ok(text) => Ok(MasterKeyText::Found(text)),
        // Whether a missing key is an error depends on whether there is a store already.
        Err(SourceError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(MasterKeyText::Missing),
        Err(SourceError::NoVariable(_) | SourceError::NoCredentials(_)) => Ok(MasterKeyText::Missing),
        Err(error) => Err(StoreError::MasterKey(format!("the master key of the store: {error}"))),
    }
}

/// The clock of everything over this store: the machine's, and never earlier than the store says that it was.
///
/// # Errors
/// [`StoreError`].
pub fn clock(store: &dyn Store, machine: Arc<dyn Clock>) -> Result<Arc<dyn Clock>, StoreError> {
    Ok(Arc::new(SteadyClock::new(machine, store.time_mark()?)))
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    /// Keys, accounts, sessions.
    pub keep: Keep,
    /// What requests are judged by.
    pub gateway: Arc<Gateway>,
    /// The listeners.
    pub server: Server,
    /// Who signs the certificates of clients, where they are asked for.
    pub clients: Option<Arc<ClientAuthorities>>,
}

impl App {
    /// Starts listening. `certificates` are there when the configuration has TLS.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(config: &Config, settings: Settings, keep: Keep, certificates: Option<Arc<Served>>) -> Result<Self, StartError> {
        Self::start_with(config, settings, keep, certificates, &mut Activated::default())
    }

    /// The same, with sockets that systemd handed over. Those that no listener names are left in `activated`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start_with(
        config: &Config,
        settings: Settings,
        keep: Keep,
        certificates: Option<Arc<Served>>,
        activated: &mut Activated,
    ) -> Result<Self, StartError> {
        let challenges = certificates.as_ref().map(|certificates| certificates.challenges()).unwrap_or_default();
        let tls = certificates.map(|certificates| Acceptors::new(config, &certificates)).transpose()?;
        let tracer = keep.tracer(config, None)?;
        let gateway = Gateway::new(keep.known(config, challenges), settings.traced_by(tracer));
        keep.handouts.start();
        if config.usage.is_enabled {
            keep.usage.keep_daily(&keep.index)?;
        }
        // Also where requests are not counted: what is refused is gathered there.
        keep.usage.start(config.usage.flush, &keep.control);
        let server = Server::start(listeners(config, tls.as_ref()), activated, Arc::clone(&gateway), config.server.threads)?;
        let clients = tls.and_then(|tls| tls.certified).map(|(_, clients)| clients);
        Ok(Self { keep, gateway, server, clients })
    }

    /// Where it listens, in the order of [`listeners`]; a name of systemd's may stand for several.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.server.addresses
    }
}

/// How TLS is spoken: without a client's certificate, and with one where that is asked for.
#[derive(Debug)]
pub struct Acceptors {
    open: Arc<Acceptor>,
    certified: Option<(ClientCa, Arc<ClientAuthorities>)>,
}

impl Acceptors {
    fn new(config: &Config, certificates: &Arc<Served>) -> Result<Self, StartError> {
        let resolver = || -> Arc<dyn ResolvesServerCert> { Arc::<Served>::clone(certificates) };
        let challenges = || certificates.challenges();
        let certified = match config.server.tls.as_ref().and_then(|tls| tls.client_ca.clone()) {
            None => None,
            Some(ca) => {
                let authorities = ClientAuthorities::load(&ca, resolver(), challenges())?;
                Some((ca, Arc::new(authorities)))
            }
        };
        Ok(Self { open: Arc::new(Acceptor::new(resolver(), None, challenges())?), certified })
    }

    fn for_listener(&self, listen: &Listen) -> Arc<Acceptor> {
        match &self.certified {
            Some((ca, authorities)) if ca.is_for(listen) => authorities.acceptor(),
            _ => Arc::clone(&self.open),
        }
    }
}

/// All listeners of a configuration: the common ones, those of each upstream in order, the plain ones, the redirecting ones.
pub fn listeners(config: &Config, tls: Option<&Acceptors>) -> Vec<Listener> {
    let server = &config.server;
    let proxies: Arc<[_]> = server.proxy_protocol.clone().into();
    let clear = |listen: &Listen, upstream: Option<&UpstreamName>, purpose| Listener {
        listen: listen.clone(),
        upstream: upstream.cloned(),
        tls: None,
        allow_plaintext: server.allow_plaintext,
        purpose,
        proxies: if server.takes_proxies(listen) { Arc::clone(&proxies) } else { Arc::default() },
    };
    let secure =
        |listen: &Listen, upstream| Listener { tls: tls.map(|tls| tls.for_listener(listen)), ..clear(listen, upstream, Purpose::Serve) };
    let redirect = Purpose::Redirect { https_port: server.https_port };
    let common = server.listen.iter().map(|listen| secure(listen, None));
    let each = config.upstreams.iter().flat_map(|upstream| upstream.listen.iter().map(|listen| (listen, &upstream.name)));
    let own = each.map(|(listen, name)| secure(listen, Some(name)));
    let plain = server.listen_plain.iter().map(|listen| Listener { proxies: Arc::default(), ..clear(listen, None, Purpose::Serve) });
    let redirecting = server.listen_redirect.iter().map(|listen| clear(listen, None, redirect));
    common.chain(own).chain(plain).chain(redirecting).collect()
}
