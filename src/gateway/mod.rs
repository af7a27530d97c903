//! The pipeline: what happens to a request, in one order that reads from top to bottom.

pub mod inspect;
pub mod pipeline;
pub mod refusal;
pub mod respond;
pub mod routing;
pub mod trail;

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::gateway::routing::Settings;
use crate::keys::KeyHasher;
use crate::keys::index::KeyIndex;
use crate::server::accept::Connections;
use crate::server::drain::Tasks;
use crate::upstream::client::Pool;
use crate::upstream::session::Sessions;

/// What all cores share: all of it is read without a lock while requests run.
pub struct Gateway {
    hasher: KeyHasher,
    index: Arc<KeyIndex>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    settings: ArcSwap<Settings>,
    connections: Arc<Connections>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// Over the keys and sessions of one store.
    pub fn new(hasher: KeyHasher, index: Arc<KeyIndex>, sessions: Arc<Sessions>, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Self> {
        Arc::new(Self { hasher, index, sessions, clock, settings: ArcSwap::from_pointee(settings), connections: Arc::default() })
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What the configuration says now. Requests that run keep what they began with.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes over another configuration from the next request on.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// How many client connections are open, WebSockets included.
    pub fn open_connections(&self) -> usize {
        self.connections.open()
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

/// One core's view of the gateway.
#[derive(Debug)]
pub struct Worker {
    gateway: Arc<Gateway>,
    pool: Rc<Pool>,
    tasks: Tasks,
}

impl Worker {
    /// For one core.
    pub fn new(gateway: Arc<Gateway>, pool: Rc<Pool>, tasks: Tasks) -> Rc<Self> {
        Rc::new(Self { gateway, pool, tasks })
    }

    /// What all cores share.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// This core's tasks.
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
