//! `models status --probe`: one tiny request per stored profile, because the user asked for it (spec.md 12.6).
//!
//! It costs what such a request costs. What it finds is reported like any other call, so that a profile that answers is
//! no longer benched and one that does not is. A provider whose API we do not speak is not called, and the row says so.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};
use tokensink_host::{ExchangeError, Limits};
use tokensink_policy::classify::{Blame, Class, Reason};
use tokensink_policy::{OrderInput, Verdict};
use tokensink_providers::ApiKind;
use tokensink_store::OwnedProfile;
use tokensink_types::{AgentId, Body, CredentialKind, ProfileId, ProviderId, UnixMillis};
use url::Url;

use super::{CallOutcome, Proof};
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::{AcquireRequest, Lease, Want};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// Largest answer that is read; the right one has some hundred bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// Longest part of an error that is shown, in characters.
const ERROR_MAX: usize = 300;
/// The most profiles that are asked at once, whatever was wished.
const CONCURRENCY_MAX: usize = 16;
/// What the model is asked.
const PROMPT: &str = "Reply with OK. Do not use tools.";

/// What is to be asked.
#[derive(Debug, Clone)]
pub struct ProbeRequest {
    /// The agent whose profiles are meant.
    pub agent: AgentId,
    /// Only this provider, by id or alias.
    pub provider: Option<String>,
    /// Only these profiles; empty means all.
    pub profiles: Vec<ProfileId>,
    /// How long one of them may take.
    pub timeout: Duration,
    /// How many are asked at the same time.
    pub concurrency: usize,
    /// The longest answer that is asked for, in tokens.
    pub max_tokens: u32,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// When it began.
    pub started: UnixMillis,
    /// When the last answer was there.
    pub finished: UnixMillis,
    /// The request.
    pub request: ProbeRequest,
    /// One row per profile: first those that were not called.
    pub rows: Vec<ProbeRow>,
}

/// One profile.
#[derive(Debug, Clone)]
pub struct ProbeRow {
    /// Its provider.
    pub provider: ProviderId,
    /// Which profile.
    pub profile: ProfileId,
    /// Its label for people.
    pub label: String,
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// The model that was called.
    pub model: Option<String>,
    /// `ok`, `auth`, `rate_limit`, `billing`, `timeout`, `format`, `unknown` or `no_model`.
    pub status: &'static str,
    /// Why it was not called, as a code.
    pub reason_code: Option<String>,
    /// What went wrong, without secrets.
    pub error: Option<String>,
    /// How long the answer took.
    pub latency: Option<Duration>,
}

impl Sink {
    /// Makes one tiny request with each profile and tells what came of it. Costs what the requests cost.
    ///
    /// # Errors
    /// A usage error for a provider or profile that does not exist; when the store or the config cannot be read. That a
    /// profile does not answer is in its row.
    pub fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport> {
        let snapshot = self.snapshot(&request.agent)?;
        let provider = match &request.provider {
            Some(text) => Some(self.provider_id(text, &snapshot)?),
            None => None,
        };
        for id in &request.profiles {
            if snapshot.profile(id).is_none() {
                let message = format!("agent {} has no profile {id}", request.agent);
                return Err(SinkError::new(ErrorKind::Usage, "no_profile", message)
                    .with_fix("tokensink models auth list")
                    .about(id));
            }
        }
        let started = self.now();
        let wanted = |profile: &&OwnedProfile| {
            let own = profile.entry.credential.provider();
            let of_provider = |provider: &ProviderId| snapshot.config.aliases.same(own, provider);
            provider.as_ref().is_none_or(of_provider)
                && (request.profiles.is_empty() || request.profiles.contains(&profile.entry.id))
        };
        let mut rows = Vec::new();
        let mut calls = VecDeque::new();
        for profile in snapshot.view.profiles.iter().filter(wanted) {
            match self.prepare_probe(&snapshot, profile, request)? {
                Prepared::Row(row) => rows.push(row),
                Prepared::Call(row, model) => calls.push_back((row, model)),
            }
        }
        rows.extend(self.probe_all(calls, request));
        Ok(ProbeReport {
            started,
            finished: self.now(),
            request: request.clone(),
            rows,
        })
    }

    fn probe_all(&self, calls: VecDeque<(ProbeRow, String)>, request: &ProbeRequest) -> Vec<ProbeRow> {
        let workers = request.concurrency.clamp(1, CONCURRENCY_MAX).min(calls.len());
        let calls = Mutex::new(calls);
        let done = Mutex::new(Vec::new());
        let work = || {
            let next = || calls.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((row, model)) = next() {
                let row = self.probe_one(row, &model, request);
                done.lock().unwrap_or_else(PoisonError::into_inner).push(row);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                // Where no further thread can be had, those that run do the work.
                let _fewer = std::thread::Builder::new()
                    .name("probe".to_owned())
                    .spawn_scoped(scope, work);
            }
            work();
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why a profile is not called, or with which model it is.
    fn prepare_probe(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
        request: &ProbeRequest,
    ) -> Result<Prepared> {
        let entry = &profile.entry;
        let provider = self.registry().canonical(entry.credential.provider());
        let row = |status, code: Option<&str>, error: Option<String>| ProbeRow {
            provider: provider.clone(),
            profile: entry.id.clone(),
            label: self.label_of(&entry.id, &entry.credential),
            kind: entry.credential.kind(),
            model: None,
            status,
            reason_code: code.map(str::to_owned),
            error,
            latency: None,
        };
        if let Some(failure) = self.trouble_with(&entry.credential)? {
            let row = row("unknown", Some("unresolved_ref"), Some(failure.to_string()));
            return Ok(Prepared::Row(row));
        }
        if let Some(verdict) = self.left_out(snapshot, &provider, &entry.id)? {
            let code = verdict.eligibility.code.as_str();
            let row = if verdict.eligibility.is_ok() || verdict.owner.is_none() {
                let text = "Excluded by auth.order for this provider.".to_owned();
                row("unknown", Some("excluded_by_auth_order"), Some(text))
            } else {
                let text = format!(
                    "Auth profile credentials are missing or expired.\n↳ Auth reason [{code}]: {}",
                    verdict.eligibility.detail
                );
                row("unknown", Some(code), Some(text))
            };
            return Ok(Prepared::Row(row));
        }
        let api = self.api_of(&provider, entry.credential.kind());
        if !matches!(
            api,
            Some(ApiKind::AnthropicMessages | ApiKind::OpenAiResponses | ApiKind::OpenAiChat)
        ) {
            let text = "its API is none that can be probed; no request was made".to_owned();
            return Ok(Prepared::Row(row("unknown", Some("not_probed"), Some(text))));
        }
        Ok(match self.model_to_probe(&request.agent, &provider)? {
            Some(model) => Prepared::Call(
                ProbeRow {
                    model: Some(model.clone()),
                    ..row("unknown", None, None)
                },
                model,
            ),
            None => Prepared::Row(row("no_model", None, Some("no model of it is known".to_owned()))),
        })
    }

    /// The verdict about a profile that the order of its provider leaves out.
    fn left_out(
        &self,
        snapshot: &AgentSnapshot,
        provider: &ProviderId,
        id: &ProfileId,
    ) -> Result<Option<Verdict>> {
        let resolved = tokensink_policy::resolve_order(OrderInput {
            config: &snapshot.config,
            state: &snapshot.state,
            provider,
            preferred: None,
            model: None,
            now: self.now(),
        });
        let resolved = resolved
            .map_err(|error| SinkError::new(ErrorKind::Failed, "oauth_reference", error.to_string()))?;
        let verdict = resolved
            .verdicts
            .into_iter()
            .find(|verdict| verdict.profile == *id);
        Ok(verdict.filter(|verdict| verdict.position.is_none()))
    }

    fn api_of(&self, provider: &ProviderId, kind: CredentialKind) -> Option<ApiKind> {
        let definition = self.registry().get(provider)?;
        let method = definition.method_for(kind, None);
        Some(method.map_or(&definition.api, |method| &method.api).kind)
    }

    /// The first configured model of the provider, else the first that its definition names.
    fn model_to_probe(&self, agent: &AgentId, provider: &ProviderId) -> Result<Option<String>> {
        let models = self.models_view(agent)?;
        let configured = std::iter::once(&models.resolved_default)
            .chain(&models.fallbacks)
            .chain(&models.allowed);
        let of_provider = |key: &String| {
            let (own, model) = key.split_once('/')?;
            let own = self.registry().canonical(&ProviderId::parse(own).ok()?);
            (own == *provider).then(|| model.to_owned())
        };
        let first = || self.registry().get(provider)?.api.models.first().cloned();
        Ok(configured.filter_map(of_provider).next().or_else(first))
    }

    fn probe_one(&self, mut row: ProbeRow, model: &str, request: &ProbeRequest) -> ProbeRow {
        let ask = AcquireRequest {
            wait: request.timeout,
            model: Some(model.to_owned()),
            ..AcquireRequest::new(request.agent.clone(), Want::Profile(row.profile.clone()))
        };
        let lease = match self.acquire(&ask) {
            Ok(lease) => lease,
            Err(error) => {
                row.status = if error.kind() == ErrorKind::LoginNeeded {
                    "auth"
                } else {
                    "unknown"
                };
                row.reason_code = Some(error.code().to_owned());
                row.error = Some(error.to_string());
                return row;
            }
        };
        let api = self.api_of(&row.provider, lease.kind);
        let begun = self.host().clock.monotonic();
        let answer = self.call(&lease, api, model, request);
        row.latency = Some(self.host().clock.monotonic().saturating_sub(begun));
        let (outcome, error) = match &answer {
            Ok(response) if response.status().is_success() => (
                CallOutcome::Served {
                    headers: response.headers(),
                    proof: Proof::Whole,
                },
                None,
            ),
            Ok(response) => (
                CallOutcome::Failed {
                    status: Some(response.status().as_u16()),
                    headers: response.headers(),
                    body: response.body().expose(),
                },
                Some(error_of(&lease, response)),
            ),
            Err(Broken::NotConnected(error)) => (CallOutcome::NotConnected { error }, Some(error.clone())),
            Err(Broken::Ambiguous(error)) => (CallOutcome::CutOff, Some(error.clone())),
            Err(Broken::NoRequest(error)) => (CallOutcome::Abandoned, Some(error.clone())),
        };
        match self.report(&lease, &outcome) {
            Ok(reported) => row.status = status(reported.class, error.is_none()),
            Err(error) => row.error = Some(error.to_string()),
        }
        row.error = row.error.or(error);
        row
    }

    fn call(
        &self,
        lease: &Lease,
        api: Option<ApiKind>,
        model: &str,
        request: &ProbeRequest,
    ) -> std::result::Result<Response<Body>, Broken> {
        let (url, message) = tiny_request(lease, api, model, request.max_tokens)
            .ok_or_else(|| Broken::NoRequest("its address cannot be made out".to_owned()))?;
        let connection = self.host().transport.connect(&url, request.timeout);
        let connection = connection.map_err(|error| Broken::NotConnected(error.to_string()))?;
        let limits = Limits {
            time: request.timeout,
            body_bytes: ANSWER_BYTES,
        };
        connection.exchange(message, limits).map_err(|error| match error {
            ExchangeError::NotWritten(_) => Broken::NotConnected(error.to_string()),
            _ => Broken::Ambiguous(error.to_string()),
        })
    }
}

/// What an error answer says, without the secret that it may quote.
fn error_of(lease: &Lease, response: &Response<Body>) -> String {
    let text = String::from_utf8_lossy(response.body().expose()).into_owned();
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let message = value.as_ref().and_then(|value| {
        let error = value.get("error").unwrap_or(value);
        let message = error
            .get("message")
            .or_else(|| value.get("detail"))
            .unwrap_or(error);
        message.as_str().map(str::to_owned)
    });
    let text = message.unwrap_or(text).replace(lease.secret.expose(), "[secret]");
    let short: String = text.trim().chars().take(ERROR_MAX).collect();
    format!("HTTP {}: {short}", response.status().as_u16())
}

enum Prepared {
    Row(ProbeRow),
    Call(ProbeRow, String),
}

enum Broken {
    NotConnected(String),
    Ambiguous(String),
    NoRequest(String),
}

/// The words of spec.md 12.6.
fn status(class: Option<Class>, ok: bool) -> &'static str {
    match class.map(|class| class.reason) {
        None if ok => "ok",
        Some(Reason::Auth | Reason::AuthPermanent | Reason::NotPermitted) => "auth",
        Some(Reason::RateLimit | Reason::Overloaded) => "rate_limit",
        Some(Reason::Billing) => "billing",
        Some(Reason::Timeout) => "timeout",
        Some(reason) if reason == Reason::ModelNotFound || reason.blame() == Blame::Request => "format",
        None | Some(_) => "unknown",
    }
}

/// The smallest request that the API takes.
fn tiny_request(
    lease: &Lease,
    api: Option<ApiKind>,
    model: &str,
    max_tokens: u32,
) -> Option<(Url, Request<Body>)> {
    let base = lease.base_url.as_deref()?;
    let messages = json!([{"role": "user", "content": PROMPT}]);
    let (path, body) = match api? {
        ApiKind::AnthropicMessages => (
            "v1/messages",
            json!({"model": model, "max_tokens": max_tokens, "messages": messages}),
        ),
        ApiKind::OpenAiChat => (
            "chat/completions",
            json!({"model": model, "max_tokens": max_tokens, "messages": messages}),
        ),
        ApiKind::OpenAiResponses => (
            "responses",
            json!({"model": model, "instructions": PROMPT, "store": false, "stream": true,
                "input": [{"type": "message", "role": "user",
                    "content": [{"type": "input_text", "text": PROMPT}]}]}),
        ),
        ApiKind::Cli | ApiKind::None => return None,
    };
    let url = Url::parse(&format!("{base}/{path}")).ok()?;
    let mut request = Request::post(url.as_str())
        .header("content-type", "application/json")
        .header("accept", "application/json");
    if api == Some(ApiKind::AnthropicMessages) {
        request = request.header("anthropic-version", "2023-06-01");
    }
    for (name, value) in &lease.headers {
        request = request.header(name, value.expose());
    }
    let request = request.body(Body::new(body.to_string().into_bytes())).ok()?;
    Some((url, request))
}
