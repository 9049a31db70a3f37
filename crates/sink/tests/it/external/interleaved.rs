//! What the other program does after one of our steps was cut off or went unanswered: no token is spent twice, and no
//! answer is forgotten, by a change of mode in that state.

use http::Request;
use serde_json::{Value, json};
use tokensink_authserver::{Fault, FaultAction};
use tokensink_host::Liveness;
use tokensink_sink::{ErrorKind, ExternalMode};
use tokensink_testkit::Faults;
use tokensink_types::Body;

use super::{CLAUDE, choose, chosen, log_in, ours_with, request, section, sends, set_section, text, world};
use crate::world::{HOUR, ISSUER, World, strict};

const OWNED: &str = "anthropic:default";

/// Claude Code refreshes its login by itself.
fn program_refreshes(world: &World) {
    let there = section(world);
    let form = format!(
        "grant_type=refresh_token&client_id=rig&refresh_token={}",
        text(&there["refreshToken"])
    );
    let asked = Request::post(format!("{ISSUER}/oauth/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::new(form))
        .unwrap();
    let answer = world.answer(&asked).unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = serde_json::from_slice(answer.body().expose()).unwrap();
    let life = answer["expires_in"].as_i64().unwrap() * 1000;
    set_section(world, |file| {
        file["claudeAiOauth"]["accessToken"] = answer["access_token"].clone();
        file["claudeAiOauth"]["refreshToken"] = answer["refresh_token"].clone();
        file["claudeAiOauth"]["expiresAt"] = json!(world.now().0 + life);
    });
}

/// The next process, after the one that `world` stands for has died.
fn later(world: &World) -> World {
    let me = world.test.host().processes.this();
    world.test.processes.set_liveness(me, Liveness::Dead);
    // Its locks grow old.
    world.test.clock.advance(HOUR);
    World {
        test: world.test.other_process(5000),
        ..world.clone()
    }
}

/// Every state in which a change from `from` to `to`, cut off, leaves the grant in both stores, or in one.
fn cut_off(from: ExternalMode, to: ExternalMode, in_both: bool) -> Vec<(World, String)> {
    let mut found = Vec::new();
    // One state in some lasts for several calls.
    for n in (1..).step_by(4) {
        let world = world(strict());
        choose(&world.sink(), from).unwrap();
        let faults = Faults::crash_before(n).torn();
        let _ = world.faulty(&faults).and_then(|sink| choose(&sink, to));
        if !faults.fired() {
            return found;
        }
        let there = section(&world)["refreshToken"].clone();
        let stored = there.is_string() && {
            let ours = ours_with(&world, text(&there));
            ours.iter().any(|path| path.ends_with("auth-profiles.json"))
        };
        if stored == in_both {
            found.push((later(&world), faults.last()));
        }
    }
    unreachable!("the loop ends when no call is left")
}

#[test]
fn a_grant_whose_move_was_cut_off_is_not_spent_here_after_its_program_has_spent_it() {
    let moves = [
        (ExternalMode::Cooperative, ExternalMode::Owned),
        (ExternalMode::Owned, ExternalMode::Cooperative),
    ];
    for (from, to) in moves {
        let states = cut_off(from, to, true);
        assert!(!states.is_empty(), "{from} {to}");
        for (world, point) in states {
            program_refreshes(&world);
            let _ = world.sink().acquire(&request());
            let _ = world.sink().renew(None);
            assert_eq!(world.ledger().reuses, 0, "{from} {to} after {point}");
            // Finished in the direction in which nothing is in doubt.
            choose(&world.sink(), ExternalMode::Owned)
                .unwrap_or_else(|error| panic!("{error} after {point}"));
            world.test.clock.advance(HOUR);
            let lease = world.sink().acquire(&request()).unwrap();
            assert!(world.is_live(&lease), "{from} {to} after {point}");
            assert_eq!(world.ledger().reuses, 0, "{from} {to} after {point}");
        }
    }
}

#[test]
fn a_move_in_that_was_cut_off_and_finished_can_be_undone() {
    for (world, point) in cut_off(ExternalMode::Cooperative, ExternalMode::Owned, false) {
        choose(&world.sink(), ExternalMode::Owned).unwrap();
        choose(&world.sink(), ExternalMode::Cooperative)
            .unwrap_or_else(|error| panic!("{error} after {point}"));
        assert!(section(&world)["refreshToken"].is_string(), "after {point}");
        assert!(world.stored("main", OWNED).is_null(), "after {point}");
        world.test.clock.advance(HOUR);
        assert!(
            world.is_live(&world.sink().acquire(&request()).unwrap()),
            "after {point}"
        );
        assert_eq!(world.ledger().reuses, 0);
    }
}

#[test]
fn a_refresh_without_an_answer_is_not_forgotten_by_a_move() {
    for between in [None, Some(ExternalMode::Borrowed), Some(ExternalMode::Off)] {
        let world = chosen(strict(), ExternalMode::Cooperative);
        world.test.clock.advance(HOUR / 60 * 50);
        world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer));
        let _ = world.sink().renew(None);
        assert_eq!(sends(&world), 1);
        if let Some(mode) = between {
            choose(&world.sink(), mode).unwrap();
        }
        let before = section(&world);
        let error = choose(&world.sink(), ExternalMode::Owned).unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::TryAgain, "unanswered"),
            "{error}"
        );
        assert!(error.fix().is_some());
        assert_eq!(section(&world), before);
        assert!(
            ours_with(&world, text(&before["refreshToken"]))
                .iter()
                .all(|path| path.contains("journal"))
        );
        let _ = world.sink().renew(None);
        assert_eq!(sends(&world), 1, "while the old access token lives");
        // A newer login ends the doubt.
        log_in(&world, "alice");
        choose(&world.sink(), ExternalMode::Owned).unwrap();
    }
}

#[test]
fn an_answer_that_the_file_lacks_survives_a_change_of_mode() {
    for mode in [ExternalMode::Borrowed, ExternalMode::Off, ExternalMode::Owned] {
        let world = chosen(strict(), ExternalMode::Cooperative);
        let old = world.test.files.text(CLAUDE);
        world.test.clock.advance(HOUR);
        world.sink().acquire(&request()).unwrap();
        let newest = section(&world)["refreshToken"].clone();
        // The old file comes back in a shape that may only be borrowed.
        let mut back: Value = serde_json::from_str(&old).unwrap();
        let login = back["claudeAiOauth"].as_object_mut().unwrap();
        login.remove("scopes");
        login.remove("subscriptionType");
        world.test.files.put(CLAUDE, back.to_string(), 0o600);
        let done = choose(&world.sink(), mode);
        let kept = ours_with(&world, text(&newest));
        assert!(!kept.is_empty(), "the only living token is gone: {mode} {done:?}");
        if let Err(error) = done {
            assert!(error.fix().is_some(), "{error}");
        }
        world.test.files.put(CLAUDE, old, 0o600);
        choose(&world.sink(), ExternalMode::Cooperative).unwrap();
        world.test.clock.advance(HOUR);
        assert!(
            world.is_live(&world.sink().acquire(&request()).unwrap()),
            "{mode}"
        );
        assert_eq!(world.ledger().reuses, 0);
    }
}

#[test]
fn what_was_blanked_under_another_account_is_not_healed_with_the_former_one() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let who = |name: &str| {
        let said = json!({"oauthAccount": {"accountUuid": format!("acct-{name}"), "emailAddress": format!("{name}@example.com")}});
        world
            .test
            .files
            .put("/home/user/.claude.json", said.to_string(), 0o600);
    };
    who("alice");
    let there = world.clone();
    world.test.transport.on_request(move |request| {
        let answer = there.answer(&request)?;
        let mut said: Value = serde_json::from_slice(answer.body().expose()).unwrap();
        said["account"] = json!({"uuid": "acct-alice", "email_address": "alice@example.com"});
        Ok(answer.map(|_| Body::new(said.to_string())))
    });
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.account.account_id.as_deref(), Some("acct-alice"));
    log_in(&world, "bob");
    who("bob");
    set_section(&world, |file| {
        file["claudeAiOauth"]["accessToken"] = json!("");
        file["claudeAiOauth"]["refreshToken"] = json!("");
        file["claudeAiOauth"]["expiresAt"] = json!(0);
    });
    let blanked = world.test.files.text(CLAUDE);
    world.sink().acquire(&request()).unwrap_err();
    let _ = world.sink().renew(None);
    assert_eq!(world.test.files.text(CLAUDE), blanked);
}
