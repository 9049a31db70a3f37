//! Mode `owned`: a grant moves into main's own store and back, and is in one of them at every moment.

use std::path::Path;

use serde_json::{Value, json};
use tokensink_host::Liveness;
use tokensink_sink::{ErrorKind, ExternalMode, ExternalScope};
use tokensink_testkit::{Errno, Faults};
use tokensink_types::SpendKey;

use super::{CLAUDE, choose, chosen, log_in, ours_with, request, section, sends, set_section, text, world};
use crate::world::{HOUR, World, strict};

const OWNED: &str = "anthropic:default";

fn file(world: &World) -> Value {
    serde_json::from_str(&world.test.files.text(CLAUDE)).unwrap()
}

#[test]
fn a_login_moves_in_is_refreshed_here_and_moves_back_as_it_was() {
    let world = world(strict());
    let before = file(&world);
    let changed = choose(&world.sink(), ExternalMode::Owned).unwrap();
    assert_eq!(
        (changed.mode, changed.profile.as_str()),
        (ExternalMode::Owned, OWNED)
    );
    assert_eq!(changed.next.as_deref(), Some("tokensink external wire claude"));
    let mut left = before.clone();
    left.as_object_mut().unwrap().remove("claudeAiOauth");
    assert_eq!(file(&world), left, "all else stays");
    let stored = world.stored("main", OWNED);
    assert_eq!(stored["refresh"], before["claudeAiOauth"]["refreshToken"]);
    assert_eq!(
        world.sink().external_list(&ExternalScope::All, false)[0].state,
        "owned"
    );

    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.profile.as_str(), OWNED);
    assert!(world.is_live(&lease));
    assert_eq!(file(&world), left);
    // Twice is once.
    choose(&world.sink(), ExternalMode::Owned).unwrap();

    let changed = choose(&world.sink(), ExternalMode::Cooperative).unwrap();
    assert_eq!(changed.profile.as_str(), "anthropic:claude-cli");
    let mut back = file(&world);
    assert_eq!(back["claudeAiOauth"]["accessToken"], lease.secret.expose());
    for field in ["accessToken", "refreshToken", "expiresAt"] {
        back["claudeAiOauth"][field] = before["claudeAiOauth"][field].clone();
    }
    assert_eq!(back, before, "with scopes and plan as they were");
    assert!(world.stored("main", OWNED).is_null());
    assert_eq!(
        world.sink().acquire(&request()).unwrap().profile.as_str(),
        "anthropic:claude-cli"
    );
    world.test.clock.advance(HOUR);
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (2, 0));
}

#[test]
fn a_grant_that_is_stored_already_is_not_stored_twice() {
    let world = world(strict());
    let there = section(&world);
    world.put_store(
        "main",
        &json!({"anthropic:alice": {
            "type": "oauth", "provider": "anthropic", "access": there["accessToken"],
            "refresh": there["refreshToken"], "expires": there["expiresAt"],
        }}),
    );
    let changed = choose(&world.sink(), ExternalMode::Owned).unwrap();
    assert_eq!(changed.profile.as_str(), "anthropic:alice");
    assert!(file(&world).get("claudeAiOauth").is_none());
    assert_eq!(ours_with(&world, text(&there["refreshToken"])).len(), 1);
}

#[test]
fn the_name_of_another_account_is_not_taken() {
    let world = world(strict());
    let mut bob = world.grant_entry("bob");
    bob["provider"] = json!("anthropic");
    world.put_store("main", &json!({ OWNED: bob.clone() }));
    let changed = choose(&world.sink(), ExternalMode::Owned).unwrap();
    assert_ne!(changed.profile.as_str(), OWNED);
    assert_eq!(world.stored("main", OWNED), bob);
}

#[test]
fn what_the_record_is_ahead_by_moves_too() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let old = world.test.files.text(CLAUDE);
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    // Somebody puts an older copy of the file back; its token is spent.
    world.test.files.put(CLAUDE, old, 0o600);
    choose(&world.sink(), ExternalMode::Owned).unwrap();
    assert_eq!(world.stored("main", OWNED)["access"], lease.secret.expose());
    world.test.clock.advance(HOUR);
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    assert_eq!(world.ledger().reuses, 0);
}

#[test]
fn a_program_that_was_logged_in_anew_keeps_its_login() {
    let world = world(strict());
    choose(&world.sink(), ExternalMode::Owned).unwrap();
    let mut entry = file(&world);
    log_in(&world, "alice");
    entry["claudeAiOauth"] = section(&world);
    world.test.files.put(CLAUDE, entry.to_string(), 0o600);
    let error = choose(&world.sink(), ExternalMode::Cooperative).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "other_login"));
    assert_eq!(file(&world), entry);
    assert!(!world.stored("main", OWNED).is_null());
}

/// One move under `faults`, then the same command again by another process. At every moment the grant is in one
/// store at least, and only one of them spends it.
fn run(to: ExternalMode, faults: &Faults) -> bool {
    let world = world(strict());
    let from = if to == ExternalMode::Owned {
        ExternalMode::Cooperative
    } else {
        ExternalMode::Owned
    };
    choose(&world.sink(), from).unwrap();
    let refresh = match from {
        ExternalMode::Owned => world.stored("main", OWNED)["refresh"].clone(),
        _ => section(&world)["refreshToken"].clone(),
    };
    let _ = world.faulty(faults).and_then(|sink| choose(&sink, to));
    let holders = |world: &World| {
        let there = world.test.files.text(CLAUDE).contains(text(&refresh));
        let ours = ours_with(world, text(&refresh));
        (
            there,
            ours.iter().any(|path| path.ends_with("auth-profiles.json")),
        )
    };
    let (there, ours) = holders(&world);
    assert!(there || ours, "nobody has it after {}", faults.last());
    let me = world.test.host().processes.this();
    world.test.processes.set_liveness(me, Liveness::Dead);
    let later = World {
        test: world.test.other_process(5000),
        ..world.clone()
    };
    later.test.clock.advance(HOUR);
    // Whoever asks meanwhile may be put off, but spends nothing that the other side still holds.
    let sink = later.sink();
    let _ = sink.acquire(&request());
    if holders(&later) == (true, true) {
        assert_eq!(sends(&later), 0, "after {}", faults.last());
    }
    if let Err(error) = choose(&sink, to) {
        panic!("{error} after {}", faults.last());
    }
    let (there, ours) = (
        file(&later)["claudeAiOauth"]["refreshToken"].is_string(),
        later
            .test
            .files
            .snapshot()
            .contains_key(Path::new(&crate::world::store_path("main")))
            && !later.stored("main", OWNED).is_null(),
    );
    assert_eq!(
        (there, ours),
        (to != ExternalMode::Owned, to == ExternalMode::Owned),
        "after {}",
        faults.last()
    );
    let lease = sink.acquire(&request()).unwrap();
    assert!(later.is_live(&lease), "after {}", faults.last());
    assert_eq!(later.ledger().reuses, 0, "after {}", faults.last());
    faults.fired()
}

/// Every second call from the `first` on, so that a test takes half of the time; there are two for each.
fn every_second_point(to: ExternalMode, first: usize, make: impl Fn(usize) -> Faults) {
    let points = (first..).step_by(2).take_while(|n| run(to, &make(*n))).count();
    assert!(points > 20, "only {points} calls were tried");
}

macro_rules! every_point {
    ($odd:ident, $even:ident, $to:expr, $make:expr) => {
        #[test]
        fn $odd() {
            every_second_point($to, 1, $make);
        }

        #[test]
        fn $even() {
            every_second_point($to, 2, $make);
        }
    };
}

every_point!(
    a_move_in_that_is_cut_off_at_an_odd_call_is_finished_by_the_same_command,
    a_move_in_that_is_cut_off_at_an_even_call_is_finished_by_the_same_command,
    ExternalMode::Owned,
    |n| Faults::crash_before(n).torn()
);
every_point!(
    a_move_in_that_fails_at_an_odd_call_is_finished_by_the_same_command,
    a_move_in_that_fails_at_an_even_call_is_finished_by_the_same_command,
    ExternalMode::Owned,
    |n| Faults::fail_at(n, Errno::IO).torn()
);
every_point!(
    a_move_back_that_is_cut_off_at_an_odd_call_is_finished_by_the_same_command,
    a_move_back_that_is_cut_off_at_an_even_call_is_finished_by_the_same_command,
    ExternalMode::Cooperative,
    |n| Faults::crash_before(n).torn()
);
every_point!(
    a_move_back_that_fails_at_an_odd_call_is_finished_by_the_same_command,
    a_move_back_that_fails_at_an_even_call_is_finished_by_the_same_command,
    ExternalMode::Cooperative,
    |n| Faults::fail_at(n, Errno::IO).torn()
);

#[test]
fn a_move_that_is_not_finished_is_told_with_the_command_that_finishes_it() {
    let world = world(strict());
    choose(&world.sink(), ExternalMode::Owned).unwrap();
    // As after a crash between storing and taking away.
    let stored = world.stored("main", OWNED);
    set_section(&world, |file| {
        file["claudeAiOauth"] = json!({
            "accessToken": stored["access"], "refreshToken": stored["refresh"], "expiresAt": stored["expires"],
            "scopes": ["user:inference"],
        });
    });
    let choices = "/home/user/.openclaw/tokensink/state/external.json";
    let mut noted: Value = serde_json::from_str(&world.test.files.text(choices)).unwrap();
    let key = SpendKey::of(&text(&stored["refresh"]).into());
    noted["logins"][CLAUDE]["moving"] = json!(hex::encode(key.0));
    world.test.files.put(choices, noted.to_string(), 0o600);
    world.test.clock.advance(HOUR);
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(
        error.fix(),
        Some("tokensink external set claude owned"),
        "{error}"
    );
    assert_eq!(sends(&world), 0);
    let info = &world.sink().external_list(&ExternalScope::All, false)[0];
    assert_eq!(info.fix.as_deref(), Some("tokensink external set claude owned"));
    choose(&world.sink(), ExternalMode::Owned).unwrap();
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    assert_eq!(world.ledger().reuses, 0);
}
