//! `demo`.

use clap::Args;

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the throw-away state directory, and say where it is
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print the account as an object; progress goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
}
