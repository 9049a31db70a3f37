//! `cargo xtask bench`: how fast the command and a warm `acquire` are, as ratios to a baseline of the same run.
//!
//! Whole processes are started in turns with a hello-world command and with one that merely reads and parses the same
//! file, so that whatever else the machine does falls on all of them alike. What one call costs inside a process is
//! measured by `crates/sink/benches/warm.rs`. An aim that is missed is reported, and fails nothing: a speed is no test.
//! What is measured, and a table of one run, stands in docs/benchmarks.md.

mod gateway;
mod process;
mod recovery;
mod report;
mod stats;

use std::path::{Path, PathBuf};

use crate::args::BenchOptions;
use crate::built::Built;
use crate::run::Failure;
use process::{Program, Sample};
use report::{Calls, Report, Row};

pub(crate) use gateway::train as train_gateway;
pub(crate) use process::print_peak;

/// Sizes of the stores.
const PROFILES: [usize; 2] = [5, 1000];
/// Rounds that are timed, and batches of the calls inside a process.
const ROUNDS: usize = 60;
const BATCHES: usize = 200;
/// The same with `--quick`.
const ROUNDS_QUICK: usize = 30;
const BATCHES_QUICK: usize = 40;
/// Rounds before the first that is timed.
const WARM_UP: usize = 3;

/// Builds, measures, reports.
pub(crate) fn run(options: &BenchOptions) -> Result<(), Failure> {
    if options.gateway {
        return gateway::run(options);
    }
    if options.recovery {
        return recovery::run(options);
    }
    let tools = Tools::build()?;
    let temp = TempDir::new()?;
    let mut report = Report::new(if options.quick { ROUNDS_QUICK } else { ROUNDS });
    for profiles in PROFILES {
        for records in [true, false] {
            let store = Store::prepare(&tools, &temp.0, profiles, records)?;
            eprintln!("   measuring with {}", store.title());
            for (name, words) in store.commands() {
                report
                    .rows
                    .push(measure(&tools, &store, name, &words, report.rounds)?);
            }
            let batches = if options.quick { BATCHES_QUICK } else { BATCHES };
            let calls = store.program(&tools.warm, &["measure", &batches.to_string()]);
            report.calls.push(Calls {
                profiles,
                records,
                cases: calls.json()?,
            });
        }
    }
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    Ok(())
}

/// One command beside its baselines, in turns.
fn measure(
    tools: &Tools,
    store: &Store,
    name: &'static str,
    words: &[&str],
    rounds: usize,
) -> Result<Row, Failure> {
    let file = store.file().to_string_lossy().into_owned();
    let programs = [
        store.program(&tools.hello, &[]),
        store.program(&tools.read, &[&file]),
        store.program(&tools.tokensink, words),
    ];
    let mut samples: Vec<[Sample; 3]> = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        let mut found = [Sample::default(); 3];
        for turn in 0..programs.len() {
            // Each goes first in turn, so that none always runs on the caches that another has left.
            let which = (turn + round) % programs.len();
            found[which] = programs[which].time()?;
        }
        if round >= WARM_UP {
            samples.push(found);
        }
    }
    let mut peak_kib = [0; 3];
    for (peak, program) in peak_kib.iter_mut().zip(&programs) {
        *peak = program.peak_kib()?;
    }
    Ok(Row {
        profiles: store.profiles,
        records: store.records,
        command: name,
        samples,
        peak_kib,
    })
}

/// The programs that are run.
struct Tools {
    tokensink: PathBuf,
    hello: PathBuf,
    read: PathBuf,
    warm: PathBuf,
}

impl Tools {
    fn build() -> Result<Self, Failure> {
        let build = [
            "build",
            "--release",
            "-p",
            "tokensink-cli",
            "-p",
            "tokensink-baseline",
        ];
        let built = Built::by_cargo(&build, None)?;
        let bench = ["bench", "--no-run", "-p", "tokensink-sink", "--bench", "warm"];
        let benches = Built::by_cargo(&bench, None)?;
        Ok(Self {
            tokensink: built.named("tokensink")?,
            hello: built.named("baseline-hello")?,
            read: built.named("baseline-read")?,
            warm: benches.named("warm")?,
        })
    }
}

/// A state dir with made-up logins.
struct Store {
    state_dir: PathBuf,
    profiles: usize,
    records: bool,
}

impl Store {
    fn prepare(tools: &Tools, temp: &Path, profiles: usize, records: bool) -> Result<Self, Failure> {
        let with = if records { "records" } else { "plain" };
        let store = Self {
            state_dir: temp.join(format!("{profiles}-{with}")),
            profiles,
            records,
        };
        store
            .program(&tools.warm, &["prepare", &profiles.to_string(), with])
            .output()?;
        Ok(store)
    }

    fn title(&self) -> String {
        report::store_title(self.profiles, self.records)
    }

    /// The store of main, as every command finds it.
    fn file(&self) -> PathBuf {
        self.state_dir.join("agents/main/agent/auth-profiles.json")
    }

    /// What is measured, by the name in the report. The last profile is the one that a search finds last.
    fn commands(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let last = match self.profiles {
            5 => "openai-codex:user4@example.com",
            _ => "anthropic:user999@example.com",
        };
        vec![
            (report::TOKEN, vec!["token", "--provider", "openai-codex"]),
            ("token --profile-id", vec!["token", "--profile-id", last]),
            ("models status --json", vec!["models", "status", "--json"]),
        ]
    }

    /// A program that sees this state dir and nothing else of our environment.
    fn program(&self, path: &Path, words: &[&str]) -> Program {
        Program {
            path: path.to_owned(),
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            state_dir: self.state_dir.clone(),
        }
    }
}

/// A directory that goes away with this value.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("tokensink-bench-{}", std::process::id()));
        std::fs::create_dir(&dir)
            .map_err(|error| Failure::new(format!("{} cannot be created: {error}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Only made-up logins are in it; what cannot be removed is harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
