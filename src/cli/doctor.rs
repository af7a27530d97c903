//! `keygate doctor`: every check in a line, by the running gateway; or, when none runs, as far as that goes from outside.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use http::Method;

use crate::admin::Examine;
use crate::admin::api::StatusView;
use crate::app::App;
use crate::certificates::{self, Shown};
use crate::cli::client::Backend;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::serve::Running;
use crate::cli::{Global, open, tls};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::doctor::{Examined, Finding, Inside, Installation, Verdict, examine, files};
use crate::server::holder;

const GATEWAY: &str = "gateway";

/// Looks, prints what was found, and ends with 1 when something failed, or 5 when the media server refused a credential.
pub(crate) async fn run(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let findings = match Backend::find(global).await {
        Ok(Ok(backend)) => by_the_gateway(&backend).await?,
        Ok(Err(socket)) => by_ourselves(global, &socket).await?,
        // Where the gateway is stands in the configuration.
        Err(failure) if failure.exit == Exit::Usage => {
            let file = Config::find(global.config.as_deref()).map_err(open::problems)?;
            let rest = Finding::new(GATEWAY, Verdict::NotLookedAt, "nothing else can be looked at before the configuration is right");
            files::configuration(&file, None).into_iter().chain([rest]).collect()
        }
        Err(failure) => return Err(failure),
    };
    show(&findings, output)?;
    judge(&findings)
}

async fn by_the_gateway(backend: &Backend) -> Result<Vec<Finding>, Failure> {
    let status: StatusView = backend.get("/api/status").await?;
    let own = env!("CARGO_PKG_VERSION");
    let text = format!("keygate {} answers, process {}", status.version, status.pid);
    let gateway = match status.version == own {
        true => Finding::new(GATEWAY, Verdict::Ok, text),
        false => Finding::new(GATEWAY, Verdict::Warning, format!("{text}; this command is {own}")).cure("Restart the gateway"),
    };
    let examined: Examined = backend.call(Method::POST, "/api/doctor", &()).await?;
    Ok([gateway].into_iter().chain(examined.findings).collect())
}

async fn by_ourselves(global: &Global, socket: &Path) -> Result<Vec<Finding>, Failure> {
    let file = Config::find(global.config.as_deref()).map_err(open::problems)?;
    let mut findings = Vec::new();
    let loaded = Config::load(&file);
    findings.push(gateway(socket, loaded.as_ref().ok().map(|(config, _)| config.store.path.as_path())));
    findings.extend(files::configuration(&file, None));
    if let Ok((config, _)) = loaded {
        findings.extend(files::secrets(&config));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let certificates = tls::look_only(&config, clock.now()).map_err(|failure| failure.message);
        let addresses = certificates::addresses_of_this_machine();
        findings.extend(examine(&Installation { config, clock, addresses, certificates, inside: None }).await);
    }
    Ok(findings)
}

/// Nobody answers: not started, or in the way of everybody.
fn gateway(socket: &Path, store: Option<&Path>) -> Finding {
    if let Some(program) = store.and_then(holder::of_file) {
        return Finding::new(GATEWAY, Verdict::Failed, format!("{program} has the store open, but nobody answers at {}", socket.display()))
            .cure("Stop it, or set admin.socket to the same path for both");
    }
    Finding::new(GATEWAY, Verdict::Warning, format!("no running keygate answers at {}", socket.display()))
        .cure("What needs one is not looked at: start it (keygate serve), and run keygate doctor again")
}

fn show(findings: &[Finding], output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(&Examined { findings: findings.to_vec() });
    }
    let is_shown = |finding: &&Finding| !output.is_quiet() || matches!(finding.verdict, Verdict::Warning | Verdict::Failed);
    let row = |finding: &Finding| {
        let about = finding.about.clone().unwrap_or_else(|| "-".to_owned());
        vec![finding.verdict.as_str().to_owned(), finding.check.clone(), about, finding.sentence().replace('\n', " ")]
    };
    let rows: Vec<_> = findings.iter().filter(is_shown).map(row).collect();
    if rows.is_empty() { Ok(()) } else { output.rows(&["RESULT", "CHECK", "ABOUT", "WHAT"], &rows) }
}

fn judge(findings: &[Finding]) -> Result<(), Failure> {
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    let exit = if findings.iter().any(|finding| finding.refused) { Exit::Upstream } else { Exit::Failed };
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(exit, "1 check failed")),
        count => Err(Failure::new(exit, format!("{count} checks failed"))),
    }
}

/// What `POST /api/doctor` does in a running gateway.
pub(crate) fn examiner(running: &Arc<Running>, app: &App, clock: &Arc<dyn Clock>, file: Option<PathBuf>) -> Box<Examine> {
    let (running, clock, gateway) = (Arc::clone(running), Arc::clone(clock), Arc::clone(&app.gateway));
    let (registry, sessions) = (Arc::clone(&app.keep.registry), Arc::clone(&app.keep.sessions));
    let listeners: Vec<_> = app.server.listeners.iter().cloned().zip(app.addresses().iter().copied()).collect();
    Box::new(move || {
        let config = running.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inside = Inside {
            registry: Arc::clone(&registry),
            sessions: Arc::clone(&sessions),
            listeners: listeners.clone(),
            unbelieved_proxy: gateway.unbelieved_proxy(),
        };
        let shown: Vec<Shown> = running.certificates.as_ref().map(|certificates| certificates.show().1).unwrap_or_default();
        let installation = Installation {
            config,
            clock: Arc::clone(&clock),
            addresses: certificates::addresses_of_this_machine(),
            certificates: Ok(shown),
            inside: Some(inside),
        };
        let file = file.clone();
        let examining: Pin<Box<dyn Future<Output = Vec<Finding>> + Send>> = Box::pin(async move {
            let config = installation.config.clone();
            let on_disk = tokio::task::spawn_blocking(move || {
                let of_file = file.map(|file| files::configuration(&file, Some(&config))).unwrap_or_default();
                of_file.into_iter().chain(files::secrets(&config)).collect::<Vec<_>>()
            });
            let mut findings = on_disk.await.unwrap_or_default();
            findings.extend(examine(&installation).await);
            findings
        });
        examining
    })
}
