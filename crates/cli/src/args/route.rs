//! `route` (spec.md 15.7).

use clap::Args;

/// `route`.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    /// The chat channel, e.g. telegram
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: String,

    /// The account there that got the message (default: the default account)
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<String>,

    /// The conversation: dm, direct, group or channel, and its id, e.g. group:42
    #[arg(long, value_name = "KIND:ID", allow_hyphen_values = true)]
    pub(crate) peer: Option<String>,

    /// The server of the chat program
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) guild: Option<String>,

    /// The team of the chat program
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) team: Option<String>,

    /// Print an object with the reason
    #[arg(long)]
    pub(crate) json: bool,
}
