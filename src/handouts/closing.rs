//! Closing the play sessions of dead keys at Audiobookshelf: what was opened by a key must not go on without it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::Handouts;
use super::entry::Entry;
use crate::secret::Secret;
use crate::store::records::Handed;
use crate::upstream::call::call;
use crate::upstream::client::Upstream;
use crate::upstream::dialect::capability::close_call;
use crate::upstream::session::{Session, SessionError, SessionId, Sessions};

/// How many seconds to wait before each further try. Afterwards the server is left to its own: it forgets open sessions after 36 hours.
const PAUSES: [u64; 5] = [1, 2, 5, 15, 60];

/// One play session to be closed.
struct Closing {
    sessions: Arc<Sessions>,
    upstream: Arc<Upstream>,
    account: SessionId,
    /// What was good when the key died: the account may be removed next.
    session: Option<Arc<Session>>,
    id: Secret<String>,
}

/// How a try ended.
enum Tried {
    Closed,
    /// Another try may do better.
    Failed(String),
    Hopeless(String),
}

impl Handouts {
    /// Closes a play session at the upstream, in the background. The store keeps the handout until that has ended.
    pub(super) fn spawn_close(self: &Arc<Self>, entry: Arc<Entry>) {
        let Some(closing) = self.closing(&entry) else { return };
        entry.set_closing(true);
        let handouts = Arc::downgrade(self);
        self.control.spawn(async move {
            closing.run().await;
            entry.set_closing(false);
            if let Some(handouts) = handouts.upgrade() {
                handouts.news.notify_one();
            }
        });
    }

    fn closing(&self, entry: &Entry) -> Option<Closing> {
        let Handed::PlaySession(id) = &entry.record.what else { return None };
        let upstream = self.sessions.upstream(&entry.record.upstream)?;
        let account = self.sessions.account(entry.record.account)?;
        let account = self.sessions.session_id(&account, entry.record.key);
        Some(Closing { sessions: Arc::clone(&self.sessions), upstream, account, session: self.sessions.live(account), id: id.clone() })
    }
}

impl Closing {
    async fn run(mut self) {
        let mut pauses = PAUSES.iter();
        loop {
            let why = match self.once().await {
                Tried::Closed => return tracing::debug!(upstream = %self.upstream.name, "closed a play session of a dead key"),
                Tried::Hopeless(why) => why,
                Tried::Failed(why) => match pauses.next() {
                    Some(pause) => {
                        tokio::time::sleep(Duration::from_secs(*pause)).await;
                        continue;
                    }
                    None => why,
                },
            };
            return tracing::warn!(upstream = %self.upstream.name, why, "a play session of a dead key could not be closed at the media server");
        }
    }

    async fn once(&mut self) -> Tried {
        let session = match self.session().await {
            Ok(session) => session,
            Err(error @ (SessionError::NoAccount | SessionError::NoUpstream(_) | SessionError::Broken(_))) => {
                return Tried::Hopeless(error.to_string());
            }
            Err(error) => return Tried::Failed(error.to_string()),
        };
        let mut request = close_call(self.id.expose());
        request.headers.extend(session.headers.iter().cloned());
        match call(&self.upstream, request, None).await {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND => Tried::Closed,
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                self.session = self.sessions.replace(&session, None).await.ok();
                Tried::Failed("the session with it had ended".to_owned())
            }
            Ok(answer) => Tried::Failed(format!("it answered {}", answer.status.as_u16())),
            Err(error) => Tried::Failed(error.to_string()),
        }
    }

    async fn session(&self) -> Result<Arc<Session>, SessionError> {
        match &self.session {
            Some(session) => Ok(Arc::clone(session)),
            None => self.sessions.current(self.account, None).await,
        }
    }
}
