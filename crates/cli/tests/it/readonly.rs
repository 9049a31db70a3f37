//! `OPENCLAW_AUTH_STORE_READONLY=1`: whatever is called, nothing on the disk changes.

use crate::support::snapshot::Snapshot;
use crate::support::stage::Stage;
use crate::world::{API_KEY, BROWSER, SETUP_TOKEN};

const READERS: [&str; 8] = [
    "tokensink models status --all",
    "tokensink models status --json --check",
    "tokensink models auth list",
    "tokensink models auth order get --provider rig",
    "tokensink channels list --json",
    "tokensink agents list",
    "tokensink models list --all",
    "tokensink providers list",
];

const WRITERS: [&str; 13] = [
    "tokensink models auth login --provider rig",
    "tokensink models auth setup-token --provider anthropic",
    "tokensink models auth paste-token --provider anthropic",
    "tokensink models auth paste-api-key --provider groq",
    "tokensink models auth logout rig:alice",
    "tokensink models auth logout rig:alice --revoke",
    "tokensink models auth order set --provider rig rig:alice",
    "tokensink models auth order clear --provider rig",
    "tokensink agents add other",
    "tokensink agents delete work --force",
    "tokensink models set rig/rig-small",
    "tokensink models aliases add small rig/rig-small",
    "tokensink models fallbacks add rig/rig-large",
];

#[test]
fn nothing_changes() {
    let stage = Stage::with_an_expired_grant();
    stage.world.run("tokensink agents add work").code(0);
    stage.store(&stage.world, "work", "rig:bob", "bob", 4_000);
    stage.world.store_key("openrouter");
    let variables = [("OPENCLAW_AUTH_STORE_READONLY", "1"), ("BROWSER", BROWSER)];
    let before = Snapshot::of(&stage.world.state(""));
    let unchanged = |line: &str| {
        assert_eq!(
            Snapshot::of(&stage.world.state("")),
            before,
            "{line} changed something"
        );
    };
    for line in READERS {
        let said = stage.world.run_with(line, None, &variables);
        assert!(said.code == 0 || line.contains("--check"), "{line}: {said:#?}");
        unchanged(line);
    }
    for line in WRITERS {
        let input = if line.contains("anthropic") {
            SETUP_TOKEN
        } else {
            API_KEY
        };
        let said = stage.world.run_with(line, Some(input), &variables);
        assert_ne!(said.code, 0, "{line}: {said:#?}");
        assert!(
            said.err.contains("OPENCLAW_AUTH_STORE_READONLY"),
            "{line}: {said:#?}"
        );
        assert!(said.err.contains("fix: "), "{line}: {said:#?}");
        unchanged(line);
    }
    // A grant that cannot be kept is not asked for, and one that cannot be stored is not ended.
    let ledger = stage.server.ledger();
    assert_eq!((ledger.families.len(), ledger.revocations), (2, 0), "{ledger:#?}");
    assert!(ledger.token_posts.is_empty(), "{ledger:#?}");
}

#[test]
fn what_is_fresh_is_served_and_nothing_is_refreshed() {
    let stage = Stage::with_an_expired_grant();
    stage.world.run("tokensink agents add work").code(0);
    let (access, _) = stage.store(&stage.world, "work", "rig:bob", "bob", 3_600);
    let readonly = [("OPENCLAW_AUTH_STORE_READONLY", "1")];
    let before = Snapshot::of(&stage.world.state(""));
    let line = "tokensink token --provider rig --agent work";
    assert_eq!(
        stage.world.run_with(line, None, &readonly).code(0).out.trim(),
        access
    );
    let said = stage
        .world
        .run_with("tokensink token --provider rig", None, &readonly)
        .code(1);
    assert!(
        said.err.contains("fix: unset OPENCLAW_AUTH_STORE_READONLY"),
        "{said:#?}"
    );
    stage.world.run_with("tokensink renew", None, &readonly).code(1);
    assert_eq!(Snapshot::of(&stage.world.state("")), before);
    stage.assert_refreshes(0);
}
