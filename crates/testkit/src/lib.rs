//! Ports that tests control, faults for every call, and a hermetic environment for real processes.
//!
//! [`TestHost`] is a whole machine in memory; [`Faults`] makes the n-th call into it fail or crash;
//! [`HermeticEnv`] runs the real binary in a home directory of its own, [`Oidc`] a real authorization server beside it, [`Upstream`] a scripted API,
//! and [`loopback`] talks to servers on this host. For tests only: everything here may panic.

#![expect(clippy::expect_used, reason = "a test kit says what is wrong by panicking")]

mod clock;
mod cutting_proxy;
mod environment;
mod faults;
mod files_check;
mod hermetic;
pub mod loopback;
mod mem_files;
mod model_api;
mod oidc;
mod processes;
mod random;
mod steer;
mod streams;
mod talk;
mod test_host;
mod transport;
mod upstream;

pub use clock::FakeClock;
pub use cutting_proxy::{CuttingProxy, How, Passed, Plan, Way};
pub use environment::MapEnvironment;
pub use faults::{ExchangeFault, Faults};
pub use files_check::check_files;
pub use hermetic::{HermeticEnv, RunOutput, RunningProgram};
pub use mem_files::MemFiles;
pub use model_api::{Asked, ModelApi};
pub use oidc::Oidc;
pub use processes::{FakeProcesses, Program, Start, Started, Talker};
pub use random::SeededRandom;
pub use rustix::io::Errno;
pub use steer::{Course, FileCall, Steer, Steered};
pub use streams::Step;
pub use talk::Reply;
pub use test_host::TestHost;
pub use transport::{Exchange, Scripted, ScriptedTransport};
pub use upstream::{Seen, Talk, Upstream};
