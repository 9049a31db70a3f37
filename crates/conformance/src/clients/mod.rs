//! The programs that the kit knows, one adapter each.

mod claude;
mod codex;
mod described;
mod installed;
mod openclaw;
mod tokensink;

use std::path::{Path, PathBuf};

use thiserror::Error;
use tokensink_host::Host;

use crate::client::Client;

/// The names that [`find`] knows.
pub const KNOWN: [&str; 4] = ["tokensink", "codex", "claude", "openclaw"];

/// Why a program cannot be put to the test.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotFound {
    /// Nobody knows it.
    #[error("there is no adapter for {0:?}; known are {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// The file that describes it cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        why: String,
    },
    /// It is described in a file, and its path was given as well.
    #[error(
        "{path} says by itself what to run; the path of a program is only for those that the kit knows",
        path = path.display()
    )]
    SaysItself {
        /// The file.
        path: PathBuf,
    },
    /// It is not installed, or does not run.
    #[error("{name} cannot be run: {why}")]
    NotInstalled {
        /// Its name.
        name: String,
        /// What went wrong.
        why: String,
        /// The command that installs it.
        install: String,
    },
}

/// The adapter of a program: by its name, or by the path of the TOML file that describes it (docs/conformance.md). A
/// program that the kit knows may be at another path than where it is found by itself.
///
/// # Errors
/// [`NotFound`], with what helps.
pub fn find(host: &Host, name: &str, program: Option<PathBuf>) -> Result<Box<dyn Client>, NotFound> {
    match name {
        "tokensink" => Ok(Box::new(tokensink::Tokensink::find(host, program)?)),
        "codex" => Ok(Box::new(codex::Codex::find(host, program)?)),
        "claude" => Ok(Box::new(claude::Claude::find(host, program)?)),
        "openclaw" => Ok(Box::new(openclaw::OpenClaw::find(host, program)?)),
        path if path.ends_with(".toml") => {
            let path = Path::new(path);
            if program.is_some() {
                return Err(NotFound::SaysItself {
                    path: path.to_owned(),
                });
            }
            Ok(Box::new(described::Described::read(host, path)?))
        }
        other => Err(NotFound::Unknown(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_itself_what_to_run_has_no_path_besides() {
        let found = find(&Host::real(), "some.toml", Some("/bin/true".into()));
        let path = PathBuf::from("some.toml");
        assert_eq!(found.err(), Some(NotFound::SaysItself { path }));
    }
}
