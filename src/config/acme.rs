//! `[server.tls.acme]` judged: for which names an ACME server is asked for a certificate, and how it is shown that they are ours.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::DnsName;

use crate::config::check::Checker;
use crate::config::file::{AcmeSection, File};
use crate::config::problem::{Place, Problem};
use crate::config::source::SecretSource;
use crate::config::value::{Field, Placed, Word};
use crate::config::{Listen, Outside, is_public, tls};

/// Certificates by ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The names of the one certificate: at least one, sorted, each once, in lower case; `*.` in front of some.
    pub domains: Vec<String>,
    /// Addresses that the ACME server writes to, without `mailto:`.
    pub contact: Vec<String>,
    /// URL of the ACME server's directory; https.
    pub directory: String,
    /// The authority of the ACME server's own https, in place of the system's trust store.
    pub ca_file: Option<PathBuf>,
    /// How it is shown that the names are ours.
    pub challenge: AcmeChallenge,
    /// The kind of certificate, as the ACME server calls it.
    pub profile: Option<String>,
    /// The account of another kind that the ACME account belongs to.
    pub eab: Option<AcmeEab>,
}

/// How it is shown that the names are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a file on port 80 (RFC 8555, section 8.3).
    Http01,
    /// By a DNS record that a program writes (RFC 8555, section 8.4).
    Dns01(DnsHook),
}

impl AcmeChallenge {
    /// As the file calls it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
            Self::Dns01(_) => "dns-01",
        }
    }
}

/// The program that writes and removes DNS records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsHook {
    /// Its path.
    pub program: PathBuf,
    /// Its first arguments, before those that say what to do.
    pub arguments: Vec<String>,
    /// How long one run of it may take.
    pub timeout: Duration,
    /// How long to wait between the last record and the question of the ACME server.
    pub propagation_delay: Duration,
}

/// An external account (RFC 8555, section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeEab {
    /// Its name.
    pub kid: String,
    /// Where its key is, in base64 (with `-` and `_`, or with `+` and `/`).
    pub hmac_key: SecretSource,
}

/// The words for challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChallengeWord {
    TlsAlpn01,
    Http01,
    Dns01,
}

impl Word for ChallengeWord {
    const WORDS: &'static [(&'static str, Self)] = &[("tls-alpn-01", Self::TlsAlpn01), ("http-01", Self::Http01), ("dns-01", Self::Dns01)];
}

/// Directories that have a name.
const DIRECTORIES: [(&str, &str); 3] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
];
/// Let's Encrypt's limit, and nobody's home has more.
const MOST_DOMAINS: usize = 100;
/// Ends of names that nobody can have for himself in public (RFC 6761, RFC 6762, RFC 8375, RFC 9476, and what homes use).
const HOME_ENDINGS: [&str; 14] = [
    "local",
    "localhost",
    "internal",
    "lan",
    "home",
    "arpa",
    "test",
    "invalid",
    "example",
    "onion",
    "corp",
    "intranet",
    "private",
    "localdomain",
];

/// Whether a public authority can certify a name.
fn is_public_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && !HOME_ENDINGS.contains(&last) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name with at most one star, which stands for the whole first label.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.parse::<IpAddr>().is_err() && !name.ends_with('.') && DnsName::try_from(name).is_ok()
}

impl Checker<'_> {
    /// `hosts`: the upstreams' host names. `None` when something is wrong.
    pub(super) fn acme(&mut self, file: &File, hosts: &[String]) -> Option<AcmeSettings> {
        self.foreign_fields(file);
        let section = &file.acme;
        let directory = self.directory(&section.directory);
        // Whoever names an authority of his own decides himself what it certifies.
        let is_public_ca = directory.as_ref().is_none_or(|url| DIRECTORIES.iter().any(|(_, known)| known == url));
        let domains = self.domains(file, hosts, is_public_ca);
        let challenge = self.challenge(file, &domains);
        let ca_file = self.acme_ca_file(&section.ca_file);
        let eab = self.eab(section, directory.as_deref());
        let contact = self.contact(section);
        let profile = section.profile.as_ref().map(|profile| profile.value.clone()).filter(|profile| !profile.is_empty());
        Some(AcmeSettings { domains, contact, directory: directory?, ca_file, challenge: challenge?, profile, eab })
    }

    /// The other ways' fields.
    fn foreign_fields(&mut self, file: &File) {
        let files = [&file.tls.cert_file, &file.tls.key_file].into_iter().flatten().find(|field| !field.value.is_empty());
        if let Some(place) = files.map(|field| &field.place).or_else(|| file.certificates.first().map(|one| &one.place)) {
            let problem = Problem::new(place, "server.tls has files, but its mode is \"acme\"");
            self.report.problem(problem.help("write mode = \"files\", or take the files away"));
        }
        if let Some(names) = file.tls.names.as_ref().filter(|names| !names.value.0.is_empty()) {
            let problem = Problem::new(&names.place, "server.tls.names is for mode = \"self-signed\"");
            self.report.problem(problem.help("write the names as domains in [server.tls.acme]"));
        }
    }

    fn directory(&mut self, field: &Field<String>) -> Option<String> {
        let Some(Placed { value, place }) = field else { return Some(DIRECTORIES[0].1.to_owned()) };
        if let Some((_, url)) = DIRECTORIES.iter().find(|(name, _)| name == value) {
            return Some((*url).to_owned());
        }
        let uri = value.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        match uri.as_ref().and_then(http::Uri::scheme_str) {
            Some("https") if !value.contains('@') => return Some(value.clone()),
            Some("http") => {
                let problem = Problem::new(place, "server.tls.acme.directory must be https");
                self.report.problem(
                    problem.help(
                        "ACME is not spoken in clear text (RFC 8555, section 6.1); with an authority of your own, name it with ca_file",
                    ),
                );
            }
            _ => {
                let names = DIRECTORIES.map(|(name, _)| name);
                let close = crate::config::similar::closest(&value.to_ascii_lowercase(), &names);
                let help = close.map_or_else(
                    || "write \"letsencrypt\", \"letsencrypt-staging\", \"zerossl\" or the https URL of a directory".to_owned(),
                    |word| format!("did you mean \"{word}\"?"),
                );
                self.report.problem(Problem::new(place, "server.tls.acme.directory is neither a known name nor a URL").help(help));
            }
        }
        None
    }

    fn domains(&mut self, file: &File, hosts: &[String], is_public_ca: bool) -> Vec<String> {
        let mut domains = match file.acme.domains.as_ref().filter(|domains| !domains.value.0.is_empty()) {
            Some(named) => named.value.0.iter().filter_map(|name| self.domain(name, is_public_ca)).collect(),
            None => self.domains_of_hosts(file, hosts, is_public_ca),
        };
        domains.sort_unstable();
        domains.dedup();
        if let (Some(field), true) = (&file.acme.domains, domains.len() > MOST_DOMAINS) {
            let problem = Problem::new(&field.place, format!("server.tls.acme.domains has {} names", domains.len()));
            self.report.problem(
                problem.help(format!("one certificate holds at most {MOST_DOMAINS}; a star stands for all names of one level (dns-01)")),
            );
        }
        domains
    }

    fn domain(&mut self, Placed { value, place }: &Placed<String>, is_public_ca: bool) -> Option<String> {
        let name = value.to_ascii_lowercase();
        if !is_dns_name(&name) {
            let help = if value.is_ascii() {
                "write names like \"media.example.org\" or \"*.example.org\", without scheme and port"
            } else {
                "write it in ASCII, as \"xn--…\": that is how certificates have it"
            };
            self.report.problem(Problem::new(place, "server.tls.acme.domains holds something that is no host name").help(help));
            return None;
        }
        if is_public_ca && !is_public_name(&name) {
            let problem = Problem::new(place, format!("no public authority certifies {name}: it is a name for homes only"));
            self.report.problem(
                problem.help("for such names write tls = \"self-signed\" in [server], or name an ACME server of your own as directory"),
            );
            return None;
        }
        Some(name)
    }

    fn domains_of_hosts(&mut self, file: &File, hosts: &[String], is_public_ca: bool) -> Vec<String> {
        let suits = |host: &&String| is_dns_name(host) && (!is_public_ca || is_public_name(host));
        let domains: Vec<String> = hosts.iter().filter(suits).cloned().collect();
        if domains.is_empty() {
            let place = file.acme.domains.as_ref().or(None).map(|field| &field.place);
            let place = place.or_else(|| file.tls.mode.as_ref().map(|mode| &mode.place)).unwrap_or(&Place::Nowhere);
            let problem = Problem::new(place, "there is no name to ask an ACME server for");
            self.report.problem(
                problem.help("write domains = [\"media.example.org\"] in [server.tls.acme], or give the upstream its public hosts"),
            );
        } else {
            for host in hosts.iter().filter(|host| !suits(host)) {
                let text = format!("the upstream's host {host} is not in the certificate: no public authority certifies it");
                self.report.warning(Problem::new(&Place::Nowhere, text));
            }
        }
        domains
    }

    fn challenge(&mut self, file: &File, domains: &[String]) -> Option<AcmeChallenge> {
        let field = file.acme.challenge.as_ref();
        let word = field.map_or(ChallengeWord::TlsAlpn01, |field| field.value.0);
        let place = field.map_or(&Place::Nowhere, |field| &field.place);
        if let (Some(star), true) = (domains.iter().find(|name| name.starts_with("*.")), word != ChallengeWord::Dns01) {
            let place = file.acme.domains.as_ref().map_or(place, |domains| &domains.place);
            let problem = Problem::new(place, format!("{star} needs challenge = \"dns-01\""));
            self.report.problem(
                problem.help("a star is certified by a DNS record only: set challenge = \"dns-01\" and dns_hook, or name each host"),
            );
        }
        if let (Some(hook), true) = (file.acme.dns_hook.as_ref().filter(|hook| !hook.value.0.is_empty()), word != ChallengeWord::Dns01) {
            let problem = Problem::new(&hook.place, "server.tls.acme.dns_hook is not used");
            self.report.warning(problem.help("write challenge = \"dns-01\" to use it"));
        }
        match word {
            ChallengeWord::TlsAlpn01 => {
                self.reachable_by_tls(file);
                Some(AcmeChallenge::TlsAlpn01)
            }
            ChallengeWord::Http01 => self.redirects_for_challenges(file, place).then_some(AcmeChallenge::Http01),
            ChallengeWord::Dns01 => self.dns_hook(&file.acme, place).map(AcmeChallenge::Dns01),
        }
    }

    fn reachable_by_tls(&mut self, file: &File) {
        let Some(listen) = &file.server.listen else { return };
        let is_loopback = |text: &String| matches!(text.parse(), Ok(Listen::Address(address)) if !is_public(address.ip()));
        let listens = &listen.value.0;
        if !listens.is_empty() && listens.iter().all(|listen| is_loopback(&listen.value)) {
            let problem =
                Problem::new(&listen.place, "the ACME server asks on port 443 of the domains, but keygate listens on this machine only");
            self.report
                .warning(problem.help("write listen = \"[::]:443\", or let whatever holds port 443 pass TLS on to keygate untouched"));
        }
    }

    /// Whether there is a listener that can answer.
    fn redirects_for_challenges(&mut self, file: &File, place: &Place) -> bool {
        let listens: Vec<&Placed<String>> = file.server.listen_redirect.iter().flat_map(|field| &field.value.0).collect();
        if listens.is_empty() {
            let problem = Problem::new(place, "challenge = \"http-01\" needs server.listen_redirect: the ACME server asks there");
            self.report.problem(
                problem
                    .help("write listen_redirect = [\"[::]:80\"] in [server], or challenge = \"tls-alpn-01\", which needs port 443 alone"),
            );
            return false;
        }
        let is_80 = |listen: &&Placed<String>| match listen.value.parse() {
            Ok(Listen::Address(address)) => address.port() == 80,
            Ok(Listen::Systemd(_)) | Err(_) => true,
        };
        if !listens.iter().any(is_80) {
            let problem = Problem::new(&listens[0].place, "the ACME server asks on port 80, and no listen_redirect has it");
            self.report.warning(problem.help("let the router or the container lead port 80 there"));
        }
        true
    }

    fn dns_hook(&mut self, section: &AcmeSection, place: &Place) -> Option<DnsHook> {
        let timeout = self.duration("server.tls.acme.dns_hook_timeout", &section.dns_hook_timeout, 60_000, 1_000..=600_000);
        let propagation_delay =
            self.duration("server.tls.acme.dns_propagation_delay", &section.dns_propagation_delay, 30_000, 0..=3_600_000);
        let words = section.dns_hook.as_ref().map(|hook| hook.value.0.as_slice()).unwrap_or_default();
        let Some((program, arguments)) = words.split_first() else {
            let problem =
                Problem::new(place, "challenge = \"dns-01\" needs server.tls.acme.dns_hook: the program that writes the DNS records");
            self.report.problem(
                problem.help("write dns_hook = [\"/etc/keygate/dns-hook\"]; it is called with: present|cleanup DOMAIN RECORD_NAME VALUE"),
            );
            return None;
        };
        let path = self.folder.join(&program.value);
        if self.outside == Outside::Look {
            self.look_at_hook(&path, &program.place);
        }
        let arguments = arguments.iter().map(|argument| argument.value.clone()).collect();
        Some(DnsHook { program: path, arguments, timeout, propagation_delay })
    }

    fn look_at_hook(&mut self, path: &std::path::Path, place: &Place) {
        use std::os::unix::fs::PermissionsExt;
        let name = path.display();
        let why = match std::fs::metadata(path) {
            Err(error) => format!("cannot be found: {error}"),
            Ok(found) if !found.is_file() => "is no file".to_owned(),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => "is not executable".to_owned(),
            Ok(found) if found.permissions().mode() & 0o002 != 0 => "can be changed by everybody".to_owned(),
            Ok(_) => return,
        };
        let problem = Problem::new(place, format!("server.tls.acme.dns_hook: {name} {why}"));
        self.report.problem(problem.help("name a program with its whole path, executable (chmod 755), and after it its arguments"));
    }

    fn acme_ca_file(&mut self, field: &Field<String>) -> Option<PathBuf> {
        let file = field.as_ref().filter(|file| !file.value.is_empty())?;
        if !self.is_a_path("server.tls.acme.ca_file", file) {
            return None;
        }
        let path = self.folder.join(&file.value);
        if self.outside == Outside::Look
            && let Err(error) = tls::Authorities::read(&path)
        {
            let problem = Problem::new(&file.place, format!("server.tls.acme.ca_file: {error}"));
            self.report.problem(problem.help("name the certificate of the authority that signed the ACME server's own, in PEM"));
        }
        Some(path)
    }

    fn eab(&mut self, section: &AcmeSection, directory: Option<&str>) -> Option<AcmeEab> {
        let kid = section.eab_kid.as_ref().filter(|kid| !kid.value.is_empty());
        match (kid, &section.eab_hmac_key) {
            (Some(kid), Some(key)) => {
                let hmac_key = key.value.clone().below(&self.folder);
                if self.outside == Outside::Look
                    && let Err(error) = hmac_key.read_in(self.environment)
                {
                    let problem = Problem::new(&key.place, format!("server.tls.acme.eab_hmac_key: {error}"));
                    self.report.problem(problem.help("it is the key that the ACME server's operator shows beside eab_kid"));
                }
                if let Some(text) = hmac_key.warning() {
                    self.report.warning(Problem::new(&key.place, text));
                }
                Some(AcmeEab { kid: kid.value.clone(), hmac_key })
            }
            (None, None) => {
                if let (Some(field), Some("https://acme.zerossl.com/v2/DV90")) = (&section.directory, directory) {
                    let problem = Problem::new(
                        &field.place,
                        "zerossl gives certificates to its own accounts only: eab_kid and eab_hmac_key are missing",
                    );
                    self.report.problem(
                        problem.help("make both at zerossl.com (Developer, EAB credentials), or write directory = \"letsencrypt\""),
                    );
                }
                None
            }
            (kid, key) => {
                let place = kid.map(|kid| &kid.place).or_else(|| key.as_ref().map(|key| &key.place)).unwrap_or(&Place::Nowhere);
                let missing = if kid.is_some() { "eab_hmac_key" } else { "eab_kid" };
                let problem = Problem::new(place, format!("server.tls.acme.{missing} is missing"));
                self.report.problem(problem.help("eab_kid and eab_hmac_key come together from the ACME server's operator"));
                None
            }
        }
    }

    fn contact(&mut self, section: &AcmeSection) -> Vec<String> {
        let mut contact = Vec::new();
        for Placed { value, place } in section.contact.iter().flat_map(|contact| &contact.value.0) {
            let address = value.strip_prefix("mailto:").unwrap_or(value);
            let is_address =
                address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_dns_name(&host.to_ascii_lowercase()))
                    && address.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?' | b'<' | b'>'));
            if is_address {
                contact.push(address.to_owned());
            } else {
                let problem = Problem::new(place, "server.tls.acme.contact holds something that is no mail address");
                self.report.problem(problem.help("write an address like \"ann@example.org\"; several as a list"));
            }
        }
        contact
    }
}
