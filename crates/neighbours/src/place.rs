//! Where a login of a neighbour may be: the one resolver of environment overrides, homes behind links and Keychain
//! item names (clients.md 2.1, 3.1, 6).
//!
//! It lists every candidate, also the one that the program would not use now: a service and a terminal may see
//! different variables. It looks at no content.

use std::fmt;
use std::path::{Path, PathBuf};

use icu_normalizer::ComposingNormalizer;
use sha2::{Digest, Sha256};
use tokensink_host::Host;
use tokensink_store::real_path;

use crate::Neighbour;

/// What Claude Code calls its user where `USER` is not plain (seen in its 2.1.329).
const CLAUDE_USER: &str = "claude-code-user";

/// A place where a login may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub neighbour: Neighbour,
    /// What it is.
    pub kind: PlaceKind,
    /// What named it.
    pub origin: Origin,
}

/// What holds the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceKind {
    /// A file, which may be missing.
    File {
        /// As the program names it.
        path: PathBuf,
        /// With every link resolved.
        real: PathBuf,
    },
    /// An item of the macOS Keychain.
    Keychain {
        /// The item's service.
        service: String,
        /// The item's account.
        account: String,
        /// The program's home, where its locks are.
        home: PathBuf,
        /// May the system ask the user for leave? Without a terminal nobody could answer.
        may_prompt: bool,
    },
    /// A variable that holds the content itself.
    Environment {
        /// Its name.
        variable: &'static str,
    },
}

/// What named a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This environment variable.
    Variable(&'static str),
    /// The program's default.
    Default,
    /// The user.
    Given,
}

/// What there is of the macOS Keychain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keychain {
    /// This is no macOS.
    Absent,
    /// It may be looked at, but nobody is there to be asked.
    Silent,
    /// The user may be asked for leave.
    MayPrompt,
}

impl Keychain {
    /// That of this system; `terminal` says whether somebody sits there.
    #[must_use]
    pub fn of_this_system(terminal: bool) -> Self {
        match (cfg!(target_os = "macos"), terminal) {
            (false, _) => Self::Absent,
            (true, false) => Self::Silent,
            (true, true) => Self::MayPrompt,
        }
    }
}

impl Place {
    /// The file `path` as a login of `neighbour`, named by the user.
    #[must_use]
    pub fn file(host: &Host, neighbour: Neighbour, path: &Path) -> Self {
        file(host, neighbour, Origin::Given, absolute(host, path))
    }

    /// What names the place for good, also its refresh record: the real path, or `keychain:<service>:<account>`.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.kind {
            PlaceKind::File { real, .. } => real.to_string_lossy().into_owned(),
            PlaceKind::Keychain { service, account, .. } => format!("keychain:{service}:{account}"),
            PlaceKind::Environment { variable } => format!("environment:{variable}"),
        }
    }

    /// The file as the program names it, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            PlaceKind::File { path, .. } => Some(path),
            PlaceKind::Keychain { .. } | PlaceKind::Environment { .. } => None,
        }
    }

    /// The program's home, where its locks and settings are.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        match &self.kind {
            PlaceKind::File { path, .. } => path.parent(),
            PlaceKind::Keychain { home, .. } => Some(home),
            PlaceKind::Environment { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PlaceKind::File { path, .. } => path.display().fmt(f),
            PlaceKind::Keychain { service, account, .. } => {
                write!(f, "Keychain item \"{service}\" of {account}")
            }
            PlaceKind::Environment { variable } => write!(f, "${variable}"),
        }
    }
}

/// Every place where a login of `neighbour` may be, the one that the program would use first. Each place stands once,
/// however many names lead to it.
#[must_use]
pub fn places(host: &Host, neighbour: Neighbour, keychain: Keychain) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    for place in candidates(host, neighbour, keychain) {
        if !found.iter().any(|known| known.key() == place.key()) {
            found.push(place);
        }
    }
    found
}

fn candidates(host: &Host, neighbour: Neighbour, keychain: Keychain) -> Vec<Place> {
    let at_home = |dir: &str| {
        let home = host.env.home()?;
        Some((Origin::Default, home.join(dir)))
    };
    let under = |name: &'static str, dir: &str| {
        let path = PathBuf::from(host.env.var(name)?);
        Some((Origin::Variable(name), absolute(host, &path).join(dir)))
    };
    let files = |dirs: &[Option<(Origin, PathBuf)>], name: &str| {
        dirs.iter()
            .flatten()
            .map(|(origin, dir)| file(host, neighbour, *origin, dir.join(name)))
            .collect()
    };
    match neighbour {
        Neighbour::ClaudeCode => claude(host, keychain),
        Neighbour::Codex => codex(host, keychain),
        Neighbour::QwenCode => files(&[at_home(".qwen")], "oauth_creds.json"),
        Neighbour::GeminiCli => files(
            &[under("GEMINI_CLI_HOME", ".gemini"), at_home(".gemini")],
            "oauth_creds.json",
        ),
        Neighbour::MiniMax => files(&[at_home(".minimax")], "oauth_creds.json"),
        Neighbour::OpenCode => {
            let dirs = [
                under("XDG_DATA_HOME", "opencode"),
                at_home(".local/share/opencode"),
            ];
            let variable = "OPENCODE_AUTH_CONTENT";
            let mut all: Vec<Place> = files(&dirs, "auth.json");
            if host.env.var(variable).is_some() {
                let place = Place {
                    neighbour,
                    kind: PlaceKind::Environment { variable },
                    origin: Origin::Variable(variable),
                };
                all.insert(0, place);
            }
            all
        }
    }
}

/// A directory that Claude Code may keep its login in.
struct ClaudeHome {
    origin: Origin,
    /// Composed as Claude Code composes it, not made absolute: so it goes into the Keychain item's name.
    dir: PathBuf,
    /// The default directory has no hash in the item's name; one set to the same path by a variable has.
    is_default: bool,
}

/// clients.md 3.1: `CLAUDE_SECURESTORAGE_CONFIG_DIR`, which set to nothing means the default, before
/// `CLAUDE_CONFIG_DIR`, before `~/.claude`; each composed to NFC. The Keychain comes before the file.
fn claude(host: &Host, keychain: Keychain) -> Vec<Place> {
    const STORAGE: &str = "CLAUDE_SECURESTORAGE_CONFIG_DIR";
    let set = |name: &'static str| {
        let dir = composed(&host.env.var(name)?);
        Some(ClaudeHome {
            origin: Origin::Variable(name),
            dir,
            is_default: false,
        })
    };
    let default = host.env.home().map(|home| ClaudeHome {
        origin: Origin::Default,
        dir: composed(&home.join(".claude").to_string_lossy()),
        is_default: true,
    });
    let emptied = host.env.var(STORAGE).is_none() && host.env.names().iter().any(|name| name == STORAGE);
    let mut homes: Vec<ClaudeHome> = [set(STORAGE), set("CLAUDE_CONFIG_DIR"), default]
        .into_iter()
        .flatten()
        .collect();
    if emptied {
        homes.sort_by_key(|home| !home.is_default);
    }
    homes
        .iter()
        .flat_map(|home| {
            let dir = absolute(host, &home.dir);
            let path = dir.join(".credentials.json");
            let hash = (!home.is_default).then(|| hash_of(&home.dir.to_string_lossy(), 8));
            let suffix = hash.map_or_else(String::new, |hash| format!("-{hash}"));
            let service = format!("Claude Code-credentials{suffix}");
            let item = item(
                Neighbour::ClaudeCode,
                home.origin,
                keychain,
                service,
                claude_user(host),
                dir,
            );
            [item, Some(file(host, Neighbour::ClaudeCode, home.origin, path))]
        })
        .flatten()
        .collect()
}

fn claude_user(host: &Host) -> String {
    let is_plain = |name: &String| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let user = host.env.var("USER").filter(is_plain);
    user.unwrap_or_else(|| CLAUDE_USER.to_owned())
}

/// clients.md 2.1: `$CODEX_HOME` or `~/.codex`. The Keychain item is named by the real path of that directory.
fn codex(host: &Host, keychain: Keychain) -> Vec<Place> {
    const HOME: &str = "CODEX_HOME";
    let set = host
        .env
        .var(HOME)
        .map(|dir| (Origin::Variable(HOME), PathBuf::from(dir)));
    let default = host.env.home().map(|home| (Origin::Default, home.join(".codex")));
    [set, default]
        .into_iter()
        .flatten()
        .flat_map(|(origin, dir)| {
            let dir = absolute(host, &dir);
            let path = dir.join("auth.json");
            let real = real_path(&*host.files, &dir).unwrap_or_else(|_| dir.clone());
            let account = format!("cli|{}", hash_of(&real.to_string_lossy(), 16));
            let service = "Codex Auth".to_owned();
            let item = item(Neighbour::Codex, origin, keychain, service, account, dir);
            [item, Some(file(host, Neighbour::Codex, origin, path))]
        })
        .flatten()
        .collect()
}

fn item(
    neighbour: Neighbour,
    origin: Origin,
    keychain: Keychain,
    service: String,
    account: String,
    home: PathBuf,
) -> Option<Place> {
    (keychain != Keychain::Absent).then_some(Place {
        neighbour,
        kind: PlaceKind::Keychain {
            service,
            account,
            home,
            may_prompt: keychain == Keychain::MayPrompt,
        },
        origin,
    })
}

fn file(host: &Host, neighbour: Neighbour, origin: Origin, path: PathBuf) -> Place {
    // A link that leads in a circle is told when the file is read.
    let real = real_path(&*host.files, &path).unwrap_or_else(|_| path.clone());
    Place {
        neighbour,
        kind: PlaceKind::File { path, real },
        origin,
    }
}

pub(crate) fn absolute(host: &Host, path: &Path) -> PathBuf {
    match host.env.current_dir() {
        Some(dir) if path.is_relative() => dir.join(path),
        _ => path.to_owned(),
    }
}

/// The path in Unicode's composed form (NFC).
fn composed(path: &str) -> PathBuf {
    PathBuf::from(ComposingNormalizer::new_nfc().normalize(path.trim()).into_owned())
}

/// The first `length` digits of the text's SHA-256 in hexadecimal.
fn hash_of(text: &str, length: usize) -> String {
    let mut hash = hex::encode(Sha256::digest(text.as_bytes()));
    hash.truncate(length);
    hash
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::TestHost;

    use super::*;

    /// A neighbour, the variables that are set, and the places.
    type Case = (
        Neighbour,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
    );

    fn listed(test: &TestHost, neighbour: Neighbour, keychain: Keychain) -> Vec<String> {
        let places = places(&test.host(), neighbour, keychain);
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn overrides_come_first_and_the_default_stays_a_candidate() {
        let cases: [Case; 12] = [
            (
                Neighbour::ClaudeCode,
                &[],
                &["/home/user/.claude/.credentials.json"],
            ),
            (
                Neighbour::ClaudeCode,
                &[
                    ("CLAUDE_CONFIG_DIR", "/c"),
                    ("CLAUDE_SECURESTORAGE_CONFIG_DIR", "/s"),
                ],
                &[
                    "/s/.credentials.json",
                    "/c/.credentials.json",
                    "/home/user/.claude/.credentials.json",
                ],
            ),
            (
                Neighbour::ClaudeCode,
                &[
                    ("CLAUDE_CONFIG_DIR", "/c"),
                    ("CLAUDE_SECURESTORAGE_CONFIG_DIR", ""),
                ],
                &["/home/user/.claude/.credentials.json", "/c/.credentials.json"],
            ),
            (
                Neighbour::ClaudeCode,
                &[("CLAUDE_CONFIG_DIR", "/home/user/.claude")],
                &["/home/user/.claude/.credentials.json"],
            ),
            (
                Neighbour::ClaudeCode,
                &[("CLAUDE_CONFIG_DIR", "/cafe\u{301}")],
                &[
                    "/caf\u{e9}/.credentials.json",
                    "/home/user/.claude/.credentials.json",
                ],
            ),
            (Neighbour::Codex, &[], &["/home/user/.codex/auth.json"]),
            (
                Neighbour::Codex,
                &[("CODEX_HOME", "rel")],
                &["/work/rel/auth.json", "/home/user/.codex/auth.json"],
            ),
            (Neighbour::QwenCode, &[], &["/home/user/.qwen/oauth_creds.json"]),
            (
                Neighbour::GeminiCli,
                &[("GEMINI_CLI_HOME", "/g")],
                &[
                    "/g/.gemini/oauth_creds.json",
                    "/home/user/.gemini/oauth_creds.json",
                ],
            ),
            (Neighbour::MiniMax, &[], &["/home/user/.minimax/oauth_creds.json"]),
            (
                Neighbour::OpenCode,
                &[],
                &["/home/user/.local/share/opencode/auth.json"],
            ),
            (
                Neighbour::OpenCode,
                &[("XDG_DATA_HOME", "/d"), ("OPENCODE_AUTH_CONTENT", "{}")],
                &[
                    "$OPENCODE_AUTH_CONTENT",
                    "/d/opencode/auth.json",
                    "/home/user/.local/share/opencode/auth.json",
                ],
            ),
        ];
        for (neighbour, variables, want) in cases {
            let test = TestHost::new();
            for (name, value) in variables {
                test.env.set(name, *value);
            }
            assert_eq!(
                listed(&test, neighbour, Keychain::Absent),
                want,
                "{neighbour} {variables:?}"
            );
        }
    }

    #[test]
    fn one_home_behind_two_names_is_one_place() {
        let test = TestHost::new();
        test.files.mkdir("/data/codex");
        test.files.symlink("/data/codex", "/home/user/.codex");
        test.env.set("CODEX_HOME", "/data/codex");
        let places = places(&test.host(), Neighbour::Codex, Keychain::Absent);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].key(), "/data/codex/auth.json");
        assert_eq!(places[0].origin, Origin::Variable("CODEX_HOME"));
    }

    #[test]
    fn keychain_items_are_named_as_their_owners_name_them() {
        let test = TestHost::new();
        test.env.set("USER", "ann");
        let first = |neighbour| places(&test.host(), neighbour, Keychain::MayPrompt)[0].key();
        assert_eq!(
            first(Neighbour::ClaudeCode),
            "keychain:Claude Code-credentials:ann"
        );
        // printf %s /home/user/.codex | sha256sum
        assert_eq!(
            first(Neighbour::Codex),
            "keychain:Codex Auth:cli|59448a44901f7128"
        );

        // A variable that says the same as the default still brings the hash into the name.
        test.env.set("CLAUDE_CONFIG_DIR", "/home/user/.claude");
        test.env.set("USER", "ann b");
        // printf %s /home/user/.claude | sha256sum
        assert_eq!(
            first(Neighbour::ClaudeCode),
            "keychain:Claude Code-credentials-d1c0b541:claude-code-user"
        );
    }

    #[test]
    fn without_a_home_nothing_is_guessed() {
        let test = TestHost::new();
        test.env.set_home(None);
        for neighbour in Neighbour::ALL {
            assert!(
                listed(&test, neighbour, Keychain::MayPrompt).is_empty(),
                "{neighbour}"
            );
        }
    }
}
