//! What `openclaw.json` and the agents' states say of logins that are not there, or not so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokensink_types::{AgentId, CredentialKind, ProfileId, ProviderId};

use super::{for_agent, word};
use crate::block::quoted;
use crate::doctor::check;
use crate::doctor::facts::{AgentFacts, ConfigFacts, ConfigProfileFacts, Facts, ProfileFacts};
use crate::doctor::repair::Repair;
use crate::doctor::{Finding, is_external};

/// The provider that was renamed, and its later name (spec.md 3.5).
const RENAMED: (&str, &str) = ("openai-codex", "openai");

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    folders(facts, findings);
    if !facts.knows_all_profiles() {
        // Of a store that cannot be read nobody knows what is in it.
        return;
    }
    let mut told = BTreeSet::new();
    if let Some(config) = &facts.config {
        for entry in &config.profiles {
            findings.extend(entry_finding(facts, config, entry).inspect(|_| {
                told.insert(entry.id.clone());
            }));
        }
        for (provider, ids) in &config.orders {
            for id in ids {
                if told.contains(id) || is_external(id) || exists(facts, id) {
                    continue;
                }
                findings.push(order_finding(facts, config, provider, id));
                told.insert(id.clone());
            }
        }
    }
    for agent in facts.asked() {
        state(facts, agent, findings);
        pins(facts, agent, findings);
    }
}

/// Is the profile in any store?
fn exists(facts: &Facts, id: &ProfileId) -> bool {
    facts.profiles().any(|(_, profile)| profile.id == *id)
}

fn folders(facts: &Facts, findings: &mut Vec<Finding>) {
    for (index, agent) in facts.agents.iter().enumerate() {
        let first = facts.agents[..index]
            .iter()
            .find(|known| known.real_dir == agent.real_dir);
        if let Some(first) = first {
            let what = format!(
                "agents {} and {} both live in {}",
                first.id,
                agent.id,
                agent.dir.display()
            );
            let fix = format!(
                "give one of them a folder of its own in openclaw.json (agents.list[].agentDir), then log in for it: \
                 tokensink models auth login{}",
                for_agent(&agent.id)
            );
            findings.push(Finding::by_hand(
                &check::SHARED_AGENT_DIR,
                Some(&agent.dir),
                what,
                fix,
            ));
        }
        if let Some(other) = &agent.other_state {
            let what = format!(
                "agent {} lives in {}, a part of {}",
                agent.id,
                agent.dir.display(),
                other.display()
            );
            let fix = format!(
                "use one state directory for both (OPENCLAW_STATE_DIR={}), or give the agent a folder and a login of its own",
                word(other)
            );
            findings.push(Finding::by_hand(
                &check::AGENT_DIR_OF_OTHER_STATE,
                Some(&agent.dir),
                what,
                fix,
            ));
        }
    }
}

/// What is wrong with an entry of `auth.profiles`.
fn entry_finding(facts: &Facts, config: &ConfigFacts, entry: &ConfigProfileFacts) -> Option<Finding> {
    let id = &entry.id;
    let stored: Vec<&ProfileFacts> = facts
        .profiles()
        .map(|(_, profile)| profile)
        .filter(|profile| profile.id == *id)
        .collect();
    if !stored.is_empty() {
        return mismatch(config, entry, &stored);
    }
    // Modes of later ages, such as aws-sdk, need no stored secret.
    let kind = CredentialKind::parse(&entry.mode)?;
    if is_external(id) {
        return None;
    }
    if kind == CredentialKind::OAuth
        && let Some(to) = successor(facts, entry)
    {
        let what = format!("auth.profiles names {id}, but the login is stored as {}", to.id);
        let fix = format!("tokensink doctor --fix renames it to {}", to.id);
        let repair = Repair::RenameInConfig {
            from: id.clone(),
            to: to.id.clone(),
            provider: entry.provider.clone(),
            email: to.email.clone(),
        };
        return Some(Finding::with_repair(
            &check::LEGACY_DEFAULT_ID,
            &config.path,
            what,
            fix,
            repair,
        ));
    }
    if let Some(finding) = other_age(facts, config, id) {
        return Some(finding);
    }
    let what = format!("auth.profiles names {id}, which no agent has");
    let fix = format!(
        "tokensink doctor --fix removes the entry; to log in instead: {}",
        crate::block::login_command(&entry.provider, id, &AgentId::main())
    );
    let repair = Repair::RemoveFromConfig { id: id.clone() };
    Some(Finding::with_repair(
        &check::MISSING_PROFILE,
        &config.path,
        what,
        fix,
        repair,
    ))
}

/// Do the stored profiles of this id contradict the entry? A stored token goes with `oauth` (spec.md 4.3).
fn mismatch(config: &ConfigFacts, entry: &ConfigProfileFacts, stored: &[&ProfileFacts]) -> Option<Finding> {
    let fits = |profile: &&ProfileFacts| {
        let mode = CredentialKind::parse(&entry.mode);
        let bearer = mode == Some(CredentialKind::OAuth) && profile.kind == CredentialKind::Token;
        profile.provider == entry.provider && (mode == Some(profile.kind) || mode.is_none() || bearer)
    };
    let wrong = stored.iter().find(|profile| !fits(profile))?;
    let same = |one: &&&ProfileFacts| one.kind == wrong.kind && one.provider == wrong.provider;
    let what = format!(
        "auth.profiles says that {} is {} of {}; stored is {} of {}",
        entry.id,
        entry.mode,
        entry.provider,
        wrong.kind.as_str(),
        wrong.provider
    );
    let fix = format!(
        "set auth.profiles[\"{}\"] to provider {:?} and mode {:?} in openclaw.json",
        entry.id,
        wrong.provider.as_str(),
        wrong.kind.as_str()
    );
    let path = &config.path;
    if stored.iter().filter(same).count() != stored.len() {
        return Some(Finding::by_hand(&check::PROFILE_MISMATCH, Some(path), what, fix));
    }
    let repair = Repair::CorrectInConfig {
        id: entry.id.clone(),
        provider: wrong.provider.clone(),
        mode: wrong.kind,
        email: wrong.email.clone(),
    };
    Some(Finding::with_repair(
        &check::PROFILE_MISMATCH,
        path,
        what,
        fix,
        repair,
    ))
}

/// The stored login that an entry `<provider>:default` means (spec.md 3.4): the one with the config's e-mail, else
/// `lastGood`, else the only one, else the only one whose name looks like an address.
fn successor<'a>(facts: &'a Facts, entry: &ConfigProfileFacts) -> Option<&'a ProfileFacts> {
    if entry.id.name_part() != "default" {
        return None;
    }
    let candidates: Vec<&ProfileFacts> = facts
        .profiles()
        .map(|(_, profile)| profile)
        .filter(|profile| profile.provider == entry.provider && profile.kind == CredentialKind::OAuth)
        .filter(|profile| !is_external(&profile.id))
        .collect();
    let by_email = || {
        let email = entry.email.as_deref()?;
        let id = format!("{}:{email}", entry.provider);
        candidates
            .iter()
            .find(|one| one.email.as_deref() == Some(email) || one.id.as_str() == id)
    };
    let last_good = || {
        let store = facts.agent(&AgentId::main())?.store.as_ref()?;
        let (_, id) = store
            .last_good
            .iter()
            .find(|(provider, _)| *provider == entry.provider)?;
        candidates.iter().find(|one| one.id == *id)
    };
    let address = |one: &&&ProfileFacts| one.id.name_part().contains('@') && one.id.name_part().contains('.');
    by_email()
        .or_else(last_good)
        .or_else(|| only(candidates.iter()))
        .or_else(|| only(candidates.iter().filter(address)))
        .copied()
}

/// The element of a sequence of one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// An id under the other age's name of its provider, for a login that is stored under this age's.
fn other_age(facts: &Facts, config: &ConfigFacts, id: &ProfileId) -> Option<Finding> {
    let provider = id.provider_part()?;
    let other = match provider {
        _ if provider == RENAMED.0 => RENAMED.1,
        _ if provider == RENAMED.1 => RENAMED.0,
        _ => return None,
    };
    let wanted = format!("{other}:{}", id.name_part());
    let (_, to) = facts
        .profiles()
        .find(|(_, profile)| profile.id.as_str() == wanted)?;
    let what = format!("the config names {id}, but the login is stored as {}", to.id);
    let fix = format!(
        "tokensink doctor --fix renames it to {}; not while a later OpenClaw uses this config",
        to.id
    );
    let repair = Repair::RenameInConfig {
        from: id.clone(),
        to: to.id.clone(),
        provider: to.provider.clone(),
        email: to.email.clone(),
    };
    Some(Finding::with_repair(
        &check::CODEX_ID_OF_OTHER_AGE,
        &config.path,
        what,
        fix,
        repair,
    ))
}

fn order_finding(facts: &Facts, config: &ConfigFacts, provider: &ProviderId, id: &ProfileId) -> Finding {
    if let Some(finding) = other_age(facts, config, id) {
        return finding;
    }
    let what = format!("auth.order of {provider} names {id}, which no agent has");
    let repair = Repair::RemoveFromConfig { id: id.clone() };
    let fix = "tokensink doctor --fix takes it out";
    Finding::with_repair(&check::DEAD_ORDER, &config.path, what, fix, repair)
}

/// What an agent's `auth-state.json` says of profiles that the agent cannot see.
fn state(facts: &Facts, agent: &AgentFacts, findings: &mut Vec<Finding>) {
    let Some(store) = &agent.store else { return };
    let is_gone = |id: &&ProfileId| is_gone(facts, agent, id);
    let mut dead: BTreeSet<&ProfileId> = BTreeSet::new();
    for (provider, ids) in &store.orders {
        for id in ids.iter().filter(is_gone) {
            if !dead.insert(id) {
                continue;
            }
            let what = format!(
                "the order of {provider} of agent {} names {id}, which it does not have",
                agent.id
            );
            let fix = order_fix(agent, provider, ids, &is_gone);
            findings.push(forget(
                &check::DEAD_ORDER,
                agent,
                id,
                &store.state_path,
                what,
                fix,
            ));
        }
    }
    for id in store.mentioned.iter().filter(is_gone) {
        if dead.insert(id) {
            let what = format!(
                "the state of agent {} speaks of {id}, which it does not have",
                agent.id
            );
            let fix = "tokensink doctor --fix takes it out".to_owned();
            findings.push(forget(
                &check::DEAD_REFERENCE,
                agent,
                id,
                &store.state_path,
                what,
                fix,
            ));
        }
    }
}

/// Is the profile neither the agent's own, nor one that it inherits, nor another program's?
fn is_gone(facts: &Facts, agent: &AgentFacts, id: &ProfileId) -> bool {
    let is_seen = |owner: &AgentId| *owner == agent.id || (agent.inherits && owner.is_main());
    let stored = facts
        .profiles()
        .any(|(owner, profile)| profile.id == *id && is_seen(&owner.id));
    !stored && !is_external(id)
}

/// Sessions that keep a profile which their agent does not see: one finding a profile, the users' choices apart.
fn pins(facts: &Facts, agent: &AgentFacts, findings: &mut Vec<Finding>) {
    let dead = agent
        .pins
        .iter()
        .filter(|pin| is_gone(facts, agent, &pin.profile));
    let mut by_profile: BTreeMap<(&ProfileId, bool), Vec<&str>> = BTreeMap::new();
    for pin in dead {
        let sessions = by_profile.entry((&pin.profile, pin.is_chosen)).or_default();
        sessions.push(pin.session.as_str());
    }
    for ((profile, is_chosen), sessions) in by_profile {
        let kind = if is_chosen {
            &check::DEAD_PIN
        } else {
            &check::DEAD_AUTOMATIC_PIN
        };
        let more = match sessions.len() {
            1 => String::new(),
            many => format!(" and {} more", many - 1),
        };
        let what = format!(
            "session {}{more} of agent {} {} {profile}, which the agent does not have",
            sessions[0],
            agent.id,
            if is_chosen { "is pinned to" } else { "keeps" }
        );
        let login = profile
            .provider_part()
            .and_then(|part| ProviderId::parse(part).ok());
        let login = login.map_or_else(String::new, |provider| {
            let command = crate::block::login_command(&provider, profile, &agent.id);
            format!("; to keep it, log in under that id: {command}")
        });
        let fix = format!("tokensink doctor --fix takes the pin away{login}");
        let repair = Repair::Unpin {
            agent: agent.id.clone(),
            profile: profile.clone(),
        };
        findings.push(Finding::with_repair(
            kind,
            &agent.sessions_path,
            what,
            fix,
            repair,
        ));
    }
}

/// The command that stores the order without its dead ids.
fn order_fix(
    agent: &AgentFacts,
    provider: &ProviderId,
    ids: &[ProfileId],
    is_gone: &dyn Fn(&&ProfileId) -> bool,
) -> String {
    let living: Vec<String> = ids
        .iter()
        .filter(|id| !is_gone(id))
        .map(|id| quoted(id.as_str()))
        .collect();
    let agent = for_agent(&agent.id);
    if living.is_empty() {
        format!("tokensink models auth order clear --provider {provider}{agent}")
    } else {
        let living = living.join(" ");
        format!("tokensink models auth order set --provider {provider}{agent} {living}")
    }
}

fn forget(
    kind: &'static check::Check,
    agent: &AgentFacts,
    id: &ProfileId,
    path: &Path,
    what: String,
    fix: String,
) -> Finding {
    let repair = Repair::ForgetInState {
        agent: agent.id.clone(),
        profile: id.clone(),
    };
    Finding::with_repair(kind, path, what, fix, repair)
}
