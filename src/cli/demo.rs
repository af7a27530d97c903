//! `keygate demo`: the whole gateway on a fresh machine, without any media server.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::app::{App, Keep};
use crate::cli::Global;
use crate::cli::failure::Failure;
use crate::cli::open;
use crate::cli::output::{Format, Output};
use crate::cli::signals::Signals;
use crate::clock::{Clock, SteadyClock, SystemClock};
use crate::config::Config;
use crate::config::source::SecretSource;
use crate::demo::{Options, StandIn};
use crate::gateway::routing::Settings;
use crate::keys::Scopes;
use crate::registry::NewKey;
use crate::secret::Secret;
use crate::store;
use crate::store::seal::MasterKeyText;
use crate::upstream::{Credential, Kind, UpstreamName};

/// The user of the stand-ins that the demo's keys act for.
const ACCOUNT: &str = "alice";
const PASSWORD: &str = "alice-password";
const ANY_PORT: &str = "127.0.0.1:0";

/// `keygate demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {}

/// What `keygate demo -o json` prints.
#[derive(Debug, Serialize)]
struct Description {
    upstreams: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: UpstreamName,
    kind: Kind,
    gateway_url: String,
    upstream_url: String,
    account: String,
    key: String,
}

/// Runs stand-ins of the three kinds and a gateway in front of them until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`Failure`].
pub fn run(_: &DemoArgs, global: &Global) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?;
    let mut output = Output::new(global.output, global.quiet);
    runtime.block_on(demonstrate(&mut output))
}

async fn demonstrate(output: &mut Output) -> Result<(), Failure> {
    // From the start: whatever ends the demo, its folder goes away.
    let mut signals = Signals::new().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let folder = tempfile::Builder::new().prefix("keygate-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
    let mut standins = Vec::new();
    for kind in Kind::ALL {
        standins.push(
            StandIn::start(kind, Options::default()).await.map_err(|error| Failure::failed(format!("cannot start a stand-in: {error}")))?,
        );
    }
    let config = configure(&standins)?;
    let log = crate::telemetry::start(&config.log).map_err(|error| Failure::failed(error.to_string()))?;
    let app = start(&config, folder.path())?;
    let description = describe(&config, &standins, &app)?;
    show(&description, folder.path(), output)?;
    // Also when its terminal is closed (SIGHUP): there is nothing to reload.
    signals.next().await;
    let server = app.server;
    // Joining threads blocks.
    let _ = tokio::task::spawn_blocking(move || server.shut_down(std::time::Duration::ZERO)).await;
    for standin in standins {
        standin.stop().await;
    }
    drop(log);
    Ok(())
}

/// One upstream a stand-in, each with a listener of its own.
fn configure(standins: &[StandIn]) -> Result<Config, Failure> {
    let mut whole: Option<Config> = None;
    for standin in standins {
        let (mut config, _) = Config::for_upstream(&standin.url, Some(ANY_PORT), standin.kind).map_err(open::problems)?;
        let listen = std::mem::take(&mut config.server.listen);
        for upstream in &mut config.upstreams {
            upstream.name = UpstreamName::new(standin.kind.as_str());
            upstream.listen.clone_from(&listen);
        }
        match &mut whole {
            None => whole = Some(config),
            Some(whole) => whole.upstreams.append(&mut config.upstreams),
        }
    }
    whole.ok_or_else(|| Failure::failed("there are no stand-ins"))
}

fn start(config: &Config, folder: &Path) -> Result<App, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(Arc::new(SystemClock::new()), None));
    let source = SecretSource::File(folder.join("master.key"));
    let opened =
        store::open(&folder.join("store").join("keygate.redb"), &source, &MasterKeyText::Missing).map_err(|error| failed(&error))?;
    let settings = Settings::new(config, None);
    let control = tokio::runtime::Handle::current();
    let keep = Keep::load(opened.store, opened.hasher, &settings, clock, control).map_err(|error| failed(&error))?;
    App::start(config, settings, keep, None).map_err(|error| failed(&error))
}

fn describe(config: &Config, standins: &[StandIn], app: &App) -> Result<Description, Failure> {
    let failed = |error: crate::registry::RegistryError| Failure::failed(error.to_string());
    let registry = &app.keep.registry;
    let mut upstreams = Vec::new();
    for ((upstream, standin), address) in config.upstreams.iter().zip(standins).zip(app.addresses()) {
        let credential = Credential::Password(Secret::from(PASSWORD));
        let account = registry.add_account(upstream.name.clone(), ACCOUNT.to_owned(), credential).map_err(failed)?;
        let new = NewKey {
            name: "demo".to_owned(),
            account: account.id,
            expires_at: None,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: crate::limits::Limits::default(),
            created_by: "demo".to_owned(),
        };
        let key = registry.create_key(new).map_err(failed)?.key;
        upstreams.push(Entry {
            name: upstream.name.clone(),
            kind: upstream.kind,
            gateway_url: format!("http://{address}"),
            upstream_url: standin.url.clone(),
            account: ACCOUNT.to_owned(),
            key: key.expose().to_owned(),
        });
    }
    Ok(Description { upstreams })
}

fn show(description: &Description, folder: &Path, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(description);
    }
    output.line("keygate demo: three small stand-in media servers, and the gateway in front of each.")?;
    output.line(&format!("Nothing of yours is touched; the store is in {} and goes away at the end.\n", folder.display()))?;
    for entry in &description.upstreams {
        let Entry { kind, gateway_url, upstream_url, account, key, .. } = entry;
        let path = example(*kind);
        output.line(&format!("{}   gateway {gateway_url}   stand-in {upstream_url}", kind.product()))?;
        output.line(&format!("  key for {account} (shown once): {key}"))?;
        output.line(&format!("  curl -H 'Authorization: Bearer {key}' {gateway_url}{path}"))?;
        output.line(&format!("  curl -H 'X-Emby-Token: {key}' {gateway_url}{path}"))?;
        output.line(&format!("  curl '{gateway_url}{path}?api_key={key}'"))?;
        output.line(&format!("  curl -i {gateway_url}{path}     # without a key: 401\n"))?;
    }
    output.line("Each request leaves a line below. Ctrl-C ends everything.")
}

/// A request that shows whose session it became.
const fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/libraries",
        Kind::Emby | Kind::Jellyfin => "/System/Info",
    }
}
