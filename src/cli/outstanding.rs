//! `keygate keys tickets` and `keygate accounts sessions`: what is out in the world beside the key or the account, and taking it back.

use http::Method;

use crate::admin::outstanding::{SessionLine, SessionList, SessionsDropped, TicketLine, TicketList, TicketsTakenBack};
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::time::ago;
use crate::cli::{Global, accounts, keys};

pub(super) async fn tickets(key: &str, revoke: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::running(global).await?;
    let key = keys::find(&backend, key, false).await?;
    let path = format!("/api/api-keys/{}/tickets", key.id);
    if revoke {
        let done: TicketsTakenBack = backend.call(Method::DELETE, &path, &()).await?;
        return match output.format() {
            Format::Json => output.json(&done),
            _ => output.sentence(&format!("{} tickets and ids of key {} \"{}\" are good no more", done.taken_back, key.id, key.name)),
        };
    }
    let list: TicketList = backend.get(&path).await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let row = |line: &TicketLine| {
        let until = line.good_until.clone();
        vec![line.sort.clone(), line.upstream.clone(), ago(&line.created_at), ago(&line.last_used_at), until]
    };
    output.rows(&["SORT", "UPSTREAM", "HANDED OUT", "USED", "GOOD UNTIL"], &list.tickets.iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn sessions(account: &str, drop: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::running(global).await?;
    let account = accounts::find(&backend, account).await?;
    let path = format!("/api/accounts/{}/sessions", account.id);
    if drop {
        let done: SessionsDropped = backend.call(Method::DELETE, &path, &()).await?;
        return match output.format() {
            Format::Json => output.json(&done),
            _ => output.sentence(&format!("dropped {} sessions of {}; the next request logs in anew", done.dropped, done.account)),
        };
    }
    let list: SessionList = backend.get(&path).await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let or = |text: Option<&String>, other: &str| text.cloned().unwrap_or_else(|| other.to_owned());
    let row = |line: &SessionLine| {
        let state = if line.is_live { "live" } else { "stored" };
        let obtained = line.obtained_at.as_deref().map_or_else(|| "-".to_owned(), ago);
        vec![or(line.key.as_ref(), "all"), state.to_owned(), obtained, or(line.expires_at.as_ref(), "not by time")]
    };
    output.rows(&["KEY", "STATE", "OBTAINED", "EXPIRES"], &list.sessions.iter().map(row).collect::<Vec<_>>())
}
