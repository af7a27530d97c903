//! The OpenAPI 3.1 document of the interface at the listener, made from the table of its routes and their types.

use axum::Json;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::admin::api::ErrorBody;
use crate::admin::error::AdminError;
use crate::admin::router::routes;
use crate::admin::table::{For, Operation, Table};

const DESCRIPTION: &str = "Keys, accounts and state of a keygate gateway. Programs send an admin token (keygate admin tokens create) as \
                           Authorization: Bearer; an API key is good for nothing here. Keys have the shape of Audiobookshelf's own \
                           /api/api-keys, with the fields that only keygate has beside it, and of Emby's /Auth/Keys. Secrets are shown once.";

/// `GET /api/openapi.json`.
pub(super) async fn show() -> Result<Json<Document>, AdminError> {
    Ok(Json(Document(document())))
}

/// Any JSON object.
#[derive(serde::Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Document(#[schemars(with = "Map<String, Value>")] Value);

/// The document.
pub fn document() -> Value {
    let mut table = routes(Table::new(true));
    let error = table.answered.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for operation in &table.operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, &error);
    }
    // What is asked and what is answered are different types: no name stands for two forms.
    let mut schemas = table.asked.take_definitions(true);
    schemas.extend(table.answered.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "keygate", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "adminToken": { "type": "http", "scheme": "bearer", "description": "kga_…, from keygate admin tokens create" },
                "pageSession": {
                    "type": "apiKey", "in": "cookie", "name": "keygate",
                    "description": "From POST /api/session; __Host-keygate over TLS. Changes need the header X-CSRF-Token and an Origin as well."
                }
            }
        }
    })
}

fn describe(operation: &Operation, error: &Schema) -> Value {
    let mut described = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "responses": {
            operation.status.to_string(): match &operation.answer {
                Some((media, schema)) => json!({ "description": "Done", "content": { *media: { "schema": schema } } }),
                None => json!({ "description": "Done" }),
            },
            "4XX": refused("Refused: the request is wrong, or may not be made", error),
            "5XX": refused("Not possible now: a media server or the store does not do what it should", error)
        }
    });
    if operation.may_be_unwell {
        described["responses"]["503"] = described["responses"][operation.status.to_string()].clone();
        described["responses"]["503"]["description"] = json!("The same, when it is not well");
    }
    match operation.access {
        For::Holders(scope) => {
            described["description"] = json!(format!("Needs the scope \"{}\".", scope.as_str()));
            described["security"] = json!([{ "adminToken": [] }, { "pageSession": [] }]);
        }
        For::Anyone | For::Socket => described["security"] = json!([]),
    }
    let parameters: Vec<Value> = in_path(operation.path).chain(in_query(operation.query.as_ref())).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(schema) = &operation.body {
        described["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    described
}

fn refused(description: &str, error: &Schema) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": error } } })
}

/// `get_api_keys_id` of `GET /api/api-keys/{id}`.
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.trim_start_matches("/api").split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> = std::iter::once(operation.method.as_str()).chain(words).map(str::to_ascii_lowercase).collect();
    words.join("_")
}

fn in_path(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
}

fn in_query(schema: Option<&Schema>) -> impl Iterator<Item = Value> {
    let fields = |name: &str| schema.and_then(|schema| schema.get(name)).cloned().unwrap_or_default();
    let required = fields("required");
    let properties = fields("properties").as_object().cloned().unwrap_or_default();
    properties.into_iter().map(move |(name, mut schema)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        // Absent is what null would be, which no query can say.
        if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
        }
        let is_required = required.as_array().is_some_and(|required| required.iter().any(|one| *one == name));
        json!({ "name": name, "in": "query", "required": is_required, "description": description, "schema": schema })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_listener_is_in_the_document_once_and_nothing_else_is() {
        let table = routes(Table::new(true));
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let described: usize = paths.values().map(|path| path.as_object().expect("a path").len()).sum();
        assert_eq!(described, table.operations.len());
        let mut ids = std::collections::HashSet::new();
        for operation in &table.operations {
            let described = &paths[operation.path][operation.method.as_str().to_ascii_lowercase()];
            assert!(described.is_object(), "{} {}", operation.method, operation.path);
            assert!(ids.insert(described["operationId"].as_str().expect("an id").to_owned()), "{described}");
        }
        assert!(!paths.contains_key("/api/store/backup"), "what is the socket's alone is not told");
    }

    #[test]
    fn nothing_is_asked_and_answered_under_one_name() {
        let mut table = routes(Table::new(true));
        let (asked, answered) = (table.asked.take_definitions(true), table.answered.take_definitions(true));
        let both: Vec<_> = asked.keys().filter(|name| answered.contains_key(*name)).collect();
        assert!(both.is_empty(), "{both:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let pointer = reference.split('"').next().expect("a text").trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
