//! The server on real sockets, and the rig of the npm package `oidc-provider` that stands beside it: what one says
//! about a strict server, the other confirms.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests talk to real sockets and a real process, and read the real clock of that process"
)]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod oidc;
mod sockets;
