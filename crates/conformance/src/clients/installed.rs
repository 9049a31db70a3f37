//! What the adapters of programs that are installed share: finding the program, its environment, its words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use tokensink_host::{Host, ProcessRequest, StdioSource};
use tokensink_types::Secret;

use super::NotFound;
use crate::api::HELLO;
use crate::client::{Stored, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation};

/// How long a program may take to tell its version.
const VERSION_TIME: Duration = Duration::from_secs(60);

/// What is known of a program before it is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The kit's name for it, which is its name on PATH.
    pub(super) name: &'static str,
    /// The command that installs the version that the kit was written against.
    pub(super) install: &'static str,
}

impl Wanted {
    /// It cannot be run.
    pub(super) fn missing(self, why: String) -> NotFound {
        NotFound::NotInstalled {
            name: self.name.to_owned(),
            why,
            install: self.install.to_owned(),
        }
    }
}

/// A program that is installed.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// As it tells it itself.
    pub(super) version: String,
}

impl Program {
    /// The program at `program`, or the first of its name on PATH.
    pub(super) fn find(host: &Host, wanted: Wanted, program: Option<PathBuf>) -> Result<Self, NotFound> {
        let missing = |why: String| wanted.missing(why);
        let path = match program {
            Some(path) => path,
            None => on_path(host, wanted.name)
                .ok_or_else(|| missing(format!("no program {} is on PATH", wanted.name)))?,
        };
        let path = host
            .files
            .canonical(&path)
            .map_err(|error| missing(format!("{}: {error}", path.display())))?;
        let request = ProcessRequest {
            program: path.clone().into(),
            args: vec!["--version".into()],
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin: StdioSource::Null,
        };
        let output = host
            .processes
            .output(request, VERSION_TIME)
            .map_err(|error| missing(format!("{} --version: {error}", path.display())))?;
        let version = version_in(&String::from_utf8_lossy(&output));
        Ok(Self { path, version })
    }

    /// The environment in which it meets the kit's servers instead of the internet.
    pub(super) fn variables(&self, home: &Home) -> Result<Vec<(OsString, OsString)>, String> {
        let missing = "its endpoints are fixed, and the kit's proxy does not run";
        let proxy = home.endpoints.proxy.as_ref().ok_or(missing)?;
        let ca = home.endpoints.ca.as_ref().ok_or(missing)?;
        let mut variables = home.variables();
        variables.push(("HTTPS_PROXY".into(), proxy.into()));
        // For Node's own fetch, and for programs that bring their own certificates.
        variables.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
        variables.push(("NODE_EXTRA_CA_CERTS".into(), ca.into()));
        Ok(variables)
    }

    /// A command line of it in the home.
    pub(super) fn invocation(
        &self,
        args: &[&str],
        env: Vec<(OsString, OsString)>,
        home: &Home,
        time: Duration,
    ) -> Invocation {
        Invocation {
            program: self.path.clone().into(),
            args: args.iter().map(Into::into).collect(),
            env,
            dir: home.root().to_owned(),
            input: Vec::new(),
            time,
        }
    }
}

fn on_path(host: &Host, name: &str) -> Option<PathBuf> {
    let path = host.env.var("PATH")?;
    let is_program = |path: &PathBuf| {
        let stamp = host.files.stat(path).ok().flatten();
        stamp.is_some_and(|stamp| !stamp.is_dir && stamp.mode & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(Path::new(name)))
        .find(is_program)
}

/// The first word that begins with a digit: `codex-cli 0.169.0`, `2.1.329 (Claude Code)`, `OpenClaw 2026.5.28 (…)`.
fn version_in(text: &str) -> String {
    let starts_with_digit = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    text.split_whitespace()
        .find(starts_with_digit)
        .unwrap_or("unknown")
        .to_owned()
}

/// The login in a store that is JSON: the object at `place`, its access and refresh token at these pointers in it.
pub(super) fn login_in(store: &[u8], place: &str, [access, refresh]: [&str; 2]) -> Stored {
    let value: Value = match serde_json::from_slice(store) {
        Ok(value) => value,
        Err(error) => return Stored::Unreadable(error.to_string()),
    };
    match value.pointer(place) {
        None | Some(Value::Null) => Stored::Nothing,
        Some(login) => Stored::Login {
            access: text_at(login, access).map(Secret::new),
            refresh: text_at(login, refresh).map(Secret::new),
        },
    }
}

/// What became of one use, which asks the API for its greeting; `login_needed` are the texts with which the program says
/// that nothing but a login helps.
pub(super) fn outcome_of(ended: &Ended, login_needed: &[&str]) -> Used {
    if ended.code == Some(0) && ended.output.contains(HELLO) {
        return Used::Served;
    }
    if said_any(ended, login_needed) {
        return Used::LoginNeeded;
    }
    Used::Failed(in_words(ended))
}

/// Whether one of its outputs has one of these texts in it.
fn said_any(ended: &Ended, texts: &[&str]) -> bool {
    texts
        .iter()
        .any(|text| ended.output.contains(text) || ended.complaint.contains(text))
}

/// How it ended, and the last that it said about it.
fn in_words(ended: &Ended) -> String {
    let last = |text: &str| {
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(str::to_owned)
    };
    let said = last(&ended.complaint)
        .or_else(|| last(&ended.output))
        .unwrap_or_default();
    let code = ended
        .code
        .map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"));
    format!("{code}, {said}")
}

/// The text at a JSON pointer, unless it is empty.
fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// A store with the members of `login` in the place of its own, objects within objects too; what else is in it stays.
pub(super) fn with_members(store: Option<Vec<u8>>, login: Value) -> Value {
    let mut whole = store
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .filter(Value::is_object)
        .unwrap_or_else(|| Value::Object(Map::new()));
    merge(&mut whole, login);
    whole
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_prints() {
        for (text, version) in [
            ("codex-cli 0.169.0\n", "0.169.0"),
            ("2.1.329 (Claude Code)\n", "2.1.329"),
            ("\nOpenClaw 2026.5.28 (e932160)\n", "2026.5.28"),
            ("what?", "unknown"),
        ] {
            assert_eq!(version_in(text), version, "{text:?}");
        }
    }

    #[test]
    fn a_login_replaces_the_older_one_and_nothing_else() {
        let store = json!({"login": {"token": "old", "note": 1}, "other": {"x": [1]}}).to_string();
        let login = json!({"login": {"token": "new", "ends": 5}});
        let whole = with_members(Some(store.into_bytes()), login.clone());
        assert_eq!(
            whole,
            json!({"login": {"token": "new", "note": 1, "ends": 5}, "other": {"x": [1]}})
        );
        for unreadable in [None, Some(b"{".to_vec()), Some(b"[]".to_vec())] {
            assert_eq!(with_members(unreadable, login.clone()), login);
        }
    }

    #[test]
    fn the_last_line_says_why() {
        let ended = |code, output: &str, complaint: &str| Ended {
            code,
            output: output.to_owned(),
            complaint: complaint.to_owned(),
            took: Duration::ZERO,
        };
        let one = ended(Some(1), "", "warning\nit is over\n\n");
        assert_eq!(in_words(&one), "exit 1, it is over");
        assert!(said_any(&one, &["is over"]));
        assert_eq!(in_words(&ended(None, "half", "")), "killed, half");
    }
}
