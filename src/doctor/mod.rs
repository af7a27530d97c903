//! Looks at the whole installation, and says of each thing whether it is as it should be, and which setting to change where it is not.
//!
//! Each check is a function that gives [`Finding`]s; nothing is printed here. What a running gateway alone can look at ([`Inside`]) is looked
//! at by it; without one, those checks say so. Nothing is changed, but for a key that only memory knows and that ends with the checks, and
//! a session of that key's where each key has one.

mod accounts;
mod certificates;
pub mod files;
pub(crate) mod front;
mod media;
mod proxies;
mod server;
mod settings;
mod traces;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::certificates::Shown;
use crate::clock::Clock;
use crate::config::{Config, UpstreamConfig};
use crate::gateway::routing;
use crate::registry::Registry;
use crate::server::listener::Listener;
use crate::upstream::client::Upstream;
use crate::upstream::session::{Session, Sessions};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something should be changed.
    Warning,
    /// It does not work.
    Failed,
    /// There is no such thing here.
    NotApplicable,
    /// It could not be looked at, and why.
    NotLookedAt,
}

impl Verdict {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::NotApplicable => "not applicable",
            Self::NotLookedAt => "not looked at",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which check.
    pub check: String,
    /// The upstream, account, file or address that it is about.
    pub about: Option<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub text: String,
    /// What to change, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// It failed because the media server refused a credential.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

impl Finding {
    /// Of a check.
    pub fn new(check: &str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { check: check.to_owned(), about: None, verdict, text: text.into(), cure: None, refused: false }
    }

    fn ok(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, text)
    }

    fn warning(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, text)
    }

    fn failed(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failed, text)
    }

    fn not_applicable(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotApplicable, text)
    }

    fn not_looked_at(check: &str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotLookedAt, text)
    }

    /// About this.
    #[must_use]
    pub fn about(self, about: impl ToString) -> Self {
        Self { about: Some(about.to_string()), ..self }
    }

    /// With what to change.
    #[must_use]
    pub fn cure(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }

    fn refused(self) -> Self {
        Self { refused: true, ..self }
    }

    /// In one sentence or two.
    pub fn sentence(&self) -> String {
        match &self.cure {
            Some(cure) => format!("{}. {cure}", self.text.trim_end_matches('.')),
            None => self.text.clone(),
        }
    }
}

/// What all checks found, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Examined {
    /// At least one for each check.
    pub findings: Vec<Finding>,
}

/// What is looked at.
pub struct Installation {
    /// The configuration that is in force, or would be.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Addresses of this machine that other machines may reach.
    pub addresses: Vec<IpAddr>,
    /// The certificates that are served, or would be; why there are none.
    pub certificates: Result<Vec<Shown>, String>,
    /// The running gateway.
    pub inside: Option<Inside>,
}

/// What only a running gateway has.
pub struct Inside {
    /// Lends keys.
    pub registry: Arc<Registry>,
    /// Accounts and sessions.
    pub sessions: Arc<Sessions>,
    /// Where it listens.
    pub listeners: Vec<(Listener, SocketAddr)>,
    /// Somebody nearby who forwards for others and is not believed.
    pub unbelieved_proxy: Option<IpAddr>,
}

const NO_GATEWAY: &str = "no keygate runs: start it, and run keygate doctor again";

/// One upstream while it is looked at.
struct Subject<'a> {
    installation: &'a Installation,
    config: &'a UpstreamConfig,
    upstream: Arc<Upstream>,
}

/// An account to ask with.
struct Asker {
    name: String,
    id: crate::upstream::AccountId,
    user_id: Option<String>,
    session: Arc<Session>,
}

/// All checks but those of files, in the order in which they are shown.
pub async fn examine(installation: &Installation) -> Vec<Finding> {
    let mut findings = certificates::check(installation);
    findings.push(proxies::check(installation));
    findings.push(traces::check(installation).await);
    for config in &installation.config.upstreams {
        let running = installation.inside.as_ref().and_then(|inside| inside.sessions.upstream(&config.name));
        let upstream = running.unwrap_or_else(|| Arc::new(routing::upstream(config)));
        findings.extend(look_at(&Subject { installation, config, upstream }).await);
    }
    findings
}

async fn look_at(subject: &Subject<'_>) -> Vec<Finding> {
    let (mut findings, is_there) = server::check(subject).await;
    let Some(inside) = &subject.installation.inside else {
        findings.push(subject.finding(Finding::not_looked_at("accounts", NO_GATEWAY)));
        findings
            .extend(settings::NAMES.iter().chain(&media::NAMES).map(|check| subject.finding(Finding::not_looked_at(check, NO_GATEWAY))));
        return findings;
    };
    if !is_there {
        let text = "the media server is not there, or is another one than configured";
        let all = ["accounts"].into_iter().chain(settings::NAMES).chain(media::NAMES);
        findings.extend(all.map(|check| subject.finding(Finding::not_looked_at(check, text))));
        return findings;
    }
    let (of_accounts, asker) = accounts::check(subject, inside).await;
    findings.extend(of_accounts);
    findings.extend(settings::check(subject, asker.as_ref()).await);
    findings.extend(media::check(subject, inside, asker.as_ref()).await);
    findings
}

impl Subject<'_> {
    /// About this upstream, unless it is about something else already.
    fn finding(&self, finding: Finding) -> Finding {
        let about = finding.about.clone().unwrap_or_else(|| self.upstream.name.to_string());
        finding.about(about)
    }
}
