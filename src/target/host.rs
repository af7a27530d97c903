//! The host that a request names: `name[:port]`, `1.2.3.4[:port]` or `[::1][:port]` (RFC 9110, section 7.2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A valid host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    original: &'a str,
}

/// The text is no `host[:port]` (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid host name with an optional port")]
pub struct InvalidHost;

/// Longest name that DNS allows, with brackets and port.
const MAX_LEN: usize = 255;

impl<'a> Host<'a> {
    /// Judges the value of `Host` or `:authority`. Allocates only when there are capital letters.
    ///
    /// # Errors
    /// [`InvalidHost`]: also for user information, lists, percent-encoding and an empty name.
    pub fn parse(text: &'a str) -> Result<Self, InvalidHost> {
        if text.len() > MAX_LEN {
            return Err(InvalidHost);
        }
        let (name, port) = split_port(text)?;
        if port.is_some_and(|port| port.is_empty() || port.len() > 5 || port.parse::<u16>().is_err() || port.starts_with('+')) {
            return Err(InvalidHost);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let capital = name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = if capital { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        Ok(Self { name, original: text })
    }

    /// The name in lower case, without port and without a last dot; IPv6 in its brackets. This is what is looked up.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as the client sent it, with its port: what the upstream is told.
    pub const fn original(&self) -> &'a str {
        self.original
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), InvalidHost> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(InvalidHost)?;
        let (name, rest) = text.split_at(end + 1);
        let address = name.trim_matches(['[', ']']);
        if address.parse::<Ipv6Addr>().is_err() || !(rest.is_empty() || rest.starts_with(':')) {
            return Err(InvalidHost);
        }
        return Ok((name, rest.strip_prefix(':')));
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.bytes().all(fits) || name.starts_with('.') || name.is_empty() {
        return Err(InvalidHost);
    }
    Ok((name, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lose_their_port_their_capitals_and_their_last_dot() {
        for (text, name) in [
            ("media.example.org", "media.example.org"),
            ("Media.Example.ORG:8443", "media.example.org"),
            ("media.", "media"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[FE80::1]", "[fe80::1]"),
            ("my_nas", "my_nas"),
        ] {
            let host = Host::parse(text).expect(text);
            assert_eq!((host.name(), host.original()), (name, text));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a, b",
            "a/b?c",
            "u@a",
            "a:",
            "a:x",
            "a:99999",
            "a:+80",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[x]",
            "a b",
            "%61",
            "caf\u{e9}",
            "a\\b",
        ] {
            assert_eq!(Host::parse(text), Err(InvalidHost), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert!(host.name().is_ascii() && !host.name().contains('@'));
            }
        }
    }
}
