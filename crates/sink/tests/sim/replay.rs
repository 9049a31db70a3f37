//! What `cargo xtask simulate` starts: one run with its trace, or many for as long as one likes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::run::{Outcome, play};
use crate::seeds::{Worlds, runs};
use crate::sweep::{Point, Tally};
use crate::world::Base;

/// Seeds that one thread takes at a time.
const PORTION: u64 = 50;

/// What the command says by these variables.
fn wish(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo xtask simulate speaks to this test so"
    )]
    std::env::var(name).ok()
}

#[test]
#[ignore = "started by `cargo xtask simulate`"]
fn simulate() {
    if let Some(seed) = wish("TOKENSINK_SIMULATE_SEED") {
        let outcome = one(&seed);
        println!("{}", outcome.trace.join("\n"));
        println!(
            "losses: {:?}\nviolations: {:#?}",
            outcome.losses, outcome.violations
        );
        assert_eq!(outcome.violations, Vec::<String>::new());
        return;
    }
    let number = |name: &str| wish(name).and_then(|text| text.parse::<u64>().ok());
    let from = number("TOKENSINK_SIMULATE_FROM").unwrap_or(0);
    let runs = number("TOKENSINK_SIMULATE_RUNS").unwrap_or(u64::MAX - from);
    let minutes = number("TOKENSINK_SIMULATE_MINUTES").unwrap_or(u64::from(u32::MAX));
    long(from, from + runs, Duration::from_secs(minutes * 60));
}

/// A seed, or a point of the sweep by its name.
#[expect(clippy::print_stdout, reason = "what is replayed is shown")]
fn one(seed: &str) -> Outcome {
    if let Ok(seed) = seed.parse() {
        println!("{:#?}", crate::seeds::plan(seed));
        return Worlds::default().run(seed, true).1;
    }
    let point =
        Point::parse(seed).unwrap_or_else(|| panic!("{seed:?} is neither a number nor world/kind/call"));
    play(
        &Base::new(point.spec).fork(point.call as u64, true),
        &point.plan(),
    )
}

fn long(from: u64, to: u64, time: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a long run ends by the clock on the wall"
    )]
    let started = Instant::now();
    let next = AtomicU64::new(from);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while started.elapsed() < time {
                    let first = next.fetch_add(PORTION, Ordering::Relaxed);
                    if first >= to {
                        break;
                    }
                    let tally = runs(first..to.min(first + PORTION));
                    all.lock().unwrap().add(tally);
                }
            });
        }
    });
    let last = next.into_inner().min(to);
    let all = all.into_inner().unwrap();
    all.settle(&format!(
        "seeds {from} to {} in {:?}",
        last - 1,
        started.elapsed()
    ));
}
