//! What callers ask for and what they are given.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::calls::{Issued, LeaseId};
use crate::login::Cancel;
use tokensink_providers::Betas;
use tokensink_types::{
    Account, AgentId, BillingClass, CredentialKind, ProfileId, ProviderId, Secret, SessionKey, UnixMillis,
};

/// How long [`AcquireRequest::new`] lets a call wait for a refresh: the longest request and its commit.
pub const WAIT: Duration = Duration::from_secs(90);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The best profile of a provider, by id or alias.
    Provider(String),
    /// One profile and no other.
    Profile(ProfileId),
}

/// A request for a valid credential.
#[derive(Debug, Clone)]
pub struct AcquireRequest {
    /// The agent that asks.
    pub agent: AgentId,
    /// What is wanted.
    pub want: Want,
    /// How long the token must last; the default is five minutes, at most a quarter of its life.
    pub min_ttl: Option<Duration>,
    /// An access token that an API answered with 401; it is not handed out again, and one refresh is forced.
    pub rejected: Option<Secret>,
    /// How long the caller is ready to wait. Its end never ends a refresh that is under way.
    pub wait: Duration,
    /// The model that will be called, as the provider names it. Benches of other models then do not count.
    pub model: Option<String>,
    /// With a provider: the profile to try first, if it is in the order and nothing speaks against it.
    pub preferred: Option<ProfileId>,
    /// The session that the call belongs to: its pin counts, and is kept.
    pub session: Option<SessionKey>,
    /// The request that the lease is for, where it has an id of its own: `explain` then tells all its leases together.
    pub request_id: Option<LeaseId>,
    /// Profiles that have failed in this request already; none of them is handed out again.
    pub tried: Vec<ProfileId>,
    /// The caller will ask again, with time to wait, where time alone may help. So it is told at once, nobody serves in
    /// the place of a profile whose token is just being refreshed, and the refusal is not yet one for `explain`.
    pub asks_again: bool,
    /// Ends the waiting before its time, within a second. As with that, a refresh that is under way goes on.
    pub cancel: Option<Cancel>,
}

impl AcquireRequest {
    /// A request with the usual waiting time.
    #[must_use]
    pub fn new(agent: AgentId, want: Want) -> Self {
        Self {
            agent,
            want,
            min_ttl: None,
            rejected: None,
            wait: WAIT,
            model: None,
            preferred: None,
            session: None,
            request_id: None,
            tried: Vec::new(),
            asks_again: false,
            cancel: None,
        }
    }
}

/// A credential with all that is needed to spend it. It is made once and shared by all leases of it.
#[derive(Debug, Clone)]
pub struct Spendable {
    /// The profile that it comes from.
    pub profile: ProfileId,
    /// The profile's provider.
    pub provider: ProviderId,
    /// The agent whose store owns the profile.
    pub owner: AgentId,
    /// True when the asking agent inherits the profile from main.
    pub inherited: bool,
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// The access token, token or key.
    pub secret: Secret,
    /// When it ends, if that is known.
    pub expires: Option<UnixMillis>,
    /// Whose it is, as far as known.
    pub account: Account,
    /// What using it costs.
    pub billing: BillingClass,
    /// Where it is spent.
    pub base_url: Option<String>,
    /// The headers that carry it, by the provider's rules.
    pub headers: Vec<(String, Secret)>,
    /// What becomes of the beta features of a request that it is spent on.
    pub betas: Betas,
    /// The environment variable that programs of this provider read.
    pub env_name: Option<String>,
    /// What that variable takes, where it is not [`Spendable::secret`].
    pub env_secret: Option<Secret>,
    /// Where it came from, for example `profile:anthropic:work`.
    pub source: String,
}

/// A credential handed out for a while, without its refresh token. What is handed out is read through the lease:
/// `lease.secret`, `lease.headers`.
#[derive(Debug, Clone)]
pub struct Lease {
    /// What is handed out.
    pub given: Arc<Spendable>,
    /// Something the caller should know, for example that an older token is served while a refresh waits.
    pub note: Option<String>,
    /// Names the lease, for [`crate::Sink::report`] and for `explain`.
    pub id: LeaseId,
    /// The model that was asked for.
    pub model: Option<String>,
    /// The rule that chose the profile, by its stable word.
    pub why: &'static str,
    /// The cheaper class that was left for it, where the user's leave was needed (design: Money).
    pub crosses: Option<BillingClass>,
    /// The call tests a bench: whoever holds the lease must report what became of it, for others wait for that.
    pub tests: bool,
    /// When it was handed out, and in which epoch of the profile.
    pub issued: Issued,
}

impl Lease {
    /// A lease of `given` that says nothing yet of why and for what.
    pub(crate) fn of(given: Arc<Spendable>, note: Option<String>) -> Self {
        Self {
            given,
            note,
            id: LeaseId::default(),
            model: None,
            why: "",
            crosses: None,
            tests: false,
            issued: Issued::default(),
        }
    }
}

impl Deref for Lease {
    type Target = Spendable;

    fn deref(&self) -> &Spendable {
        &self.given
    }
}

/// The changes to a child's environment that hand a lease to it.
#[derive(Debug, Clone)]
pub struct ChildEnvironment {
    /// Variables to set.
    pub set: Vec<(String, Secret)>,
    /// Variables that the child must not see: every other known provider secret.
    pub remove: Vec<String>,
}
