//! The certificates that keygate serves: where they come from, whether they are still good, and their exchange while everything runs.
//!
//! [`Certificates`] is looked at every few seconds and at each reload. Whatever is new and good is in [`Served`] from then on; whatever is new
//! and not good is told once, and the old one stays.

mod facts;
mod local;
mod names;
mod served;
#[cfg(test)]
mod tests;
mod trouble;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::certificates::local::Folder;
use crate::certificates::local::limits::Limits;
use crate::clock::{Clock, Timestamp};
use crate::config::source::{SourceError, check_mode};
use crate::config::tls::{Contents, TlsProblem};
use crate::config::{CertificateSource, SelfSigned, TlsFiles};

pub use crate::certificates::facts::{Facts, to_pem};
pub use crate::certificates::served::Served;
pub(crate) use crate::certificates::trouble::Trouble;

/// Why there is no certificate, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Files.
    #[error(transparent)]
    Files(#[from] TlsProblem),
    /// A private key that others may read.
    #[error(transparent)]
    Open(#[from] SourceError),
    /// The new certificate cannot be served today, and the one that is served can.
    #[error("the new certificate {what} (it is for {title}, until {last_day})")]
    NotNow {
        /// `has expired`, `is not valid yet`.
        what: &'static str,
        /// Its names.
        title: String,
        /// Its end.
        last_day: String,
    },
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// keygate's own authority is not as keygate left it.
    #[error("{path} {why}")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificates come from elsewhere.
    #[error("there is no authority of keygate's own: write tls = \"self-signed\" in [server] to have one")]
    NoAuthority,
    /// Only a running gateway makes one.
    #[error("there is no certificate in {path} yet: keygate makes it when it starts")]
    NotMade {
        /// Where it will be.
        path: PathBuf,
    },
    /// A certificate that rustls takes and that still cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
}

/// The addresses of this machine that other machines may know, without those that change each day.
pub fn addresses_of_this_machine() -> Vec<std::net::IpAddr> {
    let all = names::of_this_machine();
    all.iter().filter_map(|name| name.parse().ok()).filter(|ip: &std::net::IpAddr| !ip.is_loopback()).collect()
}

/// One certificate, for people.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What it says.
    pub facts: Facts,
    /// Its file, where it is from one.
    pub file: Option<PathBuf>,
    /// Why it was not replaced.
    pub problem: Option<String>,
}

/// The certificates of one configuration.
pub struct Certificates {
    served: Arc<Served>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    source: CertificateSource,
    kept: Vec<Kept>,
}

/// Where one certificate is from.
#[derive(Clone, Debug)]
enum Origin {
    Files(TlsFiles),
    Own(SelfSigned),
}

/// One certificate that is served.
struct Kept {
    origin: Origin,
    pair: Arc<CertifiedKey>,
    facts: Facts,
    /// Of the files that it is from.
    digest: [u8; 32],
    trouble: Trouble,
    /// The nearest end that was told of, in days.
    told: Option<u64>,
}

/// A certificate as its origin has it now.
struct Fetched {
    pair: Arc<CertifiedKey>,
    facts: Facts,
    digest: [u8; 32],
}

impl Fetched {
    fn new(pair: CertifiedKey, digest: [u8; 32]) -> Result<Self, CertificateError> {
        let facts = pair.cert.first().and_then(Facts::of).ok_or(CertificateError::Unreadable)?;
        Ok(Self { pair: Arc::new(pair), facts, digest })
    }
}

impl Origin {
    fn all(source: &CertificateSource) -> Vec<Self> {
        match source {
            CertificateSource::Files(files) => files.iter().cloned().map(Self::Files).collect(),
            CertificateSource::SelfSigned(own) => vec![Self::Own(own.clone())],
        }
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Files(files) => Some(files.cert_file.clone()),
            Self::Own(_) => None,
        }
    }

    /// What is there now.
    fn fetch(&self, now: Timestamp) -> Result<Fetched, CertificateError> {
        match self {
            Self::Files(files) => {
                let contents = Contents::read(files)?;
                Fetched::new(contents.pair(files)?, contents.digest())
            }
            Self::Own(own) => Fetched::new(Folder(&own.folder).up_to_date(&wanted(own), now)?, [0; 32]),
        }
    }

    /// Names that the configuration wants and the certificate cannot have. Those that the machine gave itself are not told of: an address
    /// may change each day.
    fn left_out(&self) -> Option<String> {
        let Self::Own(own) = self else { return None };
        let (_, left_out) = Folder(&own.folder).within_limits(local::normal(own.names.iter().cloned())).ok()?;
        (!left_out.is_empty()).then(|| {
            format!(
                "keygate's own authority may not vouch for {}: it was made for the names of a home and those that were configured then. \
                 \"keygate tls ca --renew\" makes a new one, whose certificate every device needs again",
                left_out.join(", ")
            )
        })
    }

    /// What is there now and is not what is served; `None` when that is the same.
    fn fetch_newer(&self, kept: &Kept, now: Timestamp) -> Result<Option<Fetched>, CertificateError> {
        let newer = match self {
            Self::Files(files) => {
                let contents = Contents::read(files)?;
                if contents.digest() == kept.digest {
                    return Ok(None);
                }
                Fetched::new(contents.pair(files)?, contents.digest())?
            }
            Self::Own(own) => {
                let (names, _) = Folder(&own.folder).within_limits(wanted(own))?;
                if !local::is_due(&kept.facts, &names, now) {
                    return Ok(None);
                }
                self.fetch(now)?
            }
        };
        if kept.facts.is_valid(now) && !newer.facts.is_valid(now) {
            let what = if newer.facts.not_after <= now { "has expired" } else { "is not valid yet" };
            return Err(CertificateError::NotNow { what, title: newer.facts.title(), last_day: newer.facts.last_day() });
        }
        Ok(Some(newer))
    }
}

/// The names that a certificate of keygate's own must have.
fn wanted(own: &SelfSigned) -> Vec<String> {
    local::normal(names::of_this_machine().into_iter().chain(own.names.iter().cloned()))
}

impl Kept {
    fn new(origin: Origin, fetched: Fetched) -> Self {
        let Fetched { pair, facts, digest } = fetched;
        Self { origin, pair, facts, digest, trouble: Trouble::default(), told: None }
    }

    /// Takes over what is newer. Whether something was.
    fn look(&mut self, now: Timestamp) -> bool {
        let origin = self.origin.clone();
        match origin.fetch_newer(self, now) {
            Ok(None) => {
                match origin.left_out() {
                    None => self.trouble.end(),
                    Some(text) => self.fail(&text),
                }
                false
            }
            Ok(Some(newer)) => {
                *self = Self::new(origin, newer);
                tracing::info!("the certificate was replaced: {}", self.sentence());
                self.warn_of_open_key();
                true
            }
            Err(error) => {
                self.fail(&error.to_string());
                false
            }
        }
    }

    fn fail(&mut self, text: &str) {
        if self.trouble.is_to_be_told(text) {
            let file = self.origin.file().map(|file| format!(" from {}", file.display())).unwrap_or_default();
            tracing::warn!("no new certificate{file}: {text}; the old one stays in use ({})", self.sentence());
        }
    }

    /// Tells at once of names that it cannot have.
    fn warn_of_left_out(&mut self) -> Option<String> {
        let text = self.origin.left_out()?;
        self.trouble.is_told(&text);
        tracing::warn!("{text}");
        Some(text)
    }

    /// Tells of the end when it comes nearer.
    fn warn_of_end(&mut self, now: Timestamp) {
        let stage = facts::stage(&self.facts, now);
        let Some(stage) = stage.filter(|stage| self.told.is_none_or(|told| *stage < told)) else { return };
        self.told = Some(stage);
        let title = self.facts.title();
        match stage {
            0 => tracing::error!("the certificate for {title} has expired on {}: clients refuse it", self.facts.last_day()),
            _ => tracing::warn!("the certificate for {title} ends on {}, in {} days", self.facts.last_day(), self.facts.days_left(now)),
        }
    }

    fn warn_of_open_key(&self) {
        if let Origin::Files(files) = &self.origin
            && let Err(error @ SourceError::Open { .. }) = check_mode(&files.key_file)
        {
            tracing::warn!("server.tls.key_file: {error}");
        }
    }

    /// `media.example.org, until 2027-02-01, sha256:9c1f…`.
    fn sentence(&self) -> String {
        format!("{}, until {}, sha256:{}", self.facts.title(), self.facts.last_day(), self.facts.fingerprint)
    }

    fn show(&self) -> Shown {
        Shown { facts: self.facts.clone(), file: self.origin.file(), problem: self.trouble.told() }
    }
}

impl State {
    fn load(source: &CertificateSource, now: Timestamp) -> Result<Self, CertificateError> {
        let kept = Origin::all(source).into_iter().map(|origin| {
            let fetched = origin.fetch(now)?;
            Ok(Kept::new(origin, fetched))
        });
        Ok(Self { source: source.clone(), kept: kept.collect::<Result<_, CertificateError>>()? })
    }

    fn pairs(&self) -> impl Iterator<Item = Arc<CertifiedKey>> {
        self.kept.iter().map(|kept| Arc::clone(&kept.pair))
    }
}

impl Certificates {
    /// Loads or makes them. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`] of the first that cannot be served.
    pub fn load(source: &CertificateSource, clock: Arc<dyn Clock>) -> Result<Self, CertificateError> {
        let mut state = State::load(source, clock.now())?;
        let now = clock.now();
        for kept in &mut state.kept {
            kept.warn_of_end(now);
            kept.warn_of_left_out();
        }
        let served = Arc::new(Served::new(state.pairs()));
        Ok(Self { served, clock, state: Mutex::new(state) })
    }

    /// What handshakes get.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served)
    }

    /// Looks whether there are newer ones or some end soon, and logs what it finds. Blocking.
    pub fn look(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        let mut is_new = false;
        for kept in &mut state.kept {
            is_new |= kept.look(now);
            kept.warn_of_end(now);
        }
        if is_new {
            self.served.replace(state.pairs());
        }
    }

    /// Goes over to a source that may be another one, and looks at the files in any case: all or nothing. What changed, a sentence for
    /// each certificate, and what cannot be had. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`]; the old ones are served on.
    pub fn change(&self, source: &CertificateSource) -> Result<Vec<String>, CertificateError> {
        let new = State::load(source, self.clock.now())?;
        Ok(self.replace(&mut self.state(), new))
    }

    /// Makes a new authority of keygate's own, for the names that are wanted now, and a certificate of it. Devices that know only the old one
    /// trust this gateway no more. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`]; the old certificate is served on.
    pub fn renew_authority(&self) -> Result<(), CertificateError> {
        let mut state = self.state();
        let CertificateSource::SelfSigned(own) = &state.source else { return Err(CertificateError::NoAuthority) };
        Folder(&own.folder).set_aside()?;
        let new = State::load(&state.source, self.clock.now())?;
        self.replace(&mut state, new);
        Ok(())
    }

    fn replace(&self, state: &mut State, new: State) -> Vec<String> {
        let now = self.clock.now();
        let is_known = |new: &Kept| state.kept.iter().any(|old| old.facts.fingerprint == new.facts.fingerprint);
        let mut changes: Vec<String> =
            new.kept.iter().filter(|kept| !is_known(kept)).map(|kept| format!("certificate for {}", kept.sentence())).collect();
        self.served.replace(new.pairs());
        *state = new;
        for kept in &mut state.kept {
            kept.warn_of_end(now);
            changes.extend(kept.warn_of_left_out().map(|text| format!("warning: {text}")));
        }
        changes
    }

    /// Where they come from, and each of them.
    pub fn show(&self) -> (CertificateSource, Vec<Shown>) {
        let state = self.state();
        (state.source.clone(), state.kept.iter().map(Kept::show).collect())
    }

    /// The time by which they are judged.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("served", &self.served).finish_non_exhaustive()
    }
}

/// What a source has, without making or changing anything: for a command beside the gateway. Blocking.
///
/// # Errors
/// [`CertificateError`] of the first that cannot be read.
pub fn look_only(source: &CertificateSource, now: Timestamp) -> Result<Vec<Shown>, CertificateError> {
    let show = |origin: Origin| {
        let fetched = match &origin {
            Origin::Files(_) => origin.fetch(now)?,
            Origin::Own(own) => {
                let leaf = Folder(&own.folder).leaf()?.ok_or_else(|| CertificateError::NotMade { path: own.folder.clone() })?;
                Fetched::new(leaf, [0; 32])?
            }
        };
        Ok(Kept::new(origin, fetched).show())
    };
    Origin::all(source).into_iter().map(show).collect()
}

/// The certificate of keygate's own authority; `None` where certificates come from elsewhere. Blocking.
///
/// # Errors
/// [`CertificateError`] when it is not there, or not readable.
pub fn authority(source: &CertificateSource) -> Result<Option<CertificateDer<'static>>, CertificateError> {
    match source {
        CertificateSource::Files(_) => Ok(None),
        CertificateSource::SelfSigned(own) => match Folder(&own.folder).authority()? {
            Some(certificate) => Ok(Some(certificate)),
            None => Err(CertificateError::NotMade { path: own.folder.clone() }),
        },
    }
}

/// What keygate's own authority may vouch for: names, networks; `None`: everything.
pub fn limits(authority: &CertificateDer<'_>) -> Option<Vec<String>> {
    Limits::of(authority).map(|limits| limits.describe())
}
