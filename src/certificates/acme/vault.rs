//! What is kept in the store: accounts, the last certificate, and the last failure.

use std::sync::Arc;

use super::reason::AcmeError;
use crate::store::acme::{AcmeAccount, AcmeCertificate, AcmeFailure, AcmeRecord};
use crate::store::{Change, Store, StoreError};

/// The store, for ACME. Blocking: see [`off_the_loop`].
#[derive(Clone)]
pub(super) struct Vault(Arc<dyn Store>);

impl Vault {
    pub(super) const fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    pub(super) fn account(&self, directory: &str, eab_kid: Option<&str>) -> Result<Option<AcmeAccount>, AcmeError> {
        let is_it = |account: &AcmeAccount| account.directory == directory && account.eab_kid.as_deref() == eab_kid;
        let accounts = self.0.acme()?.into_iter().filter_map(|record| match record {
            AcmeRecord::Account(account) => Some(account),
            AcmeRecord::Certificate(_) | AcmeRecord::Failure(_) => None,
        });
        Ok(accounts.into_iter().find(is_it))
    }

    pub(super) fn keep_account(&self, account: AcmeAccount) -> Result<(), AcmeError> {
        Ok(self.0.commit(vec![Change::PutAcme(AcmeRecord::Account(account))])?)
    }

    pub(super) fn certificates(&self) -> Result<Vec<AcmeCertificate>, StoreError> {
        let certificate = |record| match record {
            AcmeRecord::Certificate(certificate) => Some(certificate),
            AcmeRecord::Account(_) | AcmeRecord::Failure(_) => None,
        };
        Ok(self.0.acme()?.into_iter().filter_map(certificate).collect())
    }

    /// Keeps this one, and forgets those that were for other names or of other servers, and why there was none.
    pub(super) fn keep_certificate(&self, certificate: AcmeCertificate) -> Result<(), AcmeError> {
        let new = AcmeRecord::Certificate(certificate);
        let id = new.id();
        let others = self.certificates()?.into_iter().map(|old| AcmeRecord::Certificate(old).id()).filter(|old| *old != id);
        let gone = others.chain([AcmeRecord::failure_id()]).map(Change::RemoveAcme);
        Ok(self.0.commit(gone.chain([Change::PutAcme(new)]).collect())?)
    }

    pub(super) fn failure(&self) -> Result<Option<AcmeFailure>, StoreError> {
        let failure = |record| match record {
            AcmeRecord::Failure(failure) => Some(failure),
            AcmeRecord::Account(_) | AcmeRecord::Certificate(_) => None,
        };
        Ok(self.0.acme()?.into_iter().find_map(failure))
    }

    /// `None`: there is no reason to wait.
    pub(super) fn keep_failure(&self, failure: Option<AcmeFailure>) -> Result<(), AcmeError> {
        let change = match failure {
            Some(failure) => Change::PutAcme(AcmeRecord::Failure(failure)),
            None => Change::RemoveAcme(AcmeRecord::failure_id()),
        };
        Ok(self.0.commit(vec![change])?)
    }
}

/// Runs what blocks where it may.
pub(super) async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> Result<T, AcmeError> + Send + 'static) -> Result<T, AcmeError> {
    tokio::task::spawn_blocking(work).await?
}
