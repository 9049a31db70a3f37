//! What a developer or CI runs: `cargo xtask test`, `simulate`, `fuzz`, `bench`, `dist`, `layers`, `ci`, `deny`.
//!
//! Each command prints what it does before it does it, installs what is missing only after saying so, and leaves
//! with the exit code of the program that failed. It is the developer's tool: it uses the machine directly, and the
//! rule that the world comes through ports does not apply here.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the developer's tool runs programs, reads files and talks to the terminal"
)]

mod args;
mod bench;
mod built;
mod ci;
mod deny;
mod dist;
mod fuzz;
mod layers;
mod needs;
mod run;
mod simulate;
mod test;

use std::process::ExitCode;

use args::Task;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let task = match args::parse(&given) {
        Ok(task) => task,
        Err(message) => {
            eprintln!("error: {message}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let outcome = match task {
        Task::Help => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Peak(words) => bench::print_peak(&words),
        Task::Simulate(options) => simulate::run(&options),
        Task::Dist => dist::run(bench::train_gateway),
        Task::Layers => layers::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Ci { full } => ci::run(full),
        Task::Deny { advisories } => deny::run(advisories),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
