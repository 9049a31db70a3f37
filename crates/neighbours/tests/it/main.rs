//! The crate from outside, in memory and on real files.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these tests stand in for the system, and say what is wrong by panicking"
)]

mod crashes;
mod keychain;
mod locks;
mod moving;
mod reading;
mod support;
mod wire;
mod write;
