//! The certificates that handshakes get: chosen by the name that the client asks for, exchanged as a whole while handshakes run.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificates::Facts;
use crate::certificates::challenges::Challenges;

/// What is served now. Connections keep what their handshake got.
pub struct Served {
    offers: ArcSwap<Vec<Offer>>,
    challenges: Arc<Challenges>,
}

struct Offer {
    names: Vec<Name>,
    pair: Arc<CertifiedKey>,
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Exact(String),
    /// `.example.org` of `*.example.org`.
    Below(String),
}

impl Name {
    fn of(name: &str) -> Self {
        match name.strip_prefix('*') {
            Some(below) if below.starts_with('.') => Self::Below(below.to_owned()),
            _ => Self::Exact(name.to_owned()),
        }
    }

    /// A star stands for one label (RFC 9525, section 6.3).
    fn is_wild_for(&self, host: &str) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::Below(below) => host.strip_suffix(below.as_str()).is_some_and(|label| !label.is_empty() && !label.contains('.')),
        }
    }
}

impl Served {
    /// In the order of the configuration: the first is for clients that name no host, or one that no certificate is for.
    pub fn new(pairs: impl IntoIterator<Item = Arc<CertifiedKey>>) -> Self {
        Self { offers: ArcSwap::from_pointee(offers(pairs)), challenges: Arc::default() }
    }

    /// What ACME servers are shown in place of them.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// Handshakes from now on get these.
    pub(super) fn replace(&self, pairs: impl IntoIterator<Item = Arc<CertifiedKey>>) {
        self.offers.store(Arc::new(offers(pairs)));
    }

    /// By the client's name for us, and among several for one name, by what the client can verify.
    fn choose(&self, host: Option<&str>, suits: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let offers = self.offers.load();
        let host = host.unwrap_or_default();
        let exact = |offer: &&Offer| offer.names.iter().any(|name| matches!(name, Name::Exact(name) if name == host));
        let wild = |offer: &&Offer| offer.names.iter().any(|name| name.is_wild_for(host));
        let suiting = |offer: &&Offer| suits(&offer.pair);
        let named = || offers.iter().filter(exact).chain(offers.iter().filter(wild));
        // Where nothing suits, the handshake fails on the certificate that was meant, and not on another.
        let chosen = named().find(suiting).or_else(|| named().next());
        let chosen = chosen.or_else(|| offers.iter().find(suiting)).or_else(|| offers.first());
        chosen.map(|offer| Arc::clone(&offer.pair))
    }
}

fn offers(pairs: impl IntoIterator<Item = Arc<CertifiedKey>>) -> Vec<Offer> {
    let names = |pair: &CertifiedKey| pair.cert.first().and_then(Facts::of).map(|facts| facts.names).unwrap_or_default();
    pairs.into_iter().map(|pair| Offer { names: names(&pair).iter().map(|name| Name::of(name)).collect(), pair }).collect()
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        self.choose(hello.server_name(), |pair| pair.key.choose_scheme(hello.signature_schemes()).is_some())
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.offers.load().iter().map(|offer| &offer.names)).finish()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn pair(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).expect("a pair"))
    }

    #[test]
    fn the_exact_name_wins_then_a_star_for_one_label_then_the_first() {
        let pairs = [pair(&["first.test"]), pair(&["*.example.org"]), pair(&["books.example.org", "Example.ORG"])];
        let served = Served::new(pairs.iter().cloned());
        let which = |host: Option<&str>| {
            let chosen = served.choose(host, |_| true).expect("one");
            pairs.iter().position(|pair| Arc::ptr_eq(pair, &chosen)).expect("one of them")
        };
        for (host, expected) in [
            (None, 0),
            (Some("first.test"), 0),
            (Some("unknown.test"), 0),
            (Some("books.example.org"), 2),
            (Some("example.org"), 2),
            (Some("films.example.org"), 1),
            (Some("a.films.example.org"), 0),
            (Some(".example.org"), 0),
        ] {
            assert_eq!(which(host), expected, "{host:?}");
        }
        served.replace([Arc::clone(&pairs[1])]);
        assert_eq!(which(Some("books.example.org")), 1, "what was replaced is gone");
    }

    #[test]
    fn of_two_for_one_name_the_client_gets_the_one_that_it_can_verify() {
        let (rsa, ecdsa) = (pair(&["a.test"]), pair(&["a.test"]));
        let served = Served::new([pair(&["b.test"]), Arc::clone(&rsa), Arc::clone(&ecdsa)]);
        let chosen = |suits: fn(&Arc<CertifiedKey>, &CertifiedKey) -> bool, which: &Arc<CertifiedKey>| {
            served.choose(Some("a.test"), |pair| suits(which, pair)).expect("one")
        };
        let is = |which: &Arc<CertifiedKey>, pair: &CertifiedKey| std::ptr::eq(&raw const **which, pair);
        assert!(Arc::ptr_eq(&chosen(is, &ecdsa), &ecdsa));
        assert!(Arc::ptr_eq(&chosen(|_, _| false, &ecdsa), &rsa), "none suits: the first of that name");
    }
}
