//! `cargo xtask fuzz`: the readers of foreign bytes under libFuzzer, on the stable toolchain.
//!
//! Each file in `fuzz/fuzz_targets` is a target; what it asserts is in `crates/properties`. No sanitizer is used: our code
//! has no unsafe, and the sanitizers need a nightly compiler. What a run finds new stays in the target folder; the
//! stored corpora in `fuzz/corpus` grow only by hand.

mod stats;

use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::args::FuzzOptions;
use crate::needs;
use crate::run::{Failure, Steps, cargo, output_of, program, root, run as run_program};
use stats::Stats;

/// How long each target runs where nobody says otherwise, in seconds.
pub(crate) const SECONDS: u64 = 30;
/// Longest input in bytes: just above the largest bound that a target is about, the 8 KiB of a callback's request.
const LENGTH_MAX: usize = 8200;
/// Most memory of a target, in MiB.
const MEMORY_MIB: usize = 1024;
/// Longest time of one input, in seconds.
const INPUT_SECONDS: usize = 10;

/// Builds, and runs the targets, as many at a time as there are processors; fails at the end when one crashed, hung or
/// grew too large.
pub(crate) fn run(options: &FuzzOptions) -> Result<(), Failure> {
    let mut steps = Steps::default();
    run_in(&mut steps, options)
}

/// As [`run`], noting the steps in the caller's list.
pub(crate) fn run_in(steps: &mut Steps, options: &FuzzOptions) -> Result<(), Failure> {
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        return Err(Failure::new(format!(
            "there is no fuzz target {unknown:?}; there are: {}",
            known.join(", ")
        )));
    }
    let chosen = if options.targets.is_empty() {
        known
    } else {
        options.targets.clone()
    };
    let place = Place::new()?;
    steps.step("fuzz: build", || {
        needs::cargo_fuzz()?;
        let mut build = place.cargo_fuzz("build");
        if let [one] = &chosen[..] {
            build.arg(one);
        }
        run_program(&mut build)
    })?;
    steps.step("fuzz", || place.fuzz_all(&chosen, options.seconds))
}

/// The names of the targets, in order.
fn targets() -> Result<Vec<String>, Failure> {
    let dir = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Where targets are built and what they find is kept.
struct Place {
    /// In the target folder.
    dir: PathBuf,
    /// The triple that cargo-fuzz builds for.
    triple: String,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let version = output_of(program("rustc", ["-vV"]).stdin(Stdio::null())).unwrap_or_default();
        let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            dir: needs::target_dir()?.join("fuzz"),
            triple: triple
                .ok_or_else(|| Failure::new("`rustc -vV` does not name the host"))?
                .to_owned(),
        })
    }

    /// A command of cargo-fuzz up to its target.
    fn cargo_fuzz(&self, command: &str) -> Command {
        let mut cargo = cargo(["fuzz", command, "--sanitizer", "none", "--target-dir"]);
        cargo.arg(&self.dir);
        cargo
    }

    /// A directory in it, made where it is missing.
    fn made(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        Ok(dir)
    }

    /// Runs the targets and prints a row for each that has ended. A find does not keep the others from running: one run
    /// tells everything that is to be mended.
    fn fuzz_all(&self, names: &[String], seconds: u64) -> Result<(), Failure> {
        println!("   {}", Stats::HEADLINE);
        let taken = AtomicUsize::new(0);
        let in_turn = || {
            let mut failures = Vec::new();
            while let Some(name) = names.get(taken.fetch_add(1, Ordering::Relaxed)) {
                match self.fuzz(name, seconds) {
                    Ok(stats) => println!("   {}", stats.row(name)),
                    Err(failure) => failures.push(failure.message),
                }
            }
            failures
        };
        let failures: Vec<String> = thread::scope(|scope| {
            let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
            let running: Vec<_> = (0..at_a_time).map(|_| scope.spawn(in_turn)).collect();
            let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
            ended
                .flat_map(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        if failures.is_empty() {
            return Ok(());
        }
        Err(Failure::new(failures.join("\n\n")))
    }

    /// Runs one target; its words go to a file in `logs`.
    fn fuzz(&self, name: &str, seconds: u64) -> Result<Stats, Failure> {
        let found = self.made(&format!("found/{name}"))?;
        let artifacts = self.made(&format!("artifacts/{name}"))?;
        let path = self.made("logs")?.join(format!("{name}.log"));
        let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
        let log = fs::File::create(&path).map_err(failed)?;
        let mut command = program(
            self.binary(name),
            [&found, &root().join("fuzz/corpus").join(name)],
        );
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={LENGTH_MAX}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-timeout={INPUT_SECONDS}"),
            "-print_final_stats=1".to_owned(),
            format!("-artifact_prefix={}/", artifacts.display()),
        ]);
        let words = root().join("fuzz/words").join(format!("{name}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let status = command.status().map_err(failed)?;
        let text = String::from_utf8_lossy(&fs::read(&path).map_err(failed)?).into_owned();
        if status.success() {
            return Ok(Stats::of(&text));
        }
        Err(self.failure(name, &text, &path))
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.dir.join(&self.triple).join("release").join(name)
    }

    /// What a target stopped at, and the command that shows it again.
    fn failure(&self, name: &str, log: &str, path: &Path) -> Failure {
        for line in stats::what_failed(log) {
            println!("   {line}");
        }
        let input = stats::artifact(log).unwrap_or("<input>");
        let dir = self.dir.display();
        Failure::new(format!(
            "the fuzz target {name} failed (all that it said: {}). To see it again:\n\n  cargo fuzz run -s none \
             --target-dir {dir} {name} {input}\n\nWhen it is mended, put that input into fuzz/corpus/{name}/ under a \
             name that says what it is; `cargo xtask test corpora` runs it from then on",
            path.display()
        ))
    }
}
