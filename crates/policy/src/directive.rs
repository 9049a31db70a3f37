//! Words of a chat that choose a model or an account: `/model Opus@anthropic:work` (spec.md 17, rules of age C2).
//!
//! What is found is taken out of the message; whether the model and the profile exist is not known here.

/// A model as a user writes it, with the profile that is to serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// `provider/model`, a bare model or an alias, as written.
    pub model: String,
    /// What stands behind the separating `@`.
    pub profile: Option<String>,
}

impl ModelRef {
    /// Splits `text` (spec.md 17.2): the first `@` behind the last `/` begins the profile, unless a date of eight
    /// digits or a name of a quantisation follows it; that belongs to the model, and the next `@` counts. An `@` at
    /// the beginning separates nothing, and neither does one with nothing behind it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let whole = || Self {
            model: text.to_owned(),
            profile: None,
        };
        let behind_slash = text.rfind('/').map_or(0, |at| at + 1);
        // A slash may also stand in a profile's name; then the part before the first `@` has the model's slash.
        let from = match text.find('@') {
            Some(at) if at > 0 && at < behind_slash => text[..at].rfind('/').map_or(0, |slash| slash + 1),
            _ => behind_slash,
        };
        let mut search = from;
        while let Some(found) = text[search..].find('@') {
            let at = search + found;
            let rest = &text[at + 1..];
            let tag = rest.split('@').next().unwrap_or_default();
            if at == 0 || is_of_model(tag) {
                search = at + 1;
                continue;
            }
            if rest.is_empty() {
                return whole();
            }
            return Self {
                model: text[..at].to_owned(),
                profile: Some(rest.to_owned()),
            };
        }
        whole()
    }
}

/// A date (`20250514`) or a quantisation (`q4_k_m`, `iq3_xs`, `8bit`) is part of a model's name.
fn is_of_model(tag: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if tag.len() == 8 && digits(tag) {
        return true;
    }
    let tag = tag.to_ascii_lowercase();
    if let Some(bits) = tag.strip_suffix("bit") {
        return digits(bits);
    }
    let quantised = tag.strip_prefix("iq").or_else(|| tag.strip_prefix('q'));
    quantised.is_some_and(|rest| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(digits) && parts.all(|part| part.chars().all(|c| c.is_ascii_alphanumeric()))
    })
}

/// A command of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// `/model`: which one is in use.
    Model,
    /// `/model status`: every model with the account that would serve it.
    ModelStatus,
    /// `/model list`, `/models`: which models there are.
    ModelList,
    /// `/model <model>[@<profile>]`.
    SetModel(ModelRef),
    /// `/model <model> --runtime <id>`, also `runtime=` or `harness=`: which program is to ask the model.
    Runtime(String),
    /// `/status`.
    Status,
    /// `/new`, `/reset`: a new session.
    NewSession,
}

/// A directive and the message without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The directive.
    pub directive: Directive,
    /// What else the message says, trimmed.
    pub rest: String,
}

/// Finds the directive of a message (spec.md 17.1): at its beginning or behind white space, with an optional colon, in
/// any case. `aliases` are configured model aliases, which work as `/alias` too. The first one counts; a list and a new
/// session are asked for at the beginning only, and are words of the message elsewhere.
#[must_use]
pub fn parse(message: &str, aliases: &[&str]) -> Option<Parsed> {
    let mut at = 0;
    while let Some(found) = message[at..].find('/') {
        let start = at + found;
        at = start + 1;
        let begins = message[..start]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace);
        if let Some((directive, end)) = begins.then(|| parse_at(message, start, aliases)).flatten() {
            let leads = message[..start].trim().is_empty();
            if !leads && matches!(directive, Directive::ModelList | Directive::NewSession) {
                continue;
            }
            let rest = format!("{} {}", message[..start].trim_end(), message[end..].trim_start());
            return Some(Parsed {
                directive,
                rest: rest.trim().to_owned(),
            });
        }
    }
    None
}

/// The words of the commands of a chat, without aliases.
pub const WORDS: [&str; 5] = ["model", "models", "status", "new", "reset"];

/// The `/word` with which a message begins, without the slash: what may be meant as a command. A path is none, and
/// neither is what follows white space.
#[must_use]
pub fn leading_word(message: &str) -> Option<&str> {
    let rest = message.strip_prefix('/')?;
    let end = end_of(rest, 0, |c| c.is_alphanumeric() || "-_".contains(c));
    let (word, after) = rest.split_at(end);
    let ends = after.chars().next().is_none_or(|c| c.is_whitespace() || c == ':');
    let is_word = word.starts_with(char::is_alphabetic);
    (is_word && ends).then_some(word)
}

/// The directive that begins with the `/` at `start`, and where it ends.
fn parse_at(message: &str, start: usize, aliases: &[&str]) -> Option<(Directive, usize)> {
    let word_end = end_of(message, start + 1, |c| c.is_alphanumeric() || "-_.".contains(c));
    let word = &message[start + 1..word_end];
    let next = message[word_end..].chars().next();
    let after_colon = word_end + usize::from(next == Some(':'));
    if next.is_some_and(|c| !c.is_whitespace() && c != ':') {
        return None;
    }
    let simple = |directive| Some((directive, after_colon));
    match word.to_ascii_lowercase().as_str() {
        "model" => Some(model_argument(message, after_colon)),
        "models" => simple(Directive::ModelList),
        "status" => simple(Directive::Status),
        "new" | "reset" => simple(Directive::NewSession),
        _ => {
            let alias = aliases.iter().find(|alias| alias.eq_ignore_ascii_case(word))?;
            Some(set_model(alias, message, after_colon))
        }
    }
}

/// What stands behind `/model`.
fn model_argument(message: &str, from: usize) -> (Directive, usize) {
    let start = end_of(message, from, char::is_whitespace);
    let end = end_of_model(message, start);
    let word = &message[start..end];
    match word.to_ascii_lowercase().as_str() {
        "" => (Directive::Model, from),
        "status" => (Directive::ModelStatus, end),
        "list" => (Directive::ModelList, end),
        _ => set_model(word, message, end),
    }
}

/// Where the model that begins at `start` ends, with its profile. A model has few characters (spec.md 17.1), while a
/// profile is often named after an e-mail address, in which nearly all may stand: it goes on to the next white space,
/// without the punctuation of the sentence.
fn end_of_model(message: &str, start: usize) -> usize {
    let plain = end_of(message, start, |c| c.is_alphanumeric() || "_.:@-/".contains(c));
    let word = &message[start..plain];
    let is_separated = ModelRef::parse(word).profile.is_some() || (word.len() > 1 && word.ends_with('@'));
    if !is_separated {
        return plain;
    }
    let white = end_of(message, plain, |c| !c.is_whitespace());
    let more = message[plain..white].trim_end_matches([',', ';', '!', '?', ')', '"', '\'']);
    plain + more.len()
}

/// The choice of a model whose name ends at `end`.
fn set_model(model: &str, message: &str, end: usize) -> (Directive, usize) {
    match runtime(message, end) {
        Some((id, end)) => (Directive::Runtime(id.to_owned()), end),
        None => (Directive::SetModel(ModelRef::parse(model)), end),
    }
}

/// The runtime that stands behind a model (spec.md 17.2), and where it ends.
fn runtime(message: &str, from: usize) -> Option<(&str, usize)> {
    let is_end = |c: char| c.is_whitespace();
    let start = end_of(message, from, is_end);
    let name_end = end_of(message, start, |c| c.is_ascii_alphanumeric() || c == '-');
    let separator = message[name_end..].chars().next();
    let value = match (message[start..name_end].to_ascii_lowercase().as_str(), separator) {
        ("runtime" | "harness" | "--runtime", Some('=')) => name_end + 1,
        ("--runtime", Some(c)) if is_end(c) => end_of(message, name_end, is_end),
        ("--runtime", None) => name_end,
        _ => return None,
    };
    let end = end_of(message, value, |c| !is_end(c));
    Some((&message[value..end], end))
}

/// The first position from `from` on whose character is not one of `those`.
fn end_of(text: &str, from: usize, those: impl Fn(char) -> bool) -> usize {
    text[from..]
        .char_indices()
        .find(|(_, c)| !those(*c))
        .map_or(text.len(), |(at, _)| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Oracle 13 of spec.md 19.
    #[test]
    fn the_profile_is_split_off() {
        let cases = [
            ("Opus@anthropic:work", "Opus", Some("anthropic:work")),
            ("x/y@20250101@p", "x/y@20250101", Some("p")),
            ("x/y@20250101", "x/y@20250101", None),
            (
                "gpt-5@openai:user@example.com",
                "gpt-5",
                Some("openai:user@example.com"),
            ),
            ("openai/gpt-5@openai:a/b@c", "openai/gpt-5", Some("openai:a/b@c")),
            ("m@q4_k_m@p", "m@q4_k_m", Some("p")),
            ("m@iq3_xs", "m@iq3_xs", None),
            ("m@8bit@p", "m@8bit", Some("p")),
            ("m@quick", "m", Some("quick")),
            ("@org/model@p", "@org/model", Some("p")),
            ("@p", "@p", None),
            ("m@", "m@", None),
            ("a@b/c@p", "a", Some("b/c@p")),
            ("m@2025010", "m", Some("2025010")),
            ("", "", None),
        ];
        for (text, model, profile) in cases {
            let parsed = ModelRef::parse(text);
            assert_eq!(
                (parsed.model.as_str(), parsed.profile.as_deref()),
                (model, profile),
                "{text}"
            );
        }
    }

    #[test]
    fn directives() {
        let set = |text: &str| Directive::SetModel(ModelRef::parse(text));
        let runtime = |id: &str| Directive::Runtime(id.to_owned());
        let cases = [
            ("/model Opus@anthropic:work", set("Opus@anthropic:work"), ""),
            ("/MODEL: opus", set("opus"), ""),
            ("/model", Directive::Model, ""),
            ("/model status", Directive::ModelStatus, ""),
            ("/model list", Directive::ModelList, ""),
            ("/models", Directive::ModelList, ""),
            ("/status", Directive::Status, ""),
            ("/new", Directive::NewSession, ""),
            ("/reset hello there", Directive::NewSession, "hello there"),
            ("please /model x/y@p answer", set("x/y@p"), "please answer"),
            ("/model opus --runtime codex", runtime("codex"), ""),
            ("/model opus@a:b --Runtime=codex go on", runtime("codex"), "go on"),
            ("/model opus runtime=pi", runtime("pi"), ""),
            ("/fast --runtime codex", runtime("codex"), ""),
            ("/model opus\nharness=\u{e4}", runtime("\u{e4}"), ""),
            ("/model opus --runtime", runtime(""), ""),
            ("/model opus runtime errors", set("opus"), "runtime errors"),
            ("/model opus --runtimes x", set("opus"), "--runtimes x"),
            ("/fast what is this", set("fast"), "what is this"),
            ("/model \u{e4}bc", set("\u{e4}bc"), ""),
            // A profile ends at white space: e-mail addresses have more characters than models.
            (
                "/model rig/small@rig:me+work@gmail.com hello",
                set("rig/small@rig:me+work@gmail.com"),
                "hello",
            ),
            (
                "/model m@rig:o'neil%x=y/z#1&2~@a.b",
                set("m@rig:o'neil%x=y/z#1&2~@a.b"),
                "",
            ),
            ("/model m@8bit@+me\tand on", set("m@8bit@+me"), "and on"),
            ("/model m@+me --runtime codex", runtime("codex"), ""),
            (
                "(use /model m@rig:a+b, please)",
                set("m@rig:a+b"),
                "(use , please)",
            ),
            ("/model m+x@p", set("m"), "+x@p"),
            ("/model m@8bit(x)", set("m@8bit"), "(x)"),
            // A list and a new session are asked for at the beginning; elsewhere they hide nothing.
            (" /new", Directive::NewSession, ""),
            (
                "hello /new then /model x/y please",
                set("x/y"),
                "hello /new then please",
            ),
            (
                "see /models or /reset: /status",
                Directive::Status,
                "see /models or /reset:",
            ),
            ("a /model list /fast", set("fast"), "a /model list"),
        ];
        for (message, directive, rest) in cases {
            let parsed = parse(message, &["fast"]).unwrap();
            assert_eq!(
                (parsed.directive, parsed.rest.as_str()),
                (directive, rest),
                "{message}"
            );
        }
        for message in [
            "",
            "hello",
            "a/model x",
            "/modelling",
            "/etc/passwd",
            "see /home/x",
            "/",
            "//model",
            "where is /new?",
            "so /new it is",
            "see /models and /model list",
        ] {
            assert_eq!(parse(message, &["fast"]), None, "{message}");
        }
    }

    #[test]
    fn what_may_be_meant_as_a_command() {
        for (message, want) in [
            ("/modle opus", Some("modle")),
            ("/help", Some("help")),
            ("/compact: now", Some("compact")),
            ("/fast-one\nx", Some("fast-one")),
            ("/etc/passwd is what?", None),
            ("/usr.", None),
            ("/ x", None),
            ("/", None),
            ("//comment", None),
            ("/2 of it", None),
            (" /modle", None),
            ("what is /tmp", None),
            ("", None),
        ] {
            assert_eq!(leading_word(message), want, "{message:?}");
        }
        for word in WORDS {
            assert!(parse(&format!("/{word}"), &[]).is_some(), "{word}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_said(message in "\\PC{0,80}", text in "[a-z0-9@/_:]{0,20}") {
            let _ = (parse(&message, &["x"]), leading_word(&message));
            let parsed = ModelRef::parse(&text);
            let joined = parsed.profile.iter().fold(parsed.model, |model, profile| format!("{model}@{profile}"));
            prop_assert_eq!(joined, text);
        }
    }
}
