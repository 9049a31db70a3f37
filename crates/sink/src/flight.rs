//! The hands of the refresh machine: performs each action of a [`Flight`] and reports what came of it.
//!
//! Whoever calls [`Sink::fly`] holds the grant's kernel lock. Nothing is decided here.

mod program;

use std::io;
use std::time::Duration;

use http::Request;
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{ConnectError, Connection, ExchangeError, Limits, Liveness};
use tokensink_neighbours::{RefreshLocks, lock_for_refresh};
use tokensink_oauth::token::{RefreshAnswer, TokenGrant};
use tokensink_providers::{Definition, OAuthClient};
use tokensink_refresh::{
    Action, Answer, Demand, Event, Failure, Flight, Holder, Policy, Rival, Setup, Snapshot, Verdict,
};
use tokensink_store::{DotLock, LockKind, RecordKey, StoreError, lock_sibling};
use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Body, OAuth, SpendKey, UnixMillis};

use crate::audit;
use crate::grant::{generation_of, restored};
use crate::owner::{Keeper, OwnerError, Replaced, Target};
use crate::plugins::Session;
use crate::refresher::Program;
use crate::sink::Sink;

/// From the first byte of a refresh request to the last of its answer.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Resolving, connecting, proxy and TLS together.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Largest token answer in bytes; real ones are below 16 KiB.
pub(crate) const ANSWER_BYTES: usize = 1024 * 1024;
/// How long a flight waits for the lock file of an OpenClaw that refreshes the same profile.
const FOREIGN_LOCK_WAIT: Duration = Duration::from_secs(5);
/// When a flight that found it taken may try again.
const FOREIGN_LOCK_PAUSE: Duration = Duration::from_millis(500);
/// How long a flight waits for another process's admission, which takes milliseconds.
const ADMISSION_WAIT: Duration = Duration::from_secs(10);

/// Where the request goes.
enum Line {
    /// To the token endpoint.
    Server(Box<dyn Connection>),
    /// To a plugin's program, which runs and has said hello.
    Program(Session),
}

/// What a flight needs while it is under way.
struct Hands<'a> {
    sink: &'a Sink,
    target: &'a Target,
    key: RecordKey,
    definition: &'a Definition,
    client: &'a OAuthClient,
    program: Option<Program<'a>>,
    line: Option<Line>,
    /// Rivals as the last snapshot showed them; admission checks that they have not moved since.
    rivals: Vec<Rival>,
}

impl Sink {
    /// Runs one flight to its end under `lock`, the grant's kernel lock.
    pub(crate) fn fly(&self, target: &Target, demand: Demand, lock: &KernelLock) -> Verdict {
        match self.prepare(target) {
            Ok(Some((oauth, key))) => self.fly_prepared(target, demand, lock, &oauth, key),
            Ok(None) => Verdict::Gone,
            Err(error) => failed(error.failure()),
        }
    }

    fn prepare(&self, target: &Target) -> Result<Option<(OAuth, RecordKey)>, OwnerError> {
        if target.owner.is_main() {
            // Another process may have changed a mode, or begun a move, a moment ago.
            self.forget_externals();
        }
        if let Keeper::Cooperative(key) = &target.keeper
            && !self.has_claim(key)?
        {
            return Ok(None);
        }
        let (Some(key), Some(oauth)) = (self.record_key(target)?, self.stored_oauth(target)?) else {
            return Ok(None);
        };
        let record = match self.journal().read(&key) {
            // It is moved aside once the flight reads it.
            Err(StoreError::Unreadable(_)) => None,
            result => result?,
        };
        Ok(Some((restored(&oauth, record.as_deref()), key)))
    }

    fn fly_prepared(
        &self,
        target: &Target,
        demand: Demand,
        lock: &KernelLock,
        oauth: &OAuth,
        key: RecordKey,
    ) -> Verdict {
        let Some(refresher) = self.refresher_for(target, oauth) else {
            return failed(Failure {
                reason: format!(
                    "no provider definition can refresh {} (provider {})",
                    target.profile, oauth.provider
                ),
                fix: Some(format!("tokensink providers show {}", oauth.provider)),
            });
        };
        if let Some(fix) = self.unfinished_move(target, oauth) {
            let reason = format!(
                "{} is being moved here from another program, which still holds it",
                target.profile
            );
            return failed(Failure {
                reason,
                fix: Some(fix),
            });
        }
        let _dot = match self.lock_for_openclaw(lock) {
            Ok(dot) => dot,
            Err(error) => return self.no_lock_file(&error),
        };
        let _theirs = match self.lock_for_neighbour(target) {
            Ok(locks) => locks,
            Err(error) => return self.no_neighbour_lock(&error),
        };
        let setup = Setup {
            provider: oauth.provider.clone(),
            profile: target.profile.clone(),
            store: key.store.clone(),
            me: self.host().processes.this(),
            policy: policy_of(&refresher.client, &target.keeper),
            demand,
            jitter: self.random_byte(),
        };
        let mut hands = Hands {
            sink: self,
            target,
            key,
            definition: refresher.definition,
            client: &refresher.client,
            program: refresher.program,
            line: None,
            rivals: Vec::new(),
        };
        let (mut flight, mut action) = Flight::start(setup);
        loop {
            if let Action::Finish(verdict) = action {
                return verdict;
            }
            let event = hands.perform(action);
            action = flight.on(event, self.now());
        }
    }

    /// An OpenClaw that refreshes is done in a moment; a caller with time left asks again.
    fn no_lock_file(&self, error: &StoreError) -> Verdict {
        let until = matches!(error, StoreError::Busy(_)).then(|| self.now().plus(FOREIGN_LOCK_PAUSE));
        Verdict::TryAgain {
            failure: store_failure(error),
            until,
            outcome_unknown: false,
        }
    }

    /// The locks under which the other program itself would refresh, where the grant is kept in its store. They are
    /// held from before the read until after the commit; that they are lost on the way is no reason to drop an
    /// answer, since it is written by compare-and-set (clients.md 3.4).
    fn lock_for_neighbour(&self, target: &Target) -> Result<Option<RefreshLocks>, OwnerError> {
        let Keeper::Cooperative(key) = &target.keeper else {
            return Ok(None);
        };
        let externals = self.externals();
        let Some(chosen) = externals.at(key) else {
            return Ok(None);
        };
        Ok(Some(lock_for_refresh(
            self.host(),
            chosen.place(),
            FOREIGN_LOCK_WAIT,
        )?))
    }

    fn no_neighbour_lock(&self, error: &OwnerError) -> Verdict {
        let busy = matches!(error, OwnerError::Neighbour(error) if error.is_busy());
        Verdict::TryAgain {
            failure: error.failure(),
            until: busy.then(|| self.now().plus(FOREIGN_LOCK_PAUSE)),
            outcome_unknown: false,
        }
    }

    /// The lock file that OpenClaw respects. On a full disk it cannot be made, by OpenClaw as little as by us; then
    /// it is enough that nobody holds one, since the record has its room already.
    fn lock_for_openclaw(&self, lock: &KernelLock) -> Result<Option<DotLock>, StoreError> {
        let path = lock_sibling(lock.path());
        let wait = Wait {
            deadline: FOREIGN_LOCK_WAIT,
        };
        match DotLock::acquire(self.host(), lock, &path, LockKind::Refresh, wait) {
            Ok(dot) => Ok(Some(dot)),
            Err(StoreError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) && !tokensink_store::is_held(self.host(), &path, LockKind::Refresh)? =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Hands<'_> {
    fn perform(&mut self, action: Action) -> Event {
        match action {
            Action::Read => self.read().unwrap_or_else(|error| Event::Failed(error.failure())),
            Action::Connect => self.connect(),
            Action::Admit(record) => self
                .admit(&record)
                .unwrap_or_else(|error| Event::Failed(store_failure(&error))),
            Action::Send(generation) => Event::Answer(self.send(&generation)),
            Action::Record(record) => match self.sink.journal().write(&record) {
                Ok(()) => self.recorded(&record),
                Err(error) => Event::Failed(store_failure(&error)),
            },
            Action::Commit { expected, generation } => self.commit(expected, &generation),
            Action::Wait(time) => {
                self.sink.host().clock.sleep(time);
                Event::Waited
            }
            // The loop above ends before this; answering with a failure keeps the match total.
            Action::Finish(_) => Event::Failed(Failure {
                reason: "the flight is over".to_owned(),
                fix: None,
            }),
        }
    }

    fn read(&mut self) -> Result<Event, OwnerError> {
        if self.target.place().is_some() {
            self.sink.forget_externals();
        }
        let oauth = self.sink.stored_oauth(self.target)?;
        let record = self.record()?;
        let whole = oauth.as_ref().map(|oauth| restored(oauth, record.as_ref()));
        let stored = whole.as_ref().map(generation_of);
        let holders = self.holders(oauth.as_ref())?;
        let key = stored
            .as_ref()
            .map(|stored| tokensink_refresh::overlay(stored, record.as_ref()).current)
            .and_then(Generation::spend_key);
        self.rivals = key.map_or_else(|| Ok(Vec::new()), |key| self.find_rivals(key))?;
        Ok(Event::Read(Box::new(Snapshot {
            stored,
            record,
            holders,
            rivals: self.rivals.clone(),
        })))
    }

    /// The grant's record. One that is torn in both pages is moved aside; the store then counts as it stands.
    fn record(&self) -> Result<Option<Record>, StoreError> {
        match self.sink.journal().read(&self.key) {
            Ok(record) => Ok(record.map(|record| (*record).clone())),
            Err(StoreError::Unreadable(unreadable)) => {
                let kept = self.sink.journal().set_aside(&self.key)?;
                tracing::warn!(%unreadable, kept = %kept.display(), "a refresh record was set aside");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same profile in main's store, where the flight is for another agent's own copy.
    fn holders(&self, ours: Option<&OAuth>) -> Result<Vec<Holder>, OwnerError> {
        let Some(ours) = ours else {
            return Ok(Vec::new());
        };
        let mains = self.sink.grant_of_main(self.target, &ours.provider)?;
        let holder = mains.map(|(_, grant)| Holder {
            place: "the store of agent main".to_owned(),
            generation: grant.generation,
        });
        Ok(holder.into_iter().collect())
    }

    /// Other records that know `key`: copies of this grant in other stores or under other ids.
    fn find_rivals(&self, key: SpendKey) -> Result<Vec<Rival>, StoreError> {
        let scan = self.sink.journal().list()?;
        let others = scan
            .records
            .into_iter()
            .filter(|record| RecordKey::of(record) != self.key && record.knows(key));
        Ok(others
            .map(|record| Rival {
                may_be_alive: self.may_be_alive(&record),
                record,
            })
            .collect())
    }

    fn may_be_alive(&self, record: &Record) -> bool {
        match &record.state {
            RecordState::Sent(sent) => self.sink.host().processes.liveness(&sent.holder) != Liveness::Dead,
            _ => false,
        }
    }

    fn connect(&mut self) -> Event {
        if let Some(program) = self.program {
            return match self.start(&program) {
                Ok(session) => {
                    self.line = Some(Line::Program(session));
                    Event::Connected
                }
                Err(event) => event,
            };
        }
        let Some(url) = &self.client.token_endpoint else {
            let reason = format!("provider {} has no token endpoint", self.definition.id);
            let fix = Some(format!(
                "set token_endpoint in tokensink/providers/{}.toml",
                self.definition.id
            ));
            return Event::Failed(Failure { reason, fix });
        };
        match self.sink.host().transport.connect(url, CONNECT_TIME) {
            Ok(connection) => {
                self.line = Some(Line::Server(connection));
                Event::Connected
            }
            Err(error) => {
                let mut failure = connect_failure(error);
                // Where nothing better is known, at least where the endpoint comes from.
                failure
                    .fix
                    .get_or_insert_with(|| format!("tokensink providers show {}", self.definition.id));
                Event::Failed(failure)
            }
        }
    }

    fn admit(&mut self, record: &Record) -> Result<Event, StoreError> {
        let _lock = self.sink.journal().admission(Wait {
            deadline: ADMISSION_WAIT,
        })?;
        let RecordState::Sent(sent) = &record.state else {
            return Ok(Event::Rival);
        };
        let rivals = self.find_rivals(sent.spend)?;
        let moved = rivals
            .iter()
            .any(|now| !self.rivals.iter().any(|then| then.record == now.record));
        if moved {
            return Ok(Event::Rival);
        }
        self.sink.journal().write(record)?;
        Ok(Event::Admitted)
    }

    fn send(&mut self, generation: &Generation) -> Answer {
        let not_sent = |reason: String| Answer::NotWritten(Failure { reason, fix: None });
        let connection = match self.line.take() {
            Some(Line::Server(connection)) => connection,
            Some(Line::Program(session)) => return self.ask(session, generation),
            None => return not_sent("there is no connection to the token endpoint".to_owned()),
        };
        let request = match self.request(generation) {
            Ok(request) => request,
            Err(reason) => return not_sent(reason),
        };
        let sent_at = self.sink.now();
        let limits = Limits {
            time: REQUEST_TIME,
            body_bytes: ANSWER_BYTES,
        };
        match connection.exchange(request, limits) {
            Ok(response) => self.classify(generation, &response, sent_at),
            Err(ExchangeError::NotWritten(reason)) => not_sent(reason),
            Err(error) => Answer::Ambiguous(Failure {
                reason: error.to_string(),
                fix: None,
            }),
        }
    }

    fn request(&self, generation: &Generation) -> Result<Request<Body>, String> {
        let refresh = generation
            .tokens
            .refresh_token()
            .ok_or("there is no refresh token")?;
        let oauth = self
            .sink
            .stored_oauth(self.target)
            .map_err(|error| error.to_string())?;
        let client_id = oauth.as_ref().and_then(|oauth| oauth.client_id.as_deref());
        let env = |name: &str| self.sink.host().env.var(name);
        self.client
            .refresh_request(refresh, client_id, &env)
            .map_err(|error| error.to_string())
    }

    fn classify(&self, old: &Generation, response: &http::Response<Body>, sent_at: UnixMillis) -> Answer {
        let sent: Vec<_> = old.tokens.refresh_token().into_iter().collect();
        match self.client.classify_refresh(response, &sent) {
            RefreshAnswer::Granted(grant) => Answer::Granted(Box::new(self.merge(old, &grant, sent_at))),
            RefreshAnswer::Terminal { code, description } => Answer::Refused { code, description },
            RefreshAnswer::Unspent {
                status,
                code,
                description,
                retry_after,
            } => {
                let words = format!("{} {}", code.unwrap_or_default(), description);
                let reason = format!("the token endpoint answered {} {}", status, words.trim());
                let retry_after = retry_after.map(|after| after.delay(self.sink.now()));
                Answer::Unspent {
                    failure: Failure {
                        reason: reason.trim().to_owned(),
                        fix: None,
                    },
                    retry_after,
                }
            }
            RefreshAnswer::Ambiguous { status, reason } => {
                let reason = format!("the token endpoint answered {status} ({reason})");
                Answer::Ambiguous(Failure { reason, fix: None })
            }
        }
    }

    /// The answer laid over the old generation. Of the account only what the answer itself says is taken where it
    /// contradicts, so that the machine sees the contradiction.
    fn merge(&self, old: &Generation, grant: &TokenGrant, sent_at: UnixMillis) -> Generation {
        let answered = self.client.account(grant, None);
        let mut fields = old.fields.clone();
        fields.extend(self.client.store_fields(grant));
        Generation {
            tokens: self.client.merged_tokens(&old.tokens, grant, sent_at),
            account: if old.account.contradicts(&answered) {
                answered
            } else {
                old.account.updated_by(&answered)
            },
            issued_at: Some(sent_at),
            fields,
        }
    }

    fn commit(&self, expected: Option<SpendKey>, generation: &Generation) -> Event {
        match self.sink.replace_tokens(self.target, expected, generation) {
            Ok(Replaced::Done) => Event::Committed,
            Ok(Replaced::Conflict(found)) => Event::Conflict(found),
            Err(error) => Event::Failed(error.failure()),
        }
    }

    /// A record of an answer or a refusal is worth a line in the audit trail.
    fn recorded(&self, record: &Record) -> Event {
        let (what, detail) = match &record.state {
            RecordState::Committed { .. } => ("refresh", String::new()),
            RecordState::Refused { code, .. } => ("refresh_refused", code.clone()),
            RecordState::Parked { .. } => ("refresh_other_account", String::new()),
            RecordState::Idle | RecordState::Sent(_) | RecordState::Answered { .. } => {
                return Event::Recorded;
            }
        };
        let event = audit::Event {
            what,
            agent: &self.target.owner,
            profile: &self.target.profile,
            detail,
        };
        self.sink.audit(&event);
        Event::Recorded
    }
}

/// The provider's refresh rules in the machine's terms.
pub(crate) fn policy_of(client: &OAuthClient, keeper: &Keeper) -> Policy {
    Policy {
        rotation: client.rotation,
        replay_grace: client.replay_grace,
        idle_limit: client.idle_limit,
        first: matches!(keeper, Keeper::Cooperative(_)),
    }
}

fn failed(failure: Failure) -> Verdict {
    Verdict::TryAgain {
        failure,
        until: None,
        outcome_unknown: false,
    }
}

pub(crate) fn store_failure(error: &StoreError) -> Failure {
    Failure {
        reason: error.to_string(),
        fix: error.command(),
    }
}

pub(crate) fn connect_failure(error: ConnectError) -> Failure {
    Failure {
        reason: error.to_string(),
        fix: error.hint,
    }
}
