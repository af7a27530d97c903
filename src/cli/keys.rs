//! `keygate keys`: make, show and change API keys.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use jiff::Timestamp;

use crate::admin::api::{KeyList, KeyView, MAX_BULK, NewKeyRequest, OneKey, PatchKeyRequest, RotateRequest};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::{Exit, Failure};
use crate::cli::limits::{self, LimitArgs};
use crate::cli::output::{Format, Output};
use crate::cli::time::{Expiry, ago, day, parse_expiry, parse_span};
use crate::cli::{Global, ask, bulk, explain, outstanding, transfer, usage};
use crate::clock::{Clock, SystemClock};
use crate::keys::{Preset, Scope};
use crate::secret::Secret;

/// `keygate keys …`. A KEY is named by its id, by its name if only one key has it, or by the last four characters of its id.
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Make a key; it is shown once
    Create(CreateArgs),
    /// List the keys
    List(ListArgs),
    /// Show one key (never its secret)
    Show {
        /// Id, name, or the last four of the id
        key: String,
    },
    /// Change name, account, expiry, rights, libraries or limits
    Edit(EditArgs),
    /// Say what the gateway would do with a key, read from standard input: to any request, or to one
    Test(explain::TestArgs),
    /// Refuse a key until it is enabled again
    Disable {
        /// Id, name, or the last four of the id
        key: String,
    },
    /// Let a disabled key in again
    Enable {
        /// Id, name, or the last four of the id
        key: String,
    },
    /// Give a key a new secret; it is shown once
    Rotate {
        /// Id, name, or the last four of the id
        key: String,
        /// How long the old secret stays good, for example 24h; without it the old one dies at once
        #[arg(long, value_name = "SPAN", default_value = "0s", hide_default_value = true)]
        overlap: String,
    },
    /// List what was handed out to a key and opens media without it: tickets in URLs, play sessions
    Tickets {
        /// Id, name, or the last four of the id
        key: String,
        /// Take all of it back; the key stays good, and what runs goes on
        #[arg(long)]
        revoke: bool,
    },
    /// End a key for good
    Revoke {
        /// Id, name, or the last four of the id
        key: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Only say who uses it, and what would be cut
        #[arg(long)]
        dry_run: bool,
    },
    /// Print what all keys are for, as JSON: no secret is in it, and no hash of one
    Export,
    /// Make new keys, with new secrets, as an export describes them
    Import {
        /// What keygate keys export printed
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write the names and the new keys into this new file (only its owner may read it)
        #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
        out: Option<PathBuf>,
        /// Only say what would be made
        #[arg(long, conflicts_with = "out")]
        dry_run: bool,
    },
}

/// `keygate keys list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Revoked ones too
    #[arg(long)]
    pub revoked: bool,
    /// Only those that nobody used for this span: 90d
    #[arg(long, value_name = "SPAN")]
    pub stale: Option<String>,
    /// Only those that expire within this span: 14d
    #[arg(long, value_name = "SPAN")]
    pub expiring: Option<String>,
    /// Only those that were never used
    #[arg(long)]
    pub unused: bool,
    /// Those used last come first, in place of the newest
    #[arg(long)]
    pub by_last_use: bool,
}

impl ListArgs {
    fn query(&self) -> Result<String, Failure> {
        let seconds = |name: &str, span: &Option<String>| match span {
            None => Ok(String::new()),
            Some(text) => {
                let span = parse_span(text).map_err(|error| Failure::usage(format!("--{name}: {error}")))?;
                Ok(format!("&{name}={}", span.as_secs()))
            }
        };
        let (stale, expiring) = (seconds("stale", &self.stale)?, seconds("expiring", &self.expiring)?);
        let sort = if self.by_last_use { "&sort=last-used" } else { "" };
        Ok(format!("revoked={}&unused={}{stale}{expiring}{sort}", self.revoked, self.unused))
    }
}

/// `keygate keys create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// What the key is for: one key a program or device
    pub name: String,
    /// The account it acts for: upstream/name, or name alone where that is unambiguous
    #[arg(short, long, value_name = "ACCOUNT")]
    pub account: String,
    /// When it dies: 90d, 2w, 1y, a date (its start in UTC), an RFC 3339 time, or never
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub expires: String,
    /// Make it disabled
    #[arg(long)]
    pub disabled: bool,
    /// What it may do [default: full]: full, read-only, stream-only, progress-sync, dashboard, upload or admin
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<Preset>,
    /// The same piece by piece, beside the preset or instead of one: browse, status, stream, … (see README). Repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub scopes: Vec<Scope>,
    /// Confine it to a library where a route names one: its id at the media server, or its name. Repeatable
    #[arg(long = "library", value_name = "LIBRARY")]
    pub libraries: Vec<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Make so many keys NAME-1, NAME-2, … at once
    #[arg(long, value_name = "N", requires = "out", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_BULK)))]
    pub count: Option<u32>,
    /// Write the keys into this new file, one a line (only its owner may read it)
    #[arg(long, value_name = "FILE", requires = "count")]
    pub out: Option<PathBuf>,
}

/// `keygate keys edit`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["name", "account", "expires", "preset", "scopes", "libraries", "all_libraries", "networks", "rate", "streams", "bandwidth", "daily", "no_limits"]))]
pub struct EditArgs {
    /// Id, name, or the last four of the id
    pub key: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// New account
    #[arg(short, long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// New expiry, as for create
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// What it may do from now on, in place of what it might before, as for create
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<Preset>,
    /// The same piece by piece, beside the preset or instead of one. Repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub scopes: Vec<Scope>,
    /// The libraries that it is confined to from now on, as for create. Repeatable
    #[arg(long = "library", value_name = "LIBRARY")]
    pub libraries: Vec<String>,
    /// Confine it to no libraries any more
    #[arg(long, conflicts_with = "libraries")]
    pub all_libraries: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Lift all limits
    #[arg(long, conflicts_with = "LimitArgs")]
    pub no_limits: bool,
}

/// `keygate keys …`.
pub(crate) async fn run(command: &KeysCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    match command {
        KeysCommand::Create(args) => create(args, global, output).await,
        KeysCommand::List(args) => list(args, global, output).await,
        KeysCommand::Show { key } => show(key, global, output).await,
        KeysCommand::Edit(args) => edit(args, global, output).await,
        KeysCommand::Test(args) => explain::test(args, global, output).await,
        KeysCommand::Disable { key } => switch(key, false, global, output).await,
        KeysCommand::Enable { key } => switch(key, true, global, output).await,
        KeysCommand::Rotate { key, overlap } => rotate(key, overlap, global, output).await,
        KeysCommand::Tickets { key, revoke } => outstanding::tickets(key, *revoke, global, output).await,
        KeysCommand::Revoke { key, yes, dry_run } => revoke(key, *yes, *dry_run, global, output).await,
        KeysCommand::Export => transfer::export(global, output).await,
        KeysCommand::Import { file, out, .. } => transfer::import(file, out.as_deref(), global, output).await,
    }
}

async fn create(args: &CreateArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let mut request = NewKeyRequest {
        name: args.name.clone(),
        user_id: args.account.clone(),
        expires_at: expiry(&args.expires)?.to_wire(),
        is_active: Some(!args.disabled),
        count: args.count,
        scopes: names(&args.scopes),
        preset: args.preset.map(|preset| preset.name().to_owned()),
        libraries: some(&args.libraries),
        ..NewKeyRequest::default()
    };
    args.limits.limit(&mut request)?;
    if let Some(file) = &args.out {
        return bulk::create(&request, file, global, output).await;
    }
    let made: OneKey = Backend::open(global, output).await?.call(Method::POST, "/api/api-keys", &request).await?;
    show_secret(&made, output)
}

async fn list(args: &ListArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let list: KeyList = backend.get(&format!("/api/api-keys?{}", args.query()?)).await?;
    if output.format() == Format::Json {
        return output.json(&list);
    }
    let rows: Vec<Vec<String>> = list.api_keys.iter().map(listed).collect();
    output.rows(&["ID", "NAME", "ACCOUNT", "EXPIRES", "STATUS", "USED", "RIGHTS"], &rows)
}

/// One word a column, so that scripts can take them apart.
fn listed(key: &KeyView) -> Vec<String> {
    let used = key.last_used_at.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at).replace(' ', "-"));
    let mut row = row(key);
    row.insert(row.len() - 1, used);
    row
}

fn row(key: &KeyView) -> Vec<String> {
    vec![key.id.clone(), key.name.clone(), key.account.clone(), expires(key), key.status.clone(), rights(key)]
}

/// The preset, or the scopes one by one, and whether there are limits; one word in any case, so that a line has as many words as columns.
fn rights(key: &KeyView) -> String {
    let scopes = key.preset.clone().unwrap_or_else(|| key.scopes.join(","));
    if key.limits.is_some() { scopes + "+limits" } else { scopes }
}

fn names(scopes: &[Scope]) -> Option<Vec<String>> {
    (!scopes.is_empty()).then(|| scopes.iter().map(|scope| scope.name().to_owned()).collect())
}

fn some(libraries: &[String]) -> Option<Vec<String>> {
    (!libraries.is_empty()).then(|| libraries.to_vec())
}

fn expires(key: &KeyView) -> String {
    let day = key.expires_at.as_deref().map_or("never", day);
    key.expires_in_days.map_or_else(|| day.to_owned(), |days| format!("{day}({days}d)"))
}

async fn show(key: &str, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let found = find(&backend, key, true).await?;
    let one: OneKey = backend.get(&format!("/api/api-keys/{}", found.id)).await?;
    if output.format() == Format::Json {
        return output.json(&one);
    }
    let mut key = one.api_key;
    let used = usage::rows(&usage::of(&backend, &key).await?);
    let limits = limits::lines(&mut key);
    let (scopes, libraries) = (key.scopes.join(", "), key.libraries.as_ref().map(|libraries| libraries.join(", ")));
    let lines = [
        ("id", Some(key.id)),
        ("name", Some(key.name)),
        ("account", Some(key.account)),
        ("status", Some(key.status)),
        ("preset", Some(key.preset.unwrap_or_else(|| "none".to_owned()))),
        ("scopes", Some(scopes)),
        ("libraries", libraries),
        ("expires", Some(key.expires_at.unwrap_or_else(|| "never".to_owned()))),
        ("created", Some(format!("{} by {}", key.created_at, key.created_by))),
        ("changed", Some(key.updated_at)),
        ("old secret until", key.previous_secret_until),
        ("revoked", key.revoked_at),
    ];
    let rows = lines.into_iter().chain(limits).chain(used);
    let rows: Vec<Vec<String>> = rows.filter_map(|(what, value)| Some(vec![what.to_owned(), value?])).collect();
    output.rows(&["WHAT", "VALUE"], &rows)
}

async fn edit(args: &EditArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let mut request = PatchKeyRequest {
        name: args.name.clone(),
        user_id: args.account.clone(),
        expires_at: args.expires.as_deref().map(expiry).transpose()?.map(Expiry::to_wire),
        scopes: names(&args.scopes),
        preset: args.preset.map(|preset| preset.name().to_owned()),
        libraries: some(&args.libraries).map(Some).or_else(|| args.all_libraries.then_some(None)),
        ..PatchKeyRequest::default()
    };
    args.limits.change(args.no_limits, &mut request)?;
    patch(&args.key, "changed", &request, global, output).await
}

async fn switch(key: &str, is_active: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let request = PatchKeyRequest { is_active: Some(is_active), ..PatchKeyRequest::default() };
    patch(key, if is_active { "enabled" } else { "disabled" }, &request, global, output).await
}

async fn patch(key: &str, what: &str, request: &PatchKeyRequest, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let key = find(&backend, key, false).await?;
    let changed: OneKey = backend.call(Method::PATCH, &format!("/api/api-keys/{}", key.id), request).await?;
    report(what, &changed, output)
}

async fn rotate(key: &str, overlap: &str, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let overlap_seconds = parse_span(overlap).map_err(|error| Failure::usage(format!("--overlap: {error}")))?.as_secs();
    let backend = Backend::open(global, output).await?;
    let key = find(&backend, key, false).await?;
    let path = format!("/api/api-keys/{}/rotate", key.id);
    let rotated: OneKey = backend.call(Method::POST, &path, &RotateRequest { overlap_seconds }).await?;
    show_secret(&rotated, output)
}

async fn revoke(key: &str, yes: bool, dry_run: bool, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::open(global, output).await?;
    let key = find(&backend, key, false).await?;
    let usage = usage::of(&backend, &key).await?;
    if dry_run {
        return match output.format() {
            Format::Json => output.json(&usage),
            _ => usage::impact(&usage).iter().try_for_each(|line| output.sentence(line)),
        };
    }
    if !yes {
        usage::impact(&usage).iter().for_each(|line| output.note(line));
    }
    ask::confirm(&format!("Revoke key {} \"{}\" of {} for good?", key.id, key.name, key.account), yes)?;
    let revoked: OneKey = backend.call(Method::DELETE, &format!("/api/api-keys/{}", key.id), &()).await?;
    report("revoked", &revoked, output)
}

/// The one key that a text means.
pub(crate) async fn find(backend: &Backend, text: &str, with_revoked: bool) -> Result<KeyView, Failure> {
    let list: KeyList = backend.get(&format!("/api/api-keys?match={}&revoked={with_revoked}", encoded(text))).await?;
    let mut found = list.api_keys;
    match (found.pop(), found.len()) {
        (Some(key), 0) => Ok(key),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("there is no key \"{text}\" (by id, name, or last four of the id)"))),
        (Some(last), others) => {
            let ids = found.iter().chain([&last]).take(20).map(|key| key.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(Failure::usage(format!("\"{text}\" can mean {} keys: {ids}; say which by its id", others + 1)))
        }
    }
}

pub(super) fn expiry(text: &str) -> Result<Expiry, Failure> {
    let now = Timestamp::from_millisecond(SystemClock::new().now().as_millis());
    let now = now.map_err(|error| Failure::failed(format!("the machine's clock is wrong: {error}")))?;
    parse_expiry(text, now).map_err(|error| Failure::usage(format!("--expires: {error}")))
}

fn report(what: &str, key: &OneKey, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json(key),
        _ => output.sentence(&format!("{what} {} \"{}\"", key.api_key.id, key.api_key.name)),
    }
}

/// The only moment at which the key's text exists: alone with `-q`, so that a script can take it.
fn show_secret(made: &OneKey, output: &mut Output) -> Result<(), Failure> {
    let key = &made.api_key;
    let secret = key.api_key.as_ref().map(Secret::expose).ok_or_else(|| Failure::failed("the gateway's answer holds no key"))?;
    if output.format() == Format::Json {
        return output.json(made);
    }
    if output.is_quiet() || output.format() == Format::Plain {
        return output.line(secret);
    }
    output.rows(&["ID", "NAME", "ACCOUNT", "EXPIRES", "STATUS", "RIGHTS"], &[row(key)])?;
    output.line("")?;
    output.line(secret)?;
    output.note("This is the only time that the key is shown: store it now.");
    if let Some(until) = &key.previous_secret_until {
        output.note(&format!("The old secret stays good until {until}."));
    }
    Ok(())
}
