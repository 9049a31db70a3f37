//! One thing that goes wrong at one call of a refresh, for every call: the points of the sweep.
//!
//! A point is named by its world, its kind and the number of the call: `strict-own-second-dead/power-after/37`. After
//! it another process asks two seconds later, and everybody an hour later.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokensink_testkit::Errno;

use crate::plan::{Act, Caller, Intruder, Loss as Left, Plan, Trouble};
use crate::run::{Loss, Outcome, play};
use crate::world::{Base, Layout, Server, Spec};

/// How soon another process asks after the trouble; well within a grace of 30 s.
const SOON: Duration = Duration::from_secs(2);
/// Bounds of the window in which a strict server's answer can be lost: calls of one process between the server's
/// commit and the record of its answer. If more points lose a login, the window has grown.
const WINDOW: usize = 12;
const HOUR: i64 = 3_600_000;

/// The kinds of crash: before or after the call, of the process or of the machine.
pub(crate) const CRASHES: [&str; 7] = [
    "crash-before",
    "crash-after",
    "torn",
    "power-before",
    "power-after",
    "reordered-before",
    "reordered-after",
];
/// The kinds of error that a call can end with, and what else can happen at it.
pub(crate) const ERRORS: [&str; 10] = [
    "enospc",
    "eio",
    "erofs",
    "eacces",
    "eintr",
    "ebusy",
    "done-eio",
    "done-eintr",
    "short-enospc",
    "lost-sync",
];
/// What others do at a call.
pub(crate) const OTHERS: [&str; 7] = [
    "clock-back",
    "clock-forth",
    "suspend",
    "older-image",
    "respelled",
    "other-account",
    "blanked",
];

/// One point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) spec: Spec,
    pub(crate) kind: &'static str,
    pub(crate) call: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.spec, self.kind, self.call)
    }
}

impl Point {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let spec = Spec::parse(parts.next()?)?;
        let wanted = parts.next()?;
        let call = parts.next()?.parse().ok()?;
        let mut kinds = CRASHES.iter().chain(&ERRORS).chain(&OTHERS);
        let kind = kinds.find(|kind| **kind == wanted)?;
        Some(Self { spec, kind, call })
    }

    fn trouble(self) -> Trouble {
        let mixed = Left::Mixed(self.call as u64 * 31 + 7);
        match self.kind {
            "crash-before" => Trouble::CrashBefore,
            "crash-after" => Trouble::CrashAfter,
            "torn" => Trouble::Torn,
            "power-before" => Trouble::PowerBefore(Left::All),
            "power-after" => Trouble::PowerAfter(Left::All),
            "reordered-before" => Trouble::PowerBefore(mixed),
            "reordered-after" => Trouble::PowerAfter(mixed),
            "enospc" => Trouble::Fail(Errno::NOSPC),
            "eio" => Trouble::Fail(Errno::IO),
            "erofs" => Trouble::Fail(Errno::ROFS),
            "eacces" => Trouble::Fail(Errno::ACCESS),
            "eintr" => Trouble::Fail(Errno::INTR),
            "ebusy" => Trouble::Fail(Errno::BUSY),
            "done-eio" => Trouble::FailAfter(Errno::IO),
            "done-eintr" => Trouble::FailAfter(Errno::INTR),
            "short-enospc" => Trouble::Short(Errno::NOSPC),
            "lost-sync" => Trouble::LostSync,
            "clock-back" => Trouble::Clock(-5 * HOUR),
            "clock-forth" => Trouble::Clock(5 * HOUR),
            "suspend" => Trouble::Suspend(Duration::from_secs(5 * 3600)),
            "older-image" => Trouble::Intrude(Intruder::OlderImage),
            "respelled" => Trouble::Intrude(Intruder::Reordered),
            "other-account" => Trouble::Intrude(Intruder::OtherAccount),
            _ => Trouble::Intrude(Intruder::Blank),
        }
    }

    pub(crate) fn plan(self) -> Plan {
        // Where several have the login, one of the others comes second.
        let first = usize::from(self.spec.layout == Layout::Inherited);
        let struck = Caller {
            user: first,
            troubles: vec![(self.call, self.trouble())],
            ..Caller::calm()
        };
        let second = Caller {
            user: first + 1,
            ..Caller::calm()
        };
        Plan {
            seed: self.call as u64,
            acts: vec![Act::of(self.spec.start(), struck), Act::of(SOON, second)],
        }
    }
}

/// What a sweep has found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) points: usize,
    pub(crate) lost: BTreeMap<(Server, &'static str), usize>,
    pub(crate) sends: usize,
    pub(crate) cases: BTreeMap<crate::oracle::Case, u64>,
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Takes in a run.
    pub(crate) fn note(&mut self, name: &str, server: Server, outcome: &Outcome) {
        self.sends += outcome.sends;
        for (case, count) in &outcome.cases {
            *self.cases.entry(*case).or_default() += count;
        }
        let mut kinds: Vec<&'static str> = Vec::new();
        for loss in &outcome.losses {
            let kind = match loss {
                Loss::LostAnswer => "answer lost",
                Loss::OtherAccount => "other account",
                Loss::Blanked => "destroyed by another program",
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for kind in kinds {
            *self.lost.entry((server, kind)).or_default() += 1;
        }
        let saved = matches!(server, Server::Grace | Server::Fixed);
        if saved && outcome.losses.contains(&Loss::LostAnswer) {
            self.failures
                .push(format!("{name}: lost in spite of the server's grace"));
        }
        for violation in &outcome.violations {
            self.failures.push(format!("{name}: {violation}"));
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.sends += other.sends;
        for (key, count) in other.lost {
            *self.lost.entry(key).or_default() += count;
        }
        for (case, count) in other.cases {
            *self.cases.entry(case).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// Prints what was found, and panics where something was that must not be.
    #[expect(clippy::print_stdout, reason = "what was counted is shown")]
    pub(crate) fn settle(&self, what: &str) {
        let lost: Vec<String> = self
            .lost
            .iter()
            .map(|((server, kind), count)| format!("{count} with a {server:?} server ({kind})"))
            .collect();
        let lost = if lost.is_empty() {
            "none".to_owned()
        } else {
            lost.join(", ")
        };
        println!(
            "{what}: {} distinct points, {} requests {:?}, logins lost: {lost}, violations: {}",
            self.points,
            self.sends,
            self.cases,
            self.failures.len()
        );
        let replay = |failure: &String| {
            let point = failure.split(": ").next().unwrap_or_default();
            format!("{failure}\n    {}", again(point))
        };
        let shown: Vec<String> = self.failures.iter().take(12).map(replay).collect();
        assert!(shown.is_empty(), "{what}\n{}", shown.join("\n"));
    }
}

/// The command that does it again.
fn again(point: &str) -> String {
    if point.parse::<u64>().is_ok() || Point::parse(point).is_some() {
        format!("cargo xtask simulate --seed {point}")
    } else {
        // What the network does to a request is no point of a world; these tests are the same each time.
        "cargo nextest run -p tokensink-sink --test sim".to_owned()
    }
}

/// Names the point at which the real code panics, if it does.
pub(crate) struct At(pub(crate) String);

impl Drop for At {
    #[expect(clippy::print_stdout, reason = "where a panic came from is shown")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("a panic; again: {}", again(&self.0));
        }
    }
}

/// Every call of one world and kind.
pub(crate) fn sweep(base: &Base, kind: &'static str) -> Tally {
    let mut tally = Tally::default();
    for call in 1.. {
        let point = Point {
            spec: base.spec,
            kind,
            call,
        };
        let _at = At(point.to_string());
        let outcome = play(&base.fork(call as u64, false), &point.plan());
        if outcome.calls[0] < call {
            break;
        }
        tally.points += outcome.fired;
        tally.note(&point.to_string(), base.spec.server, &outcome);
    }
    assert!(tally.points > 0, "{kind} never came");
    tally
}

fn spec(server: Server, layout: Layout, recorded: bool, lives: bool) -> Spec {
    Spec {
        server,
        layout,
        recorded,
        lives,
    }
}

fn sweeps(specs: &[Spec], kinds: &[&'static str]) -> Tally {
    let mut all = Tally::default();
    for spec in specs {
        let base = Base::new(*spec);
        for kind in kinds {
            all.add(sweep(&base, kind));
        }
    }
    all
}

/// Crashes in worlds of one server: at least so many distinct points, within a window of losses. The tests below ask for
/// more than 10,000 together.
fn crashes(server: Server, layouts: &[(Layout, bool, bool)], at_least: usize) {
    let specs: Vec<Spec> = layouts
        .iter()
        .map(|(layout, recorded, lives)| spec(server, *layout, *recorded, *lives))
        .collect();
    let tally = sweeps(&specs, &CRASHES);
    tally.settle(&format!("crashes with a {server:?} server"));
    assert!(tally.points >= at_least, "only {} crash points", tally.points);
    let lost: usize = tally.lost.values().sum();
    let window = specs.len() * CRASHES.len() * WINDOW;
    assert!(lost <= window, "{lost} lost logins: the window has grown");
}

#[test]
fn crashes_with_a_strict_server_lose_only_what_was_not_yet_durable() {
    let layouts = [
        (Layout::Own, true, false),
        (Layout::Copied, true, false),
        (Layout::Neighbour, true, true),
    ];
    crashes(Server::Strict, &layouts, 3100);
}

#[test]
fn crashes_with_a_grace_of_30_seconds_lose_nothing() {
    let layouts = [
        (Layout::Own, true, false),
        (Layout::Inherited, true, false),
        (Layout::Twin, false, false),
    ];
    crashes(Server::Grace, &layouts, 3000);
}

#[test]
fn crashes_with_a_grace_lose_nothing_of_a_token_that_lives_or_a_neighbours() {
    let layouts = [(Layout::Own, false, true), (Layout::Neighbour, true, false)];
    crashes(Server::Grace, &layouts, 2300);
}

#[test]
fn crashes_with_a_server_that_does_not_rotate_or_forgets_the_idle() {
    crashes(Server::Fixed, &[(Layout::Own, true, false)], 900);
    crashes(Server::Idle, &[(Layout::Own, false, false)], 1000);
}

#[test]
fn every_error_of_every_call_with_a_strict_server() {
    let specs = [spec(Server::Strict, Layout::Own, true, false)];
    sweeps(&specs, &ERRORS).settle("failing calls, strict server");
}

#[test]
fn every_error_of_every_call_with_a_neighbour_or_a_grace() {
    let specs = [
        spec(Server::Grace, Layout::Neighbour, true, false),
        spec(Server::Grace, Layout::Copied, false, false),
    ];
    sweeps(&specs, &ERRORS).settle("failing calls, server with a grace");
}

#[test]
fn clocks_suspension_and_other_programs_at_every_call() {
    let specs = [
        spec(Server::Strict, Layout::Own, true, false),
        spec(Server::Strict, Layout::Copied, true, true),
    ];
    sweeps(&specs, &OTHERS).settle("clocks and other programs");
}
