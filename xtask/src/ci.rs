//! `cargo xtask ci`: what every change must pass, in the order of what fails fastest.

use crate::args::TestOptions;
use crate::run::{Failure, Steps, cargo, run as run_program};
use crate::{deny, layers, test};

/// Runs every step until one fails, and prints how long each took.
pub(crate) fn run(full: bool) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let outcome = run_in(&mut steps, full);
    println!("== times\n{}", steps.summary().trim_end());
    outcome
}

fn run_in(steps: &mut Steps, full: bool) -> Result<(), Failure> {
    steps.step("fmt", || run_program(&mut cargo(["fmt", "--all", "--check"])))?;
    steps.step("layers", layers::run)?;
    // --locked also makes a Cargo.lock that does not match the manifests fail here.
    let clippy = "clippy --locked --workspace --all-targets --release -- -D warnings";
    steps.step("clippy", || run_program(&mut cargo(clippy.split(' '))))?;
    steps.step("doc", || {
        let doc = "doc --locked --workspace --no-deps --release --quiet";
        run_program(cargo(doc.split(' ')).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    let options = TestOptions {
        full,
        filters: Vec::new(),
    };
    test::run_in(steps, &options)?;
    if full {
        steps.step("deny", || deny::run(false))
    } else {
        println!(
            "   (licences and bans of dependencies: `cargo xtask deny`, part of `ci --full`, since cargo-deny takes \
             minutes to compile)"
        );
        Ok(())
    }
}
