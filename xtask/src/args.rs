//! The command line of xtask.

use crate::fuzz::SECONDS;

/// Printed for `--help` and after a mistake.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask <task>

  test [--full] [filter...]   install what the tests need, then run them (with a filter: those whose names contain it)
                              --full adds the browser, the big real programs, long storms, soaks and fuzzing
  bench [--quick] [--json]    measure whole commands and warm calls beside their baselines (docs/benchmarks.md)
  bench --gateway [...]       measure the gateway beside nginx, which is installed if missing, and a bare proxy
  bench --recovery [...]      measure how long the next caller waits after the holder of a refresh was killed
  dist                        build tokensink as it is packaged: guided by what the load of the benchmark executes
  fuzz [target...] [--seconds N]
                              run the fuzz targets (docs/simulation.md), each for N seconds (default 30)
  simulate [--minutes N]      crash and fail the real code in memory, from seed to seed, until the time is over
           [--runs N] [--from N]   so many seeds, from this one on
           --seed <seed|point>     one run again, with the trace of its calls
  layers                      check which crate may use which
  ci [--full]                 everything that a change must pass: fmt, layers, clippy, doc, test; --full adds deny
  deny [--advisories]         check licences, bans and sources of all dependencies; --advisories also fetches RustSec's list";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    Test(TestOptions),
    Simulate(SimulateOptions),
    Dist,
    Layers,
    Fuzz(FuzzOptions),
    Bench(BenchOptions),
    /// Runs a program and prints its peak memory; `bench` starts it.
    Peak(Vec<String>),
    Ci {
        full: bool,
    },
    Deny {
        advisories: bool,
    },
}

/// Which tests to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// Also the long ones.
    pub(crate) full: bool,
    /// Parts of test names; empty for all.
    pub(crate) filters: Vec<String>,
}

/// What to fuzz.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FuzzOptions {
    /// Names of targets; empty for all.
    pub(crate) targets: Vec<String>,
    /// How long each of them runs.
    pub(crate) seconds: u64,
}

/// What to simulate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SimulateOptions {
    /// One run: a seed, or a point of the sweep by its name.
    pub(crate) seed: Option<String>,
    /// The first seed.
    pub(crate) from: Option<u64>,
    /// How many seeds.
    pub(crate) runs: Option<u64>,
    /// For how many minutes.
    pub(crate) minutes: Option<u64>,
}

/// How to measure.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    /// Fewer rounds.
    pub(crate) quick: bool,
    /// JSON on standard output instead of tables.
    pub(crate) json: bool,
    /// The gateway instead of commands.
    pub(crate) gateway: bool,
    /// The wait after a kill instead of commands.
    pub(crate) recovery: bool,
}

/// The task that [`Task::Peak`] stands for; it is not for people.
pub(crate) const PEAK: &str = "__peak";

/// Reads the arguments after `cargo xtask`.
pub(crate) fn parse(given: &[String]) -> Result<Task, String> {
    let Some((task, rest)) = given.split_first() else {
        return Err("no task is given".to_owned());
    };
    match task.as_str() {
        "help" | "--help" | "-h" => Ok(Task::Help),
        "test" => test(rest),
        "simulate" => simulate(rest),
        "dist" => flag(rest, "dist", None).map(|_| Task::Dist),
        "layers" => flag(rest, "layers", None).map(|_| Task::Layers),
        "fuzz" => fuzz(rest),
        "bench" => bench(rest),
        PEAK => Ok(Task::Peak(rest.to_vec())),
        "ci" => flag(rest, "ci", Some("--full")).map(|full| Task::Ci { full }),
        "deny" => flag(rest, "deny", Some("--advisories")).map(|advisories| Task::Deny { advisories }),
        other => Err(format!("there is no task {other:?}")),
    }
}

fn test(rest: &[String]) -> Result<Task, String> {
    let mut options = TestOptions::default();
    for word in rest {
        match word.as_str() {
            "--full" => options.full = true,
            other if other.starts_with('-') => return Err(format!("`test` has no option {other}")),
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Ok(Task::Test(options))
}

fn fuzz(rest: &[String]) -> Result<Task, String> {
    let mut options = FuzzOptions {
        targets: Vec::new(),
        seconds: SECONDS,
    };
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let number = words.next().and_then(|word| word.parse().ok());
                options.seconds = number
                    .filter(|seconds| *seconds > 0)
                    .ok_or("--seconds wants a number of at least 1")?;
            }
            other if other.starts_with('-') => return Err(format!("`fuzz` has no option {other}")),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(Task::Fuzz(options))
}

fn bench(rest: &[String]) -> Result<Task, String> {
    let mut options = BenchOptions::default();
    for word in rest {
        match word.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--gateway" => options.gateway = true,
            "--recovery" => options.recovery = true,
            other => return Err(format!("`bench` has no argument {other:?}")),
        }
    }
    Ok(Task::Bench(options))
}

fn simulate(rest: &[String]) -> Result<Task, String> {
    let mut options = SimulateOptions::default();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("`simulate {word}` takes a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("`{word}` takes a number, not {value:?}"))
        };
        match word.as_str() {
            "--seed" => options.seed = Some(value.clone()),
            "--from" => options.from = Some(number()?),
            "--runs" => options.runs = Some(number()?),
            "--minutes" => options.minutes = Some(number()?),
            other => return Err(format!("`simulate` has no argument {other:?}")),
        }
    }
    Ok(Task::Simulate(options))
}

fn flag(rest: &[String], task: &str, allowed: Option<&str>) -> Result<bool, String> {
    match rest.iter().find(|word| Some(word.as_str()) != allowed) {
        Some(word) => Err(format!("`{task}` has no argument {word:?}")),
        None => Ok(!rest.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tasks() {
        let test = |full, filters: &[&str]| {
            Ok(Task::Test(TestOptions {
                full,
                filters: filters.iter().map(|text| (*text).to_owned()).collect(),
            }))
        };
        let fuzz = |targets: &[&str], seconds| {
            Ok(Task::Fuzz(FuzzOptions {
                targets: targets.iter().map(|text| (*text).to_owned()).collect(),
                seconds,
            }))
        };
        let no = |message: &str| Err(message.to_owned());
        let cases = [
            ("", no("no task is given")),
            ("--help", Ok(Task::Help)),
            ("test", test(false, &[])),
            ("test order --full select", test(true, &["order", "select"])),
            ("test --nope", no("`test` has no option --nope")),
            ("fuzz", fuzz(&[], SECONDS)),
            ("fuzz jwt --seconds 5 words", fuzz(&["jwt", "words"], 5)),
            ("fuzz --seconds", no("--seconds wants a number of at least 1")),
            ("fuzz --seconds 0", no("--seconds wants a number of at least 1")),
            ("fuzz --fast", no("`fuzz` has no option --fast")),
            ("dist", Ok(Task::Dist)),
            ("dist --plain", no("`dist` has no argument \"--plain\"")),
            ("bench", Ok(Task::Bench(BenchOptions::default()))),
            (
                "bench --json --quick",
                Ok(Task::Bench(BenchOptions {
                    quick: true,
                    json: true,
                    ..BenchOptions::default()
                })),
            ),
            (
                "bench --gateway",
                Ok(Task::Bench(BenchOptions {
                    gateway: true,
                    ..BenchOptions::default()
                })),
            ),
            (
                "bench --recovery",
                Ok(Task::Bench(BenchOptions {
                    recovery: true,
                    ..BenchOptions::default()
                })),
            ),
            ("bench fast", no("`bench` has no argument \"fast\"")),
            ("__peak a b", Ok(Task::Peak(vec!["a".to_owned(), "b".to_owned()]))),
            (
                "simulate --from 5 --runs 7",
                Ok(Task::Simulate(SimulateOptions {
                    from: Some(5),
                    runs: Some(7),
                    ..SimulateOptions::default()
                })),
            ),
            (
                "simulate --seed strict-own-second-dead/torn/3",
                Ok(Task::Simulate(SimulateOptions {
                    seed: Some("strict-own-second-dead/torn/3".to_owned()),
                    ..SimulateOptions::default()
                })),
            ),
            ("simulate --minutes", no("`simulate --minutes` takes a value")),
            (
                "simulate --minutes long",
                no("`--minutes` takes a number, not \"long\""),
            ),
            ("simulate --fast 1", no("`simulate` has no argument \"--fast\"")),
            ("layers", Ok(Task::Layers)),
            ("layers --full", no("`layers` has no argument \"--full\"")),
            ("ci", Ok(Task::Ci { full: false })),
            ("ci --full", Ok(Task::Ci { full: true })),
            ("ci quick", no("`ci` has no argument \"quick\"")),
            ("deny", Ok(Task::Deny { advisories: false })),
            ("deny --advisories", Ok(Task::Deny { advisories: true })),
            ("tset", no("there is no task \"tset\"")),
        ];
        for (line, want) in cases {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(parse(&words), want, "{line:?}");
        }
    }
}
