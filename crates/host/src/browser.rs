//! Opening the user's browser, and knowing when there is none to open (spec.md 11.6).
//!
//! A browser that was started is not a page that is seen: callers always print the address as well.

use std::ffi::OsString;
use std::io;

use thiserror::Error;
use url::Url;

use crate::{Environment, Host, ProcessRequest, StdioSource};

/// No browser was started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BrowserError {
    /// The address is not for a browser.
    #[error("{scheme}:// addresses are not opened in a browser")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// No program could be started.
    #[error(
        "no browser could be started ({tried}); open the address by hand, or set BROWSER to the program to use"
    )]
    None {
        /// What was tried, with what the system said.
        tried: String,
    },
}

/// Opens `url` with `$BROWSER` (commands separated by `:`, each with arguments and with `%s` where the address goes,
/// or the address is appended), else with the desktop's own opener. No shell is involved, and the program outlives us.
///
/// # Errors
/// [`BrowserError`] when the address is not http or https, or nothing could be started.
pub fn open(host: &Host, url: &Url) -> Result<(), BrowserError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BrowserError::Scheme {
            scheme: url.scheme().to_owned(),
        });
    }
    let mut tried = Vec::new();
    for command in commands(&*host.env) {
        match start(host, &command, url.as_str()) {
            Ok(()) => return Ok(()),
            Err(error) => tried.push(format!("{}: {error}", command.join(" "))),
        }
    }
    Err(BrowserError::None {
        tried: tried.join("; "),
    })
}

/// Why a browser should not be opened, `None` when one can be (spec.md 11.6): a remote shell, a container, or no
/// display. A user who set `BROWSER` has said that there is one.
#[must_use]
pub fn is_headless(env: &dyn Environment) -> Option<String> {
    const REMOTE: [&str; 5] = [
        "SSH_CLIENT",
        "SSH_TTY",
        "SSH_CONNECTION",
        "REMOTE_CONTAINERS",
        "CODESPACES",
    ];
    if env.var("BROWSER").is_some() {
        return None;
    }
    if let Some(name) = REMOTE.into_iter().find(|name| env.var(name).is_some()) {
        return Some(format!("{name} is set, so this shell is a remote one"));
    }
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .into_iter()
        .any(|name| env.var(name).is_some());
    (cfg!(target_os = "linux") && !has_display && !is_wsl(env))
        .then(|| "neither DISPLAY nor WAYLAND_DISPLAY is set".to_owned())
}

/// True in the Windows Subsystem for Linux, by the variables that it sets.
fn is_wsl(env: &dyn Environment) -> bool {
    env.var("WSL_DISTRO_NAME").is_some() || env.var("WSL_INTEROP").is_some()
}

/// What to try, in order: program and arguments.
fn commands(env: &dyn Environment) -> Vec<Vec<String>> {
    if let Some(browser) = env.var("BROWSER") {
        return browser
            .split(':')
            .map(words)
            .filter(|words| !words.is_empty())
            .collect();
    }
    let one = |program: &str| vec![program.to_owned()];
    if cfg!(target_os = "macos") {
        return vec![one("open")];
    }
    let mut commands = vec![one("xdg-open")];
    if is_wsl(env) {
        commands.insert(0, one("wslview"));
    }
    commands
}

/// Splits at blanks outside quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn start(host: &Host, command: &[String], url: &str) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut args: Vec<OsString> = arguments
        .iter()
        .map(|word| word.replace("%s", url).into())
        .collect();
    if !arguments.iter().any(|word| word.contains("%s")) {
        args.push(url.into());
    }
    host.processes.spawn_detached(ProcessRequest {
        program: program.into(),
        args,
        set_env: Vec::new(),
        remove_env: Vec::new(),
        stdin: StdioSource::Null,
    })
}
