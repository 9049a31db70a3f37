//! The built-in definitions: one file for each, in the format of the user's files.
//!
//! Ids and aliases stand here once more, so that a process that needs one provider parses one file; a test holds
//! them against the files.

/// One built-in definition, not parsed yet.
#[derive(Debug)]
pub(crate) struct Builtin {
    /// Its id.
    pub(crate) id: &'static str,
    /// Its aliases, lower-case.
    pub(crate) aliases: &'static [&'static str],
    /// The name of its file, for messages.
    pub(crate) file: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

/// A row of the table: the file is named by the id.
macro_rules! builtin {
    ($id:literal, [$($alias:literal),*]) => {
        Builtin {
            id: $id,
            aliases: &[$($alias),*],
            file: concat!($id, ".toml"),
            text: include_str!(concat!("builtin/", $id, ".toml")),
        }
    };
}

/// Every built-in definition, by id.
pub(crate) const BUILTIN: &[Builtin] = &[
    builtin!("amazon-bedrock", ["bedrock", "aws-bedrock"]),
    builtin!("anthropic", []),
    builtin!("anthropic-compatible", []),
    builtin!("cerebras", []),
    builtin!("chutes", []),
    builtin!("claude-cli", []),
    builtin!("deepgram", []),
    builtin!("deepseek", []),
    builtin!("github-copilot", []),
    builtin!("google", []),
    builtin!("google-vertex", []),
    builtin!("groq", []),
    builtin!("kimi", ["kimi-code", "kimi-coding"]),
    builtin!("minimax", []),
    builtin!("minimax-portal", ["minimax-cli"]),
    builtin!("mistral", []),
    builtin!("moonshot", []),
    builtin!("openai", []),
    builtin!("openai-codex", ["codex"]),
    builtin!("openai-compatible", []),
    builtin!("opencode", ["opencode-zen"]),
    builtin!("opencode-go", ["opencode-go-auth"]),
    builtin!("openrouter", []),
    builtin!("qwen", ["modelstudio", "qwencloud"]),
    builtin!("qwen-portal", []),
    builtin!("synthetic", []),
    builtin!("venice", []),
    builtin!("vercel-ai-gateway", []),
    builtin!("volcengine", ["bytedance", "doubao"]),
    builtin!("xai", []),
    builtin!("zai", ["z.ai", "z-ai"]),
];
