//! `demo`: real processes against a real server, as a newcomer sees it.

use crate::world::World;

/// A world with a temporary directory of its own, to see what is left in it.
fn world() -> (World, String) {
    let world = World::new();
    let dir = world.path("tmp");
    std::fs::create_dir(&dir).unwrap();
    let dir = dir.canonicalize().unwrap().to_str().unwrap().to_owned();
    (world, dir)
}

fn left_in(dir: &str) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn one_refresh_for_each_expiry_and_no_reuse() {
    let (world, tmp) = world();
    let said = world
        .run_with("tokensink demo --json", None, &[("TMPDIR", &tmp)])
        .code(0);
    let value = said.json();
    assert_eq!(value["ok"], true);
    let counts = &value["counts"];
    assert_eq!(counts["expiries"], 5, "{said:#?}");
    assert_eq!(counts["refreshes"], counts["expiries"], "{said:#?}");
    assert_eq!(counts["refreshRequests"], counts["expiries"], "{said:#?}");
    assert_eq!(counts["reuses"], 0, "{said:#?}");
    assert_eq!(counts["killed"], 16, "{said:#?}");
    assert_eq!(counts["putOff"], 8, "{said:#?}");
    assert_eq!(counts["tokensChecked"], 120, "{said:#?}");
    assert_eq!(value["steps"].as_array().unwrap().len(), 6);
    assert!(said.err.starts_with("1  Two accounts log in"), "{said:#?}");
    assert_eq!(left_in(&tmp), 0);
    assert!(!world.state("").exists(), "nothing of the user's was touched");
}

#[test]
fn what_a_newcomer_reads() {
    let (world, tmp) = world();
    let foreign = [
        ("TMPDIR", tmp.as_str()),
        ("OPENCLAW_STATE_DIR", "/nowhere"),
        ("OPENCLAW_AUTH_STORE_READONLY", "1"),
        ("TOKENSINK_CLOCK_OFFSET_SECONDS", "-86400"),
    ];
    let said = world.run_with("tokensink demo", None, &foreign).code(0);
    assert_eq!(said.err, "");
    assert!(
        said.out
            .lines()
            .all(|line| line.len() <= 80 || line.contains(&tmp))
    );
    insta::with_settings!({filters => vec![
        (r"/\S+/tokensink-demo-[0-9a-f]{16}", "<dir>"),
        (r"in \d+\.\d seconds", "in <n> seconds"),
    ]}, {
        insta::assert_snapshot!(said.out);
    });
}

#[test]
fn a_kept_directory_is_a_state_directory() {
    let (world, tmp) = world();
    let said = world
        .run_with("tokensink demo --keep --json", None, &[("TMPDIR", &tmp)])
        .code(0);
    assert_eq!(left_in(&tmp), 1);
    let dir = said.json()["stateDir"].as_str().unwrap().to_owned();
    let kept = [("OPENCLAW_STATE_DIR", dir.as_str())];
    for (agent, profile) in [
        ("main", "demo:alice@example.com"),
        ("work", "demo:bob@example.com"),
    ] {
        let line = format!("tokensink models auth list --agent {agent} --json");
        let list = world.run_with(&line, None, &kept).code(0).json();
        assert_eq!(list["profiles"][0]["id"], profile, "{list:#}");
    }
}

#[test]
fn a_demo_that_cannot_begin_says_why() {
    let (world, tmp) = world();
    let nowhere = format!("{tmp}/nowhere");
    let said = world
        .run_with("tokensink demo", None, &[("TMPDIR", &nowhere)])
        .code(1);
    assert_eq!(said.out, "");
    assert!(
        said.err.starts_with("error: the demo could not begin"),
        "{said:#?}"
    );
    assert!(
        said.err.contains(&nowhere) && said.err.contains("set TMPDIR"),
        "{said:#?}"
    );
}
