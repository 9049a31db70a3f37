//! The gateway on real sockets: a scripted API behind it, raw clients in front of it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests on real sockets in real time, which say what is wrong by panicking"
)]

mod bounds;
mod continuity;
mod failover;
mod isolation;
mod models;
mod passing;
mod raw;
mod routing;
mod streaming;
mod taking_over;
mod tls;
mod watching;
mod world;
