//! Our own settings: `tokensink/config.toml` in the state dir.
//!
//! Everything has a default; an unknown field is an error that names it, because a misspelt `inherit` that is
//! silently ignored would let an agent use a login that it must not use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use tokensink_host::Files;
use tokensink_policy::DenyRule;
use tokensink_types::{AgentId, BillingClass, ProfileId, ProviderId};

use crate::error::{ErrorKind, Result, SinkError};

/// The settings in force.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    agents: BTreeMap<String, AgentSettings>,
    profiles: BTreeMap<String, ProfileSettings>,
    network: NetworkSettings,
    plugins: BTreeMap<String, BTreeMap<String, String>>,
    billing: BillingSettings,
    deny: Vec<Deny>,
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

/// Which moves to a costlier class failover may make.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BillingSettings {
    allow: Vec<Crossing>,
    crossings_per_day: Option<u32>,
}

/// `subscription -> metered`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Crossing(BillingClass, BillingClass);

impl TryFrom<String> for Crossing {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wanted = || format!("\"{text}\" is no crossing; write it as \"subscription -> metered\"");
        let (from, to) = text.split_once("->").ok_or_else(wanted)?;
        let (from, to): (BillingClass, BillingClass) = (from.trim().parse()?, to.trim().parse()?);
        if from < to {
            return Ok(Self(from, to));
        }
        Err(format!(
            "{to} costs no more than {from}, so that \"{text}\" needs no leave"
        ))
    }
}

/// A rule that forbids profiles; what it leaves out fits all.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "DenyText")]
struct Deny(DenyRule);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DenyText {
    id: String,
    agent: Option<String>,
    provider: Option<ProviderId>,
    profile: Option<ProfileId>,
    model: Option<String>,
    billing: Option<Billing>,
}

impl TryFrom<DenyText> for Deny {
    type Error = String;
    fn try_from(text: DenyText) -> std::result::Result<Self, String> {
        let rule = DenyRule {
            id: text.id.trim().to_owned(),
            agent: text.agent.as_deref().map(AgentId::normalise),
            provider: text.provider,
            profile: text.profile,
            model: text.model,
            billing: text.billing.map(|billing| billing.0),
        };
        let id = rule.id.clone();
        if id.is_empty() {
            return Err("a deny rule needs an id, which the refusals name".to_owned());
        }
        let says_nothing = DenyRule {
            id: id.clone(),
            ..DenyRule::default()
        };
        if rule == says_nothing {
            return Err(format!(
                "the deny rule {id} would forbid everything; name an agent, provider, profile, model or billing class"
            ));
        }
        Ok(Self(rule))
    }
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

    /// The moves to a costlier class that failover may make (design: Money).
    pub(crate) fn crossings(&self) -> BTreeSet<(BillingClass, BillingClass)> {
        let all = self.billing.allow.iter();
        all.map(|crossing| (crossing.0, crossing.1)).collect()
    }

    /// How many calls may move to a costlier class on one day, in UTC, of all agents together. `None`: as many as come,
    /// or there is no such move.
    pub(crate) fn crossings_per_day(&self) -> Option<u32> {
        let cap = self.billing.crossings_per_day;
        cap.filter(|_| !self.billing.allow.is_empty())
    }

    /// What must not be used.
    pub(crate) fn deny(&self) -> Vec<DenyRule> {
        self.deny.iter().map(|rule| rule.0.clone()).collect()
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
    fn a_bound_needs_something_that_it_bounds() {
        let parsed = |text: &str| Settings::parse(text, Path::new("/c.toml")).unwrap();
        let bound = |text: &str| parsed(text).crossings_per_day();
        assert_eq!(
            bound("[billing]\nallow = [\"free -> metered\"]\ncrossings_per_day = 7\n"),
            Some(7)
        );
        assert_eq!(bound("[billing]\ncrossings_per_day = 7\n"), None);
        assert_eq!(bound("[billing]\nallow = [\"free -> metered\"]\n"), None);
    }

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
    fn reads_what_may_cost_more_and_what_is_forbidden() {
        let text = "[billing]\nallow = [\"subscription -> metered\", \"free->prepaid\"]\n[[deny]]\nid = \"kids\"\nagent = \"Kids\"\nbilling = \"metered\"\n[[deny]]\nid = \"big\"\nprovider = \"Rig\"\nprofile = \"rig:a\"\nmodel = \"big\"\n";
        let settings = Settings::parse(text, Path::new("/c.toml")).unwrap();
        assert_eq!(
            settings.crossings().into_iter().collect::<Vec<_>>(),
            [
                (BillingClass::Free, BillingClass::Prepaid),
                (BillingClass::Subscription, BillingClass::Metered)
            ]
        );
        let kids = DenyRule {
            id: "kids".to_owned(),
            agent: Some(AgentId::normalise("kids")),
            billing: Some(BillingClass::Metered),
            ..DenyRule::default()
        };
        let big = DenyRule {
            id: "big".to_owned(),
            provider: ProviderId::parse("rig").ok(),
            profile: ProfileId::parse("rig:a").ok(),
            model: Some("big".to_owned()),
            ..DenyRule::default()
        };
        assert_eq!(settings.deny(), [kids, big]);
    }

    #[test]
    fn names_the_line_of_a_mistake() {
        let cases = [
            ("\n[agents.work]\ninherits = false\n", "line 3"),
            ("[profiles.x]\nbilling = \"cheap\"\n", "line 2"),
            ("[network\n", "line 1"),
            ("[billing]\nallow = [\"subscription metered\"]\n", "line 2"),
            ("[billing]\nallow = [\"subscription -> dear\"]\n", "line 2"),
            ("[billing]\nallow = [\"metered -> free\"]\n", "line 2"),
            ("[billing]\ncrossings_per_day = -1\n", "line 2"),
            ("\n[[deny]]\nid = \"x\"\nprofil = \"a:b\"\n", "line 4"),
            ("[[deny]]\nid = \"x\"\n", "would forbid everything"),
            ("[[deny]]\nid = \" \"\nmodel = \"m\"\n", "needs an id"),
            ("[[deny]]\nmodel = \"m\"\n", "id"),
        ];
        for (text, want) in cases {
            let error = Settings::parse(text, Path::new("/c.toml")).unwrap_err();
            assert!(error.to_string().contains(want), "{text:?}: {error}");
            assert!(error.to_string().contains("/c.toml"));
        }
    }
}
