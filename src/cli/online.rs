//! What the configuration cannot know by itself: who answers at an upstream's address. For `check-config --online` and the start.

use crate::admin::api::{AccountList, Forwarding};
use crate::cli::Global;
use crate::cli::client::Backend;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::config::Config;
use crate::gateway::routing;
use crate::upstream::Kind;
use crate::upstream::client::Upstream;
use crate::upstream::survey::{Judged, judge, survey};

const KNOWN_PROXIES: &str = "Jellyfin does not believe this gateway about who the client is. Add the gateway's address under Dashboard, \
     Networking, Known proxies, then restart Jellyfin; otherwise remote-access limits and logs are wrong.";

/// Asks every upstream what it is, and each Jellyfin with an account whether it believes the gateway's forwarding headers.
///
/// # Errors
/// The exit code is 1 when an upstream is away or something else than configured.
pub(crate) async fn check(config: &Config, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for upstream in config.upstreams.iter().map(routing::upstream) {
        match judge(&upstream, survey(&upstream).await) {
            Judged::Good(text) => {
                output.message(&format!("{}: {text}", upstream.name))?;
                if upstream.kind == Kind::Jellyfin {
                    output.message(&forwarding(&upstream, config, global, output).await)?;
                }
            }
            Judged::Away(text) | Judged::Wrong(text) => problems.push(format!("{}: {text}", upstream.name)),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, problems.join("\nerror: "))) }
}

async fn forwarding(upstream: &Upstream, config: &Config, global: &Global, output: &Output) -> String {
    let name = &upstream.name;
    match ask(upstream, config, global, output).await {
        Ok(Some(true)) => format!("{name}: Jellyfin believes this gateway about who the client is"),
        Ok(Some(false)) => format!("warning: {name}: {KNOWN_PROXIES}"),
        Ok(None) => {
            format!("{name}: whether Jellyfin has this gateway among its known proxies is not known: there is no account to ask with")
        }
        Err(failure) => format!("{name}: whether Jellyfin has this gateway among its known proxies is not known: {failure}"),
    }
}

/// `None`: there is nobody to ask as, or the server does not say.
async fn ask(upstream: &Upstream, config: &Config, global: &Global, output: &Output) -> Result<Option<bool>, Failure> {
    // Opening a store that is not there would make one.
    let backend = match Backend::running(global).await {
        Ok(backend) => backend,
        Err(_) if !config.store.path.exists() => return Ok(None),
        Err(_) => Backend::open(global, output).await?,
    };
    let accounts = backend.get::<AccountList>("/api/accounts").await?.accounts;
    let usable = accounts.into_iter().find(|account| account.upstream == upstream.name.as_str() && account.state != "broken");
    let Some(account) = usable else { return Ok(None) };
    Ok(backend.get::<Forwarding>(&format!("/api/accounts/{}/forwarding", account.id)).await?.believed)
}
