//! Hello world plus the bare cost of a store: reads `auth-profiles.json` whole, parses it as JSON and prints one
//! number. `cargo xtask bench` runs it beside `tokensink`. It deliberately checks, keeps and wipes nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures what reading and parsing cost without any of our layers"
)]

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use serde_json::Value;

/// Counts the profiles of a store.
#[derive(Debug, Parser)]
struct Read {
    /// The file
    file: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let read = Read::parse();
    let bytes = std::fs::read(&read.file)?;
    let store: Value = serde_json::from_slice(&bytes)?;
    println!(
        "{}",
        store["profiles"].as_object().map_or(0, serde_json::Map::len)
    );
    Ok(())
}
