//! What is to happen in a run: who asks when, and what goes wrong at which of its calls.

use std::time::Duration;

use tokensink_authserver::FaultAction;
use tokensink_testkit::Errno;

/// What a loss of power leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    All,
    /// Each sector and each name or not, by this seed: writes reach a disk in any order.
    Mixed(u64),
}

/// What another program does to the store, without a word to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intruder {
    /// It writes the whole store as it was at the beginning.
    OlderImage,
    /// It writes what is there in its own spelling and order.
    Reordered,
    /// It logs in as somebody else.
    OtherAccount,
    /// It blanks the login, as some programs do when a refresh fails.
    Blank,
}

/// What happens at one call of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The process dies, and the call has no effect.
    CrashBefore,
    /// The process dies after the call had its effect.
    CrashAfter,
    /// The process dies in the middle: half of what it writes is written.
    Torn,
    /// The machine loses power before the call.
    PowerBefore(Loss),
    /// The machine loses power after the call.
    PowerAfter(Loss),
    /// The call has no effect and fails.
    Fail(Errno),
    /// The call has its effect and fails.
    FailAfter(Errno),
    /// Half of a write is written, and it fails.
    Short(Errno),
    /// A sync fails, and what it was to write is dropped: a later sync does not write it either.
    LostSync,
    /// The process is stopped for this long, and others go on.
    Pause(Duration),
    /// Somebody sets the wall clock by so many milliseconds.
    Clock(i64),
    /// The machine is suspended.
    Suspend(Duration),
    /// Another program writes.
    Intrude(Intruder),
}

impl Trouble {
    /// Can it come at a call of this name? Where it cannot, nothing happens.
    pub(crate) fn concerns(self, call: &str) -> bool {
        let writes = call.starts_with("write");
        match self {
            Self::Torn | Self::Short(_) => writes,
            Self::LostSync => call.starts_with("sync "),
            Self::FailAfter(_) => {
                let changes = [
                    "write",
                    "sync",
                    "rename",
                    "hard_link",
                    "remove",
                    "create",
                    "truncate",
                    "read the",
                ];
                changes.iter().any(|word| call.starts_with(word))
            }
            _ => true,
        }
    }
}

/// What becomes of one exchange with the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Net {
    Fine,
    /// The connection is cut when so many bytes of the request are written.
    CutRequest(usize),
    /// The connection is cut when so many bytes of the answer are read.
    CutAnswer(usize),
    /// The answer takes this long.
    Late(Duration),
    /// The server does this.
    Answer(FaultAction),
    /// The answer comes twice in one.
    Doubled,
    /// The transport sends the request twice, which none of ours does: for seeing the oracle find it.
    SentTwice,
}

/// One process that asks for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Caller {
    /// Which of the world's users it is.
    pub(crate) user: usize,
    /// How long it waits.
    pub(crate) wait: Duration,
    /// The API has answered 401 to the present token.
    pub(crate) rejected: bool,
    /// It renews ahead of time instead.
    pub(crate) renews: bool,
    /// What happens at which of its calls.
    pub(crate) troubles: Vec<(usize, Trouble)>,
    /// What becomes of its exchanges, in turn.
    pub(crate) net: Vec<Net>,
}

impl Caller {
    /// A process of the first user without trouble.
    pub(crate) fn calm() -> Self {
        Self {
            wait: Duration::from_secs(90),
            ..Self::default()
        }
    }
}

/// Processes that run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    /// Time that passes before.
    pub(crate) after: Duration,
    /// Who asks.
    pub(crate) callers: Vec<Caller>,
    /// At one of how many calls the turn passes on; 0 for never.
    pub(crate) switch: u64,
}

impl Act {
    /// One process.
    pub(crate) fn of(after: Duration, caller: Caller) -> Self {
        Self {
            after,
            callers: vec![caller],
            switch: 0,
        }
    }
}

/// A whole run. What follows its last act is always the same: the faults stop, time passes, and everybody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) acts: Vec<Act>,
}

impl Plan {
    /// Does anybody set the wall clock?
    pub(crate) fn turns_clock(&self) -> bool {
        let mut troubles = self
            .acts
            .iter()
            .flat_map(|act| &act.callers)
            .flat_map(|caller| &caller.troubles);
        troubles.any(|(_, trouble)| matches!(trouble, Trouble::Clock(_)))
    }
}
