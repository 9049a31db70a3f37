//! What belongs to one lease and no other: the test of a bench, a rejected token.

use std::time::Instant;

use tokensink_sink::{AcquireRequest, ProfileId, Want};

use super::*;

/// The report of a limit that lasts ten hours.
fn limited(lease: &Value) -> Value {
    json!({"lease": lease, "outcome": "failed", "status": 429, "headers": {"retry-after": "36000"},
        "body": r#"{"error":{"type":"rate_limit_error"}}"#})
}

impl World {
    /// The account of the agent work at its limit for ten hours, five minutes ago.
    fn bench_until_testable(&self, client: &Caller) {
        let lease = self.leased(client, &json!({"provider": "rig"}));
        assert_eq!(self.ask("report", client, &limited(&lease["id"])).0, 200);
        self.test.clock.advance(Duration::from_secs(300));
    }

    /// The status of what a client would get for a lease that has left meanwhile.
    fn answer_to_one_who_left(&self, client: &Caller) -> u16 {
        let gone = Cancel::default();
        gone.set();
        let uri: Uri = "/tokensink/v1/lease".parse().unwrap();
        let lease = route(&Method::POST, &uri, &http::HeaderMap::new()).unwrap();
        let answer = self.api.answer(&lease, client, br#"{"provider":"rig"}"#, &gone);
        answer.unwrap().status().as_u16()
    }

    /// Would a request be the test? It is, then.
    fn is_test_free(&self) -> bool {
        let wanted = AcquireRequest {
            wait: Duration::ZERO,
            ..AcquireRequest::new(AgentId::normalise("work"), Want::Provider("rig".to_owned()))
        };
        self.api.sink.acquire(&wanted).is_ok_and(|lease| lease.tests)
    }

    /// Waits until it is said that a test goes on, at this time of the test's clock.
    #[expect(clippy::disallowed_methods, reason = "it is said by real time, on a thread")]
    fn await_word_of_a_test(&self) {
        let now = self.test.host().clock.now().0;
        let began = Instant::now();
        while self.test_seen_at() != Some(now) {
            assert!(began.elapsed() < Duration::from_secs(20), "no word of the test");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// When it was last said that a test goes on.
    fn test_seen_at(&self) -> Option<i64> {
        let path = format!("{STATE}/tokensink/state/benches/work.json");
        let benches: Value = serde_json::from_str(&self.test.files.text(path)).unwrap();
        benches["profiles"]["rig:a"]["benches"][0]["probingSeen"].as_i64()
    }
}

/// A test of a bench that came with a lease which was then refused is free for the next who asks.
#[test]
fn a_refused_lease_gives_its_test_back() {
    let world = World::new();
    let (all, narrow) = (key("one", "work", None), key("narrow", "work", Some(&["mute"])));
    world.bench_until_testable(&all);
    let (status, refused) = world.ask("lease", &narrow, &json!({"profile": "rig:a"}));
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("provider_not_allowed"))
    );
    assert!(world.is_test_free());
    // Nor does one that came when its client had left keep it.
    world.test.clock.advance(Duration::from_secs(60));
    assert_eq!(world.answer_to_one_who_left(&all), 503);
    assert_eq!(world.api.leases_out().get("one"), Some(&1), "the one before");
    assert!(world.is_test_free());
}

/// A process that was given a test and is still there keeps it for longer than a minute.
#[test]
fn the_test_of_a_process_goes_on_until_it_reports_or_has_taken_too_long() {
    let mut world = World::new();
    world.api.test_pulse = Duration::from_millis(1);
    let process = world.process(77);
    let wanted = json!({"provider": "rig", "agent": "work"});
    world.bench_until_testable(&key("one", "work", None));
    let lease = world.leased(&process, &wanted);
    for _ in 0..3 {
        world.test.clock.advance(Duration::from_secs(50));
        world.await_word_of_a_test();
    }
    assert!(!world.is_test_free(), "two minutes and a half later");
    let reported = json!({"lease": lease["id"], "outcome": "timed_out"});
    assert_eq!(world.ask("report", &process, &reported).0, 200);
    assert!(world.is_test_free());

    world.test.clock.advance(Duration::from_secs(60));
    world.leased(&process, &wanted);
    assert_eq!(world.api.leases.testing(), 1);
    for _ in 0..12 {
        world.test.clock.advance(Duration::from_secs(50));
        world.await_word_of_a_test();
    }
    world.test.clock.advance(Duration::from_secs(59));
    assert!(!world.is_test_free());
    world.test.clock.advance(Duration::from_secs(1));
    assert!(world.is_test_free(), "eleven minutes later");

    world.test.clock.advance(Duration::from_secs(60));
    let lost = world.leased(&process, &wanted);
    world.test.clock.advance(Duration::from_secs(50));
    world.await_word_of_a_test();
    world
        .test
        .processes
        .set_liveness(FakeProcesses::id(77), Liveness::Dead);
    world.test.clock.advance(Duration::from_secs(60));
    assert!(world.is_test_free(), "a minute after its process was last there");
    assert_eq!(world.api.leases.testing(), 2, "nobody has told its end yet");
    super::super::process_ended(&world.api.sink, &world.api.leases, &FakeProcesses::id(77));
    assert_eq!(world.api.leases.testing(), 0, "{lost}");
}

/// Of a client with a key nobody knows whether it is still there.
#[test]
fn the_test_of_a_client_with_a_key_is_free_after_a_minute() {
    let world = World::new();
    let client = key("one", "work", None);
    world.bench_until_testable(&client);
    world.leased(&client, &json!({"provider": "rig"}));
    assert_eq!(world.api.leases.testing(), 0);
    world.test.clock.advance(Duration::from_secs(59));
    assert!(!world.is_test_free());
    world.test.clock.advance(Duration::from_secs(1));
    assert!(world.is_test_free());
}

/// A call that costs more by the user's leave counts for the day, unless its lease reaches nobody.
#[test]
fn a_lease_that_reaches_nobody_counts_as_no_costlier_call() {
    let world = World::new();
    let key_of =
        |name: &str| json!({"type": "api_key", "provider": "rig", "key": format!("sk-{name}-canary")});
    let profiles = json!({"version": 1, "profiles": {"rig:a": key_of("a"), "rig:b": key_of("b")}});
    let put = |path: &str, text: &str| world.test.files.put(format!("{STATE}/{path}"), text, 0o600);
    put("agents/work/agent/auth-profiles.json", &profiles.to_string());
    put(
        "tokensink/config.toml",
        "[profiles.\"rig:b\"]\nbilling = \"metered\"\n\
         [billing]\nallow = [\"prepaid -> metered\"]\ncrossings_per_day = 1\n",
    );
    // Settings are read when a sink is opened.
    let sink = Sink::open_with(world.test.host(), Flights::inline()).unwrap();
    let world = World {
        api: Api::new(sink),
        ..world
    };
    let client = key("one", "work", None);
    let wanted = json!({"provider": "rig", "deadline": 0});
    let lease = world.leased(&client, &wanted);
    assert_eq!(lease["profile"], "rig:a");
    assert_eq!(world.ask("report", &client, &limited(&lease["id"])).0, 200);
    assert_eq!(world.answer_to_one_who_left(&client), 503);
    assert_eq!(world.leased(&client, &wanted)["profile"], "rig:b");
    let (status, refused) = world.ask("lease", &client, &wanted);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (429, &json!("crossings_spent"))
    );
}

/// Two agents have different tokens under the same id.
#[test]
fn a_rejected_token_is_its_agents() {
    let world = World::new();
    let lease = |agent: &str| {
        let id = ProfileId::parse("rig:a").unwrap();
        let request = AcquireRequest::new(AgentId::normalise(agent), Want::Profile(id));
        world.api.sink.acquire(&request).unwrap()
    };
    let (main, work) = (lease("main"), lease("work"));
    world.api.leases.note_rejected(&main);
    assert!(!world.api.leases.is_rejected(&work));
    world.api.leases.note_rejected(&work);
    assert!(world.api.leases.is_rejected(&main) && world.api.leases.is_rejected(&work));
}
