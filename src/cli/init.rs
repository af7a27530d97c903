//! `keygate init`: a first configuration, for a media server that was asked what it is.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::serve::kind;
use crate::cli::{Global, open};
use crate::config::Config;
use crate::gateway::routing;
use crate::upstream::Kind;
use crate::upstream::call::CallError;
use crate::upstream::survey::{Found, survey};

const LISTEN: &str = "127.0.0.1:8443";

/// `keygate init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// The media server, for example <http://127.0.0.1:13378>
    #[arg(long, value_name = "URL")]
    pub upstream: String,
    /// What it is; found out when left away
    #[arg(long, value_parser = kind, value_name = "audiobookshelf|emby|jellyfin")]
    pub kind: Option<Kind>,
    /// Where keygate shall listen [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// A media server that said what it is.
pub(crate) struct Recognised {
    /// What.
    pub(crate) kind: Kind,
    /// Its version, if it said so.
    pub(crate) version: Option<String>,
}

/// Asks what answers at an address.
///
/// # Errors
/// [`Exit::Usage`] when the address is none; [`Exit::Upstream`] when nobody answers there, or something else.
pub(crate) async fn recognise(url: &str, listen: Option<&str>) -> Result<Recognised, Failure> {
    let (config, _) = Config::for_upstream(url, listen, Kind::Audiobookshelf).map_err(open::problems)?;
    let failed = |why: String| Failure::new(Exit::Upstream, format!("{why}; say what it is with --kind"));
    let upstream = config.upstreams.first().map(routing::upstream).ok_or_else(|| Failure::usage("no upstream"))?;
    match survey(&upstream).await {
        Ok(Found::Server { kind, version }) => Ok(Recognised { kind, version }),
        Ok(Found::Starting) => Err(failed(format!("{url} is still starting"))),
        Ok(Found::Stranger) => Err(failed(format!("{url} does not answer as Audiobookshelf, Emby or Jellyfin"))),
        // What it says of settings holds for a file: the command line has none of them.
        Err(error @ CallError::Tls { .. }) => {
            Err(Failure::new(Exit::Upstream, format!("{error}. Settings stand in [[upstream]] of a file: see config.example.toml")))
        }
        Err(error) => Err(failed(format!("cannot find out what {url} is: {error}"))),
    }
}

pub(crate) async fn run(args: &InitArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let file = file(global)?;
    let listen = args.listen.map_or_else(|| LISTEN.to_owned(), |listen| listen.to_string());
    let url = args.upstream.trim_end_matches('/');
    let found = match (recognise(url, Some(&listen)).await, args.kind) {
        (Ok(found), Some(kind)) if kind != found.kind => {
            return Err(Failure::usage(format!(
                "{url} answers as {}, and not as {}: leave --kind away",
                found.kind.product(),
                kind.product()
            )));
        }
        (Err(failure), Some(kind)) if failure.exit == Exit::Upstream => {
            output.note(&format!("warning: {url} does not say that it is {}; written as you say", kind.product()));
            Recognised { kind, version: None }
        }
        (found, _) => found?,
    };
    // The same rules as for the file: a wrong one is never written.
    Config::for_upstream(url, Some(&listen), found.kind).map_err(open::problems)?;
    write(&file, &text(url, &listen, &found))?;
    tell(&file, url, &found, output)
}

/// Where the configuration goes; nothing may be there.
fn file(global: &Global) -> Result<PathBuf, Failure> {
    let there = |file: &Path| Failure::failed(format!("{} exists already, and is never overwritten", file.display()));
    match &global.config {
        Some(file) if std::fs::symlink_metadata(file).is_ok() => Err(there(file)),
        Some(file) => Ok(file.clone()),
        // One that is found first would win over a new one.
        None => Config::find(None).map_or_else(|_| Ok(PathBuf::from("config.toml")), |found| Err(there(&found))),
    }
}

fn name(found: &Recognised) -> String {
    format!("{} {}", found.kind.product(), found.version.as_deref().unwrap_or_default()).trim_end().to_owned()
}

fn text(url: &str, listen: &str, found: &Recognised) -> String {
    let Recognised { kind, .. } = found;
    // What stands behind "answered here" comes from the server: one line of it, and only plain letters.
    let name: String = name(found).chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-')).take(60).collect();
    format!(
        "# Configuration of keygate. Every other field, with its default and what it means: config.example.toml\n\
         # Check it with: keygate check-config\n\n\
         [[upstream]]\n\
         # {name}.\n\
         kind = \"{kind}\"\n\
         # Keep other machines away from it: keygate should be the only one who can reach it.\n\
         url = \"{url}\"\n\
         # Public host names that lead to it; none: every host name does.\n\
         # hosts = [\"media.example.org\"]\n\n\
         [server]\n\
         # Only programs on this machine reach 127.0.0.1. For others: \"[::]:8443\", with tls = \"self-signed\" or a certificate below.\n\
         listen = [\"{listen}\"]\n\n\
         # [server.tls]\n\
         # cert_file = \"fullchain.pem\"\n\
         # key_file = \"privkey.pem\"\n"
    )
}

/// 0600, whole or not at all, and never over another file.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".keygate-").tempfile_in(folder).map_err(cannot)?;
    new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(cannot)?;
    new.persist_noclobber(file).map_err(|error| cannot(error.error))?;
    Ok(())
}

fn tell(file: &Path, url: &str, found: &Recognised, output: &mut Output) -> Result<(), Failure> {
    let is_found_by_itself = file == Path::new("config.toml") || file == Path::new("/etc/keygate/config.toml");
    let named = if is_found_by_itself { String::new() } else { format!(" --config {}", file.display()) };
    let next = [format!("keygate serve{named}"), format!("keygate accounts add NAME{named}")];
    let setting = setting(found.kind);
    if output.format() == Format::Json {
        let Recognised { kind, version } = found;
        return output
            .json(&serde_json::json!({ "file": file, "kind": kind, "version": version, "url": url, "next": next, "setting": setting }));
    }
    output.sentence(&format!("found {} at {url}", name(found)))?;
    output.sentence(&format!("wrote {}", file.display()))?;
    if let Some(setting) = setting {
        output.sentence(setting)?;
    }
    output.sentence("next, the second one in another terminal, with a user of the media server:")?;
    next.iter().try_for_each(|line| output.sentence(&format!("  {line}")))
}

/// What must be set at the media server.
const fn setting(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Audiobookshelf => None,
        Kind::Emby => Some("in Emby, choose \"Handled by reverse proxy\" as the secure connection mode (Network)"),
        Kind::Jellyfin => Some("in Jellyfin, add keygate's address under Dashboard, Networking, Known proxies, then restart it"),
    }
}
