//! What a path means.
//!
//! `/<provider>/…` passes any path of that provider through; `/v1/…` routes by the model that the body names; a few
//! paths are the gateway's own. The first segment decides, as it is written: nothing in it is decoded, so that no
//! spelling of a reserved name is a provider. The rest of a passed path goes up byte for byte, unless it might be read
//! as leaving the provider's base (RFC 3986 section 5.2.4): dot segments are refused in every spelling that some
//! server undoes, a slash within a segment (`%2F`, as in `models/org%2Fname`) is kept.

use http::header::{ALLOW, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tokensink_sink::providers::ApiKind;

use super::errors::{ErrorShape, Refusal};

/// How often a path is decoded to look for dot segments: once is right (RFC 3986 section 2.4), a second and a third
/// time is what proxies in a row do.
const DECODINGS: usize = 3;

/// First segments that are never a provider.
const RESERVED: [&str; 6] = ["v1", "v1beta", "tokensink", "metrics", "health", "."];

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A path of one provider.
    Passthrough {
        /// Its id or an alias, as written.
        provider: String,
        /// The path after it, with its first slash, as it was sent.
        rest: String,
    },
    /// A request that names its model.
    Model(Call),
    /// The models that the caller may use, or one of them.
    Models {
        /// The one that is asked for, decoded.
        id: Option<String>,
    },
    /// `POST /tokensink/v1/lease`.
    Lease,
    /// `POST /tokensink/v1/report`.
    Report,
    /// `POST /tokensink/v1/route`: which agent a chat belongs to.
    Bindings,
    /// `GET /tokensink/v1/openapi.json`.
    OpenApi,
    /// `GET /metrics`.
    Metrics,
    /// `GET /tokensink/v1/health`, also `GET /health`.
    Health,
    /// Nothing that is known.
    Unknown,
}

/// The requests that name their model in a JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Anthropic's messages.
    Messages,
    /// How many tokens such a request would have.
    CountTokens,
    /// OpenAI's chat completions.
    ChatCompletions,
    /// OpenAI's responses.
    Responses,
    /// A shorter form of a conversation, which Codex asks for.
    CompactResponse,
    /// How many tokens a response's input would have.
    ResponseInputTokens,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Messages,
        Self::CountTokens,
        Self::ChatCompletions,
        Self::Responses,
        Self::CompactResponse,
        Self::ResponseInputTokens,
    ];

    /// The path at the gateway.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::CompactResponse => "/v1/responses/compact",
            Self::ResponseInputTokens => "/v1/responses/input_tokens",
        }
    }

    /// The path after the provider's base URL, which for OpenAI's APIs has the version.
    #[must_use]
    pub fn upstream_path(self) -> &'static str {
        match self.family() {
            Family::Anthropic => self.path(),
            Family::OpenAi => self.path().strip_prefix("/v1").unwrap_or(self.path()),
        }
    }

    /// Which API it is part of.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Messages | Self::CountTokens => Family::Anthropic,
            Self::ChatCompletions | Self::Responses | Self::CompactResponse | Self::ResponseInputTokens => {
                Family::OpenAi
            }
        }
    }
}

/// Whose shapes an API has. A request is never translated from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Messages.
    Anthropic,
    /// Chat completions and responses.
    OpenAi,
}

impl Family {
    /// The family of a provider's API; `None` for one that is not spoken over HTTP.
    #[must_use]
    pub fn of(kind: ApiKind) -> Option<Self> {
        match kind {
            ApiKind::AnthropicMessages => Some(Self::Anthropic),
            ApiKind::OpenAiResponses | ApiKind::OpenAiChat => Some(Self::OpenAi),
            ApiKind::Cli | ApiKind::None => None,
        }
    }

    /// How it writes errors.
    #[must_use]
    pub fn errors(self) -> ErrorShape {
        match self {
            Self::Anthropic => ErrorShape::Anthropic,
            Self::OpenAi => ErrorShape::OpenAi,
        }
    }
}

/// What the request line and the headers ask for.
///
/// # Errors
/// For a method that the path does not have (405), a WebSocket (426), a path that might leave its provider (400), and a
/// request line that is meant for a forward proxy (400).
pub fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Route, Refusal> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("{method} is not served"),
        )
        .with_fix("set the client's base URL to this address instead of its proxy")
        .with_header(ALLOW, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE")));
    }
    if uri.authority().is_some() {
        return Err(Refusal::bad(
            "not_a_proxy",
            "the request line names another host, as for a forward proxy, which this is not",
        )
        .with_fix("set the client's base URL to this address instead of its proxy"));
    }
    let route = of_path(uri.path())?;
    if wants_web_socket(headers) {
        return Err(no_web_socket());
    }
    match allowed(&route) {
        Some(allow) if !allow.split(", ").any(|allowed| allowed == method.as_str()) => {
            Err(wrong_method(method, uri.path(), allow))
        }
        _ => Ok(route),
    }
}

fn of_path(path: &str) -> Result<Route, Refusal> {
    if let Some(call) = Call::ALL.into_iter().find(|call| call.path() == path) {
        return Ok(Route::Model(call));
    }
    let route = match path {
        "/v1/models" => Route::Models { id: None },
        "/tokensink/v1/lease" => Route::Lease,
        "/tokensink/v1/report" => Route::Report,
        "/tokensink/v1/route" => Route::Bindings,
        "/tokensink/v1/openapi.json" => Route::OpenApi,
        "/metrics" => Route::Metrics,
        "/health" | "/tokensink/v1/health" => Route::Health,
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) => Route::Models {
                id: Some(decoded(id)).filter(|id| !id.is_empty()),
            },
            None => passthrough(path)?.unwrap_or(Route::Unknown),
        },
    };
    Ok(route)
}

/// `None` when the first segment cannot be a provider or nothing follows it.
fn passthrough(path: &str) -> Result<Option<Route>, Refusal> {
    let Some((provider, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let reserved = RESERVED.iter().any(|name| name.eq_ignore_ascii_case(provider));
    if provider.is_empty() || provider == ".." || reserved || !provider.bytes().all(plain) {
        return Ok(None);
    }
    check_rest(rest)?;
    Ok(Some(Route::Passthrough {
        provider: provider.to_owned(),
        rest: format!("/{rest}"),
    }))
}

/// Refuses what a server might read as a path outside of the one that it is appended to.
fn check_rest(rest: &str) -> Result<(), Refusal> {
    let mut path = rest.as_bytes().to_vec();
    for _ in 0..=DECODINGS {
        if path.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dots) {
            return Err(bad_path("it has a dot segment"));
        }
        if path.iter().any(u8::is_ascii_control) {
            return Err(bad_path("it has a control character"));
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&path).collect();
        if decoded == path {
            break;
        }
        path = decoded;
    }
    Ok(())
}

/// `.` or `..`; what follows a semicolon are parameters to some servers (RFC 3986 section 3.3).
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name == b"." || name == b".."
}

fn bad_path(why: &str) -> Refusal {
    Refusal::bad(
        "bad_path",
        format!("the path might be read as one outside of its provider: {why}"),
    )
    .with_fix("send the path that is meant")
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// The methods of a route; `None` where the provider knows them.
fn allowed(route: &Route) -> Option<&'static str> {
    match route {
        Route::Model(_) | Route::Lease | Route::Report | Route::Bindings => Some("POST"),
        Route::Models { .. } | Route::OpenApi | Route::Metrics | Route::Health => Some("GET, HEAD"),
        Route::Passthrough { .. } | Route::Unknown => None,
    }
}

fn wrong_method(method: &Method, path: &str, allow: &'static str) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{path} has no {method}, only {allow}"),
    )
    .with_header(ALLOW, HeaderValue::from_static(allow))
}

fn wants_web_socket(headers: &HeaderMap) -> bool {
    let values = headers.get_all(UPGRADE).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| {
            let name = protocol.trim().split('/').next().unwrap_or_default();
            name.eq_ignore_ascii_case("websocket")
        })
}

/// Codex takes this status for a reason to send the same by HTTP, at once (clients.md 0.9).
fn no_web_socket() -> Refusal {
    Refusal::new(
        StatusCode::UPGRADE_REQUIRED,
        "no_web_socket",
        "WebSockets are not served",
    )
    .with_fix("send the request by HTTP POST")
    .with_header(UPGRADE, HeaderValue::from_static("HTTP/1.1"))
}

/// What to say about a path that is not known.
#[must_use]
pub fn unknown_path(path: &str) -> Refusal {
    let refusal = Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        format!("there is nothing at {:?}", shortened(path)),
    );
    let below = |call: Call| path.ends_with(call.upstream_path()) || path.ends_with(call.path());
    if let Some(call) = Call::ALL.into_iter().find(|call| below(*call)) {
        let base = match call.family() {
            Family::Anthropic => "http://<host>:<port>, without a path",
            Family::OpenAi => "http://<host>:<port>/v1",
        };
        return refusal.with_fix(format!("set the client's base URL to {base}"));
    }
    if path.starts_with("/v1/") {
        return refusal.with_fix(
            "this path names no model to route by; name the provider: /<provider>/… in place of /v1/… \
             (tokensink providers list)",
        );
    }
    refusal.with_fix(
        "use /v1/messages, /v1/chat/completions, /v1/responses, /v1/models, or /<provider>/… \
         (tokensink providers list)",
    )
}

fn shortened(path: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let short: String = path.chars().take(SHOWN_MAX).collect();
    if short.len() < path.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// The address of a request at the provider: `path_and_query` below `base_url`. A version that both have is meant once,
/// since clients are told base URLs with and without it.
///
/// # Errors
/// When the two make no address, or one of another host.
pub fn upstream_uri(base_url: &str, path_and_query: &str) -> Result<Uri, Refusal> {
    let wrong = || {
        Refusal::new(
            StatusCode::BAD_GATEWAY,
            "bad_base_url",
            format!("{base_url:?} and the request's path make no address"),
        )
        .with_fix("tokensink providers check")
    };
    let base = base_url.trim_end_matches('/');
    let known: Uri = base.parse().map_err(|_| wrong())?;
    let last = base.rsplit('/').next().unwrap_or_default();
    let path = match path_and_query.strip_prefix('/') {
        Some(rest) => match rest.strip_prefix(last) {
            Some(below) if is_version(last) && (below.is_empty() || below.starts_with(['/', '?'])) => below,
            _ => path_and_query,
        },
        None => return Err(wrong()),
    };
    let uri: Uri = format!("{base}{path}").parse().map_err(|_| wrong())?;
    let same = uri.scheme() == known.scheme() && uri.authority() == known.authority();
    if same && uri.authority().is_some() {
        Ok(uri)
    } else {
        Err(wrong())
    }
}

/// `v1`, `v1beta`, `v4`.
fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
