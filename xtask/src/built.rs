//! Building programs that are run afterwards.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{Failure, cargo, output_of, program};

/// What stands between flags in `CARGO_ENCODED_RUSTFLAGS`.
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
            let others = std::env::var("RUSTFLAGS").unwrap_or_default();
            let all: Vec<&str> = others.split_whitespace().chain([flag]).collect();
            // The flag may hold a path with a space in it.
            all.join(FLAGS_APART)
        });
        let output = cargo(arguments)
            .arg("--message-format=json-render-diagnostics")
            .envs(flags.map(|flags| ("CARGO_ENCODED_RUSTFLAGS", flags)))
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::new(format!("cargo cannot be started: {error}")))?;
        if !output.status.success() {
            return Err(Failure::new("the programs to measure could not be built"));
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

/// What this compiler builds for when nobody says otherwise.
pub(crate) fn host() -> Result<String, Failure> {
    let says = output_of(&mut program("rustc", ["-vV"])).unwrap_or_default();
    let host = says.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("`rustc -vV` does not say what it builds for"))
}
