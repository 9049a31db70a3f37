//! Drivers for the tests that run many processes against one server.

pub(crate) mod crowd;
pub(crate) mod guests;
pub(crate) mod namespace;
pub(crate) mod processes;
pub(crate) mod recorder;
pub(crate) mod screen;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod stage;
pub(crate) mod wire;

/// Whether the long versions of the tests are wanted.
pub(crate) fn full() -> bool {
    std::env::var_os("TOKENSINK_TEST_FULL").is_some_and(|value| value == "1")
}
