//! The crate from outside, in memory and on real files.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these tests stand in for the system, and say what is wrong by panicking"
)]

mod keychain;
mod reading;
mod support;
