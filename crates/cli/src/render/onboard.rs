//! What `onboard` and `configure` did (spec.md 13, openclaw-live.md 2).

use serde_json::{Value, json};
use tokensink_sink::{AgentId, CredentialKind, ExternalInfo, ProfileId, ProviderId, UnixMillis};

use super::{Look, colour, words};

/// A choice that was settled.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The choice.
    pub(crate) choice: String,
    /// The profiles that it leaves.
    pub(crate) profiles: Vec<SettledProfile>,
    /// The default model, where it was set.
    pub(crate) default_model: Option<String>,
    /// The policy note that was not shown yet.
    pub(crate) notice: Option<String>,
    /// What else the user should know.
    pub(crate) notes: Vec<String>,
}

impl Settled {
    /// A choice that leaves nothing.
    pub(crate) fn nothing(choice: &str) -> Self {
        Self {
            choice: choice.to_owned(),
            profiles: Vec::new(),
            default_model: None,
            notice: None,
            notes: Vec::new(),
        }
    }
}

impl Settled {
    /// Takes in another choice that was settled in the same run.
    pub(crate) fn add(&mut self, other: Self) {
        if self.profiles.is_empty() {
            self.choice = other.choice;
        }
        self.profiles.extend(other.profiles);
        self.default_model = other.default_model.or(self.default_model.take());
        self.notes.extend(other.notes);
    }
}

/// A profile that a choice leaves.
#[derive(Debug)]
pub(crate) struct SettledProfile {
    /// Its id.
    pub(crate) id: ProfileId,
    /// Its provider.
    pub(crate) provider: ProviderId,
    /// What it holds.
    pub(crate) kind: CredentialKind,
    /// `stored`, `updated` or `unchanged`.
    pub(crate) change: &'static str,
    /// `given`, `env: NAME`, `profile` or `login`; for the login of another program that and its mode.
    pub(crate) source: String,
    /// Its secret is in our store, not in another program's.
    pub(crate) is_ours: bool,
}

/// All that is told at the end.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    /// The agent.
    pub(crate) agent: &'a AgentId,
    /// Its workspace.
    pub(crate) workspace: Option<String>,
    /// What was done.
    pub(crate) settled: &'a Settled,
}

/// The object of `--json`: the keys that OpenClaw's has as well, and the profiles.
pub(crate) fn json(summary: &Summary<'_>) -> Value {
    let settled = summary.settled;
    let profile = |profile: &SettledProfile| {
        json!({
            "id": profile.id.as_str(),
            "provider": profile.provider.as_str(),
            "type": profile.kind.as_str(),
            "change": profile.change,
            "source": profile.source,
        })
    };
    json!({
        "ok": true,
        "mode": "local",
        "agentId": summary.agent.as_str(),
        "workspace": summary.workspace,
        "authChoice": settled.choice,
        "profiles": settled.profiles.iter().map(profile).collect::<Vec<_>>(),
        "defaultModelSet": settled.default_model,
        "notes": settled.notes,
    })
}

/// A line for each profile.
pub(crate) fn text(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    for profile in &summary.settled.profiles {
        let SettledProfile {
            id, provider, kind, ..
        } = profile;
        text += &format!(
            "Auth profile: {id} ({provider}/{}, {})\n",
            kind.as_str(),
            profile.change
        );
    }
    if let Some(model) = &summary.settled.default_model {
        text += &format!("Default model set to {model}\n");
    }
    if summary.settled.profiles.is_empty() {
        text += "No login was set up.\n";
    }
    text
}

/// A login of another program that was found: whose it is and how long its token lives.
pub(crate) fn found_login(info: &ExternalInfo, now: UnixMillis) -> String {
    let whose = info
        .email
        .as_deref()
        .map(|email| format!(" as {email}"))
        .unwrap_or_default();
    let plan = info
        .plan
        .as_deref()
        .map(|plan| format!("{plan}, "))
        .unwrap_or_default();
    let ends = match info.expires {
        Some(at) if at <= now => "its token has ended".to_owned(),
        Some(at) => format!("its token ends {}", words::relative(at, now)),
        None => "nobody knows when its token ends".to_owned(),
    };
    format!(
        "{} is logged in{whose} ({plan}{ends}): {}\n",
        info.title, info.place
    )
}

/// The lines to paste into the tools; `agent` is named in them where it is not the default one.
pub(crate) fn next(settled: &Settled, agent: Option<&AgentId>, look: &Look) -> String {
    let name = look.name.as_str();
    let agent = agent.map(|agent| format!(" --agent {agent}")).unwrap_or_default();
    let mut lines: Vec<String> = Vec::new();
    for profile in &settled.profiles {
        let provider = &profile.provider;
        let token = format!("{name} token --provider {provider}{agent}");
        let line = match (provider.as_str(), profile.kind) {
            ("anthropic", CredentialKind::ApiKey) => format!("export ANTHROPIC_API_KEY=\"$({token})\""),
            ("anthropic", CredentialKind::OAuth | CredentialKind::Token) => {
                format!("export ANTHROPIC_AUTH_TOKEN=\"$({token})\"")
            }
            _ => format!("{name} exec --provider {provider}{agent} -- <your program>"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
        let cli = match provider.as_str() {
            "anthropic" => Some(("claude", "Claude Code")),
            "openai-codex" => Some(("codex", "Codex")),
            _ => None,
        };
        if let Some((cli, title)) = cli.filter(|_| profile.is_ours) {
            lines.push(format!(
                "{name} external wire {cli}{agent}   # {title} asks for its token here"
            ));
        }
    }
    if settled
        .profiles
        .iter()
        .any(|profile| profile.kind == CredentialKind::OAuth)
    {
        lines.push(format!("{name} renew   # from a timer: renews ahead of time"));
    }
    let mut text = format!("{}\n", look.paint(colour::HEADING, "To use it:"));
    for line in lines {
        text += &format!("  {}\n", look.paint(colour::COMMAND, &line));
    }
    text
}
