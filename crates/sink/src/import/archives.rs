//! What OpenClaw's newest age kept of the files that it took over: `<name>.migrated-<time>-<uuid>` with their original
//! bytes (openclaw-live.md 3). They tell which ids a login had before, and may hold tokens that are gone elsewhere.

use std::path::{Path, PathBuf};

use tokensink_host::Host;
use tokensink_neighbours::openclaw_db::fence::Fence;
use tokensink_store::foreign::{parse_flat, parse_profiles};
use tokensink_store::{ForeignProfiles, ParseFailure};
use tokensink_types::{AgentId, Credential, CredentialKind, OAuth, SpendKey};

use super::account_of;
use super::source::{Found, read_file};
use crate::block::{agent_option, quoted};

/// The store file.
pub(crate) const PROFILES: &str = "auth-profiles.json";
/// The flat legacy file.
pub(crate) const AUTH: &str = "auth.json";
/// The legacy file of the installation.
pub(crate) const OAUTH: &str = "oauth.json";

/// Reads the text of a file of this name, archived or not.
pub(crate) fn parse_named(name: &str, bytes: &[u8]) -> Result<ForeignProfiles, ParseFailure> {
    if name.starts_with(OAUTH) {
        parse_flat(bytes, Some(CredentialKind::OAuth))
    } else if name.starts_with(AUTH) {
        parse_flat(bytes, None)
    } else {
        parse_profiles(bytes)
    }
}

/// The entries of all archived files in these directories, newest file first. What cannot be read is passed over:
/// an archive is a help, not a source.
pub(crate) fn archived(host: &Host, dirs: &[PathBuf]) -> Vec<Found> {
    dirs.iter().flat_map(|dir| archived_in(host, dir)).collect()
}

fn archived_in(host: &Host, dir: &Path) -> Vec<Found> {
    let names = host.files.list(dir).unwrap_or_default();
    let of_ours = |name: &&str| {
        [PROFILES, AUTH, OAUTH].iter().any(|file| {
            name.strip_prefix(file)
                .is_some_and(|rest| rest.starts_with(".migrated-"))
        })
    };
    let mut names: Vec<&str> = names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(of_ours)
        .collect();
    // The names hold the time in a form that sorts; of one time the store counts before the legacy files.
    names.sort_by_key(|name| {
        let stamp = name.split_once(".migrated-").map_or("", |(_, stamp)| stamp);
        (std::cmp::Reverse(stamp), !name.starts_with(PROFILES))
    });
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(name);
        if let Ok(Some(file)) = read_file(host, &path, |bytes| parse_named(name, bytes)) {
            let entries = file.entries.into_iter();
            found.extend(entries.map(|entry| Found {
                entry,
                place: path.clone(),
            }));
        }
    }
    found
}

/// Is `older` the ancestor of `newer`: the same refresh token, or the same account?
pub(crate) fn is_ancestor(older: &Found, newer: &Found) -> bool {
    let (Some(a), Some(b)) = (
        older.entry.credential().as_oauth(),
        newer.entry.credential().as_oauth(),
    ) else {
        return false;
    };
    let same_key = key_of(a).is_some() && key_of(a) == key_of(b);
    same_key
        || account_of(older.entry.credential()).matches(&account_of(newer.entry.credential())) == Some(true)
}

fn key_of(oauth: &OAuth) -> Option<SpendKey> {
    oauth.tokens.refresh_token().map(SpendKey::of)
}

/// The marker in a grant that has lost its tokens.
pub(crate) fn fence_of(credential: &Credential) -> Option<Fence> {
    let tokens = &credential.as_oauth()?.tokens;
    let refresh = tokens.refresh.as_ref().and_then(Fence::of);
    refresh.or_else(|| Fence::of(&tokens.access))
}

/// Why a fenced grant is not taken over, and the command that helps. `ancestors` are the archived entries that may
/// be its own, newest first.
pub(crate) fn fenced(
    agent: &AgentId,
    found: &Found,
    fence: &Fence,
    ancestors: &[&Found],
    login: String,
) -> (String, String) {
    let state = if fence.failed {
        "OpenClaw has given up its tokens after a refresh that failed"
    } else {
        "OpenClaw was refreshing it and may still be, so that its tokens are not in the database"
    };
    let is_the_lost = |older: &&&Found| {
        let credential = found.entry.credential();
        let refresh = older
            .entry
            .credential()
            .as_oauth()
            .and_then(|oauth| oauth.tokens.refresh_token());
        refresh.is_some_and(|token| fence.replaced(found.entry.id(), credential.provider(), token))
    };
    let take = |older: &Found| {
        let path = quoted(&older.place.to_string_lossy());
        format!("tokensink import openclaw --from {path}{}", agent_option(agent))
    };
    match (ancestors.iter().find(is_the_lost), ancestors.first()) {
        (Some(older), _) => (
            format!(
                "{state}; {} still has the refresh token that was lost, which may be spent or not",
                older.place.display()
            ),
            take(older),
        ),
        (None, Some(older)) => (
            format!(
                "{state}; {} has an earlier refresh token, which is spent unless the provider never replaces them",
                older.place.display()
            ),
            login,
        ),
        (None, None) => (state.to_owned(), login),
    }
}
