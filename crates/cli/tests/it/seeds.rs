//! Every command line of the seeds works as written.

use crate::world::{SETUP_TOKEN, World};

const SEEDS: &str = include_str!("../data/seed-commands.txt");

#[test]
fn every_command_line_of_the_seeds_runs() {
    let world = World::new();
    let mut ran = 0;
    for line in SEEDS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let line = line
            .split_once('|')
            .unwrap()
            .1
            .trim()
            .replace("<id>", "anthropic");
        let agent_exists = line.contains("agents add") && line.starts_with("clawdbot");
        let said = world.feed(&line, SETUP_TOKEN);
        if line.contains("auth login") {
            // Nobody is there to log in: the answer is a sentence and a command, not a hang.
            assert_ne!(said.code, 0, "{line}: {said:#?}");
            assert!(
                said.err.contains("error: ") && said.err.contains("fix: "),
                "{line}: {said:#?}"
            );
        } else if agent_exists {
            // Added by a line above already, under another name of the same command.
            assert_eq!(said.code, 2, "{line}: {said:#?}");
        } else {
            assert_eq!(said.code, 0, "{line}: {said:#?}");
        }
        ran += 1;
    }
    assert_eq!(ran, 13);
    let status = world.run("openclaw models status --json").code(0).json();
    assert_eq!(
        status["auth"]["oauth"]["profiles"][0]["profileId"],
        "anthropic:manual"
    );
    let channels = world.run("openclaw channels list --json").code(0).json();
    assert_eq!(channels["auth"][0]["id"], "anthropic:manual");
    assert_eq!(channels["auth"][0]["type"], "token");
}

#[test]
fn what_other_issues_bring_is_not_accepted() {
    let world = World::new();
    for line in [
        "openclaw onboard",
        "openclaw doctor",
        "tokensink models status --probe",
    ] {
        let said = world.run(line).code(2);
        assert!(said.err.contains("Usage: "), "{said:#?}");
        assert!(said.out.is_empty(), "{said:#?}");
    }
}
