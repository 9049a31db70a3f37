//! The agents' stores and the refresh records.

use std::path::{Path, PathBuf};

use tokensink_policy::pin::PinSource;
use tokensink_store::{RecordKey, Scan, StoreError, Warning, blemishes, real_path};
use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{AgentId, BillingClass, Credential, Expiry, ProfileId, SpendKey, UnixMillis};

use super::{Looking, broken};
use crate::doctor::facts::{
    AgentFacts, Broken, BrokenKind, Facts, PinFacts, ProfileFacts, RecordFacts, StoreFacts,
};
use crate::sessions::source_of;

pub(super) fn look(looking: &Looking<'_>, facts: &mut Facts) {
    let journal = looking.doctor.journal();
    let scan = journal.list().unwrap_or_else(|error| Scan {
        unreadable: vec![error],
        ..Scan::default()
    });
    for error in &scan.unreadable {
        facts
            .broken
            .push(broken(error, BrokenKind::Record, looking.doctor));
    }
    let store = looking.doctor.store();
    let agents = match store.agents() {
        Ok(agents) => agents,
        Err(error) => {
            facts
                .broken
                .push(broken(&error, BrokenKind::Unreadable, looking.doctor));
            vec![AgentId::main()]
        }
    };
    for agent in agents {
        let one = agent_facts(looking, &agent, &scan.records, &mut facts.broken);
        facts.agents.push(one);
    }
    let files = &*looking.doctor.host.files;
    facts.records = scan
        .records
        .iter()
        .map(|record| RecordFacts {
            path: journal.path(&RecordKey::of(record)),
            store_exists: !matches!(files.stat(Path::new(&record.store)), Ok(None)),
            store: PathBuf::from(&record.store),
            profile: record.profile.clone(),
            issued_at: record.generation.as_ref().and_then(|newest| newest.issued_at),
        })
        .collect();
}

fn agent_facts(
    looking: &Looking<'_>,
    agent: &AgentId,
    records: &[Record],
    wrong: &mut Vec<Broken>,
) -> AgentFacts {
    let files = &*looking.doctor.host.files;
    let dir = looking.paths.agent_dir(agent);
    let real_dir = real_path(files, &dir).unwrap_or_else(|_| dir.clone());
    AgentFacts {
        id: agent.clone(),
        other_state: other_state(looking, &real_dir),
        inherits: !agent.is_main()
            && looking
                .settings
                .as_ref()
                .is_none_or(|settings| settings.inherits(agent)),
        store: if is_out_of_reach(looking, agent, &dir) {
            None
        } else {
            store_facts(looking, agent, records, wrong)
        },
        sessions_path: looking.paths.sessions_file(agent),
        pins: pins(looking, agent, wrong),
        dir,
        real_dir,
    }
}

/// The sessions that keep a profile, by session.
fn pins(looking: &Looking<'_>, agent: &AgentId, wrong: &mut Vec<Broken>) -> Vec<PinFacts> {
    let doctor = looking.doctor;
    let sessions = match doctor.sessions().load(agent) {
        Ok(sessions) => sessions,
        Err(error) => {
            wrong.push(broken(&error, BrokenKind::Unreadable, doctor));
            return Vec::new();
        }
    };
    for unreadable in &sessions.unreadable {
        let error = StoreError::Unreadable(Box::new(unreadable.clone()));
        wrong.push(broken(&error, BrokenKind::Sessions(agent.clone()), doctor));
    }
    let pinned = sessions.map.iter().flat_map(|(key, session)| {
        let facts = |profile: &ProfileId, is_chosen| PinFacts {
            session: key.clone(),
            profile: profile.clone(),
            is_chosen,
        };
        let own = session.profile.iter();
        let own = own.map(move |profile| facts(profile, source_of(session) == PinSource::User));
        own.chain(
            session
                .others
                .values()
                .map(move |other| facts(&other.profile, false)),
        )
    });
    pinned.collect()
}

/// A store behind a link that leads nowhere, or in a folder elsewhere that is not there: perhaps a disk that is not
/// mounted. Nobody knows what is in it, which is not the same as nothing.
fn is_out_of_reach(looking: &Looking<'_>, agent: &AgentId, dir: &Path) -> bool {
    let files = &*looking.doctor.host.files;
    let dangles = |path: &Path| {
        let leads = matches!(files.link_target(path), Ok(Some(_)));
        leads && matches!(files.stat(path), Ok(None))
    };
    let is_elsewhere = !dir.starts_with(looking.paths.state_dir());
    let is_missing = matches!(files.stat(dir), Ok(None));
    dangles(dir) || dangles(&looking.paths.profiles_file(agent)) || (is_elsewhere && is_missing)
}

/// The state directory, other than ours, to which `<state>/agents/<id>/agent` belongs by its files.
fn other_state(looking: &Looking<'_>, real_dir: &Path) -> Option<PathBuf> {
    let files = &*looking.doctor.host.files;
    let ours = real_path(files, looking.paths.state_dir()).ok()?;
    let agents = real_dir.parent()?.parent()?;
    let state = agents.parent()?;
    let is_layout = agents.file_name()? == "agents" && real_dir.file_name()? == "agent";
    if !is_layout || state == ours {
        return None;
    }
    let lives = ["openclaw.json", "tokensink", "locks"]
        .iter()
        .any(|name| matches!(files.stat(&state.join(name)), Ok(Some(_))));
    lives.then(|| state.to_owned())
}

fn store_facts(
    looking: &Looking<'_>,
    agent: &AgentId,
    records: &[Record],
    wrong: &mut Vec<Broken>,
) -> Option<StoreFacts> {
    let doctor = looking.doctor;
    let store = doctor.store();
    let loaded = match store.load(agent) {
        Ok(loaded) => loaded,
        Err(error) => {
            wrong.push(broken(&error, BrokenKind::Store(agent.clone()), doctor));
            return None;
        }
    };
    let owner = store.owner_path(agent).unwrap_or_default();
    let mut facts = StoreFacts {
        path: loaded.path.clone(),
        real_path: PathBuf::from(&owner),
        state_path: loaded.state_path.clone(),
        orders: loaded.state.orders(),
        last_good: loaded.state.last_goods(),
        ..StoreFacts::default()
    };
    let mentioned = loaded.state.usages().into_iter().map(|(id, _)| id);
    facts.mentioned = mentioned
        .chain(facts.last_good.iter().map(|(_, id)| id.clone()))
        .collect();
    for warning in &loaded.warnings {
        match warning {
            Warning::StateUnreadable(unreadable) => {
                let error = StoreError::Unreadable(Box::new(unreadable.clone()));
                wrong.push(broken(&error, BrokenKind::State(agent.clone()), doctor));
            }
            Warning::Ignored { entries, .. } => {
                let words = entries
                    .iter()
                    .map(|one| (one.key.clone(), one.reason.as_str().replace('_', " ")));
                facts.ignored = words.collect();
            }
            _ => {}
        }
    }
    let bytes = doctor.host.files.read(&loaded.path).map(zeroize::Zeroizing::new);
    facts.blemishes = bytes
        .ok()
        .and_then(|bytes| blemishes(&bytes).ok())
        .unwrap_or_default();
    for entry in loaded.profiles.entries() {
        let record = records
            .iter()
            .find(|record| record.store == owner && record.profile == entry.id);
        facts.profiles.push(ProfileFacts {
            id: entry.id.clone(),
            ..profile_facts(looking, &entry.id, &entry.credential, record)
        });
    }
    Some(facts)
}

fn profile_facts(
    looking: &Looking<'_>,
    id: &ProfileId,
    credential: &Credential,
    record: Option<&Record>,
) -> ProfileFacts {
    let registry = &looking.registry;
    let oauth = credential.as_oauth();
    let client_id = oauth.and_then(|oauth| oauth.client_id.as_deref());
    let tokens = oauth.map(|oauth| &oauth.tokens);
    let in_store = tokens.and_then(|tokens| tokens.refresh_token()).map(SpendKey::of);
    // A record may be ahead of its store (design: Refresh, step 1).
    let ahead = record.filter(|record| in_store.is_some_and(|key| record.is_ancestor(key)));
    let newest = ahead.and_then(|record| record.generation.as_ref());
    let expires: Option<UnixMillis> = match credential {
        Credential::OAuth(oauth) => newest.map_or(oauth.tokens.expires, |newest| newest.tokens.expires),
        Credential::Token(token) => match token.expires {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::Invalid => None,
        },
        Credential::ApiKey(_) => None,
    };
    let by_definition = registry.billing_for(credential.provider(), credential.kind(), client_id);
    let by_user = looking
        .settings
        .as_ref()
        .and_then(|settings| settings.billing(id));
    ProfileFacts {
        id: id.clone(),
        provider: credential.provider().clone(),
        kind: credential.kind(),
        email: credential.labels().email.clone(),
        expires,
        has_refresh: in_store.is_some(),
        is_known_provider: registry.get(&registry.canonical(credential.provider())).is_some(),
        billing: by_user.or(by_definition).unwrap_or(BillingClass::Metered),
        refused: record.and_then(|record| refusal(record, in_store?)),
    }
}

/// What the server said of the present refresh token, where it refused it for good.
fn refusal(record: &Record, key: SpendKey) -> Option<String> {
    let newest = record.generation.as_ref().and_then(Generation::spend_key);
    let present = if record.is_ancestor(key) {
        newest
    } else {
        Some(key)
    };
    let is_present = |spent: &SpendKey| Some(*spent) == present;
    match &record.state {
        RecordState::Refused {
            spent,
            code,
            description,
            ..
        } if is_present(spent) => Some(if description.is_empty() {
            code.clone()
        } else {
            format!("{code}: {description}")
        }),
        RecordState::Parked { spent, .. } if is_present(spent) => {
            Some("it answered with another account's tokens".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, generation, spend};

    #[test]
    fn a_refusal_counts_for_the_present_refresh_token() {
        let world = World::new();
        let refused = |spent: &str, ancestors: &[&str]| {
            world.record("main", "rig:a", generation("a", -1), |record| {
                record.state = RecordState::Refused {
                    spent: spend(spent),
                    code: "invalid_grant".to_owned(),
                    description: "gone".to_owned(),
                    after_lost_answer: false,
                    at: UnixMillis(0),
                };
                record.ancestors = ancestors.iter().map(|name| spend(name)).collect();
            });
            world.recorded("main", "rig:a").unwrap()
        };
        let told = Some("invalid_grant: gone".to_owned());
        assert_eq!(refusal(&refused("a", &[]), spend("a")), told);
        assert_eq!(
            refusal(&refused("a", &["old"]), spend("old")),
            told,
            "the record is ahead of the store"
        );
        assert_eq!(refusal(&refused("a", &[]), spend("new")), None, "a newer login");
        assert_eq!(refusal(&refused("old", &["old"]), spend("a")), None);
    }
}
