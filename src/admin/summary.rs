//! `GET /api/summary`: one flat object of numbers, for dashboards like Homepage and Home Assistant.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::keys::days_left;
use crate::keys::record::KeyStatus;
use crate::registry::RegistryError;
use crate::upstream::UpstreamName;
use crate::upstream::session::AccountState;
use crate::upstream::survey::{Found, survey};

/// How long a media server may take to say that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Numbers at a glance. Flat, and in the letter case of dashboards' own configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Summary {
    /// keygate's version.
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// Keys that are not revoked.
    keys: usize,
    /// Of them, those that are good now.
    active: usize,
    /// Of these, those that expire within 30 days.
    expiring: usize,
    /// Of them, those that have expired.
    expired: usize,
    /// Of them, those that are switched off.
    disabled: usize,
    /// Accounts.
    accounts: usize,
    /// Of them, those that keygate cannot log in.
    broken_accounts: usize,
    /// Media servers.
    upstreams: usize,
    /// Of them, those that answered just now.
    upstreams_up: usize,
    /// Whether all of them did.
    upstream_up: bool,
    /// Days until the first certificate ends; null: TLS is off.
    cert_days: Option<u64>,
    /// Requests of the last 24 hours, the hour that runs among them, refused ones too; null: nothing is counted.
    requests24h: Option<u64>,
    /// Of them, those that were answered 5xx; null: nothing is counted.
    failed24h: Option<u64>,
}

/// Keys by how they stand.
#[derive(Default)]
struct KeyCounts {
    active: usize,
    expiring: usize,
    expired: usize,
    disabled: usize,
}

pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Result<Json<Summary>, AdminError> {
    let (counts, day) = admin.blocking(|admin| Ok((admin.count_keys()?, admin.last_day()?))).await?;
    let accounts = admin.sessions.accounts();
    let broken = accounts.iter().filter(|account| matches!(admin.sessions.state(account.id), AccountState::Broken { .. }));
    let broken_accounts = broken.count();
    let names: Vec<_> = admin.upstreams.load().iter().map(|one| UpstreamName::new(&one.name)).collect();
    let mut asking = Vec::new();
    for name in &names {
        // Together, so that two that are down take no longer than one.
        asking.push(admin.tasks.spawn(is_up(Arc::clone(&admin), name.clone())));
    }
    let mut upstreams_up = 0;
    for one in asking {
        upstreams_up += usize::from(one.await?);
    }
    Ok(Json(Summary {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: admin.clock.monotonic().saturating_sub(admin.started).as_secs(),
        keys: counts.active + counts.expired + counts.disabled,
        active: counts.active,
        expiring: counts.expiring,
        expired: counts.expired,
        disabled: counts.disabled,
        accounts: accounts.len(),
        broken_accounts,
        upstreams: names.len(),
        upstreams_up,
        upstream_up: upstreams_up == names.len(),
        cert_days: admin.served_certificates().iter().map(|one| one.days_left).min(),
        requests24h: day.map(|[requests, _]| requests),
        failed24h: day.map(|[_, failed]| failed),
    }))
}

async fn is_up(admin: Arc<Admin>, name: UpstreamName) -> bool {
    let Some(upstream) = admin.sessions.upstream(&name) else { return false };
    let found = tokio::time::timeout(ANSWER_WITHIN, survey(&upstream)).await;
    matches!(found, Ok(Ok(Found::Server { .. })))
}

impl Admin {
    /// Requests of the last 24 hours, and those of them that failed.
    fn last_day(&self) -> Result<Option<[u64; 2]>, AdminError> {
        let Some(usage) = &self.usage else { return Ok(None) };
        let (totals, now) = (usage.totals().map_err(RegistryError::Store)?, self.clock.now());
        let points = totals.values().flat_map(|upstream| upstream.last_day(now));
        Ok(Some(points.fold([0, 0], |[requests, failed], point| {
            let all = [point.good, point.refused, point.failed].into_iter().map(u64::from).sum::<u64>();
            [requests + all, failed + u64::from(point.failed)]
        })))
    }

    fn count_keys(&self) -> Result<KeyCounts, AdminError> {
        let now = self.clock.now();
        let mut counts = KeyCounts::default();
        // Counted as they pass: none is kept.
        self.registry.keys(|record| {
            match record.status(now) {
                KeyStatus::Active => {
                    counts.active += 1;
                    counts.expiring += usize::from(days_left(record, now).is_some());
                }
                KeyStatus::Expired => counts.expired += 1,
                KeyStatus::Disabled => counts.disabled += 1,
                KeyStatus::Revoked => {}
            }
            false
        })?;
        Ok(counts)
    }
}
