//! The answer to `GET /v1/models`: what the caller may use, in the shape that its client expects. The ids can be sent
//! back as they are.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokensink_sink::ProviderId;
use tokensink_sink::providers::ApiKind;

use super::errors::Refusal;
use super::plan::Rights;
use super::route::Family;

/// A model that the caller's agent can use now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its provider.
    pub provider: ProviderId,
    /// What the provider speaks.
    pub kind: ApiKind,
    /// The provider's name for it.
    pub model: String,
}

impl Offered {
    fn id(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// The list, or the one model `id`. Clients of Anthropic, who send `anthropic-version`, get what is spoken to as
/// messages; the others what is spoken to as chat completions or responses.
///
/// # Errors
/// 404 for a model that is not in the list.
pub fn models(
    id: Option<&str>,
    offered: &[Offered],
    headers: &HeaderMap,
    rights: Rights<'_>,
) -> Result<Value, Refusal> {
    let family = if headers.contains_key("anthropic-version") {
        Family::Anthropic
    } else {
        Family::OpenAi
    };
    let mine = |model: &&Offered| Family::of(model.kind) == Some(family) && rights.allow(&model.provider);
    let mut mine = offered.iter().filter(mine);
    if let Some(id) = id {
        let found = mine.find(|model| model.id() == id || model.model == id);
        return found.map(|model| entry(model, family)).ok_or_else(|| {
            let id: String = id.chars().take(100).collect();
            Refusal::new(
                StatusCode::NOT_FOUND,
                "unknown_model",
                format!("this key has no model {id:?} in this API"),
            )
            .with_fix("GET /v1/models lists what it has")
        });
    }
    let data: Vec<Value> = mine.map(|model| entry(model, family)).collect();
    Ok(match family {
        Family::OpenAi => json!({ "object": "list", "data": data }),
        Family::Anthropic => {
            let end = |entry: Option<&Value>| entry.map_or(Value::Null, |entry| entry["id"].clone());
            json!({
                "first_id": end(data.first()),
                "last_id": end(data.last()),
                "has_more": false,
                "data": data,
            })
        }
    })
}

fn entry(model: &Offered, family: Family) -> Value {
    match family {
        // When a model appeared is not known; clients want a number.
        Family::OpenAi => json!({
            "id": model.id(), "object": "model", "created": 0, "owned_by": model.provider.as_str(),
        }),
        Family::Anthropic => json!({
            "id": model.id(), "type": "model", "display_name": model.model, "created_at": "1970-01-01T00:00:00Z",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokensink_sink::AgentId;

    use super::*;

    fn provider(id: &str) -> ProviderId {
        ProviderId::parse(id).unwrap()
    }

    fn offered() -> Vec<Offered> {
        let rows = [
            ("anthropic", ApiKind::AnthropicMessages, "claude-opus-4-6"),
            ("openai", ApiKind::OpenAiResponses, "gpt-5.1"),
            ("groq", ApiKind::OpenAiChat, "org/llama"),
            ("claude-cli", ApiKind::Cli, "opus"),
            ("deepgram", ApiKind::None, "nova"),
        ];
        rows.map(|(id, kind, model)| Offered {
            provider: provider(id),
            kind,
            model: model.to_owned(),
        })
        .to_vec()
    }

    fn ask(id: Option<&str>, anthropic: bool, only: Option<&str>) -> Result<Value, Refusal> {
        let mut headers = HeaderMap::new();
        if anthropic {
            headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
        }
        let only = only.map(|only| BTreeSet::from([provider(only)]));
        let rights = Rights {
            agent: &AgentId::main(),
            providers: only.as_ref(),
        };
        models(id, &offered(), &headers, rights)
    }

    fn ids(answer: &Value) -> Vec<&str> {
        let entries = answer["data"].as_array().unwrap().iter();
        entries.map(|entry| entry["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn each_api_lists_its_own() {
        let openai = ask(None, false, None).unwrap();
        assert_eq!(openai["object"], "list");
        assert_eq!(ids(&openai), ["openai/gpt-5.1", "groq/org/llama"]);
        let anthropic = ask(None, true, None).unwrap();
        assert_eq!(ids(&anthropic), ["anthropic/claude-opus-4-6"]);
        assert_eq!(anthropic["has_more"], false);
        assert_eq!(anthropic["first_id"], "anthropic/claude-opus-4-6");
        assert_eq!(anthropic["data"][0]["type"], "model");
    }

    #[test]
    fn a_key_sees_only_its_providers() {
        assert_eq!(ids(&ask(None, false, Some("groq")).unwrap()), ["groq/org/llama"]);
        let none = ask(None, true, Some("groq")).unwrap();
        assert_eq!((ids(&none), &none["first_id"]), (vec![], &Value::Null));
        assert_eq!(
            ask(Some("openai/gpt-5.1"), false, Some("groq"))
                .unwrap_err()
                .status,
            404
        );
    }

    #[test]
    fn one_model() {
        for id in ["groq/org/llama", "org/llama"] {
            assert_eq!(
                ask(Some(id), false, None).unwrap()["id"],
                "groq/org/llama",
                "{id}"
            );
        }
        for id in ["claude-cli/opus", "anthropic/claude-opus-4-6", "nothing"] {
            assert_eq!(ask(Some(id), false, None).unwrap_err().status, 404, "{id}");
        }
    }
}
