//! `cargo xtask bench --gateway`: `tokensink serve` beside nginx and a bare hyper proxy, before the same upstream.
//!
//! Clients and upstream have one processor, the proxy that is measured the other; every round runs each of them once,
//! and ratios are of the same round, so that a slow moment of the machine falls on all. What is measured, and a table
//! of one run, stands in docs/benchmarks.md.

mod proxies;
mod report;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::TempDir;
use crate::args::BenchOptions;
use crate::built::Built;
use crate::run::{Failure, output_of, program};
use crate::{dist, needs};
use proxies::{Builds, Programs, Proxy, Upstream};
use report::{Report, Sample};

/// Rounds, and how long each proxy is asked in one, in milliseconds.
const ROUNDS: usize = 9;
const TIME: u64 = 1500;
/// The same with `--quick`.
const ROUNDS_QUICK: usize = 3;
const TIME_QUICK: u64 = 700;
/// How long a program that counts is asked in each way.
const TIME_TRAINING: u64 = 1500;

/// Something that clients do.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    connections: usize,
    /// Further arguments of the load program.
    arguments: &'static [&'static str],
}

const JSON: &str = "JSON, 16 connections";
const ALONE: &str = "JSON, 1 connection";
const BURST: &str = "20 events at once, 8 connections";

const CASES: [Case; 4] = [
    Case {
        name: JSON,
        connections: 16,
        arguments: &[],
    },
    Case {
        name: ALONE,
        connections: 1,
        arguments: &[],
    },
    Case {
        name: BURST,
        connections: 8,
        arguments: &["--stream"],
    },
    Case {
        name: "20 events, each in its own write, 8 connections",
        connections: 8,
        arguments: &["--stream", "--apart"],
    },
];

/// Builds, measures, reports.
pub(super) fn run(options: &BenchOptions) -> Result<(), Failure> {
    let nginx = needs::nginx()?;
    let builds = Builds {
        plain: Programs::of(&dist::plain()?)?,
        guided: Programs::of(&dist::guided(train)?)?,
    };
    let load = &builds.plain.load;
    let temp = TempDir::new()?;
    let pins = Pins::of_this_machine();
    let upstream = Upstream::start(&builds.plain, pins.others, None)?;
    let proxies = proxies::all(&nginx, &builds, &temp.0, &upstream, pins.proxy)?;
    let (rounds, time) = if options.quick {
        (ROUNDS_QUICK, TIME_QUICK)
    } else {
        (ROUNDS, TIME)
    };
    let mut report = Report::new(rounds, pins.describe());
    // What a first request costs is not asked here.
    for proxy in &proxies {
        for case in &CASES {
            ask(load, pins, proxy, case, 200)?;
        }
    }
    for case in &CASES {
        eprintln!("   measuring {}", case.name);
        for round in 0..rounds {
            let mut found = vec![Sample::default(); proxies.len()];
            for turn in 0..proxies.len() {
                let which = (turn + round) % proxies.len();
                found[which] = ask(load, pins, &proxies[which], case, time)?;
            }
            report.add(case.name, found);
        }
    }
    report.resident_kib = proxies.iter().map(Proxy::resident_kib).collect();
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    Ok(())
}

/// What the programs of a build that counts what it executes do meanwhile: all that is measured, and the same over TLS, as
/// providers are reached.
pub(crate) fn train(counting: &Built) -> Result<(), Failure> {
    eprintln!("   counting what is executed");
    let programs = Programs::of(counting)?;
    let temp = TempDir::new()?;
    let pins = Pins::of_this_machine();
    let certificate = temp.0.join("certificate.pem");
    for (name, certificate) in [("plain", None), ("tls", Some(certificate.as_path()))] {
        let upstream = Upstream::start(&programs, pins.others, certificate)?;
        let mut proxies = vec![proxies::ours(
            &programs.tokensink,
            &temp.0.join(name),
            &upstream,
            pins.proxy,
        )?];
        if certificate.is_none() {
            proxies.push(proxies::bare(&programs.bare, &upstream, pins.proxy)?);
        }
        for proxy in proxies {
            for case in &CASES {
                ask(&programs.load, pins, &proxy, case, TIME_TRAINING)?;
            }
            proxy.ends_by_itself()?;
        }
    }
    Ok(())
}

/// Which processors are used for what.
#[derive(Debug, Clone, Copy)]
struct Pins {
    /// Clients and upstream.
    others: Option<usize>,
    proxy: Option<usize>,
}

impl Pins {
    fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if processors < 2 || output_of(&mut program("taskset", ["--version"])).is_none() {
            return Self {
                others: None,
                proxy: None,
            };
        }
        Self {
            others: Some(0),
            proxy: Some(1),
        }
    }

    fn describe(self) -> &'static str {
        if self.proxy.is_some() {
            "clients and upstream on processor 0, the proxy on processor 1"
        } else {
            "nothing is pinned: there is one processor, or no taskset"
        }
    }
}

/// The command, on one processor if that can be had.
fn pinned(path: &Path, processor: Option<usize>) -> Command {
    match processor {
        Some(number) => {
            let mut command = Command::new("taskset");
            command.arg("-c").arg(number.to_string()).arg(path);
            command
        }
        None => Command::new(path),
    }
}

/// One proxy is asked for `time` milliseconds.
fn ask(load: &Path, pins: Pins, proxy: &Proxy, case: &Case, time: u64) -> Result<Sample, Failure> {
    let failed = |what: &str| Failure::new(format!("{}, {}: {what}", proxy.name, case.name));
    let mut command = pinned(load, pins.others);
    command
        .arg(proxy.address.to_string())
        .arg(proxy.path)
        .args(["--connections", &case.connections.to_string()])
        .args(["--time", &time.to_string()])
        .args(["--key", &proxy.key])
        .args(case.arguments);
    let before = proxy.cpu_us();
    let output = command
        .output()
        .map_err(|error| failed(&format!("the clients cannot be started: {error}")))?;
    let cpu_us = proxy.cpu_us() - before;
    let said: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        failed(&format!(
            "the clients failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    })?;
    let errors = said["errors"].as_array().map_or(0, Vec::len);
    if errors > 0 {
        return Err(failed(&format!("{errors} clients failed: {}", said["errors"][0])));
    }
    let number = |name: &str| said[name].as_f64().unwrap_or_default();
    Ok(Sample {
        per_second: number("answers") / number("seconds"),
        p50_us: number("p50_us"),
        p99_us: number("p99_us"),
        cpu_us: cpu_us / number("answers").max(1.0),
    })
}
