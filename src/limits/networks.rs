//! Where a key's requests may come from. Addresses are compared as people mean them: an IPv4 address within IPv6 (RFC 4291, section
//! 2.5.5.2) is the IPv4 address.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::BadLimit;

/// A network like `192.168.1.0/24` or `2001:db8::/64`, or one address.
///
/// # Errors
/// [`BadLimit`], also where bits are set behind the prefix: either the address or the length is not what was meant.
pub fn parse(text: &str) -> Result<IpNet, BadLimit> {
    let parsed = text.parse().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok());
    let network: IpNet =
        parsed.ok_or_else(|| BadLimit(format!("{text:?} is no network: write one like 192.168.1.0/24 or 2001:db8::/64, or an address")))?;
    if network.addr() != network.network() {
        let (meant, address) = (network.trunc(), network.addr());
        return Err(BadLimit(format!(
            "{text} is an address within a network: write {meant} for the network, or {address} for the address"
        )));
    }
    Ok(canonical(network))
}

/// The network of IPv4 that stands within IPv6, or the network itself.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// Whether an address is in one of these networks.
pub fn hold(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// What is in both lists, where `None` is everywhere.
pub(super) fn in_both(one: Option<&[IpNet]>, other: Option<&[IpNet]>) -> Option<Vec<IpNet>> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other).map(<[IpNet]>::to_vec),
    };
    let within = |inner: &IpNet, outer: &[IpNet]| outer.iter().any(|outer| outer.contains(inner));
    let mut both: Vec<_> = one.iter().filter(|network| within(network, other)).copied().collect();
    both.extend(other.iter().filter(|network| within(network, one) && !one.contains(network)));
    Some(both)
}

/// What stands for one customer when clients are counted: the address, or the /64 of IPv6 that it is in (RFC 6177).
pub fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| parse(text).expect(text)).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_is_in_its_network_however_it_is_written() {
        let home = networks(&["192.168.1.0/24", "2001:db8:1::/48", "203.0.113.7"]);
        for inside in ["192.168.1.1", "::ffff:192.168.1.255", "2001:db8:1:2::3", "203.0.113.7"] {
            assert!(hold(&home, address(inside)), "{inside}");
        }
        for outside in ["192.168.2.1", "::ffff:192.168.0.1", "2001:db8:2::1", "203.0.113.8", "::192.168.1.1", "::1"] {
            assert!(!hold(&home, address(outside)), "{outside}");
        }
        assert!(!hold(&[], address("127.0.0.1")), "an empty list holds nobody");
    }

    #[test]
    fn a_network_of_ipv4_within_ipv6_is_the_one_of_ipv4() {
        assert_eq!(networks(&["::ffff:10.0.0.0/104", "::ffff:10.1.2.3"]), networks(&["10.0.0.0/8", "10.1.2.3/32"]));
        assert!(hold(&networks(&["0.0.0.0/0"]), address("::ffff:8.8.8.8")));
        assert!(!hold(&networks(&["::/0"]), address("8.8.8.8")), "all of IPv6 is not all of IPv4");
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_would_be_one() {
        for text in ["", "home", "192.168.1", "192.168.1.0/33", "10.0.0.0/8,11.0.0.0/8", " 10.0.0.0/8", "2001:db8::/129"] {
            assert!(parse(text).expect_err(text).to_string().contains("192.168.1.0/24"), "{text}");
        }
        let said = parse("192.168.1.7/24").expect_err("host bits").to_string();
        assert!(said.contains("192.168.1.0/24") && said.contains("or 192.168.1.7"), "{said}");
    }

    #[test]
    fn what_is_in_both_lists_is_in_each_of_them() {
        let both = |one: &[&str], other: &[&str]| in_both(Some(&networks(one)), Some(&networks(other)));
        assert_eq!(
            both(&["10.0.0.0/8", "192.168.1.0/24"], &["10.1.0.0/16", "192.168.0.0/16"]),
            Some(networks(&["192.168.1.0/24", "10.1.0.0/16"]))
        );
        assert_eq!(both(&["10.0.0.0/8"], &["11.0.0.0/8"]), Some(Vec::new()), "nowhere, which is not everywhere");
        assert_eq!(both(&["10.0.0.0/8"], &["10.0.0.0/8"]), Some(networks(&["10.0.0.0/8"])));
        assert_eq!(in_both(None, Some(&networks(&["::1"]))), Some(networks(&["::1"])));
        assert_eq!(in_both(None, None), None);
    }

    proptest! {
        #[test]
        fn a_network_that_is_read_is_written_so_that_it_is_read_again(text in "[0-9a-f.:/]{0,24}", bits in any::<u32>(), length in 0_u8..=32) {
            let _ = parse(&text);
            let network = IpNet::from(Ipv4Net::new(bits.into(), length).expect("short enough").trunc());
            prop_assert_eq!(parse(&network.to_string()), Ok(network));
        }

        #[test]
        fn an_address_is_in_both_exactly_if_it_is_in_each(one in (any::<u32>(), 0_u8..=8), other in (any::<u32>(), 0_u8..=8), at in any::<u32>()) {
            let list = |(bits, length): (u32, u8)| vec![IpNet::from(Ipv4Net::new(bits.into(), length).expect("short").trunc())];
            let (one, other, at) = (list(one), list(other), IpAddr::V4(at.into()));
            let both = in_both(Some(&one), Some(&other)).expect("a list");
            prop_assert_eq!(hold(&both, at), hold(&one, at) && hold(&other, at));
        }
    }
}
