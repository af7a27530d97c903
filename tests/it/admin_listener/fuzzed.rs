//! schemathesis (<https://schemathesis.readthedocs.io>) against the served OpenAPI document: whatever it makes of each operation, the answer is one that the
//! document tells of, and never a failure of the gateway.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, bearer};
use crate::support::python;

/// Whole lines that pip understands.
const REQUIREMENT: &str = "schemathesis==4.32.5";
/// Not: that a body which breaks the schema is refused by its schema (an absent body is an empty object here), and that unknown methods
/// are told with Allow (strangers are told nothing).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance,ignored_auth";
/// Operations that wait for other machines, or end the run's own credential.
const LEFT_OUT: &str = "^(post_doctor|post_accounts|post_accounts_id_login|put_accounts_id_credential|delete_admin_tokens_id|delete_accounts_id|patch_accounts_id)$";

#[tokio::test]
async fn whatever_is_asked_the_answer_is_one_that_the_document_tells_of() {
    let Some(python) = python::installed("schemathesis", REQUIREMENT).await else { return };
    let site = Site::start().await;
    let work = tempfile::tempdir().unwrap();
    let document = work.path().join("openapi.json");
    fs::write(&document, served(&site).await.to_string()).unwrap();
    let mut command = Command::new(python);
    command.args(["-B", "-m", "schemathesis.cli", "run"]).arg(&document);
    command.args(["--url", &format!("http://{}", site.address), "--header", &format!("Authorization: {}", bearer(&site.all))]);
    command.args(["--checks", CHECKS, "--exclude-operation-id-regex", LEFT_OUT, "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-examples", "15", "--seed", "1", "--no-color", "--generation-database", "none", "--suppress-health-check", "all"]);
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").current_dir(work.path()).stdin(Stdio::null());
    let mut run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = loop {
        tokio::select! {
            output = &mut run => break output.unwrap(),
            // Wrong credentials without end are a part of it: minutes must go by, or the throttle of guesses answers for all else.
            () = tokio::time::sleep(Duration::from_millis(20)) => site.clock.advance(Duration::from_secs(60)),
        }
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Keys that it had made are in what it says.
    let said = said.replace("kg_", "kg~");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("passed") && site.get("/api/status", &site.all).await.status == 200, "{said}");
}

/// The document with an id that there is: else hardly anything is ever found.
async fn served(site: &Site) -> Value {
    let mut document = site.get("/api/openapi.json", &site.all).await.json();
    let (key, account) = (site.rig.key.id().to_string(), site.rig.account.id.0.to_string());
    for (path, methods) in document["paths"].as_object_mut().unwrap() {
        let id = if path.contains("accounts") { &account } else { &key };
        for operation in methods.as_object_mut().unwrap().values_mut() {
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten().filter(|one| one["in"] == "path") {
                parameter["example"] = json!(id);
            }
        }
    }
    document
}
