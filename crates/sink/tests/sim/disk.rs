//! What files hold, read by hand: stores as JSON, refresh records by their pages. The oracle must not see the disk
//! through the code that it judges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Magic, page size, payload length, sequence number, checksum.
const HEADER: usize = 8 + 4 + 4 + 8 + 32;
/// Where a second page can begin.
const PAGE_SIZES: [usize; 4] = [16 << 10, 32 << 10, 64 << 10, 128 << 10];

/// The parts of the disk that can hold logins.
pub(crate) struct Holdings {
    /// Refresh records, the newest whole page of each.
    pub(crate) records: Vec<Value>,
    /// Stores that parse.
    pub(crate) stores: Vec<Value>,
}

impl Holdings {
    /// Reads them out of an image of the disk.
    pub(crate) fn of(image: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut holdings = Self {
            records: Vec::new(),
            stores: Vec::new(),
        };
        for (path, bytes) in image {
            let name = path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into());
            let parent = path.parent().and_then(Path::file_name);
            if parent.is_some_and(|parent| parent == "journal") && name.len() == 64 {
                holdings.records.extend(record(bytes));
            } else if name == "auth-profiles.json" || name == ".credentials.json" {
                holdings.stores.extend(serde_json::from_slice(bytes));
            }
        }
        holdings
    }

    /// The same without the records.
    pub(crate) fn only_stores(mut self) -> Self {
        self.records.clear();
        self
    }

    /// Is this token in a store or in a record's generation, where a reader finds it?
    pub(crate) fn holds(&self, token: &str) -> bool {
        self.records
            .iter()
            .map(|record| &record["generation"])
            .chain(&self.stores)
            .any(|value| mentions(value, token))
    }

    /// Is there a record that says that this key was sent?
    pub(crate) fn says_sent(&self, key: &str) -> bool {
        let states = self.records.iter().map(|record| &record["state"]);
        states
            .filter(|state| state["is"] == "sent")
            .any(|state| state["spend"] == key)
    }

    /// Is there a record that says that this key was refused after an answer was lost?
    pub(crate) fn says_lost(&self, key: &str) -> bool {
        let states = self.records.iter().map(|record| &record["state"]);
        states
            .filter(|state| state["is"] == "refused" && state["after_lost_answer"] == true)
            .any(|state| state["spent"] == key)
    }
}

impl Holdings {
    /// Is there a record of this profile in this store?
    pub(crate) fn has_record(&self, store: &str, profile: &str) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record["store"] == store && record["profile"] == profile)
    }
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(values) => values.iter().any(|value| mentions(value, text)),
        Value::Object(map) => map.values().any(|value| mentions(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The newest whole page of a record's file.
fn record(file: &[u8]) -> Option<Value> {
    let starts = std::iter::once(0).chain(PAGE_SIZES);
    let pages = starts.filter_map(|start| page(file.get(start..)?));
    let (_, payload) = pages.max_by_key(|(sequence, _)| *sequence)?;
    serde_json::from_slice(payload).ok()
}

fn page(bytes: &[u8]) -> Option<(u64, &[u8])> {
    if bytes.get(..8)? != b"tsrec01\n" {
        return None;
    }
    let length = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
    let sequence = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    let payload = bytes.get(HEADER..HEADER + usize::try_from(length).ok()?)?;
    let hash = Sha256::new()
        .chain_update(bytes.get(8..24)?)
        .chain_update(payload)
        .finalize();
    (hash[..] == *bytes.get(24..HEADER)?).then_some((sequence, payload))
}
