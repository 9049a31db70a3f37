//! Claude Code's `settings.json`: `apiKeyHelper`, and variables under `env` for what the hook cannot say.
//!
//! Claude Code loads strict JSON only (a comment makes it ignore the whole file, seen in 2.1.329), so nothing else is
//! edited. A token of its hook goes out without the beta header of OAuth (clients.md 3.5); `ANTHROPIC_BETAS` adds it
//! (seen in 2.1.329).

use std::path::Path;

use serde_json::{Map, Value};
use tokensink_store::json as js;
use tokensink_types::{Body, Secret};

use super::{Settings, Wanted, WireRequest};
use crate::splice::{self, Edit, quoted};

/// The settings as text.
pub(super) struct ClaudeSettings {
    text: Body,
    value: Map<String, Value>,
}

impl Drop for ClaudeSettings {
    fn drop(&mut self) {
        self.value.values_mut().for_each(js::wipe);
    }
}

impl ClaudeSettings {
    /// An empty text is an empty object.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = if text.trim_ascii().is_empty() {
            "{\n}\n"
        } else {
            text
        };
        Self::of(Body::new(text))
    }

    fn of(text: Body) -> Result<Self, String> {
        let value = js::parse_object(text.expose()).map_err(|failure| {
            format!(
                "it is no JSON that Claude Code would load: {} (line {}, column {})",
                failure.why, failure.line, failure.column
            )
        })?;
        Ok(Self { text, value })
    }

    fn edit(&mut self, edit: Edit<'_>) -> Result<(), String> {
        let text = std::str::from_utf8(self.text.expose()).map_err(|error| error.to_string())?;
        *self = Self::of(splice::apply(text, &[edit])?)?;
        Ok(())
    }

    fn find(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.value.get(*first)?, |value, key| value.get(key))
    }
}

impl Settings for ClaudeSettings {
    fn get(&self, path: &[&str]) -> Option<Secret> {
        self.find(path).map(|value| Secret::new(value.to_string()))
    }

    fn set(&mut self, path: &[&str], value: &Secret) -> Result<(), String> {
        if self.get(path).as_ref() == Some(value) {
            return Ok(());
        }
        match path.split_last() {
            Some((key, parents)) if !parents.is_empty() && self.find(parents).is_none() => {
                let object = Secret::new(format!("{{{}:{}}}", quoted(key).expose(), value.expose()));
                self.set(parents, &object)
            }
            _ => self.edit(Edit::Set(path, value.clone())),
        }
    }

    fn remove(&mut self, path: &[&str], keep: usize) -> Result<(), String> {
        self.edit(Edit::Remove(path))?;
        let Some((_, parents)) = path.split_last() else {
            return Ok(());
        };
        let is_empty = self
            .find(parents)
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty);
        if parents.len() > keep && is_empty {
            return self.remove(parents, keep);
        }
        Ok(())
    }

    fn text(&self) -> Body {
        self.text.clone()
    }

    fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// What the settings shall say.
pub(super) fn wanted(request: &WireRequest, settings: &dyn Settings) -> Result<Vec<Wanted>, String> {
    let set = |path: &[&'static str], text: &str| Wanted {
        path: path.to_vec(),
        value: quoted(text),
    };
    let mut all = vec![set(&["apiKeyHelper"], &command_line(request)?)];
    let (betas, others): (Vec<_>, Vec<_>) = request
        .headers
        .iter()
        .partition(|(name, _)| name.eq_ignore_ascii_case("anthropic-beta"));
    let variable = |name: &'static str| -> Option<String> {
        let found: Value = serde_json::from_str(settings.get(&["env", name])?.expose()).ok()?;
        found.as_str().map(str::to_owned)
    };
    if !betas.is_empty() {
        let present = variable("ANTHROPIC_BETAS").unwrap_or_default();
        let added = betas.iter().flat_map(|(_, value)| value.split(','));
        all.push(set(&["env", "ANTHROPIC_BETAS"], &with_betas(&present, added)));
    }
    if !others.is_empty() {
        let present = variable("ANTHROPIC_CUSTOM_HEADERS").unwrap_or_default();
        all.push(set(
            &["env", "ANTHROPIC_CUSTOM_HEADERS"],
            &with_headers(&present, &others)?,
        ));
    }
    if let Some(base_url) = &request.base_url {
        all.push(set(&["env", "ANTHROPIC_BASE_URL"], base_url));
    }
    Ok(all)
}

/// The hook is a line for the shell.
fn command_line(request: &WireRequest) -> Result<String, String> {
    let program = request
        .program
        .to_str()
        .filter(|_| Path::new(&request.program).is_absolute())
        .ok_or("the program's path is not absolute, or not UTF-8")?;
    let words = std::iter::once(program).chain(request.args.iter().map(String::as_str));
    let words: Vec<String> = words.map(shell_word).collect();
    Ok(words.join(" "))
}

/// A word that a POSIX shell reads back as `text`.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A list with commas, each member once.
fn with_betas<'a>(present: &'a str, added: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for beta in present.split(',').chain(added).map(str::trim) {
        if !beta.is_empty() && !all.contains(&beta) {
            all.push(beta);
        }
    }
    all.join(",")
}

/// Lines of `Name: value`; one that is added takes the place of one of the same name.
fn with_headers(present: &str, added: &[&(String, String)]) -> Result<String, String> {
    let is_added = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        !added.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let mut lines: Vec<String> = present
        .lines()
        .filter(|line| !line.trim().is_empty())
        .filter(is_added)
        .map(str::to_owned)
        .collect();
    for (name, value) in added {
        if [name, value].iter().any(|part| part.contains(['\r', '\n'])) {
            return Err(format!("the header {name:?} has more than one line"));
        }
        lines.push(format!("{name}: {value}"));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell() {
        let cases = [
            ("/usr/bin/tokensink", "/usr/bin/tokensink"),
            ("anthropic:ann@example.com", "anthropic:ann@example.com"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ];
        for (text, want) in cases {
            assert_eq!(shell_word(text), want);
        }
    }

    #[test]
    fn lists_are_merged() {
        assert_eq!(with_betas("", ["a", " b"].into_iter()), "a,b");
        assert_eq!(with_betas("x, a", ["a", "b"].into_iter()), "x,a,b");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let added = [header("X-Team", "1")];
        let added: Vec<_> = added.iter().collect();
        assert_eq!(
            with_headers("x-team: 0\nx-other: 2\n", &added).unwrap(),
            "x-other: 2\nX-Team: 1"
        );
        let torn = [header("X-Team", "1\n2")];
        assert!(with_headers("", &torn.iter().collect::<Vec<_>>()).is_err());
    }
}
