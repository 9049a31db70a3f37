//! The built-in definitions: one file for each, in the format of the user's files.
//!
//! Ids, aliases and billing classes stand here once more, so that a process that needs one provider parses one file; a
//! test holds them against the files.

use tokensink_types::{BillingClass, CredentialKind};

/// One built-in definition, not parsed yet.
#[derive(Debug)]
pub(crate) struct Builtin {
    /// Its id.
    pub(crate) id: &'static str,
    /// Its aliases, lower-case.
    pub(crate) aliases: &'static [&'static str],
    /// What its credentials cost.
    billing: BillingClass,
    /// The kinds of credential that cost something else.
    other_billing: &'static [(CredentialKind, BillingClass)],
    /// The name of its file, for messages.
    pub(crate) file: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

impl Builtin {
    /// What a credential of this kind costs, whichever method it comes from.
    pub(crate) fn billing_for(&self, kind: CredentialKind) -> BillingClass {
        let other = self.other_billing.iter().find(|(known, _)| *known == kind);
        other.map_or(self.billing, |(_, billing)| *billing)
    }
}

/// A row of the table: the file is named by the id.
macro_rules! builtin {
    ($id:literal, [$($alias:literal),*], $billing:ident $(, $kind:ident = $other:ident)*) => {
        Builtin {
            id: $id,
            aliases: &[$($alias),*],
            billing: BillingClass::$billing,
            other_billing: &[$((CredentialKind::$kind, BillingClass::$other)),*],
            file: concat!($id, ".toml"),
            text: include_str!(concat!("builtin/", $id, ".toml")),
        }
    };
}

/// Every built-in definition, by id.
pub(crate) const BUILTIN: &[Builtin] = &[
    builtin!("amazon-bedrock", ["bedrock", "aws-bedrock"], Metered),
    builtin!(
        "anthropic",
        [],
        Metered,
        OAuth = Subscription,
        Token = Subscription
    ),
    builtin!("anthropic-compatible", [], Metered),
    builtin!("cerebras", [], Metered),
    builtin!("chutes", [], Prepaid),
    builtin!("claude-cli", [], Subscription),
    builtin!("deepgram", [], Prepaid),
    builtin!("deepseek", [], Prepaid),
    builtin!("github-copilot", [], Subscription),
    builtin!("google", [], Metered),
    builtin!("google-vertex", [], Metered),
    builtin!("groq", [], Metered),
    builtin!("kimi", ["kimi-code", "kimi-coding"], Subscription),
    builtin!("minimax", [], Subscription),
    builtin!("minimax-portal", ["minimax-cli"], Subscription),
    builtin!("mistral", [], Metered),
    builtin!("moonshot", [], Prepaid),
    builtin!("openai", [], Metered),
    builtin!("openai-codex", ["codex"], Subscription),
    builtin!("openai-compatible", [], Metered),
    builtin!("opencode", ["opencode-zen"], Prepaid),
    builtin!("opencode-go", ["opencode-go-auth"], Subscription),
    builtin!("openrouter", [], Prepaid),
    builtin!("qwen", ["modelstudio", "qwencloud"], Subscription),
    builtin!("qwen-portal", [], Free),
    builtin!("synthetic", [], Subscription),
    builtin!("venice", [], Prepaid),
    builtin!("vercel-ai-gateway", [], Prepaid),
    builtin!("volcengine", ["bytedance", "doubao"], Metered),
    builtin!("xai", [], Metered, OAuth = Subscription),
    builtin!("zai", ["z.ai", "z-ai"], Subscription),
];
