//! `keygate explain` and `keygate keys test`: what the gateway would do, without doing it.

use std::path::PathBuf;

use clap::Args;
use http::Method;

use crate::admin::explain::{ExplainRequest, Explanation, KeyTest, TestKeyRequest};
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::{Global, ask};

/// `keygate explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// GET, POST, …
    pub method: String,
    /// A path like /Items?ParentId=7, or a whole URL. Put no key into it: it would stand in the shell's history
    pub url: String,
    /// For which upstream; not needed where there is one only
    #[arg(long, value_name = "UPSTREAM")]
    pub upstream: Option<String>,
}

/// `keygate keys test`.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// A request to judge the key for: GET, POST, …
    #[arg(requires = "url")]
    pub method: Option<String>,
    /// Its path, or a whole URL
    pub url: Option<String>,
    /// For which upstream [default: the one of the key's account]
    #[arg(long, value_name = "UPSTREAM", requires = "url")]
    pub upstream: Option<String>,
    /// Read the key from a file, not from standard input
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// `keygate explain …`.
pub(crate) async fn explain(args: &ExplainArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let request = ExplainRequest { method: args.method.clone(), url: args.url.clone(), upstream: args.upstream.clone() };
    let explained: Explanation = Backend::open(global, output).await?.call(Method::POST, "/api/explain", &request).await?;
    if output.format() == Format::Json {
        return output.json(&explained);
    }
    output.rows(&["WHAT", "VALUE"], &rows(explained))
}

/// `keygate keys test …`. The end says whether the key would be let through: 0, or 1 with the reason.
pub(crate) async fn test(args: &TestArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let api_key = Some(ask::key(args.key_file.as_deref())?);
    let request = args.method.clone().zip(args.url.clone());
    let request = request.map(|(method, url)| ExplainRequest { method, url, upstream: args.upstream.clone() });
    let tested: KeyTest =
        Backend::open(global, output).await?.call(Method::POST, "/api/api-keys/test", &TestKeyRequest { api_key, request }).await?;
    let verdict = match &tested.why {
        None => Ok(()),
        Some(why) => Err(Failure::failed(format!("the gateway would refuse it: {why}"))),
    };
    if output.format() == Format::Json {
        output.json(&tested)?;
        return verdict;
    }
    let mut lines = Vec::new();
    if let Some(key) = tested.key {
        let mut line = |what: &str, value: String| lines.push(vec![what.to_owned(), value]);
        line("key", format!("{} \"{}\"", key.id, key.name));
        line("account", key.account.unwrap_or_else(|| "none: it was removed".to_owned()));
        line("active", if key.is_active { "yes" } else { "no" }.to_owned());
        line("expires", key.expires_at.unwrap_or_else(|| "never".to_owned()));
        line("preset", key.preset.unwrap_or_else(|| "none".to_owned()));
        line("scopes", key.scopes.join(", "));
        if let Some(libraries) = key.libraries {
            line("libraries", libraries.join(", "));
        }
    }
    lines.extend(tested.request.into_iter().flat_map(rows));
    if !lines.is_empty() {
        lines.push(vec!["let through".to_owned(), if tested.may { "yes" } else { "no" }.to_owned()]);
        output.rows(&["WHAT", "VALUE"], &lines)?;
    }
    verdict
}

fn rows(explained: Explanation) -> Vec<Vec<String>> {
    let scopes = if explained.scopes.is_empty() { "none: every key may".to_owned() } else { explained.scopes.join(", ") };
    [
        ("request", format!("{} {}", explained.method, explained.path)),
        ("upstream", format!("{} ({})", explained.upstream, explained.kind)),
        ("takes", scopes),
        ("presets", explained.presets.join(", ")),
        ("treatment", explained.treatment),
        ("in libraries", explained.libraries),
    ]
    .map(|(what, value)| vec![what.to_owned(), value])
    .to_vec()
}
