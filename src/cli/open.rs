//! What commands work with when no gateway runs: configuration, store, sessions and registry, put together in this process.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::admin::api::UpstreamView;
use crate::app::{self, Keep};
use crate::cli::Global;
use crate::cli::failure::{Exit, Failure};
use crate::clock::SystemClock;
use crate::config::problem::{Problems, Warning};
use crate::config::{Config, UpstreamConfig};
use crate::gateway::routing::Settings;
use crate::server::holder;
use crate::store::StoreError;

/// Reads and checks the configuration. All problems come at once, as a finished picture.
pub(crate) fn config(global: &Global) -> Result<(Config, Vec<Warning>), Failure> {
    let file = Config::find(global.config.as_deref()).map_err(problems)?;
    Config::load(&file).map_err(problems)
}

/// A wrong configuration as the end of a command.
pub(crate) fn problems(problems: Problems) -> Failure {
    Failure::usage(problems.to_string())
}

/// Store, keys, sessions and registry in this process, behind the same router that the admin socket has, without a reload. Call
/// it within a runtime.
pub(crate) fn offline(config: &Config) -> Result<Arc<Admin>, OpenError> {
    let opened = app::open_store(config)?;
    let clock = app::clock(&*opened.store, Arc::new(SystemClock::new()))?;
    let settings = Settings::new(config, None);
    let keep = Keep::load(opened.store, opened.hasher, &settings, Arc::clone(&clock), Handle::current())?;
    let admin = Admin::new(keep.registry, keep.sessions, clock, views(config), TaskTracker::new());
    Ok(Arc::new(admin.with_usage(keep.usage)))
}

/// The configured upstreams, for people.
pub(crate) fn views(config: &Config) -> Vec<UpstreamView> {
    let view = |upstream: &UpstreamConfig| UpstreamView {
        name: upstream.name.to_string(),
        kind: upstream.kind.to_string(),
        url: crate::gateway::routing::url(upstream),
        ..UpstreamView::default()
    };
    config.upstreams.iter().map(view).collect()
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// As the end of a command. `socket` is where a gateway would answer. Blocks, briefly.
    pub(crate) fn into_failure(self, socket: &Path) -> Failure {
        match self {
            Self::Store(StoreError::InUse { path }) if UnixStream::connect(socket).is_ok() => Failure::new(
                Exit::Unreachable,
                format!(
                    "keygate runs already, with the store {}: see \"keygate status\". To let it take over a changed configuration: \
                     keygate reload",
                    path.display()
                ),
            ),
            Self::Store(StoreError::InUse { path }) => Failure::new(
                Exit::Unreachable,
                format!(
                    "{} is in use by {}, but its admin socket {} does not answer. Stop it, or set admin.socket to the same path in both.",
                    path.display(),
                    user_of(&path),
                    socket.display()
                ),
            ),
            Self::Store(other) => Failure::failed(other.to_string()),
        }
    }
}

/// Who has the store open, as far as the system tells.
fn user_of(store: &Path) -> String {
    match holder::of_file(store) {
        Some(program) if program.name == "keygate" => format!("another keygate (pid {})", program.pid),
        Some(program) => program.to_string(),
        None => "another keygate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn without_a_configuration_the_message_says_what_to_do() {
        let failure = problems(load::none_found());
        let text = failure.message;
        assert_eq!(failure.exit, Exit::Usage);
        assert!(text.contains("there is no configuration"), "{text}");
        assert!(text.contains("to write one for your media server, run: keygate init --upstream http://127.0.0.1:13378"), "{text}");
        let advice = text.lines().find_map(|line| line.split_once("or run: keygate ")).expect("a command to run").1;
        let words: Vec<&str> = advice.split(' ').collect();
        let parsed = <crate::cli::Cli as clap::Parser>::try_parse_from([&["keygate"], words.as_slice()].concat());
        assert!(parsed.is_ok(), "{advice}: {parsed:?}");
    }

    #[test]
    fn a_locked_store_without_a_socket_says_what_to_do() {
        let error = OpenError::Store(StoreError::InUse { path: "/var/lib/keygate/keygate.redb".into() });
        let failure = error.into_failure(Path::new("/run/keygate/admin.sock"));
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("/var/lib/keygate/keygate.redb") && failure.message.contains("/run/keygate/admin.sock"));
    }
}
