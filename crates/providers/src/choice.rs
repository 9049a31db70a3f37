//! Auth choices: which method of which provider a word after `--auth-choice` stands for (spec.md 13).

use thiserror::Error;
use tokensink_types::ProviderId;

use crate::definition::{Choice, Definition, Method, ProfileName};
use crate::problem::nearest;
use crate::registry::Registry;

/// A choice with what it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceRef<'a> {
    /// The provider.
    pub definition: &'a Definition,
    /// The method that it takes.
    pub method: &'a Method,
    /// The choice.
    pub choice: &'a Choice,
}

impl ChoiceRef<'_> {
    /// The id of the profile that it leaves: `anthropic:default`, or a pattern such as `openai-codex:<e-mail>`
    /// (spec.md 3.2).
    #[must_use]
    pub fn leaves(&self) -> String {
        let name = match &self.choice.profile_name {
            ProfileName::Fixed(name) => name,
            ProfileName::Email | ProfileName::EmailOrSubject => "<e-mail>",
        };
        format!("{}:{name}", self.definition.id)
    }

    /// Whether `text` is its id or one of its deprecated ids, in any case.
    fn is_called(&self, text: &str) -> bool {
        let ids = std::iter::once(&self.choice.id).chain(&self.choice.deprecated);
        ids.into_iter().any(|id| id.eq_ignore_ascii_case(text))
    }
}

/// No auth choice goes by that name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.words())]
pub struct UnknownChoice {
    /// What was asked for.
    pub text: String,
    /// Choices that look like it, best first, at most three.
    pub nearest: Vec<String>,
    /// The provider that the choice is known to stand for, which has no definition here.
    pub undefined: Option<&'static str>,
}

impl UnknownChoice {
    fn words(&self) -> String {
        let text = &self.text;
        if let Some(provider) = self.undefined {
            return format!(
                "auth choice {text:?} stands for provider {provider}, which is not defined here; \
                 define it in tokensink/providers/{provider}.toml in the state dir"
            );
        }
        let hint = if self.nearest.is_empty() {
            String::new()
        } else {
            format!("; did you mean {}?", self.nearest.join(" or "))
        };
        format!("unknown auth choice {text:?}{hint}")
    }
}

/// Choices of OpenClaw (spec.md 13.1, 13.3) whose providers have no built-in definition, with the provider's id.
pub(crate) const UNDEFINED: &[(&str, &str)] = &[
    ("alibaba-api-key", "alibaba"),
    ("arcee-api-key", "arcee"),
    ("byteplus-api-key", "byteplus"),
    ("cloudflare-ai-gateway-api-key", "cloudflare-ai-gateway"),
    ("comfy-api-key", "comfy"),
    ("copilot-proxy", "copilot-proxy"),
    ("deepinfra-api-key", "deepinfra"),
    ("fal-api-key", "fal"),
    ("fireworks-api-key", "fireworks"),
    ("google-antigravity", "google-antigravity"),
    ("google-gemini-cli", "google-gemini-cli"),
    ("huggingface-api-key", "huggingface"),
    ("kilocode-api-key", "kilocode"),
    ("litellm-api-key", "litellm"),
    ("lmstudio", "lmstudio"),
    ("microsoft-foundry-apikey", "microsoft-foundry"),
    ("microsoft-foundry-entra", "microsoft-foundry"),
    ("minimax-cn-api", "minimax-cn"),
    ("moonshot-api-key-cn", "moonshot-cn"),
    ("nvidia-api-key", "nvidia"),
    ("ollama", "ollama"),
    ("qianfan-api-key", "qianfan"),
    ("qwen-api-key-cn", "qwen-cn"),
    ("qwen-standard-api-key", "qwen-standard"),
    ("qwen-standard-api-key-cn", "qwen-standard-cn"),
    ("runway-api-key", "runway"),
    ("sglang", "sglang"),
    ("stepfun-api-key", "stepfun"),
    ("tokenhub-api-key", "tencent-tokenhub"),
    ("together-api-key", "together"),
    ("vllm", "vllm"),
    ("vydra-api-key", "vydra"),
    ("xiaomi-api-key", "xiaomi"),
    ("zai-cn", "zai-cn"),
    ("zai-coding-cn", "zai-coding-cn"),
    ("zai-global", "zai-global"),
];

impl Registry {
    /// All auth choices: those of the built-in providers by provider id, then those of the user's own, which can
    /// therefore never take a word away from a built-in one.
    pub fn choices(&self) -> impl Iterator<Item = ChoiceRef<'_>> {
        let built_in = |wanted: bool| {
            self.all()
                .filter(move |definition| !definition.template && self.is_builtin(&definition.id) == wanted)
        };
        built_in(true).chain(built_in(false)).flat_map(|definition| {
            definition.methods.iter().flat_map(move |method| {
                method.choices.iter().map(move |choice| ChoiceRef {
                    definition,
                    method,
                    choice,
                })
            })
        })
    }

    /// The choice that `text` names, by its id or a deprecated one, in any case.
    ///
    /// # Errors
    /// [`UnknownChoice`] with the nearest ids, or with the provider that would have to be defined.
    pub fn choice(&self, text: &str) -> Result<ChoiceRef<'_>, UnknownChoice> {
        let text = text.trim();
        if let Some(found) = self.choices().find(|choice| choice.is_called(text)) {
            return Ok(found);
        }
        let undefined = UNDEFINED
            .iter()
            .find(|(choice, _)| choice.eq_ignore_ascii_case(text))
            .map(|(_, provider)| *provider);
        let ids: Vec<&str> = self.choices().map(|choice| choice.choice.id.as_str()).collect();
        Err(UnknownChoice {
            text: text.to_owned(),
            nearest: nearest(text, ids, 3).into_iter().map(str::to_owned).collect(),
            undefined,
        })
    }

    /// The choices of one provider, in the order of its methods.
    #[must_use]
    pub fn choices_of(&self, id: &ProviderId) -> Vec<ChoiceRef<'_>> {
        self.choices()
            .filter(|choice| choice.definition.id == *id)
            .collect()
    }
}
