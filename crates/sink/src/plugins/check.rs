//! `plugins check`: what an author wants to know before anybody installs the plugin.

use std::path::{Path, PathBuf};

use tokensink_providers::plugin::manifest::MANIFEST_NAME;

use super::PluginKind;
use super::conform::CheckOptions;
use super::package::Package;
use super::plan::PluginPlan;
use crate::error::{ErrorKind, Result, SinkError};
use crate::login::LoginUi;
use crate::sink::Sink;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// What was checked.
    pub source: PathBuf,
    /// The plugin's id, where it could be read.
    pub id: Option<String>,
    /// What it is made of, where that could be told.
    pub kind: Option<PluginKind>,
    /// What was tried, in order.
    pub scenarios: Vec<Scenario>,
}

impl CheckReport {
    /// Nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.scenarios
            .iter()
            .all(|scenario| scenario.passed != Some(false))
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// A stable word.
    pub id: &'static str,
    /// Whether it held; `None` for what was not tried.
    pub passed: Option<bool>,
    /// What was seen.
    pub detail: String,
}

impl Scenario {
    pub(super) fn passed(id: &'static str, detail: impl Into<String>) -> Self {
        Self {
            id,
            passed: Some(true),
            detail: detail.into(),
        }
    }

    pub(super) fn failed(id: &'static str, detail: impl Into<String>) -> Self {
        Self {
            id,
            passed: Some(false),
            detail: detail.into(),
        }
    }
}

impl Sink {
    /// Checks the plugin at `source`, an absolute path, without installing it. A program is run where it lies, and
    /// asked what it will be asked; `ui` is for its login, if `options` want one. What is wrong with the plugin is in
    /// the report.
    ///
    /// # Errors
    /// A usage error when there is no plugin at `source`.
    pub fn check_plugin(
        &self,
        source: &Path,
        options: &CheckOptions,
        ui: &dyn LoginUi,
    ) -> Result<CheckReport> {
        let mut report = CheckReport {
            source: source.to_owned(),
            id: None,
            kind: None,
            scenarios: Vec::new(),
        };
        match self.plan_plugin(source) {
            Err(error) if error.kind() == ErrorKind::Usage => return Err(error),
            Err(error) => report.scenarios.push(Scenario::failed("readable", told(&error))),
            Ok(plan) => {
                report.scenarios = read_scenarios(&plan);
                if plan.program.is_some() {
                    let providers = plan
                        .providers
                        .iter()
                        .map(|planned| planned.id.as_str().to_owned());
                    let manifest = self.read_manifest(&plan.source.join(MANIFEST_NAME))?;
                    let package = Package::in_place(manifest, plan.source.clone(), providers.collect());
                    report.scenarios.extend(self.conform(&package, options, ui)?);
                }
                report.id = Some(plan.id);
                report.kind = Some(plan.kind);
            }
        }
        Ok(report)
    }
}

fn read_scenarios(plan: &PluginPlan) -> Vec<Scenario> {
    let mut scenarios = vec![Scenario::passed("readable", plan.source.display().to_string())];
    for provider in &plan.providers {
        let named = provider.hosts.join(", ");
        let hosts = match (&plan.program, provider.hosts.is_empty()) {
            (Some(_), true) => "where the program sends them".to_owned(),
            (Some(_), false) => format!("where the program sends them, and {named}"),
            (None, true) => "no host".to_owned(),
            (None, false) => named,
        };
        let detail = format!(
            "{}: methods {}; secrets go to {hosts}",
            provider.id,
            provider.methods.join(", ")
        );
        scenarios.push(Scenario::passed("definition", detail));
    }
    scenarios.extend(plan.taken.iter().map(|line| Scenario::passed("taken", line)));
    scenarios.extend(plan.left.iter().map(|line| Scenario {
        id: "left",
        passed: None,
        detail: line.clone(),
    }));
    if plan.providers.is_empty() {
        scenarios.push(Scenario::failed("definition", "it brings no provider"));
    }
    scenarios
}

/// An error in one line, without its fix: that is this very check.
fn told(error: &SinkError) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text.push_str(&format!(": {cause}"));
    }
    text
}
