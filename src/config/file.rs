//! The shape of the TOML: sections, fields, their types. One list makes the structs, the reader, the names of "did you mean",
//! and the test of `config.example.toml`.
//!
//! The document is walked field by field and not deserialised by serde: serde stops at the first field that it does not
//! like, and an operator wants to hear of all of them at once.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::acme::ChallengeWord;
use crate::config::problem::{Place, Problem, Report};
use crate::config::similar::closest;
use crate::config::source::SecretSource;
use crate::config::traces::Share;
use crate::config::value::{Field, Given, Mismatch, OneOf, Placed, Read, Sessions, Size, Strings, TlsMode};
use crate::config::{Access, LogFormat};
use crate::upstream::Kind;

/// One section of the file.
pub(crate) trait Section: Default {
    /// `server.tls`.
    const NAME: &'static str;
    /// The names of its fields.
    const FIELDS: &'static [&'static str];
    /// Fields with values that did not fit.
    fn misfits(&mut self) -> &mut Vec<&'static str>;
    /// Sets a field; `None` when there is no such field.
    fn set(&mut self, field: &str, given: &Given<'_>, place: &Place) -> Option<Result<(), Mismatch>>;
}

macro_rules! section {
    ($(#[$doc:meta])* $type:ident, $name:literal, { $($field:ident: $value:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $type {
            $(pub(crate) $field: Field<$value>,)*
            /// Fields that were given, but misspelt or not as they must be: reported already, and not missing.
            pub(crate) misfits: Vec<&'static str>,
        }

        impl Section for $type {
            const NAME: &'static str = $name;
            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)*];

            fn misfits(&mut self) -> &mut Vec<&'static str> {
                &mut self.misfits
            }

            fn set(&mut self, field: &str, given: &Given<'_>, place: &Place) -> Option<Result<(), Mismatch>> {
                match field {
                    $(stringify!($field) => Some(<$value as Read>::read(given, place).map(|value| {
                        self.$field = Some(Placed { value, place: place.clone() });
                    })),)*
                    _ => None,
                }
            }
        }
    };
}

section!(
    /// `[server]`
    ServerSection, "server", {
        listen: Strings,
        listen_plain: Strings,
        listen_redirect: Strings,
        https_port: u64,
        allow_plaintext: bool,
        proxy_protocol: Strings,
        proxy_protocol_listen: Strings,
        trusted_proxies: Strings,
        threads: u64,
        drain_timeout: Duration,
    }
);
section!(
    /// `[server.tls]`
    TlsSection, "server.tls", {
        mode: OneOf<TlsMode>,
        cert_file: String,
        key_file: String,
        names: Strings,
        folder: String,
        client_ca_file: String,
        client_ca_listen: Strings,
        hsts: Duration,
    }
);
section!(
    /// `[server.tls.acme]`
    AcmeSection, "server.tls.acme", {
        domains: Strings,
        contact: Strings,
        directory: String,
        ca_file: String,
        challenge: OneOf<ChallengeWord>,
        dns_hook: Strings,
        dns_hook_timeout: Duration,
        dns_propagation_delay: Duration,
        profile: String,
        eab_kid: String,
        eab_hmac_key: SecretSource,
    }
);
section!(
    /// `[[server.tls.certificate]]`
    CertificateSection, "server.tls.certificate", {
        cert_file: String,
        key_file: String,
    }
);
section!(
    /// `[limits]`
    LimitsSection, "limits", {
        max_connections: u64,
        max_connections_per_address: u64,
        max_header_bytes: Size,
        max_headers: u64,
        max_uri_bytes: Size,
        header_timeout: Duration,
        keep_alive_timeout: Duration,
        idle_timeout: Duration,
    }
);
section!(
    /// `[store]`
    StoreSection, "store", {
        path: String,
        master_key: SecretSource,
    }
);
section!(
    /// `[admin]`
    AdminSection, "admin", {
        socket: String,
        listen: String,
        hosts: Strings,
        session_lifetime: Duration,
        session_idle: Duration,
    }
);
section!(
    /// `[log]`
    LogSection, "log", {
        level: String,
        format: OneOf<LogFormat>,
        access: bool,
    }
);
section!(
    /// `[audit]`
    AuditSection, "audit", {
        keep: Duration,
        max_entries: u64,
    }
);
section!(
    /// `[usage]`
    UsageSection, "usage", {
        enabled: bool,
        flush: Duration,
    }
);
section!(
    /// `[metrics]`
    MetricsSection, "metrics", {
        per_key: bool,
        open: bool,
    }
);
section!(
    /// `[traces]`
    TracesSection, "traces", {
        endpoint: String,
        headers: SecretSource,
        sample: Share,
    }
);
section!(
    /// `[[upstream]]`
    UpstreamSection, "upstream", {
        name: String,
        kind: OneOf<Kind>,
        url: String,
        ca_file: String,
        fingerprint: String,
        hosts: Strings,
        listen: Strings,
        base_path: String,
        connect_timeout: Duration,
        response_header_timeout: Duration,
        pool_idle_timeout: Duration,
        sessions: OneOf<Sessions>,
        forward_host: bool,
        web_ui: OneOf<Access>,
        images: OneOf<Access>,
        shares: OneOf<Access>,
        native_logins: OneOf<Access>,
    }
);

/// Every section with its fields.
pub(crate) const SECTIONS: &[(&str, &[&str])] = &[
    (ServerSection::NAME, ServerSection::FIELDS),
    (TlsSection::NAME, TlsSection::FIELDS),
    (AcmeSection::NAME, AcmeSection::FIELDS),
    (CertificateSection::NAME, CertificateSection::FIELDS),
    (LimitsSection::NAME, LimitsSection::FIELDS),
    (StoreSection::NAME, StoreSection::FIELDS),
    (AdminSection::NAME, AdminSection::FIELDS),
    (LogSection::NAME, LogSection::FIELDS),
    (AuditSection::NAME, AuditSection::FIELDS),
    (UsageSection::NAME, UsageSection::FIELDS),
    (MetricsSection::NAME, MetricsSection::FIELDS),
    (TracesSection::NAME, TracesSection::FIELDS),
    (UpstreamSection::NAME, UpstreamSection::FIELDS),
];
const TOP: &[&str] = &["server", "limits", "store", "admin", "log", "audit", "usage", "metrics", "traces", "upstream"];

/// The file as it was written; an absent field is `None`.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) server: ServerSection,
    pub(crate) tls: TlsSection,
    pub(crate) acme: AcmeSection,
    /// Each with the place of its header.
    pub(crate) certificates: Vec<Placed<CertificateSection>>,
    pub(crate) limits: LimitsSection,
    pub(crate) store: StoreSection,
    pub(crate) admin: AdminSection,
    pub(crate) log: LogSection,
    pub(crate) audit: AuditSection,
    pub(crate) usage: UsageSection,
    pub(crate) metrics: MetricsSection,
    pub(crate) traces: TracesSection,
    /// Each with the place of its header.
    pub(crate) upstreams: Vec<Placed<UpstreamSection>>,
}

impl File {
    /// Reads as much as can be read; the rest is in the report.
    pub(crate) fn read(source: &str, report: &mut Report) -> Self {
        let (document, errors) = DeTable::parse_recoverable(source);
        if !errors.is_empty() {
            // Half a document gives misleading follow-up problems: syntax first, the rest in the next run.
            for error in errors {
                let place = error.span().map_or(Place::Nowhere, Place::Span);
                report.unreadable(Problem::new(&place, "the file is not TOML").label(error.message()).help(SYNTAX_HELP));
            }
            return Self::default();
        }
        let mut file = Self::default();
        for (key, value) in document.get_ref() {
            file.read_section(key, value, report);
        }
        file
    }

    fn read_section(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, report: &mut Report) {
        let name: &str = key.get_ref();
        if name == "upstream" {
            self.upstreams = list(name, value, report);
            return;
        }
        if !TOP.contains(&name) {
            return report.problem(unknown(name, Place::Span(key.span()), "", TOP));
        }
        let DeValue::Table(table) = value.get_ref() else {
            let place = Place::Span(value.span());
            return report
                .problem(Problem::new(&place, format!("{name} must be a section")).help(format!("write [{name}] on a line of its own")));
        };
        match name {
            "server" => {
                fill(&mut self.server, table, &["tls"], report);
                if let Some(tls) = table.get("tls") {
                    self.read_tls(tls, report);
                }
            }
            "limits" => fill(&mut self.limits, table, &[], report),
            "store" => fill(&mut self.store, table, &[], report),
            "admin" => fill(&mut self.admin, table, &[], report),
            "audit" => fill(&mut self.audit, table, &[], report),
            "usage" => fill(&mut self.usage, table, &[], report),
            "metrics" => fill(&mut self.metrics, table, &[], report),
            "traces" => fill(&mut self.traces, table, &[], report),
            _ => fill(&mut self.log, table, &[], report),
        }
    }

    /// `tls = "self-signed"` says the same as `[server.tls]` with that mode and nothing else.
    fn read_tls(&mut self, tls: &Spanned<DeValue<'_>>, report: &mut Report) {
        let place = Place::Span(tls.span());
        match tls.get_ref() {
            DeValue::Table(table) => {
                fill(&mut self.tls, table, &["certificate", "acme"], report);
                if let Some(acme) = table.get("acme") {
                    self.read_acme(acme, report);
                }
                let Some(certificates) = table.get("certificate") else { return };
                self.certificates = list("server.tls.certificate", certificates, report);
            }
            DeValue::String(_) => {
                if let Some(Err(mismatch)) = self.tls.set("mode", &Given::Toml(tls.get_ref()), &place) {
                    report.problem(misfit("server", "tls", mismatch, place));
                }
            }
            _ => report.problem(
                Problem::new(&place, "server.tls must be a word or a section")
                    .help("write tls = \"self-signed\", or [server.tls] with cert_file and key_file"),
            ),
        }
    }

    fn read_acme(&mut self, acme: &Spanned<DeValue<'_>>, report: &mut Report) {
        match acme.get_ref() {
            DeValue::Table(table) => fill(&mut self.acme, table, &[], report),
            _ => report.problem(
                Problem::new(&Place::Span(acme.span()), "server.tls.acme must be a section")
                    .help("write mode = \"acme\" in [server.tls], and [server.tls.acme] on a line of its own"),
            ),
        }
    }

    /// Sets one field by its section's name, for the environment; `None` when there is no such field.
    pub(crate) fn set(&mut self, section: &str, field: &str, text: &str, place: &Place) -> Option<Result<(), Mismatch>> {
        let given = Given::Text(text);
        match section {
            "server" => self.server.set(field, &given, place),
            "server.tls" => self.tls.set(field, &given, place),
            "server.tls.acme" => self.acme.set(field, &given, place),
            "limits" => self.limits.set(field, &given, place),
            "store" => self.store.set(field, &given, place),
            "admin" => self.admin.set(field, &given, place),
            "log" => self.log.set(field, &given, place),
            "audit" => self.audit.set(field, &given, place),
            "usage" => self.usage.set(field, &given, place),
            "metrics" => self.metrics.set(field, &given, place),
            "traces" => self.traces.set(field, &given, place),
            _ => None,
        }
    }
}

const SYNTAX_HELP: &str = "a line is `name = value`, `[section]` or `# comment`; strings stand in double quotes";

/// `[[name]]`, as often as it is there.
fn list<S: Section>(name: &str, value: &Spanned<DeValue<'_>>, report: &mut Report) -> Vec<Placed<S>> {
    let mut sections = Vec::new();
    let mut read = |item: &Spanned<DeValue<'_>>, report: &mut Report| {
        let place = Place::Span(item.span());
        let DeValue::Table(table) = item.get_ref() else {
            let problem = Problem::new(&place, format!("each {name} must be a section"));
            return report.problem(problem.help(format!("write [[{name}]] on a line of its own")));
        };
        let mut section = S::default();
        fill(&mut section, table, &[], report);
        sections.push(Placed { value: section, place });
    };
    match value.get_ref() {
        DeValue::Array(items) => items.iter().for_each(|item| read(item, report)),
        DeValue::Table(_) => {
            let place = Place::Span(value.span());
            let problem = Problem::new(&place, format!("{name} is a list"));
            report.problem(problem.help(format!("write [[{name}]] with two brackets, also for a single one")));
            read(value, report);
        }
        _ => read(value, report),
    }
    sections
}

fn fill<S: Section>(section: &mut S, table: &DeTable<'_>, tables: &[&str], report: &mut Report) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        if tables.contains(&name) {
            continue;
        }
        match section.set(name, &Given::Toml(value.get_ref()), &Place::Span(value.span())) {
            Some(Ok(())) => {}
            Some(Err(mismatch)) => {
                section.misfits().extend(S::FIELDS.iter().filter(|field| **field == name));
                report.problem(misfit(S::NAME, name, mismatch, Place::Span(value.span())));
            }
            None => {
                section.misfits().extend(closest(&name.to_ascii_lowercase(), S::FIELDS));
                report.problem(unknown(name, Place::Span(key.span()), S::NAME, S::FIELDS));
            }
        }
    }
}

/// The problem of a value that does not fit its field.
pub(crate) fn misfit(section: &str, field: &str, mismatch: Mismatch, place: Place) -> Problem {
    let place = mismatch.span.map_or(place, Place::Span);
    let problem = Problem::new(&place, format!("{section}.{field} {}", mismatch.must));
    match mismatch.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// The problem of a name that is in no list.
pub(crate) fn unknown(name: &str, place: Place, section: &str, known: &[&str]) -> Problem {
    // A name may hold anything, but it shall not wreck the message.
    let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
    let elsewhere = SECTIONS.iter().find(|(other, fields)| *other != section && fields.contains(&name));
    let example = if section.is_empty() { String::new() } else { format!(" (config.example.toml, section [{section}])") };
    let help = match (closest(&name.to_ascii_lowercase(), known), elsewhere) {
        (Some(close), _) => format!("did you mean \"{close}\"?{example}"),
        (None, Some((other, _))) => format!("\"{shown}\" belongs in the section [{other}]"),
        (None, None) => format!("known here: {}", known.join(", ")),
    };
    let what = if section.is_empty() { "section".to_owned() } else { format!("field in [{section}]") };
    Problem::new(&place, format!("unknown {what}: \"{shown}\"")).label("not known").help(help)
}
