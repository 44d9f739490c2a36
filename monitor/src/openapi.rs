//! The description of the API, made from its routes.

use serde_json::{Map, Value, json};

use crate::{
    answer::{Refused, Reply},
    route::{Route, Run},
};

pub(crate) fn document(routes: &[Route]) -> Result<Reply, Refused> {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let method = if route.action.is_some() {
            "post"
        } else {
            "get"
        };
        let path = paths
            .entry(format!("/{}", route.path))
            .or_insert_with(|| json!({}));
        path[method] = operation(route);
    }
    Reply::json(&json!({
        "openapi": "3.1.0",
        "info": {
            "title": "batrun-monitor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Whole numbers that may exceed 2^53, and durations in nanoseconds, are strings. \
                            Times are milliseconds since 1970.",
        },
        "servers": [{ "url": "../.." }],
        "paths": paths,
        "components": { "schemas": { "Error": {
            "type": "object",
            "required": ["error", "code"],
            "properties": {
                "error": { "type": "string" },
                "code": { "enum": [
                    "forbidden", "not_found", "bad_request", "conflict", "too_many", "gone", "unavailable",
                ] },
                "count": { "type": "integer", "description": "with a conflict of a bulk action: the tasks that the filter takes now" },
            },
        } } },
    }))
}

fn operation(route: &Route) -> Value {
    let is_post = route.action.is_some();
    let mut parameters: Vec<Value> = Vec::new();
    for part in route.path.split('/') {
        if let Some(name) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            let schema = json!({ "type": "string" });
            let description = match name {
                "p" => "the pipeline's place, from 0",
                "s" => "the stage's name, percent-encoded",
                _ => "the task's number",
            };
            parameters.push(json!({
                "name": name, "in": "path", "required": true, "schema": schema, "description": description,
            }));
        }
    }
    if is_post {
        parameters.push(json!({
            "name": "X-Batrun", "in": "header", "required": true, "schema": { "const": "1" },
        }));
    } else {
        let query = route
            .takes
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": field(name) }));
        parameters.extend(query);
    }
    let (kind, schema) = match (route.path, route.run) {
        (_, Run::Stream) => ("text/event-stream", json!({ "type": "string" })),
        ("api/v1/pipelines/{p}/journal/export", _) => {
            ("application/x-ndjson", json!({ "type": "string" }))
        }
        ("metrics", _) => ("text/plain", json!({ "type": "string" })),
        _ => ("application/json", json!({ "type": "object" })),
    };
    let error = json!({
        "description": "refused",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    let mut operation = json!({
        "summary": route.about,
        "parameters": parameters,
        "responses": {
            "200": { "description": "done", "content": { kind: { "schema": schema } } },
            "4XX": error,
            "5XX": error,
        },
    });
    if let Some(action) = route.action {
        let fields: Map<String, Value> = route
            .takes
            .iter()
            .map(|name| ((*name).to_owned(), field(name)))
            .collect();
        operation["description"] = json!(format!("needs the action {action}"));
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": { "type": "object", "properties": fields } } },
        });
    }
    operation
}

/// A parameter or a field of a body.
fn field(name: &str) -> Value {
    let text = json!({ "type": "string" });
    match name {
        "every" => json!({ "type": "integer", "minimum": 1, "maximum": 60 }),
        "range" => json!({ "enum": ["5m", "1h", "24h"] }),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 200 }),
        "rows" => json!({ "type": "integer", "minimum": 1, "maximum": 10_000 }),
        "q" => json!({ "type": "string", "maxLength": 200 }),
        "count" => json!({ "type": "integer" }),
        "workers" => json!({ "type": "integer", "minimum": 1, "maximum": 100_000 }),
        "per_second" | "grace_seconds" => json!({ "type": ["number", "null"] }),
        "tasks" => json!({ "type": "array", "items": text, "maxItems": 1_000 }),
        "filter" => json!({
            "type": "object",
            "properties": { "phase": text, "stage": text, "older_ms": { "type": "integer" }, "q": text },
        }),
        _ => text,
    }
}
