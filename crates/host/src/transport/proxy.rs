//! Whether a connection goes through a proxy, and the tunnel through it (RFC 9110 section 9.3.6).
//!
//! Only https targets come here: plain http is for loopback, which needs no proxy. So `HTTP_PROXY` is never used.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Failure, Stream, Target, authority};
use crate::{ConnectPhase, Environment};

/// Largest head of a proxy's answer in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// A proxy that is to be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Proxy {
    /// The variable that names it, for messages.
    variable: &'static str,
    /// TLS to the proxy itself.
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Makes a failure on the way to the proxy say so.
    pub(super) fn explain(&self, failure: &Failure) -> Failure {
        let (proxy, variable) = (authority(&self.host, self.port), self.variable);
        Failure {
            cause: format!("the proxy {proxy}: {}", failure.cause),
            hint: Some(format!(
                "{variable} names this proxy; correct or unset it, or add the host to NO_PROXY"
            )),
            phase: failure.phase,
        }
    }

    fn failure(&self, cause: impl Into<String>) -> Failure {
        self.explain(&Failure::new(ConnectPhase::Proxy, cause))
    }
}

/// The proxy for `target` by the environment, `None` for a direct connection. Loopback is always direct.
///
/// # Errors
/// When a proxy is set that cannot be used: going past it in silence could leak what it is there to hold.
pub(super) fn route(env: &dyn Environment, target: &Target) -> Result<Option<Proxy>, Failure> {
    if target.is_loopback {
        return Ok(None);
    }
    let set = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find_map(|name| env.var(name).map(|value| (name, value)));
    let Some((variable, value)) = set else {
        return Ok(None);
    };
    let bad = |cause: &str| {
        Failure::new(ConnectPhase::Proxy, format!("{variable} {cause}")).hint(format!(
            "write {variable}=http://[user:password@]host:port, or unset it"
        ))
    };
    let uri = Uri::try_from(format!("https://{}/", target.authority()))
        .map_err(|_| bad("cannot be applied to this address"))?;
    let Some(intercept) = Matcher::builder().https(&*value).build().intercept(&uri) else {
        return Err(bad("is not a proxy address"));
    };
    let no = env.var("NO_PROXY").or_else(|| env.var("no_proxy"));
    let no = no_proxy(&no.unwrap_or_default(), target.port);
    if Matcher::builder()
        .https(&*value)
        .no(no)
        .build()
        .intercept(&uri)
        .is_none()
    {
        return Ok(None);
    }
    let https = match intercept.uri().scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => {
            return Err(bad(
                "names a kind of proxy that is not supported; HTTP proxies are",
            ));
        }
    };
    let host = intercept.uri().host().unwrap_or_default();
    Ok(Some(Proxy {
        variable,
        https,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: intercept.uri().port_u16().unwrap_or(if https { 443 } else { 80 }),
        authorization: intercept.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        }),
    }))
}

/// Puts `NO_PROXY` into the form that the matcher knows: `*.domain` is a domain, `host:port` counts for that port only.
fn no_proxy(list: &str, port: u16) -> String {
    let entry = |entry: &str| {
        let entry = entry.trim();
        let entry = match entry.split_once(':') {
            // More than one colon is an IPv6 address.
            Some((host, entry_port)) if !entry_port.contains(':') => {
                (entry_port == port.to_string()).then_some(host)?
            }
            _ => entry,
        };
        Some(entry.strip_prefix("*.").unwrap_or(entry).to_owned())
    };
    let entries: Vec<_> = list.split(',').filter_map(entry).collect();
    entries.join(",")
}

/// Asks the proxy for a tunnel to `target`.
///
/// # Errors
/// With the phase Proxy, when the proxy refuses or is no proxy.
pub(super) async fn tunnel(mut stream: Stream, proxy: &Proxy, target: &Target) -> Result<Stream, Failure> {
    let to = target.authority();
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    sent.await
        .map_err(|error: std::io::Error| proxy.failure(error.to_string()))?;
    let mut head = Vec::new();
    loop {
        // Byte by byte, once per connection: what follows the head belongs to TLS.
        let byte = stream
            .read_u8()
            .await
            .map_err(|error| proxy.failure(format!("no answer to CONNECT: {error}")))?;
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
        if head.len() > HEAD_BYTES {
            return Err(proxy.failure("its answer to CONNECT is no HTTP"));
        }
    }
    accept_answer(&head, proxy).map(|()| stream)
}

fn accept_answer(head: &[u8], proxy: &Proxy) -> Result<(), Failure> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    let code = match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => answer.code.unwrap_or(0),
        _ => return Err(proxy.failure("its answer to CONNECT is no HTTP")),
    };
    let reason = answer.reason.unwrap_or_default();
    match code {
        200..=299 => Ok(()),
        407 => Err(proxy
            .failure(format!("it wants a password ({code} {reason})"))
            .hint(format!(
                "put it into the address: {}=http://user:password@{}",
                proxy.variable,
                authority(&proxy.host, proxy.port)
            ))),
        _ => Err(proxy.failure(format!("it refused the connection ({code} {reason})"))),
    }
}
