//! Running programs as named, timed steps.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a task ended, and the exit code to leave with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl Failure {
    /// A failure of our own, exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// `cargo` with arguments, in the top of the repository; the same cargo that started us.
///
/// It is not told of which package we are a program: build scripts that watch those variables (ring's does) would run
/// again, and all that stands on them be compiled anew, each time that a task follows a plain `cargo` command.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = program(cargo, arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(tells_the_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that `cargo run` sets for the program of a package.
fn tells_the_package(name: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
    name == "CARGO_PRIMARY_PACKAGE" || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Any program with arguments, in the top of the repository.
pub(crate) fn program<S: AsRef<OsStr>>(
    name: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root());
    command
}

/// Runs to the end with our terminal; fails with the program's exit code.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    println!("   $ {}", line(command));
    let status = command
        .status()
        .map_err(|error| Failure::new(format!("cannot start `{}`: {error}", line(command))))?;
    if status.success() {
        return Ok(());
    }
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Err(Failure {
        message: format!("`{}` failed ({status})", line(command)),
        code,
    })
}

/// What a program prints, or `None` when it cannot be started or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Steps that were run, for the summary at the end.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Runs one step under a headline and notes how long it took.
    pub(crate) fn step(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        println!("== {name}");
        let started = Instant::now();
        let outcome = work();
        self.done
            .push((name.to_owned(), started.elapsed(), outcome.is_ok()));
        outcome
    }

    /// One line per step.
    pub(crate) fn summary(&self) -> String {
        let width = self.done.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, took, ok) in &self.done {
            let word = if *ok { "ok" } else { "FAILED" };
            // Writing to a String does not fail.
            let _ = writeln!(text, "   {name:width$}  {:>7.1} s  {word}", took.as_secs_f64());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cargo_is_not_told_of_which_package_we_are() {
        // Tests are run by cargo as well, which has set it.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let command = super::cargo(["build"]);
        let removed = |name: &str| command.get_envs().any(|change| change == (name.as_ref(), None));
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_PRE"] {
            assert!(removed(name), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_INCREMENTAL",
            "PATH",
        ] {
            assert!(!removed(name), "{name}");
        }
    }

    use super::*;

    #[test]
    fn exit_codes_are_passed_on() {
        for (script, want) in [("exit 0", None), ("exit 4", Some(4)), ("exit 101", Some(101))] {
            let outcome = run(&mut program("sh", ["-c", script]));
            assert_eq!(outcome.err().map(|failure| failure.code), want, "{script}");
        }
        let failure = run(&mut program("/no/such-program-here", ["x"])).unwrap_err();
        assert!(
            failure.message.starts_with("cannot start `such-program-here x`"),
            "{failure:?}"
        );
    }

    #[test]
    fn output_is_read_only_on_success() {
        assert_eq!(
            output_of(&mut program("sh", ["-c", "echo v1"])).as_deref(),
            Some("v1\n")
        );
        assert_eq!(output_of(&mut program("sh", ["-c", "echo v1; exit 3"])), None);
    }

    #[test]
    fn the_summary_names_the_failed_step() {
        let mut steps = Steps::default();
        steps.step("fmt", || Ok(())).unwrap();
        steps.step("clippy", || Err(Failure::new("no"))).unwrap_err();
        let summary = steps.summary();
        let lines: Vec<&str> = summary.lines().collect();
        assert!(lines[0].contains("fmt") && lines[0].ends_with("ok"), "{summary}");
        assert!(
            lines[1].contains("clippy") && lines[1].ends_with("FAILED"),
            "{summary}"
        );
    }
}
