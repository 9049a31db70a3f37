//! Plugins: the plan of an installation, the list, and what a check found.

use serde_json::{Value, json};
use tokensink_sink::{CheckReport, PluginInfo, PluginKind, PluginPlan, PluginState, ProviderId};

use super::table::{Cell, Table};
use super::{Look, colour, path};

/// What installing would do.
pub(crate) fn plan(plan: &PluginPlan, look: &Look) -> String {
    let mut text = format!(
        "{} ({})\n",
        look.paint(colour::HEADING, &format!("Plugin {}", plan.id)),
        plan.kind.as_str()
    );
    if let Some(program) = &plan.program {
        text += &format!("  version  : {}\n", program.version);
        if !program.description.is_empty() {
            text += &format!("  about    : {}\n", program.description);
        }
        text += &look.paint(
            colour::WARN,
            "  program  : it runs as you, and may read and send what you may",
        );
        text += &format!("\n    can    : {}\n", program.actions.join(", "));
        text += &format!("    sees the variables: {}\n", listed(&program.env));
        text += &format!("    has the settings: {}\n", listed(&program.settings));
    }
    for provider in &plan.providers {
        let changed = if provider.changes_builtin {
            look.paint(colour::WARN, " (changes the built-in provider)")
        } else {
            String::new()
        };
        text += &format!("  provider : {}{changed}\n", provider.id);
        text += &format!("    methods: {}\n", listed(&provider.methods));
        let hosts = match &plan.program {
            Some(_) if provider.hosts.is_empty() => "where the program sends them".to_owned(),
            Some(_) => format!("where the program sends them, and {}", listed(&provider.hosts)),
            None => listed(&provider.hosts),
        };
        text += &format!("    secrets go to: {hosts}\n");
    }
    for file in &plan.files {
        text += &format!("  file     : {} ({})\n", path(&file.path), file.fate.as_str());
    }
    for file in &plan.removes {
        text += &format!(
            "  file     : {} (does not belong to it, is removed)\n",
            path(file)
        );
    }
    for line in &plan.taken {
        text += &format!("  taken    : {line}\n");
    }
    for line in &plan.left {
        text += &look.paint(colour::FAINT, &format!("  left out : {line}"));
        text.push('\n');
    }
    text
}

fn listed(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

/// `plugins list`.
pub(crate) fn list(plugins: &[PluginInfo], look: &Look) -> String {
    if plugins.is_empty() {
        return "No plugins are installed.\n".to_owned();
    }
    let mut table = Table::new(&["Plugin", "Kind", "Providers", "State"]);
    for plugin in plugins {
        let (state, details) = match &plugin.state {
            PluginState::Ok if plugin.changes_builtin => (
                Cell::styled("ok, changes a built-in provider", colour::WARN),
                Vec::new(),
            ),
            PluginState::Ok => (Cell::styled("ok", colour::GOOD), Vec::new()),
            PluginState::Broken(why) => (
                Cell::styled("not in force", colour::BAD),
                vec![Cell::from(why.as_str())],
            ),
        };
        table.row_with(
            vec![
                plugin.id.as_str().into(),
                plugin.kind.as_str().into(),
                ids(&plugin.providers).join(", ").into(),
                state,
            ],
            details,
        );
    }
    table.render(look)
}

fn ids(providers: &[ProviderId]) -> Vec<&str> {
    providers.iter().map(ProviderId::as_str).collect()
}

/// `plugins list --json`.
pub(crate) fn list_json(plugins: &[PluginInfo]) -> Value {
    plugins
        .iter()
        .map(|plugin| {
            let problem = match &plugin.state {
                PluginState::Ok => None,
                PluginState::Broken(why) => Some(why),
            };
            json!({
                "id": plugin.id,
                "kind": plugin.kind.as_str(),
                "version": plugin.version,
                "providers": ids(&plugin.providers),
                "changesBuiltin": plugin.changes_builtin,
                "path": path(&plugin.path),
                "ok": problem.is_none(),
                "problem": problem,
            })
        })
        .collect()
}

/// `plugins check`.
pub(crate) fn check(report: &CheckReport, look: &Look) -> String {
    let mut table = Table::new(&["Scenario", "Outcome", "Detail"]);
    for scenario in &report.scenarios {
        table.row(vec![
            scenario.id.into(),
            match scenario.passed {
                Some(true) => Cell::styled("passed", colour::GOOD),
                Some(false) => Cell::styled("failed", colour::BAD),
                None => Cell::styled("skipped", colour::FAINT),
            },
            scenario.detail.as_str().into(),
        ]);
    }
    let end = if report.passed() {
        look.paint(colour::GOOD, "It can be installed.")
    } else {
        look.paint(colour::BAD, "It does not hold.")
    };
    format!("{}{end}\n", table.render(look))
}

/// `plugins check --json`.
pub(crate) fn check_json(report: &CheckReport) -> Value {
    json!({
        "source": path(&report.source),
        "id": report.id,
        "kind": report.kind.map(PluginKind::as_str),
        "ok": report.passed(),
        "scenarios": report.scenarios.iter().map(|scenario| json!({
            "id": scenario.id,
            "passed": scenario.passed,
            "detail": scenario.detail,
        })).collect::<Vec<_>>(),
    })
}
