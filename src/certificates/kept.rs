//! One certificate that is served: where it is from, whether there is a newer one, and what is said of it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::certificates::acme::{Acme, Held};
use crate::certificates::local::Folder;
use crate::certificates::trouble::Trouble;
use crate::certificates::{CertificateError, Facts, Shown, facts, local, names};
use crate::clock::Timestamp;
use crate::config::source::{SourceError, check_mode};
use crate::config::tls::Contents;
use crate::config::{AcmeSettings, CertificateSource, SelfSigned, TlsFiles};

/// Where one certificate is from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Files(TlsFiles),
    Own(SelfSigned),
    Acme(Arc<Acme>, Box<AcmeSettings>),
}

/// One certificate that is served.
pub(super) struct Kept {
    pub(super) origin: Origin,
    pub(super) pair: Arc<CertifiedKey>,
    pub(super) facts: Facts,
    /// Of the files that it is from.
    digest: [u8; 32],
    trouble: Trouble,
    /// Of ACME.
    pub(super) held: Option<Arc<Held>>,
    /// The nearest end that was told of, in days.
    told: Option<u64>,
}

/// A certificate as its origin has it now.
pub(super) struct Fetched {
    pair: Arc<CertifiedKey>,
    facts: Facts,
    digest: [u8; 32],
    held: Option<Arc<Held>>,
}

impl Fetched {
    pub(super) fn new(pair: CertifiedKey, digest: [u8; 32]) -> Result<Self, CertificateError> {
        let facts = pair.cert.first().and_then(Facts::of).ok_or(CertificateError::Unreadable)?;
        Ok(Self { pair: Arc::new(pair), facts, digest, held: None })
    }

    pub(super) fn held(held: Arc<Held>) -> Self {
        Self { pair: Arc::clone(&held.pair), facts: held.facts.clone(), digest: [0; 32], held: Some(held) }
    }
}

impl Origin {
    pub(super) fn all(source: &CertificateSource, acme: Option<&Arc<Acme>>) -> Result<Vec<Self>, CertificateError> {
        Ok(match source {
            CertificateSource::Files(files) => files.iter().cloned().map(Self::Files).collect(),
            CertificateSource::SelfSigned(own) => vec![Self::Own(own.clone())],
            CertificateSource::Acme(settings) => match acme {
                Some(acme) => vec![Self::Acme(Arc::clone(acme), settings.clone())],
                None => return Err(CertificateError::NotOrdered { domains: settings.domains.join(", ") }),
            },
        })
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Files(files) => Some(files.cert_file.clone()),
            Self::Own(_) | Self::Acme(..) => None,
        }
    }

    /// What is there now.
    pub(super) fn fetch(&self, now: Timestamp) -> Result<Fetched, CertificateError> {
        match self {
            Self::Files(files) => {
                let contents = Contents::read(files)?;
                Fetched::new(contents.pair(files)?, contents.digest())
            }
            Self::Own(own) => Fetched::new(Folder(&own.folder).up_to_date(&wanted(own), now)?, [0; 32]),
            Self::Acme(acme, settings) => Ok(Fetched::held(acme.find(settings, now)?)),
        }
    }

    /// Names that the configuration wants and the certificate cannot have. Those that the machine gave itself are not told of: an address
    /// may change each day.
    pub(super) fn left_out(&self) -> Option<String> {
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
    pub(super) fn fetch_newer(&self, kept: &Kept, now: Timestamp) -> Result<Option<Fetched>, CertificateError> {
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
            Self::Acme(acme, _) => match acme.held() {
                Some(held) if held.facts.fingerprint != kept.facts.fingerprint => Fetched::held(held),
                _ => return Ok(None),
            },
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
    pub(super) fn new(origin: Origin, fetched: Fetched) -> Self {
        let Fetched { pair, facts, digest, held } = fetched;
        Self { origin, pair, facts, digest, trouble: Trouble::default(), held, told: None }
    }

    /// Takes over what is newer. Whether something was.
    pub(super) fn look(&mut self, now: Timestamp) -> bool {
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

    pub(super) fn fail(&mut self, text: &str) {
        if self.trouble.is_to_be_told(text) {
            let file = self.origin.file().map(|file| format!(" from {}", file.display())).unwrap_or_default();
            tracing::warn!("no new certificate{file}: {text}; the old one stays in use ({})", self.sentence());
        }
    }

    /// Tells at once of names that it cannot have.
    pub(super) fn warn_of_left_out(&mut self) -> Option<String> {
        let text = self.origin.left_out()?;
        self.trouble.is_told(&text);
        tracing::warn!("{text}");
        Some(text)
    }

    /// Whether nobody was ever meant to trust it.
    fn is_temporary(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_temporary())
    }

    /// Tells of the end when it comes nearer.
    pub(super) fn warn_of_end(&mut self, now: Timestamp) {
        let stage = facts::stage(&self.facts, now).filter(|_| !self.is_temporary());
        let Some(stage) = stage.filter(|stage| self.told.is_none_or(|told| *stage < told)) else { return };
        self.told = Some(stage);
        let title = self.facts.title();
        match stage {
            0 => tracing::error!("the certificate for {title} has expired on {}: clients refuse it", self.facts.last_day()),
            _ => tracing::warn!("the certificate for {title} ends on {}, in {} days", self.facts.last_day(), self.facts.days_left(now)),
        }
    }

    pub(super) fn warn_of_open_key(&self) {
        if let Origin::Files(files) = &self.origin
            && let Err(error @ SourceError::Open { .. }) = check_mode(&files.key_file)
        {
            tracing::warn!("server.tls.key_file: {error}");
        }
    }

    /// `media.example.org, until 2027-02-01, sha256:9c1f…`.
    pub(super) fn sentence(&self) -> String {
        format!("{}, until {}, sha256:{}", self.facts.title(), self.facts.last_day(), self.facts.fingerprint)
    }

    pub(super) fn show(&self) -> Shown {
        let (problem, standing) = match &self.origin {
            Origin::Acme(acme, _) => (self.trouble.told().or_else(|| acme.problem()), acme.standing()),
            Origin::Files(_) | Origin::Own(_) => (self.trouble.told(), None),
        };
        Shown { facts: self.facts.clone(), file: self.origin.file(), problem, standing, is_temporary: self.is_temporary() }
    }
}
