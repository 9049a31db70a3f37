//! What a state of the model is made of: one server, two owner stores with their records, three processes, another
//! program, and what has happened so far as far as the invariants ask for it.

use std::time::Duration;

use tokensink_types::UnixMillis;

use crate::shared::invariant::Invariant;
use crate::shared::server::{LIFE, Mode};
use crate::tables::{Act, Id, Told};

/// Main's store, and the store of an agent that holds a copy of the same login.
pub(crate) const MAIN: usize = 0;
pub(crate) const COPY: usize = 1;

/// Where each process flies: for main, for an agent that has no login of its own and so inherits main's, and for the
/// agent with the copy.
pub(crate) const PLACE_OF: [usize; 3] = [MAIN, MAIN, COPY];

/// When the second generation was issued.
pub(crate) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Just past the replay grace, and the first waits.
pub(crate) const SHORT: Duration = Duration::from_secs(31);
/// From one margin into the next, and past the end of the token.
pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const JUMP: i64 = 3_600_000;

/// Another program that keeps main's login in its own file, and refreshes it five minutes before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Holds a lock from before it reads until after it has written, takes over one that looks abandoned, and blanks
    /// the login when it is refused (Claude Code, clients.md 0.2 to 0.4).
    Locking,
    /// Has no lock for a refresh, and leaves a refused login as it is (Codex, clients.md 0.1, 0.4).
    Lockless,
}

/// How a story begins.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    /// How old the access token is.
    pub(crate) age: Duration,
    /// An API has rejected the access token.
    pub(crate) rejected: bool,
    pub(crate) neighbour: Option<Habit>,
    /// Whether the agent with the copy may look at main's login.
    pub(crate) inherits: bool,
}

impl Scenario {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            age: LIFE - Duration::from_secs(200),
            rejected: false,
            neighbour: None,
            inherits: true,
        }
    }
}

/// How much may still go wrong or happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Left {
    /// Of all that follows together, but for the passing of time.
    pub(crate) faults: u8,
    pub(crate) crashes: u8,
    pub(crate) pauses: u8,
    pub(crate) jumps: u8,
    /// Whole-store writes of an older image.
    pub(crate) stale: u8,
    /// Requests and answers that the network or the server spoils.
    pub(crate) spoilt: u8,
    pub(crate) shorts: u8,
    pub(crate) longs: u8,
}

impl Left {
    /// Without what no fault is left for.
    pub(crate) fn usable(self) -> Self {
        if self.faults > 0 {
            return self;
        }
        Self {
            shorts: self.shorts,
            longs: self.longs,
            ..Self::default()
        }
    }
}

/// An owner store and its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) store: Id,
    pub(crate) record: Id,
    /// What the store held before, in the model's list of lists: what another program may still write back.
    pub(crate) past: Id,
}

/// A request on its way, seen from the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    Silent,
    /// It left when the process's clock showed this.
    Sent(i64),
    /// The server has handled it; this is on its way back.
    Reply(Told),
}

/// A process in the middle of a flight. It holds its place's lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Flying {
    /// Its process id, which no record names that was written by another.
    pub(crate) pid: u8,
    /// It has not read yet.
    pub(crate) begins: bool,
    pub(crate) flight: Id,
    pub(crate) act: Act,
    pub(crate) wire: Wire,
    pub(crate) paused: bool,
    /// Its lock looks abandoned to a program that goes by the lock's age.
    pub(crate) stale: bool,
    /// The access token that it was given and that is not known to be durable, or 0.
    pub(crate) granted: u8,
    /// The newest refresh token that it has read, until it sends.
    pub(crate) newest_read: u8,
    /// What its clock showed when it decided to send.
    pub(crate) admitted_at: i64,
    /// How often the clock had jumped by then.
    pub(crate) admitted_jumps: u8,
    /// The access token that an API has rejected, or 0.
    pub(crate) rejected: u8,
    /// The rival's record that it has seen; admission checks that it has not moved.
    pub(crate) rival: Option<Id>,
    /// What its store held when it last read or wrote it, if another program has written there since.
    pub(crate) overwritten: Option<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Process {
    /// Flights that it may still begin. One that crashes is begun anew.
    pub(crate) runs: u8,
    pub(crate) flying: Option<Flying>,
}

/// How far the other program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Neighbour {
    Rests,
    /// It has sent the refresh token of this content of the file.
    Asked {
        file: Id,
        token: u8,
        wall: i64,
    },
    Answered {
        file: Id,
        token: u8,
        told: Told,
    },
    Done {
        token: u8,
    },
}

impl Neighbour {
    /// The refresh token that it has sent.
    pub(crate) fn token(self) -> Option<u8> {
        match self {
            Self::Rests => None,
            Self::Asked { token, .. } | Self::Answered { token, .. } | Self::Done { token } => Some(token),
        }
    }

    pub(crate) fn is_busy(self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Answered { .. })
    }
}

/// A request of ours whose token may be spent by it, as far as anyone can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) token: u8,
    /// Where it was sent from.
    pub(crate) from: usize,
    /// True time, and what the process's clock showed when it decided.
    pub(crate) at: i64,
    pub(crate) wall: i64,
    pub(crate) jumps: u8,
}

/// How what is known of our requests changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// It has left.
    Sent(Request),
    /// The server has answered, and let the token live.
    Alive(u8),
    /// The last one from this place is known to have left its token as it was.
    Unspent(usize),
}

/// True reasons for a login.
pub(crate) mod harm {
    /// The server has acted, and whoever asked died or was cut off before the answer was durable.
    pub(crate) const LOST_ANSWER: u8 = 1;
    /// Another program has overwritten the only copy.
    pub(crate) const DESTROYED: u8 = 2;
    /// The other program and we have sent the same token, where no lock could keep us apart.
    pub(crate) const CLASH: u8 = 4;
    /// The server answered with another account's tokens.
    pub(crate) const OTHER_ACCOUNT: u8 = 8;
}

/// What has happened, as far as the invariants ask for it. No process sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// In the model's list of request lists.
    pub(crate) requests: Id,
    /// Refresh tokens that were refused for good, as a set of bits.
    pub(crate) tombstones: u16,
    /// The newest access token that ever was durable.
    pub(crate) kept_once: u8,
    pub(crate) jumps: u8,
    /// See [`harm`].
    pub(crate) harm: u8,
    /// Broken invariants, as a set of bits.
    pub(crate) broken: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) scenario: u8,
    /// True time in milliseconds; every clock of the host is wrong by `skew`.
    pub(crate) time: i64,
    pub(crate) skew: i64,
    pub(crate) server: Id,
    pub(crate) places: [Place; 2],
    pub(crate) processes: [Process; 3],
    pub(crate) neighbour: Neighbour,
    /// Requests whose sender is gone and that may still reach the server: the token, or 255.
    pub(crate) orphans: [u8; 2],
    pub(crate) left: Left,
    pub(crate) past: Past,
}

/// The empty list of earlier contents.
pub(crate) const NOTHING: Id = 0;

pub(crate) const NO_ORPHAN: u8 = 255;

impl State {
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis(self.time)
    }

    /// The time as a process reads it.
    pub(crate) fn wall(&self) -> UnixMillis {
        UnixMillis(self.time + self.skew)
    }

    pub(crate) fn breaks(&mut self, invariant: Invariant) {
        self.past.broken |= bit(invariant);
    }

    pub(crate) fn is_running(&self, pid: u8) -> bool {
        let mut flying = self
            .processes
            .iter()
            .filter_map(|process| process.flying.as_ref());
        flying.any(|flying| flying.pid == pid)
    }

    /// Who holds the lock of `place`.
    pub(crate) fn holder(&self, place: usize) -> Option<&Flying> {
        let mut at = (0..3).filter(|slot| PLACE_OF[*slot] == place);
        at.find_map(|slot| self.processes[slot].flying.as_ref())
    }

    /// The request of a process that is gone goes on without it.
    pub(crate) fn orphan(&mut self, token: u8) {
        if let Some(free) = self.orphans.iter_mut().find(|orphan| **orphan == NO_ORPHAN) {
            *free = token;
        }
        self.orphans.sort_unstable();
    }

    /// The same without any fault to come.
    pub(crate) fn calm(&self) -> Self {
        let mut calm = self.clone();
        calm.left = Left::default();
        for place in &mut calm.places {
            place.past = NOTHING;
        }
        for process in &mut calm.processes {
            process.runs = 0;
        }
        calm
    }
}

pub(crate) fn bit(invariant: Invariant) -> u16 {
    1 << (invariant as u16)
}
