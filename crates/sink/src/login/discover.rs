//! Endpoints that a definition leaves to the authorization server's metadata (RFC 8414).

use tokensink_host::Host;
use tokensink_oauth::metadata::{self, ServerMetadata};
use tokensink_providers::{Method, OAuthClient};
use url::Url;

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::exchange::send;

/// The method with all of its endpoints; as it is where the definition has them.
///
/// # Errors
/// When no metadata can be had, or it names endpoints that are not to be trusted.
pub(crate) fn complete(host: &Host, method: &Method, again: &str) -> Result<Method> {
    let urls = method
        .oauth_client()
        .map(OAuthClient::metadata_urls)
        .unwrap_or_default();
    let issuer = method.oauth_client().and_then(|client| client.issuer.as_ref());
    let Some(issuer) = issuer.filter(|_| !urls.is_empty()) else {
        return Ok(method.clone());
    };
    let found = fetch(host, issuer, &urls).map_err(|reason| {
        let message = format!("the endpoints of {issuer} could not be discovered: {reason}");
        SinkError::new(ErrorKind::TryAgain, "no_metadata", message).with_fix(again.to_owned())
    })?;
    method.with_metadata(&found).map_err(|untrusted| {
        SinkError::new(ErrorKind::Failed, "untrusted_endpoint", untrusted.to_string())
            .with_fix("add its domain to trusted_domains of the login method, if it is right")
    })
}

fn fetch(host: &Host, issuer: &Url, urls: &[Url]) -> std::result::Result<ServerMetadata, String> {
    let mut reasons = Vec::new();
    for url in urls {
        let request = metadata::request(url).map_err(|error| error.to_string())?;
        match send(host, &request) {
            Ok(answer) => match metadata::parse(&answer.response, issuer) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => reasons.push(format!("{url}: {error}")),
            },
            Err(error) => return Err(format!("{url}: {}", error.reason())),
        }
    }
    Err(reasons.join("; "))
}
