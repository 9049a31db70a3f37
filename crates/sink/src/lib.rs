//! The broker: acquire, log in, store, refresh exactly once. The public library
