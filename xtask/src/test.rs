//! `cargo xtask test`: the tests of a change, with what they need.

use crate::args::{FuzzOptions, TestOptions};
use crate::run::{Failure, Steps, cargo, run as run_program};
use crate::{fuzz, needs};

/// Installs what is missing, builds, runs all tests, then the examples in the documentation, and with `--full` the fuzz
/// targets.
pub(crate) fn run(options: &TestOptions) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let outcome = run_in(&mut steps, options);
    println!("== times\n{}", steps.summary().trim_end());
    outcome
}

/// As [`run`], noting the steps in the caller's list.
pub(crate) fn run_in(steps: &mut Steps, options: &TestOptions) -> Result<(), Failure> {
    steps.step("needs", || needs::provide(options.full))?;
    // Built first and apart, so that compiling and testing are measured each for itself.
    steps.step("build tests", || {
        run_program(&mut nextest(options, &["--no-run"]))
    })?;
    let skips = std::env::temp_dir().join(format!("tokensink-skips-{}", std::process::id()));
    let tests = steps.step("tests", || {
        run_program(nextest(options, &[]).env("TOKENSINK_TEST_SKIPS", &skips))
    });
    tell_skips(&std::fs::read_to_string(&skips).unwrap_or_default());
    // Tests that were left out have made it; otherwise it is not there.
    let _ = std::fs::remove_file(&skips);
    tests?;
    if !options.filters.is_empty() {
        println!("   (examples in the documentation are run only without a filter)");
        return Ok(());
    }
    steps.step("doc tests", || {
        run_program(&mut cargo([
            "test",
            "--doc",
            "--release",
            "--workspace",
            "--quiet",
        ]))
    })?;
    if !options.full {
        return Ok(());
    }
    fuzz::run_in(
        steps,
        &FuzzOptions {
            targets: Vec::new(),
            seconds: fuzz::SECONDS,
        },
    )
}

/// Tests that this machine does not allow, one to a line with the reason. In the long run each of them fails instead.
fn tell_skips(list: &str) {
    let count = list.lines().count();
    if count > 0 {
        println!("   {count} test(s) left out, which `--full` would not forgive:");
        for line in list.lines() {
            println!("     {line}");
        }
    }
}

/// The release profile is also the demo's, so that a fresh machine compiles once.
fn nextest(options: &TestOptions, more: &[&str]) -> std::process::Command {
    let profile = if options.full { "full" } else { "default" };
    let mut command = cargo(["nextest", "run", "--release", "--workspace", "--profile", profile]);
    command.args(more).args(&options.filters);
    if options.full {
        command.env("TOKENSINK_TEST_FULL", "1");
    }
    command
}
