//! What the upstream says of the account's user, asked with the account's session.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::gateway::pipeline::Visit;
use crate::gateway::refusal::Refusal;
use crate::gateway::routing::Site;
use crate::keys::ApiKey;
use crate::policy::Permit;
use crate::target::Path;
use crate::upstream::call::{self, CallError};
use crate::upstream::dialect::shim::{self, Ingredients};
use crate::upstream::dialect::{Answer, Call, Device, TokenState, Verdict};
use crate::upstream::session::{Session, SessionError};

/// The fields of the upstream that a failed call stands for.
pub(in crate::gateway) fn failed(error: CallError) -> Refusal {
    Refusal::Session(match error {
        CallError::Timeout { .. } => SessionError::TimedOut(error.to_string()),
        CallError::Connect { .. } | CallError::Tls { .. } | CallError::Protocol { .. } => SessionError::Unreachable(error.to_string()),
    })
}

impl Visit<'_> {
    /// The body of a login's answer.
    pub(super) async fn who_it_is(&self, site: &Site, permit: &Permit, key: &ApiKey, refresh_in_body: bool) -> Result<Vec<u8>, Refusal> {
        let sessions = &self.worker.gateway().sessions;
        let mut session = self.session(permit).await?;
        let user_id = self.user_id(permit, &session).await?;
        let kind = site.upstream.kind;
        let call = |session: &Session| shim::user_call(kind, &session.headers, user_id.as_deref());
        let answer = self.ask(site, permit, &mut session, call).await?.ok_or(NO_USER)?;
        let user = match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body).map_err(|_| NO_USER)?,
            // The server's own keys belong to no user.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => return Err(NO_USER),
            status => return Err(Refusal::Session(SessionError::Unreachable(format!("the media server answered {status} to a login")))),
        };
        let unknown = || Device { client: "keygate".to_owned(), id: permit.account().device_id.clone() };
        let device = sessions.device(session.id).unwrap_or_else(unknown);
        let list = |session: &Session| shim::sessions_call(kind, &session.headers, &device);
        // A login must not fail for it.
        let listed = self.ask(site, permit, &mut session, list).await.ok().flatten();
        let live: Option<Value> = listed.and_then(|answer| serde_json::from_slice(&answer.body).ok());
        let now = rfc3339(self.worker.gateway().clock().now());
        let secrets = [&session.token];
        let from = Ingredients { user, sessions: live, device: &device, secrets: &secrets, key: key.expose(), refresh_in_body, now: &now };
        let answer = shim::login_answer(kind, from).ok_or(NO_USER)?;
        Ok(answer.to_string().into_bytes())
    }

    /// The upstream's id of the account's user: a login told it, a static token is asked for its owner.
    async fn user_id(&self, permit: &Permit, session: &Session) -> Result<Option<String>, Refusal> {
        let sessions = &self.worker.gateway().sessions;
        let known = sessions.account(permit.account().id).and_then(|account| account.user_id.clone());
        if known.is_some() {
            return Ok(known);
        }
        Ok(match sessions.probe(session).await? {
            TokenState::Alive { user_id, .. } => user_id,
            TokenState::Dead => None,
        })
    }

    /// Makes a call with the session, and once more with another one when that one is dead. `None`: there is no such call.
    async fn ask(
        &self,
        site: &Site,
        permit: &Permit,
        session: &mut Arc<Session>,
        call_for: impl Fn(&Session) -> Option<Call>,
    ) -> Result<Option<Answer>, Refusal> {
        let Some(call) = call_for(session) else { return Ok(None) };
        let path = call.path.clone();
        let answer = self.call(site, call).await?;
        if !self.is_dead(site, permit, session, (&path, answer.status)).await? {
            return Ok(Some(answer));
        }
        *session = self.worker.gateway().sessions.replace(session, Some(self.client.ip)).await?;
        let Some(call) = call_for(session) else { return Ok(None) };
        let answer = self.call(site, call).await?;
        if answer.status == StatusCode::UNAUTHORIZED { Err(Refusal::SessionRefused) } else { Ok(Some(answer)) }
    }

    async fn call(&self, site: &Site, call: Call) -> Result<Answer, Refusal> {
        call::call(&site.upstream, call, Some(self.client.ip)).await.map_err(failed)
    }

    /// Whether an answer means that the session is dead; in doubt, and for a token that no other could follow, the upstream is asked.
    async fn is_dead(&self, site: &Site, permit: &Permit, session: &Session, seen: (&str, StatusCode)) -> Result<bool, Refusal> {
        let (path, status) = seen;
        let path = Path::parse(path.split('?').next().unwrap_or_default()).map_err(|_| NO_USER)?;
        Ok(match site.upstream.dialect().verdict(status, &path, false) {
            Verdict::Accepted => false,
            Verdict::Dead if permit.account().credential.is_renewable() => true,
            Verdict::Dead | Verdict::Doubtful => matches!(self.worker.gateway().sessions.probe(session).await?, TokenState::Dead),
        })
    }
}

const NO_USER: Refusal = Refusal::BadAnswer("it names no user for this account, as the login form needs one");

fn rfc3339(now: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default().to_string()
}
