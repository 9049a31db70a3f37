//! The world: server, store, record and clock, and the invariants, judged from what really happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokensink_refresh::{Demand, Policy, Setup, Standing, overlay, stand};
use tokensink_types::record::{Generation, Record, RecordState, Rotation};
use tokensink_types::{ProcessId, ProfileId, SpendKey, UnixMillis};

use crate::shared::invariant::Invariant;
use crate::shared::server::{GRACE, Mode, Server};
use crate::shared::tokens::{Rested, number, provider, refresh_of};

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    pub(crate) policy: Policy,
    /// How old the access token is when the first flight starts.
    pub(crate) age: Duration,
    /// The API has rejected the access token.
    pub(crate) rejected: bool,
}

impl Scenario {
    pub(crate) fn new(mode: Mode, age: Duration, rejected: bool) -> Self {
        Self {
            mode,
            policy: mode.policy(),
            age,
            rejected,
        }
    }
}

/// A request whose token may be spent by it, as far as anyone can know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    at: UnixMillis,
    /// The same by the clock of its process, as it was when its flight began, and when it left.
    walls: [UnixMillis; 2],
    /// How often the clock had jumped before its flight.
    jumps: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) demand: Demand,
    pub(crate) server: Server,
    pub(crate) store: Option<Generation>,
    pub(crate) record: Option<Record>,
    /// What the store held before, for programs that write back what they read long ago.
    pub(crate) copies: Vec<Generation>,
    /// True time; a process reads it wrong by `skew` milliseconds.
    pub(crate) time: UnixMillis,
    pub(crate) skew: i64,
    jumps: u32,
    jumps_before: u32,
    requests: BTreeMap<String, Vec<Request>>,
    tombstones: BTreeSet<String>,
    /// The newest refresh token that was durable when a process last read.
    newest_read: Option<u32>,
    /// The clock's error when the present flight began.
    before: i64,
    /// The newest access token that ever was durable.
    kept_once: Option<u32>,
    /// Tokens were issued and their answer never became durable.
    pub(crate) lost: bool,
    /// Another program has overwritten tokens that were durable only where it wrote.
    pub(crate) destroyed: bool,
    /// The server revoked the grant, or mixed up accounts, by itself.
    pub(crate) server_fault: bool,
    pub(crate) broken: BTreeSet<Invariant>,
}

impl World {
    /// A grant on its second generation, at rest; a copy of the spent first one is about.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let start = UnixMillis(1_700_000_000_000);
        let Rested {
            server,
            first,
            second,
            record,
        } = Rested::new(scenario.mode, &profile(), "store", start);
        let rejected = scenario.rejected.then(|| second.tokens.access.clone());
        Self {
            policy: scenario.policy.clone(),
            demand: Demand {
                rejected,
                ..Demand::default()
            },
            server,
            store: Some(second.clone()),
            record: Some(record),
            copies: vec![first],
            time: start.plus(scenario.age),
            skew: 0,
            jumps: 0,
            jumps_before: 0,
            requests: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            newest_read: None,
            before: 0,
            kept_once: None,
            lost: false,
            destroyed: false,
            server_fault: false,
            broken: BTreeSet::new(),
        }
    }

    /// The time as a process reads it.
    pub(crate) fn wall(&self) -> UnixMillis {
        UnixMillis(self.time.0 + self.skew)
    }

    pub(crate) fn jump(&mut self, by: i64) {
        self.skew += by;
        self.jumps += 1;
    }

    /// What the next flight is given.
    pub(crate) fn setup(&mut self) -> Setup {
        self.jumps_before = self.jumps;
        self.before = self.skew;
        Setup {
            provider: provider(),
            profile: profile(),
            store: "store".to_owned(),
            me: ProcessId {
                host: "host".to_owned(),
                boot: "boot".to_owned(),
                pid: 1,
                start: 1,
            },
            policy: self.policy.clone(),
            demand: self.demand.clone(),
            jitter: 0,
        }
    }

    /// What anyone who reads store and record takes for valid.
    pub(crate) fn current(&self) -> Option<Generation> {
        let stored = self.store.as_ref()?;
        Some(overlay(stored, self.record.as_ref()).current.clone())
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        let current = self.current()?;
        let record = self.record.as_ref();
        Some(stand(&current, record, &self.policy, &self.demand, self.wall()))
    }

    fn durable(&self) -> impl Iterator<Item = &Generation> {
        let recorded = self.record.as_ref().and_then(|record| record.generation.as_ref());
        self.store.iter().chain(recorded)
    }

    /// The newest access token that is durable anywhere together with a refresh token.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.durable()
            .filter(|generation| generation.tokens.refresh_token().is_some())
            .map(|generation| number(generation.tokens.access.expose()))
            .max()
    }

    pub(crate) fn on_read(&mut self) {
        self.newest_read = self.newest_refresh();
    }

    /// Judges the decision to send `generation`, by what could be known then.
    pub(crate) fn on_send(&mut self, generation: &Generation) {
        let Some(key) = generation.spend_key() else { return };

        let announced = matches!(
            self.record.as_ref().map(|record| &record.state),
            Some(RecordState::Sent(sent)) if sent.spend == key
        );
        if !announced {
            self.broken.insert(Invariant::RecordedFirst);
        }
        if self.policy.rotation == Rotation::Never {
            return;
        }
        let token = refresh_of(generation);
        if self.tombstones.contains(&token) || self.newest_read > Some(number(&token)) {
            self.broken.insert(Invariant::SendOnce);
        }
        let Some(earlier) = self.requests.get(&token).filter(|earlier| !earlier.is_empty()) else {
            return;
        };
        // A clock that was put back by as much as has passed deceives every process.
        let (first, wall) = (&earlier[0], self.wall());
        let within = |from: UnixMillis, now| from <= now && from.until(now) < self.policy.replay_grace;
        let deceived = first.walls.iter().any(|first| within(*first, wall));
        let in_grace = deceived || within(first.at, self.time);
        let rejected = self.demand.rejected.as_ref() == Some(&generation.tokens.access);
        let dead = rejected || generation.tokens.expires.is_some_and(|end| end <= wall);
        if !in_grace && !dead {
            self.broken.insert(Invariant::SendOnce);
        }
        let last = &earlier[earlier.len() - 1];
        let at_once = last.jumps == self.jumps && last.at.until(self.time) < Duration::from_millis(1500);
        let allowed = if in_grace { 2 } else { 1 };
        if at_once && earlier.len() > allowed {
            self.broken.insert(Invariant::BackOff);
        }
    }

    /// The request left; from now on its token may be spent.
    pub(crate) fn on_sent(&mut self, generation: &Generation) {
        let request = Request {
            at: self.time,
            walls: [self.before, self.skew].map(|skew| UnixMillis(self.time.0 + skew)),
            jumps: self.jumps_before,
        };
        self.requests
            .entry(refresh_of(generation))
            .or_default()
            .push(request);
    }

    /// The server has answered, and let the token live.
    pub(crate) fn on_granted(&mut self, current: &Generation, answer: &Generation) {
        if current.spend_key() == answer.spend_key() {
            self.requests.remove(&refresh_of(current));
        }
    }

    /// The last request is known to have left the token as it was.
    pub(crate) fn on_unspent(&mut self, generation: &Generation) {
        if let Some(requests) = self.requests.get_mut(&refresh_of(generation)) {
            requests.pop();
        }
    }

    pub(crate) fn write_record(&mut self, record: Record) {
        let before = self.newest_refresh();
        if let RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } = &record.state {
            let held = record
                .generation
                .iter()
                .find(|held| held.spend_key() == Some(*spent));
            self.tombstones.extend(held.map(refresh_of));
        }
        self.record = Some(record);
        self.check_kept(before);
    }

    pub(crate) fn write_store(&mut self, generation: Generation) {
        let before = self.newest_refresh();
        self.copies.extend(self.store.clone());
        self.store = Some(generation);
        self.check_kept(before);
        let blank = self
            .store
            .as_ref()
            .is_some_and(|now| now.tokens.refresh_token().is_none());
        if blank {
            self.broken.insert(Invariant::Kept);
        }
    }

    fn check_kept(&mut self, before: Option<u32>) {
        self.kept_once = self.kept_once.max(self.newest());
        if self.newest_refresh() < before {
            self.broken.insert(Invariant::Kept);
        }
        if self.durable().any(|held| refresh_of(held).starts_with("foreign")) {
            self.broken.insert(Invariant::Account);
        }
    }

    /// Someone was told that the grant serves; `granted` is what this flight was given.
    pub(crate) fn on_served(&mut self, granted: Option<u32>) {
        if granted > self.kept_once {
            self.broken.insert(Invariant::Durable);
        }
        // Another program may meanwhile have destroyed the only copy, where the record could not be written; or, where
        // the refresh token stays, have put back an access token that a wrong clock makes look newer.
        let current = self.current();
        let counts = current.map(|current| number(current.tokens.access.expose()));
        let destroyed =
            granted > self.newest() || (self.server.mode == Mode::NonRotating && granted > counts);
        if !destroyed && self.standing() != Some(Standing::Fresh) {
            self.broken.insert(Invariant::Serves);
        }
    }

    /// The newest refresh token that is durable anywhere. Access tokens come and go, but this must not be lost.
    pub(crate) fn newest_refresh(&self) -> Option<u32> {
        self.durable()
            .filter(|generation| generation.tokens.refresh_token().is_some())
            .map(|generation| number(&refresh_of(generation)))
            .max()
    }

    /// What of this world bears on its future.
    pub(crate) fn key(&self) -> String {
        let tokens: Vec<&str> = self
            .durable()
            .map(|generation| generation.tokens.access.expose())
            .collect();
        format!(
            "{} {tokens:?} {:?} {:?} {} {} {} {:?} {:?} {}{}{}",
            server_key(&self.server, self.time),
            self.store,
            self.record,
            self.skew,
            self.time,
            self.jumps,
            self.requests,
            self.tombstones,
            self.lost,
            self.destroyed,
            self.server_fault
        )
    }
}

fn profile() -> ProfileId {
    ProfileId::parse("rig:work").unwrap()
}

/// The store's key.
pub(crate) fn stored_key(world: &World) -> Option<SpendKey> {
    world.store.as_ref().and_then(Generation::spend_key)
}

/// What distinguishes this server's future from another's, relative to `now`.
fn server_key(server: &Server, now: UnixMillis) -> String {
    let last = server.issued.last().copied().unwrap_or(now).until(now);
    let rotated = server.rotated_at.until(now).min(GRACE);
    format!(
        "{}{}/{}/{last:?}/{rotated:?}",
        server.revoked,
        server.refresh,
        server.issued.len()
    )
}
