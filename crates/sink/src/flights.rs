//! Where a flight runs: in a thread, in a detached helper process, or in the caller's own thread.
//!
//! A caller's deadline ends its own wait and never the flight. So a library's flight runs in a thread that outlives
//! the call, and a one-shot command's flight in a helper process that outlives the command. Whoever starts one has
//! already taken the grant's kernel lock and hands it over with the flight.

use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokensink_host::lock::KernelLock;
use tokensink_host::{ProcessRequest, StdioSource};
use tokensink_refresh::{Death, Demand, Failure, Horizon, Verdict};
use tokensink_types::{AgentId, ProfileId, Secret, UnixMillis};

use crate::boarding::{Boarding, Pass, Turn};
use crate::error::{ErrorKind, Result, SinkError};
use crate::login::Cancel;
use crate::owner::{Keeper, Target};
use crate::sink::Sink;

/// How a helper is told that the grant is in the owner's own store, or where else.
const OWN_STORE: &str = "own";
const PLACE: &str = "at:";

/// How flights run.
#[derive(Debug, Clone)]
pub struct Flights {
    mode: Mode,
    boarding: Boarding,
}

#[derive(Debug, Clone)]
enum Mode {
    Thread,
    Inline,
    Helper { command: OsString },
}

/// How a flight ended for the one who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Landing {
    /// It ended.
    Verdict(Verdict),
    /// It goes on beyond the caller's deadline.
    StillFlying,
    /// The helper process died without a word, killed for example. What it did stands in the record, so the one who
    /// started it looks there.
    NoWord,
}

impl Landing {
    /// How it ended, in a stable word for metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Verdict(Verdict::Served { .. }) => "served",
            Self::Verdict(Verdict::Elsewhere { .. }) => "elsewhere",
            Self::Verdict(Verdict::TryAgain {
                outcome_unknown: true,
                ..
            }) => "unknown",
            Self::Verdict(Verdict::TryAgain { .. }) => "try_again",
            Self::Verdict(Verdict::LoginNeeded(_)) => "login_needed",
            Self::Verdict(Verdict::Gone) => "gone",
            Self::StillFlying => "still_flying",
            Self::NoWord => "no_word",
        }
    }
}

impl Flights {
    /// In a thread of this process: for libraries and long-running programs.
    #[must_use]
    pub fn threads() -> Self {
        Self::of(Mode::Thread)
    }

    /// In the caller's thread, beyond its deadline if need be: for the helper process, and for tests in which every
    /// call is counted.
    #[must_use]
    pub fn inline() -> Self {
        Self::of(Mode::Inline)
    }

    /// In a detached process of the same program, started with `command` as its first argument and the words of
    /// [`FlightArgs::to_args`] after it: for one-shot commands.
    #[must_use]
    pub fn helper(command: impl Into<OsString>) -> Self {
        Self::of(Mode::Helper {
            command: command.into(),
        })
    }

    fn of(mode: Mode) -> Self {
        Self {
            mode,
            boarding: Boarding::default(),
        }
    }

    /// Asks for the turn to go for a grant's lock.
    pub(crate) fn turn(&self, lock: &Path) -> Turn {
        self.boarding.turn(lock)
    }

    /// True when a caller's thread flies itself, one flight after the other.
    pub(crate) fn are_inline(&self) -> bool {
        matches!(self.mode, Mode::Inline)
    }
}

/// How often a caller who may give up is asked whether it has.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long somebody waits for a flight. Its end is never the flight's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience<'a> {
    time: Duration,
    cancel: Option<&'a Cancel>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(time: Duration, cancel: Option<&'a Cancel>) -> Self {
        Self { time, cancel }
    }

    /// Waits by `wait`, which is told how long at most, until that brings something.
    fn wait<T>(self, mut wait: impl FnMut(Duration) -> Option<T>) -> Option<T> {
        let Some(cancel) = self.cancel else {
            return wait(self.time);
        };
        let mut left = self.time;
        loop {
            let found = wait(left.min(ASK_EVERY));
            left = left.saturating_sub(ASK_EVERY);
            if found.is_some() || left.is_zero() || cancel.is_set() {
                return found;
            }
        }
    }
}

impl From<Duration> for Patience<'_> {
    fn from(time: Duration) -> Self {
        Self { time, cancel: None }
    }
}

/// What a helper process is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlightArgs {
    /// The agent whose store owns the profile.
    pub owner: AgentId,
    /// The profile.
    pub profile: ProfileId,
    /// The key of the other program's place that keeps the grant; `None` for the owner's own store.
    pub place: Option<String>,
    /// `usual`, `ahead`, or a number of milliseconds.
    pub horizon: String,
    /// The fingerprint of the access token that an API rejected. Another one, which somebody else has put there in
    /// the meantime, is not rejected by it.
    pub rejected: Option<String>,
}

impl FlightArgs {
    /// The arguments for a helper process.
    #[must_use]
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = vec![
            self.owner.as_str().into(),
            self.profile.as_str().into(),
            self.place
                .as_ref()
                .map_or_else(|| OWN_STORE.into(), |key| format!("{PLACE}{key}").into()),
            self.horizon.clone().into(),
        ];
        args.extend(self.rejected.as_ref().map(OsString::from));
        args
    }

    /// Reads what [`FlightArgs::to_args`] wrote.
    ///
    /// # Errors
    /// A usage error for anything else.
    pub fn parse(args: &[String]) -> Result<Self> {
        let usage = || {
            SinkError::new(
                ErrorKind::Usage,
                "bad_flight",
                "these are not the arguments of a flight",
            )
        };
        let [owner, profile, place, horizon, rest @ ..] = args else {
            return Err(usage());
        };
        let rejected = match rest {
            [] => None,
            [word] if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(word.clone())
            }
            _ => return Err(usage()),
        };
        horizon_of(horizon).ok_or_else(usage)?;
        let place = match place.strip_prefix(PLACE) {
            Some(key) => Some(key.to_owned()),
            None if place == OWN_STORE => None,
            None => return Err(usage()),
        };
        Ok(Self {
            place,
            owner: AgentId::normalise(owner),
            profile: ProfileId::parse(profile).map_err(|_| usage())?,
            horizon: horizon.clone(),
            rejected,
        })
    }
}

fn horizon_word(horizon: Horizon) -> String {
    match horizon {
        Horizon::Usual => "usual".to_owned(),
        Horizon::Ahead => "ahead".to_owned(),
        Horizon::AtLeast(time) => time.as_millis().to_string(),
    }
}

fn horizon_of(word: &str) -> Option<Horizon> {
    match word {
        "usual" => Some(Horizon::Usual),
        "ahead" => Some(Horizon::Ahead),
        number => Some(Horizon::AtLeast(Duration::from_millis(number.parse().ok()?))),
    }
}

impl Sink {
    /// Starts a flight with the lock and waits for it as long as `patience` lasts. The pass ends with the flight, as far as that
    /// is in this process.
    pub(crate) fn launch(
        &self,
        target: &Target,
        demand: Demand,
        lock: KernelLock,
        pass: Option<Pass>,
        patience: Patience<'_>,
    ) -> Landing {
        let landing = self.launched(target, demand, lock, pass, patience);
        self.tally().count(&target.profile, landing.word());
        landing
    }

    fn launched(
        &self,
        target: &Target,
        demand: Demand,
        lock: KernelLock,
        pass: Option<Pass>,
        patience: Patience<'_>,
    ) -> Landing {
        match &self.flights().mode {
            Mode::Inline => Landing::Verdict(self.fly(target, demand, &lock)),
            Mode::Thread => self.launch_thread(target, demand, (lock, pass), patience),
            Mode::Helper { command } => match self.launch_helper(command, target, &demand, lock, patience) {
                Ok(landing) => landing,
                Err(error) => Landing::Verdict(try_again(format!(
                    "the refresh helper could not be started: {error}"
                ))),
            },
        }
    }

    fn launch_thread(
        &self,
        target: &Target,
        demand: Demand,
        (lock, pass): (KernelLock, Option<Pass>),
        patience: Patience<'_>,
    ) -> Landing {
        let (sender, receiver) = mpsc::channel();
        let (sink, flown) = (self.clone(), target.clone());
        let fly = move || {
            let verdict = sink.fly(&flown, demand, &lock);
            // Released before the caller goes on, so that its next look does not find its own flight in the way.
            drop(lock);
            drop(pass);
            // The caller may have left; the flight does not depend on it.
            let _ = sender.send(verdict);
        };
        if let Err(error) = thread::Builder::new()
            .name("tokensink-flight".to_owned())
            .spawn(fly)
        {
            return Landing::Verdict(try_again(format!("no thread for the refresh: {error}")));
        }
        let landed = patience.wait(|time| match receiver.recv_timeout(time) {
            Ok(verdict) => Some(verdict),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(try_again(
                "internal error: the refresh ended without a result".to_owned(),
            )),
        });
        landed.map_or(Landing::StillFlying, Landing::Verdict)
    }

    fn launch_helper(
        &self,
        command: &OsString,
        target: &Target,
        demand: &Demand,
        lock: KernelLock,
        patience: Patience<'_>,
    ) -> std::io::Result<Landing> {
        let args = FlightArgs {
            owner: target.owner.clone(),
            profile: target.profile.clone(),
            place: target.place().map(ToString::to_string),
            horizon: horizon_word(demand.horizon),
            rejected: demand.rejected.as_ref().map(fingerprint),
        };
        let descriptor = lock.into_fd();
        let copy = descriptor.as_ref().and_then(|fd| fd.try_clone().ok());
        let stdin = descriptor.map_or(StdioSource::Null, StdioSource::Descriptor);
        let processes = &self.host().processes;
        let request = ProcessRequest {
            program: processes.this_program()?.into_os_string(),
            args: std::iter::once(command.clone()).chain(args.to_args()).collect(),
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin,
        };
        let mut report = processes.spawn_helper(request)?;
        let child = report.pid().and_then(|pid| processes.identify(pid));
        if let (Some(copy), Some(child)) = (copy, child) {
            KernelLock::note_for(self.host(), copy, &child);
        }
        let said = patience.wait(|time| report.wait(time).transpose()).transpose()?;
        Ok(said.map_or(Landing::StillFlying, |bytes| {
            read_verdict(&bytes).map_or(Landing::NoWord, Landing::Verdict)
        }))
    }

    /// The body of the helper process: takes over the lock from standard input, flies, and returns the line that the
    /// process writes to its standard output. The line holds no secret.
    ///
    /// # Errors
    /// When the profile or its lock is not what the arguments say.
    pub fn run_flight(&self, args: &FlightArgs) -> Result<String> {
        let mut target = Target::of_agent(&args.owner, &args.profile);
        if let Some(key) = &args.place {
            target.keeper = Keeper::Cooperative(key.as_str().into());
        }
        let Some(oauth) = self.stored_oauth(&target)? else {
            return Ok(write_verdict(&Verdict::Gone));
        };
        let path = self.refresh_lock_path(&oauth.provider, &target.profile);
        let lock = KernelLock::adopt_stdin(self.host(), &path).map_err(|error| {
            SinkError::new(ErrorKind::TryAgain, "lock_not_handed_over", error.to_string())
        })?;
        let rejected = match &args.rejected {
            Some(known) => self
                .grant(&target)?
                .map(|grant| grant.generation.tokens.access)
                .filter(|access| fingerprint(access) == *known),
            None => None,
        };
        let demand = Demand {
            horizon: horizon_of(&args.horizon).unwrap_or_default(),
            rejected,
        };
        Ok(write_verdict(&self.fly(&target, demand, &lock)))
    }
}

/// Names an access token on a command line, where everybody can read it, without revealing it.
fn fingerprint(access: &Secret) -> String {
    let hash = Sha256::new()
        .chain_update(b"tokensink access token 1\0")
        .chain_update(access.expose());
    hex::encode(hash.finalize())
}

fn try_again(reason: String) -> Verdict {
    Verdict::TryAgain {
        failure: Failure { reason, fix: None },
        until: None,
        outcome_unknown: false,
    }
}

fn write_verdict(verdict: &Verdict) -> String {
    let value = match verdict {
        Verdict::Served { store_behind } => json!({"served": store_behind.as_ref().map(failure_value)}),
        Verdict::Elsewhere { place } => json!({"elsewhere": place}),
        Verdict::TryAgain {
            failure,
            until,
            outcome_unknown,
        } => {
            json!({"try_again": failure_value(failure), "until": until.map(|at| at.0), "unknown": outcome_unknown})
        }
        Verdict::LoginNeeded(Death::NoRefreshToken) => json!({"dead": "no_refresh_token"}),
        Verdict::LoginNeeded(Death::OtherAccount) => json!({"dead": "other_account"}),
        Verdict::LoginNeeded(Death::Refused {
            code,
            description,
            after_lost_answer,
        }) => {
            json!({"dead": "refused", "code": code, "description": description, "lost": after_lost_answer})
        }
        Verdict::Gone => json!({"gone": true}),
    };
    value.to_string()
}

fn failure_value(failure: &Failure) -> Value {
    json!({"reason": failure.reason, "fix": failure.fix})
}

fn read_failure(value: &Value) -> Failure {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    Failure {
        reason: text("reason").unwrap_or_default(),
        fix: text("fix"),
    }
}

/// Reads a helper's line; `None` where there is none.
fn read_verdict(bytes: &[u8]) -> Option<Verdict> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    Some(verdict_of(&value))
}

fn verdict_of(value: &Value) -> Verdict {
    let text = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    if let Some(behind) = value.get("served") {
        return Verdict::Served {
            store_behind: (!behind.is_null()).then(|| read_failure(behind)),
        };
    }
    if let Some(failure) = value.get("try_again") {
        let until = value.get("until").and_then(Value::as_i64).map(UnixMillis);
        return Verdict::TryAgain {
            failure: read_failure(failure),
            until,
            outcome_unknown: flag("unknown"),
        };
    }
    if value.get("gone").is_some() {
        return Verdict::Gone;
    }
    if value.get("elsewhere").is_some() {
        return Verdict::Elsewhere {
            place: text("elsewhere"),
        };
    }
    Verdict::LoginNeeded(match text("dead").as_str() {
        "refused" => Death::Refused {
            code: text("code"),
            description: text("description"),
            after_lost_answer: flag("lost"),
        },
        "other_account" => Death::OtherAccount,
        _ => Death::NoRefreshToken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_survive_the_pipe() {
        let failure = || Failure {
            reason: "no connection".to_owned(),
            fix: Some("look".to_owned()),
        };
        let cases = [
            Verdict::Served { store_behind: None },
            Verdict::Served {
                store_behind: Some(failure()),
            },
            Verdict::Elsewhere {
                place: "main".to_owned(),
            },
            Verdict::TryAgain {
                failure: failure(),
                until: Some(UnixMillis(5)),
                outcome_unknown: true,
            },
            Verdict::LoginNeeded(Death::NoRefreshToken),
            Verdict::LoginNeeded(Death::OtherAccount),
            Verdict::LoginNeeded(Death::Refused {
                code: "invalid_grant".to_owned(),
                description: "spent".to_owned(),
                after_lost_answer: true,
            }),
            Verdict::Gone,
        ];
        for verdict in cases {
            assert_eq!(read_verdict(write_verdict(&verdict).as_bytes()), Some(verdict));
        }
        for nothing in ["", "{\"serv", "error: no room"] {
            assert_eq!(read_verdict(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn arguments_survive_the_command_line() {
        let hash = fingerprint(&"access".into());
        let place = || Some("/home/user/.codex/auth.json".to_owned());
        for (horizon, rejected, place) in [
            ("usual", None, None),
            ("ahead", Some(hash), place()),
            ("3600000", None, place()),
        ] {
            let args = FlightArgs {
                owner: AgentId::main(),
                profile: ProfileId::parse("rig:a b@c").unwrap(),
                place,
                horizon: horizon.to_owned(),
                rejected,
            };
            let words: Vec<String> = args
                .to_args()
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            assert_eq!(FlightArgs::parse(&words).unwrap(), args);
        }
        assert!(FlightArgs::parse(&["main".to_owned()]).is_err());
        for words in [
            &["main", "a:b", "own", "soon"][..],
            &["main", "a:b", "usual"],
            &["main", "a:b", "elsewhere", "usual"],
            &["main", "a:b", "own", "usual", "rejected"],
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert!(FlightArgs::parse(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn patience_ends_with_its_time_or_with_the_caller() {
        let waits = |patience: Patience<'_>, comes: usize, cancel: &Cancel| {
            let mut told = Vec::new();
            let found = patience.wait(|time| {
                told.push(time);
                if told.len() == 3 {
                    cancel.set();
                }
                (told.len() == comes).then_some(())
            });
            (found.is_some(), told.len(), told.iter().sum::<Duration>())
        };
        let seconds = Duration::from_secs;
        let cancel = Cancel::default();
        let plain = Patience::from(seconds(90));
        assert_eq!(waits(plain, 9, &cancel), (false, 1, seconds(90)));
        let watched = |time, cancel| Patience::new(seconds(time), Some(cancel));
        assert_eq!(waits(watched(2, &cancel), 9, &cancel), (false, 2, seconds(2)));
        assert_eq!(waits(watched(90, &cancel), 2, &cancel), (true, 2, seconds(2)));
        assert_eq!(waits(watched(90, &cancel), 9, &cancel), (false, 3, seconds(3)));
        assert_eq!(waits(watched(0, &cancel), 1, &cancel), (true, 1, seconds(0)));
    }
}
