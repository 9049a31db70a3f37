//! What the gateway's own endpoints are asked and what they answer: the JSON, and through it the OpenAPI document.
//!
//! A field that is not here is refused in a request, so that a mistyped one is not taken for a wish that was granted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which credential is wanted. Exactly one of `provider`, `profile` and `model` says so; `model` may stand beside the
/// others and then is the model's name as the provider knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseRequest {
    /// The best profile of this provider, by id or alias.
    pub(crate) provider: Option<String>,
    /// This profile and no other.
    pub(crate) profile: Option<String>,
    /// The provider of this model: an alias, `provider/model`, a bare name, each with `@profile` if wanted.
    pub(crate) model: Option<String>,
    /// How long the token must last, in seconds; default: five minutes, at most a quarter of its life.
    pub(crate) min_ttl: Option<u64>,
    /// How long to wait for a refresh or the end of a bench, in seconds; at most 600; default: 90.
    pub(crate) deadline: Option<u64>,
    /// The conversation that the calls belong to; its pinned profile counts.
    pub(crate) session: Option<String>,
    /// An access token that its API answered with 401: it is not handed out again.
    pub(crate) rejected: Option<String>,
    /// The agent that asks; a client key has one of its own, and only that.
    pub(crate) agent: Option<String>,
    /// The chat channel that the request comes from: it decides on the agent by the bindings.
    pub(crate) channel: Option<String>,
    /// The account on that channel.
    pub(crate) account: Option<String>,
    /// The conversation there, `kind:id`.
    pub(crate) peer: Option<String>,
    /// The server of the chat program.
    pub(crate) guild: Option<String>,
    /// The team of it.
    pub(crate) team: Option<String>,
}

/// A credential for a while. There is no refresh token in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LeaseAnswer {
    /// Names the lease, for reports and for `tokensink explain`.
    pub(crate) id: String,
    /// The agent that it was handed to.
    pub(crate) agent: String,
    /// The profile that it comes from.
    pub(crate) profile: String,
    /// The profile's provider.
    pub(crate) provider: String,
    /// `oauth`, `token` or `api_key`.
    pub(crate) kind: String,
    /// The access token, token or key.
    pub(crate) token: String,
    /// The headers that carry it to the API.
    pub(crate) headers: BTreeMap<String, String>,
    /// Where it is spent.
    pub(crate) base_url: Option<String>,
    /// When it ends, as Unix time in milliseconds; null when that is not known.
    pub(crate) expires_at: Option<i64>,
    /// The same from now, in seconds.
    pub(crate) expires_in: Option<u64>,
    /// What using it costs: `free`, `subscription`, `prepaid` or `metered`.
    pub(crate) billing: String,
    /// The model that was asked for, as the provider names it.
    pub(crate) model: Option<String>,
    /// The rule by which the profile was chosen.
    pub(crate) why: String,
    /// The call tests whether the profile works again: report what becomes of it.
    pub(crate) tests: bool,
    /// Something the caller should know.
    pub(crate) note: Option<String>,
}

/// What became of a call that was made with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportRequest {
    /// The lease, by its id; or give `token`.
    pub(crate) lease: Option<String>,
    /// The lease, by its access token.
    pub(crate) token: Option<String>,
    /// What happened.
    pub(crate) outcome: Outcome,
    /// The status of the answer, for `failed`; none for an error within a stream.
    pub(crate) status: Option<u16>,
    /// Headers of the answer, for `served` and `failed`: `retry-after` and the limits are read.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The body of the answer, or its beginning, for `failed`; or what the system said, for `not_connected`.
    pub(crate) body: Option<String>,
}

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was answered with 2xx. The lease stays out.
    Served,
    /// It was answered with an error. The lease stays out.
    Failed,
    /// It was answered with 401: the token is not handed out again, and renewed once. The lease is back.
    Rejected,
    /// No connection came about. The lease stays out.
    NotConnected,
    /// No answer, or not the whole of it, in time. The lease stays out.
    TimedOut,
    /// The connection broke. The lease stays out.
    CutOff,
    /// The call was not made, or given up. The lease is back.
    Abandoned,
    /// The lease is no longer needed. It is back.
    Done,
}

/// What was made of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ReportAnswer {
    /// The lease's id.
    pub(crate) lease: String,
    /// The lease came back with this report.
    pub(crate) returned: bool,
    /// What the failure means, for example `rate_limit`; null for none.
    pub(crate) reason: Option<String>,
    /// The rule that said so.
    pub(crate) rule: Option<String>,
    /// Until when the profile is not tried for what it failed at, as Unix time in milliseconds.
    pub(crate) benched_until: Option<i64>,
}

/// A chat message's way in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteRequest {
    /// The chat channel.
    pub(crate) channel: String,
    /// The account there that got it.
    pub(crate) account: Option<String>,
    /// The conversation, `kind:id`.
    pub(crate) peer: Option<String>,
    /// The server of the chat program.
    pub(crate) guild: Option<String>,
    /// The team of it.
    pub(crate) team: Option<String>,
}

/// Which agent answers, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RouteAnswer {
    /// The agent.
    pub(crate) agent: String,
    /// The place of the binding that decided, in `bindings`; null when the default agent answers because none fits.
    pub(crate) binding: Option<usize>,
    /// That binding in words.
    pub(crate) description: Option<String>,
    /// What is wrong with the bindings or the question.
    pub(crate) warnings: Vec<String>,
}

/// How it stands with the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct HealthAnswer {
    /// `ok`.
    pub(crate) status: String,
    /// The gateway's version.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// How many leases the caller has out.
    pub(crate) leases: usize,
    /// How many leases each client has out; shown to local processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clients: Option<BTreeMap<String, usize>>,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    /// Why.
    pub(crate) error: ErrorBody,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// One sentence, with the command that mends it.
    pub(crate) message: String,
    /// A word for the kind of the status.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Always null.
    pub(crate) param: Option<String>,
    /// A stable word for programs.
    pub(crate) code: String,
    /// When to try again, as Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resets_at: Option<i64>,
    /// The same from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resets_in_seconds: Option<u64>,
}
