//! `keygate tls`: the certificates that are served, and the one that devices must know.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use tokio_util::sync::CancellationToken;

use crate::admin::certificates::{self as view, CertificateView, ClientsView, TlsView};
use crate::certificates::acme::Acme;
use crate::certificates::{self, Certificates, Shown};
use crate::cli::client::Backend;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{self, Global, open, store};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{CertificateSource, Config};
use crate::server::clients::ClientAuthorities;
use crate::store::redb::RedbStore;

/// How often the running gateway looks for newer certificates.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// `keygate tls …`.
#[derive(Subcommand, Debug)]
pub enum TlsCommand {
    /// Show the certificates that are served: names, days left, fingerprint, source
    Show,
    /// Ask for a new certificate now, and wait for it; only with certificates by ACME
    ///
    /// Renewals happen by themselves in good time. This is for trying whether an order works, and for a key that may be known to others.
    Renew,
    /// Print the certificate of keygate's own authority, for phones, televisions and browsers
    ///
    /// A device that has it trusts this gateway under every name that the gateway has at home, and goes on doing so when the gateway's own
    /// certificate is renewed. It is not secret. Only with tls = "self-signed".
    Ca {
        /// As DER, as some devices want it, and not as PEM
        #[arg(long)]
        der: bool,
        /// Make a new authority first: for names that the old one may not vouch for, or when its key may have been stolen
        #[arg(long)]
        renew: bool,
        /// Do not ask before that
        #[arg(short, long, requires = "renew")]
        yes: bool,
    },
}

pub(crate) async fn run(command: &TlsCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    match command {
        TlsCommand::Show => show(&ask(global, output).await?, output),
        TlsCommand::Renew => {
            let renewed = Backend::running(global).await?.call(Method::POST, "/api/tls/renew", &()).await?;
            show(&renewed, output)
        }
        TlsCommand::Ca { der, renew: true, yes } => ca(&renew(*yes, global).await?, *der, output),
        TlsCommand::Ca { der, .. } => ca(&ask(global, output).await?, *der, output),
    }
}

/// The running gateway tells; when none runs, the files do.
async fn ask(global: &Global, output: &Output) -> Result<TlsView, Failure> {
    if let Some(backend) = Backend::daemon(global).await? {
        return backend.get("/api/tls").await;
    }
    output.note("no running keygate: looking at the files");
    let (config, _) = open::config(global)?;
    let now = SystemClock::new().now();
    let shown = look_only(&config, now)?;
    Ok(view::of(config.server.tls.as_ref().map(|tls| &tls.source), shown, now))
}

/// What there is, for whoever looks beside a gateway that does not run.
pub(crate) fn look_only(config: &Config, now: Timestamp) -> Result<Vec<Shown>, Failure> {
    let Some(source) = config.server.tls.as_ref().map(|tls| &tls.source) else { return Ok(Vec::new()) };
    let acme = match source {
        CertificateSource::Acme(_) => Some(Acme::new(Arc::new(store::look_at_own(config)?), Arc::new(SystemClock::new()))),
        CertificateSource::Files(_) | CertificateSource::SelfSigned(_) => None,
    };
    certificates::look_only(source, acme.as_ref(), now).map_err(|error| Failure::new(Exit::NotFound, error.to_string()))
}

/// Only the running gateway may: what it writes must be its own.
async fn renew(yes: bool, global: &Global) -> Result<TlsView, Failure> {
    let backend = Backend::running(global).await?;
    let question = "Make a new authority? No device trusts this gateway then until it has the new certificate.";
    cli::ask::confirm(question, yes)?;
    backend.call(Method::POST, "/api/tls/authority/renew", &()).await
}

fn show(view: &TlsView, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(view);
    }
    if view.certificates.is_empty() {
        return output.sentence("TLS is off");
    }
    let row = |one: &CertificateView| {
        let names = if one.names.is_empty() { one.subject.clone() } else { one.names.join(", ") };
        let source = one.file.clone().unwrap_or_else(|| view.source.clone());
        vec![one.days_left.to_string(), one.not_after.clone(), source, format!("sha256:{}", one.fingerprint), names]
    };
    output.rows(&["DAYS LEFT", "UNTIL", "SOURCE", "FINGERPRINT", "NAMES"], &view.certificates.iter().map(row).collect::<Vec<_>>())?;
    for one in &view.certificates {
        if let Some(standing) = &one.standing {
            output.note(standing);
        }
        if let Some(problem) = &one.problem {
            output.note(&format!("warning: no newer certificate: {problem}"));
        }
    }
    if let Some(ClientsView { file, problem: Some(problem) }) = &view.clients {
        output.note(&format!("warning: no newer authorities of clients' certificates from {file}: {problem}"));
    }
    match &view.authority {
        Some(authority) => {
            output.sentence(&format!("authority: sha256:{} (keygate tls ca prints it)", authority.fingerprint))?;
            let limits = authority.limits.as_ref().map_or_else(|| "everything".to_owned(), |limits| limits.join(", "));
            output.sentence(&format!("it may vouch for: {limits}"))
        }
        None => Ok(()),
    }
}

fn ca(view: &TlsView, der: bool, output: &mut Output) -> Result<(), Failure> {
    let Some(authority) = &view.authority else {
        let text = match view.source.as_str() {
            "self-signed" => "keygate's own authority cannot be read: look into the gateway's log".to_owned(),
            other => format!(
                "there is no authority of keygate's own: certificates come from \"{other}\". Write tls = \"self-signed\" in [server] to have one"
            ),
        };
        return Err(Failure::new(Exit::NotFound, text));
    };
    if der {
        return output.bytes(&authority.der().map_err(|_| Failure::failed("the gateway's answer holds no certificate"))?);
    }
    match output.format() {
        Format::Json => output.json(authority),
        Format::Table | Format::Plain => output.line(authority.pem.trim_end()),
    }
}

/// Keeps the certificates fresh until `stop`, and the authorities of clients.
pub(crate) async fn watch(certificates: Arc<Certificates>, clients: Option<Arc<ClientAuthorities>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (looking, clients) = (Arc::clone(&certificates), clients.clone());
        // Files may lie on a share that hangs; the next look waits for this one.
        let look = tokio::task::spawn_blocking(move || {
            looking.look();
            clients.inspect(|clients| clients.look());
        });
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look => {}
        }
    }
}

/// The certificates of a configuration that has TLS.
pub(crate) fn load(config: &Config, store: &Arc<RedbStore>, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Certificates>>, Failure> {
    let Some(tls) = &config.server.tls else { return Ok(None) };
    let acme = Acme::new(Arc::<RedbStore>::clone(store), Arc::clone(clock));
    let loaded = Certificates::load_with(&tls.source, Arc::clone(clock), Some(acme));
    let loaded = loaded.map_err(|error| Failure::usage(format!("server.tls: {error}")))?;
    let (_, shown) = loaded.show();
    for one in shown {
        let file = one.file.map(|file: PathBuf| file.display().to_string());
        let source = file.unwrap_or_else(|| tls.source.as_str().to_owned());
        tracing::info!(source, until = one.facts.last_day(), sha256 = one.facts.fingerprint, "certificate for {}", one.facts.title());
        if let Some(standing) = one.standing {
            tracing::info!("{standing}");
        }
    }
    Ok(Some(Arc::new(loaded)))
}
