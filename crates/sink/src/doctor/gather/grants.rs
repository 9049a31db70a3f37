//! Copies of grants: every file that may hold one is read and looked through for refresh tokens that are known from
//! anywhere, whatever the file's form. A torn file, a note or a script hides none.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokensink_host::Files;
use tokensink_neighbours::{Keychain, Neighbour, Place, places, read_all};
use tokensink_store::real_path;
use tokensink_types::Secret;
use zeroize::Zeroizing;

use super::Looking;
use super::places::SET_ASIDE;
use crate::doctor::copies::{Copies, CopyKind, CopyPlace, group};
use crate::doctor::repair::aside_dir;

/// Largest file that is looked through, in bytes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most files that are looked through; a state directory has a few hundred.
const FILES_MAX: usize = 20_000;
/// How deep folders are entered.
const DEPTH_MAX: usize = 8;
/// Shorter texts are no refresh tokens, and would be found everywhere.
const TOKEN_MIN: usize = 8;
/// Folders that are not entered: other people's code, transcripts, and our own records, which belong to their stores.
const SKIPPED: [&str; 6] = [
    "node_modules",
    ".git",
    "workspace",
    "sessions",
    "journal",
    "locks",
];
/// Names of state directories of all ages; their siblings may be copies.
const STATE_NAMES: [&str; 4] = [".openclaw", ".openclaw-cn", ".clawdbot", ".moltbot"];
/// How a marker of a later age begins, which stands in the place of a token and is none (openclaw-live.md 5).
const FENCE: &str = "openclaw-oauth-refresh-fence:";

/// A file to look through, and what a grant in it would be.
struct Candidate {
    path: PathBuf,
    kind: CopyKind,
}

/// Refresh tokens, each with its number. They are found by their digest, so that each text is kept once.
#[derive(Default)]
struct Tokens {
    texts: Vec<Secret>,
    numbers: BTreeMap<Vec<u8>, usize>,
}

impl Tokens {
    fn add(&mut self, text: &str) -> Option<usize> {
        let text = text.trim();
        if text.len() < TOKEN_MIN || text.starts_with(FENCE) {
            return None;
        }
        let next = self.texts.len();
        let digest = Sha256::digest(text.as_bytes()).to_vec();
        let number = *self.numbers.entry(digest).or_insert(next);
        if number == next {
            self.texts.push(Secret::new(text));
        }
        Some(number)
    }
}

/// Every grant that stands in more than one place.
pub(super) fn look(looking: &Looking<'_>) -> Vec<Copies> {
    let host = &looking.doctor.host;
    let mut key = [0; 32];
    if host.random.fill(&mut key).is_err() {
        return Vec::new();
    }
    let mut tokens = Tokens::default();
    let mut found: Vec<(usize, CopyPlace)> = profiles(looking, &mut tokens);
    found.extend(kept_in_no_file(looking, &mut tokens));
    let used: HashSet<(usize, PathBuf)> = found
        .iter()
        .map(|(number, place)| (*number, place.path.clone()))
        .collect();
    let candidates = candidates(looking);
    for candidate in &candidates {
        if let Some(bytes) = text_of(&*host.files, &candidate.path) {
            harvest(&bytes, &mut |text| {
                tokens.add(text);
            });
        }
    }
    let patterns = tokens.texts.iter().map(|text| text.expose().as_bytes());
    let Ok(search) = AhoCorasick::new(patterns) else {
        return Vec::new();
    };
    for Candidate { path, kind } in candidates {
        let Some(bytes) = text_of(&*host.files, &path) else {
            continue;
        };
        let mut numbers = in_text(&search, &bytes);
        // As JSON a token may be written with escapes, which a search does not see.
        harvest(&bytes, &mut |text| numbers.extend(tokens.add(text)));
        let new = numbers
            .into_iter()
            .filter(|number| !used.contains(&(*number, path.clone())));
        found.extend(new.map(|number| {
            (
                number,
                CopyPlace {
                    kind: kind.clone(),
                    path: path.clone(),
                },
            )
        }));
    }
    let named = found
        .into_iter()
        .map(|(number, place)| (fingerprint(&key, &tokens.texts[number]), place));
    group(named.collect())
}

/// Eight bytes of a keyed digest: enough to tell two apart, nothing to anybody who has not the key of this run.
fn fingerprint(key: &[u8; 32], token: &Secret) -> String {
    let mut digest = Sha256::new();
    digest.update(b"tokensink doctor copies 1");
    digest.update(key);
    digest.update(token.expose().as_bytes());
    hex::encode(&digest.finalize()[..8])
}

/// The grants of all agents' profiles.
fn profiles(looking: &Looking<'_>, tokens: &mut Tokens) -> Vec<(usize, CopyPlace)> {
    let store = looking.doctor.store();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for agent in store.agents().unwrap_or_default() {
        let Ok(loaded) = store.load(&agent) else {
            continue;
        };
        let path = real(looking, &loaded.path);
        // Two agents with one file are one place, and a finding of its own.
        if !seen.insert(path.clone()) {
            continue;
        }
        for entry in loaded.profiles.entries() {
            let oauth = entry.credential.as_oauth();
            let refresh = oauth.and_then(|oauth| oauth.tokens.refresh_token());
            if let Some(number) = refresh.and_then(|refresh| tokens.add(refresh.expose())) {
                let kind = CopyKind::Profile {
                    agent: agent.clone(),
                    profile: Some(entry.id.clone()),
                };
                let path = path.clone();
                found.push((number, CopyPlace { kind, path }));
            }
        }
    }
    found
}

fn real(looking: &Looking<'_>, path: &Path) -> PathBuf {
    real_path(&*looking.doctor.host.files, path).unwrap_or_else(|_| path.to_owned())
}

/// The files that may hold a grant, each once by its real path: what is known by name first.
fn candidates(looking: &Looking<'_>) -> Vec<Candidate> {
    let paths = &looking.paths;
    let mut list = Listing {
        looking,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    let agents = looking.doctor.store().agents().unwrap_or_default();
    for agent in &agents {
        let kind = CopyKind::Profile {
            agent: agent.clone(),
            profile: None,
        };
        list.add(&paths.profiles_file(agent), &kind);
        list.add(&paths.legacy_auth_file(agent), &CopyKind::Legacy);
    }
    list.add(&paths.oauth_file(), &CopyKind::Legacy);
    let neighbours = neighbours_places(looking);
    for place in &neighbours {
        if let Some(path) = place.path() {
            list.add(path, &CopyKind::OtherProgram(place.neighbour.title()));
        }
    }
    for home in neighbours.iter().filter_map(Place::home) {
        // Backups beside a login; what lies deeper is the program's own business.
        list.enter(home, &CopyKind::Backup, 1);
    }
    list.enter(&aside_dir(paths), &CopyKind::Aside, DEPTH_MAX);
    for root in roots(looking) {
        list.enter(&root, &CopyKind::Backup, DEPTH_MAX);
    }
    for agent in &agents {
        list.enter(&paths.agent_dir(agent), &CopyKind::Backup, DEPTH_MAX);
    }
    list.found
}

/// Where the programs beside us keep logins, the Keychain's items among them; it is never made to ask.
fn neighbours_places(looking: &Looking<'_>) -> Vec<Place> {
    let keychain = Keychain::of_this_system(false);
    let of = |neighbour| places(&looking.doctor.host, neighbour, keychain);
    Neighbour::ALL.into_iter().flat_map(of).collect()
}

/// The grants that the programs beside us keep in no file.
fn kept_in_no_file(looking: &Looking<'_>, tokens: &mut Tokens) -> Vec<(usize, CopyPlace)> {
    let mut found = Vec::new();
    for place in neighbours_places(looking) {
        if place.path().is_some() {
            continue;
        }
        for named in read_all(&looking.doctor.host, &place) {
            let login = named.reading.login();
            let oauth = login.and_then(|login| login.credential.as_oauth());
            let refresh = oauth.and_then(|oauth| oauth.tokens.refresh_token());
            if let Some(number) = refresh.and_then(|refresh| tokens.add(refresh.expose())) {
                let kind = CopyKind::OtherProgram(place.neighbour.title());
                let path = PathBuf::from(place.to_string());
                found.push((number, CopyPlace { kind, path }));
            }
        }
    }
    found
}

/// The state directory, and what beside it has the name of one: older state directories and copies made by hand.
fn roots(looking: &Looking<'_>) -> Vec<PathBuf> {
    let state = looking.paths.state_dir();
    let mut roots = vec![state.to_owned()];
    roots.extend(looking.paths.oauth_file().parent().map(Path::to_owned));
    let Some(parent) = state.parent() else {
        return roots;
    };
    let own = state.file_name().map(|name| name.to_string_lossy().into_owned());
    let bases = || STATE_NAMES.into_iter().chain(own.as_deref());
    for name in looking.doctor.host.files.list(parent).unwrap_or_default() {
        let text = name.to_string_lossy();
        let is_copy = bases().any(|base| {
            text.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_', ' ', '~']))
        });
        if is_copy {
            roots.push(parent.join(&name));
        }
    }
    roots
}

/// A list of files without repetitions.
struct Listing<'a> {
    looking: &'a Looking<'a>,
    seen: BTreeSet<PathBuf>,
    found: Vec<Candidate>,
}

impl Listing<'_> {
    fn add(&mut self, path: &Path, kind: &CopyKind) {
        let files = &*self.looking.doctor.host.files;
        let Ok(Some(stamp)) = files.stat(path) else {
            return;
        };
        let real = real(self.looking, path);
        let fits = !stamp.is_dir && stamp.size <= FILE_BYTES && self.found.len() < FILES_MAX;
        if fits && self.seen.insert(real.clone()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What was set aside or left half-written is a finding of its own, and nobody restores it.
            let is_litter = name.contains(SET_ASIDE) || name.ends_with(".tmp");
            let kind = if is_litter { &CopyKind::Aside } else { kind };
            self.found.push(Candidate {
                path: real,
                kind: kind.clone(),
            });
        }
    }

    fn enter(&mut self, dir: &Path, kind: &CopyKind, depth: usize) {
        let files = &*self.looking.doctor.host.files;
        match files.stat(dir) {
            Ok(Some(stamp)) if stamp.is_dir => {}
            Ok(Some(_)) => return self.add(dir, kind),
            Ok(None) | Err(_) => return,
        }
        for name in files.list(dir).unwrap_or_default() {
            let path = dir.join(&name);
            match files.stat(&path) {
                Ok(Some(stamp)) if !stamp.is_dir => self.add(&path, kind),
                // A linked folder is somebody else's, and may lead in a circle.
                Ok(Some(_)) if depth > 1 && matches!(files.link_target(&path), Ok(None)) => {
                    let is_skipped = name.to_str().is_some_and(|name| SKIPPED.contains(&name));
                    if !is_skipped {
                        self.enter(&path, kind, depth - 1);
                    }
                }
                _ => {}
            }
        }
    }
}

fn text_of(files: &dyn Files, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    files.read(path).ok().map(Zeroizing::new)
}

/// Gives away what a JSON text holds under the name of a refresh token, in the spelling of any program.
fn harvest(bytes: &[u8], give: &mut dyn FnMut(&str)) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
        take_refresh(&mut value, false, give);
    }
}

/// Looks at a value and wipes its texts.
fn take_refresh(value: &mut Value, is_refresh: bool, give: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let name: String = key.chars().filter(|c| c.is_alphanumeric()).collect();
                let names_it = matches!(name.to_ascii_lowercase().as_str(), "refresh" | "refreshtoken");
                take_refresh(value, names_it, give);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_refresh(item, false, give)),
        Value::String(text) => {
            let text = Zeroizing::new(std::mem::take(text));
            if is_refresh {
                give(&text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The numbers of the tokens that stand in a text as words of their own.
fn in_text(search: &AhoCorasick, bytes: &[u8]) -> BTreeSet<usize> {
    let is_part = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    search
        .find_overlapping_iter(bytes)
        .filter(|hit| !is_part(hit.start().checked_sub(1)) && !is_part(Some(hit.end())))
        .map(|hit| hit.pattern().as_usize())
        .collect()
}
