use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use serde_json::json;
use tokensink_host::{ConnectPhase, ExchangeError};
use tokensink_testkit::Scripted;
use tokensink_types::{Body, Secret};

use crate::error::ErrorKind;
use crate::lease::{AcquireRequest, Lease, Want};
use crate::world::{World, agent, id};

const ID: &str = "github-copilot:github";
const MINUTE: Duration = Duration::from_secs(60);

/// A machine with a GitHub token, and an API that makes keys of half an hour: `key-1`, `key-2`, ….
fn world() -> (World, Arc<Mutex<u32>>) {
    let world = World::new();
    store(&world, "gho-canary");
    let made = Arc::new(Mutex::new(0));
    let (count, clock) = (Arc::clone(&made), world.test.clock.clone());
    world.test.transport.on_request(move |request| {
        use tokensink_host::Clock;
        assert_eq!(request.method(), "GET");
        assert_eq!(
            request.uri().to_string(),
            "https://api.github.com/copilot_internal/v2/token"
        );
        let mut count = count.lock().unwrap();
        *count += 1;
        let sender = request.headers()["authorization"].to_str().unwrap().to_owned();
        let key = format!("{}-key-{count}", sender.trim_start_matches("Bearer "));
        let body = json!({
            "token": key,
            "expires_at": clock.now().0 / 1000 + 1800,
            "endpoints": {"api": "https://api.business.githubcopilot.com"},
        });
        Ok::<_, ExchangeError>(Response::new(Body::new(body.to_string())))
    });
    (world, made)
}

fn store(world: &World, token: &str) {
    let profile = json!({"type": "token", "provider": "github-copilot", "token": token});
    world.store("main", &json!({ ID: profile }));
}

fn request() -> AcquireRequest {
    AcquireRequest::new(agent("main"), Want::Profile(id(ID)))
}

fn acquire(world: &World) -> Lease {
    world.sink().acquire(&request()).unwrap()
}

#[test]
fn the_key_is_handed_out_and_made_once_for_all_processes() {
    let (world, made) = world();
    let lease = acquire(&world);
    assert_eq!(lease.secret.expose(), "gho-canary-key-1");
    assert_eq!(
        lease.base_url.as_deref(),
        Some("https://api.business.githubcopilot.com")
    );
    let (_, header) = lease
        .headers
        .iter()
        .find(|(name, _)| name == "authorization")
        .unwrap();
    assert_eq!(header.expose(), "Bearer gho-canary-key-1");
    assert_eq!(world.sink().now().until(lease.expires.unwrap()), MINUTE * 25);
    for _ in 0..5 {
        assert_eq!(acquire(&world).secret, lease.secret);
    }
    assert_eq!(*made.lock().unwrap(), 1);
    // Programs of the provider exchange for themselves, so their variable takes what is stored.
    let child = world.sink().child_environment(&lease);
    assert_eq!(child.set[0].0, "COPILOT_GITHUB_TOKEN");
    assert_eq!(child.set[0].1, Secret::new("gho-canary"));
}

#[test]
fn a_key_is_made_anew_when_it_ends_is_rejected_or_belongs_to_another_token() {
    let (world, made) = world();
    acquire(&world);
    world.test.clock.advance(MINUTE * 24);
    assert_eq!(
        acquire(&world).secret.expose(),
        "gho-canary-key-2",
        "less than a minute was left"
    );
    let mut rejecting = request();
    rejecting.rejected = Some(Secret::new("gho-canary-key-2"));
    let lease = world.sink().acquire(&rejecting).unwrap();
    assert_eq!(lease.secret.expose(), "gho-canary-key-3");
    store(&world, "gho-other");
    assert_eq!(acquire(&world).secret.expose(), "gho-other-key-4");
    let mut long = request();
    long.min_ttl = Some(Duration::from_secs(36_000));
    world.sink().acquire(&long).unwrap();
    assert_eq!(
        *made.lock().unwrap(),
        4,
        "more than a fresh key has is not asked for again and again"
    );
}

#[test]
fn a_failed_exchange_serves_the_present_key_while_it_lives() {
    let (world, _) = world();
    acquire(&world);
    world.test.clock.advance(MINUTE * 24 + Duration::from_secs(30));
    world
        .test
        .transport
        .push(Scripted::no_connection(ConnectPhase::Dns));
    let lease = acquire(&world);
    assert_eq!(lease.secret.expose(), "gho-canary-key-1");
    assert!(lease.note.unwrap().contains("the present key is served"));
    world.test.clock.advance(MINUTE);
    for scripted in [
        Scripted::no_connection(ConnectPhase::Tls),
        Scripted::json(500, "{}"),
        Scripted::json(200, "{\"token\": \"\"}"),
        Scripted::ambiguous(),
    ] {
        world.test.transport.push(scripted);
        let error = world.sink().acquire(&request()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    }
    assert_eq!(acquire(&world).secret.expose(), "gho-canary-key-2");
}

#[test]
fn a_token_that_is_not_taken_needs_a_login_and_stays() {
    let (world, _) = world();
    world
        .test
        .transport
        .push(Scripted::json(401, "{\"message\": \"Bad credentials\"}"));
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginNeeded);
    assert!(
        error
            .fix()
            .unwrap()
            .contains("models auth login --provider github-copilot"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("canary"));
    assert_eq!(world.stored("main")[ID]["token"], "gho-canary");
}

#[test]
fn a_torn_file_of_ours_counts_as_none_and_nothing_is_written_where_writing_is_forbidden() {
    let (world, made) = world();
    acquire(&world);
    let files = world.files_with("gho-canary-key-1");
    assert_eq!(files.len(), 1, "{files:?}");
    world.test.files.put(files[0].clone(), "{\"key\": \"gho", 0o600);
    acquire(&world);
    assert_eq!(*made.lock().unwrap(), 2);
    world.sink().logout(&agent("main"), &id(ID), false).unwrap();
    assert!(
        world.files_with("gho-canary").is_empty(),
        "a logout leaves no key behind"
    );
    store(&world, "gho-canary");
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    assert_eq!(acquire(&world).secret.expose(), "gho-canary-key-3");
    assert!(world.files_with("gho-canary-key-3").is_empty());
}
