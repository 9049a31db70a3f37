//! The models that are tried one after another, and the error when none answered (spec.md 6.8 to 6.11).

use tokensink_policy::chain::{Attempt, Chain, Model, Summary};
use tokensink_policy::classify::Reason;
use tokensink_types::AgentId;

use super::target::ModelTarget;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

impl Sink {
    /// The models to try for a request, the requested one first, each once: then the agent's fallbacks, unless the
    /// request left the default's provider on purpose, then its configured default (spec.md 6.8). What the config names
    /// and nobody knows is left out.
    ///
    /// # Errors
    /// When the config or the agent's store cannot be read.
    pub fn model_chain(&self, agent: &AgentId, requested: &ModelTarget) -> Result<Vec<Model>> {
        let view = self.models_view(agent)?;
        let model = |text: &String| {
            let target = self.resolve_model(agent, text).ok()?;
            Some(model_of(&target))
        };
        let fallbacks: Vec<Model> = view.fallbacks.iter().filter_map(model).collect();
        // A default that is only assumed is nobody's wish.
        let primary = view.default.as_ref().and_then(|_| model(&view.resolved_default));
        let chain = Chain {
            requested: &model_of(requested),
            fallbacks: &fallbacks,
            primary: primary.as_ref(),
            own: None,
        };
        Ok(chain.candidates())
    }

    /// The error of a request that no model of its chain answered: every attempt with its reason, and the soonest time
    /// at which another try can help. Waiting is advised where that is known, a login where nothing else is wrong.
    #[must_use]
    pub fn all_models_failed(&self, attempts: Vec<Attempt>) -> SinkError {
        let summary = Summary { attempts };
        let only_logins = summary
            .attempts
            .iter()
            .all(|attempt| matches!(attempt.reason, Reason::Auth | Reason::AuthPermanent));
        let soonest = summary.soonest();
        let kind = match soonest {
            Some(_) => ErrorKind::TryAgain,
            None if only_logins && !summary.attempts.is_empty() => ErrorKind::LoginNeeded,
            None => ErrorKind::Failed,
        };
        SinkError::new(kind, "all_models_failed", summary.to_string())
            .with_fix("tokensink models status")
            .until(soonest)
    }
}

fn model_of(target: &ModelTarget) -> Model {
    Model {
        provider: target.provider.clone(),
        model: target.model.clone(),
    }
}

#[cfg(test)]
mod tests {
    use tokensink_types::UnixMillis;

    use super::*;
    use crate::world::{World, agent};

    fn chain(world: &World, of: &str, requested: &str) -> String {
        let sink = world.sink();
        let target = sink.resolve_model(&agent(of), requested).unwrap();
        let models = sink.model_chain(&agent(of), &target).unwrap();
        let names: Vec<String> = models.iter().map(ToString::to_string).collect();
        names.join(" ")
    }

    #[test]
    fn fallbacks_are_those_of_the_agent() {
        let world = World::new();
        world.put(
            "openclaw.json",
            "{ agents: { defaults: { model: { primary: 'tiny', fallbacks: ['anthropic/opus', 'nobody/x', 'rig/rig-large'] } },
               list: [{ id: 'main' }, { id: 'own', model: { primary: 'groq/g', fallbacks: ['mute/little'] } }] } }",
        );
        let all = "rig/rig-small anthropic/claude-opus-4-6 rig/rig-large";
        let cases = [
            ("main", "tiny", all),
            (
                "main",
                "rig/other",
                "rig/other anthropic/claude-opus-4-6 rig/rig-large rig/rig-small",
            ),
            // Another provider was wanted, so the default's fallbacks are not.
            ("main", "groq/g", "groq/g rig/rig-small"),
            (
                "main",
                "opus",
                "anthropic/claude-opus-4-6 rig/rig-large rig/rig-small",
            ),
            ("own", "groq/g", "groq/g mute/rig-small"),
        ];
        for (of, requested, wanted) in cases {
            assert_eq!(chain(&world, of, requested), wanted, "{of} {requested}");
        }
        assert_eq!(
            chain(&World::new(), "main", "tiny"),
            "rig/rig-small",
            "an assumed default is no candidate"
        );
    }

    #[test]
    fn the_error_names_every_attempt_and_when_to_try_again() {
        let sink = World::new().sink();
        let attempt = |model: &str, reason, until: Option<i64>| Attempt {
            model: model_of(&sink.resolve_model(&agent("main"), model).unwrap()),
            reason,
            text: "no".to_owned(),
            until: until.map(UnixMillis),
        };
        let cases = [
            (
                vec![
                    attempt("rig/a", Reason::RateLimit, Some(9)),
                    attempt("opus", Reason::Auth, Some(5)),
                ],
                ErrorKind::TryAgain,
                Some(5),
                "All models failed (2): rig/a: no (rate_limit) | anthropic/claude-opus-4-6: no (auth)",
            ),
            (
                vec![attempt("rig/a", Reason::Auth, None)],
                ErrorKind::LoginNeeded,
                None,
                "no",
            ),
            (
                vec![
                    attempt("rig/a", Reason::Auth, None),
                    attempt("rig/b", Reason::Format, None),
                ],
                ErrorKind::Failed,
                None,
                "All models failed (2): rig/a: no (auth) | rig/b: no (format)",
            ),
        ];
        for (attempts, kind, until, text) in cases {
            let error = sink.all_models_failed(attempts);
            let found = (error.kind(), error.retry_at().map(|at| at.0), error.to_string());
            assert_eq!(found, (kind, until, text.to_owned()));
        }
    }
}
