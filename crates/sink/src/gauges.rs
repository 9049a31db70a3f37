//! What can be measured of a sink at a moment, for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokensink_types::{AgentId, Credential, Expiry, ProfileId};

use crate::error::Result;
use crate::sink::Sink;

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The profiles of all agents, each once, with its owner.
    pub profiles: Vec<ProfileGauge>,
    /// Refreshes that this process saw since it began: profile, how they ended, how many.
    pub refreshes: Vec<(ProfileId, &'static str, u64)>,
}

/// The numbers of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileGauge {
    /// The agent that owns it.
    pub agent: AgentId,
    /// Its id.
    pub profile: ProfileId,
    /// Whole seconds until its token ends, below zero when it has; `None` for what does not end.
    pub expires_in_seconds: Option<i64>,
    /// The reasons of the windows that are open.
    pub benches: Vec<String>,
}

/// Refreshes by profile and how they ended.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(ProfileId, &'static str), u64>>);

impl Tally {
    pub(crate) fn count(&self, profile: &ProfileId, outcome: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((profile.clone(), outcome)).or_insert(0) += 1;
    }

    fn all(&self) -> Vec<(ProfileId, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.iter();
        all.map(|((profile, outcome), count)| (profile.clone(), *outcome, *count))
            .collect()
    }
}

/// A profile's id for metrics and other places that many can read: one that holds an e-mail address is shown as its
/// provider with the first eight hex digits of the id's SHA-256, for example `openai-codex:~1a2b3c4d`.
#[must_use]
pub fn metric_label(id: &ProfileId) -> String {
    if !id.as_str().contains('@') {
        return id.to_string();
    }
    let hash = hex::encode(&Sha256::digest(id.as_str())[..4]);
    let provider = id.as_str().split(':').next().filter(|part| !part.contains('@'));
    format!("{}:~{hash}", provider.unwrap_or_default())
}

impl Sink {
    /// The numbers of this moment. A store that cannot be read is left out, and told to the log.
    ///
    /// # Errors
    /// When the agents cannot be listed.
    pub fn gauges(&self) -> Result<Gauges> {
        let mut gauges = Gauges {
            profiles: Vec::new(),
            refreshes: self.tally().all(),
        };
        for agent in self.store().agents()? {
            match self.profile_gauges(&agent) {
                Ok(profiles) => gauges.profiles.extend(profiles),
                Err(error) => tracing::warn!(%agent, %error, "an agent's logins are not measured"),
            }
        }
        Ok(gauges)
    }

    fn profile_gauges(&self, agent: &AgentId) -> Result<Vec<ProfileGauge>> {
        let snapshot = self.snapshot(agent)?;
        let now = self.now();
        let own = snapshot.view.profiles.iter().filter(|profile| !profile.inherited);
        let gauges = own.map(|profile| {
            let expires = match &profile.entry.credential {
                Credential::ApiKey(_) => None,
                Credential::Token(token) => match token.expires {
                    Expiry::At(at) => Some(at),
                    Expiry::Never | Expiry::Invalid => None,
                },
                Credential::OAuth(oauth) => {
                    let grant = self.grant(&snapshot.target_of(profile)).ok().flatten();
                    grant.map_or(oauth.tokens.expires, |grant| grant.generation.tokens.expires)
                }
            };
            let candidate = snapshot.candidate(&profile.entry.id);
            let benches = candidate.map(|candidate| {
                let ours = candidate.benches.all.iter().filter(|bench| now < bench.until);
                let ends: Vec<_> = ours.clone().map(|bench| bench.until).collect();
                let theirs = candidate
                    .usage
                    .windows(now)
                    .filter(|window| !ends.contains(&window.until));
                let ours = ours.map(|bench| bench.reason.as_str().to_owned());
                ours.chain(theirs.map(|window| window.reason)).collect()
            });
            ProfileGauge {
                agent: agent.clone(),
                profile: profile.entry.id.clone(),
                expires_in_seconds: expires.map(|at| (at.0 - now.0).div_euclid(1000)),
                benches: benches.unwrap_or_default(),
            }
        });
        Ok(gauges.collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::world::{World, key, oauth};

    #[test]
    fn labels_hold_no_address() {
        for (id, want) in [
            ("rig:work", "rig:work"),
            ("rig:alice@example.com", "rig:~"),
            ("alice@example.com", ":~"),
        ] {
            let label = metric_label(&ProfileId::parse(id).unwrap());
            assert!(label.starts_with(want) && !label.contains('@'), "{id}: {label}");
        }
    }

    #[test]
    fn each_profile_is_measured_once_with_its_end_and_its_windows() {
        let world = World::new();
        world.store(
            "main",
            &json!({ "rig:one": oauth("rig", "one"), "rig:key": key("rig") }),
        );
        world.store("work", &json!({ "mute:two": oauth("mute", "two") }));
        let now = world.sink().now().0;
        let state = json!({"version": 1, "usageStats": {
            "rig:key": {"disabledUntil": now + 60_000, "disabledReason": "billing"},
            "rig:one": {"cooldownUntil": now - 1, "cooldownReason": "rate_limit"},
        }});
        world.put("agents/main/agent/auth-state.json", &state.to_string());
        let sink = world.sink();
        sink.tally().count(&crate::world::id("rig:one"), "served");
        let gauges = sink.gauges().unwrap();
        let told: Vec<_> = gauges
            .profiles
            .iter()
            .map(|one| {
                (
                    one.agent.as_str(),
                    one.profile.as_str(),
                    one.expires_in_seconds,
                    one.benches.join(","),
                )
            })
            .collect();
        let no = String::new;
        assert_eq!(
            told,
            [
                ("main", "rig:one", Some(3600), no()),
                ("main", "rig:key", None, "billing".to_owned()),
                ("work", "mute:two", Some(3600), no()),
            ]
        );
        assert_eq!(gauges.refreshes, [(crate::world::id("rig:one"), "served", 1)]);
    }
}
