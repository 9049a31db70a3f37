//! Logins that other programs keep, in each mode, on a machine in memory: the file of Claude Code at its usual place,
//! and its provider's token endpoint pointed at the test server.

mod choosing;
mod faults;
mod interleaved;
mod owned;

use std::path::Path;
use std::time::Duration;

use http::Response;
use serde_json::{Value, json};
use tokensink_authserver::ServerConfig;
use tokensink_sink::{
    AcquireRequest, AgentId, ErrorKind, ExternalMode, ExternalScope, ExternalSet, ProfileId, RenewResult,
    Sink, Want,
};
use tokensink_types::Body;

use crate::world::{HOUR, ISSUER, STATE, World, store_path, strict};

const CLAUDE: &str = "/home/user/.claude/.credentials.json";
const PROFILE: &str = "anthropic:claude-cli";
const CHOICES: &str = "/home/user/.openclaw/tokensink/state/external.json";

/// A world in which Claude Code is logged in as alice, and nothing is chosen.
fn world(config: ServerConfig) -> World {
    let world = World::new(config);
    let definition = format!(
        "id = \"anthropic\"\n[[auth]]\nid = \"oauth\"\nclient_id = \"rig\"\ntoken_endpoint = \"{ISSUER}/oauth/token\"\n"
    );
    world.test.files.put(
        format!("{STATE}/tokensink/providers/anthropic.toml"),
        definition,
        0o600,
    );
    log_in(&world, "alice");
    world
}

/// A login of Claude Code, as it writes it, beside what else it keeps in the file.
fn log_in(world: &World, account: &str) {
    let entry = world.grant_entry(account);
    let file = json!({
        "claudeAiOauth": {
            "accessToken": entry["access"],
            "refreshToken": entry["refresh"],
            "expiresAt": entry["expires"],
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
            "rateLimitTier": "default_claude_max_5x",
        },
        "mcpOAuth": {"server": {"accessToken": "theirs"}},
        "organizationUuid": "org-1",
    });
    world.test.files.put(CLAUDE, file.to_string(), 0o600);
}

fn choose(sink: &Sink, mode: ExternalMode) -> tokensink_sink::Result<tokensink_sink::ExternalChanged> {
    sink.external_set(&ExternalSet {
        cli: "claude".to_owned(),
        mode,
        place: None,
        terminal: false,
    })
}

/// A world in which the mode is chosen.
fn chosen(config: ServerConfig, mode: ExternalMode) -> World {
    let world = world(config);
    let changed = choose(&world.sink(), mode).unwrap();
    assert_eq!((changed.mode, changed.notes), (mode, Vec::new()));
    world
}

fn request() -> AcquireRequest {
    AcquireRequest::new(AgentId::main(), Want::Provider("anthropic".to_owned()))
}

fn section(world: &World) -> Value {
    let file: Value = serde_json::from_str(&world.test.files.text(CLAUDE)).unwrap();
    file["claudeAiOauth"].clone()
}

fn set_section(world: &World, change: impl FnOnce(&mut Value)) {
    let mut file: Value = serde_json::from_str(&world.test.files.text(CLAUDE)).unwrap();
    change(&mut file);
    world.test.files.put(CLAUDE, file.to_string(), 0o600);
}

/// Files of ours that hold `text`.
fn ours_with(world: &World, text: &str) -> Vec<String> {
    let files = world.test.files.snapshot().into_iter();
    files
        .filter(|(path, _)| path != Path::new(CLAUDE))
        .filter(|(_, bytes)| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        .map(|(path, _)| path.display().to_string())
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn sends(world: &World) -> usize {
    let requests = world.test.transport.requests();
    requests
        .iter()
        .filter(|request| request.uri().path().ends_with("/token"))
        .count()
}

#[test]
fn a_login_that_nobody_has_decided_about_is_told_and_serves_nothing() {
    let world = world(strict());
    let sink = world.sink();
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginNeeded);
    assert_eq!(error.fix(), Some("tokensink external set claude cooperative"));
    assert!(error.to_string().contains("Claude Code is logged in"), "{error}");
    let listed = sink.external_list(&ExternalScope::All, false);
    assert_eq!(listed.len(), 1);
    let one = &listed[0];
    assert_eq!((one.cli, one.state, one.mode), ("claude", "found", None));
    assert_eq!(one.profile.as_ref().map(ProfileId::as_str), Some(PROFILE));
    assert_eq!(one.plan.as_deref(), Some("max"));
    assert_eq!(one.place, CLAUDE);
    assert!(sink.profiles(&AgentId::main(), None).unwrap().is_empty());
    // Only programs of providers in scope are looked at.
    let scope = |id: &str| ExternalScope::Providers(vec![tokensink_sink::ProviderId::parse(id).unwrap()]);
    assert_eq!(sink.external_list(&scope("anthropic"), false).len(), 1);
    assert_eq!(sink.external_list(&scope("rig"), false).len(), 0);
    assert_eq!(sends(&world), 0);
    assert!(!world.test.files.snapshot().contains_key(Path::new(CHOICES)));
}

#[test]
fn a_borrowed_login_makes_no_request_in_a_day_and_leaves_nothing_on_our_disk() {
    let world = chosen(strict(), ExternalMode::Borrowed);
    let (access, refresh) = (
        section(&world)["accessToken"].clone(),
        section(&world)["refreshToken"].clone(),
    );
    let file = world.test.files.text(CLAUDE);
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), text(&access));
    assert_eq!(lease.profile.as_str(), PROFILE);
    assert!(world.is_live(&lease));
    let sink = world.sink();
    for _ in 0..24 * 4 {
        world.test.clock.advance(HOUR / 4);
        let _ = sink.acquire(&request());
        let report = sink.renew(None).unwrap();
        assert!(report.outcomes.is_empty(), "{:?}", report.outcomes);
        sink.status(&AgentId::main()).unwrap();
    }
    assert_eq!(sends(&world), 0);
    assert_eq!(world.test.files.text(CLAUDE), file);
    for token in [&access, &refresh] {
        assert_eq!(ours_with(&world, text(token)), [""; 0]);
    }
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "borrowed_ended")
    );
    assert_eq!(error.fix(), Some("claude -p ok"));
    assert!(
        error
            .to_string()
            .contains("tokensink external set claude cooperative"),
        "{error}"
    );
    let status = sink.status(&AgentId::main()).unwrap();
    assert_eq!(status.external[0].state, "ended");
    assert_eq!(status.external[0].fix.as_deref(), Some("claude -p ok"));
    assert_eq!(status.profiles[0].state.word(), "login_needed");
    assert_eq!(
        status.profiles[0].external.as_ref().unwrap().source(),
        "claude-cli"
    );
    // The program renews it, and the running process sees that at once.
    log_in(&world, "alice");
    assert!(world.is_live(&sink.acquire(&request()).unwrap()));
    assert_eq!(sends(&world), 0);
}

#[test]
fn a_borrowed_token_that_an_api_rejects_is_not_refreshed_either() {
    let world = chosen(strict(), ExternalMode::Borrowed);
    let mut request = request();
    request.rejected = Some(world.sink().acquire(&request).unwrap().secret.clone());
    let error = world.sink().acquire(&request).unwrap_err();
    assert_eq!(error.code(), "borrowed_ended");
    assert_eq!(sends(&world), 0);
}

#[test]
fn a_login_without_a_refresh_token_is_lent_while_it_lives() {
    let world = world(strict());
    set_section(&world, |file| {
        file["claudeAiOauth"]
            .as_object_mut()
            .unwrap()
            .remove("refreshToken");
    });
    let error = choose(&world.sink(), ExternalMode::Cooperative).unwrap_err();
    assert_eq!(error.code(), "only_borrowed");
    assert_eq!(error.fix(), Some("tokensink external set claude borrowed"));
    choose(&world.sink(), ExternalMode::Borrowed).unwrap();
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), text(&section(&world)["accessToken"]));
    world.test.clock.advance(2 * HOUR);
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.fix()),
        (ErrorKind::LoginNeeded, Some("claude -p ok"))
    );
}

#[test]
fn other_agents_inherit_it_as_they_inherit_mains_profiles() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let work = AcquireRequest::new(AgentId::normalise("work"), Want::Provider("anthropic".to_owned()));
    let lease = world.sink().acquire(&work).unwrap();
    assert!(lease.inherited && lease.owner.is_main());
    world.put_store(
        "work",
        &json!({"anthropic:own": {"type": "api_key", "provider": "anthropic", "key": "sk-own"}}),
    );
    let lease = world.sink().acquire(&work).unwrap();
    assert_eq!(lease.profile.as_str(), "anthropic:own");
    world.test.files.put(
        format!("{STATE}/tokensink/config.toml"),
        "[agents.alone]\ninherit = false\n",
        0o600,
    );
    let alone = AcquireRequest::new(
        AgentId::normalise("alone"),
        Want::Provider("anthropic".to_owned()),
    );
    assert_eq!(world.sink().acquire(&alone).unwrap_err().code(), "no_credential");
}

#[test]
fn a_cooperative_login_is_refreshed_in_its_own_file_ahead_of_its_program() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let before: Value = serde_json::from_str(&world.test.files.text(CLAUDE)).unwrap();
    let sink = world.sink();
    world.test.clock.advance(Duration::from_secs(45 * 60 - 1));
    sink.acquire(&request()).unwrap();
    assert_eq!(sends(&world), 0, "more than fifteen minutes are left");
    world.test.clock.advance(Duration::from_secs(1));
    let lease = sink.acquire(&request()).unwrap();
    assert_eq!(sends(&world), 1);
    assert!(world.is_live(&lease));
    let mut after: Value = serde_json::from_str(&world.test.files.text(CLAUDE)).unwrap();
    assert_eq!(after["claudeAiOauth"]["accessToken"], lease.secret.expose());
    assert_ne!(
        after["claudeAiOauth"]["refreshToken"],
        before["claudeAiOauth"]["refreshToken"]
    );
    // As Claude Code writes it: the life that the server named, from the request on.
    assert_eq!(
        after["claudeAiOauth"]["expiresAt"],
        json!(world.now().plus(HOUR).0)
    );
    for field in ["accessToken", "refreshToken", "expiresAt"] {
        after["claudeAiOauth"][field] = before["claudeAiOauth"][field].clone();
    }
    assert_eq!(after, before, "only the token fields changed");
    assert_eq!(world.test.files.mode(CLAUDE), Some(0o600));
    let refresh = section(&world)["refreshToken"].clone();
    let holders = ours_with(&world, text(&refresh));
    assert!(
        holders.iter().all(|path| path.contains("/tokensink/journal/")),
        "{holders:?}"
    );
    assert!(
        !world
            .test
            .files
            .snapshot()
            .contains_key(Path::new(&store_path("main")))
    );
    let left_over: Vec<_> = world
        .test
        .files
        .snapshot()
        .into_keys()
        .filter(|path| path.starts_with("/home/user/.claude") && path != Path::new(CLAUDE))
        .collect();
    assert!(left_over.is_empty(), "{left_over:?}");
}

#[test]
fn renewal_ahead_of_time_renews_it_too() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    world.test.clock.advance(HOUR);
    let report = world.sink().renew(None).unwrap();
    assert_eq!(report.outcomes.len(), 1);
    assert!(matches!(report.outcomes[0].result, RenewResult::Renewed { .. }));
    assert_eq!(report.outcomes[0].profile.as_str(), PROFILE);
    assert_eq!(world.ledger().refreshes, 1);
}

#[test]
fn what_the_program_refreshed_meanwhile_is_adopted() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let sink = world.sink();
    sink.acquire(&request()).unwrap();
    world.test.clock.advance(HOUR);
    log_in(&world, "alice");
    let lease = sink.acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), text(&section(&world)["accessToken"]));
    assert_eq!(sends(&world), 0);
}

#[test]
fn a_program_that_holds_its_lock_is_left_alone_and_the_old_token_served() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    world.test.clock.advance(Duration::from_secs(50 * 60));
    let host = world.test.host();
    host.files
        .create_dir_new(Path::new("/home/user/.claude/.oauth_refresh.lock"), 0o755)
        .unwrap();
    let keep = |world: &World| {
        let lock = Path::new("/home/user/.claude/.oauth_refresh.lock");
        world
            .test
            .host()
            .files
            .set_modified(lock, world.now().plus(HOUR))
            .unwrap();
    };
    keep(&world);
    let lease = world.sink().acquire(&request()).unwrap();
    assert!(
        lease
            .note
            .is_some_and(|note| note.contains("the present token is served"))
    );
    world.test.clock.advance(HOUR);
    keep(&world);
    let mut request = request();
    request.wait = Duration::from_secs(6);
    let error = world.sink().acquire(&request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(error.to_string().contains("Claude Code"), "{error}");
    assert_eq!(sends(&world), 0);
    // Left behind by a program that died, it is stale after a minute.
    world.test.clock.advance(3 * HOUR);
    assert!(world.is_live(&world.sink().acquire(&request).unwrap()));
}

#[test]
fn a_login_that_its_program_blanked_is_healed_and_a_logout_is_respected() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    let good = section(&world);
    set_section(&world, |file| {
        file["claudeAiOauth"]["accessToken"] = json!("");
        file["claudeAiOauth"]["refreshToken"] = json!("");
        file["claudeAiOauth"]["expiresAt"] = json!(0);
    });
    let sink = world.sink();
    assert_eq!(sink.external_list(&ExternalScope::All, false)[0].state, "blanked");
    assert_eq!(sink.acquire(&request()).unwrap().secret, lease.secret);
    assert_eq!(section(&world), good, "healed");
    assert_eq!(world.ledger().refreshes, 1);

    let file = world.test.files.text(CLAUDE);
    set_section(&world, |file| {
        file.as_object_mut().unwrap().remove("claudeAiOauth");
    });
    let signed_out = world.test.files.text(CLAUDE);
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(error.code(), "no_credential");
    assert_eq!(world.test.files.text(CLAUDE), signed_out, "a logout is respected");
    assert_eq!(
        sink.external_list(&ExternalScope::All, false)[0].state,
        "signed_out"
    );
    // An older copy of the file that somebody puts back is brought up to what we know.
    world.test.files.put(CLAUDE, file, 0o600);
    assert_eq!(sink.acquire(&request()).unwrap().secret, lease.secret);
    assert_eq!(world.ledger().reuses, 0);
}

#[test]
fn a_refusal_is_answered_by_reading_the_file_again() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    world.test.clock.advance(HOUR);
    // The program, which does not know our lock, is faster: its answer is in the file when our refusal comes.
    let there = world.clone();
    world.test.transport.on_request(move |request| {
        if !request.uri().path().ends_with("/token") || sends(&there) > 1 {
            return there.answer(&request);
        }
        log_in(&there, "alice");
        let refusal = Response::builder()
            .status(400)
            .header("content-type", "application/json");
        let body = Body::new(br#"{"error":"invalid_grant"}"#.to_vec());
        Ok(refusal.body(body).unwrap())
    });
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), text(&section(&world)["accessToken"]));
    assert_eq!(sends(&world), 1);
}

#[test]
fn a_dead_grant_names_the_programs_own_login() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let refresh = section(&world)["refreshToken"].clone();
    world.test.clock.advance(HOUR);
    world.server.lock().unwrap().revoke_account("alice");
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::LoginNeeded, "refused"));
    assert_eq!(error.fix(), Some("claude auth login"));
    assert_eq!(section(&world)["refreshToken"], refresh, "nothing is blanked");
}
