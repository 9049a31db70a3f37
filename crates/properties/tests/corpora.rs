//! Every property over its stored corpus, and over each of its inputs cut short and with bytes changed.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the corpora are files of the repository, counts are printed, and what is missing ends the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokensink_properties::{TARGETS, Target};

/// Longest time that one input may take, in a build for tests on a busy machine.
const TIME: Duration = Duration::from_secs(10);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// What does not hold for an input, in words.
fn broken(target: &Target, input: &[u8], what: &str) -> Option<String> {
    let began = Instant::now();
    let held = catch_unwind(|| (target.property)(input));
    let name = target.name;
    if held.is_err() {
        let text = String::from_utf8_lossy(input);
        return Some(format!("{name} does not hold for {what}, which is {text:?}"));
    }
    let took = began.elapsed();
    (took > TIME).then(|| format!("{name} takes {took:?} for {what}"))
}

/// Inputs near to a given one: cut short in 8 places, and a byte changed in 8 places.
fn near(input: &[u8]) -> Vec<Vec<u8>> {
    let places = || (0..8).map(|n| n * input.len() / 8);
    let cut = places().map(|at| input[..at].to_vec());
    let changed = places().filter(|_| !input.is_empty()).map(|at| {
        let mut other = input.to_vec();
        other[at] ^= [0x01, 0x20, 0x80, 0xff][at % 4];
        other
    });
    cut.chain(changed).collect()
}

/// How many inputs a target was given, and the first for which it does not hold.
fn replay_one(target: &Target) -> (usize, Option<String>) {
    let dir = fuzz().join("corpus").join(target.name);
    let mut count = 0;
    for name in names(&dir) {
        let input = fs::read(dir.join(&name)).unwrap();
        let near = near(&input);
        count += 1 + near.len();
        let first = broken(target, &input, &format!("{name} of its corpus"));
        let mut all = first.into_iter().chain(
            near.iter()
                .filter_map(|other| broken(target, other, &format!("an input near {name} of its corpus"))),
        );
        if let Some(failure) = all.next() {
            return (count, Some(failure));
        }
    }
    let empty = (count == 0).then(|| format!("{} is empty", dir.display()));
    (count, empty)
}

fn replay(is_mine: impl Fn(&str) -> bool) {
    let mut failures = Vec::new();
    for target in TARGETS.iter().filter(|target| is_mine(target.name)) {
        let began = Instant::now();
        let (count, failure) = replay_one(target);
        println!("{}: {count} inputs, {:.1?}", target.name, began.elapsed());
        failures.extend(failure);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn properties_hold_for_the_corpora_a_to_o() {
    replay(|name| name < "p");
}

#[test]
fn properties_hold_for_the_corpora_p_to_z() {
    replay(|name| name >= "p");
}

#[test]
fn every_target_has_its_file_and_its_corpus() {
    let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), known);
    let files = names(&fuzz().join("fuzz_targets"));
    assert_eq!(files, known.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &known {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
        let file = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(file.contains(&format!("run(\"{name}\", data)")), "{file}");
    }
}

#[test]
fn the_corpora_are_small() {
    let sizes = TARGETS.iter().flat_map(|target| {
        let dir = fuzz().join("corpus").join(target.name);
        names(&dir)
            .into_iter()
            .map(move |name| fs::metadata(dir.join(name)).unwrap().len())
    });
    let all: u64 = sizes.sum();
    assert!(all < 1_000_000, "{all} bytes");
}
