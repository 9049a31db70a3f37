//! Paths by which a test in another process reads and steers the server; served only where the configuration says so.
//! They are no part of the protocol: they are not logged, and faults do not reach them.
//!
//! | path | method | body | answer |
//! |---|---|---|---|
//! | `/__ledger` | GET | | the [`Ledger`](crate::Ledger) |
//! | `/__faults` | GET, POST, DELETE | POST: a [`Fault`] or a list of them | the faults still to come |
//! | `/__logins` | POST | a [`LoginAnswer`] or a list of them | `{}` |
//! | `/__issue` | POST | `{"account", "client_id"?, "scope"?}` | a token answer |
//! | `/__revoke` | POST | `{"account"}` | `{"revoked": n}` |
//! | `/__invalidate` | POST | | `{}`; the API refuses every access token that is out |
//! | `/__access_token_seconds` | POST | a number | `{}`; life of the access tokens to come |
//! | `/__held`, `/__release` | GET, POST | | `{"held": n}`; answered by [`Running`](crate::Running) |

use http::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokensink_types::Body;

use super::answer::json_answer;
use super::{AuthorizationServer, Call};
use crate::config::LoginAnswer;
use crate::faults::Fault;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueRequest {
    account: String,
    client_id: Option<String>,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountRequest {
    account: String,
}

impl AuthorizationServer {
    pub(super) fn control(&mut self, request: &Request<Body>, call: &mut Call<'_>) -> Response<Body> {
        let done = match (request.method(), request.uri().path()) {
            (&Method::GET, "/__ledger") => return ok(&self.ledger),
            (&Method::GET, "/__faults") => return ok(&self.faults()),
            (&Method::DELETE, "/__faults") => {
                self.clear_faults();
                return ok(&self.faults());
            }
            (&Method::POST, "/__faults") => list::<Fault>(request).map(|faults| {
                for fault in faults {
                    self.push_fault(fault);
                }
                ok(&self.faults())
            }),
            (&Method::POST, "/__logins") => list::<LoginAnswer>(request).map(|logins| {
                for login in logins {
                    self.push_login(login);
                }
                ok(&json!({}))
            }),
            (&Method::POST, "/__issue") => {
                parse(request).and_then(|wanted| self.issue_by_control(&wanted, call))
            }
            (&Method::POST, "/__revoke") => parse(request)
                .map(|wanted: AccountRequest| ok(&json!({"revoked": self.revoke_account(&wanted.account)}))),
            (&Method::POST, "/__invalidate") => {
                self.invalidate_access_tokens();
                Ok(ok(&json!({})))
            }
            (&Method::POST, "/__access_token_seconds") => parse(request).map(|seconds| {
                self.set_access_token_seconds(seconds);
                ok(&json!({}))
            }),
            (method, path) => Err(format!("there is no {method} {path}")),
        };
        done.unwrap_or_else(|why| json_answer(StatusCode::BAD_REQUEST, &json!({"error": why})))
    }

    fn issue_by_control(
        &mut self,
        wanted: &IssueRequest,
        call: &mut Call<'_>,
    ) -> Result<Response<Body>, String> {
        let client_id = match (&wanted.client_id, self.config.client_ids.first()) {
            (Some(id), _) => id.clone(),
            (None, Some(id)) => id.clone(),
            (None, None) => "rig".to_owned(),
        };
        let scopes: Vec<&str> = wanted.scope.split_whitespace().collect();
        self.issue_to(&wanted.account, &client_id, &scopes, call)
            .map(|(_, answer)| answer)
    }
}

fn parse<T: DeserializeOwned>(request: &Request<Body>) -> Result<T, String> {
    serde_json::from_slice(request.body().expose()).map_err(|error| error.to_string())
}

/// Tells a list by its look, so that an error names the wrong field and not the wrong shape.
fn list<T: DeserializeOwned>(request: &Request<Body>) -> Result<Vec<T>, String> {
    if request.body().expose().trim_ascii_start().first() == Some(&b'[') {
        parse(request)
    } else {
        parse(request).map(|one| vec![one])
    }
}

fn ok(body: &impl Serialize) -> Response<Body> {
    match serde_json::to_value(body) {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(error) => json_answer(StatusCode::INTERNAL_SERVER_ERROR, &Value::from(error.to_string())),
    }
}
