//! Listeners and cores: one current-thread runtime per core, each with its own listening sockets (`SO_REUSEPORT`), its own connections
//! and its own pool of upstream connections. Nothing on the request path is shared but what is read only.

pub mod accept;
pub mod activation;
pub mod clients;
pub mod connection;
pub mod drain;
mod gather;
pub(crate) mod handshake;
pub(crate) mod holder;
pub mod listener;
mod patience;
mod proxied;
pub mod pulse;
mod stream;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};

use crate::gateway::{Gateway, Worker};
use crate::server::activation::Activated;
use crate::server::drain::{Stop, Tasks};
use crate::server::listener::{BindError, Listener};
use crate::server::pulse::{Pulse, Pulses};
use crate::upstream::client::Pool;

/// How often a core closes idle upstream connections.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// How often a core looks for keys that have expired: what runs on one ends within a second.
const REVIEW_EVERY: Duration = Duration::from_millis(500);

/// A running server.
#[derive(Debug)]
pub struct Server {
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Where it listens, in the order of the configuration: the ports are known now where 0 was asked for.
    pub addresses: Vec<SocketAddr>,
    /// What each of these addresses means.
    pub listeners: Vec<Listener>,
    stop: Stop,
    pulses: Arc<Pulses>,
}

impl Server {
    /// Binds every address, takes over what systemd holds, and starts `threads` cores.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread cannot be started; nothing runs then.
    pub fn start(listeners: Vec<Listener>, activated: &mut Activated, gateway: Arc<Gateway>, threads: usize) -> Result<Self, BindError> {
        let threads = threads.max(1);
        let mut per_core: Vec<Vec<(TcpListener, Listener)>> = (0..threads).map(|_| Vec::new()).collect();
        let mut server =
            Self { threads: Vec::new(), addresses: Vec::new(), listeners: Vec::new(), stop: Stop::new(), pulses: Pulses::new(threads) };
        for bound in listener::bind(listeners, activated, threads)? {
            for (core, socket) in per_core.iter_mut().zip(bound.sockets) {
                core.push((socket, bound.listener.clone()));
            }
            server.addresses.push(bound.address);
            server.listeners.push(bound.listener);
        }
        for (number, bound) in per_core.into_iter().enumerate() {
            let (gateway, stop) = (Arc::clone(&gateway), server.stop.clone());
            let pulse = Pulse { all: Arc::clone(&server.pulses), core: number };
            let spawned = std::thread::Builder::new().name(format!("core-{number}")).spawn(move || run_core(bound, gateway, stop, pulse));
            match spawned {
                Ok(thread) => server.threads.push(thread),
                Err(source) => {
                    server.stop.finish();
                    return Err(BindError::Thread { source });
                }
            }
        }
        Ok(server)
    }

    /// The two stages of stopping it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Whether its cores turn.
    pub fn pulses(&self) -> Arc<Pulses> {
        Arc::clone(&self.pulses)
    }

    /// Takes nothing new, waits for what runs until `drain` is over, cuts the rest, and joins the threads. Blocks.
    pub fn shut_down(self, drain: Duration) {
        self.stop.begin();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let stop = self.stop.clone();
        let timer = std::thread::spawn(move || {
            // Either all cores have ended (the sender is dropped) or time is up.
            let _ = ended.recv_timeout(drain);
            stop.finish();
        });
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(done);
        let _ = timer.join();
    }
}

fn run_core(listeners: Vec<(TcpListener, Listener)>, gateway: Arc<Gateway>, stop: Stop, pulse: Pulse) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a core cannot start");
            return;
        }
    };
    runtime.block_on(async move {
        if let Err(error) = core(listeners, gateway, stop, &pulse).await {
            tracing::error!(%error, "a core cannot listen");
        }
    });
}

async fn core(listeners: Vec<(TcpListener, Listener)>, gateway: Arc<Gateway>, stop: Stop, pulse: &Pulse) -> io::Result<()> {
    let tasks = Tasks::new(stop.clone());
    let pool = Pool::new(tasks.clone(), Arc::clone(gateway.clock()));
    let worker = Worker::new(gateway, std::rc::Rc::clone(&pool), tasks.clone(), u16::try_from(pulse.core).unwrap_or(u16::MAX));
    let reviewing = std::rc::Rc::clone(&worker);
    for (socket, listener) in listeners {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        tasks.spawn_local(accept::run((socket, listener), std::rc::Rc::clone(&worker)));
    }
    let counting = async {
        loop {
            tokio::time::sleep(reviewing.hand_over_every()).await;
            reviewing.hand_over();
        }
    };
    let reaper = async {
        loop {
            tokio::time::sleep(REAP_EVERY).await;
            pool.reap();
        }
    };
    // What still runs while the server stops can be revoked too.
    let mut reviewer = std::pin::pin!(review(&reviewing, pulse));
    let mut counting = std::pin::pin!(counting);
    tokio::select! {
        () = reaper => {}
        () = &mut counting => {}
        () = &mut reviewer => {}
        () = stop.begun() => {}
    }
    tasks.drain();
    pool.clear();
    // What runs longer than it may is dropped with the runtime.
    tokio::select! {
        () = tasks.ended() => {}
        () = reviewer => {}
        () = counting => {}
        () = stop.finished() => {}
    }
    pulse.end();
    Ok(())
}

/// Ends what runs on dead keys, as soon as they die; the same clock tells that this core turns.
async fn review(worker: &Worker, pulse: &Pulse) {
    let mut changes = worker.gateway().key_changes();
    loop {
        let by_time = tokio::select! {
            // The sender lives as long as the gateway, which the worker holds.
            _ = changes.changed() => false,
            () = tokio::time::sleep(REVIEW_EVERY) => true,
        };
        worker.review_keys(by_time);
        worker.close_asked();
        pulse.beat();
    }
}
