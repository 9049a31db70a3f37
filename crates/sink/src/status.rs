//! Status: what a caller who asks now would get, told by the same functions that would answer it.

use std::collections::{HashMap, HashSet};

use tokensink_host::Liveness;
use tokensink_policy::{
    self as policy, CheckScope, CredentialForm, Eligibility, EligibilityCode, ProfileHealth, ProviderHealth,
    ProviderInUse, Purpose,
};
use tokensink_providers::Origin;
use tokensink_refresh::{Death, Demand, Standing, alive};
use tokensink_store::OwnedProfile;
use tokensink_types::record::RecordState;
use tokensink_types::{
    AgentId, Credential, CredentialKind, ProfileId, ProviderId, Secret, SecretSource, SecretText, UnixMillis,
};

use crate::block::{Block, paste_command};
use crate::error::{ErrorKind, Result};
use crate::external::Guest;
use crate::grant::Grant;
use crate::owner::Target;
use crate::report::{
    Bench, Benched, Counts, EnvKey, MissingProvider, ModelsView, ProfileState, ProfileStatus, ProviderStatus,
    StatusReport,
};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// A profile with everything that was found out about it.
struct Looked<'a> {
    profile: &'a OwnedProfile,
    grant: Option<Grant>,
    state: ProfileState,
}

impl Sink {
    /// Reports on everything that `agent` sees. Reads, and changes nothing.
    ///
    /// # Errors
    /// When the agent's own store or the config cannot be read.
    pub fn status(&self, agent: &AgentId) -> Result<StatusReport> {
        let snapshot = self.snapshot(agent)?;
        let now = self.now();
        let models = self.models_view(agent)?;
        let looked: Vec<Looked<'_>> = snapshot
            .view
            .profiles
            .iter()
            .map(|profile| self.look(&snapshot, profile))
            .collect::<Result<_>>()?;
        let state = effective_state(&snapshot, &looked);
        let mut quota = self.quota(agent)?;
        let health = policy::health::health(&snapshot.config, &state, now);
        let in_use = self.providers_in_use(&models);
        let missing = policy::missing_in_use(&snapshot.config, &health, &in_use);
        let missing_in_use = missing
            .into_iter()
            .map(|provider| MissingProvider {
                provider: provider.clone(),
                fix: self.first_step(provider, agent),
            })
            .collect();
        let used = |id: &ProviderId| {
            in_use
                .iter()
                .any(|one| snapshot.config.aliases.same(&one.provider, id))
        };
        let judged: HashMap<&ProfileId, &ProfileHealth> = health
            .iter()
            .flat_map(|one| &one.profiles)
            .map(|one| (&one.profile, one))
            .collect();
        let mut profiles: Vec<ProfileStatus> = looked
            .iter()
            .filter_map(|looked| {
                let found = judged.get(&looked.profile.entry.id)?;
                let mut told = self.profile_status(&snapshot, looked, found, used(&found.provider));
                told.quota = quota.remove(&told.id).unwrap_or_default();
                Some(told)
            })
            .collect();
        profiles.sort_by(|a, b| (&a.provider, &a.id).cmp(&(&b.provider, &b.id)));
        let check = |scope| check(&snapshot.config, &health, &in_use, &profiles, scope);
        let (check_in_use, check_all) = (check(CheckScope::InUse), check(CheckScope::All));
        let providers = health
            .iter()
            .map(|one| self.provider_status(one, &profiles, used(&one.provider)))
            .collect();
        Ok(StatusReport {
            config_path: self.config_path().to_owned(),
            agent: agent.clone(),
            agent_dir: self.paths().agent_dir(agent),
            store_path: self.paths().profiles_file(agent),
            state_dir: self.state_dir().to_owned(),
            models,
            providers,
            missing_in_use,
            profiles,
            external: self.external_in_scope(&snapshot, &in_use),
            env_keys: self.env_keys(),
            warnings: [
                snapshot.warnings.clone(),
                self.secrets_warnings(),
                self.moved_away(agent),
            ]
            .concat(),
            check_in_use,
            check_all,
            now,
        })
    }

    /// What a caller who asks for this profile now would get.
    pub(crate) fn profile_state(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
    ) -> Result<ProfileState> {
        Ok(self.look(snapshot, profile)?.state)
    }

    fn look<'a>(&self, snapshot: &AgentSnapshot, profile: &'a OwnedProfile) -> Result<Looked<'a>> {
        let target = snapshot.target_of(profile);
        // The stores are as the snapshot has them; only the record is looked at.
        let key = snapshot.record_key(&target);
        let grant = match profile.entry.credential.as_oauth() {
            Some(oauth) => Some(self.overlaid(&target, oauth, key.as_ref())?),
            None => None,
        };
        let state = match self.eligibility_of(snapshot, profile) {
            why if matches!(why.code, EligibilityCode::Ok | EligibilityCode::UnresolvedRef) => match &grant {
                Some(grant) => self.grant_state(&target, grant),
                None => self.static_state(profile)?,
            },
            why => self.ineligible_state(&target, profile, &why),
        };
        Ok(Looked {
            profile,
            grant,
            state,
        })
    }

    fn eligibility_of(&self, snapshot: &AgentSnapshot, profile: &OwnedProfile) -> Eligibility {
        let ask = policy::Ask {
            config: &snapshot.config,
            provider: None,
            purpose: Purpose::Resolve,
            now: self.now(),
        };
        let id = &profile.entry.id;
        policy::eligibility(id, snapshot.candidate(id), &ask).unwrap_or_else(|error| Eligibility {
            code: EligibilityCode::IneligibleProfile,
            detail: error.to_string(),
        })
    }

    fn static_state(&self, profile: &OwnedProfile) -> Result<ProfileState> {
        if let Some(failure) = self.trouble_with(&profile.entry.credential)? {
            return Ok(ProfileState::UnresolvedRef {
                what: failure.to_string(),
                fix: failure.fix,
            });
        }
        let expires = match &profile.entry.credential {
            Credential::Token(token) => match token.expires {
                tokensink_types::Expiry::At(at) => Some(at),
                tokensink_types::Expiry::Never | tokensink_types::Expiry::Invalid => None,
            },
            Credential::ApiKey(_) | Credential::OAuth(_) => None,
        };
        Ok(match expires {
            Some(at) if self.now().until(at) <= policy::health::WARN_WITHIN => ProfileState::Expiring,
            _ => ProfileState::Usable,
        })
    }

    fn grant_state(&self, target: &Target, grant: &Grant) -> ProfileState {
        let demand = Demand::default();
        let now = self.now();
        let living = alive(&grant.generation, &demand, now);
        let standing = grant.standing(&demand, now);
        if let Some(flying) = self.under_way(grant) {
            return if standing == Standing::Fresh {
                ProfileState::Usable
            } else {
                flying
            };
        }
        match standing {
            Standing::Fresh
                if grant.generation.spend_key().is_none() && grant.generation.tokens.expires.is_some() =>
            {
                ProfileState::Expiring
            }
            Standing::Fresh => self.fresh_state(grant),
            Standing::Due(_) => self.due_state(target, grant),
            Standing::Dead(death) => self.dead_state(death, living, target, grant),
            other => {
                let block = self.block_of(other, target);
                debug_assert_eq!(block.kind, ErrorKind::TryAgain);
                ProfileState::Waiting {
                    reason: block.reason,
                    until: block.until,
                }
            }
        }
    }

    fn dead_state(&self, death: Death, living: bool, target: &Target, grant: &Grant) -> ProfileState {
        // What main has serves instead: `oauth_lease` goes by the same rule.
        if let Ok(Some((mains, theirs))) = self.grant_ahead(target, grant, &Demand::default()) {
            return self.grant_state(&mains, &theirs);
        }
        if living {
            return ProfileState::Expiring;
        }
        ProfileState::LoginNeeded {
            reason: self.block_of(Standing::Dead(death), target).reason,
            command: self.remedy(target, &grant.oauth.provider),
        }
    }

    fn ineligible_state(&self, target: &Target, profile: &OwnedProfile, why: &Eligibility) -> ProfileState {
        let credential = &profile.entry.credential;
        let (id, provider) = (&profile.entry.id, credential.provider());
        ProfileState::LoginNeeded {
            reason: why.detail.clone(),
            command: match credential.kind() {
                kind if kind != CredentialKind::OAuth && target.place().is_none() => {
                    paste_command(provider, id, kind, &profile.owner)
                }
                _ => self.remedy(target, provider),
            },
        }
    }

    /// Due, and nothing of ours in the way of a refresh?
    fn due_state(&self, target: &Target, grant: &Grant) -> ProfileState {
        let block = if self.store().is_readonly() {
            Some(Block::readonly())
        } else if self.refresher_for(target, &grant.oauth).is_none() {
            Some(self.no_definition(&grant.oauth.provider))
        } else {
            None
        };
        block.map_or(ProfileState::Refreshable, |block| ProfileState::Waiting {
            reason: block.reason,
            until: None,
        })
    }

    /// A fresh token whose grant is known to be dead serves to its end and no further.
    fn fresh_state(&self, grant: &Grant) -> ProfileState {
        let key = grant.generation.spend_key();
        let dead = grant.record.as_deref().is_some_and(|record| match &record.state {
            RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } => Some(*spent) == key,
            _ => false,
        });
        if dead {
            ProfileState::Expiring
        } else {
            ProfileState::Usable
        }
    }

    /// A request of this grant that a living process has sent.
    fn under_way(&self, grant: &Grant) -> Option<ProfileState> {
        let record = grant.record.as_deref()?;
        let RecordState::Sent(sent) = &record.state else {
            return None;
        };
        let running = matches!(
            self.host().processes.liveness(&sent.holder),
            Liveness::Running | Liveness::Stopped
        );
        let current = grant.generation.spend_key() == Some(sent.spend);
        // A holder that wrote down a failure has ended its flight, though its process may go on.
        let ended = record.backoff.is_some();
        (running && current && !ended).then(|| ProfileState::Refreshing {
            holder: sent.holder.to_string(),
            since: sent.last_at,
        })
    }

    fn profile_status(
        &self,
        snapshot: &AgentSnapshot,
        looked: &Looked<'_>,
        health: &ProfileHealth,
        in_use: bool,
    ) -> ProfileStatus {
        let entry = &looked.profile.entry;
        let now = self.now();
        let account = match (&looked.grant, &entry.credential) {
            (Some(grant), _) => grant.oauth.account.updated_by(&grant.generation.account),
            (None, Credential::OAuth(oauth)) => oauth.account.clone(),
            (None, _) => tokensink_types::Account::default(),
        };
        let bench = bench_of(snapshot, looked.profile, now);
        let label = self.label_of(&entry.id, &entry.credential);
        ProfileStatus {
            id: entry.id.clone(),
            provider: entry.credential.provider().clone(),
            kind: entry.credential.kind(),
            owner: looked.profile.owner.clone(),
            inherited: looked.profile.inherited,
            secret_label: secret_label(entry.id.as_str(), &entry.credential, bench.as_ref(), now),
            label,
            account,
            state: looked.state.clone(),
            health: health.status,
            reason_code: health.reason.map(|code| code.as_str().to_owned()),
            expires: health.expires_at,
            remaining: health
                .expires_at
                .map(|at| now.until(at))
                .filter(|left| !left.is_zero()),
            bench,
            benches: benches_of(snapshot, looked.profile, now),
            quota: Vec::new(),
            billing: self.billing_of(&entry.id, &entry.credential),
            position: health.position,
            in_use,
            external: snapshot.guest(looked.profile).map(Guest::told),
        }
    }

    /// The label for people (spec.md 3.3): the id with a display name, else an e-mail address.
    pub(crate) fn label_of(&self, id: &ProfileId, credential: &Credential) -> String {
        let labels = credential.labels();
        let word = labels
            .display_name
            .as_deref()
            .or(labels.email.as_deref())
            .filter(|word| !word.trim().is_empty());
        word.map_or_else(|| id.to_string(), |word| format!("{id} ({word})"))
    }

    fn provider_status(
        &self,
        health: &ProviderHealth,
        profiles: &[ProfileStatus],
        in_use: bool,
    ) -> ProviderStatus {
        let definition = self.registry().get(&health.provider);
        let ids: HashSet<&ProfileId> = health.profiles.iter().map(|one| &one.profile).collect();
        let ours: Vec<&ProfileStatus> = profiles.iter().filter(|one| ids.contains(&one.id)).collect();
        let of_kind = |kind| ours.iter().filter(|one| one.kind == kind).count();
        let owner = ours.first().map_or_else(AgentId::main, |one| one.owner.clone());
        ProviderStatus {
            provider: health.provider.clone(),
            name: definition.map_or_else(
                || health.provider.to_string(),
                |definition| definition.name.clone(),
            ),
            effective_kind: if ours.is_empty() { "missing" } else { "profiles" },
            effective_detail: self.paths().profiles_file(&owner).display().to_string(),
            counts: Counts {
                count: ours.len(),
                oauth: of_kind(CredentialKind::OAuth),
                token: of_kind(CredentialKind::Token),
                api_key: of_kind(CredentialKind::ApiKey),
            },
            labels: ours.iter().map(|one| one.secret_label.clone()).collect(),
            health: health.status,
            effective_profiles: health.effective.clone(),
            expires: health.expires_at,
            in_use,
            notice: self.notice_of(&health.provider, &ours),
            overridden_endpoints: self
                .registry()
                .overridden_endpoints(&health.provider)
                .into_iter()
                .map(|field| (field.path, field.value, origin_text(&field.origin)))
                .collect(),
        }
    }

    fn notice_of(&self, provider: &ProviderId, profiles: &[&ProfileStatus]) -> Option<String> {
        let definition = self.registry().get(provider)?;
        let notices = profiles.iter().filter_map(|one| {
            let method = definition.method_for(one.kind, None)?;
            Some(method.notice.trim()).filter(|notice| !notice.is_empty())
        });
        notices.max_by_key(|notice| notice.len()).map(str::to_owned)
    }

    fn providers_in_use(&self, models: &ModelsView) -> Vec<ProviderInUse> {
        let named = std::iter::once(&models.resolved_default)
            .chain(&models.fallbacks)
            .chain(&models.image)
            .chain(&models.image_fallbacks);
        let mut providers: Vec<ProviderId> = Vec::new();
        for key in named {
            let id = key
                .split_once('/')
                .and_then(|(provider, _)| ProviderId::parse(provider).ok());
            let id = id.map(|id| self.registry().canonical(&id));
            providers.extend(id.filter(|id| !providers.contains(id)));
        }
        providers
            .into_iter()
            .map(|provider| ProviderInUse {
                other_auth: self.has_config_key(&provider),
                provider,
            })
            .collect()
    }

    /// A key of the provider in `openclaw.json` (spec.md 4.1.6).
    fn has_config_key(&self, provider: &ProviderId) -> bool {
        let Ok(config) = self.config() else { return false };
        let providers = config.providers();
        providers
            .iter()
            .any(|one| self.registry().canonical(&one.id) == *provider && !one.api_key.is_missing())
    }

    fn env_keys(&self) -> Vec<EnvKey> {
        let names = self.registry().env_names().into_iter();
        names
            .filter_map(|env| {
                let value = self.host().env.var(&env.variable.name)?;
                Some(EnvKey {
                    masked: Secret::new(value).masked(),
                    name: env.variable.name,
                    provider: env.provider,
                })
            })
            .collect()
    }
}

/// The candidates with the ends that count: a record may be ahead of its store.
fn effective_state(snapshot: &AgentSnapshot, looked: &[Looked<'_>]) -> policy::State {
    let grants: HashMap<&ProfileId, &Grant> = looked
        .iter()
        .filter_map(|one| Some((&one.profile.entry.id, one.grant.as_ref()?)))
        .collect();
    let mut state = policy::State::clone(&snapshot.state);
    for candidate in &mut state.candidates {
        let grant = grants.get(&candidate.id);
        if let (
            Some(grant),
            CredentialForm::OAuth {
                access,
                refresh,
                expires,
            },
        ) = (grant, &mut candidate.facts.form)
        {
            *access = !grant.generation.tokens.access.is_blank();
            *refresh = grant.generation.spend_key().is_some();
            *expires = grant.generation.tokens.expires;
        }
    }
    state
}

/// The exit code of `models status --check` (spec.md 12.5): 1 when something in scope has ended, is missing or needs
/// a login, 2 when something ends within a day or cannot be renewed, else 0.
fn check(
    config: &policy::Config,
    health: &[ProviderHealth],
    in_use: &[ProviderInUse],
    profiles: &[ProfileStatus],
    scope: CheckScope,
) -> u8 {
    let by_time = policy::check_exit_code(config, health, in_use, scope).code();
    let in_scope = profiles
        .iter()
        .filter(|one| scope == CheckScope::All || (one.in_use && one.position.is_some()));
    let by_state = in_scope.map(|one| match one.state {
        ProfileState::LoginNeeded { .. } | ProfileState::UnresolvedRef { .. } => 1,
        ProfileState::Expiring => 2,
        _ => 0,
    });
    worst(by_state.chain(std::iter::once(by_time)))
}

/// 1 before 2 before 0.
fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    codes.fold(0, |worst, code| match (worst, code) {
        (1, _) | (_, 1) => 1,
        (2, _) | (_, 2) => 2,
        _ => 0,
    })
}

/// The window that keeps a profile from being tried.
pub(crate) fn bench_of(snapshot: &AgentSnapshot, profile: &OwnedProfile, now: UnixMillis) -> Option<Bench> {
    let window = snapshot
        .candidate(&profile.entry.id)?
        .bench(&snapshot.config.aliases, None, now)?;
    Some(Bench {
        kind: window.kind.as_str(),
        reason: Some(window.reason),
        until: window.until,
    })
}

/// Everything for which a profile is not tried, soonest end first.
fn benches_of(snapshot: &AgentSnapshot, profile: &OwnedProfile, now: UnixMillis) -> Vec<Benched> {
    let Some(candidate) = snapshot.candidate(&profile.entry.id) else {
        return Vec::new();
    };
    if candidate.bench(&snapshot.config.aliases, None, now).is_none() {
        return Vec::new();
    }
    let ours = candidate
        .benches
        .all
        .iter()
        .filter(|bench| bench.holds(None, now));
    let ours = ours.map(|bench| Benched {
        bucket: bench.bucket.clone(),
        reason: bench.reason.as_str().to_owned(),
        until: bench.until,
        stated: bench.stated,
        testable: Some(bench.testable()),
        testing: bench.is_probed(now),
    });
    let theirs = candidate.usage.windows(now).map(|window| Benched {
        bucket: window.bucket,
        reason: window.reason,
        until: window.until,
        stated: false,
        testable: None,
        testing: false,
    });
    let mut all: Vec<Benched> = ours.chain(theirs).collect();
    all.sort_by_key(|bench| bench.until);
    all
}

/// The label with the masked secret (spec.md 12.2).
pub(crate) fn secret_label(
    id: &str,
    credential: &Credential,
    bench: Option<&Bench>,
    now: UnixMillis,
) -> String {
    let base = match credential {
        Credential::ApiKey(key) => format!("{id}={}", masked(&key.key)),
        Credential::Token(token) => format!("{id}=token:{}", masked(&token.token)),
        Credential::OAuth(oauth) => match oauth
            .labels
            .display_name
            .as_deref()
            .or(oauth.labels.email.as_deref())
        {
            Some(label) => format!("{id}=OAuth ({label})"),
            None => format!("{id}=OAuth"),
        },
    };
    let Some(bench) = bench else { return base };
    let left = tokensink_types::short_remaining(now.until(bench.until));
    match (bench.kind, &bench.reason) {
        ("disabled", Some(reason)) => format!("{base} [disabled:{reason} {left}]"),
        (kind, _) => format!("{base} [{kind} {left}]"),
    }
}

/// What of a secret may be shown, or where it is.
pub(crate) fn masked(source: &SecretSource) -> String {
    match (&source.inline, &source.reference) {
        (Some(SecretText::Plain(secret)), _) => secret.masked(),
        (Some(SecretText::EnvTemplate { name, .. }), _) => format!("${{{name}}}"),
        (None, Some(reference)) => format!("{}:{}", reference.source, reference.id),
        (None, None) => "missing".to_owned(),
    }
}

pub(crate) fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Builtin => "built in".to_owned(),
        Origin::File { path, line } => format!("{}:{line}", path.display()),
    }
}
