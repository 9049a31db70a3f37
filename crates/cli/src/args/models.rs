//! `models …`: status, the catalogue, the default model, its fallbacks and aliases (spec.md 12.1).

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use tokensink_sink::ProfileId;

use super::auth::{AuthCommand, OrderCommand};
use crate::complete;

/// `models`; alone it is `models status`.
#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// The agent (default: the default agent)
    #[arg(long, global = true, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// The status as JSON (without a subcommand)
    #[arg(long, visible_alias = "json")]
    pub(crate) status_json: bool,

    /// Only the default model (without a subcommand)
    #[arg(long, visible_alias = "plain", conflicts_with = "status_json")]
    pub(crate) status_plain: bool,

    #[command(subcommand)]
    pub(crate) command: Option<ModelsCommand>,
}

/// The commands under `models`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Which models are configured and whether their logins work
    Status(StatusArgs),
    /// List models
    List(ListArgs),
    /// Set the default model
    Set {
        /// Model as <provider>/<model>, or an alias
        model: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Set the model for images
    SetImage {
        /// Model as <provider>/<model>, or an alias
        model: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Short names for models
    #[command(subcommand)]
    Aliases(AliasCommand),
    /// Models to try when the default model fails
    #[command(subcommand)]
    Fallbacks(FallbackCommand),
    /// Models to try when the image model fails; all agents share them
    #[command(subcommand)]
    ImageFallbacks(FallbackCommand),
    /// Log in, store and remove credentials, and set their order
    #[command(subcommand)]
    Auth(AuthCommand),
}

impl ModelsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Status(args) => args.json,
            Self::List(args) => args.json,
            Self::Set { json, .. } | Self::SetImage { json, .. } => *json,
            Self::Aliases(command) => command.wants_json(),
            Self::Fallbacks(command) | Self::ImageFallbacks(command) => command.wants_json(),
            Self::Auth(AuthCommand::Order(OrderCommand::Get { json, .. })) => *json,
            Self::Auth(AuthCommand::List(args)) => args.json,
            Self::Auth(_) => false,
        }
    }
}

/// `models status`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StatusArgs {
    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,

    /// Print only the default model
    #[arg(long, conflicts_with = "json")]
    pub(crate) plain: bool,

    /// Exit with 1 if a login is expired or missing, 2 if one is expiring; looks at the providers in use
    #[arg(long)]
    pub(crate) check: bool,

    /// Look at every profile, not only at those of the providers in use; with absolute times
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) probe: ProbeArgs,
}

/// The options of `models status --probe` (spec.md 12.6).
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProbeArgs {
    /// Make one tiny request with each profile; costs what such requests cost
    #[arg(long)]
    pub(crate) probe: bool,

    /// Only this provider
    #[arg(long, requires = "probe", value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) probe_provider: Option<String>,

    /// Only this profile (repeat, or separate with commas)
    #[arg(long, requires = "probe", value_name = "ID", value_delimiter = ',', add = ArgValueCandidates::new(complete::profiles))]
    pub(crate) probe_profile: Vec<ProfileId>,

    /// Longest time for one request in milliseconds (default 8000)
    #[arg(long, requires = "probe", value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) probe_timeout: Option<u64>,

    /// How many requests are made at the same time (default 2)
    #[arg(long, requires = "probe", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16))]
    pub(crate) probe_concurrency: Option<u64>,

    /// Longest answer that is asked for, in tokens (default 8)
    #[arg(long, requires = "probe", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) probe_max_tokens: Option<u32>,
}

/// `models list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The whole catalogue instead of the configured models
    #[arg(long)]
    pub(crate) all: bool,

    /// Only models of this provider
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,

    /// Print one model per line
    #[arg(long, conflicts_with = "json")]
    pub(crate) plain: bool,
}

/// `models aliases …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// List the aliases
    List {
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Add or change an alias
    Add {
        /// The short name
        alias: String,
        /// Model as <provider>/<model>
        model: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Remove an alias
    Remove {
        /// The short name
        alias: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl AliasCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } | Self::Add { json, .. } | Self::Remove { json, .. } => *json,
        }
    }
}

/// `models fallbacks …`.
#[derive(Debug, Subcommand)]
pub(crate) enum FallbackCommand {
    /// List the fallbacks
    List {
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Add one at the end
    Add {
        /// Model as <provider>/<model>, or an alias
        model: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Remove one
    Remove {
        /// Model as <provider>/<model>, or an alias
        model: String,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Remove all
    Clear {
        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl FallbackCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json }
            | Self::Add { json, .. }
            | Self::Remove { json, .. }
            | Self::Clear { json } => *json,
        }
    }
}
