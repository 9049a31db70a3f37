//! A decision with everything that it was made of, to be kept and to be made again (`tokensink explain`).
//!
//! Of configuration and state only what the decision depends on is kept: with a thousand profiles stored, a record of
//! one provider's choice holds that provider's. No record holds a secret, because no input does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tokensink_types::{ProfileId, ProviderId, UnixMillis};

use crate::{Config, Decision, OAuthRefError, Request, State, Target, select};

/// The form of the records that are written now. One of another form may decide otherwise when it is made again.
pub const VERSION: u32 = 1;

/// A decision and its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// The configuration, as far as it matters.
    pub config: Config,
    /// What was stored, as far as it matters.
    pub state: State,
    /// What was asked for.
    pub request: Request,
    /// When.
    pub now: UnixMillis,
    /// What was decided.
    pub result: Result<Decision, OAuthRefError>,
}

impl RecordedDecision {
    /// Records what [`select`] made of these inputs.
    #[must_use]
    pub fn of(
        config: &Config,
        state: &State,
        request: &Request,
        now: UnixMillis,
        result: Result<Decision, OAuthRefError>,
    ) -> Self {
        let (config, state) = relevant(config, state, request);
        Self {
            version: VERSION,
            config,
            state,
            request: request.clone(),
            now,
            result,
        }
    }

    /// Decides once more from the recorded inputs.
    ///
    /// # Errors
    /// As [`select`].
    pub fn again(&self) -> Result<Decision, OAuthRefError> {
        select(&self.config, &self.state, &self.request, self.now)
    }

    /// The recorded inputs still lead to the recorded result.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.again() == self.result
    }
}

/// The part of the inputs that can have a say in the answer to `request`.
fn relevant(config: &Config, state: &State, request: &Request) -> (Config, State) {
    let (mut config, mut state) = (config.clone(), state.clone());
    let aliases = config.aliases.clone();
    let provider = match &request.target {
        Target::Provider(provider) => Some(provider),
        Target::Profile(_) => None,
    };
    let concerns = |id: &ProviderId| {
        provider.is_some_and(|provider| aliases.same(id, provider) || id == aliases.canonical(provider))
    };
    config.order.retain(|id, _| concerns(id));
    state.order.retain(|id, _| concerns(id));

    let listed = config.order.values().chain(state.order.values()).flatten();
    let mut ids: BTreeSet<ProfileId> = listed.chain(&request.tried).cloned().collect();
    if let Target::Profile(id) = &request.target {
        ids.insert(id.clone());
    }
    let configured = config.profiles.iter().filter(|entry| concerns(&entry.provider));
    ids.extend(configured.map(|entry| entry.id.clone()));
    let stored = state
        .candidates
        .iter()
        .filter(|stored| concerns(&stored.facts.provider));
    ids.extend(stored.map(|stored| stored.id.clone()));
    let pin = request.session.as_ref().and_then(|session| session.pin.as_ref());
    ids.extend(pin.map(|pin| pin.profile.clone()));

    state.candidates.retain(|stored| ids.contains(&stored.id));
    config
        .profiles
        .retain(|entry| ids.contains(&entry.id) || concerns(&entry.provider));

    let mut named: BTreeSet<&ProviderId> = provider.into_iter().collect();
    named.extend(config.order.keys().chain(state.order.keys()));
    named.extend(state.candidates.iter().map(|stored| &stored.facts.provider));
    named.extend(config.profiles.iter().map(|entry| &entry.provider));
    named.extend(config.deny.iter().filter_map(|rule| rule.provider.as_ref()));
    config.aliases = aliases.of(&named);
    (config, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::{NOW, api_key, candidate, id, ids, provider, state};
    use crate::{ConfigProfile, ProviderAliases};

    /// Ten providers with ten profiles each; `rig` is also called `bohr`, and has a stray id in its order.
    fn crowd() -> (Config, State) {
        let names: Vec<String> = (0..9)
            .map(|at| format!("p{at}"))
            .chain(["rig".to_owned()])
            .collect();
        let candidates = names
            .iter()
            .flat_map(|name| (0..10).map(move |at| candidate(&format!("{name}:{at}"), name, api_key())));
        let mut state = state(candidates.collect());
        state
            .order
            .insert(provider("bohr"), ids(&["rig:3", "p1:1", "gone:x", "rig:2"]));
        state.order.insert(provider("p2"), ids(&["p2:1"]));
        let mut config = Config {
            aliases: ProviderAliases::new([
                (provider("bohr"), provider("rig")),
                (provider("x2"), provider("p2")),
            ]),
            ..Config::default()
        };
        config.profiles.push(ConfigProfile {
            id: id("p5:1"),
            provider: provider("p5"),
            mode: None,
        });
        (config, state)
    }

    #[test]
    fn a_record_keeps_what_matters_and_decides_the_same() {
        let (config, state) = crowd();
        let targets = [
            (Target::Provider(provider("rig")), 12),
            (Target::Provider(provider("bohr")), 12),
            (Target::Provider(provider("nobody")), 1),
            (Target::Profile(id("p3:4")), 2),
            (Target::Profile(id("gone:x")), 1),
        ];
        for (target, kept) in targets {
            let request = Request {
                tried: ids(&["p7:7"]),
                ..Request::new(target)
            };
            let result = select(&config, &state, &request, NOW);
            let record = RecordedDecision::of(&config, &state, &request, NOW, result);
            assert_eq!(record.state.candidates.len(), kept, "{request:?}");
            assert!(record.agrees(), "{record:?}");
            let text = serde_json::to_string(&record).unwrap();
            assert!(!text.contains("x2"), "an alias of another provider: {text}");
            let read: RecordedDecision = serde_json::from_str(&text).unwrap();
            assert_eq!(read, record);
        }
    }

    #[test]
    fn a_record_whose_inputs_were_changed_does_not_agree() {
        let (config, state) = crowd();
        let request = Request::new(Target::Provider(provider("rig")));
        let result = select(&config, &state, &request, NOW);
        let mut record = RecordedDecision::of(&config, &state, &request, NOW, result);
        record.state.order.clear();
        assert!(!record.agrees());
    }
}
