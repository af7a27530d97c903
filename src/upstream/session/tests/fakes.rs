//! The upstream, the store and the clock of the tests, put together.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::fake_store::FakeStore;
use super::fake_upstream::FakeUpstream;
use crate::clock::{ManualClock, Timestamp};
use crate::secret::Secret;
use crate::store::records::AccountRecord;
use crate::upstream::client::{Timeouts, Upstream};
use crate::upstream::health::Health;
use crate::upstream::session::{Session, SessionError, SessionId, Sessions};
use crate::upstream::{AccountId, Credential, Kind, UpstreamName};

/// A limit that no test reaches.
const LONG: Duration = Duration::from_secs(60);

pub(super) const ACCOUNT: AccountId = AccountId(7);
const ADMINISTRATOR: AccountId = AccountId(8);

/// Runs a test on a runtime of its own, as the control runtime is in the program.
pub(super) fn runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// An upstream, a store with one account of it, and the sessions over both.
pub(super) struct Fixture {
    pub(super) upstream: Arc<FakeUpstream>,
    pub(super) store: Arc<FakeStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) sessions: Arc<Sessions>,
    kind: Kind,
}

impl Fixture {
    pub(super) async fn audiobookshelf() -> Self {
        Self::start(Kind::Audiobookshelf, Credential::Password(Secret::from("right"))).await
    }

    pub(super) async fn jellyfin() -> Self {
        Self::start(Kind::Jellyfin, Credential::Password(Secret::from("right"))).await
    }

    pub(super) async fn jellyfin_token(token: &str) -> Self {
        Self::start(Kind::Jellyfin, Credential::Token(Secret::from(token))).await
    }

    /// A minted account, and an administrator who is logged in.
    pub(super) async fn minted() -> Self {
        let fixture = Self::start(Kind::Audiobookshelf, Credential::Minted { user_id: "user-1".to_owned() }).await;
        let root = AccountRecord {
            id: ADMINISTRATOR,
            name: "root".to_owned(),
            is_administrator: true,
            ..record(Credential::Password(Secret::from("right")))
        };
        fixture.store.put_account(root.clone());
        fixture.sessions.put_account(root);
        fixture.sessions.current(SessionId { account: ADMINISTRATOR, key: None }, None).await.unwrap();
        fixture
    }

    async fn start(kind: Kind, credential: Credential) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let upstream = FakeUpstream::start(Arc::clone(&clock)).await;
        let store = Arc::new(FakeStore::default());
        store.put_account(record(credential));
        let sessions = load(&store, &clock, kind, upstream.port);
        Self { upstream, store, clock, sessions, kind }
    }

    /// The same store and upstream, nothing else.
    pub(super) async fn restart(self) -> Self {
        let sessions = load(&self.store, &self.clock, self.kind, self.upstream.port);
        Self { sessions, ..self }
    }

    /// Points the upstream to a port on which nobody listens.
    pub(super) async fn nobody_listens(&self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        self.sessions.set_upstreams(upstreams(self.kind, port, LONG));
        port
    }

    /// Makes the limit for an answer short.
    pub(super) fn answer_within(&self, limit: Duration) {
        self.sessions.set_upstreams(upstreams(self.kind, self.upstream.port, limit));
    }

    /// The account with a password, as the registry would hand it over.
    pub(super) fn account(&self, password: &str) -> AccountRecord {
        record(Credential::Password(Secret::from(password)))
    }

    pub(super) fn current_in_background(&self, id: SessionId) -> JoinHandle<Result<Arc<Session>, SessionError>> {
        let sessions = Arc::clone(&self.sessions);
        tokio::runtime::Handle::current().spawn(async move { sessions.current(id, None).await })
    }

    pub(super) fn replace_in_background(&self, stale: &Arc<Session>) -> JoinHandle<Result<Arc<Session>, SessionError>> {
        let (sessions, stale) = (Arc::clone(&self.sessions), Arc::clone(stale));
        tokio::runtime::Handle::current().spawn(async move { sessions.replace(&stale, None).await })
    }

    /// Waits for the flight that is in the air, if there is one.
    pub(super) async fn landed(&self, id: SessionId) {
        let flying = self.sessions.core.place(id).unwrap().slot.state().flying();
        if let Some(landing) = flying {
            drop(crate::upstream::session::core::landed(landing).await);
        }
    }
}

fn record(credential: Credential) -> AccountRecord {
    AccountRecord {
        id: ACCOUNT,
        upstream: UpstreamName::new("abs"),
        name: "alice".to_owned(),
        credential,
        device_id: "00112233445566778899aabbccddeeff".to_owned(),
        user_id: None,
        created_at: Timestamp::from_secs(1_800_000_000),
        broken: None,
        is_administrator: false,
    }
}

fn upstreams(kind: Kind, port: u16, limit: Duration) -> HashMap<UpstreamName, Arc<Upstream>> {
    let upstream = Upstream {
        name: UpstreamName::new("abs"),
        kind,
        host: "127.0.0.1".to_owned(),
        port,
        authority: HeaderValue::try_from(format!("127.0.0.1:{port}")).unwrap(),
        tls: None,
        base_path: String::new(),
        timeouts: Timeouts { connect: LONG, response_header: limit, pool_idle: Duration::from_secs(4) },
        session_per_key: kind != Kind::Audiobookshelf,
        health: Health::default(),
    };
    HashMap::from([(upstream.name.clone(), Arc::new(upstream))])
}

fn load(store: &Arc<FakeStore>, clock: &Arc<ManualClock>, kind: Kind, port: u16) -> Arc<Sessions> {
    let (store, clock) = (Arc::clone(store), Arc::clone(clock));
    Sessions::load(store, upstreams(kind, port, LONG), clock, tokio::runtime::Handle::current()).unwrap()
}
