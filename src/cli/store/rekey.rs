//! `keygate store rekey`: a new master key.

use std::path::Path;

use super::{Holder, failed, look_at, offline_actor};
use crate::app;
use crate::cli::Global;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::clock::{Clock, SystemClock};
use crate::config::source::SecretSource;
use crate::store::moving::{self, By, NewKey};

pub(super) async fn run(key_file: Option<&Path>, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let config = Holder::nobody(global).await?;
    let new = match (&config.store.master_key, key_file) {
        (SecretSource::File(file), None) => NewKey::Instead(file),
        (SecretSource::File(file), Some(_)) => {
            return Err(Failure::usage(format!(
                "the new master key takes the place of the old one, {}: leave --key-file away",
                file.display()
            )));
        }
        (_, Some(file)) => NewKey::Apart(file),
        (_, None) => {
            return Err(Failure::usage("the master key does not lie in a file: say with --key-file where the new one shall be written"));
        }
    };
    // Opening puts a new key in its place that an interrupted change left waiting.
    if let Err(refused) = look_at(&config, &config.store.path) {
        if refused.exit == Exit::NotFound {
            return Err(refused);
        }
        app::open_store(&config).map_err(|_| refused)?;
    }
    let key = app::master_key(&config).map_err(failed(&config))?;
    let path = &config.store.path;
    let old = moving::rekey(path, &key, new, &By { actor: &offline_actor(), now: SystemClock::new().now() }).map_err(failed(&config))?;
    let written = match new {
        NewKey::Instead(file) | NewKey::Apart(file) => file,
    };
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "store": path, "masterKey": written, "oldMasterKey": old }));
    }
    output.sentence(&format!("{} is sealed under a new master key, {}; all keys stay good", path.display(), written.display()))?;
    match old {
        Some(old) => output.sentence(&format!(
            "backups of before need the old one, kept as {}: make a new backup, then remove it and them",
            old.display()
        )),
        None => output.sentence("put it where keygate reads its master key from before you start keygate, and remove that file"),
    }
}
