//! What tokens are for: the API, userinfo, revocation, and the document that describes the server.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokensink_types::{Body, Secret};

use super::answer::{Refusal, Reply, authorization, json_answer};
use super::{AuthorizationServer, Call};
use crate::ledger::RevokedBecause;
use crate::params::Params;

/// Header of an API answer that names the account (`sub`) it was served to; absent for an API key.
const ACCOUNT_HEADER: &str = "x-account";

impl AuthorizationServer {
    /// The models, for whoever has a live access token or an API key, as a bearer token or in `x-api-key`.
    pub(super) fn api(&mut self, request: &Request<Body>, call: &mut Call<'_>) -> Response<Body> {
        let Some(account) = self.authenticate(request, call) else {
            self.ledger.api_refused += 1;
            return self.unauthorized(call);
        };
        self.ledger.api_served += 1;
        let models: Vec<Value> = self
            .config
            .models
            .iter()
            .map(|model| json!({"id": model, "object": "model", "created": 0, "owned_by": "rig"}))
            .collect();
        let mut response = json_answer(StatusCode::OK, &json!({"object": "list", "data": models}));
        if let Some(account) = account.and_then(|account| self.config.accounts.get(account))
            && let Ok(value) = HeaderValue::from_str(&account.sub)
        {
            response.headers_mut().insert(ACCOUNT_HEADER, value);
        }
        response
    }

    /// Whose request it is; the inner `None` is an API key, which belongs to nobody.
    fn authenticate(&self, request: &Request<Body>, call: &mut Call<'_>) -> Option<Option<usize>> {
        let headers = request.headers();
        let credential = authorization(headers, "bearer")
            .or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))?;
        let credential = Secret::new(credential);
        let key = call.present(&credential);
        if self.config.api_keys.contains(&credential) {
            return Some(None);
        }
        self.grants
            .live_access(&key, call.now)
            .map(|token| Some(token.account))
    }

    /// Claims about the account (OpenID Connect Core section 5.3).
    pub(super) fn userinfo(&self, request: &Request<Body>, call: &mut Call<'_>) -> Response<Body> {
        let account = self
            .authenticate(request, call)
            .flatten()
            .and_then(|account| self.config.accounts.get(account));
        let Some(account) = account else {
            return self.unauthorized(call);
        };
        let mut claims = Map::new();
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.into());
            }
        };
        set("sub", Some(&account.sub));
        set("email", account.email.as_deref());
        set("account_id", account.account_id.as_deref());
        set("plan", account.plan.as_deref());
        json_answer(StatusCode::OK, &Value::Object(claims))
    }

    /// RFC 6750 section 3.1.
    fn unauthorized(&self, call: &mut Call<'_>) -> Response<Body> {
        call.outcome = "unauthorized";
        let error = json!({
            "message": "The access token is missing, unknown, expired or revoked.",
            "type": "authentication_error",
            "code": "token_invalid",
        });
        let mut response = json_answer(StatusCode::UNAUTHORIZED, &json!({"error": error}));
        response.headers_mut().insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer error=\"invalid_token\""),
        );
        response
    }

    /// RFC 7009: a refresh token ends its family, an access token only itself; a token that is not known is as good
    /// as revoked (section 2.2).
    pub(super) fn revocation(
        &mut self,
        request: &Request<Body>,
        params: &Params,
        call: &mut Call<'_>,
    ) -> Reply {
        let client = self.client(request, params, call)?;
        let Some(token) = params.secret("token") else {
            return Err(Refusal::request("missing_parameter", "token is missing"));
        };
        let key = call.present(token);
        let refresh = self.grants.generation(&key).map(|generation| generation.family);
        let access = self.grants.access(&key).map(|token| token.family);
        let Some(family) = refresh.or(access) else {
            call.outcome = "unknown_token";
            return Ok(json_answer(StatusCode::OK, &json!({})));
        };
        if self
            .grants
            .family(family)
            .is_some_and(|family| family.client_id != client)
        {
            return Err(Refusal::foreign_token());
        }
        if refresh.is_some() {
            self.revoke(family, RevokedBecause::Client);
        } else {
            self.grants.forget_access(&key);
        }
        call.outcome = "revoked";
        Ok(json_answer(StatusCode::OK, &json!({})))
    }

    /// RFC 8414 section 2.
    pub(super) fn metadata(&self) -> Response<Body> {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let mut metadata = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/oauth/authorize"),
            "token_endpoint": at("/oauth/token"),
            "revocation_endpoint": at("/oauth/revoke"),
            "userinfo_endpoint": at("/userinfo"),
            "response_types_supported": ["code"],
            "grant_types_supported": [
                "authorization_code",
                "refresh_token",
                "urn:ietf:params:oauth:grant-type:device_code",
            ],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": match self.config.client_secret {
                None => json!(["none"]),
                Some(_) => json!(["client_secret_basic", "client_secret_post"]),
            },
            "scopes_supported": self.config.scopes,
        });
        if self.config.device.enabled {
            metadata["device_authorization_endpoint"] = at("/oauth/device/code").into();
        }
        json_answer(StatusCode::OK, &metadata)
    }
}
