//! The environment: keys, proxies and certificates, and where asked the way to the token endpoints.
//!
//! A proxy's password is never read out: of a proxy's address only what is wrong with it is told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::{Method, Request};
use tokensink_host::{CONNECT_TIME, Limits};
use tokensink_types::{Body, CredentialKind, ProviderId, UnixMillis};
use url::Url;

use super::Looking;
use crate::doctor::NetworkCheck;
use crate::doctor::facts::{EnvKeyFacts, Facts};
use crate::settings::Settings;

/// The variables that name a proxy for https, in the order in which they count.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// How a certificate begins in a PEM file (RFC 7468 section 5.1).
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// Bounds of the request that asks for the server's date.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    body_bytes: 1024 * 1024,
};

pub(super) fn look(looking: &Looking<'_>, facts: &mut Facts) {
    let env = &*looking.doctor.host.env;
    for name in looking.registry.env_names() {
        let definition = looking.registry.get(&name.provider);
        let kind = definition.map(|definition| definition.env_kind(&name.variable));
        if kind == Some(CredentialKind::ApiKey) && env.var(&name.variable.name).is_some() {
            facts.env_keys.push(EnvKeyFacts {
                name: name.variable.name,
                provider: name.provider,
            });
        }
    }
    let proxy = PROXIES.iter().find_map(|name| Some((*name, env.var(name)?)));
    if let Some((name, value)) = proxy
        && let Some(why) = bad_proxy(&value)
    {
        facts.proxies.push((name.to_owned(), why));
    }
    certificates(looking, facts);
}

/// Why a proxy's address cannot be used; `None` when it can. Without a scheme it is http.
fn bad_proxy(value: &str) -> Option<String> {
    let full = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let Ok(url) = Url::parse(&full) else {
        return Some("is not an address".to_owned());
    };
    match url.scheme() {
        "http" | "https" => None,
        scheme => Some(format!("is a {scheme} proxy; HTTP proxies are supported")),
    }
}

fn certificates(looking: &Looking<'_>, facts: &mut Facts) {
    let host = &looking.doctor.host;
    let mut named: Vec<(String, String)> = Vec::new();
    for variable in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        named.extend(host.env.var(variable).map(|file| (variable.to_owned(), file)));
    }
    for file in looking.settings.iter().flat_map(Settings::extra_ca) {
        let expanded = looking.paths.expand("extra_ca", file);
        let path = expanded.map_or_else(|_| file.clone(), |path| path.display().to_string());
        named.push(("[network] extra_ca".to_owned(), path));
    }
    for (setting, file) in named {
        let why = match host.files.read(Path::new(&file)) {
            Ok(bytes) if bytes.windows(PEM.len()).any(|part| part == PEM) => continue,
            Ok(_) => format!("{file} holds no certificate in PEM form"),
            Err(error) => format!("{file} cannot be read: {error}"),
        };
        facts.certificates.push((setting, why));
    }
}

/// Connects to the token endpoint of every provider with a stored grant, and asks for nothing but the date.
pub(super) fn try_network(looking: &Looking<'_>) -> Vec<NetworkCheck> {
    let store = looking.doctor.store();
    let mut seen = BTreeSet::new();
    let mut checks = Vec::new();
    for agent in store.agents().unwrap_or_default() {
        let Ok(loaded) = store.load(&agent) else {
            continue;
        };
        let grants = loaded.profiles.entries().iter();
        for oauth in grants.filter_map(|entry| entry.credential.as_oauth()) {
            let provider = looking.registry.canonical(&oauth.provider);
            let endpoint = looking.registry.get(&provider).and_then(|definition| {
                let method = definition.method_for(CredentialKind::OAuth, oauth.client_id.as_deref())?;
                let client = definition.refresh_client(method)?;
                client.token_endpoint.clone().or_else(|| client.issuer.clone())
            });
            let Some(endpoint) = endpoint else { continue };
            let origin = endpoint.origin().ascii_serialization();
            if seen.insert((provider.clone(), origin)) {
                checks.push(connect(looking, provider, &endpoint));
            }
        }
    }
    checks
}

fn connect(looking: &Looking<'_>, provider: ProviderId, endpoint: &Url) -> NetworkCheck {
    let host = &looking.doctor.host;
    let origin = endpoint.origin().ascii_serialization();
    let start = host.clock.monotonic();
    let connection = match host.transport.connect(endpoint, CONNECT_TIME) {
        Ok(connection) => connection,
        Err(error) => {
            return NetworkCheck {
                provider,
                origin,
                outcome: Err((error.cause, error.hint)),
                clock_offset_ms: None,
            };
        }
    };
    let took = host.clock.monotonic().saturating_sub(start);
    let asked = Request::builder()
        .method(Method::HEAD)
        .uri(format!("{origin}/"))
        .body(Body::new(Vec::new()));
    let before = host.clock.now();
    // The answer's only use is its date; a server that gives none is reachable all the same.
    let date = asked.ok().and_then(|request| {
        let answer = connection.exchange(request, LIMITS).ok()?;
        http_date(answer.headers().get(http::header::DATE)?.to_str().ok()?)
    });
    let middle = before.plus(before.until(host.clock.now()) / 2);
    NetworkCheck {
        provider,
        origin,
        outcome: Ok(took),
        clock_offset_ms: date.map(|date| date.0.saturating_sub(middle.0)),
    }
}

/// A date of RFC 9110 section 5.6.7, in the one form that is still generated.
fn http_date(text: &str) -> Option<UnixMillis> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(UnixMillis(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_that_can_and_cannot_be_used() {
        let cases = [
            ("http://proxy:3128", None),
            ("proxy:3128", None),
            ("https://user:canary@proxy", None),
            (
                "socks5://proxy:1080",
                Some("is a socks5 proxy; HTTP proxies are supported"),
            ),
            ("http://", Some("is not an address")),
            ("http://pro xy", Some("is not an address")),
        ];
        for (value, want) in cases {
            assert_eq!(bad_proxy(value).as_deref(), want, "{value}");
        }
    }

    #[test]
    fn dates_of_servers() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at, Some(UnixMillis(784_111_777_000)));
        assert_eq!(http_date("yesterday"), None);
    }
}
