//! The one task that orders certificates.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::CertificateIdentifier;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::https::Https;
use super::order::Job;
use super::reason::AcmeError;
use super::schedule::{self, Window};
use super::stage::Stage;
use super::vault::off_the_loop;
use super::{Acme, Advice, Failure, Task, host};
use crate::certificates::Certificates;
use crate::clock::Timestamp;
use crate::config::AcmeSettings;
use crate::store::acme::AcmeCertificate;

/// How often the clock is looked at: a machine that slept does not know how long.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long advice is not asked for again that was not given.
const NO_ADVICE: Duration = Duration::from_secs(6 * 3600);

/// Keeps the certificates of ACME fresh until `stop`; does nothing while certificates come from elsewhere.
pub async fn keep(certificates: Arc<Certificates>, stop: CancellationToken) {
    let Some(acme) = certificates.acme() else { return };
    let mut generation = acme.generation.subscribe();
    while !stop.is_cancelled() {
        match acme.task(acme.clock.now()) {
            Task::Order => order(&acme, &certificates, &mut generation, &stop).await,
            Task::AskForAdvice => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = acme.asked.notified() => {}
                    () = ask_for_advice(&acme) => {}
                }
            }
            Task::Nothing => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = acme.asked.notified() => {}
                    _ = generation.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        }
    }
}

/// How an order ended.
enum Ended {
    With(Result<AcmeCertificate, AcmeError>, Option<Duration>),
    /// It is not wanted any more.
    Dropped,
}

async fn order(acme: &Arc<Acme>, certificates: &Arc<Certificates>, generation: &mut watch::Receiver<u64>, stop: &CancellationToken) {
    generation.mark_unchanged();
    let Some((settings, replaces)) = acme.begin() else { return };
    acme.remember(Some((&settings, acme.if_cut_off()))).await;
    let names = settings.domains.join(", ");
    tracing::info!("asking {} for a certificate for {names} by {}", host(&settings), settings.challenge.as_str());
    let mut stage = Stage::new(certificates.served().challenges());
    let ended = tokio::select! {
        () = stop.cancelled() => Ended::Dropped,
        _ = generation.changed() => Ended::Dropped,
        (result, asked) = run(acme, &settings, replaces, &mut stage) => Ended::With(result, asked),
    };
    stage.clear(stop.is_cancelled()).await;
    let (result, asked) = match ended {
        Ended::With(result, asked) => (result, asked),
        Ended::Dropped => {
            acme.drop_order();
            return acme.remember_as_it_is().await;
        }
    };
    match result.and_then(|certificate| acme.accept(certificate)) {
        Ok((certificate, held)) => take_over(acme, certificates, certificate, held).await,
        Err(error) => {
            acme.fail(&settings, &error, asked);
            acme.remember_as_it_is().await;
        }
    }
}

async fn run(
    acme: &Acme,
    settings: &AcmeSettings,
    replaces: Option<CertificateIdentifier<'static>>,
    stage: &mut Stage,
) -> (Result<AcmeCertificate, AcmeError>, Option<Duration>) {
    let https = match https(settings).await {
        Ok(https) => https,
        Err(error) => return (Err(error), None),
    };
    let job = Job { settings, https: &https, vault: &acme.vault, now: acme.clock.now(), replaces };
    let result = job.run(stage).await;
    (result, https.retry_after())
}

async fn https(settings: &AcmeSettings) -> Result<Https, AcmeError> {
    let ca_file = settings.ca_file.clone();
    off_the_loop(move || Ok(Https::new(ca_file.as_deref())?)).await
}

/// Into the store first, then to the handshakes. One that cannot be stored is served all the same.
async fn take_over(acme: &Arc<Acme>, certificates: &Arc<Certificates>, certificate: AcmeCertificate, held: Arc<Held>) {
    let vault = acme.vault.clone();
    if let Err(error) = off_the_loop(move || vault.keep_certificate(certificate)).await {
        tracing::error!("the new certificate is served, but could not be stored, so that a restart orders another one: {error}");
    }
    acme.succeed(&held);
    let certificates = Arc::clone(certificates);
    if let Err(error) = tokio::task::spawn_blocking(move || certificates.look()).await {
        tracing::error!("the new certificate could not be taken over: {error}");
    }
    acme.ended.send_modify(|ended| *ended = (ended.0 + 1, Ok(())));
}

/// Asks when the certificate that is served should be renewed (RFC 9773). Whatever comes of it, there is an answer for a while.
pub(super) async fn ask_for_advice(acme: &Acme) {
    let Some((settings, held)) = acme.now_served() else { return };
    let now = acme.clock.now();
    let asked = advice(acme, &settings, &held, now).await;
    let (window, again) = asked.unwrap_or_else(|error| {
        tracing::debug!("no advice on the renewal of the certificate: {error}");
        (None, NO_ADVICE)
    });
    acme.state().advice =
        Some(Advice { fingerprint: held.facts.fingerprint.clone(), window, ask_again: now.plus(schedule::ask_again(again)) });
}

async fn advice(acme: &Acme, settings: &AcmeSettings, held: &Held, now: Timestamp) -> Result<(Option<Window>, Duration), AcmeError> {
    let https = https(settings).await?;
    let job = Job { settings, https: &https, vault: &acme.vault, now, replaces: None };
    let Some(account) = job.kept_account().await? else { return Ok((None, NO_ADVICE)) };
    let Some(id) = identifier(held) else { return Ok((None, NO_ADVICE)) };
    let (info, again) = account.renewal_info(&id).await?;
    let at = |time: i64| Timestamp::from_secs(time);
    let window = info.suggested_window;
    Ok((Some(Window { start: at(window.start.unix_timestamp()), end: at(window.end.unix_timestamp()) }), again))
}

/// By which ACME servers know a certificate again.
fn identifier(held: &Held) -> Option<CertificateIdentifier<'static>> {
    held.pair.cert.first().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()).map(CertificateIdentifier::into_owned)
}

impl Acme {
    /// An order begins: what it is for, and the certificate that it replaces, where the server has advised of that one.
    pub(super) fn begin(&self) -> Option<(Arc<AcmeSettings>, Option<CertificateIdentifier<'static>>)> {
        let mut state = self.state();
        let settings = state.settings.clone()?;
        state.is_asked = false;
        state.is_running = true;
        let held = state.held.clone().filter(|held| held.is_of(&settings.directory) && held.shared_names(&settings) > 0);
        let is_advised = state.advice.as_ref().is_some_and(|advice| advice.window.is_some() && state.is_about_held(advice));
        Some((settings, held.filter(|_| is_advised).as_deref().and_then(identifier)))
    }

    fn drop_order(&self) {
        self.state().is_running = false;
    }

    fn now_served(&self) -> Option<(Arc<AcmeSettings>, Arc<Held>)> {
        let state = self.state();
        Some((state.settings.clone()?, state.held.clone()?))
    }

    /// Whether what came can be served.
    pub(super) fn accept(&self, certificate: AcmeCertificate) -> Result<(AcmeCertificate, Arc<Held>), AcmeError> {
        let held = Held::read(&certificate).map_err(AcmeError::Unusable)?;
        let now = self.clock.now();
        if !held.facts.is_valid(now) {
            let text =
                format!("it is good from {} to {}, and this machine's clock says {now}", held.facts.not_before, held.facts.not_after);
            return Err(AcmeError::Unusable(text));
        }
        Ok((certificate, Arc::new(held)))
    }

    pub(super) fn succeed(&self, held: &Arc<Held>) {
        let mut state = self.state();
        state.is_running = false;
        // Unless certificates come from elsewhere now.
        if state.settings.is_some() {
            state.failure = None;
            state.held = Some(Arc::clone(held));
        }
    }

    pub(super) fn fail(&self, settings: &AcmeSettings, error: &AcmeError, asked: Option<Duration>) {
        let now = self.clock.now();
        let sentence = error.sentence(&settings.challenge, now);
        let mut state = self.state();
        state.is_running = false;
        let count = state.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        // One that was asked for before its time is not tried again before that.
        let due = state.due(now).unwrap_or(now);
        let next = now.plus(schedule::wait(error.failing(), count, asked)).max(due);
        let stays = match state.held.as_deref() {
            Some(held) if !held.is_temporary() => format!("the old one stays in use, until {}", held.facts.last_day()),
            _ => "a temporary one is served, which clients refuse".to_owned(),
        };
        state.failure = Some(Failure { count, sentence: sentence.clone(), next });
        drop(state);
        tracing::warn!("no certificate from {}: {sentence}; {stays}; next try at {next} (or now: keygate tls renew)", host(settings));
        self.ended.send_modify(|ended| *ended = (ended.0 + 1, Err(sentence)));
    }
}
