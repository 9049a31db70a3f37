//! The OpenAPI 3.1 document of the gateway's own endpoints. What a request and an answer hold is taken from the types
//! that read and write them; the paths stand here, and a test holds them against the routes.

use serde_json::{Value, json};
use utoipa::openapi::schema::Components;
use utoipa::{PartialSchema, ToSchema};

use crate::api::shapes::{
    ErrorAnswer, ErrorBody, HealthAnswer, LeaseAnswer, LeaseRequest, Outcome, ReportAnswer, ReportRequest,
    RouteAnswer, RouteRequest,
};

/// Where the document is served.
pub const PATH: &str = "/tokensink/v1/openapi.json";

/// The document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tokensink gateway",
            "description": "Leases for programs that call a model API themselves, and what belongs to them. \
                Everything else that the gateway serves are the providers' own APIs, passed through.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:7465", "description": "the default" }],
        "security": [{ "bearer": [] }, { "x_api_key": [] }],
        "paths": {
            "/tokensink/v1/lease": { "post": operation(
                "lease", "Get a credential for a while", Some("LeaseRequest"), "LeaseAnswer",
                &["400", "403", "404", "429", "503"],
            ) },
            "/tokensink/v1/report": { "post": operation(
                "report", "Tell what became of a call, or give a lease back", Some("ReportRequest"), "ReportAnswer",
                &["400", "404"],
            ) },
            "/tokensink/v1/route": { "post": operation(
                "route", "Which agent answers a chat", Some("RouteRequest"), "RouteAnswer", &["400", "403"],
            ) },
            "/tokensink/v1/health": { "get": operation(
                "health", "How it stands with the gateway", None, "HealthAnswer", &[],
            ) },
            PATH: { "get": {
                "operationId": "openapi",
                "summary": "This document",
                "responses": {
                    "200": { "description": "The document", "content": { "application/json": { "schema": { "type": "object" } } } },
                    "401": refused("401"),
                },
            } },
        },
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "A client key: tokensink keys add" },
                "x_api_key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

fn operation(id: &str, summary: &str, request: Option<&str>, answer: &str, errors: &[&str]) -> Value {
    let content = |name: &str| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        json!({ "application/json": { "schema": schema } })
    };
    let mut operation = json!({
        "operationId": id,
        "summary": summary,
        "responses": { "200": { "description": "Done", "content": content(answer) }, "401": refused("401") },
    });
    for status in errors {
        operation["responses"][*status] = refused(status);
    }
    if let Some(request) = request {
        operation["requestBody"] = json!({ "required": true, "content": content(request) });
    }
    operation
}

fn refused(status: &str) -> Value {
    let why = match status {
        "400" => "The request is wrong",
        "401" => "No client key that counts",
        "403" => "Not for this client",
        "404" => "There is no such thing",
        "429" => "All accounts are benched, or too many leases are out; try again later",
        _ => "Nobody is logged in, or it cannot be said now",
    };
    let schema = json!({ "$ref": "#/components/schemas/ErrorAnswer" });
    json!({ "description": why, "content": { "application/json": { "schema": schema } } })
}

fn schemas() -> Value {
    let mut components = Components::new();
    fn add<T: ToSchema + PartialSchema>(components: &mut Components) {
        components.schemas.insert(T::name().into_owned(), T::schema());
    }
    add::<LeaseRequest>(&mut components);
    add::<LeaseAnswer>(&mut components);
    add::<ReportRequest>(&mut components);
    add::<Outcome>(&mut components);
    add::<ReportAnswer>(&mut components);
    add::<RouteRequest>(&mut components);
    add::<RouteAnswer>(&mut components);
    add::<HealthAnswer>(&mut components);
    add::<ErrorAnswer>(&mut components);
    add::<ErrorBody>(&mut components);
    serde_json::to_value(&components.schemas).unwrap_or_default()
}
