//! `secrets …` (spec.md 16.7).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `secrets`.
#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

/// The commands under `secrets`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Find plain secrets in files, and references that lead nowhere
    Audit(SecretsAuditArgs),
    /// Add secret providers and move plain secrets to them, by questions and answers
    Configure(SecretsConfigureArgs),
    /// Do what a plan says: write references where each gives the secret that it replaces
    Apply(SecretsApplyArgs),
    /// Look every reference up now, and tell the running processes to do the same
    Reload {
        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl SecretsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Audit(args) => args.json,
            Self::Apply(args) => args.json,
            Self::Reload { json } => *json,
            Self::Configure(_) => false,
        }
    }
}

/// `secrets audit`.
#[derive(Debug, Args)]
pub(crate) struct SecretsAuditArgs {
    /// Exit with 1 when anything is found
    #[arg(long)]
    pub(crate) check: bool,

    /// Run the programs of secret providers as well
    #[arg(long)]
    pub(crate) allow_exec: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `secrets configure`.
#[derive(Debug, Args)]
pub(crate) struct SecretsConfigureArgs {
    /// Add providers only
    #[arg(long, conflicts_with_all = ["skip_provider_setup", "agent"])]
    pub(crate) providers_only: bool,

    /// Use the providers that there are
    #[arg(long)]
    pub(crate) skip_provider_setup: bool,

    /// Only the secrets of this agent's profiles (default: of all agents, and of the config)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Apply without asking once more
    #[arg(long)]
    pub(crate) apply: bool,
}

/// `secrets apply`.
#[derive(Debug, Args)]
pub(crate) struct SecretsApplyArgs {
    /// The plan; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,

    /// Check everything and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Allow the plan to run the programs of secret providers
    #[arg(long)]
    pub(crate) allow_exec: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
