//! `keygate keys export` and `keys import`: what keys are for, without what opens anything. An export holds no secret and no hash of one;
//! an import makes new keys of the same names, accounts, expiries and scopes, whose secrets go into a file.

use std::io::Write;
use std::path::Path;

use http::Method;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::admin::api::{KeyList, KeyView, NewKeyRequest, OneKey};
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::{Global, bulk};
use crate::clock::{Clock, SystemClock};
use crate::limits::LimitsText;
use crate::secret::Secret;

/// What is written, and what is read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    /// The form; 1.
    keygate_keys: u32,
    keys: Vec<Exported>,
}

/// A key without what opens anything.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    #[serde(default)]
    id: Option<String>,
    name: String,
    account: String,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default = "yes")]
    is_active: bool,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    libraries: Option<Vec<String>>,
    #[serde(default)]
    limits: Option<LimitsText>,
}

const fn yes() -> bool {
    true
}

impl From<KeyView> for Exported {
    fn from(key: KeyView) -> Self {
        let KeyView { id, name, account, expires_at, is_active, scopes, libraries, limits, .. } = key;
        Self { id: Some(id), name, account, expires_at, is_active, scopes, libraries, limits }
    }
}

/// Prints all living keys.
pub(crate) async fn export(global: &Global, output: &mut Output) -> Result<(), Failure> {
    let list: KeyList = Backend::open(global, output).await?.get("/api/api-keys").await?;
    let keys = list.api_keys.into_iter().map(Exported::from).collect();
    let text = serde_json::to_string_pretty(&Export { keygate_keys: 1, keys });
    output.line(&text.map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?)
}

/// Makes new keys as an export describes them. `out`: where their secrets go.
pub(crate) async fn import(file: &Path, out: Option<&Path>, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let wanted = read(file)?;
    let Some(out) = out else { return rehearse(&wanted, output) };
    let mut target = bulk::reserve(out, u32::try_from(wanted.len()).unwrap_or(u32::MAX))?;
    let backend = Backend::open(global, output).await?;
    let mut made = 0;
    for key in &wanted {
        let created = create(&backend, key).await.and_then(|created| write(&mut target, &created));
        if let Err(failure) = created {
            finish(target, out)?;
            let text = format!("\"{}\": {}; {made} keys before it were made and are in {}", key.name, failure.message, out.display());
            return Err(Failure::new(failure.exit, text));
        }
        made += 1;
    }
    finish(target, out)?;
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "count": made, "file": out }));
    }
    output.sentence(&format!("{made} new keys written to {}, a name and its key a line", out.display()))
}

/// What is good in a file; what has expired meanwhile is none.
fn read(file: &Path) -> Result<Vec<Exported>, Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let export: Export = serde_json::from_slice(&text).map_err(|error| wrong(format!("not what keys export writes: {error}")))?;
    if export.keygate_keys != 1 {
        return Err(wrong(format!("it has the form {}, and only 1 is known here", export.keygate_keys)));
    }
    let now = SystemClock::new().now().to_string();
    // RFC 3339 in UTC sorts as text.
    Ok(export.keys.into_iter().filter(|key| key.expires_at.as_ref().is_none_or(|at| *at > now)).collect())
}

fn rehearse(wanted: &[Exported], output: &mut Output) -> Result<(), Failure> {
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "wouldCreate": wanted }));
    }
    let row = |key: &Exported| {
        let scopes = if key.scopes.is_empty() { "-".to_owned() } else { key.scopes.join(",") };
        vec![key.name.clone(), key.account.clone(), key.expires_at.clone().unwrap_or_else(|| "never".to_owned()), scopes]
    };
    output.rows(&["NAME", "ACCOUNT", "EXPIRES", "SCOPES"], &wanted.iter().map(row).collect::<Vec<_>>())?;
    output.note(&format!("{} keys would be made; nothing was changed", wanted.len()));
    Ok(())
}

async fn create(backend: &Backend, key: &Exported) -> Result<OneKey, Failure> {
    let request = NewKeyRequest {
        name: key.name.clone(),
        user_id: key.account.clone(),
        expires_at: key.expires_at.clone(),
        is_active: Some(key.is_active),
        scopes: Some(key.scopes.clone()).filter(|scopes| !scopes.is_empty()),
        libraries: key.libraries.clone(),
        limits: key.limits.clone(),
        ..NewKeyRequest::default()
    };
    backend.call(Method::POST, "/api/api-keys", &request).await
}

fn write(target: &mut NamedTempFile, created: &OneKey) -> Result<(), Failure> {
    let key = &created.api_key;
    let secret = key.api_key.as_ref().map(Secret::expose).ok_or_else(|| Failure::failed("the gateway's answer holds no key"))?;
    writeln!(target, "{}\t{secret}", key.name).map_err(|error| Failure::failed(error.to_string()))
}

fn finish(target: NamedTempFile, out: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(format!("cannot write {}: {error}", out.display()));
    target.as_file().sync_all().map_err(|error| failed(&error))?;
    target.persist_noclobber(out).map_err(|error| failed(&error.error))?;
    Ok(())
}
