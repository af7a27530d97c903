//! `keygate store backup`: a copy of the store, from the gateway or from the file.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::{Holder, failed, look_at, record};
use crate::app;
use crate::audit::{Act, Object, Verb};
use crate::cli::Global;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};

/// What `-o json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackedUp<'a> {
    file: &'a Path,
    bytes: u64,
    has_master_key: bool,
}

pub(super) async fn run(file: &Path, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let exists = || Failure::failed(format!("{} exists already; a backup never replaces a file", file.display()));
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(exists());
    }
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    match Holder::find(global).await? {
        Holder::Nobody(config) => {
            look_at(&config, &config.store.path)?;
            // Before the copy: it is in it. On a disk that takes nothing more the backup is what counts.
            let recorded = app::open_store(&config).and_then(|opened| record(&opened.store, Act::new(Verb::BackedUp, Object::store())));
            if let Err(error) = recorded {
                output.note(&format!("warning: the audit log could not be written: {error}"));
            }
            look_at(&config, &config.store.path)?.copy_to(file).map_err(failed(&config))?;
        }
        Holder::Gateway(backend) => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            // 0600 from the beginning, and without its name until it is whole.
            let mut copy = tempfile::Builder::new().prefix(".keygate-").tempfile_in(folder).map_err(cannot)?;
            backend.download("/api/store/backup", &mut |piece| copy.write_all(piece).map_err(cannot)).await?;
            copy.as_file().sync_all().map_err(cannot)?;
            copy.persist_noclobber(file).map_err(|error| cannot(error.error))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
        }
    }
    let bytes = std::fs::metadata(file).map_err(cannot)?.len();
    if output.format() == Format::Json {
        return output.json(&BackedUp { file, bytes, has_master_key: false });
    }
    output.sentence(&format!(
        "wrote {} ({bytes} bytes). The master key is not in it, and without it nobody can restore this: keep a copy of that too, in another place",
        file.display()
    ))
}
