//! The files of decisions: `tokensink/state/decisions/recent.jsonl`, and `kept.jsonl` for what is notable, each with
//! the file before it (`recent.1.jsonl`, `kept.1.jsonl`).
//!
//! All processes append under one kernel lock. A file that is full takes the place of the one before it, so that what
//! is kept is bounded. Decisions are written once per file and named by their hash; many choices are served by one. So
//! are the parts that decisions have in common. A line that is cut off is skipped by whoever reads.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{FileHandle, Files, Host, OpenMode};
use tokensink_policy::bench::Bucket;
use tokensink_policy::record::RecordedDecision;
use tokensink_store::Paths;
use tokensink_types::UnixMillis;

use super::parts::{Name, fold, unfold};
use super::{Attempt, Choice, Note};

/// Size of a file at which it is put aside, in bytes: more than a thousand choices among a hundred accounts, also where
/// each was decided anew (5 KB). Of decisions that hold for many requests it is twenty times as many.
pub(super) const FILE_MAX: u64 = 6 * 1024 * 1024;
/// How much is put into text before it is written, in bytes. After a second of a crowd's requests there may be many
/// megabytes of decisions, which are not to be in memory at once.
const PIECE: usize = 64 * 1024;
/// How long another process is waited for; it writes some kilobytes.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// What this process has written.
#[derive(Debug, Default)]
pub(super) struct Book {
    recent: Written,
    kept: Written,
}

/// The decisions that the present file has, and their parts.
#[derive(Debug, Default)]
struct Written {
    inode: u64,
    names: HashSet<Name>,
}

/// Where the decisions are.
fn dir(paths: &Paths) -> PathBuf {
    paths.own_state_dir().join("decisions")
}

impl Book {
    /// Appends notes: all of them to the recent ones, those of `notable` to the kept ones as well.
    pub(super) fn write(
        &mut self,
        host: &Host,
        paths: &Paths,
        plain: &VecDeque<Note>,
        notable: &VecDeque<Note>,
    ) -> io::Result<()> {
        let lock = paths.locks_dir().join("decisions");
        let wait = Wait { deadline: LOCK_WAIT };
        let _lock = KernelLock::acquire(host, &lock, wait).map_err(io::Error::other)?;
        let dir = dir(paths);
        for dir in [paths.own_state_dir(), dir.clone()] {
            host.files.create_dir(&dir, 0o700)?;
        }
        let mut names = Names::default();
        let mut recent = Page::open(host, &dir, "recent", &mut self.recent)?;
        for note in plain {
            put(note, &mut names, [&mut recent])?;
        }
        if !notable.is_empty() {
            let mut kept = Page::open(host, &dir, "kept", &mut self.kept)?;
            for note in notable {
                put(note, &mut names, [&mut recent, &mut kept])?;
            }
            kept.flush()?;
        }
        recent.flush()
    }
}

/// Names of decisions that were met in this round, by where they are in memory.
type Names = HashMap<usize, Name>;

/// Puts a note into the files. In each of them a decision stands once, before the first choice that was made of it.
fn put<const N: usize>(note: &Note, names: &mut Names, mut pages: [&mut Page<'_>; N]) -> io::Result<()> {
    let line = match note {
        Note::Choice(choice) => {
            let place = Arc::as_ptr(&choice.made) as usize;
            let known = names.get(&place).copied();
            let name = match known.filter(|name| pages.iter().all(|page| page.has(*name))) {
                Some(name) => name,
                None => {
                    let rendered = Rendered::of(choice);
                    for page in &mut pages {
                        page.put(&rendered);
                    }
                    names.insert(place, rendered.name);
                    rendered.name
                }
            };
            choice_line(choice, name)
        }
        Note::Attempt(attempt) => attempt_line(attempt),
    };
    let line = line.to_string();
    for page in pages {
        page.push(&line);
        if page.text.len() >= PIECE {
            page.flush()?;
        }
    }
    Ok(())
}

/// The lines of a decision.
struct Rendered {
    name: Name,
    line: String,
    parts: Vec<(Name, String)>,
}

impl Rendered {
    fn of(choice: &Choice) -> Self {
        let mut record = serde_json::to_value(choice.recorded()).unwrap_or_default();
        let parts = fold(&mut record);
        let name = Name::of(&record.to_string());
        let line = json!({ "made": name.to_string(), "record": record }).to_string();
        Self { name, line, parts }
    }
}

/// A file that is being appended to.
struct Page<'a> {
    file: Box<dyn FileHandle>,
    size: u64,
    /// What is not written yet.
    text: String,
    written: &'a mut Written,
    /// The decisions and parts in it.
    fresh: HashSet<Name>,
}

impl<'a> Page<'a> {
    fn open(host: &Host, dir: &Path, name: &str, written: &'a mut Written) -> io::Result<Self> {
        let files = &*host.files;
        let path = dir.join(format!("{name}.jsonl"));
        if files.stat(&path)?.is_some_and(|stamp| stamp.size >= FILE_MAX) {
            files.rename(&path, &dir.join(format!("{name}.1.jsonl")))?;
        }
        let mut file = match files.create_new(&path, 0o600) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files.open(&path, OpenMode::ReadWrite)?
            }
            Err(error) => return Err(error),
        };
        let stamp = file.stamp()?;
        if stamp.inode != written.inode || stamp.size == 0 {
            written.inode = stamp.inode;
            written.names.clear();
        }
        // Closes a line that a crash has cut off.
        let mut text = String::new();
        if stamp.size > 0 {
            let mut last = [0];
            file.read_at(stamp.size - 1, &mut last)?;
            if last != *b"\n" {
                text.push('\n');
            }
        }
        Ok(Self {
            file,
            size: stamp.size,
            text,
            written,
            fresh: HashSet::new(),
        })
    }

    /// Is the decision, or the part, in the file or on its way there?
    fn has(&self, name: Name) -> bool {
        self.written.names.contains(&name) || self.fresh.contains(&name)
    }

    /// Puts a decision and its parts there, as far as they are not there yet.
    fn put(&mut self, rendered: &Rendered) {
        if self.has(rendered.name) {
            return;
        }
        for (name, value) in &rendered.parts {
            if !self.has(*name) {
                self.push(&format!("{{\"part\":\"{name}\",\"value\":{value}}}"));
                self.fresh.insert(*name);
            }
        }
        self.push(&rendered.line);
        self.fresh.insert(rendered.name);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.size, self.text.as_bytes())?;
        self.size += u64::try_from(self.text.len()).unwrap_or(u64::MAX);
        self.text.clear();
        self.written.names.extend(self.fresh.drain());
        Ok(())
    }
}

fn choice_line(choice: &Choice, made: Name) -> Value {
    let mut line = json!({
        "id": choice.id.to_string(),
        "at": choice.at.0,
        "agent": choice.state.agent.as_str(),
        "made_as": made.to_string(),
    });
    if let Some(request) = choice.request {
        line["request"] = json!(request.to_string());
    }
    match &choice.served {
        Ok(profile) => line["served"] = json!(profile.as_str()),
        Err(code) => line["error"] = json!(code),
    }
    line
}

fn attempt_line(attempt: &Attempt) -> Value {
    let mut line = json!({
        "lease": attempt.lease.to_string(),
        "at": attempt.at.0,
        "profile": attempt.profile.as_str(),
        "outcome": attempt.outcome,
        "status": attempt.status,
    });
    if let Some(class) = &attempt.reported.class {
        line["reason"] = json!(class.reason.as_str());
        line["rule"] = json!(class.rule);
    }
    if let Some(bench) = &attempt.reported.bench {
        line["bench"] = json!({
            "bucket": bench.bucket,
            "until": bench.until.0,
            "stated": bench.stated,
            "half_open": bench.half_open.0,
        });
    }
    line
}

/// All that is kept, as it was read.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Decisions, in which the names of their parts stand.
    made: HashMap<String, Value>,
    parts: HashMap<Name, Value>,
    /// Choices in the order of their times.
    pub(super) choices: Vec<KeptChoice>,
    pub(super) attempts: Vec<KeptAttempt>,
}

/// A choice as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptChoice {
    pub(super) id: String,
    pub(super) request: Option<String>,
    pub(super) at: UnixMillis,
    pub(super) agent: String,
    pub(super) made: String,
    pub(super) served: Option<String>,
    pub(super) error: Option<String>,
}

/// An attempt as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptAttempt {
    pub(super) lease: String,
    pub(super) at: UnixMillis,
    pub(super) profile: String,
    pub(super) outcome: String,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) bench: Option<KeptBench>,
}

/// A bench as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptBench {
    pub(super) bucket: Bucket,
    pub(super) until: UnixMillis,
    pub(super) stated: bool,
    pub(super) half_open: UnixMillis,
}

impl Kept {
    /// Reads what is kept. A file that cannot be read is an error, one that is not there is none.
    pub(super) fn read(files: &dyn Files, paths: &Paths) -> io::Result<Self> {
        let mut kept = Self::default();
        let dir = dir(paths);
        for name in ["kept.1", "kept", "recent.1", "recent"] {
            let bytes = match files.read(&dir.join(format!("{name}.jsonl"))) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(value) = serde_json::from_slice(line) {
                    kept.take(value);
                }
            }
        }
        // What is notable stands in both files.
        kept.choices
            .sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
        kept.choices.dedup();
        kept.attempts
            .sort_by(|one, other| (one.at, &one.lease).cmp(&(other.at, &other.lease)));
        kept.attempts.dedup();
        Ok(kept)
    }

    /// The decision of a choice, if its lines are still there and this version can read them.
    pub(super) fn made(&self, choice: &KeptChoice) -> Option<RecordedDecision> {
        let folded = self.made.get(&choice.made)?;
        serde_json::from_value(unfold(folded.clone(), &self.parts)?).ok()
    }

    fn take(&mut self, mut value: Value) {
        if let Some(name) = text(&value, "made") {
            self.made.insert(name, value["record"].take());
        } else if let Some(name) = value.get("part").and_then(Value::as_str).and_then(Name::parse) {
            self.parts.insert(name, value["value"].take());
        } else if let Some(choice) = choice_of(&value) {
            self.choices.push(choice);
        } else if let Some(attempt) = attempt_of(&value) {
            self.attempts.push(attempt);
        }
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn time(value: &Value, name: &str) -> Option<UnixMillis> {
    value.get(name).and_then(Value::as_i64).map(UnixMillis)
}

fn choice_of(value: &Value) -> Option<KeptChoice> {
    Some(KeptChoice {
        id: text(value, "id")?,
        request: text(value, "request"),
        at: time(value, "at")?,
        agent: text(value, "agent")?,
        made: text(value, "made_as")?,
        served: text(value, "served"),
        error: text(value, "error"),
    })
}

fn attempt_of(value: &Value) -> Option<KeptAttempt> {
    let bench = value.get("bench").and_then(|bench| {
        Some(KeptBench {
            bucket: Bucket::deserialize(bench.get("bucket")?).ok()?,
            until: time(bench, "until")?,
            stated: bench.get("stated").and_then(Value::as_bool).unwrap_or(false),
            half_open: time(bench, "half_open")?,
        })
    });
    let status = value.get("status").and_then(Value::as_u64);
    Some(KeptAttempt {
        lease: text(value, "lease")?,
        at: time(value, "at")?,
        profile: text(value, "profile")?,
        outcome: text(value, "outcome")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason: text(value, "reason"),
        rule: text(value, "rule"),
        bench,
    })
}
