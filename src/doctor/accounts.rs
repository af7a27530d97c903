//! Whether keygate can act as each account: asked with the session that lives, and logged in only where none does.

use std::sync::Arc;

use crate::doctor::{Asker, Finding, Inside, Subject};
use crate::store::records::AccountRecord;
use crate::upstream::dialect::TokenState;
use crate::upstream::session::{AccountState, Session, SessionError, SessionId};

const CHECK: &str = "account";

/// Each account of the upstream; and the first that is good, to ask the rest with.
pub(super) async fn check(subject: &Subject<'_>, inside: &Inside) -> (Vec<Finding>, Option<Asker>) {
    let (mut findings, mut asker) = (Vec::new(), None);
    for account in inside.sessions.accounts().into_iter().filter(|account| account.upstream == subject.upstream.name) {
        let name = account.full_name();
        let finding = match session(inside, &account).await {
            Ok((session, text)) => {
                asker.get_or_insert_with(|| Asker { name: name.clone(), id: account.id, user_id: account.user_id.clone(), session });
                Finding::ok(CHECK, text)
            }
            Err(error) => unusable(&name, error),
        };
        findings.push(finding.about(name));
    }
    if findings.is_empty() {
        let none = Finding::warning(CHECK, "there is no account that keys could act for");
        findings.push(subject.finding(none.cure(format!("Add one: keygate accounts add {}/NAME", subject.upstream.name))));
    }
    (findings, asker)
}

/// A session that the media server takes, and how it was come by.
async fn session(inside: &Inside, account: &AccountRecord) -> Result<(Arc<Session>, &'static str), SessionError> {
    let sessions = &inside.sessions;
    if let AccountState::Broken { why } = sessions.state(account.id) {
        return Err(SessionError::Broken(why));
    }
    let (session, text) = match sessions.any_live(account.id) {
        Some(session) => (session, "its session is good"),
        None => {
            (sessions.current(SessionId { account: account.id, key: None }, None).await?, "logged in, or took up the session of before")
        }
    };
    match sessions.probe(&session).await? {
        TokenState::Alive { .. } => Ok((session, text)),
        TokenState::Dead => Ok((sessions.replace(&session, None).await?, "its session had died; there is a new one")),
    }
}

fn unusable(name: &str, error: SessionError) -> Finding {
    match error {
        SessionError::Broken(why) => Finding::failed(CHECK, why).refused().cure(format!(
            "Its keys answer 503 until then: keygate accounts set-credential {name}, or keygate accounts login {name} when the media server \
             was to blame"
        )),
        SessionError::Waiting { why, retry_after_secs } => {
            Finding::warning(CHECK, why).cure(format!("keygate tries again in {retry_after_secs} s; at once: keygate accounts login {name}"))
        }
        error => Finding::failed(CHECK, error.to_string()),
    }
}
