//! Each machine, generation and record that ever occurs gets a number, and each step of the machine is taken once:
//! a state of the model is a handful of numbers, and most of its steps are looked up.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Write as _};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, RwLock};

use tokensink_refresh::{Action, Answer, Death, Event, Failure, Holder, Rival, Setup, Snapshot, Verdict};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{SpendKey, UnixMillis};

use crate::shared::machine::Machine;

/// The number of a value in its [`Pool`].
pub(crate) type Id = u32;

/// Values and their numbers. Two values have the same number if and only if they are equal.
pub(crate) struct Pool<T>(RwLock<Numbers<T>>);

struct Numbers<T> {
    values: Vec<Arc<T>>,
    /// By the hash of the debug text, which shows no secret: equality decides.
    alike: HashMap<u64, Vec<Id>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(RwLock::new(Numbers {
            values: Vec::new(),
            alike: HashMap::new(),
        }))
    }
}

/// Hashes text as it is written.
struct HashText(DefaultHasher);

impl std::fmt::Write for HashText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T: Debug + PartialEq> Pool<T> {
    pub(crate) fn number(&self, value: T) -> Id {
        let mut text = HashText(DefaultHasher::new());
        write!(text, "{value:?}").unwrap();
        let hash = text.0.finish();
        let mut numbers = self.0.write().unwrap();
        let alike = numbers.alike.get(&hash).into_iter().flatten();
        if let Some(id) = alike.copied().find(|id| *numbers.values[*id as usize] == value) {
            return id;
        }
        let id = Id::try_from(numbers.values.len()).unwrap();
        numbers.values.push(Arc::new(value));
        numbers.alike.entry(hash).or_default().push(id);
        id
    }

    pub(crate) fn get(&self, id: Id) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap().values[id as usize])
    }
}

/// A hash that is as good as small numbers need, and quick.
#[derive(Default)]
pub(crate) struct Quick(u64);

impl Quick {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.mix(u64::from_le_bytes(padded));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// What was computed once.
pub(crate) struct Memo<K, V>(RwLock<HashMap<K, V, BuildHasherDefault<Quick>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    pub(crate) fn get_or(&self, key: K, compute: impl FnOnce() -> V) -> V {
        if let Some(value) = self.get(&key) {
            return value;
        }
        let value = compute();
        self.insert(key, value.clone());
        value
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.0.read().unwrap().get(key).cloned()
    }

    pub(crate) fn clear(&self) {
        self.0.write().unwrap().clear();
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.0.write().unwrap().insert(key, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap().len()
    }
}

/// An [`Action`] in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Read,
    Connect,
    Admit(Id),
    Send(Id),
    Record(Id),
    Commit {
        /// In [`Tables::keys`].
        expected: Id,
        generation: Id,
    },
    Wait,
    Finish(End),
}

/// A [`Verdict`] in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Served,
    Elsewhere,
    TryAgain {
        until: Option<i64>,
    },
    /// The server refused the refresh token for good, or there is none.
    LoginNeeded,
    OtherAccount,
    Gone,
}

/// An [`Event`] in numbers. Places are numbers in [`Tables::stores`] and [`Tables::records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Read {
        stored: Id,
        record: Id,
        /// In [`Tables::stores`].
        holder: Option<Id>,
        /// The record, and whether the process that it names may be alive.
        rival: Option<(Id, bool)>,
    },
    Connected,
    Admitted,
    Rival,
    NotWritten,
    Ambiguous,
    Unspent,
    Refused,
    Granted(Id),
    Recorded,
    Committed,
    Conflict(Id),
    Waited,
}

/// All that the model's numbers stand for.
pub(crate) struct Tables<M> {
    pub(crate) flights: Pool<M>,
    /// Contents of an owner store.
    pub(crate) stores: Pool<Generation>,
    pub(crate) records: Pool<Option<Record>>,
    pub(crate) keys: Pool<Option<SpendKey>>,
    steps: Memo<(Id, Told, i64), (Id, Act)>,
}

impl<M> Default for Tables<M> {
    fn default() -> Self {
        Self {
            flights: Pool::default(),
            stores: Pool::default(),
            records: Pool::default(),
            keys: Pool::default(),
            steps: Memo::default(),
        }
    }
}

impl<M: Machine + Clone + Debug + PartialEq> Tables<M> {
    pub(crate) fn start(&self, setup: Setup) -> (Id, Act) {
        let (flight, action) = M::start(setup);
        (self.flights.number(flight), self.act(action))
    }

    /// The machine's next step.
    pub(crate) fn step(&self, flight: Id, told: Told, wall: UnixMillis) -> (Id, Act) {
        self.steps.get_or((flight, told, wall.0), || {
            let mut machine = (*self.flights.get(flight)).clone();
            let action = machine.on(self.event(told), wall);
            (self.flights.number(machine), self.act(action))
        })
    }

    /// Different steps that were taken.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    fn act(&self, action: Action) -> Act {
        match action {
            Action::Read => Act::Read,
            Action::Connect => Act::Connect,
            Action::Admit(record) => Act::Admit(self.records.number(Some(*record))),
            Action::Send(generation) => Act::Send(self.stores.number(*generation)),
            Action::Record(record) => Act::Record(self.records.number(Some(*record))),
            Action::Commit { expected, generation } => Act::Commit {
                expected: self.keys.number(expected),
                generation: self.stores.number(*generation),
            },
            Action::Wait(_) => Act::Wait,
            Action::Finish(verdict) => Act::Finish(match verdict {
                Verdict::Served { .. } => End::Served,
                Verdict::Elsewhere { .. } => End::Elsewhere,
                Verdict::TryAgain { until, .. } => End::TryAgain {
                    until: until.map(|until| until.0),
                },
                Verdict::LoginNeeded(Death::OtherAccount) => End::OtherAccount,
                Verdict::LoginNeeded(_) => End::LoginNeeded,
                Verdict::Gone => End::Gone,
            }),
        }
    }

    fn event(&self, told: Told) -> Event {
        let failure = |reason: &str| Failure {
            reason: reason.to_owned(),
            fix: None,
        };
        match told {
            Told::Read {
                stored,
                record,
                holder,
                rival,
            } => Event::Read(Box::new(self.snapshot(stored, record, holder, rival))),
            Told::Connected => Event::Connected,
            Told::Admitted => Event::Admitted,
            Told::Rival => Event::Rival,
            Told::NotWritten => Event::Answer(Answer::NotWritten(failure("closed"))),
            Told::Ambiguous => Event::Answer(Answer::Ambiguous(failure("cut"))),
            Told::Unspent => Event::Answer(Answer::Unspent {
                failure: failure("503"),
                retry_after: None,
            }),
            Told::Refused => Event::Answer(Answer::Refused {
                code: "invalid_grant".to_owned(),
                description: String::new(),
            }),
            Told::Granted(generation) => {
                Event::Answer(Answer::Granted(Box::new((*self.stores.get(generation)).clone())))
            }
            Told::Recorded => Event::Recorded,
            Told::Committed => Event::Committed,
            Told::Conflict(found) => Event::Conflict(Some(Box::new((*self.stores.get(found)).clone()))),
            Told::Waited => Event::Waited,
        }
    }

    fn snapshot(&self, stored: Id, record: Id, holder: Option<Id>, rival: Option<(Id, bool)>) -> Snapshot {
        let holders = holder.map(|holder| Holder {
            place: "the store of agent main".to_owned(),
            generation: (*self.stores.get(holder)).clone(),
        });
        let rivals = rival.and_then(|(record, may_be_alive)| {
            let record = (*self.records.get(record)).clone()?;
            Some(Rival { record, may_be_alive })
        });
        Snapshot {
            stored: Some((*self.stores.get(stored)).clone()),
            record: (*self.records.get(record)).clone(),
            holders: holders.into_iter().collect(),
            rivals: rivals.into_iter().collect(),
        }
    }
}
