//! What people read when something is wrong: the place, the reason, and the command that mends it; and nothing of
//! theirs is lost by it.

use std::net::TcpListener;

use tokensink_authserver::{Fault, FaultAction, ServerConfig};

use crate::support::snapshot::Snapshot;
use crate::support::stage::{Stage, run_at, store_path};
use crate::world::{Said, World};

/// Masks what differs from run to run: the home, and ports.
fn masked(world: &World, said: &Said) -> String {
    let home = world.path("");
    let home = home.to_str().unwrap().trim_end_matches('/');
    let text = format!(
        "exit code {}\nstdout:\n{}stderr:\n{}",
        said.code, said.out, said.err
    );
    let text = text.replace(home, "<home>");
    let mut parts = text.split("127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "127.0.0.1:<port>" + part.trim_start_matches(|symbol: char| symbol.is_ascii_digit())
    })
}

/// Asserts that a failure names where and what helps, that standard output is clean, and that every file that was
/// there is there unchanged.
#[track_caller]
fn assert_helpful(world: &World, before: &Snapshot, said: &Said, place: &str) {
    assert_eq!(said.out, "", "{said:#?}");
    assert!(said.err.contains(place), "no {place} in {said:#?}");
    assert!(
        said.err.contains("error: ") && said.err.contains("\nfix: "),
        "{said:#?}"
    );
    assert_nothing_lost(world, before);
}

#[track_caller]
fn assert_nothing_lost(world: &World, before: &Snapshot) {
    let after = Snapshot::of(&world.state(""));
    for (path, bytes) in before.contents() {
        assert_eq!(
            after.contents().get(path),
            Some(&bytes),
            "{} changed",
            path.display()
        );
    }
}

#[test]
fn a_broken_store() {
    let stage = Stage::with_an_expired_grant();
    let path = store_path(&stage.world, "main");
    let text = std::fs::read_to_string(&path).unwrap();
    let broken = text.split("\"access\"").next().unwrap();
    std::fs::write(&path, broken).unwrap();
    let before = Snapshot::of(&stage.world.state(""));
    let said = stage.world.run("tokensink token --provider rig").code(1);
    assert_helpful(&stage.world, &before, &said, "auth-profiles.json");
    insta::assert_snapshot!(masked(&stage.world, &said));
    // Nor does anything that writes: a paste sets the file aside, whole, or refuses.
    let said = stage.world.feed(
        "tokensink models auth paste-api-key --provider openrouter",
        crate::world::API_KEY,
    );
    let kept = stage.world.files().into_iter().any(|(_, found)| found == broken);
    assert!(kept, "the broken file is gone: {said:#?}");
    for line in [
        "tokensink models status",
        "tokensink models auth list",
        "tokensink renew",
    ] {
        let said = stage.world.run(line);
        let kept = stage.world.files().into_iter().any(|(_, found)| found == broken);
        assert!(kept, "the broken file is gone after {line}: {said:#?}");
    }
}

#[test]
fn a_broken_configuration() {
    let stage = Stage::with_an_expired_grant();
    stage.world.write(
        ".openclaw/openclaw.json",
        "{\n  // mine\n  agents: { list: [ }\n}\n",
    );
    let before = Snapshot::of(&stage.world.state(""));
    let said = stage.world.run("tokensink models status");
    assert_ne!(said.code, 0, "{said:#?}");
    assert_helpful(&stage.world, &before, &said, "openclaw.json");
    insta::assert_snapshot!(masked(&stage.world, &said));
    let said = stage.world.run("tokensink agents add work");
    assert_ne!(said.code, 0, "{said:#?}");
    assert_helpful(&stage.world, &before, &said, "openclaw.json");
}

#[test]
fn a_wrong_provider_file() {
    let stage = Stage::with_an_expired_grant();
    stage.world.write(
        ".openclaw/tokensink/providers/rig.toml",
        "id = \"rig\"\nname = \"Rig\"\nbilling = \"free beer\"\n",
    );
    let before = Snapshot::of(&stage.world.state(""));
    let said = stage.world.run("tokensink token --provider rig");
    assert_ne!(said.code, 0, "{said:#?}");
    assert_helpful(&stage.world, &before, &said, "providers/rig.toml");
    insta::assert_snapshot!(masked(&stage.world, &said));
    // It does not stand in the way of other providers.
    stage.world.store_key("openrouter");
    let said = stage.world.run("tokensink token --provider openrouter").code(0);
    assert!(said.err.contains("rig.toml"), "{said:#?}");
}

#[test]
fn a_wrong_flag() {
    let world = World::new();
    let said = world.run("openclaw models auth login --providr rig").code(2);
    assert!(!world.state("").exists());
    insta::assert_snapshot!(masked(&world, &said));
}

#[test]
fn an_unknown_provider() {
    let stage = Stage::with_an_expired_grant();
    let before = Snapshot::of(&stage.world.state(""));
    let said = stage.world.run("openclaw token --provider anthropc").code(2);
    assert_helpful(&stage.world, &before, &said, "anthropc");
    insta::assert_snapshot!(masked(&stage.world, &said));
}

#[test]
fn a_port_in_use() {
    let stage = Stage::new(ServerConfig::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let definition = stage.server.provider_toml("rig").replace(
        "redirect_uri = \"http://127.0.0.1:0/auth/callback\"",
        &format!("redirect_uri = \"http://127.0.0.1:{port}/auth/callback\""),
    );
    assert!(definition.contains(&port.to_string()));
    stage
        .world
        .write(".openclaw/tokensink/providers/rig.toml", &definition);
    let before = Snapshot::of(&stage.world.state(""));
    let said = stage
        .world
        .run("tokensink models auth login --provider rig --method oauth")
        .code(1);
    assert_helpful(&stage.world, &before, &said, &format!("127.0.0.1:{port}"));
    insta::assert_snapshot!(masked(&stage.world, &said).replace(&format!(":{port}"), ":<port>"));
}

#[test]
fn a_dead_token_endpoint() {
    let stage = Stage::with_an_expired_grant();
    let Stage { world, server } = stage;
    let endpoint = server.base_url().as_str().trim_end_matches('/').to_owned();
    server.shutdown();
    let before = Snapshot::of(&world.state(""));
    let said = world.run("tokensink token --provider rig --wait 30s").code(75);
    assert_helpful(&world, &before, &said, &endpoint);
    insta::assert_snapshot!(masked(&world, &said));
}

#[test]
fn a_clock_that_was_set_back() {
    let stage = Stage::with_an_expired_grant();
    run_at(&stage.world, "tokensink token --provider rig", 86_400).code(0);
    // A day earlier a token is served that works, and whatever had to be sent for it was sent once.
    let said = run_at(&stage.world, "tokensink token --provider rig", 0).code(0);
    stage.assert_works(&said.out);
    assert_eq!(said.err, "");
    assert_eq!(stage.server.ledger().reuses, 0);
    let listed = run_at(&stage.world, "tokensink models auth list --json", 0)
        .code(0)
        .json();
    assert_eq!(listed["profiles"][0]["state"], "usable", "{listed:#}");
    // The other way round: what failed in the future does not put off what is due now.
    let stage = Stage::with_an_expired_grant();
    let error = FaultAction::RetryAfter {
        seconds: 3_000,
        status: 503,
    };
    stage.server.faults().push(Fault::on_refresh(error));
    let said = run_at(&stage.world, "tokensink token --provider rig", 86_400).code(75);
    assert!(
        said.err.contains("error: rig:alice has no valid token now"),
        "{said:#?}"
    );
    let said = run_at(&stage.world, "tokensink token --provider rig", 0).code(0);
    stage.assert_works(&said.out);
    assert_eq!(
        (stage.server.ledger().refreshes, stage.server.ledger().reuses),
        (1, 0)
    );
    insta::assert_snapshot!(masked(&stage.world, &said).replace(said.out.trim(), "<token>"));
}

#[test]
fn no_login() {
    let world = World::new();
    let said = world
        .run("openclaw token --provider anthropic --agent main")
        .code(3);
    assert!(!world.state("").exists());
    insta::assert_snapshot!(masked(&world, &said));
}
