//! A stand-in for an OpenTelemetry collector: takes OTLP over HTTP and keeps what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keygate::config::{Endpoint, Share, Traces};
use keygate::telemetry::traces::otlp::{Export, KeyValue, Span, Value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::http::PATIENCE;
use crate::support::sweep::Sweep;

/// A request that came.
#[derive(Clone)]
pub(super) struct Came {
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) status: u16,
}

#[derive(Default)]
struct State {
    came: Vec<Came>,
    /// Statuses of the next answers; 200 when there is none.
    answers: Vec<(u16, Bytes)>,
}

/// It runs until it is dropped.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(super) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, task }
    }

    /// How a gateway tells it of such a share of all requests.
    pub(super) fn traces(&self, sample: Share) -> Traces {
        Traces { endpoint: endpoint(self.address), headers: None, sample }
    }

    /// What it answers next, in this order.
    pub(super) fn answer(&self, answers: &[(u16, &[u8])]) {
        let answers = answers.iter().map(|(status, body)| (*status, Bytes::copy_from_slice(body))).collect();
        self.state.lock().unwrap().answers = answers;
    }

    pub(super) fn came(&self) -> Vec<Came> {
        self.state.lock().unwrap().came.clone()
    }

    pub(super) fn forget(&self) {
        self.state.lock().unwrap().came.clear();
    }

    /// All spans that it took, once they are enough; no secret may be in what came.
    pub(super) async fn spans(&self, sweep: &Sweep, are_enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let came = self.came();
            came.iter().for_each(|export| sweep.wrote(&export.body, "spans"));
            let spans: Vec<Seen> = came.iter().filter(|export| export.status == 200).flat_map(|export| spans(&export.body)).collect();
            if are_enough(&spans) {
                return spans;
            }
            assert!(tokio::time::Instant::now() < patience, "{spans:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        authority: HeaderValue::try_from(address.to_string()).unwrap(),
        path: "/v1/traces".to_owned(),
        tls: None,
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut state = state.lock().unwrap();
    let (status, said) = if state.answers.is_empty() { (200, Bytes::new()) } else { state.answers.remove(0) };
    state.came.push(Came { target: format!("{} {}", head.method, head.uri), headers: head.headers, body, status });
    Ok(Response::builder().status(status).header("content-type", "application/x-protobuf").body(Full::new(said)).unwrap())
}

/// The spans of one export, which must say who sends it.
pub(super) fn spans(body: &[u8]) -> Vec<Seen> {
    let export = Export::decode(body).expect("an export");
    let [of_resource] = export.resource_spans.as_slice() else { panic!("{export:?}") };
    let about = &of_resource.resource.as_ref().expect("a resource").attributes;
    assert_eq!(text(about, "service.name").as_deref(), Some("keygate"));
    assert_eq!(text(about, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    of_resource.scope_spans.iter().flat_map(|scope| scope.spans.iter().cloned().map(|span| Seen { span })).collect()
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let mut all = attributes.iter().filter(|attribute| attribute.key == key);
    let found = all.next().and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
    assert!(all.next().is_none(), "{key} twice in {attributes:?}");
    found
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    find(attributes, key).map(|value| match value {
        Value::Text(text) => text.clone(),
        Value::Bool(is_so) => is_so.to_string(),
        Value::Int(number) => number.to_string(),
    })
}

/// A span that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) span: Span,
}

impl Seen {
    pub(super) fn is_server(&self) -> bool {
        self.span.kind == 2
    }

    /// An attribute as text.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }

    /// Holds attributes against what they must be; "" stands for none.
    pub(super) fn assert(&self, wanted: &[(&str, &str)]) {
        for (key, value) in wanted {
            assert_eq!(self.get(key).unwrap_or_default(), *value, "{key} in {self:#?}");
        }
    }

    pub(super) fn begin(&self) -> u64 {
        self.span.start_time_unix_nano
    }

    pub(super) fn end(&self) -> u64 {
        self.span.end_time_unix_nano
    }

    pub(super) fn has_failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }

    pub(super) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(super) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(super) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
