//! The least that a command of this workspace can be: clap's help and one line of output. `cargo xtask bench` runs it
//! beside `tokensink`. It deliberately knows nothing of logins.
#![expect(clippy::print_stdout, reason = "printing one line is all it does")]

use clap::Parser;

/// Greets.
#[derive(Debug, Parser)]
struct Hello {
    /// Whom
    #[arg(default_value = "world")]
    name: String,
}

fn main() {
    let hello = Hello::parse();
    println!("hello, {}", hello.name);
}
