//! What a place holds, in the words that a decision needs.

use tokensink_host::{FileStamp, Host};
use tokensink_types::{Credential, ProviderId, Secret, UnixMillis};

use crate::load::{Content, load};
use crate::place::Place;
use crate::{Neighbour, claude, codex, oauth_creds, opencode};

/// What was found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A login.
    Login(Box<Login>),
    /// The login's section stands, and its tokens are blank, as Claude Code leaves it after a refusal (clients.md
    /// 0.4). Never imported; whoever still has the grant may heal it.
    Blanked(Box<Login>),
    /// The file is there and holds no login: the user logged out, which is respected.
    SignedOut,
    /// Nothing is there: never logged in, or a logout of a program that removes its file (`codex logout`).
    Missing,
    /// Something is there that we cannot use: torn after several reads, or of a shape that we do not know.
    Unusable {
        /// What is wrong, with the place. Holds no secret.
        reason: String,
    },
    /// The Keychain would ask the user, and may not, or was refused.
    Locked {
        /// What the user can do.
        hint: String,
    },
}

impl Reading {
    /// The login that is there, a blanked one not counted.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Login(login) => Some(login),
            Self::Blanked(_)
            | Self::SignedOut
            | Self::Missing
            | Self::Unusable { .. }
            | Self::Locked { .. } => None,
        }
    }

    pub(crate) fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable {
            reason: reason.into(),
        }
    }
}

/// A login of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The credential. The identity in it is only what the store itself says.
    pub credential: Credential,
    /// The plan, a label for people.
    pub plan: Option<String>,
    /// The scopes that were granted, where the store says so.
    pub scopes: Vec<String>,
    /// The file's stamp at the time of reading: equal stamps mean that there is nothing new. `None` for a Keychain
    /// item.
    pub stamp: Option<FileStamp>,
    /// Why this login can be borrowed only: nothing may be written where we do not know what the program does.
    pub only_borrowed: Option<String>,
    /// What the login's section says besides its tokens, as a JSON text: what [`put_login`](crate::put_login) needs to
    /// give it back as it was. Empty where a login cannot be taken.
    pub frame: Secret,
}

impl Login {
    pub(crate) fn of(credential: Credential) -> Self {
        Self {
            credential,
            plan: None,
            scopes: Vec::new(),
            stamp: None,
            only_borrowed: None,
            frame: "".into(),
        }
    }
}

/// One of the logins of a store that may hold many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The program's name for it; for opencode the provider's id there.
    pub name: String,
    /// The provider by our id, where we can tell.
    pub provider: Option<ProviderId>,
    /// What was found.
    pub reading: Reading,
}

/// Reads a place. An opencode store with several logins is `Unusable` here; [`read_all`] reads it.
#[must_use]
pub fn read(host: &Host, place: &Place) -> Reading {
    if place.neighbour == Neighbour::OpenCode {
        return opencode::only(place, read_all(host, place));
    }
    match load(host, place) {
        Ok(content) => judge(host, place, content),
        Err(reading) => reading,
    }
}

/// Reads every login of a place: for opencode one per provider, for the others the one of [`read`].
#[must_use]
pub fn read_all(host: &Host, place: &Place) -> Vec<Named> {
    let one = |reading| {
        vec![Named {
            name: place.neighbour.as_str().to_owned(),
            provider: place.neighbour.provider(),
            reading,
        }]
    };
    if place.neighbour != Neighbour::OpenCode {
        return one(read(host, place));
    }
    match load(host, place) {
        Ok(mut content) => {
            let stamp = content.stamp;
            let mut all = opencode::parse(&mut content.map.0);
            for named in &mut all {
                finish(&mut named.reading, place, stamp);
            }
            all
        }
        Err(reading) => one(reading),
    }
}

/// What the loaded content says.
pub(crate) fn judge(host: &Host, place: &Place, mut content: Content) -> Reading {
    let written = content.modified().unwrap_or_else(|| host.clock.now());
    let mut reading = parse(place.neighbour, &mut content, written);
    finish(&mut reading, place, content.stamp);
    if place.neighbour == Neighbour::Codex
        && let Reading::Login(login) = &mut reading
        && login.only_borrowed.is_none()
    {
        login.only_borrowed = codex::other_store(host, place);
    }
    reading
}

fn parse(neighbour: Neighbour, content: &mut Content, written: UnixMillis) -> Reading {
    let map = &mut content.map.0;
    match neighbour {
        Neighbour::ClaudeCode => claude::parse(map),
        Neighbour::Codex => codex::parse(map, written),
        Neighbour::QwenCode | Neighbour::GeminiCli | Neighbour::MiniMax => oauth_creds::parse(neighbour, map),
        Neighbour::OpenCode => Reading::unusable("it may hold several logins"),
    }
}

fn finish(reading: &mut Reading, place: &Place, stamp: Option<FileStamp>) {
    match reading {
        Reading::Login(login) | Reading::Blanked(login) => {
            login.stamp = stamp;
            if !place.neighbour.may_cooperate() {
                let title = place.neighbour.title();
                login.only_borrowed =
                    Some(format!("it is not known by which locks {title} writes its login"));
            }
        }
        Reading::Unusable { reason } if !reason.contains(&place.to_string()) => {
            *reason = format!("{place}: {reason}");
        }
        Reading::SignedOut | Reading::Missing | Reading::Unusable { .. } | Reading::Locked { .. } => {}
    }
}
