//! Handing out: which profile, is it fresh, and what to do when it is not.

use std::sync::Arc;
use std::time::Duration;

use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_policy::{self as policy, Outcome, Target as Wanted, Unavailable};
use tokensink_providers::{EnvVar, UnknownProvider};
use tokensink_refresh::{Demand, Horizon, Standing, Verdict, View, alive, overlay, stand};
use tokensink_store::{OwnedProfile, RecordKey, StoreError};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{
    Account, AgentId, BillingClass, Credential, OAuth, ProfileId, ProviderId, Secret, SecretSource,
    UnixMillis,
};

use crate::block::{Block, ineligible, no_profile, paste_command};
use crate::error::{ErrorKind, Result, SinkError};
use crate::flight::{Target, policy_of};
use crate::flights::Landing;
use crate::grant::generation_of;
use crate::lease::{AcquireRequest, Lease, Want};
use crate::secrets::{self, Unresolved};
use crate::sink::{AgentSnapshot, Sink};

/// First and longest pause of a caller that waits for another's flight.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How often one call looks again after a flight that was said to serve.
const ROUNDS_MAX: u32 = 6;

impl Sink {
    /// Answers with a valid credential of the wanted profile or provider. The warm case takes no lock and reads no
    /// file that has not changed.
    ///
    /// # Errors
    /// [`ErrorKind::LoginNeeded`] when only a login helps, [`ErrorKind::TryAgain`] when waiting does, with the time
    /// where it is known, [`ErrorKind::Usage`] for an unknown provider or profile, else [`ErrorKind::Failed`].
    pub fn acquire(&self, request: &AcquireRequest) -> Result<Lease> {
        let snapshot = self.snapshot(&request.agent)?;
        let wanted = self.wanted(&request.want, &snapshot)?;
        let ask = policy::Request {
            target: wanted.clone(),
            preferred: None,
            model: None,
        };
        let decision = policy::select(&snapshot.config, &snapshot.state, &ask, self.now())
            .map_err(|error| SinkError::new(ErrorKind::Failed, "oauth_reference", error.to_string()))?;
        let choice = match &decision.outcome {
            Outcome::Chosen(choice) => choice,
            Outcome::Unavailable(why) => return Err(self.unavailable(why, &snapshot, request)),
        };
        let call = Call::new(self, request);
        let first = match self.lease_of(&snapshot, &choice.profile, &call) {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        // The next in the order may serve, but never at a higher price: that takes the user's word.
        let others = decision.verdicts.iter().filter(|verdict| {
            verdict.profile != choice.profile && verdict.position.is_some() && verdict.bench.is_none()
        });
        for verdict in others {
            if self.billing_by_id(&snapshot, &verdict.profile) > Some(choice.billing) {
                continue;
            }
            if let Ok(mut lease) = self.lease_of(&snapshot, &verdict.profile, &call) {
                lease.note = Some(format!("{} could not serve: {first}", choice.profile));
                return Ok(lease);
            }
        }
        Err(first)
    }

    fn billing_by_id(&self, snapshot: &AgentSnapshot, id: &ProfileId) -> Option<BillingClass> {
        snapshot.state.candidate(id).map(|candidate| candidate.billing)
    }

    fn wanted(&self, want: &Want, snapshot: &AgentSnapshot) -> Result<Wanted> {
        match want {
            Want::Profile(id) => Ok(Wanted::Profile(id.clone())),
            Want::Provider(text) => self.provider_id(text, snapshot).map(Wanted::Provider),
        }
    }

    /// The canonical id of a provider that is defined, or at least has a stored profile.
    pub(crate) fn provider_id(&self, text: &str, snapshot: &AgentSnapshot) -> Result<ProviderId> {
        match self.registry().resolve(text) {
            Ok(definition) => Ok(definition.id.clone()),
            Err(unknown) => ProviderId::parse(text)
                .ok()
                .filter(|id| {
                    snapshot
                        .view
                        .profiles
                        .iter()
                        .any(|profile| profile.entry.credential.provider() == id)
                })
                .ok_or_else(|| unknown_provider(&unknown)),
        }
    }

    fn lease_of(&self, snapshot: &AgentSnapshot, id: &ProfileId, call: &Call<'_>) -> Result<Lease> {
        let Some(profile) = snapshot.profile(id) else {
            return Err(no_profile(id, &call.request.agent));
        };
        match &profile.entry.credential {
            Credential::ApiKey(key) => self.static_lease(profile, &key.key, None),
            Credential::Token(token) => {
                let expires = match token.expires {
                    tokensink_types::Expiry::At(at) => Some(at),
                    tokensink_types::Expiry::Never | tokensink_types::Expiry::Invalid => None,
                };
                self.static_lease(profile, &token.token, expires)
            }
            Credential::OAuth(oauth) => match self.warm(snapshot, profile, oauth, call)? {
                Some(lease) => Ok(lease),
                None => self.oauth_lease(profile, call),
            },
        }
    }

    fn static_lease(
        &self,
        profile: &OwnedProfile,
        source: &SecretSource,
        expires: Option<UnixMillis>,
    ) -> Result<Lease> {
        let id = &profile.entry.id;
        match secrets::resolve(source, &*self.host().env) {
            Ok(secret) => Ok(self.lease(profile, secret, expires, Account::default(), None)),
            Err(Unresolved::Missing) => {
                let message = format!("{id} has neither a value nor a reference");
                Err(
                    SinkError::new(ErrorKind::LoginNeeded, "missing_credential", message)
                        .with_fix(paste_command(
                            profile.entry.credential.provider(),
                            id,
                            profile.entry.credential.kind(),
                            &profile.owner,
                        ))
                        .about(id),
                )
            }
            Err(Unresolved::Reference { what, fix }) => Err(SinkError::new(
                ErrorKind::Failed,
                "unresolved_ref",
                format!("{id} refers to {what}, which is not set"),
            )
            .with_fix(fix)
            .about(id)),
        }
    }

    /// The common case: what is stored is fresh. One `stat`, for the record.
    fn warm(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
        oauth: &OAuth,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        let target = Target {
            owner: profile.owner.clone(),
            profile: profile.entry.id.clone(),
        };
        let Some(key) = snapshot.record_key(&target) else {
            return Ok(None);
        };
        let grant = self.overlaid(oauth, &key)?;
        let fresh = !grant.heal && grant.standing(&call.demand, self.now()) == Standing::Fresh;
        Ok(fresh.then(|| self.grant_lease(profile, &grant, None)))
    }

    /// Serves an OAuth profile: from what is stored while that is fresh, else after a flight.
    fn oauth_lease(&self, profile: &OwnedProfile, call: &Call<'_>) -> Result<Lease> {
        let target = Target {
            owner: profile.owner.clone(),
            profile: profile.entry.id.clone(),
        };
        let mut rounds = 0;
        let mut pause = PAUSE_MIN;
        loop {
            let Some(grant) = self.grant(&target)? else {
                return Err(no_profile(&target.profile, &call.request.agent));
            };
            let next = match grant.standing(&call.demand, self.now()) {
                Standing::Fresh if grant.heal => Next::Heal,
                Standing::Fresh => return Ok(self.grant_lease(profile, &grant, None)),
                Standing::Due(_) => Next::Fly,
                other => Next::Blocked(Block::of(other, &target.profile, self.now())),
            };
            let block = match next {
                Next::Heal => {
                    // The record serves; whoever finds room moves the tokens into the store.
                    self.heal(&target, &grant, call);
                    return Ok(self.grant_lease(profile, &grant, None));
                }
                Next::Blocked(block) => block,
                Next::Fly => match self.fly_or_wait(profile, &target, &grant, call, &mut pause)? {
                    Flown::Lease(lease) => return Ok(*lease),
                    Flown::LookAgain { flew } => {
                        rounds += u32::from(flew);
                        if rounds < ROUNDS_MAX {
                            continue;
                        }
                        let reason = format!("{} keeps changing while it is being read", target.profile);
                        Block::unstable(reason)
                    }
                    Flown::Blocked(block) => block,
                },
            };
            if let Some(lease) = self.serve_old(profile, &target, call, &block)? {
                return Ok(lease);
            }
            if !self.wait_out(&block, call) {
                return Err(block.into_error(&target, &grant, &call.request.agent));
            }
        }
    }

    /// The old token, while it lives: better than nothing, and said to be so.
    fn serve_old(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        call: &Call<'_>,
        block: &Block,
    ) -> Result<Option<Lease>> {
        // Read afresh: a flight may have ended since.
        let grant = self.grant(target)?;
        let living = grant.filter(|grant| alive(&grant.generation, &call.demand, self.now()));
        Ok(living.map(|grant| {
            self.grant_lease(
                profile,
                &grant,
                Some(format!("the present token is served: {}", block.reason)),
            )
        }))
    }

    /// Waits until the block ends, if that is known and within the call's time.
    fn wait_out(&self, block: &Block, call: &Call<'_>) -> bool {
        let Some(until) = block.until.filter(|_| block.kind == ErrorKind::TryAgain) else {
            return false;
        };
        let needed = self.now().until(until);
        if needed > call.left(self) {
            return false;
        }
        self.host().clock.sleep(needed.max(PAUSE_MIN));
        true
    }

    /// Takes the grant's lock and flies, or waits for the one who has it.
    fn fly_or_wait(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        grant: &Grant,
        call: &Call<'_>,
        pause: &mut Duration,
    ) -> Result<Flown> {
        if self.store().is_readonly() {
            return Ok(Flown::Blocked(Block::readonly()));
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        match self.try_lock(&path) {
            Ok(lock) => match self.launch(target, call.demand.clone(), lock, call.left(self)) {
                Landing::Verdict(verdict) => self.after(verdict, target, call),
                Landing::StillFlying => Ok(Flown::Blocked(Block::still_flying(
                    &target.profile,
                    call.request.wait,
                ))),
            },
            Err(LockError::Busy { holder, .. }) => {
                let block = Block::held(&target.profile, holder.as_deref());
                // Somebody refreshes already: the old token will do unless the caller asked for more.
                let patient = matches!(call.demand.horizon, Horizon::AtLeast(_));
                if !patient && alive(&grant.generation, &call.demand, self.now()) {
                    let note = format!("the present token is served: {}", block.reason);
                    return Ok(Flown::Lease(Box::new(self.grant_lease(
                        profile,
                        grant,
                        Some(note),
                    ))));
                }
                if call.left(self).is_zero() {
                    return Ok(Flown::Blocked(block));
                }
                self.host().clock.sleep((*pause).min(call.left(self)));
                *pause = (*pause * 2).min(PAUSE_MAX);
                Ok(Flown::LookAgain { flew: false })
            }
            Err(error) => Err(lock_error(&error, &target.profile)),
        }
    }

    /// Flies for its own sake, waiting at most `wait` for somebody else's flight. `None` when it served.
    pub(crate) fn fly_for(
        &self,
        target: &Target,
        grant: &Grant,
        demand: &Demand,
        wait: Duration,
    ) -> Result<Option<Block>> {
        if self.store().is_readonly() {
            return Ok(Some(Block::readonly()));
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        let lock = match KernelLock::acquire(self.host(), &path, Wait { deadline: wait }) {
            Ok(lock) => lock,
            Err(LockError::Busy { holder, .. }) => {
                return Ok(Some(Block::held(&target.profile, holder.as_deref())));
            }
            Err(error) => return Err(lock_error(&error, &target.profile)),
        };
        Ok(match self.launch(target, demand.clone(), lock, wait) {
            Landing::StillFlying => Some(Block::still_flying(&target.profile, wait)),
            Landing::Verdict(verdict) => Block::of_verdict(verdict),
        })
    }

    fn after(&self, verdict: Verdict, target: &Target, call: &Call<'_>) -> Result<Flown> {
        match verdict {
            Verdict::Gone => Err(no_profile(&target.profile, &call.request.agent)),
            Verdict::Elsewhere { .. } => self.serve_from_main(target, call),
            other => Ok(Block::of_verdict(other).map_or(Flown::LookAgain { flew: true }, Flown::Blocked)),
        }
    }

    /// Main holds a newer generation of the same grant under the same id: it is refreshed and served from there.
    fn serve_from_main(&self, target: &Target, call: &Call<'_>) -> Result<Flown> {
        let main = AgentId::main();
        let snapshot = self.snapshot(&main)?;
        match snapshot.profile(&target.profile) {
            Some(profile) if target.owner != main => {
                Ok(Flown::Lease(Box::new(self.oauth_lease(profile, call)?)))
            }
            _ => Ok(Flown::LookAgain { flew: true }),
        }
    }

    /// Moves what the record holds into the store, if nobody else is at it and there is room.
    fn heal(&self, target: &Target, grant: &Grant, call: &Call<'_>) {
        if self.store().is_readonly() {
            return;
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        if let Ok(lock) = self.try_lock(&path) {
            let landing = self.launch(target, call.demand.clone(), lock, call.left(self));
            tracing::debug!(profile = %target.profile, ?landing, "the store was behind its record");
        }
    }

    /// The OAuth profile as its owner's store has it now.
    pub(crate) fn stored_oauth(&self, target: &Target) -> Result<Option<OAuth>> {
        let store = self.store().load(&target.owner)?;
        Ok(store
            .profiles
            .get(&target.profile)
            .and_then(Credential::as_oauth)
            .cloned())
    }

    /// A grant as it stands: the store overlaid by its record. `None` when the store has no such OAuth profile.
    pub(crate) fn grant(&self, target: &Target) -> Result<Option<Grant>> {
        let Some(oauth) = self.stored_oauth(target)? else {
            return Ok(None);
        };
        self.overlaid(&oauth, &self.record_key(target)?).map(Some)
    }

    fn overlaid(&self, oauth: &OAuth, key: &RecordKey) -> Result<Grant> {
        let record = match self.journal().read(key) {
            Ok(record) => record,
            // The next flight moves it aside; until then the store counts as it stands.
            Err(StoreError::Unreadable(unreadable)) => {
                tracing::warn!(%unreadable, "a refresh record cannot be read");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let stored = generation_of(oauth);
        let View { current, heal } = overlay(&stored, record.as_deref());
        let generation = current.clone();
        let policy = self
            .refresher_of(oauth)
            .map(|(_, _, client)| policy_of(client))
            .unwrap_or_default();
        Ok(Grant {
            oauth: oauth.clone(),
            record,
            generation,
            heal,
            policy,
        })
    }

    fn grant_lease(&self, profile: &OwnedProfile, grant: &Grant, note: Option<String>) -> Lease {
        let generation = &grant.generation;
        let account = grant.oauth.account.updated_by(&generation.account);
        self.lease(
            profile,
            generation.tokens.access.clone(),
            generation.tokens.expires,
            account,
            note,
        )
    }

    fn lease(
        &self,
        profile: &OwnedProfile,
        secret: Secret,
        expires: Option<UnixMillis>,
        account: Account,
        note: Option<String>,
    ) -> Lease {
        let credential = &profile.entry.credential;
        let provider = credential.provider().clone();
        let kind = credential.kind();
        let mut lease = Lease {
            profile: profile.entry.id.clone(),
            owner: profile.owner.clone(),
            inherited: profile.inherited,
            kind,
            expires,
            billing: self.billing_of(&profile.entry.id, credential),
            base_url: None,
            headers: Vec::new(),
            env_name: None,
            source: format!("profile:{}", profile.entry.id),
            note,
            account,
            secret,
            provider,
        };
        self.dress(&mut lease, credential);
        lease
    }

    /// Adds what the provider's definition says about spending the lease.
    fn dress(&self, lease: &mut Lease, credential: &Credential) {
        let Some(definition) = self.registry().get(&lease.provider) else {
            return;
        };
        let client_id = credential.as_oauth().and_then(|oauth| oauth.client_id.as_deref());
        let method = definition.method_for(lease.kind, client_id);
        let api = method.map_or(&definition.api, |method| &method.api);
        let fields = credential
            .as_oauth()
            .map(|oauth| oauth.fields.clone())
            .unwrap_or_default();
        lease.base_url = api
            .base_url
            .as_ref()
            .map(|url| url.as_str().trim_end_matches('/').to_owned());
        match api.lease_headers(&lease.secret, &lease.account, &fields) {
            Ok(headers) => lease.headers = headers,
            Err(error) => tracing::warn!(profile = %lease.profile, %error, "the lease has no headers"),
        }
        let by_method =
            |var: &&EnvVar| var.method.is_some() && var.method.as_ref() == method.map(|method| &method.id);
        let fitting = definition.env.iter().find(by_method);
        let by_kind = || {
            definition
                .env
                .iter()
                .find(|var| definition.env_kind(var) == lease.kind)
        };
        lease.env_name = fitting
            .or_else(by_kind)
            .or(definition.env.first())
            .map(|var| var.name.clone());
    }

    fn unavailable(
        &self,
        why: &Unavailable,
        snapshot: &AgentSnapshot,
        request: &AcquireRequest,
    ) -> SinkError {
        if let (Unavailable::NoProfile { .. }, Some(error)) = (why, &snapshot.main_error) {
            return SinkError::new(
                ErrorKind::Failed,
                "store",
                format!("nothing can be inherited from main: {error}"),
            );
        }
        let agent = &request.agent;
        let for_agent = if agent.is_main() {
            String::new()
        } else {
            format!(" --agent {agent}")
        };
        match why {
            Unavailable::NoProfile { provider } => {
                let env = self.env_key_of(provider).map_or_else(String::new, |name| {
                    format!("; the key in ${name} is not used unless it is adopted (tokensink models auth paste-api-key --provider {provider})")
                });
                let message = format!("agent {agent} has no profile of {provider}{env}");
                SinkError::new(ErrorKind::LoginNeeded, "no_credential", message).with_fix(format!(
                    "tokensink models auth login --provider {provider}{for_agent}"
                ))
            }
            Unavailable::NoneSelected { provider, .. } => {
                let fix =
                    format!("tokensink models auth order set --provider {provider}{for_agent} <profile>");
                SinkError::new(ErrorKind::Failed, "none_selected", why.to_string()).with_fix(fix)
            }
            Unavailable::AllBenched { until, first, .. } => {
                SinkError::new(ErrorKind::TryAgain, "all_benched", why.to_string())
                    .until(Some(*until))
                    .about(first)
            }
            Unavailable::NoneEligible {
                first, eligibility, ..
            } => ineligible(snapshot, first, eligibility, agent),
            Unavailable::Profile { profile, eligibility } => {
                ineligible(snapshot, profile, eligibility, agent)
            }
        }
    }

    /// The environment variable that holds a key of `provider` now.
    pub(crate) fn env_key_of(&self, provider: &ProviderId) -> Option<String> {
        let definition = self.registry().get(provider)?;
        definition
            .env
            .iter()
            .map(|var| &var.name)
            .find(|name| self.host().env.var(name).is_some())
            .cloned()
    }
}

/// One call with its time limit.
pub(crate) struct Call<'a> {
    request: &'a AcquireRequest,
    demand: Demand,
    /// Monotonic.
    deadline: Duration,
}

impl<'a> Call<'a> {
    fn new(sink: &Sink, request: &'a AcquireRequest) -> Self {
        let horizon = request.min_ttl.map_or(Horizon::Usual, Horizon::AtLeast);
        let deadline = sink.host().clock.monotonic().saturating_add(request.wait);
        Self {
            request,
            demand: Demand {
                horizon,
                rejected: request.rejected.clone(),
            },
            deadline,
        }
    }

    fn left(&self, sink: &Sink) -> Duration {
        self.deadline.saturating_sub(sink.host().clock.monotonic())
    }
}

/// A stored grant overlaid by its record.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) oauth: OAuth,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) generation: Generation,
    pub(crate) heal: bool,
    pub(crate) policy: tokensink_refresh::Policy,
}

impl Grant {
    pub(crate) fn standing(&self, demand: &Demand, now: UnixMillis) -> Standing {
        stand(
            &self.generation,
            self.record.as_deref(),
            &self.policy,
            demand,
            now,
        )
    }
}

enum Next {
    Heal,
    Fly,
    Blocked(Block),
}

enum Flown {
    Lease(Box<Lease>),
    LookAgain { flew: bool },
    Blocked(Block),
}

pub(crate) fn unknown_provider(unknown: &UnknownProvider) -> SinkError {
    SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
        .with_fix("tokensink providers list")
}

fn lock_error(error: &LockError, profile: &ProfileId) -> SinkError {
    SinkError::new(ErrorKind::Failed, "lock", error.to_string()).about(profile)
}
