//! What the user has chosen for the logins of other programs: `tokensink/state/external.json`.
//!
//! One entry per real place. The document keeps keys that it does not know; an entry of a program or a mode that it
//! does not know is kept and serves nothing. It holds no token. It does not know whether a login is there.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokensink_host::{FileStamp, Host};
use tokensink_neighbours::{Neighbour, Origin, Place, PlaceKind};
use tokensink_types::{ProfileId, Secret, SpendKey, UnixMillis};

use crate::error::{ErrorKind, Result, SinkError};

/// How the login of another program is used (design: Logins of other CLIs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExternalMode {
    /// Not at all.
    Off,
    /// Read only: its access token is served while it lives, its refresh token is never sent, nothing is written.
    Borrowed,
    /// The program's file is the owner store: refreshed ahead of the program, under the program's own locks.
    Cooperative,
    /// The grant has moved into the sink; the program is served leases.
    Owned,
}

impl ExternalMode {
    /// All modes, in the order in which they are explained.
    pub const ALL: [Self; 4] = [Self::Off, Self::Borrowed, Self::Cooperative, Self::Owned];

    /// The word on the command line, in files and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Borrowed => "borrowed",
            Self::Cooperative => "cooperative",
            Self::Owned => "owned",
        }
    }

    /// The mode with that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    /// What it does, in one line for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Off => "not used",
            Self::Borrowed => "its token is served while it lives; never refreshed, nothing written",
            Self::Cooperative => "refreshed ahead of the program under its locks, in its own file",
            Self::Owned => "moved into tokensink; the program asks tokensink for each token",
        }
    }
}

impl fmt::Display for ExternalMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key under which the choice was made: the place as it was then.
    pub(crate) key: String,
    /// The place as its name leads to now.
    pub(crate) place: Place,
    /// The choice.
    pub(crate) mode: ExternalMode,
    /// The profile under which the login appears, or under which it was stored by a move.
    pub(crate) profile: ProfileId,
    /// The refresh token of a move between the program's store and ours that has begun.
    pub(crate) moving: Option<SpendKey>,
}

/// The document.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Modes {
    map: Map<String, Value>,
}

impl Modes {
    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// When it cannot be read or does not parse. It is never written over then.
    pub(crate) fn load(host: &Host, path: &Path) -> Result<(Self, Option<FileStamp>)> {
        let failed = |why: String| {
            let message = format!("{} cannot be read: {why}", path.display());
            SinkError::new(ErrorKind::Failed, "external_unreadable", message).with_fix(format!(
                "mv '{0}' '{0}.bad'  # then choose the modes again",
                path.display()
            ))
        };
        let stamp = host.files.stat(path).map_err(|error| failed(error.to_string()))?;
        if stamp.is_none() {
            return Ok((Self::default(), None));
        }
        let bytes = host.files.read(path).map_err(|error| failed(error.to_string()))?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok((Self { map }, stamp)),
            Ok(_) => Err(failed("it is no JSON object".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The text of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(&self.map).unwrap_or_default();
        format!("{text}\n").into_bytes()
    }

    /// The choices that we understand, in the order in which they were made.
    pub(crate) fn entries(&self, host: &Host) -> Vec<Entry> {
        let Some(logins) = self.map.get("logins").and_then(Value::as_object) else {
            return Vec::new();
        };
        logins
            .iter()
            .filter_map(|(key, value)| {
                let text = |name: &str| value.get(name).and_then(Value::as_str);
                let neighbour = Neighbour::parse(text("cli")?)?;
                let stored = text("profile").and_then(|id| ProfileId::parse(id).ok());
                Some(Entry {
                    key: key.clone(),
                    place: place_of(host, neighbour, value)?,
                    mode: ExternalMode::parse(text("mode")?)?,
                    profile: stored.or_else(|| neighbour.profile_id())?,
                    moving: text("moving").and_then(spend_key),
                })
            })
            .collect()
    }

    /// Notes a choice; what else the entry holds stays.
    pub(crate) fn set(&mut self, entry: &Entry, now: UnixMillis) {
        self.map.entry("version").or_insert(json!(1));
        let value = self.entry(&entry.key);
        let place = entry.place.neighbour.as_str();
        value.insert("cli".to_owned(), place.into());
        value.insert("mode".to_owned(), entry.mode.as_str().into());
        value.insert("profile".to_owned(), entry.profile.as_str().into());
        value.insert("since".to_owned(), now.0.into());
        if entry.mode != ExternalMode::Owned {
            // It stands in the program's store again.
            value.shift_remove("frame");
        }
        match entry.moving {
            Some(key) => {
                value.insert("moving".to_owned(), hex::encode(key.0).into());
            }
            None => {
                value.shift_remove("moving");
            }
        }
        match &entry.place.kind {
            PlaceKind::File { path, .. } => {
                value.insert("path".to_owned(), path.to_string_lossy().into());
            }
            PlaceKind::Keychain {
                service,
                account,
                home,
                ..
            } => {
                let home = home.to_string_lossy();
                value.insert(
                    "keychain".to_owned(),
                    json!({"service": service, "account": account, "home": home}),
                );
            }
            PlaceKind::Environment { variable } => {
                value.insert("variable".to_owned(), (*variable).into());
            }
        }
    }

    /// Takes a choice back.
    pub(crate) fn remove(&mut self, key: &str) {
        object_at(&mut self.map, "logins").shift_remove(key);
    }

    /// What the program's section held besides the tokens when the login was taken from there.
    pub(crate) fn frame(&self, key: &str) -> Option<Secret> {
        let text = self.map.get("logins")?.get(key)?.get("frame")?.as_str()?;
        Some(Secret::new(text))
    }

    /// Notes it, for the day on which the login goes back.
    pub(crate) fn set_frame(&mut self, key: &str, frame: &Secret) {
        self.entry(key).insert("frame".to_owned(), frame.expose().into());
    }

    /// What the settings of the program held before they were wired to us, as the editor of those settings gave it.
    pub(crate) fn former(&self, neighbour: Neighbour) -> Option<&Value> {
        self.map.get("wired")?.get(neighbour.as_str())
    }

    /// Notes that the program was wired to us, or, with `None`, that it no longer is.
    pub(crate) fn set_former(&mut self, neighbour: Neighbour, former: Option<Value>) {
        self.map.entry("version").or_insert(json!(1));
        let wired = object_at(&mut self.map, "wired");
        match former {
            Some(former) => {
                wired.insert(neighbour.as_str().to_owned(), former);
            }
            None => {
                wired.shift_remove(neighbour.as_str());
            }
        }
    }

    fn entry(&mut self, key: &str) -> &mut Map<String, Value> {
        object_at(object_at(&mut self.map, "logins"), key)
    }
}

/// The object under `key`; something else that stands there gives way.
#[expect(
    clippy::expect_used,
    reason = "what is not an object was replaced by one just before"
)]
fn object_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("an object")
}

fn spend_key(text: &str) -> Option<SpendKey> {
    let mut key = SpendKey([0; 32]);
    hex::decode_to_slice(text, &mut key.0).ok()?;
    Some(key)
}

fn place_of(host: &Host, neighbour: Neighbour, value: &Value) -> Option<Place> {
    if let Some(path) = value.get("path").and_then(Value::as_str) {
        return Some(Place::file(host, neighbour, Path::new(path)));
    }
    let item = value.get("keychain")?;
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    Some(Place {
        neighbour,
        kind: PlaceKind::Keychain {
            service: text("service")?.to_owned(),
            account: text("account")?.to_owned(),
            home: text("home")?.into(),
            may_prompt: false,
        },
        origin: Origin::Given,
    })
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::TestHost;

    use super::*;

    fn entry(host: &Host, path: &str, mode: ExternalMode) -> Entry {
        let place = Place::file(host, Neighbour::ClaudeCode, Path::new(path));
        Entry {
            key: place.key(),
            profile: Neighbour::ClaudeCode.profile_id().unwrap(),
            place,
            mode,
            moving: None,
        }
    }

    #[test]
    fn what_is_noted_is_read_again_and_foreign_keys_stay() {
        let test = TestHost::new();
        let host = test.host();
        let path = Path::new("/s/external.json");
        let text = r#"{"theirs": 1, "logins": {"/x": {"cli": "newcli", "mode": "shared"}}}"#;
        test.files.put(path, text, 0o600);
        let (mut modes, stamp) = Modes::load(&host, path).unwrap();
        assert!(stamp.is_some() && modes.entries(&host).is_empty());
        for mode in ExternalMode::ALL {
            let mut noted = entry(&host, "/c/.credentials.json", mode);
            noted.moving = (mode == ExternalMode::Owned).then_some(SpendKey([7; 32]));
            modes.set(&noted, UnixMillis(7));
            modes.set_former(Neighbour::Codex, Some(json!("openai")));
            test.files.put(path, modes.to_bytes(), 0o600);
            modes = Modes::load(&host, path).unwrap().0;
            assert_eq!(modes.entries(&host), [noted]);
            assert_eq!(modes.former(Neighbour::Codex), Some(&json!("openai")));
        }
        modes.set_former(Neighbour::Codex, None);
        assert_eq!(modes.former(Neighbour::Codex), None);
        assert_eq!(modes.map["theirs"], 1);
        assert_eq!(modes.map["logins"]["/x"]["mode"], "shared");
    }

    #[test]
    fn a_link_that_leads_elsewhere_now_is_seen() {
        let test = TestHost::new();
        let host = test.host();
        test.files.put("/data/cred", "{}", 0o600);
        test.files.symlink("/data/cred", "/c/.credentials.json");
        let mut modes = Modes::default();
        modes.set(
            &entry(&host, "/c/.credentials.json", ExternalMode::Borrowed),
            UnixMillis(1),
        );
        host.files.remove(Path::new("/c/.credentials.json")).unwrap();
        test.files.put("/c/.credentials.json", "{}", 0o600);
        let found = modes.entries(&host).remove(0);
        assert_eq!(found.key, "/data/cred");
        assert_eq!(found.place.key(), "/c/.credentials.json");
    }

    #[test]
    fn a_file_that_does_not_parse_is_an_error_with_its_path() {
        let test = TestHost::new();
        for text in ["{", "[]", ""] {
            test.files.put("/s/external.json", text, 0o600);
            let error = Modes::load(&test.host(), Path::new("/s/external.json")).unwrap_err();
            assert!(error.to_string().contains("/s/external.json"), "{error}");
        }
    }
}
