//! `keygate store restore`: a backup in the place of the store.

use std::path::Path;

use super::{Holder, failed, offline_actor};
use crate::app;
use crate::cli::Global;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::clock::{Clock, SystemClock};
use crate::store::moving::{self, By, Restored};

pub(super) async fn run(file: &Path, force: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    if !file.exists() {
        return Err(Failure::new(Exit::NotFound, format!("there is no backup at {}", file.display())));
    }
    let config = Holder::nobody(global).await?;
    let key = app::master_key(&config).map_err(failed(&config))?;
    let path = &config.store.path;
    let restored = moving::restore(file, path, &key, force, &By { actor: &offline_actor(), now: SystemClock::new().now() })
        .map_err(failed(&config))?;
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({
            "store": path,
            "inventory": restored.inventory,
            "aside": restored.aside,
            "stillRevoked": restored.still_revoked,
        }));
    }
    tell(&restored, path, output)
}

fn tell(restored: &Restored, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let inventory = &restored.inventory;
    output.sentence(&format!(
        "restored {}: {} keys, {} accounts. Start keygate again",
        path.display(),
        inventory.keys - inventory.revoked_keys,
        inventory.accounts
    ))?;
    if let Some(aside) = &restored.aside {
        output.sentence(&format!("the store of before is kept as {}; remove it when all is well", aside.display()))?;
    }
    match &restored.still_revoked {
        Some(names) if names.is_empty() => Ok(()),
        Some(names) => output.sentence(&format!("revoked since the backup, and still so: {}", names.join(", "))),
        None => {
            output.note(
                "warning: keys that were revoked after this backup was made are good again, since there was no store that could say which: \
                 see keygate keys list",
            );
            Ok(())
        }
    }
}
