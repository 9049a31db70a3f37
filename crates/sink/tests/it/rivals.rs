//! Others at the same grant: threads of this process, other programs at the store, other profiles and providers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use http::Response;
use serde_json::json;
use tokensink_authserver::{Endpoint, Fault, FaultAction};
use tokensink_host::{ExchangeError, Liveness};
use tokensink_sink::{AcquireRequest, ErrorKind, Flights, ProfileId, RenewResult, Sink};
use tokensink_store::{Paths, lock_sibling};
use tokensink_testkit::FakeProcesses;
use tokensink_types::{Body, ProviderId};

use crate::world::{HOUR, ISSUER, PROFILE, STATE, World, request, request_of, request_profile, strict};

/// Threads that ask at the same moment.
const CALLERS: usize = 300;

#[test]
fn hundreds_of_threads_wait_for_one_refresh() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    let sink = Sink::open_with(world.test.host(), Flights::threads()).unwrap();
    let started = Arc::new(Barrier::new(CALLERS + 1));
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let server = world.clone();
    world.test.transport.on_request(move |request| {
        // The answer waits until every caller is at it.
        let _ = held.lock().unwrap().recv();
        let answer = server
            .server
            .lock()
            .unwrap()
            .handle(&request, server.now(), &server.random);
        Ok(answer.response)
    });
    let before = world.test.clock.slept();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (sink, started) = (sink.clone(), Arc::clone(&started));
                scope.spawn(move || {
                    started.wait();
                    sink.acquire(&request()).map(|lease| lease.secret.clone())
                })
            })
            .collect();
        started.wait();
        drop(release);
        let mut tokens: Vec<_> = callers
            .into_iter()
            .map(|caller| caller.join().unwrap().unwrap().expose().to_owned())
            .collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 1, "everybody has the same new token");
    });
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (1, 0));
    assert_eq!(world.test.clock.slept(), before, "nobody polled the lock");
}

#[test]
fn a_login_into_a_blanked_store_is_not_overwritten_by_a_refresh_under_way() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    // Another program has blanked the login; ours is in the record.
    let mut blanked = world.stored("main", PROFILE);
    blanked["refresh"] = json!("");
    world.put_store("main", &json!({ PROFILE: blanked }));
    world.test.clock.advance(HOUR);
    // There is no room to heal the store, and while the request is on its way somebody makes room and logs in.
    world.test.files.set_free_space(Some(0));
    let newer = world.grant_entry("alice");
    let (at, login) = (world.clone(), newer.clone());
    world.test.transport.on_request(move |request| {
        at.test.files.set_free_space(None);
        at.put_store("main", &json!({ PROFILE: login }));
        let answer = at.server.lock().unwrap().handle(&request, at.now(), &at.random);
        Ok(answer.response)
    });
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(world.stored("main", PROFILE)["refresh"], newer["refresh"]);
    assert_eq!(lease.secret.expose(), newer["access"]);
}

#[test]
fn a_login_that_another_program_has_blanked_serves_from_its_record() {
    for (access, refresh) in [(true, false), (false, false)] {
        let world = World::logged_in(strict());
        world.test.clock.advance(HOUR);
        world.sink().acquire(&request()).unwrap();
        let mut blanked = world.stored("main", PROFILE);
        for (field, kept) in [("access", access), ("refresh", refresh)] {
            if !kept {
                blanked[field] = json!("");
            }
        }
        world.put_store("main", &json!({ PROFILE: blanked }));
        world.test.clock.advance(HOUR);
        let report = world.sink().status(&tokensink_sink::AgentId::main()).unwrap();
        assert_eq!(report.profiles[0].state.word(), "refreshable");
        assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
        assert_ne!(world.stored("main", PROFILE)["refresh"], "", "and is put back");
    }
}

#[test]
fn a_refresh_by_openclaw_is_waited_for_as_long_as_the_caller_has_time() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    let openclaw = FakeProcesses::id(777);
    world
        .test
        .processes
        .set_liveness(openclaw.clone(), Liveness::Running);
    let paths = Paths::resolve(&world.test.env).unwrap();
    let profile = ProfileId::parse(PROFILE).unwrap();
    let lock = lock_sibling(&paths.refresh_lock(&ProviderId::parse("rig").unwrap(), &profile));
    let text = json!({"pid": 777, "createdAt": "2026-01-01T01:00:00.000Z", "starttime": openclaw.start});
    world.test.files.put(&lock, text.to_string(), 0o600);
    let before = world.test.clock.slept();
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(error.to_string().contains("777"), "{error}");
    let slept = world.test.clock.slept() - before;
    assert!(
        (80..100).contains(&slept.as_secs()),
        "the caller had 90 s and waited {slept:?}"
    );
    assert_eq!(world.test.transport.requests().len(), 0);
}

/// Alice and bob, asked in this order.
fn two_profiles() -> (World, &'static str, &'static str) {
    let world = World::new(strict());
    let (alice, bob) = ("rig:alice", "rig:bob");
    let entry = world.grant_entry("alice");
    world.test.clock.advance(HOUR);
    world.put_store("main", &json!({alice: entry, bob: world.grant_entry("bob")}));
    let state = json!({"version": 1, "order": {"rig": [alice, bob]}});
    world.test.files.put(
        format!("{STATE}/agents/main/agent/auth-state.json"),
        state.to_string(),
        0o600,
    );
    (world, alice, bob)
}

#[test]
fn another_profile_serves_before_a_long_back_off_is_waited_out() {
    let (world, alice, bob) = two_profiles();
    world.push(Fault::on_refresh(FaultAction::RetryAfter {
        seconds: 40,
        status: 429,
    }));
    let before = world.test.clock.slept();
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.profile.as_str(), bob);
    assert!(lease.note.unwrap().contains(alice));
    assert_eq!(world.test.clock.slept(), before);
    // With nobody else to ask, the caller waits.
    assert!(world.is_live(&world.sink().acquire(&request_profile(alice)).unwrap()));
}

#[test]
fn where_waiting_helps_one_profile_no_login_is_demanded() {
    let (world, alice, _) = two_profiles();
    let revoked = FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant"}"#.into(),
    };
    world.push(Fault::on_refresh(revoked));
    let error = world.sink().acquire(&request_profile(alice)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{error}");
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 503,
        body: String::new(),
    }));
    let at_once = AcquireRequest {
        wait: Duration::ZERO,
        ..request()
    };
    let error = world.sink().acquire(&at_once).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
}

#[test]
fn the_command_for_a_back_off_can_be_pasted_into_a_shell() {
    let id = "rig:it's me; $(id)";
    for (agent, flag) in [("main", ""), ("work", " --agent work")] {
        let world = World::new(strict());
        world.put_store(agent, &json!({ id: world.grant_entry("alice") }));
        world.test.clock.advance(HOUR);
        world.push(Fault::on_refresh(FaultAction::RetryAfter {
            seconds: 600,
            status: 429,
        }));
        let at_once = AcquireRequest {
            wait: Duration::ZERO,
            ..request_of(agent)
        };
        world.sink().acquire(&at_once).unwrap_err();
        let error = world.sink().acquire(&at_once).unwrap_err();
        let want = format!(r"tokensink models auth retry 'rig:it'\''s me; $(id)'{flag}");
        assert_eq!(error.fix(), Some(want.as_str()), "{error}");
    }
}

#[test]
fn a_dead_login_of_main_does_not_stand_in_the_way_of_an_agents_own() {
    let world = World::new(strict());
    let own = world.grant_entry("alice");
    world.test.clock.advance(Duration::from_secs(600));
    world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
    world.put_store("work", &json!({ PROFILE: own }));
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant"}"#.into(),
    }));
    world.sink().acquire(&request()).unwrap_err();
    let lease = world.sink().acquire(&request_of("work")).unwrap();
    assert!(world.is_live(&lease));
    assert_eq!(lease.secret.expose(), world.stored("work", PROFILE)["access"]);
}

#[test]
fn a_provider_that_hangs_delays_the_renewal_of_no_other() {
    let world = World::new(strict());
    let definition = world.server.lock().unwrap().provider_toml("slow");
    let elsewhere = definition.replace(ISSUER, "http://127.0.0.1:9401");
    world
        .test
        .files
        .put(format!("{STATE}/tokensink/providers/slow.toml"), elsewhere, 0o600);
    let mut slow = world.grant_entry("bob");
    slow["provider"] = json!("slow");
    // In the order of the file, the one that hangs comes first.
    world.put_store(
        "main",
        &json!({ "slow:bob": slow, PROFILE: world.grant_entry("alice") }),
    );
    world.test.clock.advance(HOUR);
    // One thread waits for the other's lock.
    world.test.clock.be_patient();
    let (renewed, wait_for_it) = mpsc::channel::<()>();
    let wait_for_it = Mutex::new(wait_for_it);
    let server = world.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    world.test.transport.on_request(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        if request.uri().port_u16() == Some(9401) {
            let others = wait_for_it.lock().unwrap().recv_timeout(Duration::from_secs(20));
            return match others {
                Ok(()) => Ok(Response::builder().status(503).body(Body::default()).unwrap()),
                Err(_) => Err(ExchangeError::Ambiguous("nobody else was renewed".to_owned())),
            };
        }
        let answer = server
            .server
            .lock()
            .unwrap()
            .handle(&request, server.now(), &server.random);
        renewed.send(()).unwrap();
        Ok(answer.response)
    });
    let sink = Sink::open_with(world.test.host(), Flights::threads()).unwrap();
    let report = sink.renew(None).unwrap();
    let [slow, rig] = &report.outcomes[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (slow.profile.as_str(), rig.profile.as_str()),
        ("slow:bob", PROFILE)
    );
    assert!(matches!(rig.result, RenewResult::Renewed { .. }), "{report:?}");
    assert!(
        matches!(&slow.result, RenewResult::TryAgain { reason, .. } if reason.contains("503")),
        "{report:?}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn what_nobody_can_refresh_is_a_failure_for_renewal_as_for_acquire() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.test.files.put(
        format!("{STATE}/tokensink/providers/rig.toml"),
        "id = \"rig\"\nthis is wrong",
        0o600,
    );
    let sink = Sink::open_with(world.test.host(), Flights::inline()).unwrap();
    let report = sink.renew(None).unwrap();
    assert!(
        matches!(&report.outcomes[0].result, RenewResult::Failed { reason } if reason.contains("rig")),
        "{report:?}"
    );
    assert_eq!(sink.acquire(&request()).unwrap_err().kind(), ErrorKind::Failed);
}

/// OpenClaw writes a store whole and leaves out the fields that it does not know, such as `tokenEndpoint`. A refresh
/// token goes to the endpoint that issued it all the same, and the field comes back with the next generation.
#[test]
fn an_endpoint_that_openclaw_dropped_from_the_store_is_still_known() {
    let world = World::new(strict());
    let other = format!("{ISSUER}/v1/oauth/token");
    let path = format!("{STATE}/tokensink/providers/rig.toml");
    let definition = world.test.files.text(&path);
    let method = format!(
        "\n[[auth]]\nid = \"oauth-2\"\nkind = \"pkce\"\nclient_id = \"rig\"\nredirect_uri = \"http://127.0.0.1:0/auth/callback\"\n\
         authorization_endpoint = \"{ISSUER}/oauth/authorize\"\ntoken_endpoint = \"{other}\"\n"
    );
    world.test.files.put(&path, definition + &method, 0o600);
    let mut entry = world.grant_entry("alice");
    entry["tokenEndpoint"] = json!(other);
    world.put_store("main", &json!({ PROFILE: entry }));
    for round in 0..3 {
        world.test.clock.advance(HOUR);
        world.sink().acquire(&request()).unwrap();
        let mut kept = world.stored("main", PROFILE);
        assert_eq!(kept["tokenEndpoint"], json!(other), "round {round}");
        kept.as_object_mut().unwrap().remove("tokenEndpoint");
        world.put_store("main", &json!({ PROFILE: kept }));
    }
    let ledger = world.ledger();
    let paths: Vec<_> = ledger
        .requests_to(Endpoint::Token)
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(paths, ["/v1/oauth/token"; 3]);
    // A login elsewhere is another grant: nothing of the former one is held against it.
    world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    let ledger = world.ledger();
    let last = ledger.requests_to(Endpoint::Token).last().unwrap();
    assert_eq!(last.path, "/oauth/token");
}
