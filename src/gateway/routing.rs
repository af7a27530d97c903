//! Which upstream a request is for, and the settings that requests are judged by.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use ipnet::IpNet;

use crate::config::{Access, Config, Limits, UpstreamConfig};
use crate::policy::OpenRoutes;
use crate::telemetry::traces::Tracer;
use crate::upstream::UpstreamName;
use crate::upstream::client::Upstream;
use crate::upstream::health::Health;

/// One configuration, as requests need it.
#[derive(Debug)]
pub struct Settings {
    /// Limits toward clients.
    pub limits: Limits,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each request gets a line in the log.
    pub access_log: bool,
    /// What answers over TLS tell browsers of later visits (RFC 6797), if anything.
    pub hsts: Option<HeaderValue>,
    /// Who makes spans of requests, if anybody.
    pub tracer: Option<Arc<Tracer>>,
    by_host: HashMap<String, Arc<Site>>,
    by_name: HashMap<UpstreamName, Arc<Site>>,
    fallback: Option<Arc<Site>>,
}

/// An upstream and how it is offered.
#[derive(Debug)]
pub struct Site {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// What may pass without a key.
    pub open: OpenRoutes,
    /// Whether requests with credentials of the server's own are forwarded as they are.
    pub native_logins: bool,
    /// Whether the upstream sees the client's Host.
    pub forward_host: bool,
}

impl Settings {
    /// From a configuration. Upstreams that did not change keep their identity, and so their pooled connections.
    pub fn new(config: &Config, before: Option<&Self>) -> Self {
        let sites: Vec<(&UpstreamConfig, Arc<Site>)> = config.upstreams.iter().map(|upstream| (upstream, site(upstream, before))).collect();
        // An upstream without host names serves every host: the configuration allows that for a single one, or beside its own listener.
        let fallback = sites.iter().find(|(upstream, _)| upstream.hosts.is_empty() && (upstream.listen.is_empty() || sites.len() == 1));
        Self {
            limits: config.limits.clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            access_log: config.log.access,
            hsts: hsts(config),
            tracer: None,
            fallback: fallback.map(|(_, site)| Arc::clone(site)),
            by_host: sites.iter().flat_map(|(upstream, site)| upstream.hosts.iter().map(|host| (host.clone(), Arc::clone(site)))).collect(),
            by_name: sites.iter().map(|(upstream, site)| (upstream.name.clone(), Arc::clone(site))).collect(),
        }
    }

    /// The same with somebody who makes spans of requests.
    #[must_use]
    pub fn traced_by(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// The site that a request is for: its listener's own, or by host name (lower case, without port).
    pub fn site(&self, listener: Option<&UpstreamName>, host: &str) -> Option<&Arc<Site>> {
        match listener {
            Some(name) => self.by_name.get(name),
            None if self.by_host.is_empty() => self.fallback.as_ref(),
            None => self.by_host.get(host).or(self.fallback.as_ref()),
        }
    }

    /// All upstreams by name.
    pub fn upstreams(&self) -> HashMap<UpstreamName, Arc<Upstream>> {
        self.by_name.iter().map(|(name, site)| (name.clone(), Arc::clone(&site.upstream))).collect()
    }
}

fn hsts(config: &Config) -> Option<HeaderValue> {
    let seconds = config.server.tls.as_ref()?.hsts.as_secs();
    (seconds > 0).then(|| HeaderValue::try_from(format!("max-age={seconds}")).ok()).flatten()
}

fn site(config: &UpstreamConfig, before: Option<&Settings>) -> Arc<Site> {
    let upstream = upstream(config);
    let kept = before.and_then(|before| before.by_name.get(&config.name)).filter(|site| *site.upstream == upstream);
    Arc::new(Site {
        upstream: kept.map_or_else(|| Arc::new(upstream), |site| Arc::clone(&site.upstream)),
        open: OpenRoutes {
            images: config.images == Access::Pass,
            web_ui: config.web_ui == Access::Pass,
            shares: config.shares == Access::Pass,
        },
        native_logins: config.native_logins == Access::Pass,
        forward_host: config.forward_host,
    })
}

/// `http://host:port/base`, for people.
pub fn url(config: &UpstreamConfig) -> String {
    upstream(config).url()
}

/// An upstream as configured, ready for use.
pub fn upstream(config: &UpstreamConfig) -> Upstream {
    let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
    let default_port = if config.tls.is_some() { 443 } else { 80 };
    let authority = if config.port == default_port { host } else { format!("{host}:{}", config.port) };
    Upstream {
        name: config.name.clone(),
        kind: config.kind,
        host: config.host.clone(),
        port: config.port,
        tls: config.tls.clone(),
        authority: HeaderValue::try_from(authority).unwrap_or_else(|_| HeaderValue::from_static("localhost")),
        base_path: config.base_path.clone(),
        timeouts: config.timeouts.clone(),
        session_per_key: config.session_per_key,
        health: Health::default(),
    }
}
