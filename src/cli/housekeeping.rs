//! What a running gateway looks after now and then: the bounds of the audit log, and keys that die soon.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::audit::Bounds;
use crate::registry::Registry;
use crate::registry::upkeep::Expiring;
use crate::store::StoreError;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Looks at once, then now and then.
pub(crate) async fn keep(registry: Arc<Registry>, bounds: Bounds, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let registry = Arc::clone(&registry);
        let look = move || -> Result<Vec<Expiring>, StoreError> {
            registry.prune_audit(bounds)?;
            registry.newly_expiring()
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) => found.iter().for_each(warn),
            Ok(Err(error)) => tracing::warn!(%error, "keys that expire soon cannot be looked for"),
            Err(error) => tracing::warn!(%error, "keys that expire soon were not looked for"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn warn(expiring: &Expiring) {
    let Expiring { key, days } = expiring;
    let (id, name) = (key.id, &key.name);
    let at = key.expires_at.map(|at| at.to_string()).unwrap_or_default();
    tracing::warn!(
        key_id = %id, key_name = name, days,
        "key {id} {name:?} expires at {at}, in {days} days or less: give it more time with keygate keys edit {id} --expires WHEN"
    );
}
