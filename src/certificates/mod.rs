//! The certificates that keygate serves: where they come from, whether they are still good, and their exchange while everything runs.
//!
//! [`Certificates`] is looked at every few seconds and at each reload. Whatever is new and good is in [`Served`] from then on; whatever is new
//! and not good is told once, and the old one stays.

pub mod acme;
pub mod challenges;
mod facts;
mod kept;
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

use crate::certificates::acme::Acme;
use crate::certificates::kept::{Fetched, Kept, Origin};
use crate::certificates::local::Folder;
use crate::certificates::local::limits::Limits;
use crate::clock::{Clock, Timestamp};
use crate::config::CertificateSource;
use crate::config::source::SourceError;
use crate::config::tls::TlsProblem;
use crate::store::StoreError;

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
    /// A key or a certificate that rustls does not take.
    #[error("cannot serve a certificate: {0}")]
    Serve(#[from] rustls::Error),
    /// What ACME has left in the store cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// Only `keygate serve` orders certificates.
    #[error("there is no certificate for {domains} yet: a running keygate gets it by ACME")]
    NotOrdered {
        /// The names.
        domains: String,
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
    /// What it waits for, or when it is renewed, where keygate itself gets it from others.
    pub standing: Option<String>,
    /// Whether it only fills the place of one that is waited for.
    pub is_temporary: bool,
}

/// The certificates of one configuration.
pub struct Certificates {
    served: Arc<Served>,
    clock: Arc<dyn Clock>,
    acme: Option<Arc<Acme>>,
    state: Mutex<State>,
}

struct State {
    source: CertificateSource,
    kept: Vec<Kept>,
}

impl State {
    fn load(source: &CertificateSource, acme: Option<&Arc<Acme>>, now: Timestamp) -> Result<Self, CertificateError> {
        let kept = Origin::all(source, acme)?.into_iter().map(|origin| {
            let fetched = origin.fetch(now)?;
            Ok(Kept::new(origin, fetched))
        });
        Ok(Self { source: source.clone(), kept: kept.collect::<Result<_, CertificateError>>()? })
    }

    /// Tells ACME what it is wanted for.
    fn adopt(&self, acme: Option<&Acme>) {
        let wanted = self.kept.iter().find_map(|kept| match &kept.origin {
            Origin::Acme(_, settings) => Some((&**settings, Arc::clone(kept.held.as_ref()?))),
            Origin::Files(_) | Origin::Own(_) => None,
        });
        if let Some(acme) = acme {
            acme.adopt(wanted);
        }
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
        Self::load_with(source, clock, None)
    }

    /// The same, with those that come by ACME; [`acme::keep`] gets them. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`] of the first that cannot be served.
    pub fn load_with(source: &CertificateSource, clock: Arc<dyn Clock>, acme: Option<Arc<Acme>>) -> Result<Self, CertificateError> {
        let mut state = State::load(source, acme.as_ref(), clock.now())?;
        state.adopt(acme.as_deref());
        let now = clock.now();
        for kept in &mut state.kept {
            kept.warn_of_end(now);
            kept.warn_of_left_out();
        }
        let served = Arc::new(Served::new(state.pairs()));
        Ok(Self { served, clock, acme, state: Mutex::new(state) })
    }

    /// What handshakes get.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served)
    }

    /// Those by ACME, where they can be had.
    pub fn acme(&self) -> Option<Arc<Acme>> {
        self.acme.clone()
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
        let new = State::load(source, self.acme.as_ref(), self.clock.now())?;
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
        let new = State::load(&state.source, self.acme.as_ref(), self.clock.now())?;
        self.replace(&mut state, new);
        Ok(())
    }

    fn replace(&self, state: &mut State, new: State) -> Vec<String> {
        let now = self.clock.now();
        let is_known = |new: &Kept| state.kept.iter().any(|old| old.facts.fingerprint == new.facts.fingerprint);
        let mut changes: Vec<String> =
            new.kept.iter().filter(|kept| !is_known(kept)).map(|kept| format!("certificate for {}", kept.sentence())).collect();
        if let (CertificateSource::Acme(settings), true) = (&new.source, new.source != state.source) {
            changes.push(format!("server.tls.acme changed: a certificate for {} is wanted", settings.domains.join(", ")));
        }
        self.served.replace(new.pairs());
        new.adopt(self.acme.as_deref());
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
pub fn look_only(source: &CertificateSource, acme: Option<&Arc<Acme>>, now: Timestamp) -> Result<Vec<Shown>, CertificateError> {
    let show = |origin: Origin| {
        let fetched = match &origin {
            Origin::Files(_) => origin.fetch(now)?,
            Origin::Own(own) => {
                let leaf = Folder(&own.folder).leaf()?.ok_or_else(|| CertificateError::NotMade { path: own.folder.clone() })?;
                Fetched::new(leaf, [0; 32])?
            }
            Origin::Acme(acme, settings) => {
                let held = acme.look(settings)?;
                let held = held.ok_or_else(|| CertificateError::NotOrdered { domains: settings.domains.join(", ") })?;
                Fetched::held(held)
            }
        };
        Ok(Kept::new(origin, fetched).show())
    };
    Origin::all(source, acme)?.into_iter().map(show).collect()
}

/// The certificate of keygate's own authority; `None` where certificates come from elsewhere. Blocking.
///
/// # Errors
/// [`CertificateError`] when it is not there, or not readable.
pub fn authority(source: &CertificateSource) -> Result<Option<CertificateDer<'static>>, CertificateError> {
    match source {
        CertificateSource::Files(_) | CertificateSource::Acme(_) => Ok(None),
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
