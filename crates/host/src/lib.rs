//! The machine as seen by tokensink: ports for everything that is not computation, and their one real implementation.
//!
//! [`Clock`], [`Random`], [`Environment`], [`Files`], [`Transport`] and [`Processes`] are traits, bundled in [`Host`];
//! no other crate reads the time, the environment or a file in any other way (`clippy.toml` bans it). All of them
//! are synchronous: a decision is never split over an await point, and a test can count, fail or crash every call.
//!
//! On top of the ports stand the few things that need care and are needed everywhere: atomic replacement of files
//! ([`atomic`]), kernel locks with a deadline ([`lock`]), the HTTP transport that tells a request that never left from
//! one that may have arrived ([`HttpTransport`]), the loopback listener for OAuth redirects ([`callback`]), the small
//! HTTP server under the test authorization server ([`http_server`]) and the user's browser ([`browser`]).

mod answer_stream;
pub mod atomic;
mod bounded;
pub mod browser;
pub mod callback;
mod deadline;
mod dialogue;
mod end_watch;
pub mod http_server;
pub mod lock;
mod os_files;
mod os_processes;
mod os_watch;
mod os_world;
mod ports;
mod real;
mod service_manager;
mod ticker;
mod transport;
mod wake;

pub use answer_stream::{AnswerStream, Arrived};
pub use callback::{BindError, CallbackListener, CallbackRequest, StopHandle};
pub use dialogue::{Dialogue, DialogueLimits, DialogueRequest, Farewell, Heard, SayError};
pub use end_watch::EndWatch;
pub use lock::{Holder, KernelLock, LockError, Wait};
pub use os_files::OsFiles;
pub use os_processes::{OsProcesses, detach_self, start_anew};
pub use os_world::{OsRandom, ProcessEnvironment, SystemClock};
pub use ports::{
    BoundedEnd, BoundedError, BoundedRequest, Bounds, ChildProcess, Clock, ConnectError, ConnectPhase,
    Connection, DirWatch, Ended, Environment, ExchangeError, FileFacts, FileHandle, FileKind, FileStamp,
    Files, HelperReport, Host, Limits, Liveness, OpenMode, ProcessRequest, Processes, Random, StdioSource,
    Transport,
};
pub use service_manager::{ServiceManager, ServiceState};
pub use ticker::Ticker;
pub use transport::{
    ByteStream, CONNECT_TIME, Destination, Dialed, Dialer, HttpTransport, Stream, in_words, poll_write_parts,
};
