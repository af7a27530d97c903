//! By what names and addresses this machine is reached at home.
//!
//! The addresses are read from `/proc/self/net`: the unit allows no netlink socket, which is how libc would ask, and hides all of `/proc`
//! but the processes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `IFA_F_TEMPORARY`, `IFA_F_DADFAILED`, `IFA_F_DEPRECATED`, `IFA_F_TENTATIVE`: addresses that nobody should be told to use. Temporary
/// ones change each day.
const UNSTEADY: u8 = 0x01 | 0x08 | 0x20 | 0x40;
const SCOPE_GLOBAL: &str = "00";

/// Every name and address, `localhost` first; addresses as text.
pub(super) fn of_this_machine() -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
    let mut names = host_names(&host);
    let addresses = ipv4(&read("fib_trie")).into_iter().map(IpAddr::V4).chain(ipv6(&read("if_inet6")).into_iter().map(IpAddr::V6));
    names.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().chain(addresses).map(|ip| ip.to_string()));
    names
}

/// A host name with dots is a whole one; one without is known as `NAME.local` too (mDNS).
fn host_names(host: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    if host.is_empty() || host == "localhost" || rustls::pki_types::DnsName::try_from(host).is_err() {
        return names;
    }
    names.push(host.to_owned());
    let label = host.split('.').next().unwrap_or(host);
    let local = format!("{label}.local");
    if local != host {
        names.push(local);
    }
    names
}

/// `|-- 192.168.1.10` on one line, `/32 host LOCAL` on the next.
fn ipv4(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|address: &Ipv4Addr| !address.is_loopback() && !address.is_link_local()));
        }
    }
    found
}

/// Address, index, prefix length, scope, flags, interface.
fn ipv6(table: &str) -> BTreeSet<Ipv6Addr> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = fields.nth(2)?;
        let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
        (scope == SCOPE_GLOBAL && flags & UNSTEADY == 0).then(|| Ipv6Addr::from_bits(address))
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_last() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.168.1.0\n        /24 link UNICAST\nLocal:\n     \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.168.1.10\n        /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\n";
        assert_eq!(ipv4(trie), BTreeSet::from([Ipv4Addr::new(192, 168, 1, 10)]));
        let table = "fe80000000000000021122fffe334455 02 40 20 80     eth0\n20010db8000000000000000000000010 02 40 00 80     eth0\n\
                     20010db8000000001234567812345678 02 40 00 01     eth0\n00000000000000000000000000000001 01 80 10 80       lo\nbroken\n";
        assert_eq!(ipv6(table), BTreeSet::from(["2001:db8::10".parse().expect("address")]));
    }

    #[test]
    fn a_host_is_known_by_its_mdns_name_too() {
        assert_eq!(host_names("nas"), ["localhost", "nas", "nas.local"]);
        assert_eq!(host_names("nas.example.org"), ["localhost", "nas.example.org", "nas.local"]);
        assert_eq!(host_names("nas.local"), ["localhost", "nas.local"]);
        assert_eq!(host_names("not a name"), ["localhost"]);
    }

    #[test]
    fn this_machine_has_a_name() {
        let names = of_this_machine();
        assert!(["localhost", "127.0.0.1", "::1"].iter().all(|name| names.iter().any(|known| known == name)), "{names:?}");
    }
}
