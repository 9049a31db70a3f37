//! Which programs we know, and by what names.

use std::fmt;

use tokensink_types::{ProfileId, ProviderId};

/// A program that keeps logins of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Neighbour {
    /// Anthropic's Claude Code.
    ClaudeCode,
    /// OpenAI's Codex CLI.
    Codex,
    /// Alibaba's Qwen Code.
    QwenCode,
    /// Google's Gemini CLI.
    GeminiCli,
    /// opencode, which keeps logins of many providers.
    OpenCode,
    /// MiniMax' command line.
    MiniMax,
}

/// The names of one neighbour.
struct Names {
    word: &'static str,
    title: &'static str,
    command: &'static str,
    /// Provider, and the name of the profile under it (spec.md 3.2).
    profile: Option<(&'static str, &'static str)>,
}

impl Neighbour {
    /// All that we know, best known first.
    pub const ALL: [Self; 6] = [
        Self::ClaudeCode,
        Self::Codex,
        Self::QwenCode,
        Self::GeminiCli,
        Self::OpenCode,
        Self::MiniMax,
    ];

    fn names(self) -> Names {
        let of = |word, title, command, profile| Names {
            word,
            title,
            command,
            profile,
        };
        match self {
            Self::ClaudeCode => of(
                "claude",
                "Claude Code",
                "claude",
                Some(("anthropic", "claude-cli")),
            ),
            Self::Codex => of("codex", "Codex CLI", "codex", Some(("openai-codex", "codex-cli"))),
            Self::QwenCode => of("qwen", "Qwen Code", "qwen", Some(("qwen-portal", "qwen-cli"))),
            Self::GeminiCli => of(
                "gemini",
                "Gemini CLI",
                "gemini",
                Some(("google-gemini-cli", "gemini-cli")),
            ),
            Self::OpenCode => of("opencode", "opencode", "opencode", None),
            Self::MiniMax => of(
                "minimax",
                "MiniMax CLI",
                "minimax",
                Some(("minimax-portal", "minimax-cli")),
            ),
        }
    }

    /// The word for it on our command line and in our files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.names().word
    }

    /// The neighbour with that word, in any case; the words of the provider definitions (`cli = "claude"`) are these.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.trim();
        Self::ALL
            .into_iter()
            .find(|neighbour| neighbour.as_str().eq_ignore_ascii_case(word))
    }

    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.names().title
    }

    /// The name of its program on PATH.
    #[must_use]
    pub fn command(self) -> &'static str {
        self.names().command
    }

    /// Whose logins it keeps; `None` for opencode, which keeps many providers'.
    #[must_use]
    pub fn provider(self) -> Option<ProviderId> {
        let (provider, _) = self.names().profile?;
        ProviderId::parse(provider).ok()
    }

    /// The profile under which its login appears while the program owns it (spec.md 3.2).
    #[must_use]
    pub fn profile_id(self) -> Option<ProfileId> {
        let (_, name) = self.names().profile?;
        Some(ProfileId::of(&self.provider()?, name))
    }

    /// True where we know by which locks the program writes its login, so that its file may be the owner store
    /// (clients.md 2.4, 3.4). Of the others nothing is ever written: borrowed at most.
    #[must_use]
    pub fn may_cooperate(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::Codex)
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_and_profiles_are_the_seeds() {
        for neighbour in Neighbour::ALL {
            assert_eq!(
                Neighbour::parse(&neighbour.as_str().to_uppercase()),
                Some(neighbour)
            );
        }
        assert_eq!(Neighbour::parse("openclaw"), None);
        let id = |neighbour: Neighbour| neighbour.profile_id().map(|id| id.to_string());
        assert_eq!(id(Neighbour::ClaudeCode).as_deref(), Some("anthropic:claude-cli"));
        assert_eq!(id(Neighbour::Codex).as_deref(), Some("openai-codex:codex-cli"));
        assert_eq!(id(Neighbour::QwenCode).as_deref(), Some("qwen-portal:qwen-cli"));
        assert_eq!(id(Neighbour::OpenCode), None);
    }
}
