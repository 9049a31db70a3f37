//! Explaining a choice: what is kept of it, made again from its inputs; or what would be chosen now.

use std::time::Duration;

use tokensink_policy::record::RecordedDecision;
use tokensink_policy::{self as policy, Decision, OAuthRefError, Outcome, Target, Verdict, Window};
use tokensink_types::{AgentId, ProfileId, ProviderId, UnixMillis};

use super::FLUSH_EVERY;
use super::book::{Kept, KeptAttempt, KeptChoice};
use super::report::{
    Asked, ExplainAsk, ExplainedAttempt, ExplainedBench, ExplainedChoice, ExplainedProfile, Explanation,
    Reproduced,
};
use crate::calls::crossings::CROSSINGS_SPENT;
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::{AcquireRequest, Want};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// The code of the error that nothing of an id is kept.
const NOT_KEPT: &str = "no_decision";
/// Longest time that writing decisions takes, usually.
const FLUSH_TAKES: Duration = Duration::from_millis(250);

impl Sink {
    /// Explains a choice that was made, or what would be chosen now. Changes nothing and reads no secret. Waits a second
    /// where nothing of an id is kept yet: a gateway writes down what it has chosen that often.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when no choice with that id is kept, or none at all; when what is kept, or the store, cannot
    /// be read.
    pub fn explain(&self, asked: &Asked) -> Result<Explanation> {
        let choices = match asked {
            Asked::Now(ask) => vec![self.explain_now(ask)?],
            Asked::Id(id) => match self.kept_choices(Some(id)) {
                Err(error) if error.code() == NOT_KEPT => {
                    self.host().clock.sleep(FLUSH_EVERY + FLUSH_TAKES);
                    self.kept_choices(Some(id))?
                }
                known => known?,
            },
            Asked::Last => self.kept_choices(None)?,
        };
        Ok(Explanation {
            now: self.now(),
            choices,
        })
    }

    fn kept_choices(&self, id: Option<&str>) -> Result<Vec<ExplainedChoice>> {
        // Those of this process that are not written yet.
        self.flush_decisions();
        let kept = Kept::read(&*self.host().files, self.paths()).map_err(|error| {
            let dir = self.paths().own_state_dir().join("decisions");
            let message = format!("the decisions in {} cannot be read: {error}", dir.display());
            SinkError::new(ErrorKind::Failed, "decisions_unreadable", message)
        })?;
        let id = id.map(|text| text.trim().to_ascii_lowercase());
        let found = match &id {
            None => match kept.choices.last() {
                None => return Ok(Vec::new()),
                last => last,
            },
            Some(id) => kept
                .choices
                .iter()
                .rev()
                .find(|choice| choice.id == *id || choice.request.as_ref() == Some(id)),
        };
        let Some(found) = found else {
            return Err(not_kept(id.as_deref().unwrap_or_default()));
        };
        // All of the same request: an id of its own, or the lease's that began it.
        let request = found.request.as_ref().unwrap_or(&found.id);
        let same = |choice: &&KeptChoice| choice.id == *request || choice.request.as_ref() == Some(request);
        Ok(kept
            .choices
            .iter()
            .filter(same)
            .map(|choice| explained(&kept, choice))
            .collect())
    }

    fn explain_now(&self, ask: &ExplainAsk) -> Result<ExplainedChoice> {
        let sink = self.current();
        let snapshot = sink.snapshot(&ask.agent)?;
        let provider = sink.provider_id(&ask.provider, &snapshot)?;
        let key = ask.session.as_ref();
        let session = key
            .map(|key| sink.session_pin(&snapshot, key, &provider))
            .transpose()?;
        let (model, profile) = sink.explained_model(&ask.agent, &provider, ask.model.as_deref());
        let target = profile.map_or(Target::Provider(provider), Target::Profile);
        let request = policy::Request {
            model,
            session,
            ..policy::Request::new(target)
        };
        let now = sink.now();
        let result = policy::select(&snapshot.config, &snapshot.state, &request, now);
        let refusal = match &result {
            Ok(Decision {
                outcome: Outcome::Unavailable(why),
                ..
            }) => Some(sink.told_to_a_caller(why, (&snapshot, &request), ask)),
            _ => None,
        };
        let record = RecordedDecision::of(&snapshot.config, &snapshot.state, &request, now, result);
        let mut told = told(&record);
        if let Some(error) = refusal {
            // It would lead back here.
            let leads_on = |fix: &&str| !fix.starts_with("tokensink explain");
            told.fix = error.fix().filter(leads_on).map(str::to_owned);
            if error.code() == CROSSINGS_SPENT {
                told.retry_at = error.retry_at();
                told.unavailable = Some(error.to_string());
            }
        }
        told.agent = ask.agent.to_string();
        Ok(told)
    }

    /// The error that a caller would get.
    fn told_to_a_caller(
        &self,
        why: &policy::Unavailable,
        (snapshot, request): (&AgentSnapshot, &policy::Request),
        ask: &ExplainAsk,
    ) -> SinkError {
        let asking = AcquireRequest::new(ask.agent.clone(), Want::Provider(ask.provider.clone()));
        self.refusal(why, (snapshot, request), &asking)
    }

    /// The provider's name of a model that may be written as elsewhere (an alias, a short name, with `@<profile>`), as
    /// benches and rules go by that name. What cannot be resolved to this provider stays as it is.
    fn explained_model(
        &self,
        agent: &AgentId,
        provider: &ProviderId,
        text: Option<&str>,
    ) -> (Option<String>, Option<ProfileId>) {
        let Some(text) = text else { return (None, None) };
        let found = [text.to_owned(), format!("{provider}/{text}")]
            .iter()
            .filter_map(|text| self.resolve_model(agent, text).ok())
            .find(|target| target.provider == *provider);
        match found {
            Some(target) => (Some(target.model), target.profile),
            None => (Some(text.to_owned()), None),
        }
    }
}

fn not_kept(id: &str) -> SinkError {
    let message = format!("no choice with the id {id} is kept");
    SinkError::new(ErrorKind::Usage, NOT_KEPT, message)
        .with_fix("tokensink explain, without an id, tells the last one; of first choices about the last thousand are kept")
}

fn explained(kept: &Kept, choice: &KeptChoice) -> ExplainedChoice {
    let mut told = match kept.made(choice) {
        Some(record) => {
            let mut told = told(&record);
            told.reproduced = reproduced(&record);
            told
        }
        None => unknown(choice),
    };
    told.id = Some(choice.id.clone());
    told.request.clone_from(&choice.request);
    told.at = choice.at;
    told.agent.clone_from(&choice.agent);
    told.served.clone_from(&choice.served);
    told.error.clone_from(&choice.error);
    if choice.error.as_deref() == Some(CROSSINGS_SPENT) {
        // The decision was made as without the leave, and would name that as what is missing.
        let text = "as many calls as may on one day had moved to a costlier class (crossings_per_day)";
        told.unavailable = Some(text.to_owned());
    }
    let attempts = kept.attempts.iter().filter(|attempt| attempt.lease == choice.id);
    told.attempts = attempts.map(attempted).collect();
    told
}

/// Its record is gone, or another version has written it.
fn unknown(choice: &KeptChoice) -> ExplainedChoice {
    ExplainedChoice {
        id: None,
        request: None,
        at: choice.at,
        agent: String::new(),
        wanted: String::new(),
        model: None,
        session_pin: None,
        tried: Vec::new(),
        order: None,
        profiles: Vec::new(),
        chosen: None,
        unavailable: None,
        retry_at: None,
        fix: None,
        served: None,
        error: None,
        pin_why: None,
        attempts: Vec::new(),
        reproduced: Reproduced::NotRecorded,
    }
}

/// What a record says.
fn told(record: &RecordedDecision) -> ExplainedChoice {
    let request = &record.request;
    let pin = request.session.as_ref().and_then(|session| session.pin.as_ref());
    let decision = record.result.as_ref().ok();
    let (chosen, unavailable, retry_at) = match &record.result {
        Ok(Decision {
            outcome: Outcome::Chosen(choice),
            ..
        }) => (Some(choice.profile.to_string()), None, None),
        Ok(Decision {
            outcome: Outcome::Unavailable(why),
            ..
        }) => (None, Some(why.to_string()), why.retry_at()),
        Err(error) => (None, Some(error.to_string()), None),
    };
    let verdicts = decision.map_or(&[][..], |decision| &decision.verdicts);
    ExplainedChoice {
        id: None,
        request: None,
        at: record.now,
        agent: record.state.agent.to_string(),
        wanted: match &request.target {
            Target::Provider(id) => id.to_string(),
            Target::Profile(id) => id.to_string(),
        },
        model: request.model.clone(),
        session_pin: pin.map(|pin| (pin.source.as_str(), pin.profile.to_string())),
        tried: request.tried.iter().map(ToString::to_string).collect(),
        order: decision
            .and_then(|decision| decision.source)
            .map(policy::OrderSource::as_str),
        profiles: verdicts
            .iter()
            .map(|verdict| profile(verdict, record.now))
            .collect(),
        chosen,
        unavailable,
        retry_at,
        fix: None,
        served: None,
        error: None,
        pin_why: decision
            .and_then(|decision| decision.pin.as_ref())
            .map(|pinned| pinned.why.as_str()),
        attempts: Vec::new(),
        reproduced: Reproduced::NotRecorded,
    }
}

fn profile(verdict: &Verdict, now: UnixMillis) -> ExplainedProfile {
    ExplainedProfile {
        profile: verdict.profile.to_string(),
        owner: verdict.owner.as_ref().map(ToString::to_string),
        position: verdict.position,
        rule: verdict.rule.as_str(),
        why: verdict.why(now),
        eligibility: verdict.eligibility.code.as_str(),
        billing: verdict.billing,
        bench: verdict.bench.as_ref().map(|window| bench(window, now)),
        free_at: verdict.free_at,
        tests: verdict.tests,
    }
}

fn bench(window: &Window, now: UnixMillis) -> ExplainedBench {
    ExplainedBench {
        reason: window.reason.clone(),
        bucket: window.bucket.clone(),
        until: window.until,
        left: now.until(window.until),
        stated: window.ours.map(|ours| ours.stated),
    }
}

fn attempted(attempt: &KeptAttempt) -> ExplainedAttempt {
    let bench = attempt.bench.as_ref().map(|bench| ExplainedBench {
        reason: attempt.reason.clone().unwrap_or_default(),
        bucket: bench.bucket.clone(),
        until: bench.until,
        left: attempt.at.until(bench.until),
        stated: Some(bench.stated),
    });
    ExplainedAttempt {
        at: attempt.at,
        profile: attempt.profile.clone(),
        outcome: attempt.outcome.clone(),
        status: attempt.status,
        reason: attempt.reason.clone(),
        rule: attempt.rule.clone(),
        bench,
    }
}

fn reproduced(record: &RecordedDecision) -> Reproduced {
    let again = record.again();
    if again == record.result {
        return Reproduced::Same;
    }
    Reproduced::Differs(differences(&record.result, &again))
}

type Decided = std::result::Result<Decision, OAuthRefError>;

/// What another version of the rules, or a changed record, makes of the same inputs.
fn differences(then: &Decided, again: &Decided) -> Vec<String> {
    let outcome = |decided: &Decided| match decided {
        Ok(decision) => match &decision.outcome {
            Outcome::Chosen(choice) => choice.profile.to_string(),
            Outcome::Unavailable(why) => why.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let mut found = Vec::new();
    let (was, is) = (outcome(then), outcome(again));
    if was != is {
        found.push(format!("chosen then: {was}; now: {is}"));
    }
    if let (Ok(then), Ok(again)) = (then, again) {
        for verdict in &then.verdicts {
            let rule = again.verdict(&verdict.profile).map(|other| other.rule.as_str());
            if rule != Some(verdict.rule.as_str()) {
                let rule = rule.unwrap_or("not looked at");
                found.push(format!(
                    "{} then: {}; now: {rule}",
                    verdict.profile,
                    verdict.rule.as_str()
                ));
            }
        }
    }
    if found.is_empty() {
        found.push("the same profile, with other numbers".to_owned());
    }
    found
}
