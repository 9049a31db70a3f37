//! `plugin.toml`: what a plugin with a program says about itself.
//!
//! A manifest that was parsed is consistent: paths stay inside of the plugin's directory, names can be what they are
//! said to be, and we speak one of its protocol versions.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use thiserror::Error;
use tokensink_types::ProviderId;

use super::protocol::{Action, VERSIONS};
use crate::check_value::check_env_name;

/// The file name of such a manifest.
pub const MANIFEST_NAME: &str = "plugin.toml";

/// Most files of a plugin, manifest and definitions included.
const FILES_MAX: usize = 64;

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's id, which its definitions name in `plugin`.
    pub id: String,
    /// The plugin's own version, for people.
    pub version: String,
    /// A line for people.
    #[serde(default)]
    pub description: String,
    /// The versions of the protocol that the program speaks.
    pub protocol: Vec<u32>,
    /// The program, beside the manifest. It is run directly, so a script begins with `#!`.
    pub program: String,
    /// Arguments that it is always given.
    #[serde(default)]
    pub args: Vec<String>,
    /// Further files that it needs.
    #[serde(default)]
    pub files: Vec<String>,
    /// The provider definitions.
    pub providers: Vec<String>,
    /// What the program can be asked for.
    pub actions: Vec<Action>,
    /// Variables that it is given; it sees no other.
    #[serde(default)]
    pub env: Vec<String>,
    /// Settings that the user may make in `[plugins.<id>]` of `tokensink/config.toml`.
    #[serde(default)]
    pub settings: BTreeMap<String, SettingSpec>,
    /// How long the program may take.
    #[serde(default)]
    pub limits: Limits,
}

/// How long a program may take, in seconds. A plugin can only make it shorter than the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From its start to its hello.
    pub hello_seconds: u64,
    /// From the request to the answer, where nobody is asked anything.
    pub answer_seconds: u64,
    /// Longest silence during a login, unless the user is waited for.
    pub silence_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello_seconds: 20,
            answer_seconds: 60,
            silence_seconds: 60,
        }
    }
}

impl Limits {
    fn hold(&self) -> bool {
        let most = Self::default();
        (1..=most.hello_seconds).contains(&self.hello_seconds)
            && (1..=most.answer_seconds).contains(&self.answer_seconds)
            && (1..=most.silence_seconds).contains(&self.silence_seconds)
    }
}

/// A setting of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingSpec {
    /// What it is for.
    pub description: String,
    /// Its value where the user gives none.
    pub default: Option<String>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct ManifestError {
    /// The line, counted from 1; 1 where no line can be told.
    pub line: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// With the line and what is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut manifest: Self = toml::from_str(text).map_err(|error| ManifestError {
            line: error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1),
            message: error.message().trim().to_owned(),
        })?;
        manifest.id = manifest.id.trim().to_lowercase();
        manifest.check().map_err(|(key, message)| ManifestError {
            line: line_of(text, key),
            message,
        })?;
        Ok(manifest)
    }

    /// Does the program say that it can be asked for this?
    #[must_use]
    pub fn can(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// The files of the plugin, the manifest first, with `true` for the program.
    #[must_use]
    pub fn all_files(&self) -> Vec<(&str, bool)> {
        let mut files = vec![(MANIFEST_NAME, false), (self.program.as_str(), true)];
        let rest = self.files.iter().chain(&self.providers);
        files.extend(rest.map(|file| (file.as_str(), false)));
        files
    }

    /// The settings that the program is told: those it declares, as the user made them, else its defaults.
    #[must_use]
    pub fn settings_from(&self, user: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let value = |name: &String, spec: &SettingSpec| user.get(name).or(spec.default.as_ref()).cloned();
        self.settings
            .iter()
            .filter_map(|(name, spec)| Some((name.clone(), value(name, spec)?)))
            .collect()
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        ProviderId::parse(&self.id).map_err(|error| ("id", error.to_string()))?;
        if self.version.trim().is_empty() {
            return Err((
                "version",
                "version is empty; write for example \"1.0.0\"".to_owned(),
            ));
        }
        if !self.protocol.iter().any(|version| VERSIONS.contains(version)) {
            let message = format!(
                "protocol {:?}: this tokensink speaks {VERSIONS:?}; get another version of one of the two",
                self.protocol
            );
            return Err(("protocol", message));
        }
        if self.providers.is_empty() {
            let message = "providers is empty; name the definition files, for example [\"rig.toml\"]";
            return Err(("providers", message.to_owned()));
        }
        if !self.can(Action::Login) {
            let message = "actions lacks \"login\", without which there is nothing to renew";
            return Err(("actions", message.to_owned()));
        }
        for name in &self.env {
            check_env_name(name).map_err(|fault| ("env", format!("env: {name:?} {}", fault.message)))?;
        }
        if !self.limits.hold() {
            let message = "limits are at least 1 second, and at most 20 for hello_seconds, 60 for the others";
            return Err(("[limits]", message.to_owned()));
        }
        self.check_files()
    }

    fn check_files(&self) -> Result<(), (&'static str, String)> {
        let files = self.all_files();
        if files.len() > FILES_MAX {
            return Err(("files", format!("a plugin has at most {FILES_MAX} files")));
        }
        for (at, (file, _)) in files.iter().enumerate() {
            let key = if *file == self.program { "program" } else { "files" };
            let inside = Path::new(file)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            if file.trim().is_empty() || !inside || file.contains('\\') {
                let message =
                    format!("{file:?} is not a file of the plugin; write a path below its directory");
                return Err((key, message));
            }
            if files[..at].iter().any(|(known, _)| known == file) {
                return Err((key, format!("{file:?} is named twice")));
            }
        }
        Ok(())
    }
}

/// The line on which a key of the top level or a table begins.
fn line_of(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let rest = line.trim_start().strip_prefix(key).map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with('=') || key.starts_with('['))
    };
    text.lines().position(is_key).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIG: &str = r#"id = "Rig-Login"
version = "1.0.0"
protocol = [1, 7]
program = "rig.py"
files = ["lib/x.py"]
providers = ["rig.toml"]
actions = ["login", "refresh"]
env = ["RIG_REGION"]
[settings.region]
description = "where"
default = "eu"
[settings.tenant]
[limits]
answer_seconds = 5
"#;

    #[test]
    fn reads_what_is_there() {
        let manifest = Manifest::parse(RIG).unwrap();
        assert_eq!(manifest.id, "rig-login");
        assert_eq!(
            (manifest.limits.answer_seconds, manifest.limits.hello_seconds),
            (5, 20)
        );
        assert!(manifest.can(Action::Refresh) && !manifest.can(Action::Revoke));
        assert_eq!(
            manifest.all_files(),
            [
                ("plugin.toml", false),
                ("rig.py", true),
                ("lib/x.py", false),
                ("rig.toml", false)
            ]
        );
        let user = BTreeMap::from([
            ("tenant".to_owned(), "t1".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        let told = manifest.settings_from(&user);
        let told: Vec<(&str, &str)> = told.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(told, [("region", "eu"), ("tenant", "t1")]);
    }

    #[test]
    fn names_the_line_and_the_fault() {
        let cases = [
            (
                "version = \"1.0.0\"",
                "version = \" \"",
                "line 2: version is empty",
            ),
            ("[1, 7]", "[2]", "line 3: protocol [2]: this tokensink speaks [1]"),
            (
                "\"rig.py\"",
                "\"../rig.py\"",
                "line 4: \"../rig.py\" is not a file of the plugin",
            ),
            ("\"rig.py\"", "\"/bin/sh\"", "line 4: \"/bin/sh\" is not"),
            ("\"rig.py\"", "\"\"", "line 4: \"\" is not"),
            ("lib/x.py", "rig.toml", "line 5: \"rig.toml\" is named twice"),
            ("[\"rig.toml\"]", "[]", "line 6: providers is empty"),
            (
                "[\"login\", \"refresh\"]",
                "[\"refresh\"]",
                "line 7: actions lacks \"login\"",
            ),
            ("\"refresh\"", "\"steal\"", "line 7: unknown variant"),
            ("RIG_REGION", "RIG REGION", "line 8: env: \"RIG REGION\""),
            ("description", "colour", "line 10: unknown field"),
            ("Rig-Login", "a b", "line 1: provider id"),
            (
                "answer_seconds = 5",
                "answer_seconds = 61",
                "line 13: limits are at least 1 second",
            ),
            (
                "answer_seconds = 5",
                "hello_seconds = 0",
                "line 13: limits are at least 1 second",
            ),
        ];
        for (from, to, want) in cases {
            assert!(RIG.contains(from), "{from}");
            let error = Manifest::parse(&RIG.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(want), "{to}: {error}");
        }
    }
}
