//! The model: scenarios, bounds, and what its numbers say about a place.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use tokensink_refresh::{Demand, Policy, Setup, Standing, overlay, stand};
use tokensink_types::record::{Generation, RecordState};
use tokensink_types::{ProcessId, ProfileId, UnixMillis};

use crate::shared::machine::Machine;
use crate::shared::server::{Reply, Server};
use crate::shared::tokens::{self, Rested, generation, number, provider, refresh_of};
use crate::state::{
    COPY, Change, Left, MAIN, NO_ORPHAN, NOTHING, Neighbour, Past, Place, Process, Request, START, Scenario,
    State,
};
use crate::tables::{Act, Id, Memo, Pool, Tables, Told};

/// Most refresh tokens that a story sees; they are bits of a number.
const TOKENS_MAX: u8 = 16;

/// What the hands of the machine, the caller's part, do wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lapse {
    None,
    /// Admission does not look for rivals that moved.
    AdmitsBlindly,
    /// A lock that is held for long is taken for abandoned.
    BreaksLocks,
}

/// What may happen in a story.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) left: Left,
    /// Flights of each process.
    pub(crate) runs: u8,
}

/// What of a generation the invariants look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `None` where it is blank.
    pub(crate) refresh: Option<u8>,
    pub(crate) access: u8,
    pub(crate) foreign: bool,
    /// In [`Tables::keys`].
    pub(crate) key: Id,
    pub(crate) expires: i64,
}

/// What of a record the invariants look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordFacts {
    pub(crate) generation: Option<Facts>,
    /// The key of an unanswered request, and who sent it.
    pub(crate) sent: Option<(Id, u8)>,
    /// The token that was refused or parked.
    pub(crate) tombstone: Option<u8>,
}

/// What a process that reads at a place finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) told: Told,
    pub(crate) newest: u8,
    pub(crate) rival: Option<Id>,
}

/// Scenario, place, store, record, and what the clock shows.
type PlaceKey = (u8, usize, Id, Id, i64);
/// Server, token, whether it errs, its time, and the sender's clock.
type Question = (Id, u8, bool, i64, i64);
/// Scenario, place, process id, and the content whose access token was rejected.
type Beginning = (u8, usize, u8, Option<Id>);

pub(crate) struct Refreshing<M> {
    pub(crate) tables: Tables<M>,
    pub(crate) servers: Pool<Server>,
    pub(crate) lists: Pool<Vec<Id>>,
    pub(crate) requests: Pool<Vec<Request>>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) bounds: Bounds,
    pub(crate) lapse: Lapse,
    /// The invariants whose breach ends the search.
    pub(crate) wanted: u16,
    /// Broken invariants after a state's fault-free future, by the state's fingerprint.
    pub(crate) futures: Memo<u64, u16>,
    /// States at rest from which the grant is usable, and those with a true reason for a login.
    pub(crate) live: AtomicUsize,
    pub(crate) lost: AtomicUsize,
    /// Every step is told.
    pub(crate) aloud: AtomicBool,
    images: Memo<Id, Id>,
    answers: Memo<Question, (Id, Told)>,
    changes: Memo<(Id, Change), Id>,
    facts: Memo<Id, Facts>,
    record_facts: Memo<Id, RecordFacts>,
    starts: Memo<Beginning, (Id, Act)>,
    readings: Memo<(PlaceKey, Id, Id, bool), Reading>,
    standings: Memo<(PlaceKey, Option<Id>), (Id, bool, Standing)>,
}

impl<M: Machine + Clone + Debug + PartialEq> Refreshing<M> {
    pub(crate) fn new(scenarios: Vec<Scenario>, bounds: Bounds, lapse: Lapse, wanted: u16) -> Self {
        let model = Self {
            tables: Tables::default(),
            servers: Pool::default(),
            lists: Pool::default(),
            requests: Pool::default(),
            scenarios,
            bounds,
            lapse,
            wanted,
            futures: Memo::default(),
            live: AtomicUsize::default(),
            lost: AtomicUsize::default(),
            aloud: AtomicBool::default(),
            images: Memo::default(),
            answers: Memo::default(),
            changes: Memo::default(),
            facts: Memo::default(),
            record_facts: Memo::default(),
            starts: Memo::default(),
            readings: Memo::default(),
            standings: Memo::default(),
        };
        assert_eq!(model.lists.number(Vec::new()), NOTHING);
        model
    }

    pub(crate) fn scenario(&self, state: &State) -> &Scenario {
        &self.scenarios[usize::from(state.scenario)]
    }

    /// A grant on its second generation. The agent's store holds a copy, and has no record yet; the spent first
    /// generation is about in some other program's memory.
    pub(crate) fn initial(&self, scenario: usize) -> State {
        let chosen = &self.scenarios[scenario];
        let rested = Rested::new(chosen.mode, &profile(), store_of(MAIN), START);
        let first = self.store(self.tables.stores.number(rested.first));
        let store = self.store(self.tables.stores.number(rested.second));
        let past = self.lists.number(vec![first]);
        let place = |record| Place { store, record, past };
        State {
            scenario: u8::try_from(scenario).unwrap(),
            time: START.plus(chosen.age).0,
            skew: 0,
            server: self.servers.number(rested.server),
            places: [
                place(self.tables.records.number(Some(rested.record))),
                place(self.tables.records.number(None)),
            ],
            processes: std::array::from_fn(|_| Process {
                runs: self.bounds.runs,
                flying: None,
            }),
            neighbour: Neighbour::Rests,
            orphans: [NO_ORPHAN; 2],
            left: self.bounds.left.clone().usable(),
            past: Past {
                requests: self.requests.number(Vec::new()),
                tombstones: 0,
                kept_once: 1,
                jumps: 0,
                harm: 0,
                broken: 0,
            },
        }
    }

    /// `generation` as a store holds it, which has no field for when it was issued.
    pub(crate) fn store(&self, generation: Id) -> Id {
        self.images.get_or(generation, || {
            self.tables.stores.number(Generation {
                issued_at: None,
                ..(*self.tables.stores.get(generation)).clone()
            })
        })
    }

    pub(crate) fn policy(&self, scenario: u8, place: usize) -> Policy {
        let scenario = &self.scenarios[usize::from(scenario)];
        Policy {
            first: place == MAIN && scenario.neighbour.is_some(),
            ..scenario.mode.policy()
        }
    }

    /// What a process wants; `rejected` is the content of a store whose access token an API has rejected.
    pub(crate) fn demand(&self, scenario: u8, rejected: Option<Id>) -> Demand {
        let rejected = match rejected {
            Some(store) => Some(self.tables.stores.get(store).tokens.access.clone()),
            None if self.scenarios[usize::from(scenario)].rejected => Some("ours-a1".into()),
            None => None,
        };
        Demand {
            rejected,
            ..Demand::default()
        }
    }

    pub(crate) fn start(&self, scenario: u8, place: usize, me: u8, rejected: Option<Id>) -> (Id, Act) {
        self.starts.get_or((scenario, place, me, rejected), || {
            self.tables.start(Setup {
                provider: provider(),
                profile: profile(),
                store: store_of(place).to_owned(),
                me: ProcessId {
                    host: "host".to_owned(),
                    boot: "boot".to_owned(),
                    pid: u32::from(me),
                    start: 1,
                },
                policy: self.policy(scenario, place),
                demand: self.demand(scenario, rejected),
                jitter: 0,
            })
        })
    }

    /// What anyone who looks at `place` without a lock finds: the content that counts, whether the store is to be
    /// healed, and the standing.
    pub(crate) fn look(&self, state: &State, place: usize, rejected: Option<Id>) -> (Id, bool, Standing) {
        let at = &state.places[place];
        let wall = state.wall();
        let key = (state.scenario, place, at.store, at.record, wall.0);
        self.standings.get_or((key, rejected), || {
            let stored = self.tables.stores.get(at.store);
            let record = self.tables.records.get(at.record);
            let view = overlay(&stored, (*record).as_ref());
            let policy = self.policy(state.scenario, place);
            let demand = self.demand(state.scenario, rejected);
            let standing = stand(view.current, (*record).as_ref(), &policy, &demand, wall);
            (
                self.tables.stores.number(view.current.clone()),
                view.heal,
                standing,
            )
        })
    }

    /// What a flight at `place` is told when it reads.
    pub(crate) fn read(&self, state: &State, place: usize) -> Reading {
        let other = 1 - place;
        let (at, rival) = (&state.places[place], &state.places[other]);
        let alive = self
            .record_facts(rival.record)
            .sent
            .is_some_and(|(_, by)| state.is_running(by));
        let key = (state.scenario, place, at.store, at.record, state.wall().0);
        self.readings.get_or((key, rival.store, rival.record, alive), || {
            self.read_anew(state, place, alive)
        })
    }

    fn read_anew(&self, state: &State, place: usize, alive: bool) -> Reading {
        let (at, other) = (&state.places[place], &state.places[1 - place]);
        let stored = self.tables.stores.get(at.store);
        let record = self.tables.records.get(at.record);
        let key = overlay(&stored, (*record).as_ref()).current.spend_key();
        let theirs = self.tables.records.get(other.record);
        let knows = |key| (*theirs).as_ref().is_some_and(|theirs| theirs.knows(key));
        let rival = key.filter(|key| knows(*key)).map(|_| other.record);
        let holder = (place == COPY && self.scenario(state).inherits)
            .then(|| self.main_as_holder(state))
            .flatten();
        let known = [
            Some(self.facts(at.store)),
            self.record_facts(at.record).generation,
            holder.map(|holder| self.facts(holder)),
            rival.and_then(|rival| self.record_facts(rival).generation),
        ];
        Reading {
            told: Told::Read {
                stored: at.store,
                record: at.record,
                holder,
                rival: rival.map(|rival| (rival, alive)),
            },
            newest: known
                .iter()
                .flatten()
                .filter_map(|facts| facts.refresh)
                .max()
                .unwrap_or(0),
            rival,
        }
    }

    /// Main's login, unless it is known to be dead.
    fn main_as_holder(&self, state: &State) -> Option<Id> {
        let at = &state.places[MAIN];
        let stored = self.tables.stores.get(at.store);
        let record = self.tables.records.get(at.record);
        let view = overlay(&stored, (*record).as_ref());
        let policy = self.policy(state.scenario, MAIN);
        let standing = stand(
            view.current,
            (*record).as_ref(),
            &policy,
            &Demand::default(),
            state.wall(),
        );
        let dead = matches!(standing, Standing::Dead(_));
        (!dead).then(|| self.tables.stores.number(view.current.clone()))
    }

    /// The server's answer to a request with `token`, sent when its sender's clock showed `wall`.
    pub(crate) fn ask_server(&self, state: &mut State, token: u8, foreign: bool, wall: i64) -> Told {
        let key = (state.server, token, foreign, state.time, wall);
        let (server, told) = self.answers.get_or(key, || {
            let mut server = (*self.servers.get(state.server)).clone();
            let told = match server.handle(u32::from(token), foreign, state.now()) {
                Reply::InvalidGrant => Told::Refused,
                Reply::Tokens {
                    refresh,
                    access,
                    foreign,
                } => {
                    let answer = generation(refresh, access, foreign, UnixMillis(wall));
                    Told::Granted(self.tables.stores.number(answer))
                }
            };
            (self.servers.number(server), told)
        });
        state.server = server;
        told
    }

    pub(crate) fn change_requests(&self, state: &mut State, change: Change) {
        state.past.requests = self.changes.get_or((state.past.requests, change), || {
            let mut requests = (*self.requests.get(state.past.requests)).clone();
            match change {
                Change::Sent(request) => requests.push(request),
                Change::Alive(token) => requests.retain(|request| request.token != token),
                Change::Unspent(place) => {
                    if let Some(last) = requests.iter().rposition(|request| request.from == place) {
                        requests.remove(last);
                    }
                }
            }
            self.requests.number(requests)
        });
    }

    pub(crate) fn facts(&self, store: Id) -> Facts {
        self.facts
            .get_or(store, || self.facts_of(&self.tables.stores.get(store)))
    }

    fn facts_of(&self, generation: &Generation) -> Facts {
        let refresh = refresh_of(generation);
        Facts {
            refresh: (!refresh.is_empty()).then(|| u8::try_from(number(&refresh)).unwrap()),
            access: u8::try_from(number(generation.tokens.access.expose())).unwrap(),
            foreign: refresh.starts_with("foreign"),
            key: self.tables.keys.number(generation.spend_key()),
            expires: generation.tokens.expires.map_or(i64::MAX, |end| end.0),
        }
    }

    pub(crate) fn record_facts(&self, record: Id) -> RecordFacts {
        self.record_facts.get_or(record, || {
            let record = self.tables.records.get(record);
            let Some(record) = (*record).as_ref() else {
                return RecordFacts {
                    generation: None,
                    sent: None,
                    tombstone: None,
                };
            };
            let generation = record.generation.as_ref().map(|held| self.facts_of(held));
            let (sent, dead) = match &record.state {
                RecordState::Sent(sent) => {
                    let by = u8::try_from(sent.holder.pid).unwrap();
                    (Some((self.tables.keys.number(Some(sent.spend)), by)), None)
                }
                RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } => {
                    (None, Some(*spent))
                }
                _ => (None, None),
            };
            // The record may have another generation than the one whose key was refused.
            let tombstone = dead.and_then(|dead| {
                let key = |token: u8| tokens::generation(u32::from(token), 0, false, START).spend_key();
                (0..TOKENS_MAX).find(|token| key(*token) == Some(dead))
            });
            RecordFacts {
                generation,
                sent,
                tombstone,
            }
        })
    }

    /// Does the record know the key? (The contract of `Snapshot::rivals`.)
    pub(crate) fn knows(&self, record: Id, key: Id) -> bool {
        let key = *self.tables.keys.get(key);
        let record = self.tables.records.get(record);
        key.zip((*record).as_ref())
            .is_some_and(|(key, record)| record.knows(key))
    }

    /// What is durable at `place`.
    pub(crate) fn durable(&self, state: &State, place: usize) -> impl Iterator<Item = Facts> {
        let at = &state.places[place];
        let recorded = self.record_facts(at.record).generation;
        [Some(self.facts(at.store)), recorded].into_iter().flatten()
    }

    /// The newest refresh token that is durable at `place`.
    pub(crate) fn newest(&self, state: &State, place: usize) -> Option<u8> {
        self.durable(state, place).filter_map(|facts| facts.refresh).max()
    }

    /// The newest access token that is durable anywhere together with a refresh token.
    pub(crate) fn newest_access(&self, state: &State) -> u8 {
        let all = self.durable(state, MAIN).chain(self.durable(state, COPY));
        all.filter(|facts| facts.refresh.is_some())
            .map(|facts| facts.access)
            .max()
            .unwrap_or(0)
    }

    /// A process id that is not in use, and that no record names.
    pub(crate) fn free_pid(&self, state: &State) -> u8 {
        let named = |pid| {
            let records = state
                .places
                .iter()
                .map(|place| self.record_facts(place.record).sent);
            records.flatten().any(|(_, by)| by == pid)
        };
        (1..u8::MAX)
            .find(|pid| !named(*pid) && !state.is_running(*pid))
            .unwrap()
    }
}

fn store_of(place: usize) -> &'static str {
    ["main", "copy"][place]
}

fn profile() -> ProfileId {
    ProfileId::parse("rig:work").unwrap()
}
