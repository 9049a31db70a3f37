//! Authorization server metadata (RFC 8414) and OpenID Connect discovery: where a server says its endpoints are.

use std::net::IpAddr;

use http::{Request, Response};
use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_types::Body;
use url::{Host, Url};

use crate::answer::object;
use crate::request::{RequestError, get};
use crate::text::tidy;
use crate::token::Refusal;

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

/// What a server says of itself, as far as we use it (RFC 8414 section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMetadata {
    /// The issuer identifier.
    pub issuer: String,
    /// `authorization_endpoint`; absent where the server has no such grant.
    pub authorization_endpoint: Option<Url>,
    /// `token_endpoint`.
    pub token_endpoint: Url,
    /// `device_authorization_endpoint` (RFC 8628 section 4).
    pub device_authorization_endpoint: Option<Url>,
    /// `revocation_endpoint`.
    pub revocation_endpoint: Option<Url>,
    /// `userinfo_endpoint` (OpenID Connect Discovery section 3).
    pub userinfo_endpoint: Option<Url>,
    /// `code_challenge_methods_supported`; empty where the server does not say.
    pub code_challenge_methods: Vec<String>,
    /// `scopes_supported`; empty where the server does not say.
    pub scopes: Vec<String>,
}

/// Why a document is not metadata that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// No document there; try the next of [`well_known_urls`].
    #[error("no metadata: {0}")]
    Refused(Refusal),
    /// The document speaks for another issuer (RFC 8414 section 3.3).
    #[error("the metadata is of issuer {found:?}, but {expected} was asked")]
    OtherIssuer {
        /// Who was asked.
        expected: String,
        /// Who answered.
        found: String,
    },
    /// A field is missing or is no https URL (http is accepted for loopback hosts only).
    #[error("the metadata's {field} is missing or not an https URL: {found:?}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value, or empty.
        found: String,
    },
}

/// Where the metadata of `issuer` may be, in the order to try: RFC 8414 section 3.1 (well-known part before the
/// issuer's path), OpenID Connect Discovery section 4.1 (after it), and, for an issuer with a path, the mixed form
/// of RFC 8414 section 5.
#[must_use]
pub fn well_known_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![format!("{OAUTH}{path}"), format!("{path}{OPENID}")];
    if !path.is_empty() {
        paths.push(format!("{OPENID}{path}"));
    }
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(&path);
        url
    };
    paths.into_iter().map(at).collect()
}

/// The request for a metadata document.
///
/// # Errors
/// When the URL does not fit an HTTP request.
pub fn request(url: &Url) -> Result<Request<Body>, RequestError> {
    get(url, None)
}

/// Reads a metadata document of `issuer`.
///
/// # Errors
/// See [`MetadataError`].
pub fn parse(response: &Response<Body>, issuer: &Url) -> Result<ServerMetadata, MetadataError> {
    let fields = response.status().is_success().then(|| object(response)).flatten();
    let fields = fields.ok_or_else(|| MetadataError::Refused(Refusal::read(response, &[])))?;
    let found = fields.get("issuer").and_then(Value::as_str).unwrap_or_default();
    // The issuer is compared as a string, but a URL type cannot say whether a lone slash stood at its end.
    if found.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
        return Err(MetadataError::OtherIssuer {
            expected: issuer.to_string(),
            found: tidy(found, &[]),
        });
    }
    let token_endpoint = endpoint(&fields, "token_endpoint")?;
    Ok(ServerMetadata {
        issuer: found.to_owned(),
        authorization_endpoint: endpoint(&fields, "authorization_endpoint")?,
        token_endpoint: token_endpoint.ok_or_else(|| wrong("token_endpoint", ""))?,
        device_authorization_endpoint: endpoint(&fields, "device_authorization_endpoint")?,
        revocation_endpoint: endpoint(&fields, "revocation_endpoint")?,
        userinfo_endpoint: endpoint(&fields, "userinfo_endpoint")?,
        code_challenge_methods: words(&fields, "code_challenge_methods_supported"),
        scopes: words(&fields, "scopes_supported"),
    })
}

fn wrong(field: &'static str, found: &str) -> MetadataError {
    MetadataError::Field {
        field,
        found: tidy(found, &[]),
    }
}

fn endpoint(fields: &Map<String, Value>, name: &'static str) -> Result<Option<Url>, MetadataError> {
    let Some(text) = fields
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => Ok(Some(url)),
        Ok(_) | Err(_) => Err(wrong(name, text)),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn words(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = fields.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::tests::answer;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn well_known_places() {
        let cases: [(&str, &[&str]); 3] = [
            (
                "https://auth.x.ai",
                &[
                    "https://auth.x.ai/.well-known/oauth-authorization-server",
                    "https://auth.x.ai/.well-known/openid-configuration",
                ],
            ),
            (
                "https://as.example/tenant/1/",
                &[
                    "https://as.example/.well-known/oauth-authorization-server/tenant/1",
                    "https://as.example/tenant/1/.well-known/openid-configuration",
                    "https://as.example/.well-known/openid-configuration/tenant/1",
                ],
            ),
            (
                "http://127.0.0.1:9400/?x#y",
                &[
                    "http://127.0.0.1:9400/.well-known/oauth-authorization-server",
                    "http://127.0.0.1:9400/.well-known/openid-configuration",
                ],
            ),
        ];
        for (issuer, want) in cases {
            let got = well_known_urls(&url(issuer));
            let got: Vec<_> = got.iter().map(Url::as_str).collect();
            assert_eq!(got, want, "{issuer}");
        }
        let request = request(&url("https://as.example/x")).unwrap();
        assert_eq!((request.method().as_str(), request.body().len()), ("GET", 0));
    }

    #[test]
    fn documents() {
        let good = json!({
            "issuer": "https://as.example", "token_endpoint": "https://as.example/token",
            "authorization_endpoint": "https://as.example/auth",
            "device_authorization_endpoint": "http://127.0.0.1:1/device", "userinfo_endpoint": "",
            "code_challenge_methods_supported": ["S256", 1], "scopes_supported": null,
        });
        let with = |name: &str, value: Value| {
            let mut document = good.clone();
            document[name] = value;
            document
        };
        let parse = |document: &Value| parse(&answer(200, &document.to_string()), &url("https://as.example"));
        let got = parse(&good).unwrap();
        assert_eq!(got.token_endpoint, url("https://as.example/token"));
        assert_eq!(
            got.device_authorization_endpoint,
            Some(url("http://127.0.0.1:1/device"))
        );
        assert_eq!((got.userinfo_endpoint, got.revocation_endpoint), (None, None));
        assert_eq!(
            (got.code_challenge_methods, got.scopes),
            (vec!["S256".to_owned()], vec![])
        );
        assert!(parse(&with("issuer", json!("https://as.example/"))).is_ok());
        let wrong_ones = [
            ("issuer", json!("https://evil.example")),
            ("issuer", json!(null)),
            ("token_endpoint", json!(null)),
            ("token_endpoint", json!("http://as.example/token")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("revocation_endpoint", json!("/relative")),
        ];
        for (name, value) in wrong_ones {
            let error = parse(&with(name, value.clone())).unwrap_err();
            assert!(error.to_string().contains(name), "{value}: {error}");
        }
    }

    #[test]
    fn absent_documents() {
        for (status, body) in [(404, "{}"), (200, "<html>"), (200, "[]")] {
            let got = parse(&answer(status, body), &url("https://as.example"));
            assert!(matches!(got, Err(MetadataError::Refused(_))), "{status} {body}");
        }
    }
}
