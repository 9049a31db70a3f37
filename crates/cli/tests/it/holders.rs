//! Somebody holds the refresh: killed, stopped, or simply slow.

use rustix::process::Signal;
use tokensink_authserver::{GrantType, RevokedBecause, ServerConfig};

use crate::support::crowd::{Crowd, finish, start};
use crate::support::processes::{helper_of, helpers_of, kill, signal, wait_for_state};
use crate::support::stage::{Stage, clock, run_at, stored};

const LINE: &str = "tokensink token --provider rig";

/// A server that answers a repeated refresh for ten minutes.
fn graceful() -> Stage {
    let stage = Stage::new(ServerConfig {
        replay_grace_seconds: 600,
        ..ServerConfig::default()
    });
    stage.store(&stage.world, "main", "rig:alice", "alice", -1);
    stage
}

#[test]
fn waiters_recover_when_the_holder_is_killed() {
    let stage = graceful();
    for round in 0..3_u64 {
        let now = i64::try_from(round).unwrap() * 3_700;
        stage.hold_the_next_refresh();
        let crowd = Crowd::start(&stage.world, [LINE; 8], &clock(now));
        stage.wait_until_held();
        let helper = helper_of(&stage.world);
        kill(helper);
        let token = crowd.finish_with_one_token();
        stage.assert_works(&token);
        assert_eq!(stored(&stage.world, "main", "rig:alice")["access"], token.trim());
        let ledger = stage.server.ledger();
        assert_eq!(
            (ledger.refreshes, ledger.replays, ledger.reuses),
            (round + 1, round + 1, 0),
            "{ledger:#?}"
        );
        stage.server.faults().release();
    }
}

#[test]
fn a_lost_answer_of_a_server_without_grace_ends_in_one_sentence() {
    let stage = Stage::new(ServerConfig::default());
    let (access, refresh) = stage.store(&stage.world, "main", "rig:alice", "alice", 200);
    stage.hold_the_next_refresh();
    let caller = start(&stage.world, LINE, &clock(0));
    stage.wait_until_held();
    let helper = helper_of(&stage.world);
    kill(helper);
    stage.server.faults().release();
    // The old access token still lives, so nothing is sent again that may be spent already.
    assert_eq!(finish(caller).code(0).out.trim(), access);
    assert_eq!(stage.world.run(LINE).code(0).out.trim(), access);
    assert_eq!(stage.server.ledger().posts(GrantType::RefreshToken), 1);
    // When it is dead there is nothing left to lose: the server is asked, and its answer is told.
    let said = run_at(&stage.world, LINE, 300).code(3);
    assert!(
        said.err.contains("the answer to an earlier refresh was lost"),
        "{said:#?}"
    );
    assert!(
        said.err
            .contains("fix: tokensink models auth login --provider rig --profile-id rig:alice"),
        "{said:#?}"
    );
    let ledger = stage.server.ledger();
    assert_eq!(
        ledger.families[0].revoked,
        Some(RevokedBecause::RefreshTokenReuse)
    );
    assert_eq!(
        stored(&stage.world, "main", "rig:alice")["refresh"],
        refresh.as_str()
    );
}

#[test]
fn a_stopped_holder_is_waited_for_and_never_dispossessed() {
    let stage = Stage::new(ServerConfig::default());
    let (access, _) = stage.store(&stage.world, "main", "rig:alice", "alice", 200);
    stage.hold_the_next_refresh();
    let caller = start(&stage.world, &format!("{LINE} --min-ttl 10m"), &clock(0));
    stage.wait_until_held();
    let helper = helper_of(&stage.world);
    signal(helper, Signal::STOP);
    wait_for_state(helper, Some('T'));
    stage.server.faults().release();

    // The old token serves while it lives.
    let said = stage.world.run(LINE).code(0);
    assert_eq!(said.out.trim(), access);
    assert!(
        said.err.contains("note: the present token is served"),
        "{said:#?}"
    );
    // After that the holder is named, with what it would take.
    let said = run_at(&stage.world, &format!("{LINE} --wait 0s"), 300).code(75);
    assert_eq!(said.out, "");
    assert!(
        said.err.contains(&format!("process {helper}")) || said.err.contains(&format!("pid {helper}")),
        "{said:#?}"
    );
    assert!(said.err.contains("which is stopped, for "), "{said:#?}");
    assert!(
        said.err.contains(&format!("fix: kill -CONT {helper}")),
        "{said:#?}"
    );
    assert_eq!(helpers_of(&stage.world), [helper], "nobody else flew");

    signal(helper, Signal::CONT);
    let token = finish(caller).code(0).out;
    assert_ne!(token.trim(), access);
    stage.assert_works(&token);
    assert_eq!(stage.world.run(LINE).code(0).out, token);
    assert_eq!(stored(&stage.world, "main", "rig:alice")["access"], token.trim());
    stage.assert_refreshes(1);
}

#[test]
fn a_callers_patience_ends_its_own_wait_only() {
    let stage = Stage::with_an_expired_grant();
    stage.hold_the_next_refresh();
    let said = stage.world.run(&format!("{LINE} --wait 0s")).code(75);
    assert!(said.err.contains("rig:alice"), "{said:#?}");
    stage.wait_until_held();
    let said = stage.world.run(&format!("{LINE} --wait 0s")).code(75);
    assert!(said.err.contains("rig:alice is being refreshed by "), "{said:#?}");
    assert!(
        said.err.contains(&helper_of(&stage.world).to_string()),
        "{said:#?}"
    );
    let value = stage
        .world
        .run(&format!("{LINE} --wait 0s --json"))
        .code(75)
        .json();
    assert_eq!(value["error"]["code"], "refreshing", "{value:#}");
    let waiting = start(&stage.world, LINE, &clock(0));
    stage.server.faults().release();
    stage.assert_works(&finish(waiting).code(0).out);
    stage.assert_refreshes(1);
}
