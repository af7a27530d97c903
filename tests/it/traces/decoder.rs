//! The messages of OpenTelemetry itself (PyPI's `opentelemetry-proto`, made from its descriptions) read what keygate sends: nothing is unknown in
//! it, and it says the same to them.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::collector::{Collector, hex};
use super::traced;
use crate::support::python;

const REQUIREMENT: &str = "opentelemetry-proto==1.45.2";
const SCRIPT: &str = r#"
import json, sys
from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

def known(message):
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        for part in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
            if hasattr(part, "ListFields"):
                known(part)

request = ExportTraceServiceRequest.FromString(sys.stdin.buffer.read())
known(request)
print(json.dumps(MessageToDict(request)))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetrys_own_messages_read_what_is_sent() {
    let Some(python) = python::installed("opentelemetry", REQUIREMENT).await else { return };
    let collector = Collector::start().await;
    let rig = traced(&collector, keygate::upstream::Kind::Jellyfin).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let lines = [("x-emby-token", rig.secret()), ("traceparent", parent)];
    rig.standin.control().faults(|faults| faults.status = Some((500, None)));
    let path = "/keygate-test/bytes/1";
    crate::support::http::get(rig.address, path, &lines).await;
    let spans = collector.spans(&rig.sweep, |spans| spans.iter().any(|span| span.is_server())).await;
    let body = collector.came()[0].body.clone();
    let mut command = Command::new(python);
    command.args(["-B", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &body).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_resource = &read["resourceSpans"][0];
    assert_eq!(of_resource["resource"]["attributes"][0]["value"]["stringValue"], "keygate");
    assert_eq!(of_resource["scopeSpans"][0]["scope"]["name"], "keygate");
    let theirs = of_resource["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(theirs.len(), spans.len());
    for (their, our) in theirs.iter().zip(&spans) {
        let kind = if our.is_server() { "SPAN_KIND_SERVER" } else { "SPAN_KIND_CLIENT" };
        assert_eq!((their["kind"].as_str(), their["name"].as_str()), (Some(kind), Some(our.span.name.as_str())));
        assert_eq!(their["startTimeUnixNano"], our.begin().to_string());
        assert_eq!(their["endTimeUnixNano"], our.end().to_string());
        assert_eq!(their["flags"], our.span.flags);
        // JSON has bytes in base64.
        let bytes = |value: &Value| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value.as_str().unwrap_or_default());
        assert_eq!(hex(&bytes(&their["traceId"]).unwrap()), our.trace());
        assert_eq!(hex(&bytes(&their["spanId"]).unwrap()), our.id());
        assert_eq!(hex(&bytes(&their["parentSpanId"]).unwrap()), our.parent());
        assert_eq!(their["status"]["code"], if our.has_failed() { "STATUS_CODE_ERROR".into() } else { Value::Null });
        assert_eq!(their["links"].as_array().map_or(0, Vec::len), usize::from(our.is_server()));
        for attribute in their["attributes"].as_array().unwrap() {
            let value = attribute["value"].as_object().unwrap().values().next().unwrap();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(our.get(attribute["key"].as_str().unwrap()).as_deref(), Some(value.as_str()), "{attribute}");
        }
        assert_eq!(their["attributes"].as_array().unwrap().len(), our.span.attributes.len());
    }
    assert!(spans.iter().all(|span| span.has_failed()));
}
