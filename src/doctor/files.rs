//! What lies on the disk: the configuration, the store, the master key. Blocking.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::Config;
use crate::config::source::SecretSource;
use crate::doctor::Finding;

const CONFIG: &str = "config";
const STORE: &str = "store";
const MASTER_KEY: &str = "master key";

/// The configuration's file, read as it would be at the next start. `running`: what is in force now.
pub fn configuration(file: &Path, running: Option<&Config>) -> Vec<Finding> {
    let about = |finding: Finding| finding.about(file.display());
    match Config::load(file) {
        Err(problems) => problems.lines().into_iter().map(|line| about(Finding::failed(CONFIG, line))).collect(),
        Ok((config, warnings)) => {
            let mut findings: Vec<_> = warnings.into_iter().map(|warning| about(Finding::warning(CONFIG, warning.to_string()))).collect();
            findings.push(about(match running {
                Some(running) if !is_in_force(running, config) => {
                    Finding::warning(CONFIG, "the file says something else than what is in force").cure("Take it over: keygate reload")
                }
                _ => Finding::ok(CONFIG, "nothing is wrong with it"),
            }));
            findings
        }
    }
}

/// What the start works out by itself is no difference.
fn is_in_force(running: &Config, mut file: Config) -> bool {
    if file.limits.max_connections == 0 {
        file.limits.max_connections = running.limits.max_connections;
    }
    *running == file
}

/// Who may read the store and its master key.
pub fn secrets(config: &Config) -> Vec<Finding> {
    vec![store(&config.store.path), master_key(&config.store.master_key, &config.store.path)]
}

fn store(path: &Path) -> Finding {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let finding = match (fs::metadata(path), fs::metadata(folder)) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
            Finding::not_looked_at(STORE, "it is not there yet: keygate serve makes it")
        }
        (Err(error), _) | (_, Err(error)) => Finding::failed(STORE, format!("it cannot be looked at: {error}")),
        (Ok(file), _) if is_open(&file) => {
            Finding::failed(STORE, format!("other users may read or change it (mode {:04o})", file.mode() & 0o7777))
                .cure(format!("chmod 600 {}", path.display()))
        }
        (_, Ok(folder_mode)) if folder_mode.mode() & 0o022 != 0 => {
            Finding::failed(STORE, format!("other users may replace it (mode {:04o} of {})", folder_mode.mode() & 0o7777, folder.display()))
                .cure(format!("chmod 700 {}", folder.display()))
        }
        (Ok(file), _) => Finding::ok(STORE, format!("{} bytes, and nobody but its owner may read it", file.len())),
    };
    finding.about(path.display())
}

fn is_open(file: &Metadata) -> bool {
    file.mode() & 0o077 != 0
}

fn master_key(source: &SecretSource, store: &Path) -> Finding {
    if let Some(warning) = source.warning() {
        return Finding::warning(MASTER_KEY, warning).cure("Write master_key = { file = \"…\" } or { credential = \"…\" } in [store]");
    }
    let SecretSource::File(path) = source else {
        return Finding::ok(MASTER_KEY, "it is a credential of systemd's");
    };
    match source.read() {
        Ok(_) if path.parent() == store.parent() => {
            Finding::ok(MASTER_KEY, "nobody but its owner may read it; it lies in the store's folder: back the two up apart")
        }
        Ok(_) => Finding::ok(MASTER_KEY, "nobody but its owner may read it"),
        Err(_) if !store.exists() && !path.exists() => Finding::not_looked_at(MASTER_KEY, "it is made together with the store"),
        Err(error) => Finding::failed(MASTER_KEY, error.to_string()),
    }
    .about(path.display())
}
