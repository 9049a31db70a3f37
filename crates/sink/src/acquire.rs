//! Handing out: which profile, is it fresh, and what to do when it is not.

use std::sync::Arc;

use tokensink_policy::{
    self as policy, Choice, Eligibility, EligibilityCode, Outcome, Target as Wanted, Unavailable,
};
use tokensink_providers::UnknownProvider;
use tokensink_store::OwnedProfile;
use tokensink_types::{
    Account, AgentId, Credential, Expiry, ProfileId, ProviderId, SecretSource, SecretText, UnixMillis,
    short_wait,
};

use crate::block::{agent_option, ineligible, no_profile, paste_command, seconds};
use crate::calls::choose::{Claim, others};
use crate::calls::crossings::CROSSINGS_SPENT;
use crate::calls::{Issued, LeaseId};
use crate::decisions::{self, Made};
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::{AcquireRequest, Lease, Want};
use crate::secrets::reference::Failure;
use crate::secrets::{Resolved, Unresolved};
use crate::serve::{Call, SHORT_WAIT};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

impl Sink {
    /// Answers with a valid credential of the wanted profile or provider. The warm case takes no lock and reads no
    /// file that has not changed.
    ///
    /// # Errors
    /// [`ErrorKind::LoginNeeded`] when only a login helps, [`ErrorKind::TryAgain`] when waiting does, with the time
    /// where it is known, [`ErrorKind::Usage`] for an unknown provider or profile, else [`ErrorKind::Failed`].
    pub fn acquire(&self, request: &AcquireRequest) -> Result<Lease> {
        self.current().choose_and_serve(request)
    }

    /// The same for an event loop: never waits, sends nothing and runs no program. `None` means that one of these, or
    /// an error that takes a closer look, is due: call [`Sink::acquire`] on a thread then.
    ///
    /// # Errors
    /// As for [`Sink::acquire`], as far as they are known at once.
    pub fn acquire_ready(&self, request: &AcquireRequest) -> Result<Option<Lease>> {
        self.current().ready_now(request)
    }

    fn ready_now(&self, request: &AcquireRequest) -> Result<Option<Lease>> {
        let snapshot = self.snapshot(&request.agent)?;
        let wanted = self.wanted(&request.want, &snapshot)?;
        let made = self.decide(&snapshot, wanted, request)?;
        let choice = made.choice().filter(|choice| !choice.tests);
        // What costs more than it might is written down now and then, which takes a lock.
        let choice = choice.filter(|choice| !self.is_crossing_due(&made, &choice.profile, &request.agent));
        let Some(choice) = choice.filter(|_| self.is_pin_kept(&made, request).unwrap_or(false)) else {
            return Ok(None);
        };
        let Some(profile) = snapshot.profile(&choice.profile) else {
            return Ok(None);
        };
        let call = Call::new(self, request);
        let lease = match &profile.entry.credential {
            Credential::OAuth(oauth) => match self.served_again(&snapshot, &choice.profile, &call) {
                Ok(Some(lease)) => Some(lease),
                Ok(None) | Err(_) => self.warm(&snapshot, profile, oauth, &call).ok().flatten(),
            },
            Credential::ApiKey(key) => self.ready_static(&snapshot, profile, &key.key, None, &call),
            Credential::Token(token) => {
                self.ready_static(&snapshot, profile, &token.token, end_of(token.expires), &call)
            }
        };
        Ok(lease.map(|lease| self.issued(lease, &snapshot, &made, request)))
    }

    /// A static secret that stands in the store and is spent as it stands there.
    fn ready_static(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
        source: &SecretSource,
        expires: Option<UnixMillis>,
        call: &Call<'_>,
    ) -> Option<Lease> {
        let Some(SecretText::Plain(secret)) = &source.inline else {
            return None;
        };
        if call.request.rejected.is_some() || secret.is_blank() {
            return None;
        }
        let id = &profile.entry.id;
        let given = match snapshot.kept.spendable(id) {
            Some(given) => given,
            None if self.exchanges(&profile.entry.credential) => return None,
            None => {
                let made = self.spendable(profile, secret.clone(), expires, Account::default());
                snapshot.kept.keep_spendable(id.clone(), made)
            }
        };
        Some(Lease::of(given, self.ends_too_early(profile, expires, call)))
    }

    /// What is told of a lease besides its credential.
    pub(crate) fn issued(
        &self,
        mut lease: Lease,
        snapshot: &Arc<AgentSnapshot>,
        made: &Arc<Made>,
        request: &AcquireRequest,
    ) -> Lease {
        let verdict = made.verdict(&lease.profile);
        lease.why = verdict.map_or("", |verdict| verdict.rule.as_str());
        lease.crosses = verdict.and_then(|verdict| verdict.crosses);
        if let Some(left) = lease.crosses {
            self.note_crossing(&lease.profile, (left, lease.billing), &request.agent);
            let crossed = format!(
                "{} is {}, and the request left {left} for it, as [billing] allow of tokensink/config.toml says",
                lease.profile, lease.billing
            );
            lease.note = Some(
                lease
                    .note
                    .map_or(crossed.clone(), |note| format!("{note}; {crossed}")),
            );
        }
        lease.id = self.calls().lease_id();
        lease.model.clone_from(&request.model);
        let now = self.now();
        lease.issued = Issued {
            at: now,
            epoch: snapshot
                .belief(&lease.owner, &lease.profile)
                .map_or(0, |entry| entry.epoch),
        };
        self.noted(
            (lease.id, now),
            Ok(lease.profile.clone()),
            (snapshot, made),
            request,
        );
        lease
    }

    /// Notes a choice for `explain`.
    pub(crate) fn noted(
        &self,
        (id, at): (LeaseId, UnixMillis),
        served: std::result::Result<ProfileId, &'static str>,
        (snapshot, made): (&Arc<AgentSnapshot>, &Arc<Made>),
        request: &AcquireRequest,
    ) {
        self.note_choice(decisions::Choice {
            id,
            request: request.request_id.filter(|request| *request != id),
            at,
            config: Arc::clone(&snapshot.config),
            state: Arc::clone(&snapshot.state),
            made: Arc::clone(made),
            served,
        });
    }

    /// Serves the choice, or what may serve in its place where it fails.
    pub(crate) fn serve(
        &self,
        made: &Made,
        choice: &Choice,
        claim: Claim,
        snapshot: &AgentSnapshot,
        call: &Call<'_>,
    ) -> Result<Lease> {
        let id = &choice.profile;
        if claim == Claim::Free
            && let Ok(Some(lease)) = self.served_again(snapshot, id, call)
        {
            return Ok(lease);
        }
        let alone = others(made, id).next().is_none();
        let at_once = call.with_others();
        let patience = if alone { call } else { &at_once };
        let first = match self.lease_or_give_back(snapshot, id, claim, patience) {
            Ok(lease) => return Ok(lease),
            Err(error) if alone || (call.request.asks_again && self.ends_soon(&error)) => return Err(error),
            Err(error) => error,
        };
        let mut waiting = None;
        for other in others(made, id) {
            let claim = self.claim_for(other.tests, snapshot, &other.profile, call);
            if claim == Claim::Theirs {
                continue;
            }
            match self.lease_or_give_back(snapshot, &other.profile, claim, &at_once) {
                Ok(mut lease) => {
                    lease.note = Some(format!("{id} could not serve: {first}"));
                    return Ok(lease);
                }
                Err(error) if error.kind() == ErrorKind::TryAgain => waiting = waiting.or(Some(error)),
                Err(_) => {}
            }
        }
        if first.kind() == ErrorKind::TryAgain {
            // None of the others serves, so it is worth while to wait for the first. Its test was given back.
            return match self.claim_for(choice.tests, snapshot, id, call) {
                Claim::Theirs => Err(first),
                claim => self.lease_or_give_back(snapshot, id, claim, call),
            };
        }
        // Where waiting helps one of them, it would be wrong to say that only a login does.
        Err(waiting.unwrap_or(first))
    }

    /// Is it a refresh that is under way, or a back-off that a caller with time would wait out although there are others?
    fn ends_soon(&self, error: &SinkError) -> bool {
        let waits = |until| self.now().until(until) <= SHORT_WAIT;
        error.kind() == ErrorKind::TryAgain && error.retry_at().is_none_or(waits)
    }

    /// The claim on a test, where the choice `tests` a bench.
    fn claim_for(&self, tests: bool, snapshot: &AgentSnapshot, id: &ProfileId, call: &Call<'_>) -> Claim {
        if tests {
            self.claim(snapshot, id, call.request.model.as_deref())
        } else {
            Claim::Free
        }
    }

    /// A lease; the claim on a test goes with it, or back.
    fn lease_or_give_back(
        &self,
        snapshot: &AgentSnapshot,
        id: &ProfileId,
        claim: Claim,
        call: &Call<'_>,
    ) -> Result<Lease> {
        let lease = self.lease_of(snapshot, id, call);
        let Claim::Ours(since) = claim else {
            return lease;
        };
        match lease {
            Ok(lease) => Ok(Lease { tests: true, ..lease }),
            Err(error) => {
                if let Some(profile) = snapshot.profile(id) {
                    self.unclaim(&profile.owner, id, since);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn wanted(&self, want: &Want, snapshot: &AgentSnapshot) -> Result<Wanted> {
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
            Credential::ApiKey(key) => self.static_lease(profile, &key.key, None, call),
            Credential::Token(token) => self.static_lease(profile, &token.token, end_of(token.expires), call),
            Credential::OAuth(oauth) => match self.warm(snapshot, profile, oauth, call)? {
                Some(lease) => Ok(lease),
                None => self.oauth_lease(profile, &snapshot.target_of(profile), call),
            },
        }
    }

    fn static_lease(
        &self,
        profile: &OwnedProfile,
        source: &SecretSource,
        expires: Option<UnixMillis>,
        call: &Call<'_>,
    ) -> Result<Lease> {
        let id = &profile.entry.id;
        match self.secret_of(source, call.request.rejected.as_ref())? {
            Ok(Resolved { secret, note: stale }) => {
                if let Some(lease) = self.runtime_key_lease(profile, &secret, call)? {
                    return Ok(lease);
                }
                let note = stale.or_else(|| self.ends_too_early(profile, expires, call));
                Ok(self.lease(profile, secret, expires, Account::default(), note))
            }
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
            Err(Unresolved::Reference(failure)) => Err(unresolved(id, failure)),
        }
    }

    /// A pasted token cannot be renewed, so one that ends before the caller's minimum is served and said to be so.
    fn ends_too_early(
        &self,
        profile: &OwnedProfile,
        expires: Option<UnixMillis>,
        call: &Call<'_>,
    ) -> Option<String> {
        let (expires, wanted) = (expires?, call.request.min_ttl?);
        let left = self.now().until(expires);
        if left >= wanted {
            return None;
        }
        Some(format!(
            "{} ends in {}, sooner than the {} that were asked for; a pasted token cannot be renewed",
            profile.entry.id,
            seconds(left),
            seconds(wanted)
        ))
    }

    /// Why nobody serves, as an error with what mends it.
    pub(crate) fn unavailable(
        &self,
        why: &Unavailable,
        snapshot: &AgentSnapshot,
        request: &AcquireRequest,
    ) -> SinkError {
        let agent = &request.agent;
        match why {
            Unavailable::NoProfile { provider } => match &snapshot.main_error {
                Some(error) => {
                    let message = format!("nothing can be inherited from main: {error}");
                    SinkError::new(ErrorKind::Failed, "store", message)
                }
                None => self.no_profile_of(provider, agent),
            },
            Unavailable::NoneSelected { provider, .. } => {
                let of_agent = agent_option(agent);
                let fix =
                    format!("tokensink models auth order set --provider {provider}{of_agent} <profile>");
                SinkError::new(ErrorKind::Failed, "none_selected", why.to_string()).with_fix(fix)
            }
            Unavailable::AllBenched {
                until, first, cause, ..
            } => SinkError::new(ErrorKind::TryAgain, "all_benched", why.to_string())
                .until(Some(*until))
                .for_reason(*cause)
                .about(first),
            Unavailable::TooCostly {
                profile, provider, ..
            } => {
                let kind = match why.retry_at() {
                    Some(_) => ErrorKind::TryAgain,
                    None => ErrorKind::Failed,
                };
                let of_agent = agent_option(agent);
                SinkError::new(kind, "too_costly", why.to_string())
                    .with_fix(format!("tokensink explain --provider {provider}{of_agent}"))
                    .until(why.retry_at())
                    .about(profile)
            }
            Unavailable::AllTried { first, .. } => {
                SinkError::new(ErrorKind::TryAgain, "all_tried", why.to_string())
                    .until(why.retry_at())
                    .about(first)
            }
            Unavailable::Denied { profile, rule, .. } => {
                let settings = self.paths().settings_file();
                SinkError::new(ErrorKind::Failed, "denied", why.to_string())
                    .with_fix(format!("change the rule {rule} in {}", settings.display()))
                    .about(profile)
            }
            Unavailable::NoneEligible {
                first: profile,
                eligibility,
                ..
            }
            | Unavailable::Profile { profile, eligibility } => {
                self.cannot_be_used(snapshot, profile, eligibility, agent)
            }
        }
    }

    /// Why nobody serves the request that `asked` puts to the policy. That no more calls may cost more today is the reason
    /// only where somebody would serve otherwise.
    pub(crate) fn refusal(
        &self,
        why: &Unavailable,
        (snapshot, asked): (&AgentSnapshot, &policy::Request),
        request: &AcquireRequest,
    ) -> SinkError {
        match self.but_for_the_bound(snapshot, asked) {
            Some(Outcome::Chosen(choice)) => self.spent(why, &choice),
            Some(Outcome::Unavailable(other)) => self.unavailable(&other, snapshot, request),
            None => self.unavailable(why, snapshot, request),
        }
    }

    /// What would be decided if more calls might cost more today; `None` where that is no matter.
    fn but_for_the_bound(&self, snapshot: &AgentSnapshot, asked: &policy::Request) -> Option<Outcome> {
        self.crossings_per_day()?;
        let unbounded = self.unbounded_policy();
        if Arc::ptr_eq(&snapshot.config, &unbounded) {
            return None;
        }
        let decision = policy::select(&unbounded, &snapshot.state, asked, self.now());
        decision.ok().map(|decision| decision.outcome)
    }

    /// One that costs more would serve, but as many calls as may on one day have been made.
    fn spent(&self, why: &Unavailable, choice: &Choice) -> SinkError {
        let midnight = self.next_crossings();
        let free = why.retry_at().filter(|at| *at < midnight);
        let (text, fix) = self.spent_in_words();
        let (profile, to) = (&choice.profile, choice.billing);
        let message = format!("only {profile} is left, which is {to}; {text}");
        SinkError::new(ErrorKind::TryAgain, CROSSINGS_SPENT, message)
            .with_fix(fix)
            .until(Some(free.unwrap_or(midnight)))
            .about(profile)
    }

    /// What is told when no call may move to a costlier class any more today, and what to do about it.
    pub(crate) fn spent_in_words(&self) -> (String, String) {
        let cap = self.crossings_per_day().unwrap_or_default();
        let wait = short_wait(self.now().until(self.next_crossings()));
        let text = format!(
            "as many calls as may on one day (crossings_per_day: {cap}) have moved to a costlier class; the next may in {wait}"
        );
        let settings = self.paths().settings_file();
        let fix = format!(
            "raise crossings_per_day under [billing] in {}",
            settings.display()
        );
        (text, fix)
    }

    /// The agent has no login of the provider: what there is that could become one, and the command for it.
    fn no_profile_of(&self, provider: &ProviderId, agent: &AgentId) -> SinkError {
        let env = self.env_key_of(provider).map_or_else(String::new, |name| {
            format!("; the key in ${name} is not used unless it is adopted (tokensink models auth paste-api-key --provider {provider})")
        });
        let message = format!("agent {agent} has no profile of {provider}{env}");
        let unused = self.unused_login(provider).filter(|_| self.sees_mains(agent));
        let (message, fix) = match unused {
            Some((found, fix)) => {
                let (title, place) = (found.title, found.place);
                let message = format!("{message}; {title} is logged in ({place}) and its login is not used");
                (message, fix)
            }
            None => (message, self.first_login_command(provider, agent)),
        };
        SinkError::new(ErrorKind::LoginNeeded, "no_credential", message).with_fix(fix)
    }

    /// A profile that may not be used; of a reference that gives no value, with the reason.
    fn cannot_be_used(
        &self,
        snapshot: &AgentSnapshot,
        id: &ProfileId,
        why: &Eligibility,
        agent: &AgentId,
    ) -> SinkError {
        let profile = snapshot.profile(id);
        let trouble = profile
            .filter(|_| why.code == EligibilityCode::UnresolvedRef)
            .and_then(|profile| self.trouble_with(&profile.entry.credential).ok().flatten());
        match trouble {
            Some(failure) => unresolved(id, failure),
            None => {
                let error = ineligible(snapshot, id, why, agent);
                // What another program keeps is put right there.
                let guest = profile.filter(|profile| snapshot.guest(profile).is_some());
                let remedy = guest.map(|profile| {
                    let provider = profile.entry.credential.provider();
                    self.remedy(&snapshot.target_of(profile), provider)
                });
                error.with_fix_if(remedy)
            }
        }
    }

    /// The command that gives `agent` its first login of `provider`: in a browser, or a key to paste.
    pub(crate) fn first_login_command(&self, provider: &ProviderId, agent: &AgentId) -> String {
        let verb = if self.has_browser_login(provider) {
            "login"
        } else {
            "paste-api-key"
        };
        let of_agent = agent_option(agent);
        format!("tokensink models auth {verb} --provider {provider}{of_agent}")
    }

    /// The command that gives `agent` its first profile of `provider`: a mode for a login that another program has
    /// already, else a login.
    pub(crate) fn first_step(&self, provider: &ProviderId, agent: &AgentId) -> String {
        let found = self.unused_login(provider).filter(|_| self.sees_mains(agent));
        found.map_or_else(|| self.first_login_command(provider, agent), |(_, fix)| fix)
    }

    /// A login of another program in use is main's; whoever inherits nothing is not helped by it.
    fn sees_mains(&self, agent: &AgentId) -> bool {
        agent.is_main() || self.inherits(agent)
    }

    /// Can the provider be logged in to, or has it only keys and tokens to paste?
    pub(crate) fn has_browser_login(&self, provider: &ProviderId) -> bool {
        let definition = self.registry().get(provider);
        definition.is_none_or(|definition| {
            definition
                .methods
                .iter()
                .any(|method| method.oauth_client().is_some())
        })
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

fn end_of(expires: Expiry) -> Option<UnixMillis> {
    match expires {
        Expiry::At(at) => Some(at),
        Expiry::Never | Expiry::Invalid => None,
    }
}

/// The reference behind a profile gives no value.
fn unresolved(id: &ProfileId, failure: Failure) -> SinkError {
    SinkError::new(ErrorKind::Failed, "unresolved_ref", format!("{id}: {failure}"))
        .with_fix(failure.fix)
        .about(id)
}

pub(crate) fn unknown_provider(unknown: &UnknownProvider) -> SinkError {
    SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
        .with_fix("tokensink providers list")
}

#[cfg(test)]
mod leave_tests;
#[cfg(test)]
mod patience_tests;
