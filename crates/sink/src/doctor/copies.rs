//! Copies of one grant: who has them, which is the owner's, and how the others go.
//!
//! Pure. A refresh token is known by a fingerprint under a key of this run, which tells copies from one another and
//! means nothing to anybody else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokensink_types::{AgentId, ProfileId};

use crate::block::quoted;

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyKind {
    /// The file of another program that owns the login, such as Claude Code.
    OtherProgram(&'static str),
    /// A profile of an agent.
    Profile {
        /// Whose store.
        agent: AgentId,
        /// Which profile; `None` for an entry of the file that is no profile.
        profile: Option<ProfileId>,
    },
    /// A legacy file that is only ever imported from.
    Legacy,
    /// Any other file: a backup, an archive of the state directory, something left behind.
    Backup,
    /// A file that was set aside, or left half-written.
    Aside,
}

impl CopyKind {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::OtherProgram(_) => "other-program",
            Self::Profile { .. } => "profile",
            Self::Legacy => "legacy",
            Self::Backup => "backup",
            Self::Aside => "set-aside",
        }
    }

    /// True where somebody refreshes it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::OtherProgram(_) | Self::Profile { .. })
    }
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyPlace {
    /// What kind of place it is.
    pub kind: CopyKind,
    /// The file.
    pub path: PathBuf,
}

impl CopyPlace {
    /// The place in words, without the path.
    #[must_use]
    pub fn in_words(&self) -> String {
        match &self.kind {
            CopyKind::OtherProgram(title) => format!("the login of {title}"),
            CopyKind::Profile {
                agent,
                profile: Some(profile),
            } => format!("{profile} of agent {agent}"),
            CopyKind::Profile { agent, profile: None } => format!("an unused entry of agent {agent}"),
            CopyKind::Legacy => "a file of older versions, only read for imports".to_owned(),
            CopyKind::Backup => "a backup or leftover".to_owned(),
            CopyKind::Aside => "a file that was set aside or left half-written".to_owned(),
        }
    }

    /// How this copy goes when another one is kept.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match &self.kind {
            CopyKind::OtherProgram(_) => None,
            CopyKind::Profile {
                agent,
                profile: Some(profile),
            } => {
                let agent = if agent.is_main() {
                    String::new()
                } else {
                    format!(" --agent {}", quoted(agent.as_str()))
                };
                let profile = quoted(profile.as_str());
                Some(format!("tokensink models auth{agent} logout {profile}"))
            }
            CopyKind::Profile { profile: None, .. } => {
                Some(format!("remove it from {}", self.path.display()))
            }
            CopyKind::Legacy | CopyKind::Backup | CopyKind::Aside => {
                Some(format!("rm {}", quoted(&self.path.to_string_lossy())))
            }
        }
    }
}

/// One grant in several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// Tells this grant from others in this report, and in no other.
    pub fingerprint: String,
    /// The places; the owner's comes first where [`Copies::has_owner`] says so.
    pub places: Vec<CopyPlace>,
}

impl Copies {
    /// True when somebody uses the grant, so that one place is its owner's.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.places.first().is_some_and(|place| place.kind.is_live())
    }

    /// How many places there are where somebody refreshes it.
    #[must_use]
    pub fn live(&self) -> usize {
        self.places.iter().filter(|place| place.kind.is_live()).count()
    }

    /// The group as it stands in `doctor --json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let place = |(index, place): (usize, &CopyPlace)| {
            let owner = index == 0 && self.has_owner();
            json!({
                "kind": place.kind.as_str(),
                "what": place.in_words(),
                "path": place.path.to_string_lossy(),
                "owner": owner,
                "fix": place.remedy().filter(|_| !owner),
            })
        };
        json!({
            "fingerprint": self.fingerprint,
            "places": self.places.iter().enumerate().map(place).collect::<Vec<_>>(),
        })
    }
}

/// Groups places by fingerprint and keeps the grants that stand in more than one. The owner's place comes first:
/// another program's file, since that program will refresh whatever we do; then main's store; then the agents'.
pub(super) fn group(found: Vec<(String, CopyPlace)>) -> Vec<Copies> {
    let mut groups: BTreeMap<String, Vec<CopyPlace>> = BTreeMap::new();
    for (fingerprint, place) in found {
        let places = groups.entry(fingerprint).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut groups: Vec<Copies> = groups
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(fingerprint, mut places)| {
            places.sort_by_key(|place| (rank(&place.kind), place.clone()));
            Copies { fingerprint, places }
        })
        .collect();
    groups.sort_by(|one, other| one.places.cmp(&other.places));
    groups
}

fn rank(kind: &CopyKind) -> u8 {
    match kind {
        CopyKind::OtherProgram(_) => 0,
        CopyKind::Profile { agent, profile } if agent.is_main() && profile.is_some() => 1,
        CopyKind::Profile { profile: Some(_), .. } => 2,
        CopyKind::Profile { profile: None, .. } => 3,
        CopyKind::Legacy => 4,
        CopyKind::Backup => 5,
        CopyKind::Aside => 6,
    }
}
