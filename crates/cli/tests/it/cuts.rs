//! The connection to the token endpoint is cut at every byte, in both directions, in every way.
//!
//! What is sent again is judged by the server's books and by what passed over the wire, not by what the sink says.

use std::time::Duration;

use tokensink_authserver::{RevokedBecause, ServerConfig};
use tokensink_sink::ErrorKind;
use tokensink_testkit::{CuttingProxy, How, Plan, Way};

use crate::support::crowd::Dice;
use crate::support::full;
use crate::support::stage::{ONE_LIFE, Stage, run_at};
use crate::support::wire::{HOUR, Wire};

const HOWS: [How; 3] = [How::Close, How::Reset, How::HalfClose];
const GRACE: u64 = 30;
/// Patience of a caller that waits out a back-off; the clock is moved.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of cutting everywhere.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    /// Cuts after which the server had rotated.
    consumed: usize,
    /// Logins that ended: consumed, and the answer lost, at a server that never answers twice.
    lost: usize,
}

fn graceful() -> ServerConfig {
    ServerConfig {
        replay_grace_seconds: GRACE,
        ..ServerConfig::default()
    }
}

/// Every `step`-th byte of one direction; `lossy` where the server does not answer twice.
fn sweep(wire: &Wire, way: Way, how: How, step: usize, lossy: bool, tally: &mut Tally) {
    // A request that arrived whole is not cut on its way; that end of it is the other direction's.
    let whole = match way {
        Way::Up => request_length(wire),
        Way::Down => usize::MAX,
    };
    // A connection that is cut before a byte of an answer came may not have brought the request either.
    let least = usize::from(way == Way::Down);
    let mut after = (tally.cuts % step).max(least);
    while after < whole {
        wire.test.clock.advance(HOUR);
        let before = wire.server.ledger();
        wire.proxy.next(Plan::cut(way, after, how));
        let place = wire.proxy.connections();
        let first = wire.acquire(Duration::ZERO);
        if !wire.proxy.connection(place).unwrap().cut {
            assert!(wire.is_live(&first.unwrap()), "{way:?} {after} {how:?}");
            return;
        }
        let name = format!("{way:?} {after} {how:?}");
        tally.cuts += 1;
        let second = wire.acquire(PATIENCE);
        let ledger = wire.server.ledger();
        let consumed = ledger.refreshes > before.refreshes && way == Way::Down;
        tally.consumed += usize::from(consumed);
        if consumed && lossy && first.is_err() {
            let error = second.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{name}: {error}");
            assert!(
                error
                    .to_string()
                    .contains("the answer to an earlier refresh was lost"),
                "{name}: {error}"
            );
            let ended = ledger.families.last().unwrap().revoked;
            assert_eq!(ended, Some(RevokedBecause::RefreshTokenReuse), "{name}");
            assert_eq!(ledger.reuses, before.reuses + 1, "{name}: asked once and no more");
            tally.lost += 1;
            wire.log_in();
        } else {
            let lease = second.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(wire.is_live(&lease), "{name}");
            assert_eq!(
                (ledger.refreshes, ledger.reuses),
                (before.refreshes + 1, before.reuses),
                "{name}"
            );
        }
        after += step;
    }
}

/// How long a refresh request is.
fn request_length(wire: &Wire) -> usize {
    wire.test.clock.advance(HOUR);
    let place = wire.proxy.connections();
    let lease = wire.acquire(Duration::ZERO).unwrap();
    assert!(wire.is_live(&lease));
    wire.proxy.connection(place).unwrap().up.len()
}

#[expect(clippy::print_stdout, reason = "everything counted is printed")]
fn cut_everywhere(name: &str, config: &ServerConfig) -> Tally {
    let lossy = config.replay_grace_seconds == 0;
    let step = if full() { 1 } else { 7 };
    let mut tally = Tally::default();
    for way in [Way::Up, Way::Down] {
        for how in HOWS {
            // The books of a server grow with its requests, and are read after each.
            let wire = Wire::logged_in(config.clone());
            sweep(&wire, way, how, step, lossy, &mut tally);
        }
    }
    println!("{name}: every {step}. byte, {tally:?}, reuses elsewhere 0");
    tally
}

#[test]
fn with_a_grace_no_cut_costs_anything() {
    let tally = cut_everywhere("a server with 30 s grace", &graceful());
    assert_eq!(tally.lost, 0);
    assert!(
        tally.consumed > 100 && tally.cuts > tally.consumed + 50,
        "{tally:?}"
    );
}

#[test]
fn without_one_only_lost_answers_cost_the_login() {
    let tally = cut_everywhere("a strict server", &ServerConfig::default());
    assert!(tally.lost <= tally.consumed, "{tally:?}");
    assert!(tally.lost > 100 && tally.cuts > tally.consumed + 50, "{tally:?}");
}

/// The same with real processes: callers whose requests meet a wire that cuts and dawdles.
#[test]
fn real_processes_recover_from_cuts_and_delays() {
    const LINE: &str = "tokensink token --provider rig";
    let mut dice = Dice::new(20_261_121);
    let stage = Stage::new(graceful());
    let proxy = CuttingProxy::start(stage.server.base_url().socket_addrs(|| None).unwrap()[0]);
    let definition = stage.server.provider_toml("rig").replace(
        &stage.server.url("/oauth/token"),
        &format!("http://{}/oauth/token", proxy.addr()),
    );
    stage
        .world
        .write(".openclaw/tokensink/providers/rig.toml", &definition);
    stage.store(&stage.world, "main", "rig:alice", "alice", -1);
    let rounds: i64 = if full() { 300 } else { 16 };
    let mut cuts = 0;
    for round in 0..rounds {
        let plan = match dice.below(4) {
            0 => Plan::cut(Way::Up, dice.below(400), HOWS[dice.below(3)]),
            1 | 2 => Plan::cut(Way::Down, dice.below(1_500), HOWS[dice.below(3)]),
            _ => Plan::delayed(Duration::from_millis(u64::try_from(dice.below(80)).unwrap())),
        };
        proxy.next(plan);
        let token = run_at(&stage.world, LINE, round * ONE_LIFE).code(0).out;
        stage.assert_works(&token);
        proxy.clear();
        cuts = proxy.passed().iter().filter(|passed| passed.cut).count();
    }
    let ledger = stage.server.ledger();
    let rounds = u64::try_from(rounds).unwrap();
    assert_eq!(
        (ledger.refreshes, ledger.reuses, ledger.revocations),
        (rounds, 0, 0),
        "{ledger:#?}"
    );
    assert!(
        cuts > 0 && ledger.replays > 0,
        "{cuts} cuts, {} replays",
        ledger.replays
    );
    println!(
        "{rounds} expiries, {cuts} cuts, {} replays, 0 reuses, 0 logins",
        ledger.replays
    );
}
