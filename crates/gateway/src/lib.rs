//! The local gateway: any tool that speaks the Anthropic or OpenAI API points its base URL here, and every request goes
//! out with the credential of the account that [`Sink::acquire`](tokensink_sink::Sink::acquire) chose.
//!
//! What it promises: bodies pass as they came, both ways, and each event of a stream as it arrives; a failure goes to
//! the next account only where nothing can be billed twice; a cut upstream is a cut answer, never a clean end; no
//! caller without a key. It knows no provider: what goes where is in the lease.
//!
//! [`Gateway::start`] is synchronous; the event loop runs on threads of its own.

pub mod api;
mod attempts;
mod bounds;
mod client;
mod directory;
pub mod guard;
mod landings;
mod leases;
mod log;
mod metrics;
pub mod openapi;
mod outcome;
mod outfit;
mod relay;
mod replay;
pub mod request;
mod server;
mod slots;
pub mod socket;
mod stream;
mod threads;
mod ties;
mod time;
mod upkeep;
mod upstream;
mod watcher;

pub use bounds::Bounds;
pub use server::{Gateway, Options, Running, StartError};
