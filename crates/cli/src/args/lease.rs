//! `token`, `exec` and `renew`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use tokensink_types::ProfileId;

use super::values;
use crate::complete;

/// Whose credential is wanted.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Wanted {
    /// Provider; its first profile that can be used serves
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// This profile and no other
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::profiles))]
    pub(crate) profile_id: Option<ProfileId>,
}

/// What every request for a lease can say.
#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    #[command(flatten)]
    pub(crate) wanted: Wanted,

    /// The agent that asks (default: the default agent)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// How long the token must still live, e.g. 10m; a bare number counts seconds
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    pub(crate) min_ttl: Option<Duration>,

    /// How long to wait for a refresh, or the end of a bench (default: 90s); the refresh goes on without
    /// us
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    pub(crate) wait: Option<Duration>,
}

/// `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,

    /// Print an object with the token, its expiry and its profile
    #[arg(long)]
    pub(crate) json: bool,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,

    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `renew`.
#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// Only the logins of this agent (default: of all)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Print an array of outcomes
    #[arg(long)]
    pub(crate) json: bool,
}
