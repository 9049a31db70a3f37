//! Exporting: which logins, in what form, and for a move what happens in which order.
//!
//! A move holds the refresh locks of all its grants from before they are read until they are gone, so that the bundle
//! has their last generation. The bundle is written whole, read back and decrypted. Then, for each login: tombstone,
//! profile, record. What is cut off before the removal leaves the login here, and a second export makes a new bundle; the
//! first then holds an older copy, which an import treats with doubt.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::atomic::{self, ReplaceError};
use tokensink_store::{ForeignEntry, GuardedLock, Tombstone};
use tokensink_types::record::{Record, RecordState, Rotation};
use tokensink_types::{
    AgentId, Credential, CredentialKind, OAuth, ProfileId, ProviderId, SpendKey, UnixMillis,
};

use super::format::{Bundle, Packed};
use super::seal::{Opener, Sealer};
use crate::audit;
use crate::block::{agent_option, login_command, no_profile, quoted};
use crate::error::{ErrorKind, Result, SinkError};
use crate::held::Held;
use crate::import::ImportFailure;
use crate::lease::{AcquireRequest, Want};
use crate::owner::Target;
use crate::sink::Sink;

/// What `export` is asked for.
#[derive(Debug, Clone, Default)]
pub struct ExportRequest {
    /// Whose; empty for all agents.
    pub agents: Vec<AgentId>,
    /// Which; empty for all.
    pub profiles: Vec<ProfileId>,
    /// Remove them here once the bundle is written and read back.
    pub moves: bool,
    /// Only access tokens, each ending after this time at the latest.
    pub access_only: Option<Duration>,
}

/// What an export would hold.
#[derive(Debug)]
pub struct ExportPlan {
    /// The logins.
    pub rows: Vec<Exported>,
    /// What the user should know.
    pub notes: Vec<String>,
    request: ExportRequest,
}

/// One login of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Whose.
    pub agent: AgentId,
    /// Which.
    pub profile: ProfileId,
    /// Of which provider.
    pub provider: ProviderId,
    /// What sort.
    pub kind: CredentialKind,
}

/// What an export has done.
#[derive(Debug)]
pub struct ExportReport {
    /// The bundle's id.
    pub bundle: String,
    /// Where it was written; `None` when it is in `text`.
    pub file: Option<PathBuf>,
    /// The encrypted text, where no file was wanted.
    pub text: Option<String>,
    /// What it holds.
    pub rows: Vec<Exported>,
    /// What was removed here.
    pub removed: Vec<(AgentId, ProfileId)>,
    /// What could not be removed here. It is in the bundle as well.
    pub failed: Vec<ImportFailure>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A login as it is held under its locks.
struct Taken {
    target: Target,
    provider: ProviderId,
    held: Held,
    keys: Vec<SpendKey>,
}

impl Sink {
    /// Says which logins an export would hold. Changes nothing.
    ///
    /// # Errors
    /// A usage error when nothing is chosen or a grant may not leave in this way; when a store cannot be read.
    pub fn plan_export(&self, request: &ExportRequest) -> Result<ExportPlan> {
        let mut plan = ExportPlan {
            rows: Vec::new(),
            notes: Vec::new(),
            request: request.clone(),
        };
        let mut rotating = Vec::new();
        let agents = if request.agents.is_empty() {
            self.store().agents()?
        } else {
            request.agents.clone()
        };
        for agent in &agents {
            for entry in self.store().load(agent)?.profiles.entries() {
                let wanted = request.profiles.is_empty() || request.profiles.contains(&entry.id);
                if !wanted {
                    continue;
                }
                let is_grant = entry.credential.as_oauth().is_some();
                if request.access_only.is_some() && !is_grant {
                    plan.notes.push(format!(
                        "{} is left out: it is no login with access tokens that end",
                        entry.id
                    ));
                    continue;
                }
                if self.rotates(&Target::of_agent(agent, &entry.id), &entry.credential)? {
                    rotating.push(entry.id.clone());
                }
                plan.rows.push(Exported {
                    agent: agent.clone(),
                    profile: entry.id.clone(),
                    provider: entry.credential.provider().clone(),
                    kind: entry.credential.kind(),
                });
            }
        }
        let missing = |id: &&ProfileId| !plan.rows.iter().any(|row| row.profile == **id);
        if let Some(id) = request.profiles.iter().find(missing) {
            return Err(no_profile(id, agents.first().unwrap_or(&AgentId::main())));
        }
        if plan.rows.is_empty() {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "nothing_to_export",
                "there is nothing to export",
            ));
        }
        if !request.moves && request.access_only.is_none() && !rotating.is_empty() {
            return Err(would_copy(&rotating));
        }
        Ok(plan)
    }

    /// Is it a grant whose refresh tokens are used once?
    fn rotates(&self, target: &Target, credential: &Credential) -> Result<bool> {
        if credential.as_oauth().is_none() {
            return Ok(false);
        }
        let Some(grant) = self.grant(target)? else {
            return Ok(false);
        };
        let seen = grant
            .record
            .as_ref()
            .is_some_and(|record| record.rotation == Rotation::Always);
        Ok(grant.generation.spend_key().is_some() && (grant.policy.rotation != Rotation::Never || seen))
    }

    /// Writes the bundle to `to`, which must not exist, or into the report; for a move, removes its logins here.
    ///
    /// # Errors
    /// A usage error for a move without a file, or a file that exists; otherwise when a login cannot be read or the
    /// bundle cannot be written and read back. Every login is then still here.
    pub fn export(&self, plan: &ExportPlan, to: Option<&Path>, sealer: &Sealer) -> Result<ExportReport> {
        let request = &plan.request;
        let file = self.checked_target(request, to)?;
        if request.moves {
            self.require_writable("a move")?;
            self.finish_moves()?;
        }
        let locks = if request.moves {
            self.lock_rows(&plan.rows)?
        } else {
            Vec::new()
        };
        let (bundle, taken) = self.pack(plan)?;
        let text = bundle.encode();
        let (sealed, opener) = sealer.seal(text.expose())?;
        let mut report = ExportReport {
            bundle: bundle.id.clone(),
            file: file.clone(),
            text: None,
            rows: plan.rows.clone(),
            removed: Vec::new(),
            failed: Vec::new(),
            notes: plan.notes.clone(),
        };
        match &file {
            Some(path) => {
                self.write_bundle(path, &sealed)?;
                self.read_bundle_back(path, &opener, &bundle)?;
            }
            None => report.text = Some(String::from_utf8_lossy(&sealed).into_owned()),
        }
        self.audit_rows(plan, &bundle);
        if request.moves {
            for one in &taken {
                self.move_away(one, &bundle, &mut report);
            }
        }
        drop(locks);
        Ok(report)
    }

    fn checked_target(&self, request: &ExportRequest, to: Option<&Path>) -> Result<Option<PathBuf>> {
        let Some(to) = to else {
            if !request.moves {
                return Ok(None);
            }
            let message = "a move needs a file, because the bundle is read back before anything is removed";
            return Err(SinkError::new(ErrorKind::Usage, "move_needs_file", message)
                .with_fix("tokensink export --move --to <file>"));
        };
        let path = self
            .paths()
            .expand("--to", &to.to_string_lossy())
            .map_err(|error| SinkError::new(ErrorKind::Usage, "bad_path", error.to_string()))?;
        match self.host().files.stat(&path) {
            Ok(None) => Ok(Some(path)),
            Ok(Some(_)) => {
                let message = format!(
                    "{} exists; a bundle may be the only place of a login, so none is written over",
                    path.display()
                );
                Err(SinkError::new(ErrorKind::Usage, "file_exists", message))
            }
            Err(error) => {
                let message = format!("{} cannot be looked at: {error}", path.display());
                Err(SinkError::new(ErrorKind::Failed, "bundle_unwritable", message))
            }
        }
    }

    /// Takes the refresh locks of all grants, in one order for every process. Two agents' profiles of one id share
    /// a lock.
    fn lock_rows(&self, rows: &[Exported]) -> Result<Vec<GuardedLock>> {
        let mut names: Vec<(&ProviderId, &ProfileId)> =
            rows.iter().map(|row| (&row.provider, &row.profile)).collect();
        names.sort();
        names.dedup();
        let lock =
            |(provider, profile): (&ProviderId, &ProfileId)| self.lock_grant(provider, profile, "moved");
        names.into_iter().map(lock).collect()
    }

    /// Reads every login as it is now.
    fn pack(&self, plan: &ExportPlan) -> Result<(Bundle, Vec<Taken>)> {
        let mut id = [0; 16];
        self.host().random.fill(&mut id).map_err(|error| {
            SinkError::new(
                ErrorKind::Failed,
                "no_randomness",
                "the system gives no randomness",
            )
            .because(error)
        })?;
        let mut bundle = Bundle {
            id: hex::encode(id),
            created_at: self.now(),
            host: self.host().processes.this().host,
            moved: plan.request.moves,
            ..Bundle::default()
        };
        let mut taken = Vec::new();
        for row in &plan.rows {
            let target = Target::of_agent(&row.agent, &row.profile);
            let packed = match plan.request.access_only {
                Some(ttl) => self.pack_access(&target, ttl)?,
                None => {
                    let one = self.take(&target, &row.provider)?;
                    let packed = self.pack_whole(&one)?;
                    taken.push(one);
                    packed
                }
            };
            bundle.entries.push(packed);
        }
        bundle.orders = self.orders_of(&plan.rows)?;
        Ok((bundle, taken))
    }

    fn take(&self, target: &Target, provider: &ProviderId) -> Result<Taken> {
        let held = self.held(target)?;
        if held.provider() != Some(provider) || held.credential.is_none() {
            let message = format!("{} was changed by another program meanwhile", target.profile);
            return Err(SinkError::new(ErrorKind::TryAgain, "conflict", message).about(&target.profile));
        }
        if let Some(error) = &held.unreadable {
            return Err(SinkError::new(
                ErrorKind::Failed,
                "record_unreadable",
                error.to_string(),
            ));
        }
        let grant = held.grant();
        let current = grant
            .as_ref()
            .and_then(|grant| grant.tokens.refresh_token())
            .map(SpendKey::of);
        if let Some(record) = held.record.as_deref() {
            self.refuse_uncertain(target, provider, record, current)?;
        }
        let stored = held.credential.as_ref().and_then(Credential::as_oauth);
        let stored = stored
            .and_then(|oauth| oauth.tokens.refresh_token())
            .map(SpendKey::of);
        let ancestors = held
            .record
            .iter()
            .flat_map(|record| record.ancestors.iter().copied());
        let mut keys: Vec<SpendKey> = current.into_iter().chain(stored).chain(ancestors).collect();
        keys.dedup();
        Ok(Taken {
            target: target.clone(),
            provider: provider.clone(),
            held,
            keys,
        })
    }

    /// A grant whose refresh token may be spent, or is refused, is not worth a move.
    fn refuse_uncertain(
        &self,
        target: &Target,
        provider: &ProviderId,
        record: &Record,
        current: Option<SpendKey>,
    ) -> Result<()> {
        let (code, why, fix) = match &record.state {
            RecordState::Sent(sent) if Some(sent.spend) == current && sent.holder.origin().is_none() => (
                "outcome_unknown",
                "a refresh of it is unanswered, so it is not known whether its refresh token is spent",
                "tokensink renew".to_owned(),
            ),
            RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. }
                if Some(*spent) == current =>
            {
                (
                    "dead",
                    "its provider has refused it",
                    login_command(provider, &target.profile, &target.owner),
                )
            }
            _ => return Ok(()),
        };
        let message = format!("{} is not exported: {why}", target.profile);
        Err(SinkError::new(ErrorKind::Failed, code, message)
            .with_fix(fix)
            .about(&target.profile))
    }

    fn pack_whole(&self, one: &Taken) -> Result<Packed> {
        let entry = self.raw_entry(&one.target)?;
        let entry = match one.held.grant() {
            Some(grant) => entry.with_credential(Credential::OAuth(grant)),
            None => entry,
        };
        let key = one.keys.first();
        Ok(Packed {
            agent: one.target.owner.clone(),
            entry,
            ancestors: one
                .keys
                .iter()
                .filter(|known| Some(*known) != key)
                .copied()
                .collect(),
        })
    }

    /// An access token without what could renew it, refreshed first where it is due.
    fn pack_access(&self, target: &Target, ttl: Duration) -> Result<Packed> {
        let want = Want::Profile(target.profile.clone());
        self.acquire(&AcquireRequest::new(target.owner.clone(), want))?;
        let grant = self.grant(target)?;
        let grant = grant.ok_or_else(|| no_profile(&target.profile, &target.owner))?;
        let end = self.now().plus(ttl);
        let tokens = &grant.generation.tokens;
        let mut oauth: OAuth = crate::grant::with_generation(&grant.oauth, &grant.generation);
        oauth.tokens.refresh = None;
        oauth.tokens.id_token = None;
        oauth.tokens.expires = Some(tokens.expires.map_or(end, |known: UnixMillis| known.min(end)));
        Ok(Packed {
            agent: target.owner.clone(),
            entry: ForeignEntry::of(target.profile.clone(), Credential::OAuth(oauth)),
            ancestors: Vec::new(),
        })
    }

    fn raw_entry(&self, target: &Target) -> Result<ForeignEntry> {
        self.store()
            .entry(&target.owner, &target.profile)?
            .ok_or_else(|| no_profile(&target.profile, &target.owner))
    }

    fn orders_of(&self, rows: &[Exported]) -> Result<Vec<(AgentId, ProviderId, Vec<ProfileId>)>> {
        let mut agents: Vec<&AgentId> = rows.iter().map(|row| &row.agent).collect();
        agents.dedup();
        let mut orders = Vec::new();
        for agent in agents {
            for (provider, mut ids) in self.store().load(agent)?.state.orders() {
                ids.retain(|id| {
                    rows.iter()
                        .any(|row| row.profile == *id && (row.agent == *agent || row.agent.is_main()))
                });
                if !ids.is_empty() {
                    orders.push((agent.clone(), provider, ids));
                }
            }
        }
        Ok(orders)
    }

    fn write_bundle(&self, path: &Path, sealed: &[u8]) -> Result<()> {
        let host = self.host();
        let written = atomic::replace(&*host.files, &*host.random, path, sealed, 0o600);
        written.map(drop).map_err(|error: ReplaceError| {
            let message = format!("the bundle was not written, and every login is still here: {error}");
            SinkError::new(ErrorKind::Failed, "bundle_unwritable", message)
        })
    }

    fn read_bundle_back(&self, path: &Path, opener: &Opener, bundle: &Bundle) -> Result<()> {
        let read = self.host().files.read(path).map_err(|error| error.to_string());
        let opened = read.and_then(|sealed| opener.open(&sealed).map_err(|error| error.to_string()));
        let same = opened.and_then(|text| Ok(Bundle::decode(&text)?.encode() == bundle.encode()));
        let why = match same {
            Ok(true) => return Ok(()),
            Ok(false) => "it holds something else".to_owned(),
            Err(why) => why,
        };
        let message = format!(
            "{} was written, but reading it back failed, and every login is still here: {why}",
            path.display()
        );
        Err(SinkError::new(ErrorKind::Failed, "not_read_back", message))
    }

    fn audit_rows(&self, plan: &ExportPlan, bundle: &Bundle) {
        let what = match (plan.request.moves, plan.request.access_only) {
            (true, _) => "move",
            (false, Some(_)) => "export access",
            (false, None) => "export",
        };
        for row in &plan.rows {
            self.audit(&audit::Event {
                what,
                agent: &row.agent,
                profile: &row.profile,
                detail: bundle.name(),
            });
        }
    }

    /// A move that was cut off between profile and record left the record; its tombstone tells.
    fn finish_moves(&self) -> Result<()> {
        for stone in self.tombstones().list()? {
            if self.store().credential(&stone.agent, &stone.profile)?.is_none() {
                let target = Target::of_agent(&stone.agent, &stone.profile);
                if let Some(key) = self.record_key(&target)? {
                    self.journal().erase(&key)?;
                }
            }
        }
        Ok(())
    }

    /// Tombstone, then profile, then record.
    fn move_away(&self, one: &Taken, bundle: &Bundle, report: &mut ExportReport) {
        let Target { owner, profile, .. } = &one.target;
        let stone = Tombstone {
            agent: owner.clone(),
            profile: profile.clone(),
            bundle: bundle.id.clone(),
            at: bundle.created_at,
            keys: one.keys.clone(),
        };
        let stones = self.tombstones();
        let removed = stones
            .set(&stone)
            .map_err(SinkError::from)
            .and_then(|()| self.remove_stored(&one.target, &one.held));
        if let Err(error) = removed {
            // It is still in use here, so nothing may stand against it.
            if let Err(error) = stones.clear(owner, profile) {
                report.notes.push(format!(
                    "{profile} is still here, but is marked as moved: {error}"
                ));
            }
            let fix = format!(
                "remove it here once the bundle is in use: tokensink models auth logout {}{}",
                quoted(profile.as_str()),
                agent_option(owner)
            );
            report.failed.push(ImportFailure {
                agent: owner.clone(),
                profile: profile.clone(),
                error: error.with_fix(fix),
            });
            return;
        }
        self.forget(&one.target, &mut report.notes);
        tracing::debug!(provider = %one.provider, %profile, "moved away");
        report.removed.push((owner.clone(), profile.clone()));
    }
}

fn would_copy(rotating: &[ProfileId]) -> SinkError {
    let ids: Vec<&str> = rotating.iter().map(ProfileId::as_str).collect();
    let message = format!(
        "{} would be in two places, and each refresh token of it can be used once: whoever refreshes second loses the login",
        ids.join(", ")
    );
    SinkError::new(ErrorKind::Usage, "would_copy", message).with_fix(
        "--move takes it out of here; --access-only --ttl 1h exports an access token alone; --profile-id <id> chooses others",
    )
}

#[cfg(test)]
mod tests;
