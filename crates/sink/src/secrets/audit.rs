//! `secrets audit`: where secrets stand as plain text, and which references lead nowhere (spec.md 16.7).
//!
//! Reads the config, every agent's `auth-profiles.json`, `models.json` and legacy `auth.json`, and `.env`. Changes
//! nothing, and runs a program only when that is allowed. A finding names file and place, never a value. Tokens of
//! OAuth profiles are no findings: a refresh replaces them, so they cannot be references.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokensink_store::{Config, StoreError, wipe_json};
use tokensink_types::{AgentId, Credential, SecretRef, SecretSource, SecretText, wipe};

use super::config::{Provider, SecretsConfig};
use super::places::{self, Places};
use super::reference::{Failure, Reference, Source, provider_key};
use super::resolve;
use crate::error::Result;
use crate::sink::Sink;

/// What an audit found.
#[derive(Debug, Clone, Default)]
pub struct SecretsAudit {
    /// Everything that should be put right, by file.
    pub findings: Vec<SecretFinding>,
    /// The files that were looked at.
    pub files: Vec<PathBuf>,
    /// References to programs that were not looked up, because running programs was not allowed.
    pub exec_skipped: usize,
}

/// One thing that should be put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFinding {
    /// `PLAINTEXT_FOUND`, `REF_UNRESOLVED`, `REF_SHADOWED`, `OAUTH_REF`, `LEGACY_RESIDUE`, `FILE_READABLE`,
    /// `FILE_UNREADABLE`, `CONFIG_INVALID` or `PATH_CHECKS_OFF`.
    pub code: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The place in it, for example `profiles.openrouter:default.key`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What helps.
    pub fix: String,
}

impl Sink {
    /// Looks for plain secrets and dead references. With `allow_exec`, references to programs are looked up too.
    ///
    /// # Errors
    /// When `openclaw.json` does not parse, or the agents cannot be listed.
    pub fn secrets_audit(&self, allow_exec: bool) -> Result<SecretsAudit> {
        let config = self.config()?;
        let secrets = self.secrets_config()?;
        let mut auditor = Auditor {
            sink: self,
            secrets: &secrets,
            report: SecretsAudit::default(),
            references: Vec::new(),
        };
        auditor.config(&config);
        for agent in self.store().agents()? {
            auditor.profiles(&agent);
            let dir = self.paths().agent_dir(&agent);
            auditor.document(&dir.join("models.json"), true);
            auditor.legacy(&self.paths().legacy_auth_file(&agent));
        }
        auditor.env_file(&self.paths().env_file());
        auditor.look_references_up(allow_exec);
        let mut report = auditor.report;
        report
            .findings
            .sort_by(|a, b| (&a.file, &a.path, a.code).cmp(&(&b.file, &b.path, b.code)));
        Ok(report)
    }
}

struct Auditor<'a> {
    sink: &'a Sink,
    secrets: &'a SecretsConfig,
    report: SecretsAudit,
    /// Every reference with its place.
    references: Vec<(PathBuf, String, SecretRef)>,
}

impl Auditor<'_> {
    fn find(
        &mut self,
        code: &'static str,
        file: &Path,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.report.findings.push(SecretFinding {
            code,
            file: file.to_owned(),
            path: path.to_owned(),
            message: message.into(),
            fix: fix.into(),
        });
    }

    /// True when the file is there; others must not be able to read it.
    fn look_at(&mut self, file: &Path) -> bool {
        let Ok(Some(stamp)) = self.sink.host().files.stat(file) else {
            return false;
        };
        self.report.files.push(file.to_owned());
        if stamp.mode & 0o077 != 0 {
            let message = format!("others may read it (mode {:04o})", stamp.mode);
            self.find(
                "FILE_READABLE",
                file,
                "",
                message,
                format!("chmod 600 {}", file.display()),
            );
        }
        true
    }

    fn config(&mut self, config: &Config) {
        let file = self.sink.config_path().to_owned();
        if !self.look_at(&file) {
            return;
        }
        self.places(&file, &places::of(config.raw(), false));
        let wrong: Vec<_> = self
            .secrets
            .problems
            .iter()
            .chain(
                self.secrets
                    .providers()
                    .filter_map(|(_, provider)| provider.as_ref().err()),
            )
            .cloned()
            .collect();
        for problem in wrong {
            let fix = format!("correct {}", problem.key);
            self.find("CONFIG_INVALID", &file, &problem.key, problem.why, fix);
        }
        let unchecked = |provider: &Provider| match provider {
            Provider::File(provider) => provider.allow_insecure,
            Provider::Exec(provider) => provider.allow_insecure,
            Provider::Env(_) => false,
        };
        let off: Vec<String> = self
            .secrets
            .providers()
            .filter(|(_, provider)| provider.as_ref().is_ok_and(unchecked))
            .map(|(alias, _)| format!("{}.allowInsecurePath", provider_key(alias)))
            .collect();
        for path in off {
            let message =
                "owner and mode of the path are not checked, so others may decide what is read or run";
            self.find(
                "PATH_CHECKS_OFF",
                &file,
                &path,
                message,
                format!("put owner and mode right, then remove {path}"),
            );
        }
    }

    /// A JSON document of which only the names of the keys are known.
    fn document(&mut self, file: &Path, markers: bool) {
        if let Some(mut value) = self.json(file) {
            let places = places::of(&value, markers);
            wipe_json(&mut value);
            self.places(file, &places);
        }
    }

    fn json(&mut self, file: &Path) -> Option<Value> {
        if !self.look_at(file) {
            return None;
        }
        let mut bytes = match self.sink.host().files.read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let fix = format!("chmod u+r {}", file.display());
                self.find(
                    "FILE_UNREADABLE",
                    file,
                    "",
                    format!("it cannot be read: {error}"),
                    fix,
                );
                return None;
            }
        };
        let parsed = serde_json::from_slice(&bytes);
        wipe(&mut bytes);
        parsed
            .map_err(|error| {
                let message = format!(
                    "it is not JSON (line {}, column {})",
                    error.line(),
                    error.column()
                );
                self.find("FILE_UNREADABLE", file, "", message, "correct that line");
            })
            .ok()
    }

    fn places(&mut self, file: &Path, found: &Places) {
        for path in &found.plain {
            let fix = if path.len() == 4 && path[..2] == ["models", "providers"] && path[3] == "apiKey" {
                "tokensink secrets configure"
            } else {
                "write a reference {source, provider, id} or \"${NAME}\" in its place, if the program that reads it takes one"
            };
            self.find(
                "PLAINTEXT_FOUND",
                file,
                &places::shown(path),
                "a secret stands here as plain text",
                fix,
            );
        }
        for (path, reference) in &found.references {
            self.references
                .push((file.to_owned(), places::shown(path), reference.clone()));
        }
    }

    fn profiles(&mut self, agent: &AgentId) {
        let file = self.sink.paths().profiles_file(agent);
        if !self.look_at(&file) {
            return;
        }
        let store = match self.sink.store().load(agent) {
            Ok(store) => store,
            Err(error) => {
                let fix = match &error {
                    StoreError::Unreadable(_) => "correct that place",
                    _ => "make it readable for this user",
                };
                self.find("FILE_UNREADABLE", &file, "", error.to_string(), fix);
                return;
            }
        };
        for entry in store.profiles.entries() {
            for field in store.profiles.oauth_refs(&entry.id) {
                let path = places::shown(&["profiles".to_owned(), entry.id.to_string(), field.clone()]);
                let message = "an OAuth profile cannot hold a reference: a refresh replaces its tokens";
                self.find(
                    "OAUTH_REF",
                    &file,
                    &path,
                    message,
                    "log in again, or store a static key instead",
                );
            }
            let (field, source) = match &entry.credential {
                Credential::ApiKey(key) => ("key", &key.key),
                Credential::Token(token) => ("token", &token.token),
                Credential::OAuth(_) => continue,
            };
            let path =
                |field: &str| places::shown(&["profiles".to_owned(), entry.id.to_string(), field.to_owned()]);
            self.source(&file, agent, &path, field, source);
        }
    }

    fn source(
        &mut self,
        file: &Path,
        agent: &AgentId,
        path: &dyn Fn(&str) -> String,
        field: &str,
        source: &SecretSource,
    ) {
        let ref_path = path(&format!("{field}Ref"));
        match (&source.inline, &source.reference) {
            (Some(_), Some(_)) => {
                let message = format!(
                    "the reference is not used, for {} stands beside it and wins",
                    path(field)
                );
                self.find(
                    "REF_SHADOWED",
                    file,
                    &ref_path,
                    message,
                    format!("remove {}", path(field)),
                );
            }
            (Some(SecretText::Plain(_)), None) => {
                let fix = format!("tokensink secrets configure --agent {agent}");
                self.find(
                    "PLAINTEXT_FOUND",
                    file,
                    &path(field),
                    "a secret stands here as plain text",
                    fix,
                );
            }
            (Some(SecretText::EnvTemplate { name, .. }), None) => {
                let written = Reference::env(name, self.secrets).to_written();
                self.references.push((file.to_owned(), path(field), written));
            }
            (None, Some(written)) => {
                self.references.push((file.to_owned(), ref_path, written.clone()));
            }
            (None, None) => {}
        }
    }

    fn legacy(&mut self, file: &Path) {
        let Some(mut value) = self.json(file) else { return };
        let entries: Vec<String> = value
            .as_object()
            .map(|map| {
                let held = map.iter().filter(|(_, entry)| entry.is_object());
                held.map(|(key, _)| key.clone()).collect()
            })
            .unwrap_or_default();
        wipe_json(&mut value);
        for key in entries {
            let fix = "remove the entry, once `tokensink models auth list` shows the login";
            self.find(
                "LEGACY_RESIDUE",
                file,
                &places::shown(&[key]),
                "a login of an older age stands here",
                fix,
            );
        }
    }

    fn env_file(&mut self, file: &Path) {
        if !self.look_at(file) {
            return;
        }
        let Ok(mut bytes) = self.sink.host().files.read(file) else {
            let fix = format!("chmod u+r {}", file.display());
            self.find("FILE_UNREADABLE", file, "", "it cannot be read", fix);
            return;
        };
        let known: BTreeSet<String> = self
            .sink
            .registry()
            .env_names()
            .into_iter()
            .map(|name| name.variable.name)
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        let plain: Vec<(usize, String)> = places::variables(&text)
            .into_iter()
            .filter(|(_, name, value)| {
                places::is_plain(value) && (known.contains(*name) || places::names_a_secret(name))
            })
            .map(|(line, name, _)| (line, name.to_owned()))
            .collect();
        drop(text);
        wipe(&mut bytes);
        for (line, name) in plain {
            let message = format!("a secret stands here as plain text (line {line})");
            let fix = "move it to a secret provider, and let the programs that read it get it from there";
            self.find("PLAINTEXT_FOUND", file, &name, message, fix);
        }
    }

    fn look_references_up(&mut self, allow_exec: bool) {
        let mut wanted = BTreeSet::new();
        let mut read: Vec<(PathBuf, String, std::result::Result<Reference, Failure>)> = Vec::new();
        for (file, path, written) in std::mem::take(&mut self.references) {
            let reference = Reference::of(&written, self.secrets);
            if let Ok(reference) = &reference {
                if reference.source == Source::Exec && !allow_exec {
                    self.report.exec_skipped += 1;
                    continue;
                }
                wanted.insert(reference.clone());
            }
            read.push((file, path, reference));
        }
        let found = resolve::resolve(self.sink.host(), self.secrets, &wanted);
        let failures: BTreeMap<&Reference, &Failure> = found
            .iter()
            .filter_map(|(reference, value)| Some((reference, value.as_ref().err()?)))
            .collect();
        for (file, path, reference) in &read {
            let failure = match reference {
                Ok(reference) => failures.get(reference).copied(),
                Err(failure) => Some(failure),
            };
            if let Some(failure) = failure {
                self.find(
                    "REF_UNRESOLVED",
                    file,
                    path,
                    failure.to_string(),
                    failure.fix.clone(),
                );
            }
        }
    }
}
