//! `models auth …`: logging in, storing and removing credentials, and their order (spec.md 12.1).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use tokensink_types::{MethodId, ProfileId};

use super::values;
use crate::complete;

/// The commands under `models auth`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Log in to a provider in the browser, on another device, or by pasting
    Login(LoginArgs),
    /// Store a token made by `claude setup-token`
    SetupToken(SetupTokenArgs),
    /// Store a bearer token made elsewhere
    PasteToken(PasteTokenArgs),
    /// Store an API key
    PasteApiKey(PasteKeyArgs),
    /// Choose a provider and a way to log in from a menu
    Add,
    /// List the stored profiles
    List(AuthListArgs),
    /// Forget a profile on this host; with --revoke at the provider too
    Logout(LogoutArgs),
    /// Try a profile again now: ends its cooldown and forgets a refused refresh
    Retry {
        /// The profile
        #[arg(value_name = "PROFILE_ID", add = ArgValueCandidates::new(complete::profiles))]
        profile_id: ProfileId,
    },
    /// In which order the profiles of a provider are tried
    #[command(subcommand)]
    Order(OrderCommand),
    /// Log in to GitHub Copilot by device code
    #[command(hide = true)]
    LoginGithubCopilot {
        /// Name of the profile
        #[arg(long, value_name = "ID", default_value = "github-copilot:github")]
        profile_id: ProfileId,
    },
}

/// `models auth login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Provider; a menu where it is left out
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// Login method of the provider (default: its first in a browser or by device code)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::methods))]
    pub(crate) method: Option<MethodId>,

    /// Name of the profile (default: <provider>:<e-mail address>, or <provider>:default)
    #[arg(long, value_name = "ID")]
    pub(crate) profile_id: Option<ProfileId>,

    /// Make the provider's suggested model the default model
    #[arg(long)]
    pub(crate) set_default: bool,

    /// Log in on another device with a code
    #[arg(long)]
    pub(crate) device_code: bool,

    /// Print the address instead of opening a browser
    #[arg(long)]
    pub(crate) no_browser: bool,
}

/// Where a secret comes from. Never from an argument: those are seen by every process of the host.
#[derive(Debug, Args)]
pub(crate) struct SecretInput {
    /// Read the secret from this file; `-` is standard input. Without it: a prompt that does not echo, or standard
    /// input where that is no terminal
    #[arg(long, value_name = "PATH")]
    pub(crate) from_file: Option<PathBuf>,
}

/// `models auth setup-token`.
#[derive(Debug, Args)]
pub(crate) struct SetupTokenArgs {
    /// Provider
    #[arg(long, value_name = "ID", default_value = "anthropic", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: String,

    /// Name of the profile (default: <provider>:manual)
    #[arg(long, value_name = "ID")]
    pub(crate) profile_id: Option<ProfileId>,

    /// When the token runs out, e.g. 365d; a bare number counts days
    #[arg(long, value_name = "DURATION", value_parser = values::days)]
    pub(crate) expires_in: Option<Duration>,

    /// Leave out the explanation of how to make a token
    #[arg(long, short)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) input: SecretInput,
}

/// `models auth paste-token`.
#[derive(Debug, Args)]
pub(crate) struct PasteTokenArgs {
    /// Provider
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: String,

    /// Name of the profile (default: <provider>:manual)
    #[arg(long, value_name = "ID")]
    pub(crate) profile_id: Option<ProfileId>,

    /// When the token runs out, e.g. 365d or 12h; a bare number counts days
    #[arg(long, value_name = "DURATION", value_parser = values::days)]
    pub(crate) expires_in: Option<Duration>,

    #[command(flatten)]
    pub(crate) input: SecretInput,
}

/// `models auth paste-api-key`.
#[derive(Debug, Args)]
pub(crate) struct PasteKeyArgs {
    /// Provider
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: String,

    /// Name of the profile (default: <provider>:manual)
    #[arg(long, value_name = "ID")]
    pub(crate) profile_id: Option<ProfileId>,

    #[command(flatten)]
    pub(crate) input: SecretInput,
}

/// `models auth list`.
#[derive(Debug, Args)]
pub(crate) struct AuthListArgs {
    /// Only profiles of this provider
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `models auth logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The profile
    #[arg(value_name = "PROFILE_ID", add = ArgValueCandidates::new(complete::profiles))]
    pub(crate) profile_id: ProfileId,

    /// Revoke the grant at the provider too (RFC 7009). This ends it for every program that holds it
    #[arg(long)]
    pub(crate) revoke: bool,

    /// Do not ask before revoking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `models auth order …`.
#[derive(Debug, Subcommand)]
pub(crate) enum OrderCommand {
    /// Show the order in force
    Get {
        /// Provider
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
        provider: String,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Set the order for this agent
    Set {
        /// Provider
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
        provider: String,
        /// The profiles, first to last
        #[arg(required = true, value_name = "PROFILE_ID", add = ArgValueCandidates::new(complete::profiles))]
        profile_ids: Vec<ProfileId>,
    },
    /// Remove this agent's order
    Clear {
        /// Provider
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
        provider: String,
    },
}
