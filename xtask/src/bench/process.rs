//! Starting a program and finding out what it cost.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::Value;

use crate::run::Failure;

/// What one run took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// From before the start to after the end.
    pub(super) wall: Duration,
    /// In the program and in the kernel for it.
    pub(super) cpu: Duration,
}

/// A program to run.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) state_dir: PathBuf,
}

impl Program {
    fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", &self.state_dir)
            .env("OPENCLAW_STATE_DIR", &self.state_dir)
            .stdin(Stdio::null());
        command
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{} {}: {what}", self.path.display(), self.args.join(" ")))
    }

    /// Runs it once, its output going nowhere.
    pub(super) fn time(&self) -> Result<Sample, Failure> {
        let mut command = self.command(&self.path);
        command
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let before = children()?;
        let started = Instant::now();
        let status = command.status();
        let wall = started.elapsed();
        let after = children()?;
        match status {
            Ok(status) if status.success() => Ok(Sample {
                wall,
                cpu: cpu(&after).saturating_sub(cpu(&before)),
            }),
            Ok(status) => Err(self.failure(&format!("it failed ({status})"))),
            Err(error) => Err(self.failure(&format!("it cannot be started: {error}"))),
        }
    }

    /// Runs it and returns what it prints.
    pub(super) fn output(&self) -> Result<Vec<u8>, Failure> {
        let mut command = self.command(&self.path);
        let output = command.args(&self.args).stderr(Stdio::inherit()).output();
        match output {
            Ok(output) if output.status.success() => Ok(output.stdout),
            Ok(output) => Err(self.failure(&format!("it failed ({})", output.status))),
            Err(error) => Err(self.failure(&format!("it cannot be started: {error}"))),
        }
    }

    /// Runs it and reads what it prints as JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.output()?)
            .map_err(|error| self.failure(&format!("it printed no JSON: {error}")))
    }

    /// The most memory that it has resident at once, in KiB. The kernel tells that of all children together only, so
    /// a process of its own starts it. Nothing below the size of that process can be seen.
    pub(super) fn peak_kib(&self) -> Result<u64, Failure> {
        let this = std::env::current_exe()
            .map_err(|error| Failure::new(format!("our own program is not known: {error}")))?;
        let output = self
            .command(&this)
            .arg(crate::args::PEAK)
            .arg(&self.path)
            .args(&self.args)
            .stderr(Stdio::inherit())
            .output();
        let text = output.map_err(|error| self.failure(&error.to_string()))?.stdout;
        let text = String::from_utf8_lossy(&text);
        text.trim()
            .parse()
            .map_err(|_| self.failure("its peak memory could not be measured"))
    }
}

/// `cargo xtask __peak <program> [args...]`: runs the program and prints its peak memory in KiB.
pub(crate) fn print_peak(words: &[String]) -> Result<(), Failure> {
    let (program, args) = words
        .split_first()
        .ok_or_else(|| Failure::new("no program is given"))?;
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Failure::new(format!("{program} cannot be started: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("{program} failed ({status})")));
    }
    let peak = children()?.max_rss();
    // Linux counts in KiB, macOS in bytes.
    println!(
        "{}",
        if cfg!(target_os = "macos") {
            peak / 1024
        } else {
            peak
        }
    );
    Ok(())
}

fn children() -> Result<Usage, Failure> {
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|error| Failure::new(format!("the system does not tell what a program cost: {error}")))
}

fn cpu(usage: &Usage) -> Duration {
    duration(usage.user_time()) + duration(usage.system_time())
}

fn duration(time: TimeVal) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec())) + Duration::from_micros(part(time.tv_usec()))
}
