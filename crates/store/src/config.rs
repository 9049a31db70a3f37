//! `openclaw.json` (JSON5): reading what concerns logins, and edits that leave everything else byte for byte
//! (spec.md 2.9, 15.2).
//!
//! A config that does not parse is an error with line and column, and nothing is written. Edits are made under the
//! lock that OpenClaw takes, on the text as it is then, and the file is replaced whole. Secrets may stand in a
//! config; `Debug` of everything here shows none.

mod edit;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jsonc_parser::cst::CstRootNode;
use jsonc_parser::{ParseOptions, errors::ParseError};
use serde_json::Value;
use tokensink_host::Host;

use crate::agent_store::STORE_LOCK_WAIT;
use crate::cache::StampCache;
use crate::disk;
use crate::error::StoreError;
use crate::json::{ParseFailure, wipe};
use crate::openclaw_lock::{GuardedLock, LockKind};
use crate::paths::{Paths, lock_sibling, real_dir_path, real_path};

pub use edit::{Editor, OrderPlacement};
pub use read::{AgentEntry, ConfigProfile, ModelChoice, ModelEntry, ModelKind, ProviderConfig};

/// A config as it was read.
#[derive(Clone, PartialEq)]
pub struct Config {
    value: Value,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            value: Value::Object(serde_json::Map::new()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config(..)")
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

impl Config {
    /// Parses JSON5 text.
    ///
    /// # Errors
    /// [`ParseFailure`] with line and column.
    pub fn parse(text: &str) -> Result<Self, ParseFailure> {
        let root = parse(text.strip_prefix('\u{feff}').unwrap_or(text))?;
        // Numbers that JSON cannot hold (Infinity, NaN) have no meaning in any key that is read here.
        let value = root.to_serde_value().unwrap_or(Value::Null);
        Ok(Self { value })
    }

    /// The whole config, for keys that have no getter. It may hold secrets.
    #[must_use]
    pub fn raw(&self) -> &Value {
        &self.value
    }
}

/// The config file under a state directory.
#[derive(Debug)]
pub struct ConfigStore {
    host: Host,
    paths: Paths,
    readonly: bool,
    cache: StampCache<(), Config>,
}

impl ConfigStore {
    /// The config file of these paths. With `readonly` every edit is refused.
    #[must_use]
    pub fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            host,
            paths,
            readonly,
            cache: StampCache::default(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.paths.config_file()
    }

    /// Reads the config; a missing file is an empty one. One `stat` while nothing changes.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] with line and column, or [`StoreError::Io`].
    pub fn load(&self) -> Result<Arc<Config>, StoreError> {
        let path = self.path();
        let stamp = self
            .host
            .files
            .stat(path)
            .map_err(StoreError::io("look at", path))?;
        if let Some(known) = self.cache.get(&(), [stamp, None]) {
            return Ok(known);
        }
        let content = disk::read(&self.host, &self.paths, path)?;
        let (config, stamp) = match content {
            Some(content) => {
                let config = text_of(content.bytes.expose())
                    .and_then(Config::parse)
                    .map_err(|failure| unreadable(path, failure))?;
                (config, Some(content.stamp))
            }
            None => (Config::default(), None),
        };
        Ok(self.cache.put((), [stamp, None], config, &*self.host.clock))
    }

    /// Changes the config. `change` works on the text as it is under the lock; what it refuses, with a sentence that
    /// says why and what to do, leaves the file alone, and so does a change that changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Edit`] with the sentence of `change`, [`StoreError::ReadOnly`], [`StoreError::Unreadable`],
    /// [`StoreError::Busy`], [`StoreError::Io`].
    pub fn edit<T>(&self, change: impl FnOnce(&Editor) -> Result<T, String>) -> Result<T, StoreError> {
        let path = self.path();
        if self.readonly {
            return Err(StoreError::ReadOnly {
                path: path.to_owned(),
            });
        }
        let _lock = self.lock()?;
        disk::recover(&self.host, &self.paths, path)?;
        let content = disk::read(&self.host, &self.paths, path)?;
        let before = match &content {
            Some(content) => text_of(content.bytes.expose()).map_err(|failure| unreadable(path, failure))?,
            None => "{}\n",
        };
        let editor = Editor::parse(before).map_err(|failure| unreadable(path, failure))?;
        let wrong = |why: String| StoreError::Edit {
            path: path.to_owned(),
            why,
        };
        let result = change(&editor).map_err(wrong)?;
        let after = editor.text();
        if after == before {
            return Ok(result);
        }
        Config::parse(&after).map_err(|failure| {
            wrong(format!(
                "the edit would have broken the file ({}), so nothing was written; this is a bug in tokensink",
                failure.why
            ))
        })?;
        self.cache.forget(&());
        disk::write(&self.host, &self.paths, path, after.as_bytes())?;
        Ok(result)
    }

    fn lock(&self) -> Result<GuardedLock, StoreError> {
        let path = self.path();
        let files = &*self.host.files;
        let real = real_path(files, path).map_err(StoreError::io("resolve", path))?;
        let beside = real_dir_path(files, path).map_err(StoreError::io("resolve", path))?;
        GuardedLock::acquire(
            &self.host,
            &self.paths.file_lock(&real),
            &lock_sibling(&beside),
            LockKind::Store,
            STORE_LOCK_WAIT,
        )
    }
}

fn unreadable(path: &Path, failure: ParseFailure) -> StoreError {
    StoreError::unreadable(path, failure, "Correct that place; nothing was written")
}

fn text_of(bytes: &[u8]) -> Result<&str, ParseFailure> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        ParseFailure {
            line,
            column: 1,
            why: "the text is not UTF-8".to_owned(),
        }
    })
}

/// Parses JSON5. The parser is laxer than the standard (raw line breaks in strings, dashes in bare keys), but commas
/// must be there: where one is missing, the author meant something that we cannot know.
fn parse(text: &str) -> Result<CstRootNode, ParseFailure> {
    let options = ParseOptions {
        allow_missing_commas: false,
        ..ParseOptions::default()
    };
    let root = CstRootNode::parse(text, &options).map_err(|error| failure_of(&error))?;
    if root.object_value().is_none() {
        return Err(ParseFailure::whole(
            "it holds no object; an empty config is written as {}",
        ));
    }
    Ok(root)
}

/// The parser's messages name kinds of tokens, never the text.
fn failure_of(error: &ParseError) -> ParseFailure {
    ParseFailure {
        line: error.line_display(),
        column: error.column_display(),
        why: lower_first(&error.kind().to_string()),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
