//! `chat`.

use clap::Args;
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The agent that talks (default: the default agent)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Keep the conversation, its model and its account under this name, and take it up again
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<String>,

    /// The model, e.g. opus, openai/gpt-5.1 or opus@anthropic:work (default: the session's, else the agent's)
    #[arg(long, value_name = "REF")]
    pub(crate) model: Option<String>,

    /// Ask this alone and print the answer; without a value or with - it is read from standard input
    #[arg(short, long, value_name = "PROMPT", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) prompt: Option<String>,

    /// With -p: print an object with the answer, who gave it and what failed before
    #[arg(long, requires = "prompt")]
    pub(crate) json: bool,
}
