//! `keygate admin`: who may come in at the admin listener.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;

use crate::admin::credentials::{
    AdminTokenList, AdminTokenView, NewAdminTokenRequest, OneAdminToken, PageSessionEnded, PageSessionList, PasswordRequest, PasswordSet,
};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::time::day;
use crate::cli::{Global, ask, keys};
use crate::keys::admin::AdminScope;

/// `keygate admin …`.
#[derive(Subcommand, Debug)]
pub enum AdminCommand {
    /// Make, list and revoke admin tokens, with which programs use the admin listener
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Set the password of the admin page; whoever is logged in there must log in again
    SetPassword(SetPasswordArgs),
    /// List who is logged in to the admin page, and end logins
    #[command(subcommand)]
    Sessions(SessionsCommand),
}

/// `keygate admin tokens …`.
#[derive(Subcommand, Debug)]
pub enum TokensCommand {
    /// Make an admin token; it is shown once
    Create(CreateArgs),
    /// List the admin tokens
    List {
        /// Revoked ones too
        #[arg(long)]
        revoked: bool,
    },
    /// End an admin token for good
    Revoke {
        /// Its id, or its name if only one has it
        token: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `keygate admin tokens create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// What the token is for: one a program
    pub name: String,
    /// What it may do: read, keys, accounts or all; can be given several times. keys and accounts include read
    #[arg(long = "scope", value_name = "read|keys|accounts|all", required = true)]
    pub scopes: Vec<AdminScope>,
    /// When it dies: 90d, 2w, 1y, a date (its start in UTC), an RFC 3339 time, or never
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub expires: String,
}

/// `keygate admin set-password`.
#[derive(Args, Debug)]
pub struct SetPasswordArgs {
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password_file")]
    pub password_stdin: bool,
    /// Read the password from a file
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `keygate admin sessions …`.
#[derive(Subcommand, Debug)]
pub enum SessionsCommand {
    /// List who is logged in
    List,
    /// End a login
    End {
        /// Its number
        number: u64,
    },
}

pub(crate) async fn run(command: &AdminCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    match command {
        AdminCommand::Tokens(TokensCommand::Create(args)) => create(args, global, output).await,
        AdminCommand::Tokens(TokensCommand::List { revoked }) => list(*revoked, global, output).await,
        AdminCommand::Tokens(TokensCommand::Revoke { token, yes }) => revoke(token, *yes, global, output).await,
        AdminCommand::SetPassword(args) => set_password(args, global, output).await,
        AdminCommand::Sessions(SessionsCommand::List) => sessions(global, output).await,
        AdminCommand::Sessions(SessionsCommand::End { number }) => end(*number, global, output).await,
    }
}

async fn create(args: &CreateArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let request = NewAdminTokenRequest {
        name: args.name.clone(),
        scopes: args.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        expires_in: None,
        expires_at: keys::expiry(&args.expires)?.to_wire(),
    };
    let backend = Backend::open(global, output).await?;
    let made: OneAdminToken = backend.call(Method::POST, "/api/admin-tokens", &request).await?;
    let token = &made.admin_token;
    let Some(text) = &token.token else { return Err(Failure::failed("the gateway's answer holds no token")) };
    match output.format() {
        Format::Json => output.json(&made),
        _ if output.is_quiet() => output.line(text.expose()),
        _ => {
            output.line(&format!("id      {}   name {}   scopes {}", token.id, token.name, token.scopes.join(", ")))?;
            output.line(&format!("token   {}", text.expose()))?;
            output.note("This is the only time that the token is shown: store it now.");
            Ok(())
        }
    }
}

async fn list(revoked: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let mut list: AdminTokenList = backend.get("/api/admin-tokens").await?;
    list.admin_tokens.retain(|token| revoked || token.status != "revoked");
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let when = |time: &Option<String>| time.as_deref().map_or("never", day).to_owned();
    let row = |token: &AdminTokenView| {
        let scopes = token.scopes.join(", ");
        vec![token.id.clone(), token.name.clone(), scopes, when(&token.last_used_at), when(&token.expires_at), token.status.clone()]
    };
    output.rows(&["ID", "NAME", "SCOPES", "LAST USED", "EXPIRES", "STATUS"], &list.admin_tokens.iter().map(row).collect::<Vec<_>>())
}

async fn revoke(text: &str, yes: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    if text.starts_with("kga_") {
        return Err(Failure::usage(
            "that is an admin token itself, not its name or id. It stands in the shell's history now, and stood in the list of processes: \
             revoke it by its id (keygate admin tokens list shows it)",
        ));
    }
    let list: AdminTokenList = backend.get("/api/admin-tokens").await?;
    let living = list.admin_tokens.iter().filter(|token| token.status != "revoked");
    let found: Vec<_> = living.filter(|token| token.id == text || token.name == text).collect();
    let token = match found.as_slice() {
        [token] => token,
        [] => return Err(Failure::new(Exit::NotFound, format!("there is no admin token \"{text}\""))),
        _ => return Err(Failure::usage(format!("several admin tokens are called \"{text}\": name one by its id"))),
    };
    ask::confirm(&format!("Revoke admin token {} \"{}\" for good?", token.id, token.name), yes)?;
    let done: OneAdminToken = backend.call(Method::DELETE, &format!("/api/admin-tokens/{}", encoded(&token.id)), &()).await?;
    match output.format() {
        Format::Json => output.json(&done),
        _ => output.sentence(&format!("revoked {} \"{}\"", done.admin_token.id, done.admin_token.name)),
    }
}

async fn set_password(args: &SetPasswordArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let password = ask::new_password(args.password_stdin, args.password_file.as_deref())?;
    let backend = Backend::open(global, output).await?;
    let set: PasswordSet = backend.call(Method::PUT, "/api/page-password", &PasswordRequest { password: Some(password) }).await?;
    match output.format() {
        Format::Json => output.json(&set),
        _ => output.sentence(&format!("the admin page has a new password; {} logins ended", set.ended_sessions)),
    }
}

async fn sessions(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::running(global).await?;
    let list: PageSessionList = backend.get("/api/page-sessions").await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let rows: Vec<_> = list
        .sessions
        .into_iter()
        .map(|one| vec![one.number.to_string(), one.address, one.created_at, one.last_used_at, one.ends_at])
        .collect();
    output.rows(&["NUMBER", "FROM", "SINCE", "LAST USED", "ENDS"], &rows)
}

async fn end(number: u64, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::running(global).await?;
    let ended: PageSessionEnded = backend.call(Method::DELETE, &format!("/api/page-sessions/{number}"), &()).await?;
    match output.format() {
        Format::Json => output.json(&ended),
        _ => output.sentence(&format!("login {number} ended")),
    }
}
