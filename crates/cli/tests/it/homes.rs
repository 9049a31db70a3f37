//! State directories and agents: who shares a grant, and who must not notice the other.

use tokensink_authserver::{Fault, FaultAction};

use crate::support::crowd::Crowd;
use crate::support::processes::wait_for_landing;
use crate::support::snapshot::Snapshot;
use crate::support::stage::{ONE_LIFE, Stage, clock, run_at, stored};
use crate::world::World;

const LINE: &str = "tokensink token --provider rig";

#[test]
fn two_state_directories_do_not_disturb_each_other() {
    let stage = Stage::with_an_expired_grant();
    let other = World::new();
    stage.introduce(&other);
    stage.store(&other, "main", "rig:alice", "alice", -1);
    let untouched = Snapshot::of(&other.state(""));
    // A refresh that hangs in one of them holds nobody up in the other.
    stage.hold_the_next_refresh();
    let crowd = Crowd::start(&stage.world, [LINE; 8], &clock(0));
    stage.wait_until_held();
    assert_eq!(Snapshot::of(&other.state("")), untouched);
    let theirs = other.run(LINE).code(0).out;
    stage.server.faults().release();
    let ours = crowd.finish_with_one_token();
    assert_ne!(ours, theirs);
    for (world, token) in [(&stage.world, ours), (&other, theirs)] {
        stage.assert_works(&token);
        assert_eq!(stored(world, "main", "rig:alice")["access"], token.trim());
    }
    let ledger = stage.assert_refreshes(2);
    let each: Vec<u64> = ledger.families.iter().map(|family| family.refreshes).collect();
    assert_eq!(each, [1, 1]);
}

#[test]
fn the_state_directory_of_the_environment_is_the_only_one() {
    let stage = Stage::with_an_expired_grant();
    let elsewhere = stage.world.path("elsewhere");
    let before = Snapshot::of(&stage.world.state(""));
    let there = [("OPENCLAW_STATE_DIR", elsewhere.to_str().unwrap())];
    stage.world.run_with(LINE, None, &there).code(2);
    let paste = "tokensink models auth paste-api-key --provider openrouter";
    stage
        .world
        .run_with(paste, Some(crate::world::API_KEY), &there)
        .code(0);
    assert!(elsewhere.join("agents/main/agent/auth-profiles.json").exists());
    assert_eq!(Snapshot::of(&stage.world.state("")), before);
}

#[test]
fn many_agents_inherit_one_grant() {
    let stage = Stage::with_an_expired_grant();
    let agents: Vec<String> = (0..12).map(|number| format!("agent{number}")).collect();
    for agent in &agents {
        stage.world.run(&format!("tokensink agents add {agent}")).code(0);
    }
    let before = Snapshot::of(&stage.world.state("agents"));
    let mut lines: Vec<String> = agents
        .iter()
        .map(|agent| format!("{LINE} --agent {agent}"))
        .collect();
    lines.extend(lines.clone());
    lines.push(LINE.to_owned());
    for round in 0..2_i64 {
        stage.hold_the_next_refresh();
        let lines = lines.iter().map(String::as_str);
        let crowd = Crowd::start(&stage.world, lines, &clock(round * ONE_LIFE));
        stage.wait_until_held();
        stage.server.faults().release();
        stage.assert_works(&crowd.finish_with_one_token());
    }
    stage.assert_refreshes(2);
    let after = Snapshot::of(&stage.world.state("agents"));
    for agent in &agents {
        assert_eq!(
            after.below(agent),
            before.below(agent),
            "{agent} got files of its own"
        );
    }
}

/// What can go wrong with a refresh, and the exit code of `token` then.
fn everything_that_can_go_wrong() -> Vec<(FaultAction, i32)> {
    let status = |status, body: &str| FaultAction::Status {
        status,
        body: body.to_owned(),
    };
    vec![
        (status(500, "{}"), 75),
        (status(429, r#"{"error":"slow_down"}"#), 75),
        (
            FaultAction::RetryAfter {
                seconds: 600,
                status: 503,
            },
            75,
        ),
        (FaultAction::CutBeforeHandling, 75),
        (FaultAction::Garbage { handled: false }, 75),
        (status(400, r#"{"error":"invalid_client"}"#), 75),
        (status(400, r#"{"error":"invalid_grant"}"#), 3),
    ]
}

#[test]
fn an_agent_with_its_own_login_never_touches_mains() {
    for (action, code) in everything_that_can_go_wrong() {
        let stage = Stage::new(Default::default());
        stage.world.run("tokensink agents add work").code(0);
        stage.store(&stage.world, "main", "rig:alice", "alice", -1);
        stage.store(&stage.world, "work", "rig:bob", "bob", -1);
        let main = Snapshot::of(&stage.world.state("agents/main"));
        stage
            .server
            .faults()
            .push(Fault::on_refresh(action.clone()).times(100));
        // The first call starts the refresh, the second finds what came of it.
        let line = format!("{LINE} --agent work --wait 0s");
        stage.world.run(&line).code(75);
        wait_for_landing(&stage.world);
        let said = stage.world.run(&line).code(code);
        assert_eq!(said.out, "", "{action}: {said:#?}");
        assert!(said.err.contains("rig:bob"), "{action}: {said:#?}");
        assert!(!said.err.contains("alice"), "{action}: {said:#?}");
        stage.world.run("tokensink renew --agent work").code(code);
        assert_eq!(Snapshot::of(&stage.world.state("agents/main")), main, "{action}");
        let ledger = stage.server.ledger();
        assert_eq!(
            ledger.families_of("alice").next().unwrap().refreshes,
            0,
            "{action}"
        );
        assert_eq!(ledger.reuses, 0, "{action}: {ledger:#?}");
        // And main is served as if nothing had happened.
        stage.server.faults().clear();
        let token = run_at(&stage.world, LINE, 0).code(0).out;
        stage.assert_works(&token);
        assert_eq!(
            stored(&stage.world, "work", "rig:bob")["accountId"],
            "acct-bob",
            "{action}"
        );
    }
}

#[test]
fn an_agents_own_refresh_stays_its_own() {
    let stage = Stage::new(Default::default());
    stage.world.run("tokensink agents add work").code(0);
    stage.store(&stage.world, "main", "rig:alice", "alice", -1);
    stage.store(&stage.world, "work", "rig:bob", "bob", -1);
    let main = Snapshot::of(&stage.world.state("agents/main"));
    let token = stage.world.run(&format!("{LINE} --agent work")).code(0).out;
    assert_eq!(stored(&stage.world, "work", "rig:bob")["access"], token.trim());
    assert_eq!(Snapshot::of(&stage.world.state("agents/main")), main);
}
