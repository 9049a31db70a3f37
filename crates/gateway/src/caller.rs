//! Who calls, and may they? No key, no answer.

use std::collections::BTreeSet;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, StatusCode};
use tokensink_sink::{AgentId, ProviderId, Secret};

use crate::request::errors::Refusal;

/// A caller that may be served.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The agent whose accounts it uses.
    pub(crate) agent: AgentId,
    /// The only providers that it may use; `None` for all of the agent's.
    pub(crate) providers: Option<BTreeSet<ProviderId>>,
}

/// The header in which Anthropic's clients send their key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The caller by the key in the request's header.
///
/// # Errors
/// 401 without a key or with a wrong one.
pub(crate) fn authenticate(headers: &HeaderMap, keys: &[(Secret, AgentId)]) -> Result<Caller, Refusal> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let key = headers.get(X_API_KEY).and_then(|value| value.to_str().ok());
    let given = key.or(bearer).ok_or_else(|| no_key("this gateway wants a key"))?;
    let given = Secret::new(given);
    keys.iter()
        .find(|(key, _)| *key == given)
        .map(|(_, agent)| Caller {
            agent: agent.clone(),
            providers: None,
        })
        .ok_or_else(|| no_key("the key is not known here"))
}

fn no_key(text: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "no_key", text)
        .with_fix("make one (tokensink keys add <name>) and set it as the client's API key")
}
