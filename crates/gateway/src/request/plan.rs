//! From a request to what is asked of the sink and sent to the provider.
//!
//! The agent comes from the caller's key and from nothing else. What a request may choose, it chooses among that
//! agent's accounts and the providers of that key: a model, one of the agent's profiles behind an `@`, a session. A name
//! that belongs to somebody else is answered exactly as one that nobody has.

use std::borrow::Cow;
use std::collections::BTreeSet;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use tokensink_sink::providers::ApiKind;
use tokensink_sink::{AgentId, ErrorKind, ProfileId, ProviderId, SinkError};

use super::decode::DecodedBody;
use super::errors::{ErrorShape, Refusal};
use super::kept;
use super::model::{Edit, ModelField, Outline, Tie, outline};
use super::query;
use super::route::{Call, Family, Route, unknown_path};
use super::session;

/// What a caller may use.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'a> {
    /// Whose accounts.
    pub agent: &'a AgentId,
    /// Only these providers; `None` for all that the agent has.
    pub providers: Option<&'a BTreeSet<ProviderId>>,
}

impl Rights<'_> {
    /// May this provider be used?
    #[must_use]
    pub fn allow(&self, provider: &ProviderId) -> bool {
        self.providers.is_none_or(|allowed| allowed.contains(provider))
    }
}

/// A provider as far as routing wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its canonical id.
    pub id: ProviderId,
    /// What it speaks.
    pub kind: ApiKind,
    /// Models that it is known to have; not everything that it serves.
    pub models: Vec<String>,
}

/// What a model's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The provider, canonical.
    pub provider: ProviderId,
    /// The provider's name for the model.
    pub model: String,
    /// The profile behind an `@`.
    pub profile: Option<ProfileId>,
}

/// Where names are looked up.
pub trait Directory {
    /// The provider with this id or alias.
    fn provider(&self, name: &str) -> Option<Provider>;

    /// What the provider with this id speaks.
    fn kind(&self, id: &ProviderId) -> Option<ApiKind> {
        self.provider(id.as_str()).map(|provider| provider.kind)
    }

    /// What a model's name stands for, with aliases and `@profile`.
    ///
    /// # Errors
    /// When it stands for nothing, or for several.
    fn resolve_model(&self, agent: &AgentId, text: &str) -> Result<Target, SinkError>;

    /// The provider of a profile, if the agent has that profile.
    fn provider_of(&self, agent: &AgentId, profile: &ProfileId) -> Option<ProviderId>;

    /// The providers for which the agent has a profile.
    fn with_profiles(&self, agent: &AgentId) -> Vec<Provider>;
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whose accounts may answer.
    pub agent: AgentId,
    /// Which provider.
    pub provider: ProviderId,
    /// This profile and no other.
    pub profile: Option<ProfileId>,
    /// The model as the provider names it, where it is known: limits are counted by it.
    pub model: Option<String>,
    /// The key of the session, within the agent's sessions.
    pub session: Option<String>,
    /// What follows the base URL of the lease.
    pub path_and_query: Cow<'static, str>,
    /// What changes in the body.
    pub body_edit: Option<Edit>,
    /// Only the profile that served the session can serve this, because of [`Plan::ties`].
    pub bound: bool,
    /// What in the request belongs to one account.
    pub ties: Vec<Tie>,
    /// The answer is to be a stream of events.
    pub stream: bool,
    /// The answer may tell of something that the provider keeps for the account, to which a later request may refer.
    pub keeps: bool,
}

/// The word for what a body may refer to that cannot be read.
pub(crate) const UNREAD: &str = "what its unreadable body may name";

/// What planning wants of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyUse {
    /// Nothing.
    None,
    /// To look into it if it is held anyway: a body that is too large or cannot be decoded passes.
    Look,
    /// It cannot do without.
    Read,
}

/// Does planning want the body of this request?
#[must_use]
pub fn body_use(route: &Route, method: &Method, headers: &HeaderMap) -> BodyUse {
    match route {
        Route::Model(_) => BodyUse::Read,
        Route::Passthrough { .. } => {
            let has_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
            let kind = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
            if has_body && kind.is_none_or(may_be_json) {
                BodyUse::Look
            } else {
                BodyUse::None
            }
        }
        _ => BodyUse::None,
    }
}

/// May a body of this type be JSON to a provider? Only where it is said to be something that JSON cannot be, it is not:
/// providers read JSON also where `text/plain` or nothing is said.
fn may_be_json(kind: &[u8]) -> bool {
    const OTHERS: [&[u8]; 5] = [
        b"multipart/",
        b"image/",
        b"audio/",
        b"video/",
        b"application/octet-stream",
    ];
    let begins = |other: &[u8]| {
        kind.get(..other.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(other))
    };
    !OTHERS.into_iter().any(begins)
}

/// How errors of this request are written.
#[must_use]
pub fn error_shape(route: &Route, headers: &HeaderMap, directory: &impl Directory) -> ErrorShape {
    let family = match route {
        Route::Model(call) => Some(call.family()),
        Route::Passthrough { provider, .. } => directory
            .provider(provider)
            .and_then(|provider| Family::of(provider.kind)),
        _ => None,
    };
    if headers.contains_key("x-goog-api-key") {
        return ErrorShape::Google;
    }
    match family {
        Some(family) => family.errors(),
        None if headers.contains_key("anthropic-version") => ErrorShape::Anthropic,
        None => ErrorShape::OpenAi,
    }
}

/// Plans a request of a model route or a passed path. `body` is its readable copy.
///
/// # Errors
/// What the caller may not have, what is not known, and what cannot be read.
pub fn plan(
    route: &Route,
    parts: &Parts,
    body: Option<&DecodedBody>,
    rights: Rights<'_>,
    directory: &impl Directory,
) -> Result<Plan, Refusal> {
    let session = session::key(&parts.headers)?;
    let mut plan = match route {
        Route::Model(call) => for_model(*call, body, rights, directory)?,
        Route::Passthrough { provider, rest } => {
            let has_body = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
            passed((provider, rest), has_body, body, rights, directory)?
        }
        _ => return Err(unknown_path(parts.uri.path())),
    };
    plan.session = session;
    plan.keeps = kept::is_kept(&plan.path_and_query, parts.method == Method::POST, plan.keeps);
    if let Some(query) = parts.uri.query().and_then(query::without_credentials) {
        plan.path_and_query = format!("{}?{query}", plan.path_and_query).into();
    }
    Ok(plan)
}

fn for_model(
    call: Call,
    body: Option<&DecodedBody>,
    rights: Rights<'_>,
    directory: &impl Directory,
) -> Result<Plan, Refusal> {
    let body = body.filter(|body| !body.bytes.is_empty()).ok_or_else(no_model)?;
    let mut outline = outline(&body.bytes, call.family()).map_err(|malformed| malformed.refusal())?;
    let field = outline.model.take().ok_or_else(no_model)?;
    let target = find(call, &field.text, rights, directory)?;
    let body_edit = edit(&field, &target, body.compressed)?;
    let plan = Plan {
        agent: rights.agent.clone(),
        provider: target.provider,
        profile: target.profile,
        model: Some(target.model),
        session: None,
        path_and_query: call.upstream_path().into(),
        body_edit,
        bound: false,
        ties: Vec::new(),
        stream: false,
        keeps: false,
    };
    Ok(plan.with(outline))
}

fn passed(
    (name, rest): (&str, &str),
    has_body: bool,
    body: Option<&DecodedBody>,
    rights: Rights<'_>,
    directory: &impl Directory,
) -> Result<Plan, Refusal> {
    let provider = directory.provider(name).ok_or_else(|| unknown_provider(name))?;
    check_allowed(&provider.id, rights)?;
    let family = Family::of(provider.kind).unwrap_or(Family::OpenAi);
    let read = match body {
        Some(body) if body.bytes.is_empty() => Some(Outline::default()),
        body => body.and_then(|body| outline(&body.bytes, family).ok()),
    };
    // What cannot be read passes: only the provider knows what it is. But where bodies usually refer to what an account
    // keeps, this one may, too.
    let is_unread = read.is_none() && has_body && kept::may_refer(rest);
    let mut outline = read.unwrap_or_default();
    outline.ties.extend(tie_of_path(rest));
    if is_unread && outline.ties.is_empty() {
        outline.ties.push(Tie {
            what: UNREAD,
            id: None,
        });
    }
    let plan = Plan {
        agent: rights.agent.clone(),
        provider: provider.id,
        profile: None,
        model: outline.model.as_ref().map(|field| field.text.clone()),
        session: None,
        path_and_query: rest.to_owned().into(),
        body_edit: None,
        bound: false,
        ties: Vec::new(),
        stream: false,
        keeps: false,
    };
    Ok(plan.with(outline))
}

impl Plan {
    fn with(mut self, outline: Outline) -> Self {
        self.stream = outline.stream;
        self.keeps = outline.store;
        self.bound = !outline.ties.is_empty();
        self.ties = outline.ties;
        self
    }
}

/// What `text` stands for, if the caller may have it and it is spoken to in this way.
fn find(call: Call, text: &str, rights: Rights<'_>, directory: &impl Directory) -> Result<Target, Refusal> {
    let target = match directory.resolve_model(rights.agent, text) {
        Ok(target) => target,
        Err(error) => only_one(call, text, rights, directory).ok_or_else(|| not_resolved(text, &error))?,
    };
    check_allowed(&target.provider, rights)?;
    if let Some(profile) = &target.profile {
        let owner = directory.provider_of(rights.agent, profile);
        if owner.as_ref() != Some(&target.provider) {
            return Err(unknown_profile(profile, &target.provider, rights.agent));
        }
    }
    let family = directory.kind(&target.provider).and_then(Family::of);
    if family == Some(call.family()) {
        return Ok(target);
    }
    Err(other_api(call, &target, family))
}

/// A name that nobody lists, as of a model of tomorrow, belongs to the one provider that it can belong to: the only one
/// of the request's API that the caller has and may use, or the only one of these that lists it.
fn only_one(call: Call, text: &str, rights: Rights<'_>, directory: &impl Directory) -> Option<Target> {
    let text = text.trim();
    if text.is_empty() || text.contains(['/', '@']) || text.contains(char::is_whitespace) {
        return None;
    }
    let mut able = directory.with_profiles(rights.agent);
    able.retain(|provider| Family::of(provider.kind) == Some(call.family()) && rights.allow(&provider.id));
    let lists = |provider: &&Provider| provider.models.iter().any(|model| model == text);
    let one = match able.as_slice() {
        [one] => Some(one),
        several => {
            let mut listing = several.iter().filter(lists);
            listing.next().filter(|_| listing.next().is_none())
        }
    };
    one.map(|provider| Target {
        provider: provider.id.clone(),
        model: text.to_owned(),
        profile: None,
    })
}

/// The change of the body that makes it name the model as its provider does.
fn edit(field: &ModelField, target: &Target, compressed: bool) -> Result<Option<Edit>, Refusal> {
    if field.text == target.model {
        return Ok(None);
    }
    if compressed {
        // Under the model's own name alone it would go to any account.
        let fix = match &target.profile {
            Some(_) => "send the body uncompressed".to_owned(),
            None => format!(
                "send the body uncompressed, or with \"model\": {:?}",
                target.model
            ),
        };
        return Err(Refusal::bad(
            "compressed_model",
            format!(
                "the model {:?} stands for {:?}, but the body is compressed, so that it cannot be replaced",
                shortened(&field.text),
                target.model
            ),
        )
        .with_fix(fix));
    }
    Ok(Some(Edit::of_model(field, &target.model)))
}

/// The first thing in a path that one account keeps.
fn tie_of_path(rest: &str) -> Option<Tie> {
    let (what, id) = kept::kept_in_path(rest)?;
    Some(Tie {
        what,
        id: (id.len() <= 200).then(|| id.to_owned()),
    })
}

fn check_allowed(provider: &ProviderId, rights: Rights<'_>) -> Result<(), Refusal> {
    if rights.allow(provider) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "provider_not_allowed",
        format!("this key may not use {provider}"),
    )
    .with_fix(format!(
        "make a key that may: tokensink keys add <name> --agent {} --provider {provider}",
        rights.agent
    )))
}

fn unknown_provider(name: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown_provider",
        format!("there is no provider {:?}", shortened(name)),
    )
    .with_fix("see which there are: tokensink providers list")
}

/// The same words whether nobody has it, another agent has it, or it is of another provider.
fn unknown_profile(profile: &ProfileId, provider: &ProviderId, agent: &AgentId) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown_profile",
        format!(
            "agent {agent} has no profile {:?} of {provider}",
            shortened(profile.as_str())
        ),
    )
    .with_fix(format!(
        "see which it has: tokensink models status --agent {agent}"
    ))
}

fn not_resolved(text: &str, error: &SinkError) -> Refusal {
    let status = match (error.kind(), error.code()) {
        (ErrorKind::Usage, "profile_not_found" | "unknown_provider") => StatusCode::NOT_FOUND,
        (ErrorKind::Usage, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut refusal = Refusal::new(status, error.code(), error.to_string());
    refusal.fix = error.fix().map(str::to_owned);
    if text.len() > SHOWN_MAX {
        refusal.message = format!("there is no model {:?}", shortened(text));
    }
    refusal
}

fn no_model() -> Refusal {
    Refusal::bad("no_model", "the body names no model to route by")
        .with_fix("send \"model\": \"<provider>/<model>\", or use /<provider>/…")
}

fn other_api(call: Call, target: &Target, family: Option<Family>) -> Refusal {
    let refusal = Refusal::bad(
        "other_api",
        format!("{} is not spoken to by {}", target.provider, call.path()),
    );
    match family {
        Some(Family::Anthropic) => refusal.with_fix("send it to /v1/messages, in the shape of that API"),
        Some(Family::OpenAi) => {
            refusal.with_fix("send it to /v1/chat/completions or /v1/responses, in the shape of that API")
        }
        None => refusal.with_fix(format!(
            "use another provider; {} has no API of these kinds (tokensink models list --all)",
            target.provider
        )),
    }
}

/// Longest text of a request that is repeated in an error, in bytes.
const SHOWN_MAX: usize = 120;

fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN_MAX / 4).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests;
