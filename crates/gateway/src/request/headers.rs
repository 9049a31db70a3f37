//! Which headers pass, up to the provider and down to the client.
//!
//! Up: everything that the client sent, as it sent it, except credentials, what belongs to one connection, and what tells
//! of the way here; and the answer is wanted uncompressed, because limits and errors in it decide what comes next. Then
//! the lease's own. No header is added to look like another program. Down: everything except what
//! belongs to the provider's connection or host.

use std::collections::HashSet;

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokensink_sink::{Betas, Secret};

use super::errors::Refusal;

// These are asked of every header of every request: a comparison with fixed texts takes a third of a search in a list.

/// Headers in which clients carry credentials or the account that they belong to: these are for the gateway, and
/// another account answers.
fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "cookie2"
            | "set-cookie"
            | "x-api-key"
            | "api-key"
            | "apikey"
            | "x-goog-api-key"
            | "x-auth-token"
            | "x-access-token"
            | "ocp-apim-subscription-key"
            | "x-amz-security-token"
            // Which workspace a ChatGPT login means (clients.md 2.5).
            | "chatgpt-account-id"
    )
}

/// Belongs to one connection (RFC 9110 section 7.6.1), whether `connection` names it or not.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authentication-info"
    )
}

/// Tells the provider of the way here, or is made anew for the next connection.
fn is_of_the_way(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "expect"
            | "forwarded"
            | "via"
            | "x-real-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "x-client-ip"
    ) || name.starts_with("x-forwarded-")
}

/// Would be kept by the client for our address, which is not the provider's.
fn is_of_the_host(name: &str) -> bool {
    matches!(
        name,
        "alt-svc" | "set-cookie" | "set-cookie2" | "strict-transport-security" | "clear-site-data"
    )
}

/// Ours: the client and the gateway talk by it, and nobody else.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-tokensink-")
}

/// What a lease adds to a request.
#[derive(Debug, Clone, Copy)]
pub struct Dress<'a> {
    /// The headers that carry it.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The provider's beta features.
    pub betas: &'a Betas,
}

/// The headers that go up. Host and length are left to the connection.
///
/// # Errors
/// When the header of the provider's beta features cannot be written.
pub fn upstream_headers(client: &HeaderMap, dress: Dress<'_>) -> Result<HeaderMap, Refusal> {
    let hops = named_by_connection(client);
    let mut up = HeaderMap::with_capacity(client.len() + dress.headers.len() + 2);
    for (name, value) in client {
        let text = name.as_str();
        let stays = is_hop_by_hop(text) || is_of_the_way(text) || is_credential(text) || is_ours(text);
        if !stays && !hops.contains(name) {
            up.append(name.clone(), value.clone());
        }
    }
    // An error event or a limit in a compressed answer would not be seen (RFC 9110 section 12.5.3).
    if up.contains_key(ACCEPT_ENCODING) {
        up.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    for (name, value) in dress.headers {
        up.insert(name, value.clone());
    }
    if !dress.betas.add.is_empty() || !dress.betas.remove.is_empty() {
        merge_betas(&mut up, client, &hops, dress.betas)?;
    }
    Ok(up)
}

/// One line with the client's features, without those that must not go with this lease and with those that it needs.
fn merge_betas(
    up: &mut HeaderMap,
    client: &HeaderMap,
    hops: &HashSet<HeaderName>,
    betas: &Betas,
) -> Result<(), Refusal> {
    let name = HeaderName::from_bytes(betas.header.as_bytes()).map_err(|_| unwritable(&betas.header))?;
    let sent = client.get_all(&name).into_iter();
    let sent: Vec<&str> = sent
        .filter(|_| !hops.contains(&name))
        .filter_map(|value| value.to_str().ok())
        .collect();
    match betas.merged(Some(&sent.join(","))) {
        Some(merged) => {
            let value = HeaderValue::from_str(&merged).map_err(|_| unwritable(&betas.header))?;
            up.insert(name, value);
        }
        None => {
            up.remove(name);
        }
    }
    Ok(())
}

/// The headers that go down. The length stays, for answers that have it and no body.
#[must_use]
pub fn client_headers(upstream: &HeaderMap) -> HeaderMap {
    let mut down = upstream.clone();
    keep_for_client(&mut down);
    down
}

/// Leaves of an answer's headers those that go down.
pub fn keep_for_client(headers: &mut HeaderMap) {
    let hops = named_by_connection(headers);
    let goes = |name: &&HeaderName| {
        let text = name.as_str();
        is_hop_by_hop(text) || is_of_the_host(text) || is_ours(text) || hops.contains(*name)
    };
    // A length beside a transfer coding means nothing (RFC 9112 section 6.3), and the coding does not go down.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let gone: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// What `connection` names (RFC 9110 section 7.6.1).
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let values = headers.get_all(CONNECTION).into_iter();
    let names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// The headers that carry a lease, as they are written.
///
/// # Errors
/// When one of them cannot be.
pub fn lease_headers(lease: &[(String, Secret)]) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    let written = lease.iter().map(|(name, value)| {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unwritable(name))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| unwritable(name))?;
        value.set_sensitive(true);
        Ok((parsed, value))
    });
    written.collect()
}

fn unwritable(name: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_GATEWAY,
        "bad_lease_header",
        format!("the credential's header {name:?} cannot be written"),
    )
    .with_fix("tokensink providers check, or log in again (tokensink models auth login)")
}

#[cfg(test)]
mod tests;
