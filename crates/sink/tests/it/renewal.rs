//! Renewal ahead of time, over simulated weeks: no login dies of disuse, of a bench, or of a provider that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{Fault, FaultAction, ServerConfig};
use tokensink_host::ConnectPhase;
use tokensink_sink::{Flights, RenewResult, Renewing, Sink};
use tokensink_testkit::Scripted;

use crate::world::{HOUR, PROFILE, STATE, World, strict};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs the loop for `time`, as a process that wakes whenever something is due. Returns how often it woke.
fn keep(world: &World, renewing: &mut Renewing, time: Duration) -> usize {
    let end = world.now().plus(time);
    for turn in 1.. {
        let step = renewing.step();
        let next = step.next.unwrap_or(end).min(end);
        if world.now() >= end {
            return turn;
        }
        world.test.clock.advance(world.now().until(next));
    }
    unreachable!("the end comes")
}

/// A login at a server that forgets what was not used for a day, and whose access tokens last `hours`.
fn forgetful(hours: u64) -> World {
    let config = ServerConfig {
        idle_limit_seconds: Some(DAY.as_secs()),
        access_token_seconds: hours * 3600,
        ..strict()
    };
    let world = World::logged_in(config);
    let definition = world
        .test
        .files
        .text(format!("{STATE}/tokensink/providers/rig.toml"));
    assert!(definition.contains("idle_limit_seconds = 86400"), "{definition}");
    // Benched throughout: nobody uses it.
    let until = world.now().plus(40 * DAY).0;
    let stats =
        json!({"version": 1, "usageStats": {PROFILE: {"disabledUntil": until, "disabledReason": "billing"}}});
    let path = format!("{STATE}/agents/main/agent/auth-state.json");
    world.test.files.put(path, stats.to_string(), 0o600);
    world
}

fn by_id() -> tokensink_sink::AcquireRequest {
    tokensink_sink::AcquireRequest {
        want: tokensink_sink::Want::Profile(PROFILE.parse().unwrap()),
        ..crate::world::request()
    }
}

#[test]
fn no_login_dies_of_disuse_in_thirty_days() {
    // (life of an access token in hours, the machine's sleep in hours, refreshes): once every life less a quarter of an
    // hour; and at three quarters of the time after which the server forgets.
    let cases = [(8, 20, 88..=96), (24 * 90, 5, 38..=42)];
    for (life, sleep, expected) in cases {
        let world = forgetful(life);
        let sink = world.sink();
        // When a grant was issued is known from its first refresh, or its login, on.
        let rejected = Some(sink.acquire(&by_id()).unwrap().secret.clone());
        sink.acquire(&tokensink_sink::AcquireRequest { rejected, ..by_id() })
            .unwrap();
        let mut renewing = Renewing::new(&sink);
        let woken = keep(&world, &mut renewing, 14 * DAY);
        world.test.clock.advance(sleep * HOUR);
        let woken = woken + keep(&world, &mut renewing, 15 * DAY);
        let ledger = world.ledger();
        assert_eq!(
            (ledger.reuses, ledger.idle_refusals),
            (0, 0),
            "{life}: {ledger:?}"
        );
        assert!(expected.contains(&ledger.refreshes), "{life}: {ledger:?}");
        assert!(woken < 250, "{life}: it does not spin: {woken}");
        let lease = sink.acquire(&by_id()).unwrap();
        assert!(world.is_live(&lease));
        assert_eq!(
            world.ledger().refreshes,
            ledger.refreshes,
            "served without a refresh"
        );
    }
}

#[test]
fn a_failing_network_is_asked_less_and_less_and_nothing_is_lost() {
    let world = World::logged_in(strict());
    let sink = world.sink();
    let mut renewing = Renewing::new(&sink);
    world.test.clock.advance(50 * HOUR / 60);
    for _ in 0..500 {
        world
            .test
            .transport
            .push(Scripted::no_connection(ConnectPhase::Tcp));
    }
    keep(&world, &mut renewing, HOUR);
    let tries = 500 - world.test.transport.left();
    assert!((30..=90).contains(&tries), "{tries} tries in an hour");
    while world.test.transport.left() > 0 {
        keep(&world, &mut renewing, HOUR);
    }
    keep(&world, &mut renewing, 2 * Duration::from_secs(60));
    let ledger = world.ledger();
    assert!(ledger.refreshes >= 1 && ledger.reuses == 0, "{ledger:?}");
}

#[test]
fn a_refused_login_is_told_once_and_taken_up_after_the_next_login() {
    let world = World::logged_in(strict());
    let sink = world.sink();
    let mut renewing = Renewing::new(&sink);
    world.test.clock.advance(50 * HOUR / 60);
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant"}"#.into(),
    }));
    let step = renewing.step();
    assert!(
        matches!(step.outcomes[0].result, RenewResult::LoginNeeded { .. }),
        "{step:?}"
    );
    assert_eq!(keep(&world, &mut renewing, DAY), 2, "there is nothing to do");
    world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
    keep(&world, &mut renewing, 2 * HOUR);
    assert!(world.ledger().refreshes >= 1);
}

#[test]
fn a_provider_that_hangs_delays_no_other_and_stopping_waits_for_nobody() {
    let world = World::logged_in(strict());
    // One thread waits for the other's lock.
    world.test.clock.be_patient();
    let mute = world
        .server
        .lock()
        .unwrap()
        .provider_toml("mute")
        .replace("9400", "9500");
    world
        .test
        .files
        .put(format!("{STATE}/tokensink/providers/mute.toml"), mute, 0o600);
    let mut entry = world.grant_entry("bob");
    entry["provider"] = "mute".into();
    world.put_store(
        "main",
        &json!({ "mute:bob@example.com": entry, PROFILE: world.grant_entry("alice") }),
    );
    let (gate, hanging) = std::sync::mpsc::channel::<()>();
    let hanging = std::sync::Mutex::new(hanging);
    let waiting = Arc::new(AtomicUsize::new(0));
    let (served, count) = (world.clone(), Arc::clone(&waiting));
    world.test.transport.on_request(move |request| {
        if request.uri().port_u16() == Some(9500) {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = hanging.lock().unwrap().recv();
        }
        served.answer(&request)
    });
    world.test.clock.advance(50 * HOUR / 60);
    let sink = Sink::open_with(world.test.host(), Flights::threads()).unwrap();
    let seen = sink.generation();
    let renewal = sink.keep_renewed().unwrap();
    assert!(
        sink.wait_for_change(seen, Duration::from_secs(30)),
        "the other provider's login is renewed"
    );
    let real = tokensink_host::Host::real();
    while waiting.load(Ordering::SeqCst) == 0 {
        real.clock.sleep(Duration::from_millis(1));
    }
    let begun = real.clock.monotonic();
    drop(renewal);
    assert!(
        real.clock.monotonic().saturating_sub(begun) < Duration::from_secs(5),
        "at once"
    );
    assert_eq!((world.ledger().refreshes, waiting.load(Ordering::SeqCst)), (1, 1));
    drop(gate);
}
