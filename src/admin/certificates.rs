//! The certificates, as the admin socket shows them.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::actor::Actor;
use crate::admin::error::AdminError;
use crate::certificates::acme::RenewError;
use crate::certificates::{self, CertificateError, Facts, Shown};
use crate::clock::Timestamp;
use crate::config::CertificateSource;

/// `GET /api/tls`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsView {
    /// `off`, `files`, `self-signed` or `acme`.
    pub source: String,
    /// Those that are served; the first is for clients that name no host or an unknown one.
    pub certificates: Vec<CertificateView>,
    /// keygate's own authority, where there is one.
    pub authority: Option<AuthorityView>,
    /// Who signs the certificates of clients, where they are asked for; only a running gateway tells.
    #[serde(default)]
    pub clients: Option<ClientsView>,
}

/// The authorities of clients' certificates.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientsView {
    /// Their file.
    pub file: String,
    /// Why what it holds now is not in use.
    pub problem: Option<String>,
}

/// A certificate that is served.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// Its subject; may be empty.
    pub subject: String,
    /// Host names, then addresses.
    pub names: Vec<String>,
    /// Not good before.
    pub not_before: String,
    /// Not good from then on.
    pub not_after: String,
    /// Whole days until then; 0 also when it is over.
    pub days_left: u64,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// Its file, where it is from one.
    pub file: Option<String>,
    /// Why there is no newer one.
    pub problem: Option<String>,
    /// What it waits for, or when it is renewed, where keygate gets it from an ACME server.
    #[serde(default)]
    pub standing: Option<String>,
}

/// keygate's own authority.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityView {
    /// Its name.
    pub subject: String,
    /// Not good from then on.
    pub not_after: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The certificate.
    pub pem: String,
    /// The names (and all below them) and networks that it may vouch for; none: it may for everything.
    #[serde(default)]
    pub limits: Option<Vec<String>>,
}

impl Admin {
    /// Those that are served, for `keygate status`.
    pub(super) fn served_certificates(&self) -> Vec<CertificateView> {
        let Some(certificates) = &self.certificates else { return Vec::new() };
        certificates.show().1.into_iter().map(|one| view(one, certificates.now())).collect()
    }

    /// Orders a certificate by ACME now, and waits for it.
    pub(super) async fn renew(&self, actor: Actor) -> Result<(), AdminError> {
        let acme = self.certificates.as_ref().and_then(|certificates| certificates.acme());
        let Some(acme) = acme else { return Err(AdminError::Renewal(RenewError::NotAcme)) };
        tracing::info!("a new certificate was asked for by {actor}");
        acme.renew().await.map_err(AdminError::Renewal)
    }

    /// What `keygate tls` shows. Blocking.
    pub(super) fn tls(&self) -> TlsView {
        let view = match &self.certificates {
            None => of(None, Vec::new(), self.clock.now()),
            Some(certificates) => {
                let (source, shown) = certificates.show();
                of(Some(&source), shown, certificates.now())
            }
        };
        let clients = self.clients.as_ref().map(|clients| clients.show());
        TlsView { clients: clients.map(|(file, problem)| ClientsView { file: file.display().to_string(), problem }), ..view }
    }
}

impl Admin {
    /// Makes a new authority of keygate's own. Blocking.
    pub(super) fn renew_authority(&self, asked_by: Actor) -> Result<TlsView, AdminError> {
        let certificates = self.certificates.as_ref().ok_or(CertificateError::NoAuthority);
        certificates.and_then(|certificates| certificates.renew_authority()).map_err(|error| AdminError::Invalid(error.to_string()))?;
        tracing::warn!("made a new authority of keygate's own, asked by {asked_by}: every device needs its certificate again");
        Ok(self.tls())
    }
}

/// The view of what is served. Blocking.
pub(crate) fn of(source: Option<&CertificateSource>, shown: Vec<Shown>, now: Timestamp) -> TlsView {
    let authority = source.map(certificates::authority).transpose();
    let authority = authority.unwrap_or_else(|error| {
        tracing::warn!("keygate's own authority cannot be shown: {error}");
        None
    });
    TlsView {
        source: source.map_or("off", CertificateSource::as_str).to_owned(),
        certificates: shown.into_iter().map(|one| view(one, now)).collect(),
        authority: authority.flatten().as_ref().and_then(authority_view),
        clients: None,
    }
}

fn view(shown: Shown, now: Timestamp) -> CertificateView {
    let Shown { facts, file, problem, standing, is_temporary: _ } = shown;
    CertificateView {
        days_left: facts.days_left(now),
        not_before: facts.not_before.to_string(),
        not_after: facts.not_after.to_string(),
        subject: facts.subject,
        names: facts.names,
        fingerprint: facts.fingerprint,
        file: file.map(|file| file.display().to_string()),
        problem,
        standing,
    }
}

fn authority_view(certificate: &CertificateDer<'static>) -> Option<AuthorityView> {
    let facts = Facts::of(certificate)?;
    Some(AuthorityView {
        subject: facts.subject,
        not_after: facts.not_after.to_string(),
        fingerprint: facts.fingerprint,
        pem: certificates::to_pem(certificate),
        limits: certificates::limits(certificate),
    })
}

impl AuthorityView {
    /// The certificate in DER.
    ///
    /// # Errors
    /// When [`AuthorityView::pem`] is not what it should be.
    pub fn der(&self) -> Result<Vec<u8>, pem::Error> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).map(|certificate| certificate.to_vec())
    }
}
