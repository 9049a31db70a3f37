//! `explain`: why an account was chosen.

use clap::Args;
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The id of a request or lease, e.g. from the header x-tokensink-request (default: the last one)
    #[arg(conflicts_with_all = ["provider", "agent", "model", "session"])]
    pub(crate) id: Option<String>,

    /// Tell what would be chosen now for this provider, without any effect
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// With --provider: the agent that asks (default: the default agent)
    #[arg(long, value_name = "ID", requires = "provider", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// With --provider: the model that will be called, as it is written elsewhere
    #[arg(long, value_name = "NAME", requires = "provider")]
    pub(crate) model: Option<String>,

    /// With --provider: the session whose account counts
    #[arg(long, value_name = "KEY", requires = "provider")]
    pub(crate) session: Option<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
