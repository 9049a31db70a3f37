//! What `/model`, `/model status`, `/models` and `/status` answer (spec.md 17.5 to 17.7).

use std::collections::BTreeMap;

use tokensink_types::{AgentId, Credential, ProfileId, ProviderId, SessionKey, short_remaining, short_wait};

use super::command::CommandReply;
use super::{SessionInfo, SessionPinInfo};
use crate::error::Result;
use crate::report::{ModelInfo, ProfileStatus, StatusReport};
use crate::sink::Sink;
use crate::status::{masked, origin_text, secret_label};

/// How many models `/models <provider>` shows unless all are asked for: what a chat window holds.
const MODELS_SHOWN: usize = 20;

impl Sink {
    /// What a session keeps at the provider of its model.
    pub(super) fn pin_of_model<'a>(&self, session: &'a SessionInfo) -> Option<&'a SessionPinInfo> {
        let (provider, _) = self.split_key(&session.model)?;
        session.pin_at(&provider)
    }

    /// `/model`.
    pub(super) fn current_model(&self, agent: &AgentId, key: &SessionKey) -> Result<Vec<String>> {
        let session = self.session(agent, key)?;
        let pinned = self.pin_of_model(&session).map_or_else(String::new, |pin| {
            format!("@{} ({})", pin.profile, pin.source.as_str())
        });
        Ok(vec![
            format!("Current: {}{pinned}", session.model),
            "Switch: /model <provider/model>[@<profile>]".to_owned(),
            "Browse: /models (providers) or /models <provider> (models)".to_owned(),
            "More: /model status".to_owned(),
        ])
    }

    /// `/model status`: every model in use with the accounts that would serve it.
    pub(super) fn model_status(&self, agent: &AgentId, key: &SessionKey) -> Result<Vec<String>> {
        let session = self.session(agent, key)?;
        let status = self.status(agent)?;
        let mut lines = vec![
            format!("Current: {}", session.model),
            format!("Default: {}", status.models.resolved_default),
            format!("Agent: {agent}"),
            format!("Auth file: {}", status.store_path.display()),
        ];
        lines.extend(
            status
                .warnings
                .iter()
                .map(|warning| format!("Warning: {warning}")),
        );
        let mut models = self.models_list(agent, None, false)?;
        if !models.iter().any(|model| model.key == session.model)
            && let Some((provider, name)) = session.model.split_once('/')
            && let Ok(provider) = ProviderId::parse(provider)
        {
            models.push(ModelInfo {
                name: name.to_owned(),
                provider,
                available: false,
                tags: Vec::new(),
                key: session.model.clone(),
            });
        }
        let mut by_provider: BTreeMap<&ProviderId, Vec<&ModelInfo>> = BTreeMap::new();
        for model in &models {
            by_provider.entry(&model.provider).or_default().push(model);
        }
        for (provider, models) in by_provider {
            lines.push(String::new());
            let pin = session.pin_at(provider).map(|pin| &pin.profile);
            lines.push(self.provider_line(provider, &status, pin)?);
            for model in models {
                let aliases: Vec<&str> = model
                    .tags
                    .iter()
                    .filter_map(|tag| tag.strip_prefix("alias:"))
                    .collect();
                let aliases = match aliases.as_slice() {
                    [] => String::new(),
                    some => format!(" ({})", some.join(", ")),
                };
                lines.push(format!("  • {}{aliases}", model.key));
            }
        }
        Ok(lines)
    }

    fn provider_line(
        &self,
        provider: &ProviderId,
        status: &StatusReport,
        pin: Option<&ProfileId>,
    ) -> Result<String> {
        let config = self.config()?;
        let own = config
            .providers()
            .into_iter()
            .find(|one| self.registry().canonical(&one.id) == *provider);
        let endpoint = own
            .and_then(|own| own.base_url)
            .or_else(|| self.overridden_base_url(provider))
            .unwrap_or_else(|| "default".to_owned());
        let definition = self.registry().get(provider);
        let api = definition.map_or("unknown", |definition| definition.api.kind.as_str());
        let profiles = self.of_provider(status, provider);
        let snapshot = self.snapshot(&status.agent)?;
        let last_good = snapshot.view.last_good.get(provider);
        let next = profiles.iter().find(|one| Some(&one.id) == pin);
        let next = next
            .or_else(|| profiles.iter().find(|one| one.bench.is_none()))
            .map(|one| &one.id);
        let label = |one: &&ProfileStatus| {
            let mut flags = Vec::new();
            flags.extend((next == Some(&one.id)).then(|| "next".to_owned()));
            flags.extend((last_good == Some(&one.id)).then(|| "lastGood".to_owned()));
            flags.extend(one.bench.as_ref().map(|bench| {
                format!(
                    "{} {}",
                    bench.kind,
                    short_remaining(status.now.until(bench.until))
                )
            }));
            flags.extend(end_of(one, status));
            let shown = snapshot.profile(&one.id).map_or_else(
                || one.id.to_string(),
                |profile| secret_label(one.id.as_str(), &profile.entry.credential, None, status.now),
            );
            match flags.as_slice() {
                [] => shown,
                some => format!("{shown} ({})", some.join(", ")),
            }
        };
        let labels: Vec<String> = profiles.iter().map(label).collect();
        let auth = if labels.is_empty() {
            "missing".to_owned()
        } else {
            format!(
                "{}; auth-profiles.json: {}",
                labels.join(", "),
                self.owner_files(&profiles, status)
            )
        };
        Ok(format!(
            "[{provider}] endpoint: {endpoint} api: {api} auth: {auth}"
        ))
    }

    /// Where requests to a built-in provider go by a file of the user's, and which file says so.
    fn overridden_base_url(&self, provider: &ProviderId) -> Option<String> {
        let mut fields = self.registry().overridden_endpoints(provider).into_iter();
        let field = fields.find(|field| field.path.ends_with("base_url"))?;
        // It is told as TOML has it.
        let url = field.value.trim_matches('"');
        Some(format!("{url} (by {})", origin_text(&field.origin)))
    }

    /// The profiles of a provider that would be tried, in order.
    fn of_provider<'a>(&self, status: &'a StatusReport, provider: &ProviderId) -> Vec<&'a ProfileStatus> {
        let same = |id: &ProviderId| self.registry().canonical(id) == *provider;
        let mut profiles: Vec<&ProfileStatus> = status
            .profiles
            .iter()
            .filter(|one| same(&one.provider) && one.position.is_some())
            .collect();
        profiles.sort_by_key(|one| one.position);
        profiles
    }

    fn owner_files(&self, profiles: &[&ProfileStatus], status: &StatusReport) -> String {
        let mut files: Vec<String> = Vec::new();
        for one in profiles {
            let file = match &one.external {
                Some(origin) => origin.place.clone(),
                None if one.owner == status.agent => status.store_path.display().to_string(),
                None => self.paths().profiles_file(&one.owner).display().to_string(),
            };
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files.join(", ")
    }

    /// `/models`, `/models <provider> [all]`.
    pub(super) fn list_of_models(&self, agent: &AgentId, rest: &str) -> Result<CommandReply> {
        let mut words = rest.split_whitespace();
        let lines = match words.next() {
            None => self.providers_of_models(agent)?,
            Some(provider) => {
                let all = words.next().is_some_and(|word| word.eq_ignore_ascii_case("all"));
                self.models_of(agent, provider, all)?
            }
        };
        Ok(CommandReply {
            lines,
            rest: String::new(),
            new_session: None,
            model_chosen: false,
        })
    }

    fn providers_of_models(&self, agent: &AgentId) -> Result<Vec<String>> {
        let mut counts: BTreeMap<ProviderId, (usize, bool)> = BTreeMap::new();
        for model in self.models_list(agent, None, true)? {
            let count = counts.entry(model.provider).or_default();
            count.0 += 1;
            count.1 |= model.available;
        }
        let mut lines = vec!["Providers:".to_owned()];
        let with_login = counts.iter().filter(|(_, (_, available))| *available);
        let shown: Vec<String> = with_login
            .map(|(id, (count, _))| format!("- {id} ({count})"))
            .collect();
        if shown.is_empty() {
            lines.push("- none has a login (tokensink models auth login)".to_owned());
        }
        lines.extend(shown);
        lines.push("Models: /models <provider>".to_owned());
        lines.push("Switch: /model <provider/model>".to_owned());
        Ok(lines)
    }

    fn models_of(&self, agent: &AgentId, provider: &str, all: bool) -> Result<Vec<String>> {
        let models = self.models_list(agent, Some(provider), true)?;
        let shown = if all {
            models.len()
        } else {
            models.len().min(MODELS_SHOWN)
        };
        let name = models
            .first()
            .map_or_else(|| provider.to_owned(), |model| model.provider.to_string());
        let mut lines = vec![format!("Models ({name}): {shown} of {}", models.len())];
        lines.extend(models.iter().take(shown).map(|model| format!("- {}", model.key)));
        if shown < models.len() {
            lines.push(format!("All: /models {name} all"));
        }
        lines.push("Switch: /model <provider/model>".to_owned());
        Ok(lines)
    }

    /// `/status`.
    pub(super) fn session_status(&self, agent: &AgentId, key: &SessionKey) -> Result<Vec<String>> {
        let session = self.session(agent, key)?;
        let status = self.status(agent)?;
        let provider = session
            .model
            .split_once('/')
            .and_then(|(id, _)| ProviderId::parse(id).ok());
        let profiles = provider.map_or_else(Vec::new, |id| self.of_provider(&status, &id));
        let kept = self.pin_of_model(&session);
        let pinned = kept.and_then(|pin| profiles.iter().find(|one| one.id == pin.profile).copied());
        let serves = pinned
            .or_else(|| profiles.iter().find(|one| one.bench.is_none()).copied())
            .or_else(|| profiles.first().copied());
        let snapshot = self.snapshot(agent)?;
        let credential = serves.and_then(|one| Some((one, &snapshot.profile(&one.id)?.entry.credential)));
        let label = credential.map_or_else(
            || "unknown".to_owned(),
            |(one, credential)| format!("{} ({})", snippet(credential), one.label),
        );
        let changed = session.updated_at.map_or_else(
            || "new".to_owned(),
            |at| format!("updated {} ago", short_wait(at.until(status.now))),
        );
        let mut lines = vec![
            format!("tokensink {}", env!("CARGO_PKG_VERSION")),
            format!("Model: {} · auth: {label}", session.model),
            format!(
                "Session: {key} · {changed} · compactions: {}",
                session.compactions
            ),
            format!("Agent: {agent}"),
        ];
        if let Some(bench) = serves.and_then(|one| one.bench.as_ref()) {
            let left = short_wait(status.now.until(bench.until));
            let reason = bench.reason.as_deref().unwrap_or("unknown");
            lines.push(format!("Account: {} ({reason}), free in {left}", bench.kind));
        }
        if let Some(pin) = kept {
            let gone = if pin.exists() {
                ""
            } else {
                ", but there is no such profile any more"
            };
            lines.push(format!("Pinned: {} ({}{gone})", pin.profile, pin.source.as_str()));
        }
        Ok(lines)
    }
}

/// The kind of a credential and what of it may be shown (spec.md 17.7).
fn snippet(credential: &Credential) -> String {
    match credential {
        Credential::OAuth(_) => "oauth".to_owned(),
        Credential::Token(token) => format!("token {}", masked(&token.token)),
        Credential::ApiKey(key) => format!("api-key {}", masked(&key.key)),
    }
}

/// `exp 5h`, `expired`; nothing for what does not end.
fn end_of(one: &ProfileStatus, status: &StatusReport) -> Option<String> {
    let end = one.expires?;
    Some(if end <= status.now {
        "expired".to_owned()
    } else {
        format!("exp {}", short_remaining(status.now.until(end)))
    })
}
