//! Fault-injecting ports and a hermetic environment, for tests only
