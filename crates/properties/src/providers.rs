//! Provider definitions, manifests of plugins, and what plugins say.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use tokensink_providers::plugin::manifest::Manifest;
use tokensink_providers::plugin::openclaw;
use tokensink_providers::plugin::protocol::{Action, Conversation, Request, Step, answer_line};
use tokensink_providers::{Registry, UserFile, check};
use tokensink_types::{MethodId, Secret, TokenSet};

use crate::check::{MARK, NOW, choice, fit_to_show, one_of, profile, provider};

/// A provider's TOML: a mistake is told by its place, and a file with a mistake takes nothing away.
pub(crate) fn provider_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.split('\n').count();
    let builtin = Registry::builtin();
    let problems = check(Path::new("p.toml"), text, &builtin);
    for problem in &problems {
        assert!(
            (1..=lines).contains(&problem.line) && problem.column >= 1,
            "{problem:?}"
        );
        assert!(!problem.message.trim().is_empty());
    }
    let file = UserFile {
        path: "p.toml".into(),
        text: text.to_owned(),
    };
    let (registry, found) = Registry::load(&[file]);
    assert_eq!(problems.is_empty(), found.is_empty());
    assert!(registry.all().count() >= builtin.all().count());
    if problems.is_empty() {
        for definition in registry.all() {
            assert_eq!(
                registry.get(&definition.id).map(|found| &found.id),
                Some(&definition.id)
            );
        }
    }
}

/// Lines of a plugin's program, whatever was asked: an end is an end, and what we sent never comes back in words.
pub(crate) fn plugin_lines(data: &[u8]) {
    let (action, data) = choice(data);
    let action = one_of(
        &[Action::Login, Action::Refresh, Action::Revoke, Action::Identity],
        action,
    );
    let tokens = TokenSet {
        access: Secret::new(format!("access-{MARK}-0123456789")),
        refresh: Some(Secret::new(format!("refresh-{MARK}-0123456789"))),
        expires: None,
        id_token: None,
    };
    let (rig, id) = (provider("rig"), profile("rig:a"));
    let method = MethodId::parse("oauth").expect("a valid id");
    let login = action == Action::Login;
    let mut plugin = Conversation::new(action);
    let mut over = false;
    let mut sent: Vec<String> = Vec::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let step = plugin.on_line(line);
        assert!(!over || step.is_err(), "after the end nothing counts: {step:?}");
        over |= matches!(step, Err(_) | Ok(Step::Done(_) | Step::Failed(_)));
        let shown = format!("{step:?}");
        assert!(
            !sent.iter().any(|secret| shown.contains(secret)),
            "a secret is shown: {shown}"
        );
        match step {
            Ok(Step::Ready(version)) => {
                let request = Request {
                    version,
                    provider: &rig,
                    method: &method,
                    profile: (!login).then_some(&id),
                    settings: &BTreeMap::new(),
                    tokens: (!login).then_some(&tokens),
                    account: None,
                    fields: None,
                    interactive: login,
                };
                let line = plugin.request(&request).expect("a short request");
                assert_eq!(line.expose().last(), Some(&b'\n'));
                if !login {
                    sent.push(format!("refresh-{MARK}-0123456789"));
                }
            }
            Ok(Step::Ask(prompt)) => {
                fit_to_show(&prompt.text, 1000);
                let answer = Secret::new(format!("answer-{MARK}-0123456789\n"));
                plugin.told(&answer);
                sent.push(format!("answer-{MARK}-0123456789"));
                let line = answer_line(&prompt.id, Some(&answer));
                assert_eq!(
                    line.expose().iter().filter(|byte| **byte == b'\n').count(),
                    1,
                    "one line"
                );
            }
            Ok(Step::Open(url)) => assert!(matches!(url.scheme(), "https" | "http"), "{url}"),
            Ok(Step::Failed(fault)) => fit_to_show(&fault.to_string(), 1000),
            Ok(Step::Done(answered)) => {
                let _ = answered.clone().with_account_of(&answered).into_grant(NOW);
            }
            Err(violation) => fit_to_show(&violation.to_string(), 1000),
            Ok(_) => {}
        }
    }
    fit_to_show(&plugin.clean(&String::from_utf8_lossy(data)), 1000);
}

/// A plugin's manifest, ours or OpenClaw's: its files are within it, and what is drafted from it holds.
pub(crate) fn plugin_manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::parse(text) {
        Ok(manifest) => {
            for (file, _) in manifest.all_files() {
                let inside = Path::new(file)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                assert!(inside && !file.is_empty(), "{file:?} is outside of the plugin");
            }
        }
        Err(error) => {
            assert!((1..=text.split('\n').count()).contains(&error.line), "{error:?}");
        }
    }
    let registry = Registry::builtin();
    if let Ok(manifest) = openclaw::read(text, &registry) {
        for drafted in manifest.definitions {
            let problems = check(Path::new("p.toml"), &drafted.text, &registry);
            assert!(problems.is_empty(), "{}\n{problems:?}", drafted.text);
        }
    }
}
