//! `GET /healthz` and `GET /readyz`, for whatever restarts a gateway that is dead or sends requests to one that is ready. Without a
//! credential they say how many, with one that may read also which and why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use schemars::JsonSchema;
use schemars::generate::SchemaGenerator;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::door::Rights;
use crate::admin::error::AdminError;
use crate::admin::extract::Asked;
use crate::admin::table::{Answers, Operation};
use crate::keys::admin::AdminScope;
use crate::server::pulse::Pulses;
use crate::upstream::session::AccountState;

/// How often cores are looked at again that have not counted on, and how long: they count several times in that time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS: usize = 50;
/// How long it holds that the store could be written: strangers must not wear out its medium.
const WRITTEN_HOLDS: Duration = Duration::from_secs(30);

/// `GET /healthz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthView {
    /// `ok`, or `failed`: restart it.
    status: &'static str,
    /// Cores that serve requests.
    cores: usize,
    /// Of them, those that stand still.
    standing: usize,
}

/// `GET /readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReadyView {
    /// `ready`; `degraded`: some upstreams cannot be reached, or accounts are broken; `unready`: the store cannot be written, or no
    /// upstream can be reached.
    status: Readiness,
    /// Whether the store could be written just now.
    store: bool,
    /// Media servers.
    upstreams: usize,
    /// Of them, those that could be reached when that was tried last.
    upstreams_reachable: usize,
    /// Accounts.
    accounts: usize,
    /// Of them, those that wait for an operator.
    accounts_broken: usize,
    /// What is wrong, one sentence each; null for who may not read that.
    problems: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Readiness {
    Ready,
    Degraded,
    Unready,
}

/// What whoever asks makes of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    /// `ok`: a degraded gateway is ready enough.
    degraded: Option<Degraded>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Degraded {
    Ok,
}

/// With 200 or 503, and the same form.
pub(super) struct Verdict<T>(bool, T);

impl<T: Serialize> IntoResponse for Verdict<T> {
    fn into_response(self) -> Response {
        let status = if self.0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self.1)).into_response()
    }
}

impl<T: JsonSchema> Answers for Result<Verdict<T>, AdminError> {
    fn describe(operation: &mut Operation, answered: &mut SchemaGenerator) {
        operation.answer = Some(("application/json", answered.subschema_for::<T>()));
        operation.may_be_unwell = true;
    }
}

pub(super) async fn healthz(State(admin): State<Arc<Admin>>) -> Result<Verdict<HealthView>, AdminError> {
    let (cores, standing) = match &admin.running {
        Some(running) => turning(&running.pulses).await,
        None => (0, 0),
    };
    let is_well = standing == 0;
    Ok(Verdict(is_well, HealthView { status: if is_well { "ok" } else { "failed" }, cores, standing }))
}

pub(super) async fn readyz(
    State(admin): State<Arc<Admin>>,
    rights: Option<Extension<Rights>>,
    Asked(asked): Asked<ReadyQuery>,
) -> Result<Verdict<ReadyView>, AdminError> {
    let may_read = rights.is_some_and(|Extension(rights)| rights.may(AdminScope::Read));
    let view = admin.blocking(|admin| Ok(admin.readiness())).await?;
    let is_well = match view.status {
        Readiness::Ready => true,
        Readiness::Degraded => asked.degraded == Some(Degraded::Ok),
        Readiness::Unready => false,
    };
    Ok(Verdict(is_well, ReadyView { problems: view.problems.filter(|_| may_read), ..view }))
}

/// How many cores there are, and how many of them have not counted on for seconds. Ends as soon as all have.
async fn turning(pulses: &Pulses) -> (usize, usize) {
    let mut first = Vec::new();
    pulses.standing_since(&mut first);
    let mut standing = 0;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        standing = pulses.standing_since(&mut first.clone()).len();
        if standing == 0 {
            break;
        }
    }
    (first.len(), standing)
}

/// Whether the store could be written, and when that was found.
#[derive(Debug, Default)]
pub(super) struct LastWriting(Mutex<Option<(Duration, Result<(), String>)>>);

impl Admin {
    /// How it stands. Blocking.
    fn readiness(&self) -> ReadyView {
        let mut problems = Vec::new();
        let store = self.can_write().map_err(|error| problems.push(format!("the store cannot be written: {error}"))).is_ok();
        let views: Vec<_> = self.upstreams.load().iter().map(|view| self.with_health(view)).collect();
        for view in views.iter().filter(|view| view.reachable != Some(true)) {
            let why = view.problem.as_deref().unwrap_or("nobody has asked it yet");
            problems.push(format!("upstream {} cannot be reached: {why}", view.name));
        }
        let upstreams_reachable = views.iter().filter(|view| view.reachable == Some(true)).count();
        let accounts = self.sessions.accounts();
        let mut accounts_broken = 0;
        for account in &accounts {
            if let AccountState::Broken { why, .. } = self.sessions.state(account.id) {
                accounts_broken += 1;
                problems.push(why);
            }
        }
        let status = if !store || upstreams_reachable == 0 {
            Readiness::Unready
        } else if problems.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Degraded
        };
        let (upstreams, accounts) = (views.len(), accounts.len());
        ReadyView { status, store, upstreams, upstreams_reachable, accounts, accounts_broken, problems: Some(problems) }
    }

    /// Writes the time down, unless that was done just now. One at a time.
    fn can_write(&self) -> Result<(), String> {
        let mut last = self.last_writing.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if let Some((at, outcome)) = &*last
            && now.saturating_sub(*at) < WRITTEN_HOLDS
        {
            return outcome.clone();
        }
        let outcome = self.registry.mark_time().map_err(|error| error.to_string());
        *last = Some((now, outcome.clone()));
        outcome
    }
}
