//! Who the client is, toward the upstream and toward the log.
//!
//! Audiobookshelf believes ten headers before the socket, `X-Client-IP` first (`server/libs/requestIp`); Emby 3.5 believes
//! `X-Forwarded-For` and `X-Real-IP` from anybody. So all that a client sent is dropped, and what keygate knows is set: one
//! address, never a list.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::carrier::strip::{Found, Names, names};
use crate::target::Host;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Beside everything that begins with `x-forwarded`.
static NAMES: Names<20> = names![
    "x-real-ip",
    "forwarded",
    "forwarded-for",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "true-client-ip",
    "fastly-client-ip",
    "client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-original-forwarded-for",
    "x-original-host",
    "x-host",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Whether a header (lower-case name) says who the client is or rewrites what it asks for: never believed, never forwarded.
pub fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded") || NAMES.iter().any(|listed| listed.as_str() == name)
}

/// What the upstream is told of the client.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The client's address, from [`address_value`]; the same for a whole connection unless a trusted proxy is in front.
    pub address: HeaderValue,
    /// Whether the client came by TLS.
    pub secure: bool,
    /// The host that the client named, with its port.
    pub host: HeaderValue,
}

/// A header value of an address.
pub fn address_value(address: IpAddr) -> HeaderValue {
    // The text of an address consists of hex digits, dots and colons.
    HeaderValue::try_from(address.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");

impl Forwarding {
    /// The headers that say it, in place of those that [`drop_all`] drops. (All three servers look at `X-Forwarded-For` before `X-Real-IP`,
    /// which is left away.)
    pub fn lines(&self) -> [(HeaderName, &HeaderValue); 3] {
        let scheme = if self.secure { &HTTPS } else { &HTTP };
        [(X_FORWARDED_FOR, &self.address), (X_FORWARDED_PROTO, scheme), (X_FORWARDED_HOST, &self.host)]
    }
}

/// Drops every forwarding header: all that the client said.
pub fn drop_all(headers: &mut HeaderMap) {
    let mut found = Found::default();
    let mut others = Vec::new();
    for name in headers.keys() {
        if name.as_str().starts_with("x-forwarded") {
            others.push(name.clone());
        } else if let Some(place) = NAMES.place_of(name) {
            found.note(place);
        }
    }
    for name in others {
        headers.remove(name);
    }
    found.remove_from(headers, &NAMES);
}

/// The client as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The peer of the socket, or what trusted proxies say of it.
    pub ip: IpAddr,
    /// Whether the client came by TLS, if a trusted proxy said so in one unambiguous word.
    pub secure_from_proxy: Option<bool>,
    /// The host that the client named, if a trusted proxy said so and it is valid.
    pub host_from_proxy: Option<HeaderValue>,
}

/// Finds the client behind trusted proxies: `X-Forwarded-For` is walked from the right for as long as the address at hand is a
/// trusted one; what cannot be parsed ends the walk. Without a trusted peer no header is looked at. To be called before the headers
/// are taken apart.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| is_trusted(*address, trusted);
    if !is_trusted(&peer) {
        return ClientAddress { ip: peer, secure_from_proxy: None, host_from_proxy: None };
    }
    let mut ip = peer;
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    for hop in lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')) {
        let Some(address) = parse_hop(hop) else { break };
        ip = address;
        if !is_trusted(&ip) {
            break;
        }
    }
    let secure_from_proxy = only_value(headers, &X_FORWARDED_PROTO).and_then(|value| match value.as_bytes() {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    });
    let host_from_proxy = only_value(headers, &X_FORWARDED_HOST).filter(|value| value.to_str().is_ok_and(|text| Host::parse(text).is_ok()));
    ClientAddress { ip, secure_from_proxy, host_from_proxy: host_from_proxy.cloned() }
}

/// Whether what this peer says of others is believed.
pub fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    trusted.iter().any(|net| net.contains(&peer))
}

/// Whether somebody nearby, who is not trusted, forwards for others: a proxy in the home that nobody told keygate of, most likely.
pub fn is_unbelieved_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    let is_near = match peer {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    };
    is_near && headers.contains_key(X_FORWARDED_FOR) && !trusted.iter().any(|net| net.contains(&peer))
}

fn only_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`: proxies write all of these.
fn parse_hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn found(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().expect("a net"), "::1/128".parse().expect("a net")];
        client_address(peer.parse().expect(peer), &headers(lines), &trusted).ip.to_string()
    }

    #[test]
    fn nothing_is_believed_from_an_untrusted_peer() {
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a.b")];
        let client = client_address("192.0.2.1".parse().expect("an address"), &headers(&lines), &[]);
        assert_eq!(client, ClientAddress { ip: "192.0.2.1".parse().expect("an address"), secure_from_proxy: None, host_from_proxy: None });
    }

    #[test]
    fn the_client_is_the_first_untrusted_address_from_the_right() {
        for (peer, value, client) in [
            ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "1.1.1.1, unknown", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
            ("10.0.0.1", "1.1.1.1:5000", "1.1.1.1"),
            ("::1", "2001:db8::2", "2001:db8::2"),
            ("::ffff:10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"),
        ] {
            assert_eq!(found(peer, &[("x-forwarded-for", value)]), client, "{peer} {value}");
        }
        assert_eq!(found("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")]), "1.1.1.1");
    }

    #[test]
    fn scheme_and_host_are_believed_only_in_one_unambiguous_form() {
        let trusted = ["10.0.0.0/8".parse().expect("a net")];
        let said = |lines: &[(&'static str, &'static str)]| {
            let client = client_address("10.0.0.1".parse().expect("an address"), &headers(lines), &trusted);
            (client.secure_from_proxy, client.host_from_proxy)
        };
        assert_eq!(
            said(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "a.b")]),
            (Some(true), Some(HeaderValue::from_static("a.b")))
        );
        assert_eq!(said(&[("x-forwarded-proto", "https,http"), ("x-forwarded-host", "a, b")]), (None, None));
        assert_eq!(said(&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")]), (None, None));
    }

    #[test]
    fn nothing_stays_of_what_the_client_said_and_what_is_known_takes_its_place() {
        let mut headers = HeaderMap::new();
        for name in NAMES.iter() {
            headers.append(name, HeaderValue::from_static("6.6.6.6"));
        }
        for name in ["x-forwarded-for", "x-forwarded-for", "x-forwarded", "x-forwarded-prefix", "x-forwarded-uri", "x-forwarded-user"] {
            headers.append(name, HeaderValue::from_static("6.6.6.6"));
        }
        headers.insert("accept", HeaderValue::from_static("*/*"));
        drop_all(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
        let address = address_value("::ffff:192.0.2.1".parse().expect("an address"));
        for (secure, scheme) in [(true, "https"), (false, "http")] {
            let forwarding = Forwarding { address: address.clone(), secure, host: HeaderValue::from_static("media.example.org:8443") };
            let lines = forwarding.lines().map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")));
            let scheme = format!("x-forwarded-proto: {scheme}");
            assert_eq!(lines, ["x-forwarded-for: 192.0.2.1", &scheme, "x-forwarded-host: media.example.org:8443"]);
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_walk_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(X_FORWARDED_FOR, value.clone());
                headers.insert(X_FORWARDED_HOST, value);
            }
            let _ = client_address(IpAddr::from([10, 0, 0, 1]), &headers, &["0.0.0.0/0".parse().expect("a net")]);
        }
    }
}
