//! Calls of model APIs: what became of them, what is believed because of that, and who therefore serves the next.
//!
//! A caller takes a lease, makes its call and reports the outcome. A failure is classified (spec.md 7) and benches the
//! profile for what it failed at, for as long as the provider says or as the steps of spec.md 5.3 have it; a success
//! ends that. Benches hold for all processes on the state dir (`benches`), show in `auth-state.json` for other
//! programs (`projection`), and end with the credential that they are about (`epoch`).
//!
//! An answer that was served never penalises, and neither a time-out nor a broken connection touches an account.

pub(crate) mod benches;
pub(crate) mod choose;
pub(crate) mod crossings;
pub(crate) mod epoch;
pub(crate) mod limits;
pub(crate) mod probe;
pub(crate) mod projection;
pub(crate) mod quota;
mod report;
mod success;
pub(crate) mod testing;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokensink_host::Host;
use tokensink_policy::bench::Bucket;
use tokensink_policy::classify::Class;
use tokensink_store::{InTurn, Paths, Queue};
use tokensink_types::{AgentId, ProfileId, UnixMillis};

use benches::BenchFiles;
use crossings::Crossings;
use quota::Quotas;

/// How often `lastUsed` and `lastGood` of a profile are written at most, while nothing else is to be written.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// Names a lease: sixteen hex digits, different for every lease of every process with near certainty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

impl LeaseId {
    /// The id with this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_id).map(Self)
    }

    /// Its text, in ASCII: sixteen hexadecimal digits.
    #[must_use]
    pub fn digits(self) -> [u8; 16] {
        let mut left = self.0;
        let mut digits = [b'0'; 16];
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(left % 16) as usize];
            left /= 16;
        }
        digits
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

/// When a lease was handed out, and in which epoch of its profile: what became of it says nothing about a later one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Issued {
    /// When.
    pub at: UnixMillis,
    /// How many logins the profile had had by then.
    pub epoch: u64,
}

/// What became of a call that was made with a lease.
#[derive(Debug, Clone, Copy)]
pub enum CallOutcome<'a> {
    /// The head of an answer with a 2xx status.
    Served {
        /// Its headers.
        headers: &'a HeaderMap,
        /// How much it says for the account.
        proof: Proof,
    },
    /// The end of a stream whose beginning was reported ([`Proof::Begun`]), without an error event in it.
    Finished,
    /// An error answer, or an error event within a stream that was served.
    Failed {
        /// The status; `None` for an error event.
        status: Option<u16>,
        /// The answer's headers.
        headers: &'a HeaderMap,
        /// What it said; the first 64 KiB are enough.
        body: &'a [u8],
    },
    /// No connection came about, so nothing was sent.
    NotConnected {
        /// What the system said.
        error: &'a str,
    },
    /// No answer, or not the whole of it, in time.
    TimedOut,
    /// The connection broke after the request was sent.
    CutOff,
    /// The caller has given up, or never made the call.
    Abandoned,
}

/// How much an answer with a 2xx status says for its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The call costs nothing: the login is taken, and whether a call that costs something would be is open.
    Free,
    /// A stream begins, in which an error may follow: the account serves now, and its failures are not forgotten yet.
    Begun,
    /// The answer is whole, or nothing but its end may go wrong.
    Whole,
}

/// What was made of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// What the failure means; `None` for a call that was served or given up.
    pub class: Option<Class>,
    /// The bench that it opened, or that it fell into.
    pub bench: Option<BenchInfo>,
    /// How long the user wants to be waited before another account or model is asked (`overloadedBackoffMs`,
    /// spec.md 6.6); usually zero.
    pub rest: Duration,
}

/// A bench, for callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchInfo {
    /// What it keeps from being tried.
    pub bucket: Bucket,
    /// When it ends.
    pub until: UnixMillis,
    /// The end is the server's word.
    pub stated: bool,
    /// From when on one request may test it.
    pub half_open: UnixMillis,
}

/// What a process knows about calls.
#[derive(Debug)]
pub(crate) struct Calls {
    benches: BenchFiles,
    quotas: Quotas,
    /// When the use of a profile was last written down, monotonic.
    noted: Mutex<HashMap<AgentId, HashMap<ProfileId, Duration>>>,
    next_lease: AtomicU64,
    crossings: Crossings,
    /// The threads of this process that are about to show benches to other programs.
    showing: InTurn,
}

impl Calls {
    pub(crate) fn new(host: &Host, paths: &Paths, readonly: bool) -> Self {
        let mut bytes = [0; 8];
        // Without randomness ids are merely those of another process.
        let first = host
            .random
            .fill(&mut bytes)
            .map_or(0, |()| u64::from_le_bytes(bytes));
        Self {
            benches: BenchFiles::new(host.clone(), paths.clone(), readonly),
            quotas: Quotas::new(host.clone(), paths.clone(), readonly),
            noted: Mutex::default(),
            next_lease: AtomicU64::new(first),
            crossings: Crossings::new(host.clone(), paths.clone(), readonly),
            showing: InTurn::default(),
        }
    }

    /// What is believed of profiles.
    pub(crate) fn benches(&self) -> &BenchFiles {
        &self.benches
    }

    /// Who shows benches of an owner's profiles to other programs stands here.
    fn showing(&self, owner: &AgentId) -> Arc<Queue> {
        self.showing.of(owner)
    }

    /// An id that this process has not given yet.
    pub(crate) fn lease_id(&self) -> LeaseId {
        LeaseId(self.next_lease.fetch_add(1, Ordering::Relaxed))
    }

    /// When the use of a profile was last written down.
    fn use_noted(&self, owner: &AgentId, id: &ProfileId) -> Option<Duration> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(owner)?.get(id).copied()
    }

    /// Is it time to write down that a profile was used? Only one caller is told so.
    fn is_due(&self, owner: &AgentId, id: &ProfileId, now: Duration) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.get_mut(owner).and_then(|profiles| profiles.get_mut(id));
        match last {
            Some(last) if !is_use_due(*last, now) => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                noted.entry(owner.clone()).or_default().insert(id.clone(), now);
                true
            }
        }
    }
}

fn is_use_due(last: Duration, now: Duration) -> bool {
    now.saturating_sub(last) >= USE_NOTED_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_read_back() {
        for number in [0, 7, u64::MAX] {
            let id = LeaseId(number);
            assert_eq!(LeaseId::parse(&id.to_string()), Some(id));
        }
        for text in [
            "",
            "0",
            "+000000000000007",
            "000000000000000g",
            "00000000000000070",
        ] {
            assert_eq!(LeaseId::parse(text), None, "{text:?}");
        }
    }
}
