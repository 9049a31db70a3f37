//! The `tokensink` command: arguments → sink → rendering, and exit codes.
//!
//! It promises that standard output holds data and nothing else, that a secret never stands in an argument, a log or
//! a message, and that every failure names the command that mends it. It decides nothing about credentials: that is
//! the sink's work.

mod allocator;
mod app;
mod args;
mod ask;
mod commands;
mod complete;
mod demo;
mod exit;
mod logging;
mod name;
mod printer;
mod render;
mod secret_input;
mod ui;

use std::process::ExitCode;

use tokensink_host::ProcessEnvironment;

fn main() -> ExitCode {
    app::run(std::env::args_os().collect(), &ProcessEnvironment).into()
}
