//! `import …` and `export`: logins that come from elsewhere, and logins that leave.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCandidates;
use tokensink_types::ProfileId;

use super::KeySource;
use super::values;
use crate::complete;

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) command: ImportCommand,
}

/// The sources.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Take over the logins of an OpenClaw or Clawdbot of any age, from its files or databases
    Openclaw(ImportOpenClawArgs),
    /// Take in the logins of a bundle that `export` wrote
    Bundle(ImportBundleArgs),
    /// Adopt keys that stand in environment variables
    Env(ImportEnvArgs),
    /// The login of Claude Code: share it, move it, or copy what can be copied
    Claude(ImportProgramArgs),
    /// The login of the Codex CLI: share it, move it, or copy what can be copied
    Codex(ImportProgramArgs),
    /// The logins of opencode
    Opencode(ImportProgramArgs),
    /// The login of the Gemini CLI
    Gemini(ImportProgramArgs),
    /// The login of Qwen Code
    Qwen(ImportProgramArgs),
    /// The login of the MiniMax CLI
    Minimax(ImportProgramArgs),
    /// The logins that the proxy of this name keeps in files
    Cliproxyapi(ImportProgramArgs),
}

impl ImportCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Openclaw(args) => args.manner.json,
            Self::Bundle(args) => args.manner.json,
            Self::Env(args) => args.manner.json,
            Self::Claude(args)
            | Self::Codex(args)
            | Self::Opencode(args)
            | Self::Gemini(args)
            | Self::Qwen(args)
            | Self::Minimax(args)
            | Self::Cliproxyapi(args) => args.manner.json,
        }
    }
}

const PROGRAM_HELP: &str = "\
API keys and bearer tokens are copied. A login that the program goes on refreshing is not: two holders of one refresh \
token log each other out. Claude Code and the Codex CLI can share theirs (`external set <program> cooperative`) or give it \
up (--move); of the others it is taken with --take-over, once they no longer use it.";

/// `import claude`, `import codex`, and so on.
#[derive(Debug, Args)]
#[command(after_help = PROGRAM_HELP)]
pub(crate) struct ImportProgramArgs {
    /// Its file or directory (default: where the program looks)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) place: Option<PathBuf>,

    /// Whose the logins become
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Move the login here (Claude Code and Codex CLI): `external set <program> owned`
    #[arg(long = "move", conflicts_with = "take_over")]
    pub(crate) moves: bool,

    /// Take logins that the program refreshes as well; it must not use them any more
    #[arg(long)]
    pub(crate) take_over: bool,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}

/// `import env`.
#[derive(Debug, Args)]
pub(crate) struct ImportEnvArgs {
    /// The variables (default: all that hold a provider's key)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// The provider, of several that know a variable
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Option<String>,

    /// Whose the keys become
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Store the values instead of references to the variables
    #[arg(long)]
    pub(crate) copy: bool,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}

/// How an import asks and answers.
#[derive(Debug, Args)]
pub(crate) struct ImportManner {
    /// Show what would be done and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `import openclaw`.
#[derive(Debug, Args)]
pub(crate) struct ImportOpenClawArgs {
    /// Its state directory, or one archived file (default: the usual places, ~/.openclaw and ~/.clawdbot among them)
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,

    /// Only the logins of this agent
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}

/// `import bundle`.
#[derive(Debug, Args)]
pub(crate) struct ImportBundleArgs {
    /// The bundle
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Open it with the identities (AGE-SECRET-KEY-1…) in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "passphrase_from")]
    pub(crate) identity: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,

    /// Only the logins of this agent
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}

/// Where a passphrase comes from.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// Where the passphrase is: `-` (standard input), `file:PATH` or `env:NAME` (default: it is asked for)
    #[arg(long, value_name = "SOURCE", allow_hyphen_values = true, value_parser = source)]
    pub(crate) passphrase_from: Option<KeySource>,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is that of a value parser")]
fn source(text: &str) -> Result<KeySource, String> {
    Ok(KeySource::parse(text))
}

const EXPORT_HELP: &str = "\
A login whose refresh tokens are used once must not be in two places. It leaves by --move, which removes it here once the \
bundle is written and read back, or as an access token alone (--access-only), for example for a CI job.";

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    /// The bundle, which must not exist; `-` is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: PathBuf,

    /// Only this profile; may be repeated
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::profiles))]
    pub(crate) profile_id: Vec<ProfileId>,

    /// Only this agent; may be repeated (default: all agents)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Vec<String>,

    /// Encrypt to this recipient (age1…) instead of by a passphrase; may be repeated
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "passphrase_from")]
    pub(crate) recipient: Vec<String>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,

    /// Remove the logins here once the bundle is written and read back
    #[arg(long = "move", conflicts_with = "access_only")]
    pub(crate) moves: bool,

    /// Export access tokens alone, which nobody can renew
    #[arg(long, requires = "ttl")]
    pub(crate) access_only: bool,

    /// When the exported access tokens end at the latest, e.g. 1h
    #[arg(long, value_name = "DURATION", requires = "access_only", value_parser = values::seconds)]
    pub(crate) ttl: Option<Duration>,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
