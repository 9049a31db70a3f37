//! A provider that the user describes at onboarding (spec.md 13.3, `custom-api-key`): it becomes a provider file,
//! where it can be edited afterwards.

use std::path::PathBuf;

use tokensink_host::atomic;
use tokensink_providers::check;
use tokensink_types::{ProfileId, ProviderId};
use url::Url;

use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// Modes of the file and its directories.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// A provider in the user's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomProvider {
    /// Its id; the default is made of the host's name.
    pub id: Option<String>,
    /// What comes before the paths of its API.
    pub base_url: String,
    /// The model that it serves.
    pub model: String,
    /// It speaks Anthropic's API instead of OpenAI's.
    pub is_anthropic: bool,
    /// A key comes with the request; without one it must be in the environment or stored.
    pub has_key: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomDefined {
    /// Its id.
    pub id: ProviderId,
    /// The auth choice that takes its key.
    pub choice: String,
    /// Its file.
    pub path: PathBuf,
    /// False when the file was there already.
    pub written: bool,
}

impl Sink {
    /// Writes the provider's file. A sink reads the definitions when it is opened: open another to use it.
    ///
    /// # Errors
    /// A usage error, and nothing written, for an address, id or model that cannot be, for the id of a built-in
    /// provider, and for one that is defined otherwise already; [`ErrorKind::Failed`] when its key is nowhere or the
    /// file cannot be written.
    pub fn define_custom(&self, custom: &CustomProvider) -> Result<CustomDefined> {
        self.require_writable("defining a provider")?;
        let id = custom_id(custom)?;
        if self.registry().is_builtin(&id) {
            let message = format!("{id} is a built-in provider");
            return Err(SinkError::new(ErrorKind::Usage, "builtin_provider", message)
                .with_fix("--custom-provider-id <another id>"));
        }
        let path = self.paths().providers_dir().join(format!("{id}.toml"));
        let variable = variable_of(&id);
        let text = text_of(custom, &id, &variable);
        let problems = check(&path, &text, self.registry());
        if let Some(problem) = problems.first() {
            let message = format!("the provider {id} cannot be defined so: {}", problem.message);
            return Err(SinkError::new(ErrorKind::Usage, "bad_custom", message).with_fix(problem.fix.clone()));
        }
        let defined = CustomDefined {
            choice: format!("{id}-api-key"),
            id,
            path,
            written: false,
        };
        if self.is_defined_so(&defined, &text)? {
            return Ok(defined);
        }
        if !custom.has_key && self.host().env.var(&variable).is_none() {
            let message = format!("Missing --custom-api-key (or {variable} in env).");
            return Err(SinkError::new(ErrorKind::Failed, "missing_secret", message).with_fix(
                "--custom-api-key - (standard input), --custom-api-key file:PATH, or --custom-api-key env:NAME",
            ));
        }
        self.write_custom(&defined, &text)?;
        Ok(CustomDefined {
            written: true,
            ..defined
        })
    }

    /// Whether the file holds exactly this.
    fn is_defined_so(&self, defined: &CustomDefined, text: &str) -> Result<bool> {
        let there = self
            .host()
            .files
            .stat(&defined.path)
            .map_err(|error| not_written(defined, error))?;
        let known = self.registry().get(&defined.id).is_some();
        if there.is_none() && !known {
            return Ok(false);
        }
        let same = there.is_some()
            && self
                .host()
                .files
                .read(&defined.path)
                .is_ok_and(|bytes| bytes == text.as_bytes());
        if same {
            return Ok(true);
        }
        let message = format!("the provider {} is defined otherwise already", defined.id);
        let fix = format!(
            "use it as it is with --auth-choice {}, edit {}, or choose another --custom-provider-id",
            defined.choice,
            defined.path.display()
        );
        Err(SinkError::new(ErrorKind::Usage, "provider_exists", message).with_fix(fix))
    }

    fn write_custom(&self, defined: &CustomDefined, text: &str) -> Result<()> {
        let host = self.host();
        let dir = self.paths().providers_dir();
        atomic::ensure_dir(&*host.files, &dir, DIR_MODE).map_err(|error| not_written(defined, error))?;
        atomic::replace(
            &*host.files,
            &*host.random,
            &defined.path,
            text.as_bytes(),
            FILE_MODE,
        )
        .map(drop)
        .map_err(|error| not_written(defined, error.into()))
    }
}

fn not_written(defined: &CustomDefined, error: std::io::Error) -> SinkError {
    let message = format!(
        "the provider file {} could not be written",
        defined.path.display()
    );
    SinkError::new(ErrorKind::Failed, "io", message).because(error)
}

/// The given id, else `custom-<host>`.
fn custom_id(custom: &CustomProvider) -> Result<ProviderId> {
    let bad = |message: String| {
        SinkError::new(ErrorKind::Usage, "bad_custom", message)
            .with_fix("--custom-provider-id <lower-case letters, digits, - _ .>")
    };
    if let Some(text) = &custom.id {
        return ProviderId::parse(text).map_err(|error| bad(error.to_string()));
    }
    let url = Url::parse(custom.base_url.trim()).map_err(|error| {
        bad(format!("--custom-base-url is no URL: {error}")).with_fix("--custom-base-url https://host/v1")
    })?;
    let host = url.host_str().unwrap_or_default().replace('.', "-");
    let port = url.port().map(|port| format!("-{port}")).unwrap_or_default();
    let slug = ProfileId::slug(&format!("custom-{host}{port}"));
    ProviderId::parse(&slug).map_err(|error| bad(error.to_string()))
}

/// `CUSTOM_LLM_API_KEY`.
fn variable_of(id: &ProviderId) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = id.as_str().chars().map(upper).collect();
    // A variable cannot begin with a digit.
    let head = if name.starts_with(|c: char| c.is_ascii_digit()) {
        "_"
    } else {
        ""
    };
    format!("{head}{name}_API_KEY")
}

fn text_of(custom: &CustomProvider, id: &ProviderId, variable: &str) -> String {
    let pattern = if custom.is_anthropic {
        "anthropic-compatible"
    } else {
        "openai-compatible"
    };
    let quoted = |text: &str| toml::Value::String(text.trim().to_owned()).to_string();
    format!(
        "# Made by `tokensink onboard --auth-choice custom-api-key`; it is yours to edit.\n\
         id = {id}\nextends = {pattern}\nname = {id}\nenv = [{variable}]\n\n\
         [api]\nbase_url = {url}\nmodels = [{model}]\n",
        id = quoted(id.as_str()),
        pattern = quoted(pattern),
        variable = quoted(variable),
        url = quoted(&custom.base_url),
        model = quoted(&custom.model),
    )
}
