//! One order, from the account to the certificate (RFC 8555, section 7).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::https::Https;
use super::reason::{self, AcmeError};
use super::stage::{self, Stage};
use super::vault::{Vault, off_the_loop};
use crate::clock::Timestamp;
use crate::config::{AcmeChallenge, AcmeEab, AcmeSettings};
use crate::secret::Secret;
use crate::store::acme::{AcmeAccount, AcmeCertificate};

/// How long the ACME server may look at challenges, and sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(180));
/// A request whose nonce was refused is made again three times by the library, and as often as this by us: some servers refuse many.
const NONCE_ROUNDS: u32 = 12;

/// Makes a call again whose nonce was refused.
macro_rules! steady {
    ($call:expr) => {{
        let mut rounds = 0;
        loop {
            match $call.await {
                Err(error) if rounds < NONCE_ROUNDS && reason::is(&error, "badNonce") => rounds += 1,
                result => break result,
            }
        }
    }};
}

/// What an order is for.
pub(super) struct Job<'a> {
    pub(super) settings: &'a AcmeSettings,
    pub(super) https: &'a Https,
    pub(super) vault: &'a Vault,
    pub(super) now: Timestamp,
    /// The certificate that the new one takes the place of, where the server wants to know it (RFC 9773, section 5).
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
}

impl Job<'_> {
    /// Gets a certificate. What is set up on the stage is left there.
    pub(super) async fn run(&self, stage: &mut Stage) -> Result<AcmeCertificate, AcmeError> {
        let first = async {
            let account = self.account().await?;
            self.order(&account, stage).await
        };
        match first.await {
            // A server that was set up anew, or one that dropped an account that was idle for years.
            Err(AcmeError::Server(error)) if reason::is(&error, "accountDoesNotExist") => {
                tracing::info!("the ACME server has forgotten keygate's account: making a new one");
                let account = self.new_account().await?;
                self.order(&account, stage).await
            }
            result => result,
        }
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let Some((account, kept)) = self.kept().await? else { return self.new_account().await };
        if kept.contact != self.settings.contact {
            let contact = self.contact();
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            steady!(account.update_contacts(&contact))?;
            self.keep(AcmeAccount { contact: self.settings.contact.clone(), ..kept }).await?;
        }
        Ok(account)
    }

    /// The account that is kept.
    pub(super) async fn kept_account(&self) -> Result<Option<Account>, AcmeError> {
        Ok(self.kept().await?.map(|(account, _)| account))
    }

    async fn kept(&self) -> Result<Option<(Account, AcmeAccount)>, AcmeError> {
        let (vault, directory, kid) = (self.vault.clone(), self.settings.directory.clone(), self.kid());
        let Some(kept) = off_the_loop(move || vault.account(&directory, kid.as_deref())).await? else { return Ok(None) };
        let credentials = serde_json::from_str(kept.credentials.expose()).map_err(Error::from)?;
        let account = Account::builder_with_http(Box::new(self.https.clone())).from_credentials(credentials).await?;
        Ok(Some((account, kept)))
    }

    async fn new_account(&self) -> Result<Account, AcmeError> {
        let eab = self.settings.eab.as_ref().map(external_key).transpose()?;
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let builder = || Account::builder_with_http(Box::new(self.https.clone()));
        let (account, credentials) = steady!(builder().create(&new, self.settings.directory.clone(), eab.as_ref()))?;
        let credentials = Secret::new(serde_json::to_string(&credentials).map_err(Error::from)?);
        self.keep(AcmeAccount {
            directory: self.settings.directory.clone(),
            eab_kid: self.kid(),
            contact: self.settings.contact.clone(),
            credentials,
            created_at: self.now,
        })
        .await?;
        Ok(account)
    }

    async fn keep(&self, account: AcmeAccount) -> Result<(), AcmeError> {
        let vault = self.vault.clone();
        off_the_loop(move || vault.keep_account(account)).await
    }

    fn kid(&self) -> Option<String> {
        self.settings.eab.as_ref().map(|eab| eab.kid.clone())
    }

    fn contact(&self) -> Vec<String> {
        self.settings.contact.iter().map(|address| format!("mailto:{address}")).collect()
    }

    async fn order(&self, account: &Account, stage: &mut Stage) -> Result<AcmeCertificate, AcmeError> {
        let identifiers: Vec<Identifier> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = self.open(account, &identifiers).await?;
        let how = &self.settings.challenge;
        self.set_up(&mut order, stage).await?;
        if let AcmeChallenge::Dns01(hook) = how {
            tokio::time::sleep(hook.propagation_delay).await;
        }
        self.announce(&mut order).await?;
        match steady!(order.poll_ready(&PATIENCE)) {
            Ok(OrderStatus::Ready) => {}
            // Its parts know more of it than the order.
            Ok(_) => return Err(failed_name(&mut order).await.unwrap_or(AcmeError::Silent)),
            Err(error @ Error::Api(_)) => return Err(failed_name(&mut order).await.unwrap_or_else(|| error.into())),
            Err(error) => return Err(error.into()),
        }
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(self.settings.domains.clone())?;
        parameters.distinguished_name = DistinguishedName::new();
        let request = parameters.serialize_request(&key)?;
        steady!(order.finalize_csr(request.der()))?;
        let chain = steady!(order.poll_certificate(&PATIENCE))?;
        Ok(AcmeCertificate {
            directory: self.settings.directory.clone(),
            domains: self.settings.domains.clone(),
            profile: self.settings.profile.clone(),
            chain,
            key: Secret::new(key.serialize_pem()),
            obtained_at: self.now,
        })
    }

    async fn open(&self, account: &Account, identifiers: &[Identifier]) -> Result<Order, AcmeError> {
        let new = || {
            let order = NewOrder::new(identifiers);
            self.settings.profile.as_deref().map_or_else(|| NewOrder::new(identifiers), |profile| order.profile(profile))
        };
        if let Some(replaces) = &self.replaces {
            // Whatever it has against the word, an order without it is as good.
            match steady!(account.new_order(&new().replaces(replaces.clone()))) {
                Ok(order) => return Ok(order),
                Err(error @ (Error::Api(_) | Error::Unsupported(_))) if !reason::is(&error, "rateLimited") => {
                    tracing::debug!(%error, "the ACME server takes no order that replaces");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(steady!(account.new_order(&new()))?)
    }

    /// Makes every name's challenge answerable.
    async fn set_up(&self, order: &mut Order, stage: &mut Stage) -> Result<(), AcmeError> {
        fetch(order).await?;
        let (how, mut names) = (&self.settings.challenge, order.authorizations());
        while let Some(name) = names.next().await {
            let mut name = name?;
            if name.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = name.identifier().to_string();
            let Some(challenge) = name.challenge(stage::kind(how)) else {
                return Err(AcmeError::NoChallenge { domain, challenge: how.as_str() });
            };
            stage.set(how, &domain, &challenge.token, &challenge.key_authorization()).await?;
        }
        Ok(())
    }

    /// Tells the server that it may look.
    async fn announce(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut names = order.authorizations();
        while let Some(name) = names.next().await {
            let mut name = name?;
            if name.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = name.identifier().to_string();
            let Some(mut challenge) = name.challenge(stage::kind(&self.settings.challenge)) else { continue };
            match steady!(challenge.set_ready()) {
                Ok(()) => {}
                Err(Error::Api(problem)) => return Err(AcmeError::Name { domain, problem }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Reads the order's parts; those that are known are not asked for again.
async fn fetch(order: &mut Order) -> Result<(), AcmeError> {
    async fn all(order: &mut Order) -> Result<(), Error> {
        let mut names = order.authorizations();
        while let Some(name) = names.next().await {
            name?;
        }
        Ok(())
    }
    Ok(steady!(all(order))?)
}

/// The first name that the server found not to be ours, and why.
async fn failed_name(order: &mut Order) -> Option<AcmeError> {
    let mut names = order.authorizations();
    while let Some(Ok(mut name)) = names.next().await {
        if steady!(name.refresh()).is_err() {
            continue;
        }
        let state = &*name;
        let domain = state.identifier().to_string();
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.clone()) {
            return Some(AcmeError::Name { domain, problem });
        }
    }
    None
}

fn external_key(eab: &AcmeEab) -> Result<ExternalAccountKey, AcmeError> {
    let text = eab.hmac_key.read()?;
    let decoded = [URL_SAFE_NO_PAD, URL_SAFE, STANDARD, STANDARD_NO_PAD].iter().find_map(|form| form.decode(text.expose()).ok());
    let key = Secret::new(decoded.ok_or(AcmeError::EabForm)?);
    Ok(ExternalAccountKey::new(eab.kid.clone(), key.expose()))
}
