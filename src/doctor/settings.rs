//! What must be set at the media server for a gateway in front of it, asked with a session of one of its accounts.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::doctor::{Asker, Finding, Subject};
use crate::upstream::Kind;
use crate::upstream::client::Upstream;
use crate::upstream::survey::{believes_forwarding, read};

const ADDRESS: &str = "forwarded address";
const SCHEME: &str = "forwarded scheme";
const LEGACY: &str = "legacy authorization";
const PUBLISHED: &str = "published address";

/// The checks of this file.
pub(super) const NAMES: [&str; 4] = [ADDRESS, SCHEME, LEGACY, PUBLISHED];

/// A name that nobody has (RFC 2606).
const NOBODYS_HOST: &str = "keygate-doctor.invalid";

/// All of them, one line each.
pub(super) async fn check(subject: &Subject<'_>, asker: Option<&Asker>) -> Vec<Finding> {
    let upstream = &*subject.upstream;
    if upstream.kind == Kind::Audiobookshelf {
        return audiobookshelf().into_iter().map(|finding| subject.finding(finding)).collect();
    }
    let Some(asker) = asker else {
        let text = "there is no account to ask with";
        return NAMES.iter().map(|check| subject.finding(Finding::not_looked_at(check, text))).collect();
    };
    let headers = || -> HeaderMap { asker.session.headers.iter().cloned().collect() };
    let configuration = read(upstream, "/System/Configuration", headers()).await;
    let network = match upstream.kind {
        Kind::Jellyfin => read(upstream, "/System/Configuration/network", headers()).await,
        _ => None,
    };
    let settings = Settings { upstream, asker, hosts: &subject.config.hosts, configuration, network };
    let findings = match upstream.kind {
        Kind::Jellyfin => [settings.jellyfin_address(headers()).await, settings.scheme().await, settings.legacy(), settings.discovery()],
        _ => [
            settings.emby_address(headers()).await,
            settings.behind_proxy(),
            Finding::not_applicable(LEGACY, "a switch of Jellyfin's"),
            settings.external_domain(),
        ],
    };
    findings.into_iter().map(|finding| subject.finding(finding)).collect()
}

fn audiobookshelf() -> [Finding; 4] {
    let believes = "Audiobookshelf believes forwarding headers from everybody, so also from keygate: nothing has to be set";
    [
        Finding::not_applicable(ADDRESS, believes),
        Finding::not_applicable(SCHEME, believes),
        Finding::not_applicable(LEGACY, "a switch of Jellyfin's"),
        Finding::not_applicable(PUBLISHED, "Audiobookshelf announces itself nowhere"),
    ]
}

struct Settings<'a> {
    upstream: &'a Upstream,
    asker: &'a Asker,
    /// Public names of the upstream.
    hosts: &'a [String],
    /// `/System/Configuration`, where the account may read it.
    configuration: Option<Value>,
    /// `/System/Configuration/network` of Jellyfin.
    network: Option<Value>,
}

impl Settings<'_> {
    async fn jellyfin_address(&self, headers: HeaderMap) -> Finding {
        match believes_forwarding(self.upstream, headers).await {
            Ok(Some(true)) => Finding::ok(ADDRESS, "Jellyfin believes keygate about who the client is"),
            Ok(Some(false)) => {
                let text = "Jellyfin does not believe this gateway about who the client is: remote-access limits and logs are wrong";
                Finding::warning(ADDRESS, text).cure(format!(
                    "Add {} under Dashboard, Networking, Known proxies{}, then restart Jellyfin",
                    self.own_address().await,
                    self.known_proxies()
                ))
            }
            Ok(None) => self.unread(ADDRESS),
            Err(error) => Finding::not_looked_at(ADDRESS, error.to_string()),
        }
    }

    async fn emby_address(&self, headers: HeaderMap) -> Finding {
        match believes_forwarding(self.upstream, headers).await {
            Ok(Some(true)) => Finding::ok(ADDRESS, "Emby believes keygate about who the client is"),
            Ok(Some(false)) => Finding::warning(ADDRESS, "Emby takes every client for keygate: limits for remote users do not work")
                .cure("Choose \"Handled by reverse proxy\" under Network, Secure connection mode"),
            Ok(None) => self.unread(ADDRESS),
            Err(error) => Finding::not_looked_at(ADDRESS, error.to_string()),
        }
    }

    /// As the media server sees it, unless addresses are translated between the two.
    async fn own_address(&self) -> String {
        let stream = TcpStream::connect((self.upstream.host.as_str(), self.upstream.port)).await;
        let address = stream.and_then(|stream| stream.local_addr());
        address.map_or_else(|_| "keygate's address".to_owned(), |address| address.ip().to_canonical().to_string())
    }

    fn known_proxies(&self) -> String {
        let known = self.network.as_ref().and_then(|network| network.get("KnownProxies")?.as_array());
        let Some(known) = known else { return String::new() };
        let known: Vec<&str> = known.iter().filter_map(Value::as_str).take(8).collect();
        if known.is_empty() { " (none is there)".to_owned() } else { format!(" (there are {})", known.join(", ")) }
    }

    /// Whether `X-Forwarded-Proto` reaches the addresses that Jellyfin makes.
    async fn scheme(&self) -> Finding {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-forwarded-proto", "https"), ("x-forwarded-host", NOBODYS_HOST)] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let info = read(self.upstream, "/System/Info/Public", headers).await;
        let address = info.as_ref().and_then(|info| info.get("LocalAddress")?.as_str()).unwrap_or_default();
        match address.split_once("://") {
            Some(("https", rest)) if rest.starts_with(NOBODYS_HOST) => Finding::ok(SCHEME, "Jellyfin knows that clients come by https"),
            Some((_, rest)) if rest.starts_with(NOBODYS_HOST) => {
                Finding::warning(SCHEME, "Jellyfin believes the host that keygate names, but not that clients come by https")
                    .cure("Look at Dashboard, Networking: Known proxies, and restart Jellyfin")
            }
            _ => Finding::not_applicable(SCHEME, "Jellyfin makes no addresses out of requests, as it is set"),
        }
    }

    fn legacy(&self) -> Finding {
        let Some(configuration) = &self.configuration else { return self.unread(LEGACY) };
        match configuration.get("EnableLegacyAuthorization").and_then(Value::as_bool) {
            Some(true) => Finding::warning(LEGACY, "Jellyfin still takes tokens in X-Emby-Token, api_key and the like").cure(
                "It can be switched off, since keygate translates them for old clients: Dashboard, General (in older ones system.xml), \
                 EnableLegacyAuthorization = false",
            ),
            Some(false) => Finding::ok(LEGACY, "Jellyfin takes no tokens in the old places; keygate translates them for old clients"),
            None => Finding::not_applicable(LEGACY, "this Jellyfin has no such switch yet (10.11 has)"),
        }
    }

    /// Apps that look for servers in the home find the media server itself.
    fn discovery(&self) -> Finding {
        let Some(network) = &self.network else { return self.unread(PUBLISHED) };
        let published = network.get("PublishedServerUriBySubnet").and_then(Value::as_array).map_or(0, Vec::len);
        let is_announced = network.get("AutoDiscovery").and_then(Value::as_bool).unwrap_or(true);
        if !is_announced {
            return Finding::ok(PUBLISHED, "Jellyfin does not announce itself in the home network");
        }
        if published > 0 {
            return Finding::ok(PUBLISHED, "Jellyfin announces the address that was set");
        }
        Finding::warning(PUBLISHED, "apps that look for servers in the home find Jellyfin's own address, past keygate").cure(format!(
            "Dashboard, Networking: set Published Server URIs to all=https://{}, or switch automatic discovery off",
            self.host()
        ))
    }

    /// Emby's own words for it: "Secure connection mode".
    fn behind_proxy(&self) -> Finding {
        let Some(configuration) = &self.configuration else { return self.unread(SCHEME) };
        match configuration.get("IsBehindProxy").and_then(Value::as_bool) {
            Some(true) => Finding::ok(SCHEME, "Emby knows that a proxy speaks TLS for it"),
            Some(false) => Finding::warning(
                SCHEME,
                "Emby does not know that a proxy speaks TLS for it: it tells apps addresses with http and its own port",
            )
            .cure("Choose \"Handled by reverse proxy\" under Network, Secure connection mode"),
            None => self.unread(SCHEME),
        }
    }

    fn external_domain(&self) -> Finding {
        let Some(configuration) = &self.configuration else { return self.unread(PUBLISHED) };
        match configuration.get("WanDdns").and_then(Value::as_str) {
            Some(domain) if !domain.is_empty() => Finding::ok(PUBLISHED, format!("Emby tells apps to come to {domain}")),
            _ if self.hosts.is_empty() => {
                Finding::not_applicable(PUBLISHED, "keygate has no public host name for it (hosts in [[upstream]])")
            }
            _ => Finding::warning(PUBLISHED, "Emby tells apps its own address, past keygate").cure(format!(
                "Write {} under Network, External domain, and the port of keygate under Public HTTPS port number",
                self.host()
            )),
        }
    }

    fn host(&self) -> &str {
        self.hosts.first().map_or("HOST", String::as_str)
    }

    fn unread(&self, check: &str) -> Finding {
        let text = format!(
            "{} does not tell that to {}: an account of an administrator may see more",
            self.upstream.kind.product(),
            self.asker.name
        );
        Finding::not_looked_at(check, text)
    }
}
