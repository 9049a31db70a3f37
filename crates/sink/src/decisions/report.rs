//! What `explain` tells: plain values for rendering.

use std::time::Duration;

use tokensink_policy::bench::Bucket;
use tokensink_types::{AgentId, BillingClass, SessionKey, UnixMillis};

/// Which choice is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The request or lease with this id.
    Id(String),
    /// The last one that was kept.
    Last,
    /// None that was made: what would be chosen now, without any effect.
    Now(ExplainAsk),
}

/// What would be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainAsk {
    /// The agent.
    pub agent: AgentId,
    /// The provider, by id or alias.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: Option<String>,
    /// The session whose account counts.
    pub session: Option<SessionKey>,
}

/// The choices of one request, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// When it was explained.
    pub now: UnixMillis,
    /// The choices; there are several where the first account failed.
    pub choices: Vec<ExplainedChoice>,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedChoice {
    /// Its id, which is its lease's; `None` for what would be chosen now.
    pub id: Option<String>,
    /// The id of its request, where that had one of its own.
    pub request: Option<String>,
    /// When.
    pub at: UnixMillis,
    /// For whom.
    pub agent: String,
    /// What was asked for: a provider or a profile.
    pub wanted: String,
    /// The model.
    pub model: Option<String>,
    /// The profile that the session had: `user` or `auto`, and its id.
    pub session_pin: Option<(&'static str, String)>,
    /// What had been tried for the request by then.
    pub tried: Vec<String>,
    /// Where the order came from.
    pub order: Option<&'static str>,
    /// Everyone who came into question, the order first.
    pub profiles: Vec<ExplainedProfile>,
    /// Who was chosen.
    pub chosen: Option<String>,
    /// Why nobody was, in a sentence.
    pub unavailable: Option<String>,
    /// When it was worth while to ask again without anybody doing anything, where nobody was chosen.
    pub retry_at: Option<UnixMillis>,
    /// The command that helps, where nobody could be chosen now and one is known.
    pub fix: Option<String>,
    /// Whose credential was handed out; another one than was chosen where that one could not serve.
    pub served: Option<String>,
    /// The code of the error that the caller got instead.
    pub error: Option<String>,
    /// Why the session's profile is what it is.
    pub pin_why: Option<&'static str>,
    /// What became of its calls.
    pub attempts: Vec<ExplainedAttempt>,
    /// Whether the recorded inputs still lead to it.
    pub reproduced: Reproduced,
}

/// Whether a choice was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reproduced {
    /// The recorded inputs lead to the very same decision.
    Same,
    /// They lead to another one: what differs.
    Differs(Vec<String>),
    /// Nothing was recorded: it was decided just now, or its record is gone.
    NotRecorded,
}

/// One profile that came into question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedProfile {
    /// Its id.
    pub profile: String,
    /// The agent that owns it.
    pub owner: Option<String>,
    /// Its place in the order, from 0.
    pub position: Option<usize>,
    /// The rule that decided, by its stable word.
    pub rule: &'static str,
    /// A sentence for people, with times as they were then.
    pub why: String,
    /// The code of its eligibility.
    pub eligibility: &'static str,
    /// What it costs.
    pub billing: Option<BillingClass>,
    /// The window that kept it back, or would have.
    pub bench: Option<ExplainedBench>,
    /// When its windows give way.
    pub free_at: Option<UnixMillis>,
    /// A request may test its window.
    pub tests: bool,
}

/// A window in which a profile is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedBench {
    /// The failure that opened it.
    pub reason: String,
    /// What it keeps from being tried.
    pub bucket: Bucket,
    /// When it ends.
    pub until: UnixMillis,
    /// How long it had still to go.
    pub left: Duration,
    /// The end is the server's word; `None` where that is not known.
    pub stated: Option<bool>,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedAttempt {
    /// When that was told.
    pub at: UnixMillis,
    /// With whose credential.
    pub profile: String,
    /// `served`, `failed`, `not-connected`, `timed-out`, `cut-off` or `abandoned`.
    pub outcome: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// What the failure means.
    pub reason: Option<String>,
    /// The id of the rule that says so.
    pub rule: Option<String>,
    /// What was benched because of it.
    pub bench: Option<ExplainedBench>,
}
