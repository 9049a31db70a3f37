//! What is wrong with stored logins and their records.

use std::collections::BTreeMap;

use tokensink_store::BlemishKind;
use tokensink_types::{AgentId, CredentialKind};

use super::for_agent;
use crate::block::{login_command, paste_command, quoted};
use crate::doctor::check;
use crate::doctor::copies::{Copies, CopyKind};
use crate::doctor::facts::{AgentFacts, Facts, ProfileFacts, StoreFacts};
use crate::doctor::repair::Repair;
use crate::doctor::{Finding, is_external};

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    for agent in facts.asked() {
        let Some(store) = &agent.store else { continue };
        for profile in &store.profiles {
            findings.extend(login(facts, agent, store, profile));
        }
        entries(&agent.id, store, findings);
        blemishes(agent, store, findings);
    }
    records(facts, findings);
    findings.extend(facts.copies.iter().filter_map(copies));
}

/// The command that makes a profile work again.
fn anew(agent: &AgentId, profile: &ProfileFacts) -> String {
    match profile.kind {
        CredentialKind::OAuth => login_command(&profile.provider, &profile.id, agent),
        kind => paste_command(&profile.provider, &profile.id, kind, agent),
    }
}

fn login(facts: &Facts, agent: &AgentFacts, store: &StoreFacts, profile: &ProfileFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = Some(store.path.as_path());
    let mut add = |kind, what: String, fix: String| {
        findings.push(Finding::by_hand(kind, path, what, fix));
    };
    let who = format!("{} of agent {}", profile.id, agent.id);
    let ended = profile.expires.is_some_and(|expires| expires <= facts.now);
    match profile.kind {
        CredentialKind::OAuth => {
            if let Some(refused) = &profile.refused {
                let what = format!("{who}: the provider refused its refresh token ({refused})");
                add(&check::GRANT_REFUSED, what, anew(&agent.id, profile));
            } else if ended && !profile.has_refresh {
                let what = format!("{who} has ended and has no refresh token");
                add(&check::GRANT_WITHOUT_REFRESH, what, anew(&agent.id, profile));
            }
        }
        CredentialKind::Token if ended => {
            add(
                &check::TOKEN_EXPIRED,
                format!("{who} has ended"),
                anew(&agent.id, profile),
            );
        }
        CredentialKind::Token | CredentialKind::ApiKey => {}
    }
    if !profile.is_known_provider {
        let what = format!(
            "{who} is of provider {}, which has no definition",
            profile.provider
        );
        let fix = format!(
            "write tokensink/providers/{}.toml (docs/plugins.md), or remove it: tokensink models auth{} logout {}",
            profile.provider,
            for_agent(&agent.id),
            quoted(profile.id.as_str())
        );
        add(&check::UNKNOWN_PROVIDER, what, fix);
    }
    findings
}

fn entries(agent: &AgentId, store: &StoreFacts, findings: &mut Vec<Finding>) {
    for (key, reason) in &store.ignored {
        let what = format!("entry {key:?} of agent {agent} is not used: {reason}");
        let fix = format!("correct or remove it in {}", store.path.display());
        findings.push(Finding::by_hand(
            &check::IGNORED_ENTRY,
            Some(&store.path),
            what,
            fix,
        ));
    }
}

/// One finding per profile and kind: a paste that went wrong went wrong once.
fn blemishes(agent: &AgentFacts, store: &StoreFacts, findings: &mut Vec<Finding>) {
    let mut by_profile: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for blemish in &store.blemishes {
        by_profile
            .entry((blemish.kind, &blemish.id))
            .or_default()
            .push(blemish.field);
    }
    for ((kind, id), fields) in by_profile {
        let who = format!("{} of {id} of agent {}", fields.join(" and "), agent.id);
        let path = &store.path;
        let Some(profile) = store.profiles.iter().find(|profile| profile.id == *id) else {
            continue;
        };
        findings.push(match kind {
            BlemishKind::CodeAndState => {
                let what = format!("{who} holds a #, as a login page's code does");
                Finding::by_hand(&check::PASTED_CODE, Some(path), what, anew(&agent.id, profile))
            }
            BlemishKind::InnerSpace => {
                let what = format!("{who} holds white space");
                Finding::by_hand(&check::SPACED_SECRET, Some(path), what, anew(&agent.id, profile))
            }
            BlemishKind::Untidy => {
                let what = format!("{who} has white space around it");
                let repair = Repair::TidySecret {
                    agent: agent.id.clone(),
                    profile: id.clone(),
                };
                let fix = "tokensink doctor --fix takes it away";
                Finding::with_repair(&check::UNTIDY_SECRET, path, what, fix, repair)
            }
        });
    }
}

fn records(facts: &Facts, findings: &mut Vec<Finding>) {
    for record in &facts.records {
        // A record of another program's login is named after that program's file.
        let is_ours = record
            .store
            .file_name()
            .is_some_and(|name| name == "auth-profiles.json");
        let mut stores = facts.agents.iter().filter_map(|agent| agent.store.as_ref());
        let is_orphan = match stores.find(|store| store.real_path == record.store) {
            Some(store) => !store.profiles.iter().any(|profile| profile.id == record.profile),
            None => !record.store_exists,
        };
        if is_ours && is_orphan && !is_external(&record.profile) {
            let what = format!(
                "{} belongs to {}, which is not in {}",
                record.path.display(),
                record.profile,
                record.store.display()
            );
            let fix = format!(
                "if the login is gone for good, let doctor set it aside; if its folder has moved, put it back to {}",
                record.store.display()
            );
            let repair = Repair::SetRecordAside {
                record: record.path.clone(),
            };
            findings.push(Finding::with_repair(
                &check::ORPHAN_RECORD,
                &record.path,
                what,
                fix,
                repair,
            ));
        }
    }
}

/// A grant with two holders is an error; a live one in a backup is a warning. Files that are only imported from, and
/// what was set aside, nobody refreshes: they are told by `--duplicates` alone.
fn copies(copies: &Copies) -> Option<Finding> {
    let owner = copies.places.first().filter(|_| copies.has_owner())?;
    let is_backup = |kind: &CopyKind| *kind == CopyKind::Backup;
    let kind = if copies.live() > 1 {
        &check::DUPLICATE_GRANT
    } else if copies.places.iter().any(|place| is_backup(&place.kind)) {
        &check::GRANT_IN_BACKUP
    } else {
        return None;
    };
    let others: Vec<_> = copies.places[1..]
        .iter()
        .filter(|place| place.kind.is_live() || is_backup(&place.kind))
        .collect();
    let places: Vec<String> = others
        .iter()
        .map(|place| format!("{} ({})", place.in_words(), place.path.display()))
        .collect();
    let what = format!(
        "the grant of {} ({}) also stands in {}",
        owner.in_words(),
        owner.path.display(),
        places.join(", ")
    );
    let mut fixes: Vec<String> = others.iter().filter_map(|place| place.remedy()).collect();
    if fixes.is_empty() {
        fixes.push("log in anew in all but one of these programs".to_owned());
    }
    let path = others.first().map(|place| place.path.as_path());
    Some(Finding::by_hand(kind, path, what, fixes.join("\n")))
}
