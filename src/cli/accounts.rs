//! `keygate accounts`: the users of media servers that keys act for.

use clap::{Args, Subcommand};
use http::Method;

use crate::admin::api::{
    AccountList, AccountRemoved, AccountView, AvailableUser, AvailableUsers, CredentialRequest, NewAccountRequest, OneAccount,
    PatchAccountRequest,
};
use crate::cli::ask::{self, SecretArgs};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{Global, outstanding, time};

/// `keygate accounts …`. An ACCOUNT is named `upstream/name`, or by its name where that is unambiguous.
#[derive(Subcommand, Debug)]
pub enum AccountsCommand {
    /// Add an account; its credential is tried at the media server first
    Add(AddArgs),
    /// List the accounts and the state of their sessions
    List(ListArgs),
    /// Show one account
    Show {
        /// upstream/name, or name
        account: String,
    },
    /// Log in now; this also ends a refused password's time out of service
    Login {
        /// upstream/name, or name
        account: String,
        /// First give it the password that stands on standard input
        #[arg(long, visible_alias = "secret-stdin")]
        password_stdin: bool,
    },
    /// Give an account another password or token
    SetCredential(SetCredentialArgs),
    /// Make an account the administrator with which the sessions of minted accounts are made
    SetAdministrator {
        /// upstream/name, or name
        account: String,
        /// Take that from it
        #[arg(long)]
        off: bool,
        /// Take it away although minted accounts need it
        #[arg(long, requires = "off")]
        force: bool,
    },
    /// List an account's sessions at its media server
    Sessions {
        /// upstream/name, or name
        account: String,
        /// Let all of them go, and end them there; the next request logs in anew
        #[arg(long)]
        drop: bool,
    },
    /// Remove an account
    Remove {
        /// upstream/name, or name
        account: String,
        /// Revoke the keys that act for it
        #[arg(long)]
        revoke_keys: bool,
        /// Remove the administrator although minted accounts need it
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `keygate accounts add`.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// The media server's user name; before it, the upstream if there are several
    #[arg(value_name = "[UPSTREAM/]NAME")]
    pub name: String,
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// The upstream, instead of before the name
    #[arg(long)]
    pub upstream: Option<String>,
    /// Without a secret: let the upstream's administrator make the sessions (Audiobookshelf; Jellyfin 10.9 and newer)
    #[arg(long, conflicts_with_all = ["token", "secret_stdin", "secret_file", "no_verify", "administrator"])]
    pub mint: bool,
    /// Make it the upstream's administrator, with which the sessions of minted accounts are made
    #[arg(long)]
    pub administrator: bool,
    /// Add it without trying to log in
    #[arg(long)]
    pub no_verify: bool,
}

/// `keygate accounts list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// List the media server's users instead, as its administrator sees them
    #[arg(long)]
    pub available: bool,
    /// Of this upstream only
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
}

/// `keygate accounts set-credential`.
#[derive(Args, Debug)]
pub struct SetCredentialArgs {
    /// upstream/name, or name
    pub account: String,
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// Take it without trying to log in
    #[arg(long)]
    pub no_verify: bool,
}

/// `keygate accounts …`.
pub(crate) async fn run(command: &AccountsCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    if let AccountsCommand::Sessions { account, drop } = command {
        return outstanding::sessions(account, *drop, global, output).await;
    }
    let backend = Backend::open(global, output).await?;
    match command {
        AccountsCommand::Sessions { .. } => Ok(()),
        AccountsCommand::Add(args) => add(args, &backend, output).await,
        AccountsCommand::List(args) if args.available => available(args, &backend, output).await,
        AccountsCommand::List(args) => list(args, &backend, output).await,
        AccountsCommand::Show { account } => show(account, &backend, output).await,
        AccountsCommand::Login { account, password_stdin } => login(account, *password_stdin, &backend, output).await,
        AccountsCommand::SetCredential(args) => set_credential(args, &backend, output).await,
        AccountsCommand::SetAdministrator { account, off, force } => set_administrator(account, *off, *force, &backend, output).await,
        AccountsCommand::Remove { account, revoke_keys, force, yes } => {
            let account = find(&backend, account).await?;
            ask::confirm(&removal_question(&account, *revoke_keys), *yes)?;
            let path = format!("/api/accounts/{}?revokeKeys={revoke_keys}&force={force}", account.id);
            remove(&path, &backend, output).await
        }
    }
}

async fn add(args: &AddArgs, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let (password, token) = match args.mint {
        true => (None, None),
        false if args.secret.token => (None, Some(args.secret.read(&args.name)?)),
        false => (Some(args.secret.read(&args.name)?), None),
    };
    let request = NewAccountRequest {
        upstream: args.upstream.clone(),
        name: args.name.clone(),
        password,
        token,
        mint: args.mint.then_some(true),
        administrator: args.administrator.then_some(true),
        verify: Some(!args.no_verify),
    };
    let added: OneAccount = backend.call(Method::POST, "/api/accounts", &request).await?;
    report("added", &added, output)
}

/// The media server's users.
async fn available(args: &ListArgs, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let query = args.upstream.as_ref().map(|name| format!("?upstream={}", encoded(name))).unwrap_or_default();
    let list: AvailableUsers = backend.get(&format!("/api/accounts/available{query}")).await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let row = |user: AvailableUser| {
        vec![user.upstream, user.name, user.id, yes(user.administrator), yes(user.disabled), user.account.unwrap_or_else(|| "-".to_owned())]
    };
    let rows: Vec<Vec<String>> = list.users.into_iter().map(row).collect();
    output.rows(&["UPSTREAM", "USER", "ID", "ADMINISTRATOR", "DISABLED", "ACCOUNT"], &rows)
}

async fn set_administrator(account: &str, off: bool, force: bool, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let account = find(backend, account).await?;
    let request = PatchAccountRequest { administrator: Some(!off), force: force.then_some(true) };
    let changed: OneAccount = backend.call(Method::PATCH, &format!("/api/accounts/{}", account.id), &request).await?;
    if output.format() == Format::Json {
        return output.json(&changed);
    }
    let word = if off { "no longer" } else { "now" };
    output.sentence(&format!("{} is {word} the administrator of {}", full_name(&account), account.upstream))
}

async fn list(args: &ListArgs, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let mut list: AccountList = backend.get("/api/accounts").await?;
    list.accounts.retain(|account| args.upstream.as_ref().is_none_or(|wanted| account.upstream == *wanted));
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let rows: Vec<Vec<String>> = list
        .accounts
        .iter()
        .map(|one| {
            let kind = one.kind.clone().unwrap_or_else(|| "not configured".to_owned());
            vec![one.id.clone(), full_name(one), kind, method(one), state(one)]
        })
        .collect();
    output.rows(&["ID", "ACCOUNT", "KIND", "METHOD", "SESSION"], &rows)
}

async fn show(account: &str, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let account = find(backend, account).await?;
    if output.format() == Format::Json {
        return output.json(&OneAccount { account, login: None });
    }
    let (session, method) = (state(&account), method(&account));
    let lines = [
        ("id", Some(account.id)),
        ("upstream", Some(account.upstream)),
        ("kind", account.kind),
        ("name", Some(account.name)),
        ("method", Some(method)),
        ("user id there", account.upstream_user_id),
        ("added", Some(account.created_at)),
        ("session", Some(session)),
        ("because", account.why),
        ("until", account.until),
    ];
    let rows: Vec<Vec<String>> = lines.into_iter().filter_map(|(what, value)| Some(vec![what.to_owned(), value?])).collect();
    output.rows(&["WHAT", "VALUE"], &rows)
}

async fn login(account: &str, password_stdin: bool, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    if password_stdin {
        let secret = SecretArgs { token: false, secret_stdin: true, secret_file: None };
        return set_credential(&SetCredentialArgs { account: account.to_owned(), secret, no_verify: false }, backend, output).await;
    }
    let account = find(backend, account).await?;
    let found: OneAccount = backend.call(Method::POST, &format!("/api/accounts/{}/login", account.id), &()).await?;
    report("logged in", &found, output)
}

async fn set_credential(args: &SetCredentialArgs, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let account = find(backend, &args.account).await?;
    let secret = args.secret.read(&full_name(&account))?;
    let (password, token) = if args.secret.token { (None, Some(secret)) } else { (Some(secret), None) };
    let request = CredentialRequest { password, token, verify: Some(!args.no_verify) };
    let changed: OneAccount = backend.call(Method::PUT, &format!("/api/accounts/{}/credential", account.id), &request).await?;
    report("changed", &changed, output)
}

async fn remove(path: &str, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let removed: AccountRemoved = backend.call(Method::DELETE, path, &()).await?;
    if removed.stays_behind {
        output.note(match backend {
            Backend::Daemon { .. } => {
                "what was minted for it is still at the media server; keygate tries for some minutes to delete it, and its log says if it gives up"
            }
            Backend::Offline(_) => "what was minted for it could not be deleted at the media server: delete the API key \"keygate …\" there by hand",
        });
    }
    if output.format() == Format::Json {
        return output.json(&removed);
    }
    output.sentence(&format!("removed {} ({} keys revoked)", removed.account, removed.revoked_keys))
}

fn removal_question(account: &AccountView, revoke_keys: bool) -> String {
    let keys = if revoke_keys { " and revoke all its keys" } else { "" };
    format!("Remove account {}{keys}?", full_name(account))
}

/// The one account that a text means.
pub(super) async fn find(backend: &Backend, text: &str) -> Result<AccountView, Failure> {
    let mut found = backend.get::<AccountList>(&format!("/api/accounts?match={}", encoded(text))).await?.accounts;
    match (found.pop(), found.len()) {
        (Some(account), 0) => Ok(account),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("there is no account \"{text}\"; see keygate accounts list"))),
        (Some(last), _) => {
            let names = found.iter().chain([&last]).map(full_name).collect::<Vec<_>>().join(", ");
            Err(Failure::usage(format!("\"{text}\" can mean several accounts: {names}; say which")))
        }
    }
}

fn method(account: &AccountView) -> String {
    let administrator = if account.administrator { ", administrator" } else { "" };
    format!("{}{administrator}", account.method)
}

pub(super) fn full_name(account: &AccountView) -> String {
    format!("{}/{}", account.upstream, account.name)
}

fn state(account: &AccountView) -> String {
    match (account.state.as_str(), &account.until, &account.why) {
        ("live", Some(until), _) => format!("live until {until}"),
        ("waiting", Some(until), Some(why)) => format!("waiting until {until}: {why}"),
        ("broken", _, Some(why)) => format!("broken: {why}"),
        (state, ..) => state.to_owned(),
    }
}

fn report(what: &str, found: &OneAccount, output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(found);
    }
    let name = full_name(&found.account);
    let Some(login) = &found.login else { return output.sentence(&format!("{what} {name} (not tried)")) };
    let user = login.user_name.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let id = login.user_id.as_ref().map(|id| format!(", id {id}")).unwrap_or_default();
    let life = login.token_life_seconds.map(|seconds| format!(", token good for {}", time::rough(seconds))).unwrap_or_default();
    output.sentence(&format!("{what} {name}: the media server accepts it{user}{id}{life}"))
}
