//! Many processes, one grant: each expiry costs one refresh, whoever is killed.

use tokensink_testkit::Oidc;

use crate::support::crowd::{Crowd, Dice};
use crate::support::full;
use crate::support::stage::{ONE_LIFE, Stage, clock};
use crate::world::{BROWSER, World};

const LINE: &str = "tokensink token --provider rig";
const CROWD: usize = 64;

#[test]
fn all_at_once_print_the_same_new_token() {
    let stage = Stage::with_an_expired_grant();
    let rounds: i64 = if full() { 100 } else { 10 };
    let mut last = String::new();
    for round in 0..rounds {
        // In every second round nobody is answered before everybody has asked.
        let together = round % 2 == 0;
        if together {
            stage.hold_the_next_refresh();
        }
        let crowd = Crowd::start(&stage.world, [LINE; CROWD], &clock(round * ONE_LIFE));
        if together {
            stage.wait_until_held();
            stage.server.faults().release();
        }
        let token = crowd.finish_with_one_token();
        assert_ne!(token, last);
        last = token;
    }
    stage.assert_works(&last);
    stage.assert_refreshes(rounds.unsigned_abs());
}

#[test]
fn killed_callers_lose_nothing() {
    let mut dice = Dice::new(20_260_301);
    let stage = Stage::with_an_expired_grant();
    let (rounds, crowd_size): (i64, usize) = if full() { (100, CROWD) } else { (8, 24) };
    for round in 0..rounds {
        stage.hold_the_next_refresh();
        let mut crowd = Crowd::start(
            &stage.world,
            [LINE; CROWD].into_iter().take(crowd_size),
            &clock(round * ONE_LIFE),
        );
        let doomed = dice.places(crowd_size / 2, crowd_size);
        // Before anybody knows whose refresh it is, while the request is under way, or when the answer is on its way.
        match dice.below(3) {
            0 => {
                crowd.kill(|place| doomed.contains(&place));
                stage.wait_until_held();
                stage.server.faults().release();
            }
            1 => {
                stage.wait_until_held();
                crowd.kill(|place| doomed.contains(&place));
                stage.server.faults().release();
            }
            _ => {
                stage.wait_until_held();
                stage.server.faults().release();
                crowd.kill(|place| doomed.contains(&place));
            }
        }
        let token = crowd.finish_with_one_token();
        stage.assert_works(&token);
    }
    stage.assert_refreshes(rounds.unsigned_abs());
}

#[test]
fn when_all_callers_are_killed_the_refresh_still_lands() {
    let stage = Stage::with_an_expired_grant();
    stage.hold_the_next_refresh();
    let mut crowd = Crowd::start(&stage.world, [LINE; 4], &clock(0));
    stage.wait_until_held();
    crowd.kill(|_| true);
    stage.server.faults().release();
    // The next one waits for the helper that is still at it, and prints what it got.
    let token = stage.world.run(LINE).code(0).out;
    stage.assert_works(&token);
    stage.assert_refreshes(1);
}

#[test]
fn a_real_server_sees_one_refresh_for_each_expiry() {
    let mut dice = Dice::new(20_260_302);
    let oidc = Oidc::start(&[]);
    let world = World::new();
    world.write(
        ".openclaw/tokensink/providers/rig.toml",
        &oidc.provider_toml("rig"),
    );
    world
        .run_with(
            "tokensink models auth login --provider rig",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    let rounds: i64 = if full() { 20 } else { 4 };
    let mut last = world.run(LINE).code(0).out;
    for round in 1..=rounds {
        let mut crowd = Crowd::start(&world, [LINE; CROWD], &clock(round * ONE_LIFE));
        if round % 2 == 0 {
            let doomed = dice.places(CROWD / 2, CROWD);
            crowd.kill(|place| doomed.contains(&place));
        }
        let token = crowd.finish_with_one_token();
        assert_ne!(token, last);
        last = token;
    }
    let bearer = format!("Bearer {}", last.trim());
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(
        tokensink_testkit::loopback::send("GET", &oidc.url("/me"), &headers, "").status,
        200
    );
    let ledger = oidc.ledger();
    assert_eq!(ledger["refreshes"], rounds, "{ledger:#}");
    assert_eq!(ledger["token_posts"]["refresh_token"], rounds, "{ledger:#}");
    assert_eq!(ledger["reuses"], 0, "{ledger:#}");
}
