//! `secrets apply`: writing references in the place of plain secrets (spec.md 16.7).
//!
//! Everything is looked up and compared before the first write: a plain secret is removed only if the reference that
//! takes its place gives the very same value. Then the providers are written, then the references, then providers
//! are removed; after a crash at any point every credential still works, and the same plan can be applied again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokensink_store::{CasOutcome, Editor};
use tokensink_types::{
    AgentId, Credential, CredentialKind, ProfileId, Secret, SecretRef, SecretSource, SecretText,
};

use super::config::SecretsConfig;
use super::places;
use super::plan::{Field, Place, SecretsPlan, Target};
use super::reference::{Failure, Reference, Source, provider_key};
use super::{resolve, static_source};
use crate::audit;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// How a plan is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Check everything and write nothing.
    pub dry_run: bool,
    /// Programs of secret providers may be run. Without it a plan with references to programs is refused, or, in a dry
    /// run, not looked up.
    pub allow_exec: bool,
}

/// What applying a plan did, or would do.
#[derive(Debug, Clone, Default)]
pub struct SecretsApplied {
    /// What was written: file, place and a few words.
    pub changes: Vec<(PathBuf, String, String)>,
    /// References to programs that a dry run did not look up.
    pub exec_skipped: usize,
    /// Where one of the secrets still stands as plain text: file and place.
    pub remaining: Vec<(PathBuf, String)>,
}

/// A target with all that is known before the first write.
struct Step<'a> {
    target: &'a Target,
    reference: Reference,
    before: Before,
}

/// What stands at a target now.
enum Before {
    /// A key of the config; nothing, a text, or a reference.
    Config(Option<Value>),
    Profile(Box<Credential>),
}

impl Sink {
    /// Applies a plan.
    ///
    /// # Errors
    /// A usage error for a plan that does not fit what is there, or needs programs that may not be run; otherwise when
    /// a reference gives no value or another one than the plain secret that it replaces. Nothing is changed then.
    /// Errors of the files after that leave every credential working.
    pub fn secrets_apply(&self, plan: &SecretsPlan, options: ApplyOptions) -> Result<SecretsApplied> {
        let future = self.config_after(plan)?;
        let steps = plan
            .targets
            .iter()
            .map(|target| self.plan_step(target, &future))
            .collect::<Result<Vec<_>>>()?;
        self.check_deletes(plan, &steps)?;
        let mut report = SecretsApplied::default();
        let values = self.look_up_all(&steps, &future, options, &mut report)?;
        let now = self.secrets_config()?;
        for alias in plan.upserts.keys() {
            let change = (
                self.config_path().to_owned(),
                provider_key(alias),
                "provider".to_owned(),
            );
            if !self.has_provider(alias, &plan.upserts[alias])? {
                report.changes.push(change);
            }
        }
        let todo: Vec<&Step<'_>> = steps.iter().filter(|step| !step.is_done(&now)).collect();
        for step in &todo {
            report.changes.push(self.plan_change(step));
        }
        for alias in plan.deletes.iter().filter(|alias| now.has(alias)) {
            let change = (
                self.config_path().to_owned(),
                provider_key(alias),
                "removed".to_owned(),
            );
            report.changes.push(change);
        }
        if !options.dry_run {
            self.write_plan(plan, &todo)?;
        }
        report.remaining = self.still_plain(&values, &steps);
        Ok(report)
    }

    /// `secrets` as it will be.
    fn config_after(&self, plan: &SecretsPlan) -> Result<SecretsConfig> {
        let config = self.config()?;
        let mut section = config.at(&["secrets"]).cloned().unwrap_or_else(|| json!({}));
        if !section.is_object() || section.get("providers").is_some_and(|map| !map.is_object()) {
            return Err(refused(
                "secrets.providers in openclaw.json is no object",
                "correct it by hand",
            ));
        }
        for (alias, provider) in &plan.upserts {
            section["providers"][alias] = provider.clone();
        }
        if let Some(providers) = section.get_mut("providers").and_then(Value::as_object_mut) {
            providers.retain(|alias, _| !plan.deletes.contains(alias));
        }
        let future = SecretsConfig::of_section(Some(&section), self.paths());
        for (alias, provider) in future.providers() {
            if let (true, Err(problem)) = (plan.upserts.contains_key(alias), provider) {
                let message = format!("{} would be wrong: {}", problem.key, problem.why);
                return Err(refused(message, "correct providerUpserts in the plan"));
            }
        }
        Ok(future)
    }

    fn plan_step<'a>(&self, target: &'a Target, future: &SecretsConfig) -> Result<Step<'a>> {
        let reference = Reference::of(&target.written, future).map_err(no_value)?;
        if let Err(problem) = future.provider(reference.source, &reference.provider) {
            return Err(no_value(resolve::misconfigured(&reference, &problem)));
        }
        let before = match &target.place {
            Place::Config(path) => {
                let keys: Vec<&str> = path.iter().map(String::as_str).collect();
                Before::Config(self.config()?.at(&keys).cloned())
            }
            Place::Profile { agent, id, field } => {
                Before::Profile(Box::new(self.static_profile(agent, id, *field)?))
            }
        };
        Ok(Step {
            target,
            reference,
            before,
        })
    }

    /// The profile, if it is of the kind that the plan says.
    fn static_profile(&self, agent: &AgentId, id: &ProfileId, field: Field) -> Result<Credential> {
        let wanted = match field {
            Field::Key => CredentialKind::ApiKey,
            Field::Token => CredentialKind::Token,
        };
        let Some(credential) = self.store().credential(agent, id)? else {
            return Err(refused(
                format!("agent {agent} has no profile {id}"),
                format!("tokensink models auth list --agent {agent}"),
            ));
        };
        let config = self.config()?;
        let entry = config.auth_profiles().into_iter().find(|entry| entry.id == *id);
        let oauth_by_config = entry.is_some_and(|entry| entry.mode == CredentialKind::OAuth.as_str());
        if credential.kind() == CredentialKind::OAuth || oauth_by_config {
            return Err(refused(
                format!(
                    "{id} is an OAuth profile, whose tokens cannot be references: a refresh replaces them"
                ),
                "take it out of the plan",
            ));
        }
        if credential.kind() != wanted {
            return Err(refused(
                format!(
                    "{id} is of type {}, not {}",
                    credential.kind().as_str(),
                    wanted.as_str()
                ),
                "correct `type` and `path` in the plan",
            ));
        }
        Ok(credential)
    }

    /// A provider that something else refers to stays.
    fn check_deletes(&self, plan: &SecretsPlan, steps: &[Step<'_>]) -> Result<()> {
        let config = self.secrets_config()?;
        for alias in &plan.deletes {
            if let Some(place) = self.user_of(alias, &config, steps)? {
                return Err(refused(
                    format!("{} is still used by {place}", provider_key(alias)),
                    "give that another reference in the same plan, or keep the provider",
                ));
            }
        }
        Ok(())
    }

    /// Something that refers to a provider and is no target of the plan.
    fn user_of(&self, alias: &str, config: &SecretsConfig, steps: &[Step<'_>]) -> Result<Option<String>> {
        let names = |written: &SecretRef| {
            Reference::of(written, config).is_ok_and(|reference| reference.provider == alias)
        };
        let targeted = |place: &Place| steps.iter().any(|step| step.target.place == *place);
        for agent in self.store().agents()? {
            for entry in self.store().load(&agent)?.profiles.entries() {
                let reference = static_source(&entry.credential).and_then(|source| source.reference.as_ref());
                let field = match entry.credential.kind() {
                    CredentialKind::Token => Field::Token,
                    CredentialKind::ApiKey | CredentialKind::OAuth => Field::Key,
                };
                let place = Place::Profile {
                    agent: agent.clone(),
                    id: entry.id.clone(),
                    field,
                };
                if reference.is_some_and(names) && !targeted(&place) {
                    return Ok(Some(format!("profile {} of agent {agent}", entry.id)));
                }
            }
        }
        let config = self.config()?;
        let found = places::of(config.raw(), false).references;
        let used = found
            .iter()
            .find(|(path, written)| names(written) && !targeted(&Place::Config(path.clone())));
        Ok(used.map(|(path, _)| places::shown(path)))
    }

    /// Looks every reference up and holds it against the plain secret that it is to replace.
    fn look_up_all(
        &self,
        steps: &[Step<'_>],
        future: &SecretsConfig,
        options: ApplyOptions,
        report: &mut SecretsApplied,
    ) -> Result<Vec<Secret>> {
        let by_program = |step: &&Step<'_>| step.reference.source == Source::Exec;
        if !options.allow_exec {
            report.exec_skipped = steps.iter().filter(by_program).count();
            if report.exec_skipped > 0 && !options.dry_run {
                return Err(refused(
                    "the plan runs programs of secret providers",
                    "add --allow-exec",
                ));
            }
        }
        let looked: Vec<&Step<'_>> = steps
            .iter()
            .filter(|step| options.allow_exec || !by_program(step))
            .collect();
        let set: BTreeSet<Reference> = looked.iter().map(|step| step.reference.clone()).collect();
        let found = resolve::resolve(self.host(), future, &set);
        let mut values = Vec::new();
        for step in looked {
            match found.get(&step.reference) {
                Some(Ok(secret)) => {
                    step.compare(secret)?;
                    values.push(secret.clone());
                }
                Some(Err(failure)) => return Err(no_value(failure.clone())),
                None => {}
            }
        }
        Ok(values)
    }

    fn has_provider(&self, alias: &str, wanted: &Value) -> Result<bool> {
        let config = self.config()?;
        Ok(config.at(&["secrets", "providers", alias]) == Some(wanted))
    }

    fn plan_change(&self, step: &Step<'_>) -> (PathBuf, String, String) {
        let (file, place) = match &step.target.place {
            Place::Config(path) => (self.config_path().to_owned(), places::shown(path)),
            Place::Profile { agent, id, field } => (
                self.paths().profiles_file(agent),
                places::shown(&[
                    "profiles".to_owned(),
                    id.to_string(),
                    format!("{}Ref", field.as_str()),
                ]),
            ),
        };
        (file, place, step.reference.to_string())
    }

    fn write_plan(&self, plan: &SecretsPlan, steps: &[&Step<'_>]) -> Result<()> {
        self.edit_config(|editor| {
            for (alias, provider) in &plan.upserts {
                editor.set(&["secrets", "providers", alias], provider)?;
            }
            steps.iter().try_for_each(|step| step.write_config(editor))
        })?;
        for step in steps {
            self.write_profile(step)?;
        }
        if !plan.deletes.is_empty() {
            self.edit_config(|editor| {
                for alias in &plan.deletes {
                    editor.remove(&["secrets", "providers", alias]);
                }
                Ok(())
            })?;
        }
        self.announce_reload()?;
        Ok(())
    }

    fn write_profile(&self, step: &Step<'_>) -> Result<()> {
        let (Place::Profile { agent, id, .. }, Before::Profile(old)) = (&step.target.place, &step.before)
        else {
            return Ok(());
        };
        let mut new = Credential::clone(old);
        let source = SecretSource {
            inline: None,
            reference: Some(step.reference.to_written()),
        };
        match &mut new {
            Credential::ApiKey(key) => key.key = source,
            Credential::Token(token) => token.token = source,
            Credential::OAuth(_) => return Ok(()),
        }
        match self.store().exchange(agent, id, old, &new)? {
            CasOutcome::Done => {
                self.audit(&audit::Event {
                    what: "secret_reference",
                    agent,
                    profile: id,
                    detail: step.reference.to_string(),
                });
                Ok(())
            }
            CasOutcome::Conflict(_) => Err(SinkError::new(
                ErrorKind::TryAgain,
                "changed_meanwhile",
                format!("{id} was changed by another program meanwhile and was left as it is"),
            )
            .with_fix("run the command again")
            .about(id)),
        }
    }

    /// Where one of these secrets stands as plain text, other than at the targets of the plan.
    fn still_plain(&self, values: &[Secret], steps: &[Step<'_>]) -> Vec<(PathBuf, String)> {
        let same = |text: &str| values.contains(&Secret::new(text.trim()));
        let mut found = Vec::new();
        self.each_plain(&mut |file, path, text| {
            if same(text) {
                found.push((file.to_owned(), places::shown(path)));
            }
        });
        let targets: Vec<(PathBuf, String)> = steps.iter().map(|step| self.plain_place(step)).collect();
        found.retain(|place| !targets.contains(place));
        found
    }

    /// Where the plain secret of a target stands, or stood.
    fn plain_place(&self, step: &Step<'_>) -> (PathBuf, String) {
        let (file, place, _) = self.plan_change(step);
        match &step.target.place {
            Place::Config(_) => (file, place),
            Place::Profile { .. } => (file, place.trim_end_matches("Ref").to_owned()),
        }
    }
}

impl Step<'_> {
    /// Does the target already say so, and nothing else?
    fn is_done(&self, config: &SecretsConfig) -> bool {
        let same =
            |written: &SecretRef| Reference::of(written, config).ok().as_ref() == Some(&self.reference);
        match &self.before {
            Before::Config(value) => {
                let places = value.as_ref().map(|value| places::of(value, false).references);
                places.is_some_and(
                    |found| matches!(&found[..], [(path, written)] if path.is_empty() && same(written)),
                )
            }
            Before::Profile(credential) => static_source(credential)
                .is_some_and(|source| source.inline.is_none() && source.reference.as_ref().is_some_and(same)),
        }
    }

    /// A plain secret that is there must be the one that the reference gives.
    fn compare(&self, secret: &Secret) -> Result<()> {
        let plain = match &self.before {
            Before::Config(Some(Value::String(text))) if places::is_plain(text) => {
                Some(Secret::new(text.trim()))
            }
            Before::Config(_) => None,
            Before::Profile(credential) => match static_source(credential).and_then(|s| s.inline.as_ref()) {
                Some(SecretText::Plain(secret)) => Some(Secret::new(secret.expose().trim())),
                Some(SecretText::EnvTemplate { .. }) | None => None,
            },
        };
        if plain.is_none_or(|plain| plain == *secret) {
            return Ok(());
        }
        let place = match &self.target.place {
            Place::Config(path) => places::shown(path),
            Place::Profile { agent, id, .. } => format!("profile {id} of agent {agent}"),
        };
        Err(SinkError::new(
            ErrorKind::Failed,
            "other_value",
            format!(
                "{} gives another value than the one that stands in {place}, so nothing was changed",
                self.reference
            ),
        )
        .with_fix("put the present value where the reference looks, or correct the reference"))
    }

    fn write_config(&self, editor: &Editor) -> std::result::Result<(), String> {
        let (Place::Config(path), Before::Config(before)) = (&self.target.place, &self.before) else {
            return Ok(());
        };
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        if editor.get(&keys) != *before {
            return Err(format!(
                "{} was changed meanwhile; run the command again",
                places::shown(path)
            ));
        }
        let Reference { source, provider, id } = &self.reference;
        editor.set(
            &keys,
            &json!({"source": source.as_str(), "provider": provider, "id": id}),
        )
    }
}

fn refused(message: impl Into<String>, fix: impl Into<String>) -> SinkError {
    SinkError::new(ErrorKind::Usage, "plan_refused", message).with_fix(fix)
}

fn no_value(failure: Failure) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "unresolved_ref",
        format!("{failure}; nothing was changed"),
    )
    .with_fix(failure.fix)
}
