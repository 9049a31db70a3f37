//! The conformance kit: what a program does to its login when the world goes wrong, seen from outside.
//!
//! Every [`Scenario`] is played in a world of its own: a strict authorization server, an API that takes only living
//! access tokens of that server, a home directory, and real processes of the program under test. A scenario decides by
//! what the server saw, what the API saw, what the program's store holds and how its processes ended; it knows nothing
//! of how the program works inside. Programs differ only behind [`Client`]: how a login gets into their store, which
//! command uses it once, and how they say that somebody must log in.
//!
//! It promises to touch nothing outside of its temporary directories, to use only loopback addresses, and to leave no
//! process behind. It does not know tokensink's own crates: tokensink is a program like any other here.

mod api;
mod client;
mod clients;
mod clock;
mod front;
mod home;
mod html;
mod process;
mod report;
mod run;
mod scenarios;
mod serve;
mod stage;
pub mod vendors;
mod world;

pub use client::{Client, Dialect, Reach, Stored, Tokens, Used};
pub use clients::{KNOWN, NotFound, find};
pub use front::Front;
pub use home::{Endpoints, Home};
pub use html::page;
pub use process::{Ended, Invocation, Stop};
pub use report::{Judged, Report, Verdict};
pub use run::{Options, Progress, run};
pub use scenarios::{SCENARIOS, Scenario};
pub use serve::{Script, ServeError, Serving, summary};
