use serde_json::{Value, json};
use tokensink_types::record::{Backoff, RecordState, Sent};
use tokensink_types::{Revision, UnixMillis};

use crate::error::ErrorKind;
use crate::report::ProfileState;
use crate::world::{World, agent, generation, id, key, oauth, spend, target};

const NOW: i64 = 1_767_225_600_000;

/// `rig:a` is a grant whose access token has ended.
fn world() -> World {
    let world = World::new();
    let mut grant = oauth("rig", "a");
    grant["expires"] = json!(NOW - 60_000);
    world.store("main", &json!({"rig:a": grant}));
    world
}

fn backoff() -> Option<Backoff> {
    Some(Backoff {
        failures: 3,
        not_before: UnixMillis(NOW + 60_000),
        reason: "no connection".to_owned(),
    })
}

fn state_of(world: &World) -> ProfileState {
    world
        .sink()
        .profiles(&agent("main"), None)
        .unwrap()
        .remove(0)
        .state
}

#[test]
fn a_refusal_ends_and_the_refresh_token_may_be_sent() {
    let world = world();
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.state = RecordState::Refused {
            spent: spend("a"),
            code: "invalid_grant".to_owned(),
            description: String::new(),
            after_lost_answer: false,
            at: UnixMillis(NOW - 7_200_000),
        };
        record.backoff = backoff();
        record.rejected = Some(Revision::of(&generation("a", -1).tokens));
    });
    assert!(matches!(state_of(&world), ProfileState::LoginNeeded { .. }));
    let report = world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!(
        report.cleared,
        [
            "the token endpoint's refusal invalid_grant of 2h ago; the refresh token will be sent again",
            "a wait of 60 s more after 3 failed refreshes (no connection)",
            "the note that an API rejected its access token",
        ]
    );
    let record = world.recorded("main", "rig:a").unwrap();
    assert_eq!(
        (record.state, record.backoff, record.rejected),
        (RecordState::Idle, None, None)
    );
    assert_eq!(record.generation, Some(generation("a", -1)));
    assert_eq!(state_of(&world), ProfileState::Refreshable);
    assert_eq!(world.json("tokensink/audit.jsonl")["event"], "retry");
    assert!(
        world
            .sink()
            .retry(&agent("main"), &id("rig:a"))
            .unwrap()
            .cleared
            .is_empty()
    );
    assert_eq!(
        world.test.transport.connections(),
        0,
        "trying is the next caller's work"
    );
}

#[test]
fn a_doubt_stays_and_its_waiting_time_goes() {
    let world = world();
    let sent = Sent {
        spend: spend("a"),
        first_at: UnixMillis(NOW - 120_000),
        last_at: UnixMillis(NOW - 60_000),
        sends: 2,
        holder: tokensink_testkit::FakeProcesses::id(4711),
    };
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.state = RecordState::Sent(sent.clone());
        record.backoff = backoff();
    });
    let report = world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!(
        report.cleared,
        ["a wait of 60 s more after 3 failed refreshes (no connection)"]
    );
    assert!(
        report.notes[0].contains("4711") && report.notes[0].contains("never answered"),
        "{report:?}"
    );
    let record = world.recorded("main", "rig:a").unwrap();
    assert_eq!((record.state, record.backoff), (RecordState::Sent(sent), None));
}

#[test]
fn another_accounts_tokens_stay_aside() {
    let world = world();
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.state = RecordState::Parked {
            spent: spend("a"),
            answer: Box::new(generation("other", 60)),
            at: UnixMillis(NOW),
        };
        record.backoff = backoff();
    });
    let before = world.recorded("main", "rig:a").unwrap().state;
    let error = world.sink().retry(&agent("main"), &id("rig:a")).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "other_account")
    );
    assert_eq!(
        error.fix(),
        Some("tokensink models auth login --provider rig --profile-id rig:a")
    );
    assert!(
        error.to_string().contains("cleared: a wait of 60 s more"),
        "{error}"
    );
    let record = world.recorded("main", "rig:a").unwrap();
    assert_eq!((record.state, record.backoff), (before, None));
    // A newer login has made them irrelevant.
    world.store("main", &json!({"rig:a": oauth("rig", "new")}));
    world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
}

#[test]
fn windows_and_counts_go_and_the_rest_of_the_statistics_stays() {
    let world = World::new();
    world.store("main", &json!({"rig:a": key("rig"), "rig:b": key("rig")}));
    let usage = json!({
        "rig:a": {
            "lastUsed": 5, "errorCount": 4, "failureCounts": {"billing": 4}, "lastFailureAt": 7,
            "cooldownUntil": NOW + 60_000, "cooldownReason": "rate_limit", "cooldownModel": "m",
            "disabledUntil": NOW + 7_200_000, "disabledReason": "billing", "future": {"x": 1},
        },
        "rig:b": {"cooldownUntil": NOW + 60_000, "errorCount": 1},
    });
    world.put(
        "agents/main/agent/auth-state.json",
        &json!({"version": 1, "usageStats": usage}).to_string(),
    );
    let report = world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!(
        report.cleared,
        [
            "a cooldown window of 60 s more (rate_limit)",
            "a disabled window of 2h more (billing)"
        ]
    );
    let after = world.state("main")["usageStats"].clone();
    assert_eq!(after["rig:b"], usage["rig:b"]);
    let mut kept = after["rig:a"].clone();
    assert_eq!(kept.as_object_mut().unwrap().remove("errorCount"), Some(json!(0)));
    assert_eq!(
        kept,
        json!({"lastUsed": 5, "lastFailureAt": 7, "future": {"x": 1}})
    );
    assert_eq!(
        world.sink().profiles(&agent("main"), None).unwrap()[0].bench,
        None
    );
}

#[test]
fn an_inherited_profile_is_cleared_where_it_lives() {
    let world = world();
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.backoff = backoff();
    });
    let report = world.sink().retry(&agent("work"), &id("rig:a")).unwrap();
    assert_eq!(report.cleared.len(), 1);
    assert_eq!(world.recorded("main", "rig:a").unwrap().backoff, None);
    assert_eq!(world.text("agents/work/agent/auth-profiles.json"), "");
}

#[test]
fn a_login_that_the_store_could_not_take_is_put_back() {
    for caller in ["main", "work"] {
        let world = World::new();
        world.put(
            "openclaw.json",
            "{\n  // orders\n  auth: { order: { rig: ['rig:z'] } },\n}\n",
        );
        world.record("main", "rig:a", generation("a", 60), |_| {});
        assert!(world.sink().profiles(&agent("main"), None).unwrap().is_empty());
        let report = world.sink().retry(&agent(caller), &id("rig:a")).unwrap();
        assert!(
            report.cleared[0].contains("put back from its refresh record"),
            "{report:?}"
        );
        assert_eq!(world.stored("main")["rig:a"], oauth("rig", "a"));
        assert_eq!(state_of(&world), ProfileState::Usable);
        let config = world.text("openclaw.json");
        assert!(
            config.contains("// orders") && config.contains("'rig:z'") && config.contains("oauth"),
            "{config}"
        );
        let parsed = world.sink().config().unwrap();
        let order: Vec<_> = parsed
            .auth_order()
            .remove(0)
            .1
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(order, ["rig:a", "rig:z"]);
        assert_eq!(
            world.sink().retry(&agent("main"), &id("rig:a")).unwrap().cleared,
            [""; 0]
        );
    }
}

#[test]
fn a_store_that_is_still_full_keeps_the_record() {
    let world = World::new();
    world.record("main", "rig:a", generation("a", 60), |_| {});
    let sink = world.sink();
    world.test.files.set_free_space(Some(0));
    assert_eq!(
        sink.retry(&agent("main"), &id("rig:a")).unwrap_err().kind(),
        ErrorKind::Failed
    );
    assert_eq!(
        world.recorded("main", "rig:a").unwrap().generation,
        Some(generation("a", 60))
    );
    world.test.files.set_free_space(None);
    sink.retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!(world.stored("main")["rig:a"], oauth("rig", "a"));
}

/// What the server said of the login before is not about the present one, and is not to be forgotten either.
#[test]
fn the_refusal_of_an_earlier_refresh_token_stays() {
    let world = world();
    let earlier = RecordState::Refused {
        spent: spend("before"),
        code: "invalid_grant".to_owned(),
        description: String::new(),
        after_lost_answer: false,
        at: UnixMillis(NOW - 7_200_000),
    };
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.state = earlier.clone();
    });
    let report = world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!(report.cleared, [""; 0]);
    assert_eq!(world.recorded("main", "rig:a").unwrap().state, earlier);
}

#[test]
fn nothing_in_the_way_changes_nothing() {
    let world = World::new();
    world.store("main", &json!({"rig:a": key("rig")}));
    let before = world.text("agents/main/agent/auth-profiles.json");
    let report = world.sink().retry(&agent("main"), &id("rig:a")).unwrap();
    assert_eq!((report.cleared.len(), report.notes.len()), (0, 0));
    assert_eq!(world.text("agents/main/agent/auth-profiles.json"), before);
    assert_eq!(
        (world.state("main"), world.text("tokensink/audit.jsonl").as_str()),
        (Value::Null, "")
    );
    let error = world.sink().retry(&agent("main"), &id("rig:nope")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "no_profile"));
}

#[test]
fn an_unreadable_record_is_kept_under_another_name() {
    let world = world();
    let sink = world.sink();
    let path = sink
        .journal()
        .path(&sink.record_key(&target("main", "rig:a")).unwrap().unwrap());
    world.test.files.put(&path, "garbage", 0o600);
    let report = sink.retry(&agent("main"), &id("rig:a")).unwrap();
    assert!(report.cleared[0].contains(".unreadable-"), "{report:?}");
    assert_eq!(world.files_with("garbage").len(), 1);
    assert_eq!(state_of(&world), ProfileState::Refreshable);
}

#[test]
fn neither_a_refresh_under_way_nor_readonly_is_overruled() {
    let world = world();
    world.record("main", "rig:a", generation("a", -1), |record| {
        record.backoff = backoff();
    });
    let lock = world.refreshing_elsewhere("rig", "rig:a");
    let error = world.sink().retry(&agent("main"), &id("rig:a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(error.to_string().contains("4711"), "{error}");
    drop(lock);
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let before = world.test.files.snapshot();
    assert_eq!(
        world
            .sink()
            .retry(&agent("main"), &id("rig:a"))
            .unwrap_err()
            .code(),
        "readonly"
    );
    assert_eq!(world.test.files.snapshot(), before);
    assert_eq!(world.recorded("main", "rig:a").unwrap().backoff, backoff());
}
