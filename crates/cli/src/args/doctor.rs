//! `doctor` (spec.md 18.1).

use clap::Args;
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended without a loss; what cannot is asked for in a terminal
    #[arg(long, alias = "repair")]
    pub(crate) fix: bool,

    /// Mend as --fix does, and do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// With --fix: leave alone what would be asked for
    #[arg(long)]
    pub(crate) non_interactive: bool,

    /// Only look for copies of one grant, and show every place of each
    #[arg(long, conflicts_with_all = ["fix", "yes", "net"])]
    pub(crate) duplicates: bool,

    /// Also try the network: connect to the token endpoints, without credentials
    #[arg(long)]
    pub(crate) net: bool,

    /// Only this agent's logins
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
