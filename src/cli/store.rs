//! `keygate store`: what concerns the store as a whole.

mod backup;
mod rekey;
mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use http::Method;

use crate::admin::api::TimeForgotten;
use crate::app;
use crate::audit::{Act, Actor, Field, Object, Verb};
use crate::cli::client::Backend;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{Global, open};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::store::inventory::{Compacted, Inventory};
use crate::store::redb::{CACHE_BYTES, RedbStore};
use crate::store::{Change, Store, StoreError};

/// `keygate store …`.
#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Read everything, and say whether it is whole: checksums, records, sealed values, and the index of keys
    Check {
        /// Check this backup instead
        #[arg(value_name = "BACKUP")]
        file: Option<PathBuf>,
    },
    /// Write a copy of the store into a new file, while keygate runs or while it does not
    ///
    /// The copy is sealed as the store is: without the master key, which is not in it, nothing comes of it. Keep a copy of the master
    /// key too, in another place: whoever has both has the passwords of all accounts.
    Backup {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a backup in the place of the store; keygate must be stopped
    ///
    /// The backup is looked through first. A store that is there already is kept beside it, and keys that were revoked there stay revoked.
    Restore {
        /// What keygate store backup wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Also when there is a store already
        #[arg(long)]
        force: bool,
    },
    /// Give unused space back to the file system
    Compact,
    /// Seal everything under a new master key; keygate must be stopped
    ///
    /// Keys and accounts stay as they are. Backups of before need the old master key, which is kept beside the new one: when there is a new
    /// backup, remove both.
    Rekey {
        /// Write the new master key here, where it does not lie in a file (a systemd credential, an environment variable)
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Judge keys by the machine's clock again, after it had run ahead
    ///
    /// keygate writes down how late it is, so that a clock that is set back brings no expired key to life. When the clock was wrong and
    /// ahead, that time is wrong too; this lets it go. Set the clock right first: keys whose expiry lies after the machine's time are good
    /// again.
    ForgetTime,
}

pub(crate) async fn run(command: &StoreCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    match command {
        StoreCommand::Check { file } => check(file.as_deref(), global, output).await,
        StoreCommand::Backup { file } => backup::run(file, global, output).await,
        StoreCommand::Restore { file, force } => restore::run(file, *force, global, output).await,
        StoreCommand::Compact => compact(global, output).await,
        StoreCommand::Rekey { key_file } => rekey::run(key_file.as_deref(), global, output).await,
        StoreCommand::ForgetTime => forget_time(global, output).await,
    }
}

/// Who has the store open.
enum Holder {
    /// A running gateway.
    Gateway(Backend),
    /// Nobody but this process.
    Nobody(Box<Config>),
}

impl Holder {
    async fn find(global: &Global) -> Result<Self, Failure> {
        match Backend::find(global).await? {
            Ok(backend) => Ok(Self::Gateway(backend)),
            Err(_) => Ok(Self::Nobody(Box::new(open::config(global)?.0))),
        }
    }

    /// The configuration, for what must not happen beside a running gateway.
    async fn nobody(global: &Global) -> Result<Config, Failure> {
        match Self::find(global).await? {
            Self::Nobody(config) => Ok(*config),
            Self::Gateway(_) => Err(Failure::failed("keygate runs, and has the store open: stop it first, then try again")),
        }
    }
}

/// The configured store as it lies there, for a command beside a gateway that does not run.
pub(crate) fn look_at_own(config: &Config) -> Result<RedbStore, Failure> {
    look_at(config, &config.store.path)
}

/// This process, for the audit log.
fn offline_actor() -> Actor {
    crate::admin::Actor::Offline { uid: rustix::process::getuid().as_raw() }.audited(|_| None)
}

/// Writes into the audit log of a store that nobody else has open.
fn record(store: &RedbStore, act: Act) -> Result<(), StoreError> {
    store.commit(vec![Change::Audit(act.by(&offline_actor(), SystemClock::new().now()))])
}

/// The store as it lies there; nothing is changed, and no new one made.
fn look_at(config: &Config, path: &Path) -> Result<RedbStore, Failure> {
    if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(Failure::new(Exit::NotFound, format!("there is no store at {}", path.display())));
    }
    let looked = app::master_key(config).and_then(|key| RedbStore::look_at(path, &key, CACHE_BYTES));
    looked.map_err(|error| open::OpenError::from(error).into_failure(&config.admin.socket))
}

fn failed(config: &Config) -> impl Fn(StoreError) -> Failure {
    |error| open::OpenError::from(error).into_failure(&config.admin.socket)
}

async fn check(file: Option<&Path>, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let inventory: Inventory = if let Some(file) = file {
        let (config, _) = open::config(global)?;
        look_at(&config, file)?.check().map_err(failed(&config))?
    } else {
        match Holder::find(global).await? {
            Holder::Gateway(backend) => backend.call(Method::POST, "/api/store/check", &()).await?,
            Holder::Nobody(config) => look_at(&config, &config.store.path)?.check().map_err(failed(&config))?,
        }
    };
    show(&inventory, output)?;
    if inventory.problems.is_empty() {
        return Ok(());
    }
    let advice = "restore a backup (keygate store restore), or write to the developers with this list";
    Err(Failure::failed(format!("the store is not whole; {advice}:\n{}", inventory.problems.join("\n"))))
}

fn show(inventory: &Inventory, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(inventory);
    }
    let row = |what: &str, count: String| vec![what.to_owned(), count];
    let keys = format!("{} ({} revoked)", inventory.keys, inventory.revoked_keys);
    let mut rows = vec![
        row("keys", keys),
        row("secrets of keys", inventory.index_entries.to_string()),
        row("accounts", inventory.accounts.to_string()),
        row("sessions", inventory.sessions.to_string()),
        row("tickets and ids", inventory.handouts.to_string()),
        row("certificates and accounts of ACME", inventory.acme.to_string()),
        row("audit lines", inventory.audit_lines.to_string()),
        row("bytes", inventory.bytes.to_string()),
    ];
    if inventory.problems.is_empty() {
        rows.push(row("result", "whole".to_owned()));
    }
    output.rows(&["WHAT", "FOUND"], &rows)
}

async fn compact(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let compacted: Compacted = match Holder::find(global).await? {
        Holder::Gateway(backend) => backend.call(Method::POST, "/api/store/compact", &()).await?,
        Holder::Nobody(config) => {
            look_at(&config, &config.store.path)?;
            let store: Arc<RedbStore> = app::open_store(&config).map_err(failed(&config))?.store;
            let compacted = store.compact().map_err(failed(&config))?;
            let sizes = Field::changed("bytes", compacted.bytes_before, compacted.bytes_after);
            record(&store, Act::new(Verb::Compacted, Object::store()).with(sizes)).map_err(failed(&config))?;
            compacted
        }
    };
    if output.format() == Format::Json {
        return output.json(&compacted);
    }
    output.sentence(&format!("the store has {} bytes now (before: {})", compacted.bytes_after, compacted.bytes_before))
}

async fn forget_time(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let forgotten: TimeForgotten = backend.call(Method::POST, "/api/time/forget", &()).await?;
    if output.format() == Format::Json {
        return output.json(&forgotten);
    }
    output.sentence(&format!("keys are judged by the machine's clock again: {} (before: {})", forgotten.now, forgotten.before))
}
