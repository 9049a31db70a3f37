//! Under which name we were called. The grammar is the same under all of them; only the commands that help and
//! messages suggest carry the name that the user typed.

use std::ffi::OsStr;
use std::path::Path;

/// The name of the running program as the user knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(&'static str);

impl Name {
    /// Our own name.
    pub(crate) const OWN: Self = Self("tokensink");

    /// All names under which the grammar is accepted: our own and those of the documented system's ages
    /// (spec.md 12).
    pub(crate) const ALL: [Self; 4] = [Self::OWN, Self("openclaw"), Self("openclaw-cn"), Self("clawdbot")];

    /// The name in `argv[0]`; ours for anything unknown, such as a renamed binary.
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        let stem = argv0
            .and_then(|path| Path::new(path).file_name())
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|name| name.0 == stem)
            .unwrap_or(Self::OWN)
    }

    /// The name as text.
    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }

    /// Puts this name into the commands that a message suggests. Messages of the library say `tokensink <command>`;
    /// a path such as `tokensink/config.toml` and the word in running text stay as they are.
    pub(crate) fn in_commands(self, message: &str) -> String {
        if self == Self::OWN {
            return message.to_owned();
        }
        let mut result = String::with_capacity(message.len());
        let mut rest = message;
        while let Some(at) = rest.find("tokensink ") {
            let (before, found) = rest.split_at(at);
            result.push_str(before);
            let after = &found["tokensink ".len()..];
            if starts_command(after) && ends_word(&result) {
                result.push_str(self.0);
            } else {
                result.push_str(Self::OWN.0);
            }
            result.push(' ');
            rest = after;
        }
        result.push_str(rest);
        result
    }
}

/// The first words of our commands, as they stand in suggestions.
const COMMANDS: [&str; 13] = [
    "onboard",
    "configure",
    "models",
    "agents",
    "channels",
    "providers",
    "token",
    "exec",
    "renew",
    "completions",
    "doctor",
    "import",
    "route",
];

fn starts_command(text: &str) -> bool {
    let word = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    COMMANDS.contains(&word)
}

fn ends_word(before: &str) -> bool {
    before
        .chars()
        .next_back()
        .is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_names() {
        let cases = [
            (Some("tokensink"), "tokensink"),
            (Some("/usr/bin/openclaw"), "openclaw"),
            (Some("./openclaw-cn"), "openclaw-cn"),
            (Some("clawdbot"), "clawdbot"),
            (Some("sink"), "tokensink"),
            (Some(""), "tokensink"),
            (None, "tokensink"),
        ];
        for (argv0, want) in cases {
            assert_eq!(Name::of(argv0.map(OsStr::new)).as_str(), want, "{argv0:?}");
        }
    }

    #[test]
    fn suggestions_carry_the_name() {
        let cases = [
            ("tokensink models auth login", "openclaw models auth login"),
            ("run `tokensink models status`", "run `openclaw models status`"),
            (
                "edit tokensink/config.toml, then tokensink renew.",
                "edit tokensink/config.toml, then openclaw renew.",
            ),
            (
                "tokensink models a; tokensink agents b",
                "openclaw models a; openclaw agents b",
            ),
            ("~/.openclaw/tokensink models", "~/.openclaw/tokensink models"),
            ("the tokensink holds it", "the tokensink holds it"),
        ];
        let name = Name::of(Some(OsStr::new("openclaw")));
        for (message, want) in cases {
            assert_eq!(name.in_commands(message), want);
            assert_eq!(Name::OWN.in_commands(message), message);
        }
    }
}
