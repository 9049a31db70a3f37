//! How long the next caller waits after the holder of a refresh was killed: real processes of the command, real files
//! and locks, a strict authorization server with a grace in this process.
//!
//! `cargo xtask bench --recovery` runs it. Each round lets an access token end and does three things: a refresh that
//! nobody disturbs, a call that finds a fresh token, and a refresh whose helper is killed (SIGKILL) at a random point
//! of it, after which the wait of the next caller, or of one that waits already, is measured. Prints JSON and judges
//! nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark measures the machine and prints what it found"
)]

use std::error::Error;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokensink_authserver::{GrantType, Running, ServerConfig};
use tokensink_host::{Host, OsRandom, Random as _};

/// Seconds between two rounds: the life of an access token and a little more.
const ONE_LIFE: i64 = 3_700;
/// Seconds in which the server answers a repeated refresh.
const GRACE: u64 = 30;
/// A helper starts within milliseconds; one that never does fails the run.
const PATIENCE: Duration = Duration::from_secs(15);
/// Undisturbed refreshes that are timed first, to know how long one takes.
const WARM_UP: i64 = 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let kills = std::env::args().skip(1).find(|word| word != "--bench");
    let kills = kills.and_then(|word| word.parse().ok());
    let Some(kills) = kills else {
        eprintln!("usage: recovery <kills>");
        return ExitCode::from(2);
    };
    match Rig::new().and_then(|rig| rig.measure(kills)) {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A home, and the server that it is logged in to.
struct Rig {
    home: TempDir,
    server: Running,
}

/// How many kills came before and after the request had arrived at the server.
#[derive(Debug, Default)]
struct Points {
    before_the_request: usize,
    after_the_request: usize,
}

impl Rig {
    fn new() -> Outcome<Self> {
        let host = Host::real();
        let config = ServerConfig {
            replay_grace_seconds: GRACE,
            ..ServerConfig::default()
        };
        let server = Running::start(config, Arc::clone(&host.clock), Arc::clone(&host.random))?;
        let rig = Self {
            home: tempfile::tempdir()?,
            server,
        };
        rig.write("tokensink/providers/rig.toml", &rig.server.provider_toml("rig"))?;
        let issued = rig
            .server
            .issue("alice", &["openid", "email", "offline_access"])?;
        let refresh = issued.refresh_token.ok_or("no refresh token")?;
        let entry = json!({
            "type": "oauth", "provider": "rig", "access": issued.access_token.expose(),
            "refresh": refresh.expose(), "expires": host.clock.now().0 - 1_000, "clientId": "rig",
            "email": "alice@example.com", "accountId": "acct-alice",
        });
        let store = json!({"version": 1, "profiles": {"rig:alice": entry}}).to_string();
        rig.write("agents/main/agent/auth-profiles.json", &store)?;
        Ok(rig)
    }

    fn write(&self, relative: &str, text: &str) -> Outcome<()> {
        let path = self.home.path().join(".openclaw").join(relative);
        std::fs::create_dir_all(path.parent().ok_or("no directory")?)?;
        std::fs::write(path, text)?;
        Ok(())
    }

    /// A caller whose clock is so many seconds ahead.
    fn caller(&self, ahead: i64) -> Outcome<Child> {
        let child = Command::new(env!("CARGO_BIN_EXE_tokensink"))
            .args(["token", "--provider", "rig"])
            .env_clear()
            .env("HOME", self.home.path())
            .env("TOKENSINK_CLOCK_OFFSET_SECONDS", ahead.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(child)
    }

    /// Lets a caller run alone; how long it took.
    fn alone(&self, ahead: i64) -> Outcome<Duration> {
        let started = Instant::now();
        served(self.caller(ahead)?)?;
        Ok(started.elapsed())
    }

    fn measure(&self, kills: usize) -> Outcome<Value> {
        let mut ahead = 0;
        let mut next_life = || {
            ahead += ONE_LIFE;
            ahead
        };
        let mut refreshes = Vec::new();
        for _ in 0..WARM_UP {
            refreshes.push(self.alone(next_life())?);
        }
        let usual = Times::of("a refresh", refreshes.clone()).median();
        let (mut fresh, mut next, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut points = Points::default();
        while next.len() + waiting.len() < kills {
            let now = next_life();
            refreshes.push(self.alone(now)?);
            fresh.push(self.alone(now)?);
            let is_there = next.len() > waiting.len();
            // A refresh that was faster than its killer is not counted.
            if let Some(wait) = self.killed(next_life(), random_part(usual)?, is_there, &mut points)? {
                let waits = if is_there { &mut waiting } else { &mut next };
                waits.push(wait);
            }
        }
        let ledger = self.server.ledger();
        let cases = [
            Times::of("a fresh token, nobody killed", fresh),
            Times::of("a refresh, nobody killed", refreshes),
            Times::of("the next caller after a kill", next),
            Times::of("a caller that waits already, from the kill on", waiting),
        ];
        Ok(json!({
            "kills": kills,
            "killed_before_the_request_arrived": points.before_the_request,
            "killed_after_it_arrived": points.after_the_request,
            "repeated_requests": ledger.replays,
            "reuses": ledger.reuses,
            "cases": cases.each_ref().map(Times::to_json),
        }))
    }

    /// Kills the helper and the caller that started it after `delay`; how long another caller waited from then on. It
    /// comes after the kill, or `is_there` already.
    fn killed(
        &self,
        ahead: i64,
        delay: Duration,
        is_there: bool,
        points: &mut Points,
    ) -> Outcome<Option<Duration>> {
        let asked = self.requests();
        let mut first = self.caller(ahead)?;
        let other = is_there.then(|| self.caller(ahead)).transpose()?;
        let helper = self.helper(&mut first)?;
        std::thread::sleep(delay);
        let arrived = self.requests() > asked;
        if !helper.is_some_and(kill) {
            served(first)?;
            return other.map_or(Ok(None), |other| served(other).map(|()| None));
        }
        let started = Instant::now();
        // It may have ended already.
        let _ended = first.kill();
        served(other.map_or_else(|| self.caller(ahead), Ok)?)?;
        let wait = started.elapsed();
        first.wait()?;
        if arrived {
            points.after_the_request += 1;
        } else {
            points.before_the_request += 1;
        }
        Ok(Some(wait))
    }

    /// Refresh requests so far.
    fn requests(&self) -> u64 {
        self.server.ledger().posts(GrantType::RefreshToken)
    }

    /// The helper that `caller` has started, once it is there; none if the caller ends without one.
    fn helper(&self, caller: &mut Child) -> Outcome<Option<i32>> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(helper) = self.find_helper()? {
                return Ok(Some(helper));
            }
            if caller.try_wait()?.is_some() {
                return Ok(None);
            }
        }
        Err("the caller neither ends nor starts a helper".into())
    }

    /// By what every process shows of itself.
    fn find_helper(&self) -> Outcome<Option<i32>> {
        let home = format!("HOME={}", self.home.path().display());
        for entry in std::fs::read_dir("/proc")? {
            let dir = entry?.path();
            let Some(pid) = dir.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
                continue;
            };
            let list = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
            let has =
                |bytes: &[u8], word: &str| bytes.split(|byte| *byte == 0).any(|one| one == word.as_bytes());
            if has(&list("cmdline"), "__flight") && has(&list("environ"), &home) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }
}

/// Kills a process; false if it has ended by itself.
fn kill(pid: i32) -> bool {
    is_running(pid) && Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

fn is_running(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Waits for a caller, which must print a token.
fn served(child: Child) -> Outcome<()> {
    let output = child.wait_with_output()?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// A random part of `whole`.
fn random_part(whole: Duration) -> Outcome<Duration> {
    let mut bytes = [0; 4];
    OsRandom.fill(&mut bytes)?;
    Ok(whole.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)))
}

/// What was measured in one case, the shortest first.
struct Times {
    case: &'static str,
    times: Vec<Duration>,
}

impl Times {
    fn of(case: &'static str, mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { case, times }
    }

    /// The time below which this many of a hundred are.
    fn percentile(&self, percent: usize) -> Duration {
        let place = self.times.len().saturating_sub(1) * percent / 100;
        self.times.get(place).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.percentile(50)
    }

    fn to_json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
        json!({
            "case": self.case,
            "count": self.times.len(),
            "median_ms": ms(self.median()),
            "p90_ms": ms(self.percentile(90)),
            "max_ms": ms(self.percentile(100)),
        })
    }
}
