//! Pointing a program at us: its own hook for credentials, in its own settings (clients.md 2.6, 3.5).
//!
//! [`plan`] says what would change and [`apply`] does it; [`unwire_plan`] brings back what was there before. It
//! promises: everything else in the settings stays as it is written, comments and order included; settings that do not
//! parse are not touched; what the user changed after us is not undone; wiring twice is wiring once. Secrets that
//! stand in the settings do not show in a plan's difference.

mod claude;
mod codex;
mod diff;
mod record;

use std::fmt;
use std::path::{Path, PathBuf};

use tokensink_host::{Host, atomic};
use tokensink_types::{Body, Secret};

use crate::{Neighbour, NeighbourError};

pub use record::{WireChange, WireRecord};

/// Permission bits of settings that we make.
const MODE: u32 = 0o600;

/// What the program shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRequest {
    /// The program that prints a lease: an absolute path.
    pub program: PathBuf,
    /// Its arguments. They are readable in the settings, so no secret may be among them.
    pub args: Vec<String>,
    /// Where the requests go. Codex needs one; Claude Code goes to Anthropic without.
    pub base_url: Option<String>,
    /// Headers for every request. For Claude Code `anthropic-beta` is added to its own.
    pub headers: Vec<(String, String)>,
    /// The provider's name for people, shown by Codex.
    pub name: String,
}

/// A change of a program's settings that has been thought through and not made.
pub struct WirePlan {
    /// The settings.
    pub file: PathBuf,
    /// The lines that change, for people; words that look like secrets are cut.
    pub diff: String,
    /// Keys that are left as they are because the user changed them after us.
    pub kept: Vec<String>,
    /// What to keep for [`unwire_plan`]; `None` in the plan of an unwiring.
    pub record: Option<WireRecord>,
    before: Option<Body>,
    /// `None` removes the file.
    after: Option<Body>,
}

impl fmt::Debug for WirePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WirePlan({}, {} bytes of diff)",
            self.file.display(),
            self.diff.len()
        )
    }
}

impl WirePlan {
    /// True when the settings say it already.
    #[must_use]
    pub fn already(&self) -> bool {
        self.before == self.after
    }
}

/// A change of the value under a path of keys, in the settings' own language.
struct Wanted {
    path: Vec<&'static str>,
    value: Secret,
}

/// The settings of one program as a text with values under paths.
trait Settings {
    /// The value in one fixed spelling, so that two of them can be compared; `None` where nothing is.
    fn get(&self, path: &[&str]) -> Option<Secret>;
    /// Sets a value; missing parents are made.
    fn set(&mut self, path: &[&str], value: &Secret) -> Result<(), String>;
    /// Removes a value, and with it parents of it that are then empty, down to `keep` keys.
    fn remove(&mut self, path: &[&str], keep: usize) -> Result<(), String>;
    /// The whole text.
    fn text(&self) -> Body;
    /// True when nothing is set.
    fn is_empty(&self) -> bool;
}

/// What wiring `neighbour` would change. `earlier` is the record of a wiring that may still be in force: what was there
/// before that one is what unwiring brings back.
///
/// # Errors
/// When it is not known how to wire it, or its settings do not parse.
pub fn plan(
    host: &Host,
    neighbour: Neighbour,
    request: &WireRequest,
    earlier: Option<&WireRecord>,
) -> Result<WirePlan, NeighbourError> {
    let file = settings_file(host, neighbour)?;
    let before = load(host, &file)?;
    let failed = |why: String| edit_error(&file, why);
    let mut settings = open(neighbour, before.as_ref()).map_err(failed)?;
    let wanted = match neighbour {
        Neighbour::ClaudeCode => claude::wanted(request, &*settings),
        _ => codex::wanted(request),
    }
    .map_err(failed)?;
    let earlier = earlier.filter(|earlier| earlier.neighbour == neighbour && earlier.file == file);
    let mut changes = Vec::new();
    for Wanted { path, value } in wanted {
        changes.push(change(&mut *settings, earlier, &path, &value).map_err(failed)?);
    }
    let record = WireRecord {
        neighbour,
        made_file: before.is_none() || earlier.is_some_and(|earlier| earlier.made_file),
        file: file.clone(),
        changes,
    };
    let after = settings.text();
    Ok(WirePlan {
        diff: diff::of(&file, before.as_ref(), Some(&after)),
        file,
        kept: Vec::new(),
        record: Some(record),
        before,
        after: Some(after),
    })
}

/// Makes one change and notes what was there before the first wiring.
fn change(
    settings: &mut dyn Settings,
    earlier: Option<&WireRecord>,
    path: &[&'static str],
    value: &Secret,
) -> Result<WireChange, String> {
    let found = settings.get(path);
    let ours = earlier
        .and_then(|earlier| earlier.change(path))
        .filter(|ours| found.as_ref() == Some(&ours.written));
    let there = (1..path.len())
        .rev()
        .find(|length| settings.get(&path[..*length]).is_some());
    let (former, keep) = match ours {
        Some(ours) => (ours.former.clone(), ours.keep),
        None => (found.clone(), there.unwrap_or(0)),
    };
    settings.set(path, value)?;
    let written = settings.get(path).ok_or("the value cannot be set")?;
    Ok(WireChange {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        former,
        written,
        keep,
    })
}

/// What bringing back the state before `record` would change.
///
/// # Errors
/// When the settings do not parse.
pub fn unwire_plan(host: &Host, record: &WireRecord) -> Result<WirePlan, NeighbourError> {
    let file = record.file.clone();
    let before = load(host, &file)?;
    let failed = |why: String| edit_error(&file, why);
    let mut settings = open(record.neighbour, before.as_ref()).map_err(failed)?;
    let mut kept = Vec::new();
    for change in record.changes.iter().rev() {
        let path: Vec<&str> = change.path.iter().map(String::as_str).collect();
        match settings.get(&path) {
            Some(found) if found == change.written => match &change.former {
                Some(former) => settings.set(&path, former),
                None => settings.remove(&path, change.keep),
            }
            .map_err(failed)?,
            Some(_) => kept.push(change.path.join(".")),
            None => {}
        }
    }
    let is_gone = before.is_none() || (record.made_file && settings.is_empty());
    let after = (!is_gone).then(|| settings.text());
    Ok(WirePlan {
        diff: diff::of(&file, before.as_ref(), after.as_ref()),
        file,
        kept,
        record: None,
        before,
        after,
    })
}

/// Makes the change. The settings keep their mode, and a link to them stays.
///
/// # Errors
/// When the settings were changed since the plan was made, or cannot be written; they are then as they were.
pub fn apply(host: &Host, plan: &WirePlan) -> Result<(), NeighbourError> {
    if plan.already() {
        return Ok(());
    }
    if load(host, &plan.file)? != plan.before {
        let why = "it was changed a moment ago; run the command again".to_owned();
        return Err(edit_error(&plan.file, why));
    }
    let Some(after) = &plan.after else {
        let real = atomic::resolve(&*host.files, &plan.file)?;
        return host
            .files
            .remove(&real)
            .map_err(NeighbourError::io("remove", &real));
    };
    if let Some(home) = plan.file.parent() {
        atomic::ensure_dir(&*host.files, home, 0o700)
            .map_err(NeighbourError::io("create the directory", home))?;
    }
    let there = host
        .files
        .stat(&plan.file)
        .map_err(NeighbourError::io("look at", &plan.file))?;
    let mode = there.map_or(MODE, |stamp| stamp.mode & 0o777);
    atomic::replace(&*host.files, &*host.random, &plan.file, after.expose(), mode)?;
    Ok(())
}

/// Where the program keeps the settings of its user.
///
/// # Errors
/// For a program that we cannot wire, and where there is no home directory.
pub fn settings_file(host: &Host, neighbour: Neighbour) -> Result<PathBuf, NeighbourError> {
    let (variable, dir, name) = match neighbour {
        Neighbour::ClaudeCode => ("CLAUDE_CONFIG_DIR", ".claude", "settings.json"),
        Neighbour::Codex => ("CODEX_HOME", ".codex", "config.toml"),
        Neighbour::QwenCode | Neighbour::GeminiCli | Neighbour::OpenCode | Neighbour::MiniMax => {
            return Err(NeighbourError::Edit {
                place: format!("the settings of {}", neighbour.title()),
                why: "it has no hook for credentials that is known".to_owned(),
            });
        }
    };
    let home = match host.env.var(variable) {
        Some(set) => Some(crate::place::absolute(host, Path::new(&set))),
        None => host.env.home().map(|home| home.join(dir)),
    };
    home.map(|home| home.join(name))
        .ok_or_else(|| NeighbourError::Edit {
            place: format!("the settings of {}", neighbour.title()),
            why: format!("there is no home directory; set {variable}"),
        })
}

fn load(host: &Host, file: &Path) -> Result<Option<Body>, NeighbourError> {
    let found = atomic::read_stable(&*host.files, file).map_err(NeighbourError::io("read", file))?;
    Ok(found.map(|(bytes, _)| Body::new(bytes)))
}

fn open(neighbour: Neighbour, text: Option<&Body>) -> Result<Box<dyn Settings>, String> {
    let text = text.map_or(Ok(""), |body| {
        std::str::from_utf8(body.expose()).map_err(|_| "it is not UTF-8")
    })?;
    Ok(match neighbour {
        Neighbour::ClaudeCode => Box::new(claude::ClaudeSettings::parse(text)?),
        _ => Box::new(codex::CodexSettings::parse(text)?),
    })
}

fn edit_error(file: &Path, why: String) -> NeighbourError {
    NeighbourError::Edit {
        place: file.display().to_string(),
        why,
    }
}
