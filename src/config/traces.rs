//! `[traces]` judged: where spans go, of how many requests, and what shows the collector who sends them.

use std::fmt;
use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use toml::de::DeValue;

use crate::config::Outside;
use crate::config::check::Checker;
use crate::config::environment::Environment;
use crate::config::file::TracesSection;
use crate::config::problem::{Place, Problem};
use crate::config::source::{SecretSource, SourceError};
use crate::config::upstream::host_and_port;
use crate::config::value::{Given, Mismatch, Placed, Read};
use crate::upstream::tls::Trust;

/// `[traces]`, when it names a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Where spans go.
    pub endpoint: Endpoint,
    /// Lines `Name: value` that each export carries.
    pub headers: Option<SecretSource>,
    /// Of how many requests, where no trusted proxy has decided it.
    pub sample: Share,
}

/// Where a collector takes spans, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Both, as a Host header.
    pub authority: HeaderValue,
    /// To the last segment: `/v1/traces` unless a path was given.
    pub path: String,
    /// Whom connections trust, for `https://`.
    pub tls: Option<Trust>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority.to_str().unwrap_or(&self.host), self.path)
    }
}

/// A part of all, from none to all, to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(1_000_000);
    /// What holds when nothing is said.
    const USUAL: Self = Self(100_000);

    /// In millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

impl Read for Share {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        let number: Option<f64> = match given {
            Given::Toml(DeValue::Float(number)) => number.as_str().parse().ok(),
            Given::Toml(DeValue::Integer(number)) => number.as_str().parse().ok(),
            Given::Text(text) => text.parse().ok(),
            Given::Toml(_) => None,
        };
        // The range holds no NaN; the product is at most a million.
        let millionths = number.filter(|number| (0.0..=1.0).contains(number)).map(|number| (number * 1e6).round() as u32);
        millionths.map(Self).ok_or_else(|| Mismatch::new("must be a number from 0 to 1", "write 1 for every request, 0.1 for one in ten"))
    }
}

/// Why the headers of exports cannot be had. Nothing of what stands there is repeated.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// They cannot be read.
    #[error("traces.headers: {0}")]
    Source(#[from] SourceError),
    /// A line that is no header.
    #[error("traces.headers: line {0} is not \"Name: value\"")]
    Line(usize),
    /// A header that belongs to the export itself.
    #[error("traces.headers: line {0} sets {1}, which keygate sets itself")]
    Reserved(usize, HeaderName),
}

const RESERVED: [HeaderName; 5] = [HOST, CONTENT_TYPE, CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING];

impl Traces {
    /// What each export carries beside what OTLP wants. Reads a file.
    ///
    /// # Errors
    /// [`HeadersError`].
    pub fn read_headers(&self) -> Result<HeaderMap, HeadersError> {
        self.headers.as_ref().map_or_else(|| Ok(HeaderMap::new()), |source| read_headers(source, &Environment::of_process()))
    }
}

fn read_headers(source: &SecretSource, environment: &Environment) -> Result<HeaderMap, HeadersError> {
    let text = source.read_in(environment)?;
    let mut headers = HeaderMap::new();
    for (number, line) in text.expose().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, mut value) = header(line).ok_or(HeadersError::Line(number + 1))?;
        if RESERVED.contains(&name) {
            return Err(HeadersError::Reserved(number + 1, name));
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

const EXPECTED: &str = "expected http://host:port or https://host:port";

impl Checker<'_> {
    /// `None`: there are no traces, or something is wrong with where they go.
    pub(super) fn traces(&mut self, section: TracesSection) -> Option<Traces> {
        let sample = section.sample.map_or(Share::USUAL, |field| field.value);
        let field = section.endpoint.filter(|field| !field.value.is_empty())?;
        let headers = section.headers.map(|Placed { value, place }| Placed { value: value.below(&self.folder), place });
        let endpoint = self.endpoint(&field);
        if let Some(headers) = &headers {
            self.look_at_headers(headers, endpoint.as_ref());
        }
        Some(Traces { endpoint: endpoint?, headers: headers.map(|field| field.value), sample })
    }

    fn endpoint(&mut self, field: &Placed<String>) -> Option<Endpoint> {
        match parts(&field.value) {
            Err((title, help)) => {
                self.report.problem(Problem::new(&field.place, format!("traces.endpoint {title}")).label(EXPECTED).help(help));
                None
            }
            Ok(parts) => {
                if parts.port == 4317 {
                    let problem =
                        Problem::new(&field.place, "traces.endpoint has the port of OTLP over gRPC, which keygate does not speak");
                    self.report.warning(problem.help("OTLP over HTTP is usually at port 4318"));
                }
                let tls = if parts.is_tls { Some(self.collectors_trust(&field.place)?) } else { None };
                let Parts { host, port, authority, path, .. } = parts;
                Some(Endpoint { host, port, authority, path, tls })
            }
        }
    }

    fn collectors_trust(&mut self, place: &Place) -> Option<Trust> {
        if self.outside == Outside::Ignore {
            return Trust::nobody().ok();
        }
        let failed = |error| Problem::new(place, format!("traces: {error}")).help("install the package ca-certificates");
        Trust::system().map_err(|error| self.report.problem(failed(error))).ok()
    }

    fn look_at_headers(&mut self, headers: &Placed<SecretSource>, endpoint: Option<&Endpoint>) {
        if let Some(text) = headers.value.warning() {
            self.report.warning(Problem::new(&headers.place, text));
        }
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.tls.is_none() && !is_this_machine(&endpoint.host)) {
            let problem = Problem::new(&headers.place, format!("traces.headers travel in clear text to {}", endpoint.host));
            self.report.warning(problem.help("write endpoint = \"https://…\" where the collector is on another machine"));
        }
        if self.outside == Outside::Look
            && let Err(error) = read_headers(&headers.value, self.environment)
        {
            let problem = Problem::new(&headers.place, error.to_string());
            self.report.problem(problem.help("a file with lines like \"Authorization: Bearer …\", as the collector's operator says"));
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    is_tls: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: String,
}

/// What is wrong is never repeated when it may be a password.
fn parts(url: &str) -> Result<Parts, (&'static str, &'static str)> {
    let usual = "for a collector on this machine this is usually http://127.0.0.1:4318; \"\" for no traces";
    let (scheme, rest) = url.split_once("://").ok_or(("is not a URL", usual))?;
    let is_tls = scheme.eq_ignore_ascii_case("https");
    if !is_tls && !scheme.eq_ignore_ascii_case("http") {
        return Err(("is not an http or https address", usual));
    }
    if rest.contains('@') {
        return Err((
            "holds a user name or password",
            "put it in a file, in a line \"Authorization: Basic …\" (user:password in base64), and write headers = { file = \"…\" }",
        ));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if path.contains(['?', '#']) {
        return Err(("has a query or a fragment", "end the address after the port, or after the collector's path"));
    }
    let (host, port) = host_and_port(authority, if is_tls { 443 } else { 80 }).ok_or(("is not a URL", usual))?;
    // The path of OTLP/HTTP goes after that of the collector ("OpenTelemetry Protocol Exporter", endpoint URLs).
    let base = path.trim_end_matches('/');
    let path = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
    let is_good = path.parse::<PathAndQuery>().is_ok();
    let authority = HeaderValue::try_from(authority).ok().filter(|_| is_good).ok_or(("is not a URL", usual))?;
    Ok(Parts { is_tls, host, port, authority, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_is_a_base_or_the_whole_address() {
        for (url, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
            ("HTTP://Tempo.lan/otlp/", "http://Tempo.lan/otlp/v1/traces"),
            ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
        ] {
            let Parts { host, port, authority, path, .. } = parts(url).expect(url);
            assert_eq!(Endpoint { host, port, authority, path, tls: None }.to_string(), shown);
        }
        assert_eq!(parts("https://otlp.example.org/x").map(|parts| (parts.is_tls, parts.port)), Ok((true, 443)));
        assert_eq!(parts("http://[::1]:4318").map(|parts| parts.host), Ok("::1".to_owned()));
        for wrong in
            ["", "127.0.0.1:4318", "grpc://x:4317", "http://", "http://:1", "http://x:0", "http://u:p@x", "http://x/?a", "http://x/a b"]
        {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_endpoint_makes_the_reader_panic(url in "(https?://)?\\PC{0,40}") {
            let _ = parts(&url);
        }
    }
}
