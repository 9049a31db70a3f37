//! Runs drawn from a seed: several processes at once, several things that go wrong, in any world.

use std::time::Duration;

use tokensink_authserver::FaultAction;
use tokensink_testkit::Errno;

use crate::dice::Dice;
use crate::plan::{Act, Caller, Intruder, Loss, Net, Plan, Trouble};
use crate::run::{Outcome, play};
use crate::sweep::{At, Tally};
use crate::world::{Base, LIFE, Layout, Server, Spec};

/// A call at which trouble comes is drawn below this; a refresh makes about 170.
const CALLS: u64 = 200;
const HOUR: u64 = 3600;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What goes wrong at a call. With a grace it must leave time for a repetition within it; who kills unused tokens must
/// not be slept away from.
fn trouble(dice: &mut Dice, spec: Spec) -> Trouble {
    let server = spec.server;
    let errno = dice.pick(&[
        Errno::NOSPC,
        Errno::IO,
        Errno::ROFS,
        Errno::ACCESS,
        Errno::INTR,
        Errno::BUSY,
    ]);
    let loss = if dice.one_in(3) {
        Loss::All
    } else {
        Loss::Mixed(dice.below(1 << 32))
    };
    // Who blanks a login that has no record, or a new one, destroys the only copy.
    let last = if spec.recorded && matches!(spec.layout, Layout::Own | Layout::Inherited) {
        Intruder::Blank
    } else {
        Intruder::OtherAccount
    };
    let intruder = dice.pick(&[Intruder::OlderImage, Intruder::Reordered, last]);
    let hours = 1 + dice.below(5);
    let millis = i64::try_from(hours * HOUR * 1000).unwrap();
    let free = !matches!(server, Server::Grace | Server::Idle);
    match dice.below(14) {
        0 => Trouble::CrashBefore,
        1 => Trouble::CrashAfter,
        2 => Trouble::Torn,
        3 => Trouble::PowerBefore(loss),
        4 => Trouble::PowerAfter(loss),
        5 => Trouble::FailAfter(errno),
        6 => Trouble::Short(Errno::NOSPC),
        7 => Trouble::LostSync,
        8 => Trouble::Pause(seconds(1 + dice.below(if free { 100 } else { 8 }))),
        9 | 10 => Trouble::Intrude(intruder),
        11 if free => Trouble::Clock(if dice.one_in(2) { millis } else { -millis }),
        12 if free => Trouble::Suspend(seconds(hours * HOUR)),
        _ => Trouble::Fail(errno),
    }
}

fn net(dice: &mut Dice, server: Server) -> Net {
    let status = dice.pick(&[400, 401, 403, 404, 408, 429, 500, 502, 503, 504]);
    let body = r#"{"error":"temporarily_unavailable"}"#.to_owned();
    let omit = |fields: &[&str]| FaultAction::Omit {
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let late = if server == Server::Grace { 8 } else { 90 };
    match dice.below(11) {
        0 => Net::CutRequest(usize::try_from(dice.below(600)).unwrap()),
        1 => Net::CutAnswer(usize::try_from(dice.below(2500)).unwrap()),
        2 => Net::Late(seconds(1 + dice.below(late))),
        3 => Net::Doubled,
        4 => Net::Answer(FaultAction::Garbage {
            handled: dice.one_in(2),
        }),
        5 => Net::Answer(FaultAction::HugeBody {
            bytes: dice.pick(&[100_000, 2_000_000]),
        }),
        6 if dice.one_in(3) => Net::Answer(FaultAction::WrongAccount {
            account: "bob".to_owned(),
        }),
        7 => Net::Answer(
            dice.pick(&[
                &["refresh_token"][..],
                &["expires_in"],
                &["refresh_token", "expires_in"],
            ])
            .pipe(omit),
        ),
        8 => Net::Answer(FaultAction::RetryAfter {
            seconds: 1 + dice.below(20),
            status: 429,
        }),
        _ => Net::Answer(FaultAction::Status { status, body }),
    }
}

/// For reading from left to right.
trait Pipe: Sized {
    fn pipe<T>(self, to: impl FnOnce(Self) -> T) -> T {
        to(self)
    }
}

impl<T> Pipe for T {}

fn caller(dice: &mut Dice, spec: Spec, may_cut: bool) -> Caller {
    let troubles = (0..dice.below(3)).map(|_| {
        let call = 1 + usize::try_from(dice.below(CALLS)).unwrap();
        (call, trouble(dice, spec))
    });
    let troubles = troubles.collect();
    let nets = if may_cut && dice.one_in(3) {
        1 + dice.below(2)
    } else {
        0
    };
    Caller {
        user: usize::try_from(dice.below(2)).unwrap(),
        wait: seconds(dice.pick(&[0, 1, 5, 20, 90])),
        rejected: dice.one_in(8),
        renews: dice.one_in(6),
        troubles,
        net: (0..nets).map(|_| net(dice, spec.server)).collect(),
    }
}

/// The run that a seed stands for.
pub(crate) fn plan(seed: u64) -> (Spec, Plan) {
    let mut dice = Dice::new(seed);
    let spec = dice.pick(&Spec::all());
    let mut acts = Vec::new();
    for number in 0..1 + dice.below(3) {
        let after = match number {
            0 => spec.start(),
            _ => dice.pick(&[seconds(0), seconds(2), seconds(40), seconds(600), LIFE]),
        };
        let count = 1 + dice.below(3);
        let callers = (0..count).map(|at| caller(&mut dice, spec, at == 0));
        let callers: Vec<Caller> = callers.collect();
        let switch = 1 + dice.below(12);
        acts.push(Act {
            after,
            callers,
            switch,
        });
        if spec.server == Server::Grace {
            // The second comes when a lock of Claude Code that somebody left behind is stale, and within the grace.
            acts.push(Act::of(seconds(2), Caller::calm()));
            acts.push(Act::of(seconds(13), Caller::calm()));
        }
    }
    (spec, Plan { seed, acts })
}

/// Worlds are built once and forked for each run.
#[derive(Default)]
pub(crate) struct Worlds(std::collections::BTreeMap<Spec, Base>);

impl Worlds {
    pub(crate) fn run(&mut self, seed: u64, traced: bool) -> (Spec, Outcome) {
        let (spec, plan) = plan(seed);
        let base = self.0.entry(spec).or_insert_with(|| Base::new(spec));
        (spec, play(&base.fork(seed, traced), &plan))
    }
}

/// Runs seeds and tells what came of them.
pub(crate) fn runs(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut worlds = Worlds::default();
    let mut tally = Tally::default();
    for seed in seeds {
        let _at = At(seed.to_string());
        let (spec, outcome) = worlds.run(seed, false);
        tally.points += outcome.fired;
        tally.note(&seed.to_string(), spec.server, &outcome);
    }
    tally
}

#[test]
fn seeds_from_0() {
    runs(0..250).settle("seeds 0 to 249, several processes");
}

#[test]
fn seeds_from_1000() {
    runs(1000..1250).settle("seeds 1000 to 1249, several processes");
}

/// Runs that showed something wrong, in production or in the oracle, when it was last looked at many of them.
#[test]
fn seeds_that_found_something() {
    let seeds = [
        465, 591, 614, 719, 738, 800, 865, 976, 1630, 1755, 2154, 2193, 2308, 2499, 2527, 2646, 2849, 3055,
        3059, 3101, 3106, 3544, 3589, 3626, 4434, 4772, 4815, 5137, 5271, 5568, 5858, 6345, 7256, 7814, 8156,
        8616, 8936, 9088, 9273, 9924,
    ];
    runs(seeds.into_iter()).settle("seeds that found something");
}

#[test]
fn a_seed_is_repeated_call_by_call() {
    for seed in [3, 17, 40, 171] {
        let (_, first) = Worlds::default().run(seed, true);
        let (_, again) = Worlds::default().run(seed, true);
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert!(first.trace.len() > 50, "seed {seed}");
    }
}
