//! What was there before a wiring: the caller keeps it as JSON beside its other state, readable by the user alone.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokensink_types::Secret;

use crate::Neighbour;

/// The changes that one wiring made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRecord {
    /// Whose settings.
    pub neighbour: Neighbour,
    /// The settings.
    pub file: PathBuf,
    /// True when there were none before.
    pub made_file: bool,
    /// What was changed, in order.
    pub changes: Vec<WireChange>,
}

/// The change of one value. Values may hold secrets: some people put theirs into `apiKeyHelper`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireChange {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What was there before the first wiring.
    pub former: Option<Secret>,
    /// What we wrote; if something else is there later, the user changed it.
    pub written: Secret,
    /// How many keys of the path were there before.
    pub keep: usize,
}

impl WireRecord {
    /// The change at a path.
    pub(super) fn change(&self, path: &[&str]) -> Option<&WireChange> {
        self.changes.iter().find(|change| change.path == path)
    }

    /// For the caller's file, which must be readable by its owner only.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(WireChange::to_json).collect();
        json!({
            "cli": self.neighbour.as_str(),
            "file": self.file.to_string_lossy(),
            "madeFile": self.made_file,
            "changes": changes,
        })
    }

    /// Back from [`WireRecord::to_json`]; `None` for anything else.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let changes = value.get("changes")?.as_array()?;
        Some(Self {
            neighbour: Neighbour::parse(value.get("cli")?.as_str()?)?,
            file: PathBuf::from(value.get("file")?.as_str()?),
            made_file: value.get("madeFile")?.as_bool()?,
            changes: changes.iter().map(WireChange::from_json).collect::<Option<_>>()?,
        })
    }
}

impl WireChange {
    fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "former": self.former.as_ref().map(Secret::expose),
            "written": self.written.expose(),
            "keep": self.keep,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let path = value.get("path")?.as_array()?;
        Some(Self {
            path: path
                .iter()
                .map(|key| key.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            former: value.get("former")?.as_str().map(Secret::from),
            written: value.get("written")?.as_str()?.into(),
            keep: usize::try_from(value.get("keep")?.as_u64()?).ok()?,
        })
    }
}
