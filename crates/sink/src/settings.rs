//! Our own settings: `tokensink/config.toml` in the state dir.
//!
//! Everything has a default; an unknown field is an error that names it, because a misspelt `inherit` that is
//! silently ignored would let an agent use a login that it must not use.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tokensink_host::Files;
use tokensink_types::{AgentId, BillingClass, ProfileId};

use crate::error::{ErrorKind, Result, SinkError};

/// The settings in force.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    agents: BTreeMap<String, AgentSettings>,
    profiles: BTreeMap<String, ProfileSettings>,
    network: NetworkSettings,
    plugins: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentSettings {
    inherit: bool,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { inherit: true }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProfileSettings {
    billing: Option<Billing>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Billing(BillingClass);

impl TryFrom<String> for Billing {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse().map(Self)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NetworkSettings {
    extra_ca: Vec<String>,
}

impl Settings {
    /// Reads the file; a missing one gives the defaults.
    ///
    /// # Errors
    /// When it cannot be read or does not parse, with path, line and reason.
    pub(crate) fn load(files: &dyn Files, path: &Path) -> Result<Self> {
        let bytes = match files.read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return Err(SinkError::new(ErrorKind::Failed, "settings_unreadable", message)
                    .with_fix(format!("chmod u+r {}", path.display())));
            }
        };
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let message = format!("{} line {line}: {}", path.display(), error.message().trim());
            SinkError::new(ErrorKind::Failed, "settings_invalid", message)
                .with_fix(format!("correct line {line} of {}", path.display()))
        })
    }

    /// Does the agent inherit main's profiles at all?
    pub(crate) fn inherits(&self, agent: &AgentId) -> bool {
        !agent.is_main()
            && self
                .agents
                .iter()
                .find(|(id, _)| AgentId::normalise(id) == *agent)
                .is_none_or(|(_, s)| s.inherit)
    }

    /// The user's own billing class of a profile.
    pub(crate) fn billing(&self, profile: &ProfileId) -> Option<BillingClass> {
        self.profiles
            .get(profile.as_str())
            .and_then(|settings| settings.billing)
            .map(|billing| billing.0)
    }

    /// What the user has set for a plugin; the plugin is told only what its manifest declares.
    pub(crate) fn plugin(&self, id: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.plugins.get(id).unwrap_or(&NONE)
    }

    /// Certificate files to trust besides the system's.
    pub(crate) fn extra_ca(&self) -> &[String] {
        &self.network.extra_ca
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there() {
        let text = "[agents.Work]\ninherit = false\n[profiles.\"anthropic:work\"]\nbilling = \"metered\"\n[network]\nextra_ca = [\"/ca.pem\"]\n";
        let settings = Settings::parse(text, Path::new("/c.toml")).unwrap();
        assert!(!settings.inherits(&AgentId::normalise("work")));
        assert!(settings.inherits(&AgentId::normalise("other")));
        assert!(
            !settings.inherits(&AgentId::main()),
            "main has nobody to inherit from"
        );
        assert_eq!(
            settings.billing(&ProfileId::parse("anthropic:work").unwrap()),
            Some(BillingClass::Metered)
        );
        assert_eq!(settings.extra_ca(), ["/ca.pem"]);
    }

    #[test]
    fn names_the_line_of_a_mistake() {
        let cases = [
            ("\n[agents.work]\ninherits = false\n", "line 3"),
            ("[profiles.x]\nbilling = \"cheap\"\n", "line 2"),
            ("[network\n", "line 1"),
        ];
        for (text, want) in cases {
            let error = Settings::parse(text, Path::new("/c.toml")).unwrap_err();
            assert!(error.to_string().contains(want), "{text:?}: {error}");
            assert!(error.to_string().contains("/c.toml"));
        }
    }
}
