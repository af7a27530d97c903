//! `keygate accounts`: the users of media servers that keys act for.

use clap::{Args, Subcommand};
use http::Method;

use crate::admin::api::{AccountList, AccountRemoved, AccountView, CredentialRequest, NewAccountRequest, OneAccount};
use crate::cli::ask::{self, SecretArgs};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::{Global, time};

/// `keygate accounts …`. An ACCOUNT is named `upstream/name`, or by its name where that is unambiguous.
#[derive(Subcommand, Debug)]
pub enum AccountsCommand {
    /// Add an account; its credential is tried at the media server first
    Add(AddArgs),
    /// List the accounts and the state of their sessions
    List,
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
    /// Remove an account
    Remove {
        /// upstream/name, or name
        account: String,
        /// Revoke the keys that act for it
        #[arg(long)]
        revoke_keys: bool,
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
    /// Add it without trying to log in
    #[arg(long)]
    pub no_verify: bool,
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
    let backend = Backend::open(global, output).await?;
    match command {
        AccountsCommand::Add(args) => add(args, &backend, output).await,
        AccountsCommand::List => list(&backend, output).await,
        AccountsCommand::Show { account } => show(account, &backend, output).await,
        AccountsCommand::Login { account, password_stdin } => login(account, *password_stdin, &backend, output).await,
        AccountsCommand::SetCredential(args) => set_credential(args, &backend, output).await,
        AccountsCommand::Remove { account, revoke_keys, yes } => {
            let account = find(&backend, account).await?;
            ask::confirm(&removal_question(&account, *revoke_keys), *yes)?;
            remove(&account, *revoke_keys, &backend, output).await
        }
    }
}

async fn add(args: &AddArgs, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let secret = args.secret.read(&args.name)?;
    let (password, token) = if args.secret.token { (None, Some(secret)) } else { (Some(secret), None) };
    let request = NewAccountRequest { upstream: None, name: args.name.clone(), password, token, verify: Some(!args.no_verify) };
    let added: OneAccount = backend.call(Method::POST, "/api/accounts", &request).await?;
    report("added", &added, output)
}

async fn list(backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let list: AccountList = backend.get("/api/accounts").await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let rows: Vec<Vec<String>> = list
        .accounts
        .iter()
        .map(|one| {
            let kind = one.kind.clone().unwrap_or_else(|| "not configured".to_owned());
            vec![one.id.clone(), full_name(one), kind, one.method.clone(), state(one)]
        })
        .collect();
    output.rows(&["ID", "ACCOUNT", "KIND", "METHOD", "SESSION"], &rows)
}

async fn show(account: &str, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let account = find(backend, account).await?;
    if output.format() == Format::Json {
        return output.json(&OneAccount { account, login: None });
    }
    let session = state(&account);
    let lines = [
        ("id", Some(account.id)),
        ("upstream", Some(account.upstream)),
        ("kind", account.kind),
        ("name", Some(account.name)),
        ("method", Some(account.method)),
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

async fn remove(account: &AccountView, revoke_keys: bool, backend: &Backend, output: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/accounts/{}?revokeKeys={revoke_keys}", account.id);
    let removed: AccountRemoved = backend.call(Method::DELETE, &path, &()).await?;
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
async fn find(backend: &Backend, text: &str) -> Result<AccountView, Failure> {
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

fn full_name(account: &AccountView) -> String {
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
