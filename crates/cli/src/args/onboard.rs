//! `onboard` and `configure` (spec.md 13). The options that take a key are not written down here: they are made from
//! the auth choices of the provider definitions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use clap_complete::ArgValueCandidates;
use tokensink_sink::providers::Flow;
use tokensink_sink::{ExternalMode, Registry};
use tokensink_types::ProfileId;

use super::external::mode_parser;
use super::values;
use crate::complete;

/// The commands of which this is the grammar.
pub(crate) const COMMANDS: [&str; 2] = ["onboard", "configure"];

/// `onboard` and `configure`.
#[derive(Debug, Default, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct OnboardArgs {
    /// The agent whose logins are set up (default: the default agent)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// How to log in, e.g. apiKey or openai-codex (`tokensink providers list` shows all); a menu where it is left out
    #[arg(long, value_name = "CHOICE", add = ArgValueCandidates::new(complete::auth_choices))]
    pub(crate) auth_choice: Option<String>,

    /// Ask nothing
    #[arg(long)]
    pub(crate) non_interactive: bool,

    /// You have read the provider's terms and answer for what your agents do with its login
    #[arg(long)]
    pub(crate) accept_risk: bool,

    /// Store the key itself, or a reference to the environment variable that holds it
    #[arg(long, value_name = "MODE", default_value = "plaintext")]
    pub(crate) secret_input_mode: SecretMode,

    /// How the login of another program is used, with --auth-choice claude-cli or codex-cli (default: cooperative where
    /// that can be)
    #[arg(long, value_name = "MODE", value_parser = mode_parser())]
    pub(crate) external_mode: Option<ExternalMode>,

    /// Make the provider's suggested model the default, even where another one is set
    #[arg(long)]
    pub(crate) set_default: bool,

    /// Print the address of a login instead of opening a browser
    #[arg(long)]
    pub(crate) no_browser: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,

    /// Provider of the token (with --auth-choice token)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) token_provider: Option<String>,

    /// Name of the profile that takes the key or token (default: the one that the choice leaves)
    #[arg(long, value_name = "ID", visible_alias = "profile-id")]
    pub(crate) token_profile_id: Option<ProfileId>,

    /// When the token runs out, e.g. 365d; a bare number counts days
    #[arg(long, value_name = "DURATION", value_parser = values::days)]
    pub(crate) token_expires_in: Option<Duration>,

    #[command(flatten)]
    pub(crate) custom: CustomArgs,

    #[command(flatten)]
    pub(crate) keys: Keys,
}

const AFTER_HELP: &str = "\
A <SECRET> is `-` (standard input), `file:PATH` or `env:NAME`, never the secret itself: every process of the host can \
read arguments. Without the option of its choice, a key is looked for in the environment, then among the stored \
profiles.";

/// What `--secret-input-mode` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretMode {
    /// The key stands in the store.
    #[default]
    Plaintext,
    /// The store names the variable that holds it.
    Ref,
}

/// The options of `--auth-choice custom-api-key`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A provider of your own (--auth-choice custom-api-key)")]
pub(crate) struct CustomArgs {
    /// Address of its API, such as `https://llm.example.com/v1`
    #[arg(long, value_name = "URL")]
    pub(crate) custom_base_url: Option<String>,

    /// The model that it serves
    #[arg(long, value_name = "MODEL")]
    pub(crate) custom_model_id: Option<String>,

    /// Its id (default: custom-<host>)
    #[arg(long, value_name = "ID")]
    pub(crate) custom_provider_id: Option<String>,

    /// Whose API it speaks
    #[arg(long, value_name = "API", value_parser = PossibleValuesParser::new(["openai", "anthropic"]),
          default_value = "openai")]
    pub(crate) custom_compatibility: String,
}

/// The option that takes the key of a custom provider.
pub(crate) const CUSTOM_KEY: &str = "--custom-api-key";

/// Where the secret of an option comes from. The secret itself is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// `-`.
    Stdin,
    /// `file:PATH`.
    File(PathBuf),
    /// `env:NAME`.
    Env(String),
    /// Something else, most likely the secret. It is not kept.
    Bare,
}

impl KeySource {
    /// Reads the value of an option. Nothing is refused here, because an error of the parser would show it.
    pub(crate) fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Self::File(PathBuf::from(path)),
            Some(("env", name)) if !name.is_empty() => Self::Env(name.to_owned()),
            _ => Self::Bare,
        }
    }
}

/// The options with a key that were given, by name with dashes, and the options of OpenClaw's that have no meaning
/// here.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) given: BTreeMap<String, KeySource>,
    pub(crate) ignored: Vec<String>,
}

/// An option that takes a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyOption {
    /// Its name with dashes.
    pub(crate) name: String,
    /// What it takes.
    pub(crate) help: String,
}

/// What the ids of our own arguments begin with.
const KEY: &str = "key:";
const IGNORED: &str = "ignored:";

/// Options of OpenClaw's `onboard` that concern its gateway, its chat channels and its service. Scripts pass them.
const IGNORED_VALUES: [&str; 8] = [
    "mode",
    "flow",
    "workspace",
    "gateway-port",
    "gateway-bind",
    "tailscale",
    "node-manager",
    "daemon-runtime",
];
const IGNORED_FLAGS: [&str; 10] = [
    "install-daemon",
    "no-install-daemon",
    "skip-daemon",
    "skip-channels",
    "skip-providers",
    "skip-skills",
    "skip-search",
    "skip-health",
    "skip-ui",
    "skip-bootstrap",
];

impl Args for Keys {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for Keys {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut keys = Self::default();
        keys.update_from_arg_matches(matches)?;
        Ok(keys)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        for id in matches.ids().map(clap::Id::as_str).filter(|id| given(id)) {
            if let Some(name) = id.strip_prefix(KEY) {
                let text = matches.try_get_one::<Given>(id).ok().flatten();
                self.given
                    .extend(text.map(|given| (name.to_owned(), given.0.clone())));
            } else if let Some(name) = id.strip_prefix(IGNORED) {
                self.ignored.push(format!("--{name}"));
            }
        }
        Ok(())
    }
}

/// The value of an option with a key, parsed before anybody can show it.
#[derive(Debug, Clone)]
struct Given(KeySource);

/// Adds the options with keys, and those that are taken and ignored. A name that is taken already is left out.
pub(crate) fn with_keys(command: Command, options: &[KeyOption]) -> Command {
    let mut command = options.iter().fold(command, |command, option| {
        let word = option.name.trim_start_matches('-').to_owned();
        if is_taken(&command, &word) {
            return command;
        }
        command.arg(
            Arg::new(format!("{KEY}{}", option.name))
                .long(word)
                .value_name("SECRET")
                .help(option.help.clone())
                .help_heading("Keys and tokens")
                .allow_hyphen_values(true)
                .value_parser(|text: &str| Ok::<_, fmt::Error>(Given(KeySource::parse(text)))),
        )
    });
    for name in IGNORED_VALUES {
        command = command.arg(ignored(name).action(ArgAction::Set));
    }
    for name in IGNORED_FLAGS {
        command = command.arg(ignored(name).action(ArgAction::SetTrue));
    }
    command
}

fn is_taken(command: &Command, word: &str) -> bool {
    let ours = IGNORED_VALUES
        .iter()
        .chain(&IGNORED_FLAGS)
        .chain(&["help", "verbose", "version"]);
    ours.into_iter().any(|name| *name == word)
        || command.get_arguments().any(|arg| {
            arg.get_long_and_visible_aliases()
                .is_some_and(|names| names.contains(&word))
        })
}

fn ignored(name: &'static str) -> Arg {
    Arg::new(format!("{IGNORED}{name}")).long(name).hide(true)
}

/// The options of all auth choices, one for each name.
pub(crate) fn key_options(registry: &Registry) -> Vec<KeyOption> {
    let mut options: BTreeMap<&str, (bool, String)> = BTreeMap::new();
    for choice in registry.choices() {
        if let Some(name) = choice.choice.option.as_deref() {
            let help = match choice.method.flow {
                Flow::Token(_) | Flow::ApiKey(_) => choice.choice.name.clone(),
                // The choice itself is a login.
                _ => format!("Token of {}, made elsewhere", choice.definition.name),
            };
            let help = (choice.choice.hidden, help);
            // A choice that menus show describes it better.
            match options.get(name) {
                Some(known) if *known <= help => {}
                _ => drop(options.insert(name, help)),
            }
        }
    }
    let custom = "Key of --auth-choice custom-api-key".to_owned();
    options.insert(CUSTOM_KEY, (false, custom));
    options
        .into_iter()
        .map(|(name, (_, help))| KeyOption {
            name: name.to_owned(),
            help,
        })
        .collect()
}
