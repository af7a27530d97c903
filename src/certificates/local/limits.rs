//! For whom keygate's own authority may speak: the names and addresses of a home. A device that trusts it would otherwise take whoever
//! steals its key for every site of the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// Ends of names that nobody can own on the internet: RFC 6761, RFC 6762, RFC 8375, ICANN's resolution of 2024-07-29 on `internal`; `lan`
/// and `home` are no top-level domains, and home routers hand them out.
const HOME_NAMES: [&str; 6] = ["localhost", "local", "lan", "home", "home.arpa", "internal"];

/// Addresses that mean another machine in every home: RFC 1122 (loopback), RFC 1918, RFC 3927, RFC 6598 (carriers, and Tailscale); RFC 4291
/// (loopback, link-local), RFC 4193.
fn home_networks() -> Vec<IpNet> {
    let v4 = [
        ([127, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([169, 254, 0, 0], 16),
        ([100, 64, 0, 0], 10),
    ];
    let v6 =
        [(Ipv6Addr::LOCALHOST, 128), (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7), (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)];
    let v4 = v4.into_iter().map(|(address, length)| (IpAddr::V4(Ipv4Addr::from(address)), length));
    let v6 = v6.into_iter().map(|(address, length)| (IpAddr::V6(address), length));
    v4.chain(v6).filter_map(|(address, length)| IpNet::new(address, length).ok()).collect()
}

/// What an authority may vouch for (RFC 5280, section 4.2.1.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl Limits {
    /// Those of a new authority: a home's, and these names and addresses.
    pub(super) fn around(names: &[String]) -> Self {
        let mut limits = Self { names: HOME_NAMES.map(str::to_owned).to_vec(), networks: home_networks() };
        for name in names {
            if limits.allow(name) {
                continue;
            }
            match name.parse::<IpAddr>() {
                Ok(address) => limits.networks.push(IpNet::from(address)),
                Err(_) => limits.names.push(without_star(name).to_owned()),
            }
        }
        limits
    }

    /// Those that stand in a certificate; `None`: it may vouch for everything.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let permitted = parsed.name_constraints().ok().flatten()?.value.permitted_subtrees.as_ref()?;
        let mut limits = Self { names: Vec::new(), networks: Vec::new() };
        for subtree in permitted {
            match subtree.base {
                GeneralName::DNSName(name) => limits.names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => limits.networks.extend(network(bytes)),
                _ => {}
            }
        }
        Some(limits)
    }

    /// Whether a certificate of this authority may have a name or an address.
    pub(super) fn allow(&self, name: &str) -> bool {
        match name.parse::<IpAddr>() {
            Ok(address) => self.networks.iter().any(|network| network.contains(&address)),
            Err(_) => self.names.iter().any(|end| is_below(without_star(name), end)),
        }
    }

    /// Names first, then networks.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.names.iter().cloned().chain(self.networks.iter().map(ToString::to_string)).collect()
    }

    pub(super) fn constraints(&self) -> NameConstraints {
        let names = self.names.iter().map(|name| GeneralSubtree::DnsName(name.clone()));
        let subnet = |network: &IpNet| CidrSubnet::from_addr_prefix(network.network(), network.prefix_len());
        let networks = self.networks.iter().map(|network| GeneralSubtree::IpAddress(subnet(network)));
        NameConstraints { permitted_subtrees: names.chain(networks).collect(), excluded_subtrees: Vec::new() }
    }
}

/// A star stands for names below; a limit cannot say how far below.
fn without_star(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

fn is_below(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Address and mask.
fn network(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask): (IpAddr, IpAddr) = match bytes.len() {
        8 => (<[u8; 4]>::try_from(&bytes[..4]).ok()?.into(), <[u8; 4]>::try_from(&bytes[4..]).ok()?.into()),
        32 => (<[u8; 16]>::try_from(&bytes[..16]).ok()?.into(), <[u8; 16]>::try_from(&bytes[16..]).ok()?.into()),
        _ => return None,
    };
    IpNet::with_netmask(address, mask).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_home_is_within_the_limits_and_the_internet_is_not() {
        let limits = Limits::around(&names(&["nas", "nas.local", "media.example.org", "*.films.example.net", "192.0.2.7", "10.0.0.2"]));
        for inside in [
            "localhost",
            "nas",
            "a.nas",
            "printer.local",
            "local",
            "box.lan",
            "x.home.arpa",
            "db.internal",
            "media.example.org",
            "a.media.example.org",
            "films.example.net",
            "*.films.example.net",
            "127.0.0.1",
            "10.255.0.1",
            "172.31.0.1",
            "192.168.1.10",
            "169.254.3.4",
            "100.100.1.2",
            "::1",
            "fd12::1",
            "fe80::1",
            "192.0.2.7",
        ] {
            assert!(limits.allow(inside), "{inside}");
        }
        for outside in [
            "example.org",
            "xmedia.example.org",
            "example.net",
            "*.example.org",
            "nas2",
            "notlocal",
            "local.evil.test",
            "192.0.2.8",
            "172.32.0.1",
            "11.0.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::2",
            "",
        ] {
            assert!(!limits.allow(outside), "{outside}");
        }
        assert_eq!(limits.describe().iter().filter(|one| one.contains("nas")).count(), 1, "nas.local is within local");
    }
}
