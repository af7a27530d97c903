//! Accounts as the admin socket shows and changes them. A credential is tried at the upstream before it is kept.
//!
//! What talks to the upstream runs in a tracked task of its own: a client that goes away in the middle must not leave an account
//! behind that was never tried.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::api::{
    AccountList, AccountRemoved, AccountView, CredentialRequest, Forwarding, LoginView, NewAccountRequest, OneAccount, PatchAccountRequest,
};
use crate::admin::error::AdminError;
use crate::admin::keys::iso;
use crate::admin::{Actor, Admin, names};
use crate::audit::{Act, Field, Verb};
use crate::registry::Removal;
use crate::secret::Secret;
use crate::store::records::AccountRecord;
use crate::upstream::session::{AccountState, AdministratorError, LoggedIn, SessionError, advice};
use crate::upstream::{AccountId, Credential, UpstreamName};

impl Admin {
    pub(super) fn list_accounts(&self, text: Option<&str>) -> AccountList {
        let accounts = self.sessions.accounts();
        let chosen = match text {
            None => accounts.iter().collect(),
            Some(text) => names::matching_accounts(&accounts, text),
        };
        AccountList { accounts: chosen.into_iter().map(|account| self.account_view(account)).collect() }
    }

    pub(super) fn show_account(&self, id: &str) -> Result<OneAccount, AdminError> {
        let account = self.account(id)?;
        Ok(OneAccount { account: self.account_view(&account), login: None })
    }

    /// Adds an account; unless told otherwise, only if the upstream accepts the credential.
    pub(super) async fn add_account(self: Arc<Self>, request: NewAccountRequest, peer: Actor) -> Result<OneAccount, AdminError> {
        let (upstream, name) = self.upstream_and_name(request.upstream.as_deref(), &request.name)?;
        let is_administrator = request.administrator.unwrap_or(false);
        let (name, credential) = if request.mint.unwrap_or(false) {
            check_mint(&request)?;
            self.user_to_mint_for(&upstream, &name).await?
        } else {
            (name, one_credential(request.password, request.token)?)
        };
        let account = self.blocking(move |admin| Ok(admin.acting(peer).add_account(upstream, name, credential)?)).await?;
        let mut login = None;
        if request.verify.unwrap_or(true) {
            match self.sessions.login_now(account.id).await {
                Ok(found) => login = Some(login_view(found)),
                Err(error) => return Err(self.take_back(&account, error, peer).await),
            }
        }
        if is_administrator {
            if login.is_some()
                && let Err(error) = self.sessions.check_administrator(account.id).await
            {
                return Err(self.take_back(&account, error.cause(), peer).await);
            }
            let id = account.id;
            self.blocking(move |admin| Ok(admin.acting(peer).set_administrator(id, true, false)?)).await?;
        }
        let (id, name) = (account.id, account.full_name());
        tracing::info!(account_id = id.0, account = name, method = account.credential.method(), %peer, "account {name} added by {peer}");
        Ok(OneAccount { account: self.fresh_view(&account), login })
    }

    async fn take_back(self: &Arc<Self>, account: &AccountRecord, error: SessionError, peer: Actor) -> AdminError {
        let (id, name) = (account.id, account.full_name());
        if let Err(failed) = self.blocking(move |admin| Ok(admin.acting(peer).remove_account(id, Removal::default())?)).await {
            tracing::error!(account = name, error = %failed, "account {name} was not accepted, and could not be removed again: {failed}");
            return failed;
        }
        let advice = match &error {
            SessionError::Broken(_) => "",
            _ => " To add it without logging in, say so (--no-verify).",
        };
        AdminError::Upstream { text: format!("{error}. Nothing was stored.{advice}"), source: error }
    }

    /// Gives an account another credential; if the upstream refuses it, a working one before it comes back.
    pub(super) async fn set_credential(
        self: Arc<Self>,
        id: String,
        request: CredentialRequest,
        peer: Actor,
    ) -> Result<OneAccount, AdminError> {
        let before = self.account(&id)?;
        let (id, name) = (before.id, before.full_name());
        let credential = one_credential(request.password, request.token)?;
        let after = self.blocking(move |admin| Ok(admin.acting(peer).set_credential(id, credential)?)).await?;
        let mut login = None;
        if request.verify.unwrap_or(true) {
            match self.sessions.login_now(id).await {
                Ok(found) => login = Some(login_view(found)),
                Err(error) => return Err(self.restore(&before, error, peer).await),
            }
        }
        tracing::info!(account_id = id.0, account = name, method = after.credential.method(), %peer, "credential of {name} changed by {peer}");
        Ok(OneAccount { account: self.fresh_view(&after), login })
    }

    /// A credential that was broken before is not put back: the upstream would only refuse it once more.
    async fn restore(self: &Arc<Self>, before: &AccountRecord, error: SessionError, peer: Actor) -> AdminError {
        let (id, name, credential) = (before.id, before.full_name(), before.credential.clone());
        if before.broken.is_some() {
            return AdminError::Upstream { text: format!("{error}. {}", advice(&name)), source: error };
        }
        if let Err(failed) = self.blocking(move |admin| Ok(admin.acting(peer).set_credential(id, credential)?)).await {
            tracing::error!(account = name, error = %failed, "the old credential of {name} could not be put back: {failed}");
            return failed;
        }
        AdminError::Upstream { text: format!("{error}. The old credential stays."), source: error }
    }

    pub(super) async fn login(self: Arc<Self>, id: String, peer: Actor) -> Result<OneAccount, AdminError> {
        let account = self.account(&id)?;
        let name = account.full_name();
        let found = self.sessions.login_now(account.id).await;
        tracing::info!(account = name, good = found.is_ok(), %peer, "login of {name} asked for by {peer}");
        let act = Act::new(Verb::LoggedIn, account.as_ref().into()).with([Field::new("good", found.is_ok())]);
        self.blocking(move |admin| {
            admin.recorded(act, peer);
            Ok(())
        })
        .await?;
        let found = found.map_err(|error| match &error {
            SessionError::Broken(why) => AdminError::Upstream { text: format!("{why}. {}", advice(&name)), source: error },
            _ => AdminError::Upstream { text: error.to_string(), source: error },
        })?;
        Ok(OneAccount { account: self.fresh_view(&account), login: Some(login_view(found)) })
    }

    /// Whether the account's media server believes keygate about who the client is.
    pub(super) async fn forwarding(&self, id: &str) -> Result<Forwarding, AdminError> {
        let account = self.account(id)?;
        let believed = self.sessions.believes_forwarding(account.id).await;
        let believed = believed.map_err(|error| AdminError::Upstream { text: error.to_string(), source: error })?;
        Ok(Forwarding { believed })
    }

    /// Removes an account. What was minted for it is deleted at its media server, for which this waits a moment.
    pub(super) async fn remove_account(self: Arc<Self>, id: String, removal: Removal, peer: Actor) -> Result<AccountRemoved, AdminError> {
        let account = self.account(&id)?;
        let (id, name) = (account.id, account.full_name());
        let revoked_keys = self.blocking(move |admin| Ok(admin.acting(peer).remove_account(id, removal)?)).await?;
        tracing::info!(account_id = id.0, account = name, revoked_keys, %peer, "account {name} removed by {peer}");
        let is_minted = matches!(account.credential, Credential::Minted { .. });
        let stays_behind = is_minted && !self.sessions.ended(END_WITHIN).await;
        Ok(AccountRemoved { account: name, revoked_keys, stays_behind })
    }

    /// Changes what is changed without a login.
    pub(super) async fn patch_account(
        self: Arc<Self>,
        id: String,
        request: PatchAccountRequest,
        peer: Actor,
    ) -> Result<OneAccount, AdminError> {
        let account = self.account(&id)?;
        let (id, name) = (account.id, account.full_name());
        if let Some(is_administrator) = request.administrator {
            let force = request.force.unwrap_or(false);
            // Only a clear no stands in the way: the media server may be down now.
            if is_administrator
                && let Err(error @ AdministratorError::NotAdministrator { .. }) = self.sessions.check_administrator(id).await
            {
                return Err(AdminError::Upstream { text: error.to_string(), source: error.cause() });
            }
            self.blocking(move |admin| Ok(admin.acting(peer).set_administrator(id, is_administrator, force)?)).await?;
            tracing::info!(account_id = id.0, account = name, is_administrator, %peer, "administrator of {} changed by {peer}", account.upstream);
        }
        Ok(OneAccount { account: self.fresh_view(&account), login: None })
    }

    pub(super) fn account(&self, id: &str) -> Result<Arc<AccountRecord>, AdminError> {
        let found = id.parse().ok().and_then(|number| self.sessions.account(AccountId(number)));
        found.ok_or_else(|| AdminError::NotFound(format!("there is no account with the number {id:?}")))
    }

    /// `name`, `upstream/name`, or both apart; with one upstream in the configuration its name may be left out.
    pub(super) fn upstream_and_name(&self, upstream: Option<&str>, name: &str) -> Result<(UpstreamName, String), AdminError> {
        let upstreams = self.upstreams.load();
        let known = |wanted: &str| upstreams.iter().any(|one| one.name == wanted);
        let (upstream, name) = match (upstream, name.split_once('/')) {
            (Some(upstream), _) => (upstream, name),
            (None, Some((upstream, rest))) if known(upstream) || upstreams.len() != 1 => (upstream, rest),
            (None, _) if upstreams.len() == 1 => (upstreams[0].name.as_str(), name),
            (None, _) => {
                let names = upstreams.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(AdminError::Invalid(format!("say on which upstream: UPSTREAM/{name}, with one of {names}")));
            }
        };
        if !known(upstream) {
            let names = upstreams.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(AdminError::Invalid(format!("there is no upstream {upstream:?}; the configuration has {names}")));
        }
        Ok((UpstreamName::new(upstream), name.to_owned()))
    }

    /// After a login, which may have taught the account's upstream id.
    fn fresh_view(&self, account: &AccountRecord) -> AccountView {
        match self.sessions.account(account.id) {
            Some(now) => self.account_view(&now),
            None => self.account_view(account),
        }
    }

    fn account_view(&self, account: &AccountRecord) -> AccountView {
        let upstreams = self.upstreams.load();
        let (mut sessions, mut renew_at, mut obtained_at) = (0, None, None);
        let (state, why, until) = match self.sessions.state(account.id) {
            AccountState::Idle => ("idle", None, None),
            AccountState::Live { sessions: lives, expires_at, renew_at: renews, obtained_at: obtained } => {
                (sessions, renew_at, obtained_at) = (lives, renews, obtained);
                ("live", None, expires_at)
            }
            AccountState::Waiting { until, why } => ("waiting", Some(why), Some(until)),
            AccountState::Broken { why } => ("broken", Some(format!("{why}. {}", advice(&account.full_name()))), None),
        };
        AccountView {
            id: account.id.0.to_string(),
            upstream: account.upstream.to_string(),
            kind: upstreams.iter().find(|one| one.name == account.upstream.as_str()).map(|one| one.kind.clone()),
            name: account.name.clone(),
            method: account.credential.method().to_owned(),
            administrator: account.is_administrator,
            upstream_user_id: account.user_id.clone(),
            created_at: iso(account.created_at),
            state: state.to_owned(),
            why,
            sessions,
            obtained_at: obtained_at.map(iso),
            renew_at: renew_at.map(iso),
            until: until.map(iso),
        }
    }
}

/// How long the removal of a minted account waits for the media server.
const END_WITHIN: Duration = Duration::from_secs(5);

fn check_mint(request: &NewAccountRequest) -> Result<(), AdminError> {
    if request.password.is_some() || request.token.is_some() || request.administrator == Some(true) {
        return Err(AdminError::Invalid("a minted account has no password and no token, and is no administrator".into()));
    }
    if request.verify == Some(false) {
        return Err(AdminError::Invalid("an account cannot be minted without asking the media server".into()));
    }
    Ok(())
}

fn one_credential(password: Option<Secret<String>>, token: Option<Secret<String>>) -> Result<Credential, AdminError> {
    let credential = match (password, token) {
        (Some(password), None) => Credential::Password(password),
        (None, Some(token)) => Credential::Token(token),
        _ => return Err(AdminError::Invalid("give one of password and token".into())),
    };
    let is_empty = match &credential {
        Credential::Password(text) | Credential::Token(text) => text.expose().is_empty(),
        Credential::Minted { .. } => false,
    };
    if is_empty {
        return Err(AdminError::Invalid(format!("the {} is empty", credential.method())));
    }
    Ok(credential)
}

fn login_view(found: LoggedIn) -> LoginView {
    LoginView { user_id: found.user_id, user_name: found.user_name, token_life_seconds: found.token_life.map(|life| life.as_secs()) }
}
