//! Building programs that are run afterwards.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{Failure, cargo, output_of, program};

/// The variable of compiler flags in which a flag may hold spaces, as a path may. Cargo reads it instead of `RUSTFLAGS`.
const ENCODED: &str = "CARGO_ENCODED_RUSTFLAGS";
/// What stands between flags in it.
const FLAGS_APART: &str = "\x1f";

/// Programs that cargo has built: names and paths.
pub(crate) struct Built(Vec<(String, PathBuf)>);

impl Built {
    /// Runs cargo, with a further flag for the compiler if there is one.
    pub(crate) fn by_cargo(arguments: &[&str], flag: Option<&str>) -> Result<Self, Failure> {
        let shown = flag
            .map(|flag| format!("RUSTFLAGS={flag:?} "))
            .unwrap_or_default();
        eprintln!("   $ {shown}cargo {}", arguments.join(" "));
        let flags = flag.map(|flag| {
            let variable = |name: &str| std::env::var(name).ok();
            flags_with(
                flag,
                variable(ENCODED).as_deref(),
                variable("RUSTFLAGS").as_deref(),
            )
        });
        let output = cargo(arguments)
            .arg("--message-format=json-render-diagnostics")
            .envs(flags.map(|flags| (ENCODED, flags)))
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::new(format!("cargo cannot be started: {error}")))?;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "`cargo {}` failed ({})",
                arguments.join(" "),
                output.status
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let programs = messages.filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        });
        Ok(Self(programs.collect()))
    }

    /// One of them.
    pub(crate) fn named(&self, name: &str) -> Result<PathBuf, Failure> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, path)| path.clone())
            .ok_or_else(|| Failure::new(format!("cargo built no program {name}")))
    }
}

/// A flag behind those that cargo would have used: those of [`ENCODED`] or else of `RUSTFLAGS`. Encoded.
fn flags_with(flag: &str, encoded: Option<&str>, plain: Option<&str>) -> String {
    let others: Vec<&str> = match encoded {
        Some(encoded) => encoded.split(FLAGS_APART).collect(),
        None => plain.unwrap_or_default().split_whitespace().collect(),
    };
    let all: Vec<&str> = others
        .into_iter()
        .filter(|flag| !flag.is_empty())
        .chain([flag])
        .collect();
    all.join(FLAGS_APART)
}

/// What this compiler builds for when nobody says otherwise.
pub(crate) fn host() -> Result<String, Failure> {
    let says = output_of(&mut program("rustc", ["-vV"])).unwrap_or_default();
    let host = says.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("`rustc -vV` does not say what it builds for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_comes_behind_those_that_cargo_would_have_used() {
        let flag = "-Cprofile-use=a path";
        assert_eq!(flags_with(flag, None, None), flag);
        assert_eq!(
            flags_with(flag, None, Some("-g  -Copt-level=1")),
            format!("-g\x1f-Copt-level=1\x1f{flag}")
        );
        assert_eq!(
            flags_with(flag, Some("--cfg\x1fa b"), Some("-g")),
            format!("--cfg\x1fa b\x1f{flag}"),
            "cargo does not read the other variable then"
        );
        assert_eq!(flags_with(flag, Some(""), Some("-g")), flag);
    }
}
