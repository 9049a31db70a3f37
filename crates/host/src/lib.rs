//! The machine as seen by tokensink: ports for everything that is not computation, and their one real implementation.
//!
//! [`Clock`], [`Random`], [`Environment`], [`Files`], [`Transport`] and [`Processes`] are traits, bundled in [`Host`];
//! no other crate reads the time, the environment or a file in any other way (`clippy.toml` bans it). All of them
//! are synchronous: a decision is never split over an await point, and a test can count, fail or crash every call.
//!
//! On top of the ports stand the few things that need care and are needed everywhere: atomic replacement of files
//! ([`atomic`]), kernel locks with a deadline ([`lock`]), and the HTTP transport that tells a request that never
//! left from one that may have arrived ([`Transport`]).

mod ports;

pub use ports::{
    Clock, ConnectError, ConnectPhase, Connection, Environment, ExchangeError, FileHandle, FileStamp, Files,
    Host, Limits, Liveness, OpenMode, ProcessRequest, Processes, Random, StdioSource, Transport,
};
