//! Tests of the host: its real implementations against the real machine, and what stands on the ports in memory.

#![expect(
    clippy::disallowed_methods,
    reason = "tests of the real ports need the real world on the other side"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers among them")]

mod atomic;
mod bounded;
mod browser;
mod callback;
mod dialogue;
mod files;
mod http_server;
mod lock;
mod peers;
mod processes;
mod streams;
mod transport;
