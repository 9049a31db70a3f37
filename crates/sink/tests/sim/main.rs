//! The simulator: the real store, locks, records and refresh code on a machine in memory, at which every call can go
//! wrong, judged by an oracle that knows only the server's books and the bytes on the disk.
//!
//! A world (`world`) is forked for each run. A run (`run`) is a plan (`plan`): who asks when, and what goes wrong at
//! which call. Processes take turns call by call (`stage`), as their seed says, so that a run can be repeated:
//! `cargo xtask simulate --seed <seed or point>` prints its trace.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod broken;
mod dice;
mod disk;
mod nets;
mod oracle;
mod plan;
mod ports;
mod replay;
mod run;
mod seeds;
mod stage;
mod sweep;
mod world;
