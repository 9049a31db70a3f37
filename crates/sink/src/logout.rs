//! Logging out: revoke the grant if that is wanted (RFC 7009), then forget it here.
//!
//! The local logout never depends on the server: a revocation that fails is told and stops nothing. Everything
//! happens under the grant's refresh lock, so that no refresh puts the profile back. The store goes first and the
//! record last: if the store cannot be written, nothing is lost, and the same command finishes what was cut off.
//! Other agents' files are never touched.

mod holders;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokensink_host::Limits;
use tokensink_oauth::revoke::{self, TokenTypeHint};
use tokensink_providers::plugin::protocol::{Action, FaultKind};
use tokensink_providers::{Flow, OAuthClient};
use tokensink_store::{CasOutcome, Expected};
use tokensink_types::{AgentId, Credential, OAuth, ProfileId, ProviderId, Revision, Secret};

use crate::audit;
use crate::block::{no_profile, quoted};
use crate::error::{ErrorKind, Result, SinkError};
use crate::external::{Chosen, logout_command};
use crate::held::Held;
use crate::owner::Target;
use crate::plugins::{About, Ended, Job, Unsent};
use crate::refresher::{Program, Refresher};
use crate::report::{LogoutReport, Revocation};
use crate::sink::Sink;

/// Resolving, connecting, proxy and TLS together. Somebody waits, and the logout works without.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// From the first byte of the revocation request to the last of its answer.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Largest answer in bytes; real ones are empty.
const ANSWER_BYTES: usize = 64 * 1024;

impl Sink {
    /// Removes a profile from the agent's own store, with its refresh record, statistics and places in orders, and
    /// from `openclaw.json` unless another agent has a profile of that id. With `revoke` the grant is revoked at the
    /// server first. A login that only its refresh record holds is logged out as well.
    ///
    /// # Errors
    /// A usage error for a profile that the agent does not own, [`ErrorKind::TryAgain`] while a refresh is under way;
    /// otherwise when the store cannot be written. The profile is then still there.
    pub fn logout(&self, agent: &AgentId, id: &ProfileId, revoke: bool) -> Result<LogoutReport> {
        self.require_writable("a logout")?;
        let target = Target::of_agent(agent, id);
        let provider = self.provider_to_leave(&target)?;
        let _lock = self.lock_grant(&provider, id, "logged out")?;
        // What was there before the lock may be gone or have become another provider's.
        let held = self.held(&target)?;
        if held.provider() != Some(&provider) {
            return Err(changed(&target));
        }
        let grant = held.grant();
        let mut report = LogoutReport {
            profile: id.clone(),
            removed_from: self.paths().profiles_file(agent),
            revoked: self.revoke_if(revoke, id, grant.as_ref()),
            reaches: Vec::new(),
            notes: Vec::new(),
        };
        if let Some(grant) = &grant {
            self.tell_reach(&target, &held, grant, &mut report);
        }
        self.remove_stored(&target, &held).map_err(|error| {
            if report.revoked == Revocation::Done {
                but_revoked(&error, id)
            } else {
                error
            }
        })?;
        self.forget(&target, &mut report.notes);
        self.tell_inherited(agent, &provider, &mut report.notes);
        self.audit(&audit::Event {
            what: "logout",
            agent,
            profile: id,
            detail: word(&report.revoked).to_owned(),
        });
        Ok(report)
    }

    /// The provider of the profile to be logged out, or why this agent cannot log it out.
    fn provider_to_leave(&self, target: &Target) -> Result<ProviderId> {
        let Target { owner, profile, .. } = target;
        if let Some(provider) = self.held(target)?.provider() {
            return Ok(provider.clone());
        }
        let main = AgentId::main();
        // An unreadable store of main's has nothing to say about this agent's profiles.
        let is_mains = *owner != main && matches!(self.store().credential(&main, profile), Ok(Some(_)));
        if let Some(external) = self.externals().serving(profile).filter(|_| !is_mains) {
            return Err(of_other_program(external, profile));
        }
        if !is_mains {
            return Err(no_profile(profile, owner));
        }
        let message =
            format!("{profile} belongs to agent main; agent {owner} has no copy of its own to log out");
        Err(SinkError::new(ErrorKind::Usage, "inherited_profile", message)
            .with_fix(format!(
                "tokensink models auth logout {} --agent main",
                quoted(profile.as_str())
            ))
            .about(profile))
    }

    /// Removes the profile from its owner's store, if it is still what was looked at.
    pub(crate) fn remove_stored(&self, target: &Target, held: &Held) -> Result<()> {
        let expected = match &held.credential {
            None => return Ok(()),
            Some(Credential::OAuth(oauth)) => Expected::Revision(Revision::of(&oauth.tokens)),
            Some(Credential::ApiKey(_) | Credential::Token(_)) => Expected::Any,
        };
        match self
            .store()
            .compare_and_set(&target.owner, &target.profile, expected, None)?
        {
            CasOutcome::Done | CasOutcome::Conflict(None) => Ok(()),
            CasOutcome::Conflict(Some(_)) => Err(changed(target)),
        }
    }

    /// Removes what else refers to the profile. What fails here is told; the login itself is gone from the store.
    pub(crate) fn forget(&self, target: &Target, notes: &mut Vec<String>) {
        let Target { owner, profile, .. } = target;
        let again = format!(
            "tokensink models auth logout {} --agent {owner}",
            quoted(profile.as_str())
        );
        let erased = self
            .agent_record_key(owner, profile)
            .and_then(|key| self.journal().erase(&key));
        if let Err(error) = erased {
            notes.push(format!(
                "the refresh record could not be erased ({error}); run `{again}` once more"
            ));
        }
        if let Err(error) = self.forget_runtime_key(owner, profile) {
            notes.push(format!(
                "a key made of it could not be removed ({error}); it ends by itself"
            ));
        }
        self.forget_benches(owner, profile);
        if let Err(error) = self.store().update_state(owner, |state| state.forget(profile)) {
            notes.push(format!(
                "its statistics could not be removed ({error}); they have no effect any more"
            ));
        }
        match self.others_with_id(target) {
            Some(other) => {
                notes.push(format!(
                    "openclaw.json still lists {profile}, because agent {other} has a profile of that id"
                ));
            }
            None => {
                if let Err(error) = self.edit_config(|editor| editor.remove_profile(profile)) {
                    notes.push(format!("openclaw.json still lists {profile} ({error})"));
                }
            }
        }
    }

    /// Tells whose profiles take the place of what was logged out.
    fn tell_inherited(&self, agent: &AgentId, provider: &ProviderId, notes: &mut Vec<String>) {
        let Ok(snapshot) = self.snapshot(agent) else {
            return;
        };
        let same = |own: &ProviderId| snapshot.config.aliases.same(own, provider);
        let ids: Vec<&str> = snapshot
            .view
            .profiles
            .iter()
            .filter(|profile| profile.inherited && same(profile.entry.credential.provider()))
            .map(|profile| profile.entry.id.as_str())
            .collect();
        if !ids.is_empty() {
            notes.push(format!(
                "agent {agent} now inherits main's profiles of {provider}: {}",
                ids.join(", ")
            ));
        }
    }

    fn revoke_if(&self, wanted: bool, profile: &ProfileId, grant: Option<&OAuth>) -> Revocation {
        match grant {
            _ if !wanted => Revocation::NotAsked,
            None => Revocation::NotSupported,
            Some(grant) => self.revoke(profile, grant),
        }
    }

    /// Ends the grant at its server. The refresh token ends the whole of it (RFC 7009 section 2.1); where there is
    /// none the access token is revoked.
    fn revoke(&self, profile: &ProfileId, grant: &OAuth) -> Revocation {
        let Some(refresher) = self.refresher_of(grant) else {
            return Revocation::NotSupported;
        };
        if let Some(program) = &refresher.program {
            return self
                .revoke_by_program(&refresher, program, profile, grant)
                .unwrap_or_else(Revocation::Failed);
        }
        let tokens = &grant.tokens;
        let (token, hint) = match tokens.refresh_token() {
            Some(refresh) => (refresh, TokenTypeHint::RefreshToken),
            None if tokens.access.is_blank() => return Revocation::NotSupported,
            None => (&tokens.access, TokenTypeHint::AccessToken),
        };
        self.send_revocation(&refresher.client, token, hint, grant.client_id.as_deref())
            .unwrap_or_else(Revocation::Failed)
    }

    /// Has the plugin's program end the grant.
    fn revoke_by_program(
        &self,
        refresher: &Refresher<'_>,
        program: &Program<'_>,
        profile: &ProfileId,
        grant: &OAuth,
    ) -> std::result::Result<Revocation, String> {
        if !self.plugin_can(program.plugin, Action::Revoke) {
            return Ok(Revocation::NotSupported);
        }
        let job = Job {
            plugin: program.plugin,
            provider: &refresher.definition.id,
            method: program.method,
            action: Action::Revoke,
        };
        let about = About {
            profile: Some(profile),
            tokens: Some(&grant.tokens),
            account: Some(&grant.account),
            fields: Some(&grant.fields),
            interactive: false,
        };
        let mut session = self.start_program(&job).map_err(|unusable| unusable.reason)?;
        session
            .request(self.host(), &about)
            .map_err(Unsent::into_reason)?;
        match session.outcome(self.host()) {
            Ok(_) => Ok(Revocation::Done),
            Err(Ended::Fault(fault)) if fault.kind == FaultKind::NotSupported => Ok(Revocation::NotSupported),
            Err(ended) => Err(ended.to_string()),
        }
    }

    fn send_revocation(
        &self,
        client: &OAuthClient,
        token: &Secret,
        hint: TokenTypeHint,
        client_id: Option<&str>,
    ) -> std::result::Result<Revocation, String> {
        let env = |name: &str| self.host().env.var(name);
        let request = client
            .revocation_request(token, hint, client_id, &env)
            .map_err(|error| error.to_string())?;
        let (Some(request), Some(url)) = (request, &client.revocation_endpoint) else {
            return Ok(Revocation::NotSupported);
        };
        let connection = self
            .host()
            .transport
            .connect(url, CONNECT_TIME)
            .map_err(|error| error.to_string())?;
        let limits = Limits {
            time: REQUEST_TIME,
            body_bytes: ANSWER_BYTES,
        };
        let response = connection
            .exchange(request, limits)
            .map_err(|error| format!("{url}: {error}"))?;
        match revoke::classify(&response, &[token]) {
            revoke::Revocation::Revoked => Ok(Revocation::Done),
            revoke::Revocation::Unsupported => Ok(Revocation::NotSupported),
            revoke::Revocation::Failed(refusal) => {
                let code = refusal.code.unwrap_or_default();
                let words = format!("{url} answered {} {code} {}", refusal.status, refusal.description);
                Err(words.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// Tells what the revocation reached, or who can still use the grant that was not revoked.
    fn tell_reach(&self, target: &Target, held: &Held, grant: &OAuth, report: &mut LogoutReport) {
        let holders = self.holders_of(target, held);
        let programs = self.programs_of(grant);
        if report.revoked == Revocation::Done {
            let examples = match programs.as_slice() {
                [] => String::new(),
                programs => format!(" (for example {})", programs.join(" or ")),
            };
            report.reaches.push(format!(
                "the whole grant: every program that shares this login{examples} has to log in again"
            ));
            report.reaches.extend(
                holders
                    .found
                    .into_iter()
                    .map(|who| format!("{who} holds the same grant")),
            );
        } else {
            let still = holders.found.into_iter();
            report
                .notes
                .extend(still.map(|who| format!("{who} holds the same grant and stays logged in")));
            if report.revoked != Revocation::NotAsked {
                report
                    .notes
                    .push("the tokens stay valid at the provider until they end there".to_owned());
            }
        }
        report.notes.extend(holders.not_looked_at);
        if let Some(error) = held
            .unreadable
            .as_ref()
            .filter(|_| report.revoked != Revocation::NotAsked)
        {
            report.notes.push(format!(
                "newer tokens may have been in its refresh record and are not revoked: {error}"
            ));
        }
    }

    /// The programs that have logins of this provider in stores of their own.
    fn programs_of(&self, grant: &OAuth) -> Vec<&str> {
        let methods = self
            .registry()
            .get(&grant.provider)
            .map(|definition| &definition.methods);
        let external = methods
            .into_iter()
            .flatten()
            .filter_map(|method| match &method.flow {
                Flow::External(external) => Some(external.cli.as_str()),
                _ => None,
            });
        external.collect()
    }
}

/// Another program's login ends there, or is no longer used here; it is not ours to end.
fn of_other_program(external: &Chosen, profile: &ProfileId) -> SinkError {
    let neighbour = external.neighbour();
    let message = format!(
        "{profile} is the login of {}, kept in {}; log out there (`{}`), or stop using it here",
        neighbour.title(),
        external.place(),
        logout_command(neighbour)
    );
    SinkError::new(ErrorKind::Usage, "external_login", message)
        .with_fix(format!("tokensink external set {neighbour} off"))
        .about(profile)
}

fn changed(target: &Target) -> SinkError {
    let message = format!(
        "{} was changed by another program while it was being logged out",
        target.profile
    );
    SinkError::new(ErrorKind::TryAgain, "conflict", message).about(&target.profile)
}

/// The server has ended the grant, but our copy of it is still there.
fn but_revoked(error: &SinkError, id: &ProfileId) -> SinkError {
    SinkError::new(
        error.kind(),
        error.code(),
        format!("{id} was revoked at its provider, but it is still stored: {error}"),
    )
    .with_fix_if(error.fix())
    .about(id)
}

fn word(revoked: &Revocation) -> &'static str {
    match revoked {
        Revocation::NotAsked => "not revoked",
        Revocation::Done => "revoked",
        Revocation::NotSupported => "revocation not supported",
        Revocation::Failed(_) => "revocation failed",
    }
}
