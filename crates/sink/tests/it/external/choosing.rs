//! Choosing a mode: what is refused, what a choice leaves behind, and where there are several.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{Fault, FaultAction};
use tokensink_sink::{AgentId, ErrorKind, ExternalMode, ExternalScope, ExternalSet, ProfileId};
use tokensink_testkit::Errno;

use super::{
    CHOICES, CLAUDE, PROFILE, choose, chosen, log_in, ours_with, request, section, sends, text, world,
};
use crate::world::{HOUR, STATE, World, store_path, strict};

#[test]
fn one_grant_is_one_profile() {
    let world = world(strict());
    let file = section(&world);
    world.put_store(
        "main",
        &json!({"anthropic:alice": {
            "type": "oauth", "provider": "anthropic", "access": file["accessToken"],
            "refresh": file["refreshToken"], "expires": file["expiresAt"],
        }}),
    );
    let sink = world.sink();
    let error = choose(&sink, ExternalMode::Cooperative).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "same_grant"));
    assert_eq!(error.fix(), Some("tokensink external set claude owned"));
    let info = &sink.external_list(&ExternalScope::All, false)[0];
    assert_eq!(info.state, "same_grant");
    assert_eq!(info.same_grant_as.as_ref().unwrap().as_str(), "anthropic:alice");
    // A copy that is made after the choice hides the login, not the other way round.
    let store = store_path("main");
    world.test.host().files.remove(Path::new(&store)).unwrap();
    choose(&world.sink(), ExternalMode::Cooperative).unwrap();
    world.put_store(
        "main",
        &json!({"anthropic:alice": {
            "type": "oauth", "provider": "anthropic", "access": file["accessToken"],
            "refresh": file["refreshToken"], "expires": file["expiresAt"],
        }}),
    );
    let ids: Vec<String> = world
        .sink()
        .profiles(&AgentId::main(), None)
        .unwrap()
        .iter()
        .map(|profile| profile.id.to_string())
        .collect();
    assert_eq!(ids, ["anthropic:alice"]);
}

#[test]
fn a_stored_profile_of_the_same_id_is_hidden_while_the_login_is_in_use() {
    let world = world(strict());
    let mut old = world.grant_entry("bob");
    old["provider"] = json!("anthropic");
    world.put_store("main", &json!({ PROFILE: old }));
    let changed = choose(&world.sink(), ExternalMode::Cooperative).unwrap();
    assert!(
        changed.notes[0].contains("it is hidden while"),
        "{:?}",
        changed.notes
    );
    world.test.clock.advance(HOUR);
    let sink = world.sink();
    let lease = sink.acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), text(&section(&world)["accessToken"]));
    sink.renew(None).unwrap();
    assert_eq!(world.stored("main", PROFILE), old, "untouched");
    assert_eq!(world.ledger().refreshes, 1);
}

#[test]
fn a_second_state_dir_only_borrows() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let second = World {
        test: world.test.other_process(6000),
        ..world.clone()
    };
    second.test.env.set("OPENCLAW_STATE_DIR", "/home/user/second");
    let changed = choose(&second.sink(), ExternalMode::Cooperative).unwrap();
    assert_eq!(changed.mode, ExternalMode::Borrowed);
    assert!(
        changed.notes[0].contains("/home/user/.openclaw refreshes this login already"),
        "{:?}",
        changed.notes
    );
    second.test.env.unset("OPENCLAW_STATE_DIR");
}

/// It may be another's to refresh. That passes as soon as the claim can be read, also for whoever runs meanwhile.
#[test]
fn an_unreadable_claim_is_named_with_the_command_that_helps() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let files = world.test.files.snapshot();
    let claim = files.keys().find(|path| {
        path.parent().is_some_and(|dir| dir.ends_with("tokensink/claims")) && !path.ends_with("lock")
    });
    let claim = claim.unwrap();
    world.test.clock.advance(HOUR * 2);
    world.test.files.set_fault(claim, Some(Errno::ACCESS));
    let sink = world.sink();
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(error.to_string().contains(claim.to_str().unwrap()), "{error}");
    let dir = claim.parent().unwrap().display();
    let fix = format!("sudo chown -R \"$(id -un)\" {dir} && chmod -R u+rwX {dir}");
    assert_eq!(error.fix(), Some(&*fix));
    let listed = &sink.external_list(&ExternalScope::All, false)[0];
    assert_eq!(listed.mode, Some(ExternalMode::Borrowed));
    assert!(
        listed.note.as_ref().unwrap().contains("cannot read the claim"),
        "{listed:?}"
    );
    assert_eq!(sends(&world), 0);
    world.test.files.set_fault(claim, None);
    world.test.clock.advance(Duration::from_secs(2));
    assert!(world.is_live(&sink.acquire(&request()).unwrap()));
    assert_eq!(sends(&world), 1);
}

#[test]
fn a_link_that_its_program_replaced_is_told_and_chosen_anew() {
    let world = world(strict());
    let file = world.test.files.text(CLAUDE);
    world.test.host().files.remove(Path::new(CLAUDE)).unwrap();
    world
        .test
        .files
        .put("/home/user/dotfiles/claude.json", file, 0o600);
    world
        .test
        .files
        .symlink("/home/user/dotfiles/claude.json", CLAUDE);
    choose(&world.sink(), ExternalMode::Cooperative).unwrap();
    world.test.clock.advance(HOUR);
    let sink = world.sink();
    sink.acquire(&request()).unwrap();
    // Claude Code refreshes and leaves a file where the link was.
    world.test.host().files.remove(Path::new(CLAUDE)).unwrap();
    log_in(&world, "alice");
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(error.fix(), Some("tokensink external set claude cooperative"));
    let listed = sink.external_list(&ExternalScope::All, false);
    assert_eq!(listed[0].state, "unusable");
    assert_eq!(
        listed[0].fix.as_deref(),
        Some("tokensink external set claude cooperative")
    );
    let changed = choose(&sink, ExternalMode::Cooperative).unwrap();
    assert_eq!(
        (changed.mode, changed.profile.as_str()),
        (ExternalMode::Cooperative, PROFILE)
    );
    assert!(
        changed.notes[0].contains("/home/user/dotfiles/claude.json"),
        "{:?}",
        changed.notes
    );
    world.test.clock.advance(HOUR);
    assert!(world.is_live(&sink.acquire(&request()).unwrap()));
    assert_eq!(sink.external_list(&ExternalScope::All, false).len(), 1);
    assert_eq!(world.ledger().reuses, 0);
}

#[test]
fn what_is_known_of_an_unanswered_request_outlives_the_link_that_led_to_its_place() {
    let journal = || format!("{STATE}/tokensink/journal/");
    let records = |world: &World| {
        let files = world.test.files.snapshot();
        files.keys().filter(|path| path.starts_with(journal())).count()
    };
    for (unanswered, kept) in [(true, 1), (false, 0)] {
        let world = world(strict());
        let file = world.test.files.text(CLAUDE);
        world.test.host().files.remove(Path::new(CLAUDE)).unwrap();
        let real = "/home/user/dotfiles/claude.json";
        world.test.files.put(real, file, 0o600);
        world.test.files.symlink(real, CLAUDE);
        choose(&world.sink(), ExternalMode::Cooperative).unwrap();
        // Its access token lives on, so that nobody asks again.
        world.test.clock.advance(HOUR - Duration::from_secs(600));
        if unanswered {
            world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer));
        }
        let _ = world.sink().acquire(&request());
        assert_eq!(records(&world), 1);
        world.test.host().files.remove(Path::new(CLAUDE)).unwrap();
        log_in(&world, "alice");
        let changed = choose(&world.sink(), ExternalMode::Cooperative).unwrap();
        assert_eq!(records(&world), kept, "{:?}", changed.notes);
        let told = changed.notes.iter().any(|note| note.contains("never answered"));
        assert_eq!(told, unanswered, "{:?}", changed.notes);
    }
}

#[test]
fn two_logins_of_one_program_are_two_profiles() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let mine = world.test.files.text(CLAUDE);
    log_in(&world, "bob");
    world.test.files.put(
        "/home/user/bob/.credentials.json",
        world.test.files.text(CLAUDE),
        0o600,
    );
    world.test.files.put(CLAUDE, mine, 0o600);
    let changed = world
        .sink()
        .external_set(&ExternalSet {
            cli: "claude".to_owned(),
            mode: ExternalMode::Cooperative,
            place: Some("/home/user/bob".into()),
            terminal: false,
        })
        .unwrap();
    assert!(
        changed.profile.as_str().starts_with("anthropic:claude-cli-"),
        "{}",
        changed.profile
    );
    world.test.clock.advance(HOUR);
    let report = world.sink().renew(None).unwrap();
    assert_eq!(report.outcomes.len(), 2);
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (2, 0));
}

#[test]
fn leaving_cooperative_takes_our_copy_away_and_off_serves_nothing() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    let refresh = section(&world)["refreshToken"].clone();
    assert_eq!(ours_with(&world, text(&refresh)).len(), 1);
    choose(&world.sink(), ExternalMode::Borrowed).unwrap();
    assert_eq!(ours_with(&world, text(&refresh)), [""; 0]);
    world.sink().acquire(&request()).unwrap();
    choose(&world.sink(), ExternalMode::Off).unwrap();
    assert_eq!(
        world.sink().acquire(&request()).unwrap_err().code(),
        "no_credential"
    );
    assert_eq!(section(&world)["refreshToken"], refresh);
}

#[test]
fn modes_that_a_login_cannot_have_are_refused_and_change_nothing() {
    let world = world(strict());
    let set = |cli: &str, mode| {
        world.sink().external_set(&ExternalSet {
            cli: cli.to_owned(),
            mode,
            place: None,
            terminal: false,
        })
    };
    world.test.files.put(
        "/home/user/.qwen/oauth_creds.json",
        json!({"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expiry_date": world.now().0 + 3_600_000})
            .to_string(),
        0o600,
    );
    let cases = [
        ("qwen", ExternalMode::Cooperative, "only_borrowed"),
        ("qwen", ExternalMode::Owned, "only_borrowed"),
        ("opencode", ExternalMode::Borrowed, "many_logins"),
        ("vim", ExternalMode::Borrowed, "unknown_cli"),
    ];
    for (cli, mode, code) in cases {
        let error = set(cli, mode).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, code), "{cli}");
        assert!(error.fix().is_some(), "{cli}");
    }
    let error = set("codex", ExternalMode::Borrowed).unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.fix()),
        (ErrorKind::LoginNeeded, "no_external_login", Some("codex login"))
    );
    assert!(!world.test.files.snapshot().contains_key(Path::new(CHOICES)));
    assert_eq!(
        set("qwen", ExternalMode::Borrowed).unwrap().profile.as_str(),
        "qwen-portal:qwen-cli"
    );
    world.test.files.put(CHOICES, "{", 0o600);
    assert_eq!(
        set("claude", ExternalMode::Borrowed).unwrap_err().code(),
        "external_unreadable"
    );
    assert_eq!(world.test.files.text(CHOICES), "{");
}

#[test]
fn logging_it_out_here_is_refused() {
    let world = chosen(strict(), ExternalMode::Cooperative);
    let id = ProfileId::parse(PROFILE).unwrap();
    let error = world.sink().logout(&AgentId::main(), &id, false).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "external_login"));
    assert_eq!(error.fix(), Some("tokensink external set claude off"));
}
