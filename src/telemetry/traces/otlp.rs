//! Spans as they travel: the messages of OTLP 1 that carry traces (<https://github.com/open-telemetry/opentelemetry-proto>, `trace.proto` and
//! `trace_service.proto`), as far as keygate has something to say in them, and the names of its attributes.
//!
//! The names are those of the conventions for HTTP spans (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>); what they have
//! no name for begins with `keygate.`.

use http::{Method, Version};
use prost::{Message, Oneof};

use super::context::Remote;
use super::span::{Answered, Ended, Span as Lasted};
use crate::redact::Redacted;
use crate::telemetry::access;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Export {
    /// Here always one.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Exported {
    /// What was not taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// Whose spans they are.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Here always one.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// Name and version of the service.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// What made them.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// `Span`.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes, or none: the first of its trace.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Flags of the trace, and whether the parent is in another program.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
    /// Method and route.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 2: server, 3: client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Nanoseconds since the epoch.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds since the epoch.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Spans that it belongs to, if the client is right.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// `Span.Link`.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// As of a span.
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

/// `Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// 2: it failed.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// One of them.
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    pub value: Option<Value>,
}

/// `AnyValue.value`.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// Yes or no.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::Bool(is_so)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const FAILED: i32 = 2;
/// Recorded; whether the parent is elsewhere is said.
const FLAGS: u32 = 0x101;
const ELSEWHERE: u32 = 0x200;
/// What failed of something that has no word of its own.
const OTHER: &str = "_OTHER";

/// A batch.
pub(super) fn export(ended: &[Box<Ended>]) -> Export {
    let spans = ended.iter().flat_map(|ended| std::iter::once(server(ended)).chain(ended.answered.as_ref().map(|of| client(ended, of))));
    let version = env!("CARGO_PKG_VERSION");
    let mut about = Attributes::default();
    about.add("service.name", "keygate");
    about.add("service.version", version);
    let scope = InstrumentationScope { name: "keygate".to_owned(), version: version.to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.collect() }];
    Export { resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes: about.0 }), scope_spans }] }
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value.into()) }) });
    }

    fn add_if(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// The methods that the conventions know by name; of others the name is shown beside.
    fn method(&mut self, method: &Method) {
        let known = known(method);
        self.add("http.request.method", known.unwrap_or(OTHER));
        if known.is_none() {
            self.add("http.request.method_original", Redacted(method.as_str()).to_string());
        }
    }
}

fn known(method: &Method) -> Option<&str> {
    access::is_known(method).then(|| method.as_str())
}

/// The span of a request.
fn server(ended: &Ended) -> Span {
    let mut attributes = Attributes::default();
    attributes.method(&ended.method);
    attributes.add("url.scheme", if ended.from.is_secure { "https" } else { "http" });
    attributes.add("url.path", ended.path.as_str());
    attributes.add_if("http.route", ended.route.as_ref().map(|route| route.as_str()));
    attributes.add_if("http.response.status_code", ended.status.map(|status| u64::from(status.as_u16())));
    attributes.add("network.protocol.version", version(ended.version));
    if let Some((name, port)) = &ended.from.host {
        attributes.add("server.address", name.as_str());
        attributes.add_if("server.port", port.map(u64::from));
    }
    attributes.add("client.address", ended.client.to_canonical().to_string());
    attributes.add("network.peer.address", ended.from.peer.to_canonical().to_string());
    attributes.add_if("keygate.upstream", ended.upstream.as_ref().map(|name| name.as_str()));
    attributes.add_if("keygate.carrier", ended.carrier);
    attributes.add_if("keygate.key.id", ended.key.map(|key| key.to_string()));
    attributes.add_if("keygate.account", ended.account.as_deref());
    attributes.add_if("keygate.refusal", ended.refusal);
    attributes.add_if("keygate.ended", ended.ended.map(|cause| cause.as_str()));
    attributes.add("keygate.complete", ended.is_complete);
    attributes.add("keygate.received_bytes", ended.bytes_in);
    attributes.add("keygate.sent_bytes", ended.bytes_out);
    // A 4xx is the client's failure, not this program's.
    let failed = ended.status.filter(|status| status.is_server_error());
    let error = failed.map(|status| ended.refusal.map_or_else(|| status.as_u16().to_string(), str::to_owned));
    let method = known(&ended.method).unwrap_or("HTTP");
    let name = ended.route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {}", route.as_str()));
    let parent = ended.place.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default();
    let place = ended.place;
    Span {
        parent_span_id: parent,
        flags: FLAGS | if place.parent.is_some() { ELSEWHERE } else { 0 },
        links: place.link.iter().map(link).collect(),
        ..span((place.server.bytes(), SERVER), ended, name, ended.span, (attributes, error))
    }
}

/// The span of what the upstream made of it: until the head of its answer.
fn client(ended: &Ended, answered: &Answered) -> Span {
    let Answered { asked, is_over, url, .. } = answered;
    let mut attributes = Attributes::default();
    attributes.method(&ended.method);
    attributes.add("url.full", url.as_str());
    attributes.add("server.address", asked.upstream.host.as_str());
    attributes.add("server.port", u64::from(asked.upstream.port));
    attributes.add_if("http.response.status_code", asked.status.map(|status| u64::from(status.as_u16())));
    attributes.add_if("http.request.resend_count", Some(u64::from(asked.again)).filter(|again| *again > 0));
    attributes.add("keygate.upstream", asked.upstream.name.as_str());
    let error = match asked.status {
        Some(status) => Some(status.as_u16().to_string()).filter(|_| status.is_client_error() || status.is_server_error()),
        None => is_over.then(|| ended.refusal.unwrap_or(OTHER).to_owned()),
    };
    let name = known(&ended.method).unwrap_or("HTTP").to_owned();
    let mut span = span((ended.place.client.bytes(), CLIENT), ended, name, answered.span, (attributes, error));
    span.parent_span_id = ended.place.server.bytes().to_vec();
    span
}

fn span(
    (id, kind): ([u8; 8], i32),
    ended: &Ended,
    name: String,
    lasted: Lasted,
    (mut attributes, error): (Attributes, Option<String>),
) -> Span {
    let status = error.as_ref().map(|_| Status { code: FAILED });
    attributes.add_if("error.type", error);
    Span {
        trace_id: ended.place.trace.bytes().to_vec(),
        span_id: id.to_vec(),
        parent_span_id: Vec::new(),
        flags: FLAGS,
        name,
        kind,
        start_time_unix_nano: lasted.begin,
        end_time_unix_nano: lasted.end,
        attributes: attributes.0,
        links: Vec::new(),
        status,
    }
}

fn link(remote: &Remote) -> Link {
    let flags = u32::from(remote.is_sampled) | FLAGS & !1 | ELSEWHERE;
    Link { trace_id: remote.trace.bytes().to_vec(), span_id: remote.span.bytes().to_vec(), flags }
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}
