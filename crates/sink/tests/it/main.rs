//! The sink as a library: a machine in memory, an authorization server in the same process, and every fault that
//! can be had there. Time is advanced, never slept.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod acquire;
mod agents;
mod agreement;
mod answers;
mod calls;
mod doctor;
mod external;
mod faults;
mod onboard;
mod outage;
mod probe;
mod renewal;
mod restored;
mod rivals;
mod secrets;
mod turns;
mod world;
