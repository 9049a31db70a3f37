//! The store as its users see it: whole files in, whole files out, on files in memory and on real ones.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod it {
    mod contention;
    mod faults;
    mod golden;
    mod legacy;
    mod sessions;
    mod store;
    mod support;
}
