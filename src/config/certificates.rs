//! `[server.tls]` judged: which way to a certificate is meant, and whether it leads anywhere.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::DnsName;

use crate::clock::{Clock, SystemClock};
use crate::config::check::Checker;
use crate::config::environment::DefaultPaths;
use crate::config::file::{CertificateSection, File, TlsSection};
use crate::config::problem::{Place, Problem};
use crate::config::source::{SourceError, check_mode};
use crate::config::value::{Field, Placed, Strings, TlsMode};
use crate::config::{CertificateSource, ClientCa, Listen, Outside, SelfSigned, Tls, TlsFiles, tls};

/// A year and a half; browsers' own lists ask for a year.
const MOST_HSTS_MILLIS: u64 = 550 * 86_400_000;

/// A path that is set: empty is not set.
fn given(field: &Field<String>) -> Option<&Placed<String>> {
    field.as_ref().filter(|field| !field.value.is_empty())
}

/// What the section means: the word, or what its other fields say.
pub(crate) fn mode(file: &File) -> TlsMode {
    let section = &file.tls;
    let has_files = given(&section.cert_file).is_some() || given(&section.key_file).is_some() || !file.certificates.is_empty();
    match &section.mode {
        Some(mode) => mode.value.0,
        None if has_files => TlsMode::Files,
        None if file.acme.domains.as_ref().is_some_and(|domains| !domains.value.0.is_empty()) => TlsMode::Acme,
        None => TlsMode::Off,
    }
}

impl Checker<'_> {
    /// The sections of TLS. `hosts`: the upstreams' host names.
    pub(super) fn tls(&mut self, file: &File, hosts: &[String], paths: &DefaultPaths) -> Option<Tls> {
        let (section, further) = (&file.tls, file.certificates.as_slice());
        let pairs = self.pairs(section, further);
        let mode = mode(file);
        if let (Some(domains), true) = (file.acme.domains.as_ref().filter(|domains| !domains.value.0.is_empty()), mode != TlsMode::Acme) {
            let problem = Problem::new(&domains.place, "these domains get no certificate by ACME: server.tls.mode is another one");
            self.report.warning(problem.help("write mode = \"acme\" in [server.tls]"));
        }
        let source = match mode {
            TlsMode::Off => {
                self.unused_fields(section, further);
                return None;
            }
            TlsMode::Files => self.files(section, pairs)?,
            TlsMode::SelfSigned => self.self_signed(section, further, hosts, paths),
            TlsMode::Acme => CertificateSource::Acme(Box::new(self.acme(file, hosts)?)),
        };
        let hsts = self.hsts(section, &source);
        Some(Tls { source, client_ca: self.client_ca(section), hsts })
    }

    /// Each pair as far as it is complete, the one of the section itself first.
    fn pairs(&mut self, section: &TlsSection, further: &[Placed<CertificateSection>]) -> Vec<TlsFiles> {
        let mut pairs = Vec::new();
        if given(&section.cert_file).is_some() || given(&section.key_file).is_some() {
            pairs.extend(self.pair("server.tls", &section.cert_file, &section.key_file, &Place::Nowhere));
        }
        for Placed { value, place } in further {
            pairs.extend(self.pair("server.tls.certificate", &value.cert_file, &value.key_file, place));
        }
        pairs
    }

    fn pair(&mut self, name: &str, cert: &Field<String>, key: &Field<String>, place: &Place) -> Option<TlsFiles> {
        let (cert, key) = match (given(cert), given(key)) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(one), None) => return self.half_pair(name, &one.place, "key_file"),
            (None, Some(one)) => return self.half_pair(name, &one.place, "cert_file"),
            (None, None) => return self.half_pair(name, place, "cert_file"),
        };
        for (field, path) in [("cert_file", cert), ("key_file", key)] {
            if !self.is_a_path(&format!("{name}.{field}"), path) {
                return None;
            }
        }
        let files = TlsFiles { cert_file: self.folder.join(&cert.value), key_file: self.folder.join(&key.value) };
        if self.outside == Outside::Look {
            self.look_at_pair(name, &files, &cert.place, &key.place);
        }
        Some(files)
    }

    /// Never repeats what is no path: it may be the private key itself.
    pub(super) fn is_a_path(&mut self, name: &str, path: &Placed<String>) -> bool {
        let is_path = !path.value.contains("-----BEGIN") && !path.value.contains(['\n', '\0']);
        if !is_path {
            let field = name.rsplit('.').next().unwrap_or(name);
            let problem = Problem::new(&path.place, format!("{name} must be a path, it never holds the PEM itself"));
            self.report.problem(problem.help(format!("save it to a file and write {field} = \"/path\"")));
        }
        is_path
    }

    fn half_pair(&mut self, name: &str, place: &Place, missing: &str) -> Option<TlsFiles> {
        let problem = Problem::new(place, format!("{name}.{missing} is missing"));
        self.report.problem(problem.help(format!("a certificate and its key come together: set {missing} as well")));
        None
    }

    fn look_at_pair(&mut self, name: &str, files: &TlsFiles, cert: &Place, key: &Place) {
        if let Err(error @ SourceError::Open { .. }) = check_mode(&files.key_file) {
            self.report.warning(Problem::new(key, format!("{name}.key_file: {error}")));
        }
        match tls::load(files) {
            Ok(pair) => {
                if let Some(text) = tls::warning(&pair, SystemClock::new().now()) {
                    self.report.warning(Problem::new(cert, text));
                }
            }
            Err(error) => {
                let place = if error.concerns(&files.cert_file) { cert } else { key };
                self.report.problem(Problem::new(place, format!("{name}: {error}")).help(error.help()));
                // With one file missing the other has not been looked at yet.
                if place == cert && !files.key_file.exists() {
                    let problem = Problem::new(key, format!("{name}: cannot read {}: not found", files.key_file.display()));
                    self.report.problem(problem.help("check the path; relative paths start at the configuration's own folder"));
                }
            }
        }
    }

    /// A certificate that is there and not used is a mistake in one of two lines: which one, only the operator knows.
    fn unused_fields(&mut self, section: &TlsSection, further: &[Placed<CertificateSection>]) {
        let unused = given(&section.cert_file).map(|field| &field.place).or_else(|| further.first().map(|one| &one.place));
        if let Some(place) = unused {
            let problem = Problem::new(place, "this certificate is not used: server.tls.mode is \"off\"");
            self.report.warning(problem.help("write mode = \"files\" to use it"));
        }
        if let Some(file) = given(&section.client_ca_file) {
            let problem = Problem::new(&file.place, "certificates of clients need TLS, and server.tls.mode is \"off\"");
            self.report.problem(problem.help("write mode = \"files\", \"self-signed\" or \"acme\", or take client_ca_file away"));
        }
    }

    fn files(&mut self, section: &TlsSection, pairs: Vec<TlsFiles>) -> Option<CertificateSource> {
        if let Some(names) = section.names.as_ref().filter(|names| !names.value.0.is_empty()) {
            let problem = Problem::new(&names.place, "server.tls.names is for mode = \"self-signed\": files have their names in them");
            self.report.problem(problem.help("take it away, or write mode = \"self-signed\""));
        }
        if !pairs.is_empty() {
            return Some(CertificateSource::Files(pairs));
        }
        let is_named = given(&section.cert_file).is_some() || given(&section.key_file).is_some();
        if let (Some(mode), false) = (&section.mode, is_named) {
            let problem = Problem::new(&mode.place, "server.tls.mode is \"files\", but there is no cert_file");
            self.report.problem(problem.help("set cert_file and key_file, or write mode = \"self-signed\""));
        }
        None
    }

    fn self_signed(
        &mut self,
        section: &TlsSection,
        further: &[Placed<CertificateSection>],
        hosts: &[String],
        paths: &DefaultPaths,
    ) -> CertificateSource {
        let file = given(&section.cert_file).or_else(|| given(&section.key_file)).map(|field| &field.place);
        if let Some(place) = file.or_else(|| further.first().map(|one| &one.place)) {
            let problem = Problem::new(place, "server.tls has files, but its mode is \"self-signed\"");
            self.report.problem(problem.help("write mode = \"files\", or take the files away"));
        }
        let folder = given(&section.folder).map_or_else(|| paths.tls.clone(), |folder| self.folder.join(&folder.value));
        let names = self.names(&section.names).into_iter().chain(hosts.iter().cloned()).collect();
        CertificateSource::SelfSigned(SelfSigned { folder, names })
    }

    fn names(&mut self, names: &Field<Strings>) -> Vec<String> {
        let mut good = Vec::new();
        for Placed { value, place } in names.iter().flat_map(|names| &names.value.0) {
            let name = value.to_ascii_lowercase();
            if name.parse::<IpAddr>().is_ok() || DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)).is_ok() {
                good.push(name);
            } else {
                let problem = Problem::new(place, "server.tls.names holds something that is neither a host name nor an address");
                self.report.problem(problem.help("write names like \"media.example.org\" or \"192.168.1.10\", without scheme and port"));
            }
        }
        good
    }

    fn hsts(&mut self, section: &TlsSection, source: &CertificateSource) -> Duration {
        let hsts = self.duration("server.tls.hsts", &section.hsts, 0, 0..=MOST_HSTS_MILLIS);
        if let (Some(field), CertificateSource::SelfSigned(_), false) = (&section.hsts, source, hsts.is_zero()) {
            let problem =
                Problem::new(&field.place, "with server.tls.hsts, browsers that do not know keygate's own authority let nobody in");
            self.report.warning(problem.help("give every device the certificate that \"keygate tls ca\" prints, or leave hsts away"));
        }
        hsts
    }

    fn client_ca(&mut self, section: &TlsSection) -> Option<ClientCa> {
        let listen = section.client_ca_listen.as_ref().map(|listen| self.listens("server.tls.client_ca_listen", &listen.value));
        let listen: Vec<Listen> = listen.unwrap_or_default().into_iter().map(|listen| listen.value).collect();
        let Some(file) = given(&section.client_ca_file) else {
            if let Some(field) = section.client_ca_listen.as_ref().filter(|_| !listen.is_empty()) {
                let problem = Problem::new(&field.place, "server.tls.client_ca_file is missing");
                self.report.problem(problem.help("it names the authority that signs the clients' certificates"));
            }
            return None;
        };
        if !self.is_a_path("server.tls.client_ca_file", file) {
            return None;
        }
        let path: PathBuf = self.folder.join(&file.value);
        if self.outside == Outside::Look
            && let Err(error) = tls::Authorities::read(&path)
        {
            self.report.problem(Problem::new(&file.place, format!("server.tls.client_ca_file: {error}")).help(error.help()));
        }
        Some(ClientCa { file: path, listen })
    }

    /// An address at which clients need a certificate, but at which nobody listens, protects nothing.
    pub(super) fn client_ca_listens(&mut self, section: &TlsSection, secure: &[Placed<Listen>]) {
        for Placed { value, place } in section.client_ca_listen.iter().flat_map(|listen| &listen.value.0) {
            if value.parse::<Listen>().is_ok_and(|listen| secure.iter().all(|secure| secure.value != listen)) {
                let problem = Problem::new(place, format!("server.tls.client_ca_listen: no listener with TLS is {value}"));
                self.report.problem(problem.help("write it exactly as in server.listen or in an upstream's listen"));
            }
        }
    }
}
