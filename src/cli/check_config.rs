//! `keygate check-config`.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::Config;
use crate::config::problem::Problems;

/// Checks the configuration as `keygate serve` would read it. The text is for standard output: warnings, then one line of what it says.
///
/// # Errors
/// All problems at once; their `Display` is for standard error, and the exit code is 2.
pub fn check(config: Option<&Path>) -> Result<String, Problems> {
    let path = Config::find(config)?;
    let (config, warnings) = Config::load(&path)?;
    let mut text = String::new();
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let _ = write!(text, "ok: {}:", path.display());
    for upstream in &config.upstreams {
        let _ = write!(text, " {} ({} at {}:{})", upstream.name, upstream.kind, upstream.host, upstream.port);
    }
    let own = config.upstreams.iter().flat_map(|upstream| &upstream.listen);
    let listen: Vec<String> = config.server.listen.iter().chain(own).map(ToString::to_string).collect();
    let _ = write!(text, ", listening on {} ({})", listen.join(", "), if config.server.tls.is_some() { "TLS" } else { "plain HTTP" });
    if let Some(traces) = &config.traces {
        let _ = write!(text, ", traces of {} of all requests to {}", traces.sample, traces.endpoint);
    }
    Ok(text)
}
