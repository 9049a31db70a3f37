//! The refresh protocol as a pure machine: events in, actions out
