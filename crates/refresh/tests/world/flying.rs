//! One flight of one process through the world, with faults where the choices put them.

use std::time::Duration;

use tokensink_refresh::{Action, Answer, Event, Failure, Snapshot, Verdict};
use tokensink_types::record::Generation;

use crate::choice::Choices;
use crate::shared::invariant::Invariant;
use crate::shared::machine::Machine;
use crate::shared::server::Reply;
use crate::shared::tokens::{generation, number, refresh_of};
use crate::state::{World, stored_key};

/// A flight has no need of more actions than this.
const ACTIONS_MAX: usize = 120;

/// What goes wrong at one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    CrashBefore,
    CrashAfter,
    /// The action fails without effect.
    Fails,
    /// It takes effect, and then reports a failure.
    FailsLate,
    /// This write and all later ones of this flight to the record fail.
    RecordDies,
    /// This write and all later ones of this flight to the store fail.
    StoreDies,
    /// Another program writes back the copy that it read before.
    Stale(usize),
    /// Another program blanks the login.
    Blanked,
    /// The clock jumps by so many milliseconds.
    Jump(i64),
    NotWritten,
    LostBeforeHandling,
    LostAfterHandling,
    Unavailable,
    Revoked,
    OtherAccount,
}

/// How a flight ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Verdict(Verdict),
    Crashed,
}

#[derive(Debug, Default)]
struct Disks {
    record_dead: bool,
    store_dead: bool,
}

/// Flies once.
pub(crate) fn fly<M: Machine>(world: &mut World, choices: &mut Choices) -> End {
    let (mut machine, mut action) = M::start(world.setup());
    let mut disks = Disks::default();
    let mut granted = None;
    for _ in 0..ACTIONS_MAX {
        if let Action::Finish(verdict) = action {
            if matches!(verdict, Verdict::Served { .. }) {
                world.on_served(granted);
            }
            return End::Verdict(verdict);
        }
        let sent = match &action {
            Action::Send(current) => Some(current.clone()),
            _ => None,
        };
        if let Some(sent) = &sent {
            world.on_send(sent);
        }
        let faults = faults(&action, world);
        let chosen = choices.pick(faults.len() + 1);
        let fault = chosen.checked_sub(1).map(|index| faults[index]);
        if fault == Some(Fault::CrashBefore) {
            return End::Crashed;
        }
        disturb(world, &mut disks, fault);
        let event = perform(world, &disks, action, fault);
        if fault == Some(Fault::CrashAfter) {
            return End::Crashed;
        }
        if let (Some(sent), Event::Answer(Answer::Granted(answer))) = (&sent, &event) {
            world.on_granted(sent, answer);
            granted = Some(number(answer.tokens.access.expose()));
        }
        action = machine.on(event, world.wall());
    }
    world.broken.insert(Invariant::Ends);
    End::Crashed
}

fn faults(action: &Action, world: &World) -> Vec<Fault> {
    let mut faults = vec![
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Jump(3_600_000),
        Fault::Jump(-3_600_000),
        Fault::Blanked,
    ];
    let others = |copy: &Generation| {
        world
            .store
            .as_ref()
            .is_none_or(|stored| stored.tokens != copy.tokens)
    };
    let copies = world.copies.iter().enumerate();
    faults.extend(
        copies
            .filter(|(_, copy)| others(copy))
            .map(|(at, _)| Fault::Stale(at)),
    );
    match action {
        Action::Read | Action::Connect => faults.push(Fault::Fails),
        Action::Admit(_) | Action::Record(_) => {
            faults.extend([Fault::Fails, Fault::FailsLate, Fault::RecordDies]);
        }
        Action::Commit { .. } => faults.extend([Fault::Fails, Fault::FailsLate, Fault::StoreDies]),
        Action::Send(_) => faults.extend([
            Fault::NotWritten,
            Fault::LostBeforeHandling,
            Fault::LostAfterHandling,
            Fault::Unavailable,
            Fault::Revoked,
            Fault::OtherAccount,
        ]),
        Action::Wait(_) | Action::Finish(_) => {}
    }
    faults
}

fn disturb(world: &mut World, disks: &mut Disks, fault: Option<Fault>) {
    let newest = world.newest_refresh();
    match fault {
        Some(Fault::Stale(at)) => {
            let copy = world.copies[at].clone();
            world.copies.extend(world.store.replace(copy));
        }
        Some(Fault::Blanked) => {
            if let Some(stored) = &mut world.store {
                stored.tokens.access = "".into();
                stored.tokens.refresh = Some("".into());
            }
        }
        Some(Fault::Jump(by)) => world.jump(by),
        Some(Fault::RecordDies) => disks.record_dead = true,
        Some(Fault::StoreDies) => disks.store_dead = true,
        _ => {}
    }
    world.destroyed |= world.newest_refresh() < newest;
}

fn perform(world: &mut World, disks: &Disks, action: Action, fault: Option<Fault>) -> Event {
    let fails = fault == Some(Fault::Fails);
    let failed = |what: &str| {
        Event::Failed(Failure {
            reason: what.to_owned(),
            fix: None,
        })
    };
    let late = fault == Some(Fault::FailsLate);
    match action {
        Action::Read if fails => failed("read"),
        Action::Read => {
            world.on_read();
            Event::Read(Box::new(Snapshot {
                stored: world.store.clone(),
                record: world.record.clone(),
                holders: Vec::new(),
                rivals: Vec::new(),
            }))
        }
        Action::Connect if fails => failed("connect"),
        Action::Connect => Event::Connected,
        Action::Admit(_) | Action::Record(_) if fails || disks.record_dead => failed("record"),
        Action::Admit(record) => {
            world.write_record(*record);
            if late { failed("fsync") } else { Event::Admitted }
        }
        Action::Record(record) => {
            world.write_record(*record);
            if late { failed("fsync") } else { Event::Recorded }
        }
        Action::Commit { .. } if fails || disks.store_dead => failed("store"),
        Action::Commit { expected, .. } if stored_key(world) != expected => {
            Event::Conflict(world.store.clone().map(Box::new))
        }
        Action::Commit { generation, .. } => {
            world.write_store(*generation);
            if late { failed("fsync") } else { Event::Committed }
        }
        Action::Wait(time) => {
            world.time = world.time.plus(time);
            Event::Waited
        }
        Action::Send(current) => Event::Answer(send(world, &current, fault)),
        Action::Finish(_) => Event::Waited,
    }
}

fn send(world: &mut World, current: &Generation, fault: Option<Fault>) -> Answer {
    let failure = |reason: &str| Failure {
        reason: reason.to_owned(),
        fix: None,
    };

    if fault == Some(Fault::NotWritten) {
        return Answer::NotWritten(failure("closed"));
    }
    let sent = world.wall();
    world.on_sent(current);
    world.time = world.time.plus(Duration::from_secs(1));
    match fault {
        Some(Fault::LostBeforeHandling) => return Answer::Ambiguous(failure("cut")),
        Some(Fault::Unavailable) => {
            world.on_unspent(current);
            let retry_after = Some(Duration::from_secs(20));
            return Answer::Unspent {
                failure: failure("503"),
                retry_after,
            };
        }
        Some(Fault::Revoked) => {
            world.server.revoked = true;
            world.server_fault = true;
        }
        _ => {}
    }
    let foreign = fault == Some(Fault::OtherAccount);
    world.server_fault |= foreign;
    let reply = world
        .server
        .handle(number(&refresh_of(current)), foreign, world.time);
    if matches!(fault, Some(Fault::LostAfterHandling)) {
        return Answer::Ambiguous(failure("cut"));
    }
    match reply {
        Reply::InvalidGrant => Answer::Refused {
            code: "invalid_grant".to_owned(),
            description: String::new(),
        },
        Reply::Tokens {
            refresh,
            access,
            foreign,
        } => Answer::Granted(Box::new(generation(refresh, access, foreign, sent))),
    }
}
