//! What a person at the page can ask for: the same as programs at the interface, in the person's name and without JSON between.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::api::{AccountView, CredentialRequest, KeyList, KeyView, NewKeyRequest, PatchKeyRequest, StatusView};
use crate::admin::audit::{AuditPage, AuditQuery};
use crate::admin::certificates::TlsView;
use crate::admin::error::AdminError;
use crate::admin::key_list::KeyFilter;
use crate::admin::outstanding::TicketLine;
use crate::admin::page_sessions::PageSessions;
use crate::admin::usage::{KeyUsageView, TotalsView};
use crate::admin::{Actor, Admin};
use crate::clock::Timestamp;
use crate::secret::Secret;

type Answer<T> = Result<T, AdminError>;

/// The admin room, in the hand of somebody who is logged in to the page.
#[derive(Clone, Debug)]
pub struct Desk {
    admin: Arc<Admin>,
    actor: Actor,
}

/// The libraries that a key is confined to, as the media server knows them: a name that only looks like an id would confine it to nothing.
#[derive(Debug)]
pub struct LibraryIds(Option<Vec<String>>);

impl Desk {
    /// For the login with this number.
    pub const fn new(admin: Arc<Admin>, session: u64, address: IpAddr) -> Self {
        Self { admin, actor: Actor::Page { session, address } }
    }

    /// Now, as keys are judged by.
    pub fn now(&self) -> Timestamp {
        self.admin.clock.now()
    }

    /// The logins to the page.
    pub fn sessions(&self) -> &PageSessions {
        self.admin.page_sessions()
    }

    /// The keys that are asked for.
    ///
    /// # Errors
    /// [`AdminError`], as for all that follow.
    pub async fn keys(&self, filter: KeyFilter) -> Answer<KeyList> {
        self.admin.blocking(move |admin| admin.list_keys(&filter)).await
    }

    /// One key.
    pub async fn key(&self, id: String) -> Answer<KeyView> {
        self.admin.blocking(move |admin| Ok(admin.show_key(&id)?.api_key)).await
    }

    /// The libraries that are meant by their ids or their names, among those that the account sees.
    pub async fn libraries(&self, account: &str, meant: Option<Vec<String>>) -> Answer<LibraryIds> {
        self.admin.libraries_of(account, meant).await.map(LibraryIds)
    }

    /// A new key, with its text. Its libraries are those that were found, whatever the request says.
    pub async fn create(&self, request: NewKeyRequest, LibraryIds(libraries): LibraryIds) -> Answer<KeyView> {
        let (actor, request) = (self.actor, NewKeyRequest { libraries, ..request });
        self.admin.blocking(move |admin| Ok(admin.create_key(request, actor)?.api_key)).await
    }

    /// Changes a key; without libraries, it keeps those that it has.
    pub async fn change(&self, id: String, request: PatchKeyRequest, libraries: Option<LibraryIds>) -> Answer<KeyView> {
        let (actor, request) = (self.actor, PatchKeyRequest { libraries: libraries.map(|LibraryIds(ids)| ids), ..request });
        self.admin.blocking(move |admin| Ok(admin.patch_key(&id, request, actor)?.api_key)).await
    }

    /// Gives a key another secret; with its text.
    pub async fn rotate(&self, id: String, overlap: Duration) -> Answer<KeyView> {
        let actor = self.actor;
        self.admin.blocking(move |admin| Ok(admin.rotate_key(&id, overlap, actor)?.api_key)).await
    }

    /// Ends a key for good.
    pub async fn revoke(&self, id: String) -> Answer<KeyView> {
        let actor = self.actor;
        self.admin.blocking(move |admin| Ok(admin.revoke_key(&id, actor)?.api_key)).await
    }

    /// What these keys are used for, in the same order.
    pub async fn usages(&self, ids: Vec<String>) -> Answer<Vec<KeyUsageView>> {
        self.admin.blocking(move |admin| ids.iter().map(|id| admin.key_usage(id)).collect()).await
    }

    /// Closes one thing that runs.
    pub async fn close_stream(&self, id: String) -> Answer<()> {
        let actor = self.actor;
        self.admin.blocking(move |admin| admin.close_stream(&id, actor).map(drop)).await
    }

    /// What was handed out to a key, and opens media without it.
    pub async fn tickets(&self, id: String) -> Answer<Vec<TicketLine>> {
        if self.admin.handouts.is_none() {
            return Ok(Vec::new());
        }
        self.admin.blocking(move |admin| Ok(admin.tickets(&id)?.tickets)).await
    }

    /// Takes that back; its key stays good.
    pub async fn take_tickets_back(&self, id: String) -> Answer<()> {
        let actor = self.actor;
        self.admin.blocking(move |admin| admin.take_tickets_back(&id, actor).map(drop)).await
    }

    /// Ends a login to the page; `false`: there was none of this number.
    pub async fn end_session(&self, number: u64) -> Answer<bool> {
        self.admin.end_page_session(number, self.actor).await
    }

    /// A part of the audit log.
    pub async fn audit(&self, query: AuditQuery) -> Answer<AuditPage> {
        self.admin.blocking(move |admin| admin.audit(&query)).await
    }

    /// Sums by upstream.
    pub async fn totals(&self) -> Answer<TotalsView> {
        self.admin.blocking(Admin::totals).await
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<AccountView> {
        self.admin.list_accounts(None).accounts
    }

    /// One account.
    pub fn account(&self, id: &str) -> Answer<AccountView> {
        Ok(self.admin.show_account(id)?.account)
    }

    /// Logs an account in at its media server now.
    pub async fn log_account_in(&self, id: String) -> Answer<AccountView> {
        let login = Arc::clone(&self.admin).login(id, self.actor);
        Ok(self.admin.tasks.spawn(login).await??.account)
    }

    /// Gives an account another password, if its media server accepts it.
    pub async fn set_account_password(&self, id: String, password: Secret<String>) -> Answer<AccountView> {
        let request = CredentialRequest { password: Some(password), ..CredentialRequest::default() };
        let setting = Arc::clone(&self.admin).set_credential(id, request, self.actor);
        Ok(self.admin.tasks.spawn(setting).await??.account)
    }

    /// How the gateway stands.
    pub async fn status(&self) -> Answer<StatusView> {
        self.admin.blocking(Admin::status).await
    }

    /// The certificates that are served.
    pub async fn tls(&self) -> Answer<TlsView> {
        self.admin.blocking(|admin| Ok(admin.tls())).await
    }
}
