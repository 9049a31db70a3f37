//! The `tokensink` command.

fn main() {}
