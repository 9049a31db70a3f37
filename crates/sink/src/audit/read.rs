//! Reading the audit trail: does each line follow from the one before, and what do they say?
//!
//! The chain shows changes, removals and insertions anywhere but at the end. Who can write the file can also cut it
//! short or make it up anew from some line on; against that helps a copy of the last hash, kept elsewhere
//! ([`Sink::audit_verify`] takes it).

use std::io;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokensink_host::{FileHandle, OpenMode};
use tokensink_types::UnixMillis;

use super::report::{AuditCheck, AuditFault, AuditLine, AuditList};
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

impl Sink {
    /// Checks the hash chain of the audit trail. With `head`, the hash of a line that was noted earlier
    /// ([`AuditCheck::head`]), that line must still be there.
    ///
    /// # Errors
    /// When the file cannot be read; a usage error when `head` is no hash. What is wrong with the chain is in the
    /// result.
    pub fn audit_verify(&self, head: Option<&str>) -> Result<AuditCheck> {
        let head = head.map(str::trim).map(str::to_ascii_lowercase);
        if let Some(text) = head
            .as_deref()
            .filter(|text| hex::decode(text).map_or(true, |hash| hash.len() != 32))
        {
            let message =
                format!("{text:?} is no hash of a line; `audit verify` prints one as 64 hexadecimal digits");
            return Err(SinkError::new(ErrorKind::Usage, "bad_hash", message));
        }
        let mut checking = Checking::new(head);
        self.each_audit_line(|line| checking.line(line))?;
        let mut check = checking.end();
        check.path = self.paths().audit_file();
        Ok(check)
    }

    /// The last `count` lines of the audit trail, those of one profile or agent where asked for.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn audit_list(&self, count: usize, profile: Option<&str>, agent: Option<&str>) -> Result<AuditList> {
        let mut list = AuditList::default();
        let mut number = 0;
        self.each_audit_line(|bytes| {
            number += 1;
            let Some(line) = said(number, bytes) else {
                list.unreadable += 1;
                return;
            };
            let wanted = profile.is_none_or(|id| line.profile.as_deref() == Some(id))
                && agent.is_none_or(|id| line.agent.as_deref() == Some(id));
            if wanted {
                list.lines.push_back(line);
                list.matching += 1;
            }
            if list.lines.len() > count {
                list.lines.pop_front();
            }
        })?;
        Ok(list)
    }

    /// Calls `each` with every line, without its end.
    fn each_audit_line(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let path = self.paths().audit_file();
        let opened = match self.host().files.open(&path, OpenMode::Read) {
            Ok(file) => read_lines(file, &mut each),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        opened.map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            SinkError::new(ErrorKind::Failed, "audit_unreadable", message)
        })
    }
}

fn read_lines(mut file: Box<dyn FileHandle>, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut offset = 0;
    let mut chunk = vec![0; CHUNK];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let read = file.read_at(offset, &mut chunk)?;
        if read == 0 {
            break;
        }
        offset += u64::try_from(read).unwrap_or(0);
        for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            if let Some(line) = pending.strip_suffix(b"\n") {
                each(line);
                pending.clear();
            }
        }
    }
    if !pending.is_empty() {
        each(&pending);
    }
    Ok(())
}

fn said(number: usize, bytes: &[u8]) -> Option<AuditLine> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(AuditLine {
        number,
        at: UnixMillis(value.get("at")?.as_i64()?),
        event: text("event")?,
        agent: text("agent"),
        profile: text("profile"),
        client: text("client"),
        detail: text("detail"),
        pid: value.get("pid").and_then(Value::as_u64),
    })
}

fn hash_of(line: &[u8]) -> String {
    hex::encode(Sha256::digest(line))
}

/// The check so far.
struct Checking {
    check: AuditCheck,
    /// The hash of the line before; of nothing before the first.
    before: String,
    head: Option<String>,
}

impl Checking {
    fn new(head: Option<String>) -> Self {
        let check = AuditCheck {
            head_found: head.as_ref().map(|_| false),
            ..AuditCheck::default()
        };
        Self {
            check,
            before: hash_of(b""),
            head,
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        let check = &mut self.check;
        check.lines += 1;
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) if value.get("previous").and_then(Value::as_str).is_some() => {
                let names = value.get("previous").and_then(Value::as_str).unwrap_or_default();
                if check.fault.is_none() && names != self.before {
                    check.fault = Some(fault(check.lines, names, &self.before));
                }
                let at = value.get("at").and_then(Value::as_i64).map(UnixMillis);
                check.first_at = check.first_at.or(at);
                check.last_at = at.or(check.last_at);
            }
            // What names no line before it was cut off while it was written, or is not ours.
            Ok(_) | Err(_) => check.cut_off.push(check.lines),
        }
        self.before = hash_of(bytes);
        check.head = Some(self.before.clone());
        if self.head.as_ref() == Some(&self.before) {
            check.head_found = Some(true);
        }
    }

    fn end(self) -> AuditCheck {
        self.check
    }
}

fn fault(line: usize, names: &str, found: &str) -> AuditFault {
    let meaning = if line == 1 {
        "the lines before it were removed".to_owned()
    } else {
        format!(
            "line {} was changed after it was written, or lines between the two were removed or put in",
            line - 1
        )
    };
    AuditFault {
        line,
        names: names.to_owned(),
        found: found.to_owned(),
        meaning,
    }
}

#[cfg(test)]
mod tests;
