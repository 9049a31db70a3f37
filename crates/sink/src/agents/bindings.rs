//! Which agent answers a chat: the `bindings` of `openclaw.json` (spec.md 15.4 to 15.7).
//!
//! They are read leniently: an entry that says something we do not understand routes nothing, is named in a warning
//! and stays as it is written. A change touches the entry that it is about and leaves the rest byte for byte. Who wins
//! is decided by the policy crate; what a channel is, beyond its name, is not known here.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use tokensink_policy::bindings::{Binding, Degree, Message, Peer, route};
use tokensink_store::{Config, Editor};
use tokensink_types::AgentId;

use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// Where they stand in the config.
const PATH: [&str; 1] = ["bindings"];

/// The chat channels of age C2. What the config has under `channels` is known as well.
const CHANNELS: [&str; 24] = [
    "bluebubbles",
    "discord",
    "feishu",
    "googlechat",
    "imessage",
    "irc",
    "line",
    "matrix",
    "mattermost",
    "msteams",
    "nextcloud-talk",
    "nostr",
    "qqbot",
    "signal",
    "slack",
    "synology-chat",
    "telegram",
    "tlon",
    "twitch",
    "webchat",
    "wecom",
    "whatsapp",
    "zalo",
    "zalouser",
];

/// Keys of `channels` that are no channel.
const NO_CHANNELS: [&str; 2] = ["defaults", "modelByChannel"];

/// The conditions of a binding that we understand.
const CONDITIONS: [&str; 5] = ["channel", "accountId", "peer", "guildId", "teamId"];

/// One binding and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingInfo {
    /// Its position in `bindings`, from 0.
    pub index: usize,
    /// What it says.
    pub binding: Binding,
}

/// The bindings that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindingsView {
    /// Those that are understood, in their order.
    pub bindings: Vec<BindingInfo>,
    /// A sentence for each entry that is not understood, with its place.
    pub warnings: Vec<String>,
}

/// A binding that was not added, because another agent has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindConflict {
    /// The binding, described.
    pub binding: String,
    /// Who has it.
    pub agent: AgentId,
}

/// What became of bindings that were to be added. Each is described as by [`Binding::description`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindReport {
    /// For whom.
    pub agent: AgentId,
    /// New ones.
    pub added: Vec<String>,
    /// The agent's own ones without an account that got one.
    pub updated: Vec<String>,
    /// What the agent had already.
    pub skipped: Vec<String>,
    /// What another agent has.
    pub conflicts: Vec<BindConflict>,
}

/// What became of bindings that were to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnbindReport {
    /// Whose they were.
    pub agent: AgentId,
    /// Those that were removed.
    pub removed: Vec<String>,
    /// Those that nobody has.
    pub missing: Vec<String>,
    /// Those that another agent has; they stay.
    pub conflicts: Vec<BindConflict>,
}

/// Which bindings are to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unbind {
    /// Each entry that names the agent, also those that are not understood.
    All,
    /// These, each `channel` or `channel:account`.
    Some(Vec<String>),
}

/// A message that wants an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteRequest {
    /// The chat channel.
    pub channel: String,
    /// The account there that got it; none for the default one.
    pub account: Option<String>,
    /// The conversation, `kind:id`.
    pub peer: Option<String>,
    /// The server of the chat program.
    pub guild: Option<String>,
    /// The team of it.
    pub team: Option<String>,
}

/// Who answers, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// The agent.
    pub agent: AgentId,
    /// How specific the binding is that decided.
    pub degree: Degree,
    /// That binding; none where the default agent answers because no binding fits.
    pub binding: Option<BindingInfo>,
    /// The agent of that binding, if there is none of this name and the default agent answers instead.
    pub unknown_agent: Option<AgentId>,
    /// What is wrong with the bindings or the question, though there is an answer.
    pub warnings: Vec<String>,
}

impl Sink {
    /// The bindings of `openclaw.json`, or of one agent.
    ///
    /// # Errors
    /// When the config cannot be read.
    pub fn bindings(&self, agent: Option<&AgentId>) -> Result<BindingsView> {
        let mut view = read(self.config()?.at(&PATH));
        view.bindings
            .retain(|entry| agent.is_none_or(|agent| entry.binding.agent == *agent));
        Ok(view)
    }

    /// Lets `agent` answer further chats, each given as `channel` or `channel:account`. What another agent has is left
    /// to it and reported. An own binding without an account gets the account that is asked for, unless the same call
    /// asks for it without one, too.
    ///
    /// # Errors
    /// A usage error for an unknown channel or an empty account (nothing is then changed); otherwise when
    /// `openclaw.json` cannot be changed.
    pub fn bind(&self, agent: &AgentId, specs: &[String]) -> Result<BindReport> {
        self.require_writable("binding an agent")?;
        let wanted = wanted(&*self.config()?, agent, specs)?;
        self.edit_config(|editor| bind(editor, agent, &wanted))
    }

    /// Takes bindings away from `agent`.
    ///
    /// # Errors
    /// As for [`Sink::bind`].
    pub fn unbind(&self, agent: &AgentId, which: &Unbind) -> Result<UnbindReport> {
        self.require_writable("unbinding an agent")?;
        let Unbind::Some(specs) = which else {
            return self.edit_config(|editor| Ok(remove_all(editor, agent)));
        };
        let config = self.config()?;
        let mut known = channels(&config);
        // A binding to a channel that we do not know can be removed as well.
        known.extend(channels_of(&read(config.at(&PATH))));
        let wanted = parse_all(&known, agent, specs)?;
        self.edit_config(|editor| Ok(unbind(editor, agent, &wanted)))
    }

    /// Which agent a message is for (spec.md 15.7). There is always one: the default agent where no binding fits or
    /// the one that fits names an agent that does not exist.
    ///
    /// # Errors
    /// A usage error for a blank channel or a peer that is not `kind:id`; otherwise when the config or the state dir
    /// cannot be read.
    pub fn route(&self, request: &RouteRequest) -> Result<RouteReport> {
        let message = message(request)?;
        let config = self.config()?;
        let BindingsView {
            bindings,
            mut warnings,
        } = read(config.at(&PATH));
        let agents: Vec<AgentId> = self.agents()?.into_iter().map(|agent| agent.id).collect();
        let default = config.default_agent();
        let plain: Vec<Binding> = bindings.iter().map(|entry| entry.binding.clone()).collect();
        let found = route(&plain, &message, &agents, &default);
        let binding = found.binding.and_then(|at| bindings.get(at)).cloned();
        if let (Some(gone), Some(entry)) = (&found.unknown_agent, &binding) {
            warnings.push(format!(
                "bindings[{}] is for agent \"{gone}\", which does not exist; the default agent \"{default}\" answers. \
                 fix: tokensink agents add {gone}",
                entry.index
            ));
        }
        let known = |channel: &String| channel.eq_ignore_ascii_case(&message.channel);
        if binding.is_none() && !channels(&config).iter().any(known) {
            warnings.push(format!("Unknown channel \"{}\".", message.channel));
        }
        Ok(RouteReport {
            agent: found.agent,
            degree: found.degree,
            binding,
            unknown_agent: found.unknown_agent,
            warnings,
        })
    }
}

/// Does an entry of `bindings`, whatever else it says, name this agent?
pub(crate) fn names(binding: &Value, id: &AgentId) -> bool {
    let agent = binding.get("agentId").and_then(Value::as_str);
    agent.is_some_and(|agent| AgentId::normalise(agent) == *id)
}

/// Reads what bindings are asked for, by the channels that the config knows.
pub(crate) fn wanted(config: &Config, agent: &AgentId, specs: &[String]) -> Result<Vec<Binding>> {
    parse_all(&channels(config), agent, specs)
}

/// Adds what is not there yet.
pub(crate) fn bind(
    editor: &Editor,
    agent: &AgentId,
    wanted: &[Binding],
) -> std::result::Result<BindReport, String> {
    let mut report = BindReport {
        agent: agent.clone(),
        added: Vec::new(),
        updated: Vec::new(),
        skipped: Vec::new(),
        conflicts: Vec::new(),
    };
    let mut known = read(editor.get(&PATH).as_ref()).bindings;
    let mut added = Vec::new();
    for new in wanted {
        let mut all = known
            .iter()
            .map(|entry| &entry.binding)
            .chain(added.iter().copied());
        if let Some(held) = all.find(|held| held.claims_the_same(new)) {
            if held.agent == *agent {
                report.skipped.push(new.description());
            } else {
                report.conflicts.push(BindConflict {
                    binding: new.description(),
                    agent: held.agent.clone(),
                });
            }
        } else if let Some(entry) = known
            .iter_mut()
            .find(|entry| can_take(&entry.binding, new, wanted))
        {
            editor.set_at(&PATH, entry.index, &["match", "accountId"], &json!(new.account))?;
            entry.binding.account.clone_from(&new.account);
            report.updated.push(new.description());
        } else {
            editor.push(&PATH, &entry_of(new))?;
            added.push(new);
            report.added.push(new.description());
        }
    }
    Ok(report)
}

/// Can an own binding without an account get the one of `new`? Not if it is itself asked for: repeating the call
/// would then change the config each time.
fn can_take(own: &Binding, new: &Binding, wanted: &[Binding]) -> bool {
    let without = Binding {
        account: None,
        ..new.clone()
    };
    own.agent == new.agent
        && own.account.is_none()
        && own.claims_the_same(&without)
        && !wanted.iter().any(|wanted| wanted.claims_the_same(own))
}

/// Only what can be asked for by a spec: a channel and an account.
fn entry_of(binding: &Binding) -> Value {
    let mut conditions = json!({ "channel": binding.channel });
    if let Some(account) = &binding.account {
        conditions["accountId"] = json!(account);
    }
    json!({ "agentId": binding.agent.as_str(), "match": conditions })
}

/// Removes what is the agent's own.
fn unbind(editor: &Editor, agent: &AgentId, wanted: &[Binding]) -> UnbindReport {
    let mut report = UnbindReport {
        agent: agent.clone(),
        removed: Vec::new(),
        missing: Vec::new(),
        conflicts: Vec::new(),
    };
    let mut known = read(editor.get(&PATH).as_ref()).bindings;
    let mut gone = Vec::new();
    for old in wanted {
        let is_own =
            |entry: &mut BindingInfo| entry.binding.agent == *agent && entry.binding.claims_the_same(old);
        let own: Vec<usize> = known.extract_if(.., is_own).map(|entry| entry.index).collect();
        let other = known.iter().find(|entry| entry.binding.claims_the_same(old));
        match other {
            _ if !own.is_empty() => report.removed.push(old.description()),
            Some(entry) => report.conflicts.push(BindConflict {
                binding: old.description(),
                agent: entry.binding.agent.clone(),
            }),
            None => report.missing.push(old.description()),
        }
        gone.extend(own);
    }
    remove(editor, gone);
    report
}

/// Removes each entry that names the agent.
pub(crate) fn remove_all(editor: &Editor, agent: &AgentId) -> UnbindReport {
    let value = editor.get(&PATH);
    let entries = value
        .as_ref()
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let described = |(index, entry): (usize, &Value)| match understand(entry) {
        Ok(binding) => (index, binding.description()),
        Err(_) => (index, format!("bindings[{index}]")),
    };
    let own = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| names(entry, agent));
    let (gone, removed) = own.map(described).unzip();
    remove(editor, gone);
    UnbindReport {
        agent: agent.clone(),
        removed,
        missing: Vec::new(),
        conflicts: Vec::new(),
    }
}

/// From the last to the first, so that the positions stay right.
fn remove(editor: &Editor, mut positions: Vec<usize>) {
    positions.sort_unstable();
    for index in positions.into_iter().rev() {
        editor.remove_at(&PATH, index);
    }
}

fn channels(config: &Config) -> Vec<String> {
    let own = config.at(&["channels"]).and_then(Value::as_object);
    let own = own
        .into_iter()
        .flat_map(Map::keys)
        .map(|key| key.trim().to_lowercase());
    let own = own.filter(|key| !NO_CHANNELS.iter().any(|other| other.eq_ignore_ascii_case(key)));
    CHANNELS.iter().map(|&name| name.to_owned()).chain(own).collect()
}

fn channels_of(view: &BindingsView) -> Vec<String> {
    let channels = view
        .bindings
        .iter()
        .map(|entry| entry.binding.channel.to_lowercase());
    channels.collect()
}

fn parse_all(channels: &[String], agent: &AgentId, specs: &[String]) -> Result<Vec<Binding>> {
    specs.iter().map(|spec| parse(channels, agent, spec)).collect()
}

/// Reads `channel` or `channel:account`; the account may hold colons. Messages: spec.md 15.6.
fn parse(channels: &[String], agent: &AgentId, spec: &str) -> Result<Binding> {
    let spec = spec.trim();
    let (channel, account) = match spec.split_once(':') {
        Some((channel, account)) => (channel.trim(), Some(account.trim())),
        None => (spec, None),
    };
    let channel = channel.to_lowercase();
    if !channels.contains(&channel) {
        let message = format!("Unknown channel \"{channel}\".");
        let fix = format!(
            "use one of {}, or one that openclaw.json has under channels",
            channels.join(", ")
        );
        return Err(SinkError::new(ErrorKind::Usage, "unknown_channel", message).with_fix(fix));
    }
    if account == Some("") {
        let message = format!("Invalid binding \"{spec}\" (empty account id).");
        let fix = format!("--bind {channel} or --bind {channel}:<account>");
        return Err(SinkError::new(ErrorKind::Usage, "bad_binding", message).with_fix(fix));
    }
    Ok(Binding {
        agent: agent.clone(),
        channel,
        account: account.map(str::to_owned),
        peer: None,
        guild: None,
        team: None,
    })
}

fn message(request: &RouteRequest) -> Result<Message> {
    let channel = request.channel.trim();
    if channel.is_empty() {
        let error = SinkError::new(ErrorKind::Usage, "bad_channel", "the channel is blank");
        return Err(error.with_fix("tokensink route --channel <channel>"));
    }
    let peer = request.peer.as_deref().map(|text| {
        Peer::parse(text).ok_or_else(|| {
            let message = format!("{text:?} is no conversation: it takes a kind and an id");
            SinkError::new(ErrorKind::Usage, "bad_peer", message).with_fix(format!(
                "--peer <kind>:<id>, with a kind of {}",
                Peer::KINDS.join(", ")
            ))
        })
    });
    let given = |value: &Option<String>| {
        let text = value.as_deref().map(str::trim).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    Ok(Message {
        channel: channel.to_owned(),
        account: given(&request.account),
        peer: peer.transpose()?,
        guild: given(&request.guild),
        team: given(&request.team),
    })
}

/// Reads `bindings` as they stand in the config.
fn read(value: Option<&Value>) -> BindingsView {
    let mut view = BindingsView::default();
    let entries = match value {
        None | Some(Value::Null) => return view,
        Some(Value::Array(entries)) => entries,
        Some(_) => {
            view.warnings
                .push("bindings in openclaw.json is no list, so nothing is routed by it".to_owned());
            return view;
        }
    };
    for (index, entry) in entries.iter().enumerate() {
        match understand(entry) {
            Ok(binding) => view.bindings.push(BindingInfo { index, binding }),
            Err(why) => view.warnings.push(format!(
                "bindings[{index}] in openclaw.json routes nothing: {why}; correct it by hand"
            )),
        }
    }
    view
}

/// One entry. A condition that is not understood makes the entry void: without it, it would catch too much.
fn understand(entry: &Value) -> std::result::Result<Binding, String> {
    let entry = entry.as_object().ok_or("it is no object")?;
    if let Some(kind) = text(entry, "type")?.filter(|kind| kind != "route") {
        return Err(format!("its type {kind:?} is not known here"));
    }
    let agent = text(entry, "agentId")?.ok_or("agentId is missing")?;
    let conditions = entry
        .get("match")
        .and_then(Value::as_object)
        .ok_or("match is no object")?;
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let foreign = conditions
        .iter()
        .find(|(key, value)| !CONDITIONS.contains(&key.as_str()) && !is_empty(value));
    if let Some((key, _)) = foreign {
        return Err(format!("match.{key} is a condition that is not known here"));
    }
    Ok(Binding {
        agent: AgentId::normalise(&agent),
        channel: text(conditions, "channel")?.ok_or("match.channel is missing")?,
        account: text(conditions, "accountId")?,
        peer: peer(conditions.get("peer"))?,
        guild: text(conditions, "guildId")?,
        team: text(conditions, "teamId")?,
    })
}

fn peer(value: Option<&Value>) -> std::result::Result<Option<Peer>, String> {
    let object = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_object().ok_or("match.peer is no object")?,
    };
    let kind = text(object, "kind")?.unwrap_or_default();
    let id = text(object, "id")?.ok_or("match.peer has no id")?;
    let peer = Peer::new(&kind, &id).ok_or_else(|| {
        let kinds = Peer::KINDS.join(", ");
        format!("match.peer.kind is not one of {kinds}")
    })?;
    Ok(Some(peer))
}

/// A text, trimmed; blank is as good as missing. Ids that were written as numbers are taken.
fn text(object: &Map<String, Value>, key: &str) -> std::result::Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim())
            .filter(|text| !text.is_empty())
            .map(str::to_owned)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("{key} is no text")),
    }
}
