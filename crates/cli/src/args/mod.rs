//! The grammar of the command line, as clap definitions only. Help, completions and man pages are made from these
//! definitions; what a command does stands in `commands`.

mod agents;
mod audit;
mod auth;
mod chat;
mod conformance;
mod demo;
mod doctor;
mod explain;
mod external;
mod import;
mod keys;
mod lease;
mod models;
pub(crate) mod onboard;
mod plugins;
mod route;
mod secrets;
mod serve;
mod service;
mod sessions;
mod tools;
pub(crate) mod values;

use std::ffi::OsString;

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use agents::{
    AgentAddArgs, AgentBindArgs, AgentDeleteArgs, AgentUnbindArgs, AgentsArgs, AgentsCommand,
};
pub(crate) use audit::{AuditArgs, AuditCommand};
pub(crate) use auth::{
    AuthCommand, AuthListArgs, LoginArgs, LogoutArgs, OrderCommand, PasteKeyArgs, PasteTokenArgs,
    SecretInput, SetupTokenArgs,
};
pub(crate) use chat::ChatArgs;
pub(crate) use conformance::{ConformanceArgs, ConformanceCommand, ConformanceRunArgs, ConformanceServeArgs};
pub(crate) use demo::DemoArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use explain::ExplainArgs;
pub(crate) use external::{ExternalArgs, ExternalCommand, ExternalSetArgs, ExternalWireArgs};
pub(crate) use import::{
    ExportArgs, ImportArgs, ImportBundleArgs, ImportCommand, ImportEnvArgs, ImportManner, ImportOpenClawArgs,
    ImportProgramArgs, PassphraseArgs,
};
pub(crate) use keys::{KeyAddArgs, KeyRevokeArgs, KeysArgs, KeysCommand};
pub(crate) use lease::{ExecArgs, LeaseArgs, RenewArgs, TokenArgs};
pub(crate) use models::{
    AliasCommand, FallbackCommand, ListArgs, ModelsArgs, ModelsCommand, ProbeArgs, StatusArgs,
};
pub(crate) use onboard::{CustomArgs, KeyOption, KeySource, OnboardArgs, SecretMode};
pub(crate) use plugins::{PluginsArgs, PluginsCommand};
pub(crate) use route::RouteArgs;
pub(crate) use secrets::{
    SecretsApplyArgs, SecretsArgs, SecretsAuditArgs, SecretsCommand, SecretsConfigureArgs,
};
pub(crate) use serve::{LogFormat, ServeArgs};
pub(crate) use service::{ServiceArgs, ServiceCommand, ServiceFileArgs, ServiceInstallArgs};
pub(crate) use sessions::{SessionsArgs, SessionsCommand};
pub(crate) use tools::{
    ChannelsArgs, ChannelsCommand, CompletionsArgs, ManArgs, ProvidersArgs, ProvidersCommand, Shell,
};

use crate::name::Name;

const LONG_ABOUT: &str = "\
The one place on a host where model logins live. Agents, CLIs and gateways ask it for a short lease; no refresh \
token is spent twice or lost.";

const AFTER_HELP: &str = "\
Data goes to standard output, everything else to standard error.
Exit codes: 0 ok, 1 failed, 2 usage, 3 login needed, 75 try again later;
`models status --check`: 0 ok, 1 expired or missing, 2 expiring.

Environment:
  OPENCLAW_STATE_DIR    where everything is kept (default ~/.openclaw)
  TOKENSINK_LOG         what to log to standard error, e.g. debug
  TOKENSINK_LOG_FORMAT  text (the default) or json
  NO_COLOR              no colours";

/// The version under another program's name, so that nobody takes it for that program's.
const BORROWED_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (tokensink)");

/// The hidden command that runs one refresh in a process of its own.
pub(crate) const FLIGHT_COMMAND: &str = "__flight";

/// The hidden command that stands in for a browser during the demo's login.
pub(crate) const BROWSER_COMMAND: &str = "__browser";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "tokensink",
    version,
    about = "The one place on a host where model logins live",
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Log to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set up logins: finds what is on this host, proposes, logs in
    Onboard(Box<OnboardArgs>),
    /// The login step of onboard alone
    Configure(Box<OnboardArgs>),
    /// Print an access token or API key, renewed first where it is due
    Token(TokenArgs),
    /// Run a command that finds an access token or API key in its environment
    Exec(ExecArgs),
    /// Renew every login that is due; for timers
    Renew(RenewArgs),
    /// Logins, their state, and the models that use them
    Models(ModelsArgs),
    /// What chat channels and logins there are
    Channels(ChannelsArgs),
    /// Agents, each with logins of its own
    Agents(AgentsArgs),
    /// Print which agent answers a chat
    Route(RouteArgs),
    /// Conversations: which model and account each has
    Sessions(SessionsArgs),
    /// Talk to a model with the logins of an agent
    Chat(ChatArgs),
    /// Logins that other programs keep: Claude Code, Codex CLI and others
    External(ExternalArgs),
    /// Who may call the gateway: a key for each client
    Keys(KeysArgs),
    /// Serve local clients: the APIs of the providers, with the right account put in
    Serve(ServeArgs),
    /// The gateway as a service of the system
    Service(ServiceArgs),
    /// The providers that are known, and how to log in to them
    Providers(ProvidersArgs),
    /// Providers that other people wrote: install, list, check, remove
    Plugins(PluginsArgs),
    /// Take over logins that other programs hold
    Import(ImportArgs),
    /// Secrets that are kept outside of the files
    Secrets(SecretsArgs),
    /// Find what is wrong with the files, logins and surroundings, and mend it
    Doctor(DoctorArgs),
    /// Why an account was chosen, or would be
    Explain(ExplainArgs),
    /// What was changed in logins and keys, line by line, and whether the record is whole
    Audit(AuditArgs),
    /// Write logins into an encrypted file
    Export(ExportArgs),
    /// Watch it work: real processes against a strict server, in a throw-away directory
    Demo(DemoArgs),
    /// What a program does to its login when the world goes wrong: scenarios, real processes, a score
    Conformance(ConformanceArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(ManArgs),
    /// A browser without a window, for the demo
    #[command(name = BROWSER_COMMAND, hide = true)]
    Browser { url: String },
    /// The helper process that carries one refresh to its end
    #[command(name = FLIGHT_COMMAND, hide = true)]
    Flight {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// The grammar under `name`, for help, completions and manual pages. `keys` are the options of `onboard` that take a
/// key.
pub(crate) fn grammar(name: Name, keys: &[KeyOption]) -> clap::Command {
    let with_keys = onboard::COMMANDS.iter().fold(Cli::command(), |grammar, command| {
        grammar.mut_subcommand(command, |command| onboard::with_keys(command, keys))
    });
    let grammar = with_keys
        .name(name.as_str())
        .bin_name(name.as_str())
        .mut_subcommand("completions", |command| {
            command.after_help(tools::completions_help(name))
        });
    if name == Name::OWN {
        grammar
    } else {
        grammar.version(BORROWED_VERSION)
    }
}

/// The commands that programs call again and again. The grammar of these alone is built in a fraction of the time.
#[derive(Debug, Parser)]
struct Frequent {
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: FrequentCommand,
}

#[derive(Debug, Subcommand)]
enum FrequentCommand {
    Token(TokenArgs),
    Exec(ExecArgs),
    #[command(name = FLIGHT_COMMAND)]
    Flight {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Parses a whole command line, program name included. `keys` is asked for the options of `onboard`.
///
/// # Errors
/// Clap's: help and version, which go to standard output with exit code 0, and usage errors (exit code 2).
pub(crate) fn parse(
    name: Name,
    args: &[OsString],
    keys: impl FnOnce() -> Vec<KeyOption>,
) -> Result<Cli, clap::Error> {
    if let Some(cli) = parse_frequent(args) {
        return Ok(cli);
    }
    // No other command has these options, and to know them all definitions have to be read.
    let wanted = args
        .iter()
        .any(|word| onboard::COMMANDS.iter().any(|command| word == command));
    let keys = if wanted { keys() } else { Vec::new() };
    let mut grammar = grammar(name, &keys);
    let matches = grammar.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut grammar))
}

/// Parses a frequent command; `None` for any other command line, help and errors included.
fn parse_frequent(args: &[OsString]) -> Option<Cli> {
    let first = args.get(1)?.to_str()?;
    if !matches!(first, "token" | "exec" | FLIGHT_COMMAND) {
        return None;
    }
    let Frequent { verbose, command } = Frequent::try_parse_from(args).ok()?;
    let command = match command {
        FrequentCommand::Token(args) => Command::Token(args),
        FrequentCommand::Exec(args) => Command::Exec(args),
        FrequentCommand::Flight { args } => Command::Flight { args },
    };
    Some(Cli { verbose, command })
}

#[cfg(test)]
mod tests;
