//! The text of `models status`: the headings of the documented layout (spec.md 12.2) over tables that fit 80 columns.

use tokensink_sink::{
    ExternalInfo, ModelsView, ProfileId, ProfileState, ProfileStatus, ProviderStatus, StatusReport,
};

use super::profile::{Shown, fix, state_cell};
use super::table::{Cell, Table, wrap};
use super::{Look, colour, external, path};

/// From this width on, absolute times stand behind the words.
const WIDE: usize = 110;

/// Renders the report. `all` adds absolute times at any width.
pub(crate) fn text(report: &StatusReport, all: bool, look: &Look) -> String {
    let absolute = all || look.width >= WIDE;
    [
        head(report, look),
        overview(report, look),
        missing(report, look),
        profiles(report, absolute, look),
        other_programs(report, look),
        environment(report, look),
        notices(report, look),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("\n")
}

/// `Label : value` with the label padded to 14 characters.
/// A label and its value on one line; `-` where there is none.
pub(crate) fn field(label: &str, value: &str) -> String {
    let value = if value.is_empty() { "-" } else { value };
    format!("{label:<14}: {value}\n")
}

fn head(report: &StatusReport, look: &Look) -> Option<String> {
    let models = &report.models;
    let aliases: Vec<String> = models
        .aliases
        .iter()
        .map(|(alias, model)| format!("{alias} -> {model}"))
        .collect();
    let allowed = if models.allowed.is_empty() {
        vec!["all".to_owned()]
    } else {
        models.allowed.clone()
    };
    let own = if models.default_source == "agent" {
        " (agent)"
    } else {
        ""
    };
    let mut text = field("Config", &path(&report.config_path));
    text += &field("Agent", report.agent.as_str());
    text += &field("Agent dir", &path(&report.agent_dir));
    text += &field(&format!("Default{own}"), &default_model(models));
    text += &many("Fallbacks", &models.fallbacks, models.fallbacks.len(), look);
    text += &field("Image model", models.image.as_deref().unwrap_or_default());
    text += &many(
        "Image fallbacks",
        &models.image_fallbacks,
        models.image_fallbacks.len(),
        look,
    );
    text += &many("Aliases", &aliases, aliases.len(), look);
    text += &many("Configured models", &allowed, models.allowed.len(), look);
    Some(text)
}

/// The default model; `<resolved> (from <configured>)` where the two differ, as behind an alias, and `(assumed)` where
/// none is configured.
pub(crate) fn default_model(models: &ModelsView) -> String {
    match models.default.as_deref() {
        Some(configured) if configured != models.resolved_default && !configured.is_empty() => {
            format!("{} (from {configured})", models.resolved_default)
        }
        Some(configured) if !configured.is_empty() => models.resolved_default.clone(),
        _ => format!("{} (assumed)", models.resolved_default),
    }
}

/// A counted list on one line, or wrapped and indented where it is longer.
fn many(label: &str, items: &[String], count: usize, look: &Look) -> String {
    const INDENT: usize = 16;
    let lines = wrap(&items.join(", "), look.width.saturating_sub(INDENT));
    field(
        &format!("{label} ({count})"),
        &lines.join(&format!("\n{}", " ".repeat(INDENT))),
    )
}

fn overview(report: &StatusReport, look: &Look) -> Option<String> {
    let mut text = heading("Auth overview", look);
    text += &field("Auth store", &path(&report.store_path));
    text += &field("Shell env", "off");
    let refreshable: Vec<String> = with_oauth_or_tokens(report).collect();
    text += &many("Providers w/ OAuth/tokens", &refreshable, refreshable.len(), look);
    if !report.providers.is_empty() {
        let mut table = Table::new(&["Provider", "In use", "Health", "Profiles"]);
        for provider in &report.providers {
            let renews = renews_on_use(report, provider);
            table.row_with(provider_row(provider, renews), provider_details(provider));
        }
        text.push('\n');
        text += &table.render(look);
    }
    Some(text)
}

/// `provider (count)` for every provider with OAuth or token profiles.
pub(crate) fn with_oauth_or_tokens(report: &StatusReport) -> impl Iterator<Item = String> + '_ {
    report.providers.iter().filter_map(|provider| {
        let count = provider.counts.oauth + provider.counts.token;
        (count > 0).then(|| format!("{} ({count})", provider.provider))
    })
}

/// Has every effective profile of an expired provider a login that the next use renews?
fn renews_on_use(report: &StatusReport, provider: &ProviderStatus) -> bool {
    let effective = |profile: &&ProfileStatus| provider.effective_profiles.contains(&profile.id);
    let mut states = report.profiles.iter().filter(effective).peekable();
    states.peek().is_some()
        && states.all(|profile| matches!(profile.state, ProfileState::Refreshable | ProfileState::Usable))
}

fn provider_row(provider: &ProviderStatus, renews: bool) -> Vec<Cell> {
    let counts = &provider.counts;
    let kinds: Vec<String> = [
        (counts.oauth, "oauth"),
        (counts.token, "token"),
        (counts.api_key, "api_key"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, kind)| format!("{kind}={count}"))
    .collect();
    let health = match provider.health.as_str() {
        "missing" => "unknown",
        word => word,
    };
    let (health, style) = match health {
        "ok" | "static" => (health, colour::GOOD),
        "expiring" => (health, colour::WARN),
        "expired" if renews => ("expired, renews on use", colour::WARN),
        _ => (health, colour::BAD),
    };
    vec![
        provider.provider.as_str().into(),
        if provider.in_use { "yes" } else { "no" }.into(),
        Cell::styled(health, style),
        format!("{} ({})", counts.count, kinds.join(", ")).into(),
    ]
}

fn provider_details(provider: &ProviderStatus) -> Vec<Cell> {
    let mut lines = Vec::new();
    if provider.effective_profiles.len() > 1 {
        let order: Vec<&str> = provider
            .effective_profiles
            .iter()
            .map(ProfileId::as_str)
            .collect();
        lines.push(Cell::styled(
            format!("order: {}", order.join(", ")),
            colour::FAINT,
        ));
    }
    for (name, value, origin) in &provider.overridden_endpoints {
        lines.push(Cell::styled(
            format!("endpoint overridden: {name} = {value} (by {origin})"),
            colour::WARN,
        ));
    }
    lines
}

fn missing(report: &StatusReport, look: &Look) -> Option<String> {
    if report.missing_in_use.is_empty() {
        return None;
    }
    let mut text = heading("Missing auth", look);
    for missing in &report.missing_in_use {
        text += &format!(
            "- {} is used by a configured model and has no profile\n",
            look.paint(colour::BAD, missing.provider.as_str()),
        );
        text += &format!("    {}\n", fix(&missing.fix, look).painted(look));
    }
    Some(text)
}

fn profiles(report: &StatusReport, absolute: bool, look: &Look) -> Option<String> {
    let mut text = heading("OAuth/token status", look);
    if report.profiles.is_empty() {
        text += "- none\n";
        return Some(text);
    }
    let mut table = Table::new(&["Profile", "Type", "State", "Expires"]);
    for profile in &report.profiles {
        let shown = Shown {
            kind: profile.kind,
            state: &profile.state,
            expires: profile.expires,
            // Each is told by itself below.
            bench: profile.bench.as_ref().filter(|_| profile.benches.is_empty()),
            now: report.now,
            absolute,
        };
        let mut details = origin(profile);
        details.extend(shown.details(look));
        details.extend(profile.benches.iter().map(|bench| shown.benched(bench, look)));
        details.push(shown.quota(&profile.quota, look));
        table.row_with(
            vec![
                profile.id.as_str().into(),
                profile.kind.as_str().into(),
                state_cell(&profile.state),
                shown.expires_cell(look),
            ],
            details,
        );
    }
    text += &table.render(look);
    Some(text)
}

/// Where a profile comes from and whose it is, as far as its id does not say so.
fn origin(profile: &ProfileStatus) -> Vec<Cell> {
    let mut parts = Vec::new();
    if profile.inherited {
        parts.push(format!("inherited from agent {}", profile.owner));
    }
    if let Some(origin) = &profile.external {
        parts.push(format!("({}, {}) {}", origin.source(), origin.mode, origin.place));
    }
    if let Some(email) = profile.account.email.as_deref()
        && !profile.id.as_str().contains(email)
    {
        parts.push(email.to_owned());
    }
    if let Some(plan) = &profile.account.plan {
        parts.push(format!("plan {plan}"));
    }
    if parts.is_empty() {
        return Vec::new();
    }
    vec![Cell::styled(parts.join(", "), colour::FAINT)]
}

/// The logins of other programs that are no profile, or about which there is something to say.
fn other_programs(report: &StatusReport, look: &Look) -> Option<String> {
    let is_profile = |login: &ExternalInfo| {
        let mut external = report.profiles.iter().filter(|one| one.external.is_some());
        external.any(|one| Some(&one.id) == login.profile.as_ref())
    };
    let mut told = report
        .external
        .iter()
        .filter(|login| login.note.is_some() || !is_profile(login))
        .peekable();
    told.peek()?;
    let mut text = heading("Logins of other programs", look);
    text += &external::table(told, report.now, look);
    Some(text)
}

fn environment(report: &StatusReport, look: &Look) -> Option<String> {
    if report.env_keys.is_empty() {
        return None;
    }
    let mut text = heading("Keys in the environment (not used)", look);
    for key in &report.env_keys {
        text += &format!("- {}={} ({})\n", key.name, key.masked, key.provider);
    }
    Some(text)
}

fn notices(report: &StatusReport, look: &Look) -> Option<String> {
    let notes: Vec<String> = report
        .providers
        .iter()
        .filter_map(|provider| Some(format!("{}: {}", provider.provider, provider.notice.as_deref()?)))
        .collect();
    if notes.is_empty() {
        return None;
    }
    let mut text = heading("Notes", look);
    for note in notes {
        let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines = wrap(&note, look.width.saturating_sub(2));
        text += &format!("- {}\n", lines.join("\n  "));
    }
    Some(text)
}

pub(crate) fn heading(title: &str, look: &Look) -> String {
    format!("{}\n", look.paint(colour::HEADING, title))
}

#[cfg(test)]
pub(crate) mod tests;
