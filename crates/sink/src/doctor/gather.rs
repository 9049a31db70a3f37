//! Looking: everything that doctor knows of a home, read and written down as [`Facts`].
//!
//! Nothing here judges and nothing fails: what cannot be read is itself a fact.

mod disk;
mod env;
mod grants;
mod locks;
mod places;
mod stores;

use tokensink_providers::{Registry, UserFile};
use tokensink_store::{Config, Paths, StoreError, Unreadable};

use super::Doctor;
use super::facts::{Broken, BrokenKind, ConfigFacts, ConfigProfileFacts, Facts};
use crate::settings::Settings;

/// What the parts of the looking share.
pub(super) struct Looking<'a> {
    pub(super) doctor: &'a Doctor,
    pub(super) paths: Paths,
    pub(super) registry: Registry,
    pub(super) settings: Option<Settings>,
}

/// Looks at everything; at the network only where asked.
pub(super) fn gather(doctor: &Doctor, net: bool) -> Facts {
    let host = &doctor.host;
    let mut facts = Facts {
        now: host.clock.now(),
        user: host.processes.user(),
        readonly: doctor.readonly,
        state_dir: doctor.paths.state_dir().to_owned(),
        ..Facts::default()
    };
    let settings = match Settings::load(&*host.files, &doctor.paths.settings_file()) {
        Ok(settings) => Some(settings),
        Err(error) => {
            facts.broken.push(Broken {
                path: doctor.paths.settings_file(),
                kind: BrokenKind::Settings,
                why: error.to_string(),
                fix: error.fix().map(str::to_owned),
            });
            None
        }
    };
    let config = match doctor.config_store().load() {
        Ok(config) => Some(config),
        Err(error) => {
            facts.broken.push(broken(&error, BrokenKind::Config, doctor));
            None
        }
    };
    facts.config = config
        .as_deref()
        .map(|config| config_facts(config, &doctor.paths));
    let looking = Looking {
        paths: doctor.paths_of_config(),
        registry: registry(doctor, &mut facts),
        settings,
        doctor,
    };
    stores::look(&looking, &mut facts);
    places::look(&looking, &mut facts);
    locks::look(&looking, &mut facts);
    env::look(&looking, &mut facts);
    disk::look(&looking, &mut facts);
    facts.copies = grants::look(&looking);
    if net {
        facts.network = env::try_network(&looking);
    }
    facts
}

/// A store's complaint as a fact; one of the system about the file is told apart from a text that does not parse.
fn broken(error: &StoreError, kind: BrokenKind, doctor: &Doctor) -> Broken {
    match error {
        StoreError::Unreadable(unreadable) => Broken {
            path: unreadable.path.clone(),
            kind,
            why: does_not_parse(unreadable),
            fix: error.command(),
        },
        StoreError::Io { path, .. } => Broken {
            path: path.clone(),
            kind: BrokenKind::Unreadable,
            why: error.to_string(),
            fix: error.command(),
        },
        other => Broken {
            path: doctor.paths.state_dir().to_owned(),
            kind: BrokenKind::Unreadable,
            why: other.to_string(),
            fix: other.command(),
        },
    }
}

/// What is wrong with a text, and where, without the store's own advice.
fn does_not_parse(unreadable: &Unreadable) -> String {
    let (path, failure) = (unreadable.path.display(), &unreadable.failure);
    let place = match failure.line {
        0 => String::new(),
        line => format!(" at line {line}, column {}", failure.column),
    };
    format!("{path} does not parse{place}: {}", failure.why)
}

fn config_facts(config: &Config, paths: &Paths) -> ConfigFacts {
    ConfigFacts {
        path: paths.config_file().to_owned(),
        profiles: config
            .auth_profiles()
            .into_iter()
            .map(|entry| ConfigProfileFacts {
                id: entry.id,
                provider: entry.provider,
                mode: entry.mode,
                email: entry.email,
            })
            .collect(),
        orders: config.auth_order(),
    }
}

/// The definitions in force, with what is wrong with the user's.
fn registry(doctor: &Doctor, facts: &mut Facts) -> Registry {
    let files = &*doctor.host.files;
    let dir = doctor.paths.providers_dir();
    let mut texts = Vec::new();
    for name in files.list(&dir).unwrap_or_default() {
        let path = dir.join(name);
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        match files.read(&path) {
            Ok(bytes) => texts.push(UserFile {
                text: String::from_utf8_lossy(&bytes).into_owned(),
                path,
            }),
            Err(error) => facts.broken.push(Broken {
                why: format!("{} cannot be read: {error}", path.display()),
                path,
                kind: BrokenKind::Unreadable,
                fix: None,
            }),
        }
    }
    let (registry, problems) = Registry::load(&texts);
    facts.provider_problems = problems;
    registry
}
