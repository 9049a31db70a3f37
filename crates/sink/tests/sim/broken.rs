//! The oracle must be seen to find what it looks for: ports that lie, a transport that sends twice, a server that gives
//! another account away. Each is played as if it were a bug of ours, and each must be found.

use serde_json::{Value, json};
use tokensink_testkit::{Course, FileCall};

use crate::stage::Stage;

/// How the ports lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A sync says that it is done and does nothing.
    IdleSync,
    /// What is written into the journal before the request leaves is not written.
    LateJournal,
    /// What is written into a store has no refresh token in it.
    Blanking,
    /// Locks are given to everybody who asks.
    FreeLocks,
}

/// What becomes of a call.
pub(crate) fn course(lie: Lie, stage: &Stage, call: &FileCall<'_>) -> Course {
    let parent = call.path.parent().and_then(std::path::Path::file_name);
    let in_journal = parent.is_some_and(|parent| parent == "journal");
    match (lie, call.name) {
        (Lie::IdleSync, "sync" | "sync_dir") => Course::Pretend,
        (Lie::LateJournal, "write_at") if in_journal && !stage.has_sent() => Course::Pretend,
        (Lie::FreeLocks, "try_lock") => Course::Pretend,
        (Lie::FreeLocks, "hard_link") => {
            let _ = tokensink_host::Files::remove(stage.files(), call.path);
            Course::Go
        }
        _ => Course::Go,
    }
}

/// Takes the refresh token out of a store that was just put in place.
pub(crate) fn blank(stage: &Stage, call: &FileCall<'_>) {
    if call.name != "rename" || !call.path.ends_with("auth-profiles.json") {
        return;
    }
    let mut store: Value = serde_json::from_str(&stage.files().text(call.path)).unwrap();
    for (_, entry) in store["profiles"].as_object_mut().unwrap() {
        if entry.get("refresh").is_some() {
            entry["refresh"] = json!("");
        }
    }
    stage.files().put(call.path, store.to_string(), 0o600);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokensink_authserver::FaultAction;

    use super::Lie;
    use crate::plan::{Act, Caller, Loss, Net, Plan, Trouble};
    use crate::run::play;
    use crate::world::{Base, Layout, Server, Spec};

    fn spec(server: Server, layout: Layout) -> Spec {
        Spec {
            server,
            layout,
            recorded: true,
            lives: false,
        }
    }

    /// What the oracle says of a run with a planted bug.
    fn found(spec: Spec, lie: Option<Lie>, callers: Vec<Caller>, switch: u64, seed: u64) -> Vec<String> {
        let act = Act {
            after: spec.start(),
            callers,
            switch,
        };
        let mut setup = Base::new(spec).fork(seed, false);
        setup.lie = lie;
        play(
            &setup,
            &Plan {
                seed,
                acts: vec![act],
            },
        )
        .violations
    }

    fn has(violations: &[String], words: &str) -> bool {
        violations.iter().any(|violation| violation.contains(words))
    }

    #[test]
    fn a_sync_that_does_nothing() {
        let strict = spec(Server::Strict, Layout::Own);
        let violations = found(strict, Some(Lie::IdleSync), vec![Caller::calm()], 0, 1);
        assert!(
            has(&violations, "handed out before it was durable"),
            "{violations:?}"
        );
        assert!(has(&violations, "before the record"), "{violations:?}");
    }

    #[test]
    fn a_journal_that_is_written_after_the_request() {
        let strict = spec(Server::Strict, Layout::Own);
        let violations = found(strict, Some(Lie::LateJournal), vec![Caller::calm()], 0, 1);
        assert!(
            has(&violations, "a request left before the record"),
            "{violations:?}"
        );
    }

    #[test]
    fn a_store_that_is_blanked() {
        let strict = spec(Server::Strict, Layout::Own);
        let violations = found(strict, Some(Lie::Blanking), vec![Caller::calm()], 0, 1);
        assert!(has(&violations, "is blank or gone"), "{violations:?}");
    }

    #[test]
    fn a_transport_that_sends_twice() {
        for server in [Server::Strict, Server::Grace] {
            let caller = Caller {
                net: vec![Net::SentTwice],
                ..Caller::calm()
            };
            let violations = found(spec(server, Layout::Own), None, vec![caller], 0, 1);
            assert!(has(&violations, "an earlier one is under way"), "{violations:?}");
        }
    }

    #[test]
    fn locks_that_everybody_gets() {
        let strict = spec(Server::Strict, Layout::Own);
        let both = || vec![Caller::calm(), Caller::calm()];
        let caught = (0..40).filter(|seed| {
            let violations = found(strict, Some(Lie::FreeLocks), both(), 2, *seed);
            has(&violations, "send outside (a) to (d)")
        });
        assert!(caught.count() > 0);
        for seed in 0..40 {
            assert_eq!(
                found(strict, None, both(), 2, seed),
                Vec::<String>::new(),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn tokens_of_another_account_that_nobody_can_tell() {
        let account = "bob".to_owned();
        let caller = Caller {
            net: vec![Net::Answer(FaultAction::WrongAccount { account })],
            ..Caller::calm()
        };
        let base = Base::new(spec(Server::Strict, Layout::Own));
        base.forget_identity();
        let plan = Plan {
            seed: 1,
            acts: vec![Act::of(base.spec.start(), caller)],
        };
        let violations = play(&base.fork(1, false), &plan).violations;
        assert!(has(&violations, "a token of another account"), "{violations:?}");
    }

    #[test]
    fn a_loss_of_power_that_takes_what_was_synced() {
        let strict = spec(Server::Strict, Layout::Own);
        let power = Caller {
            troubles: vec![(1, Trouble::PowerBefore(Loss::All))],
            ..Caller::calm()
        };
        let base = Base::new(strict);
        let setup = base.fork(1, false);
        // As if nothing of the last refresh had ever reached the disk.
        for (path, _) in setup.stage.files().snapshot() {
            if path.parent().is_some_and(|dir| dir.ends_with("journal")) {
                tokensink_host::Files::remove(setup.stage.files(), &path).unwrap();
            }
        }
        let plan = Plan {
            seed: 1,
            acts: vec![Act::of(Duration::from_secs(1), power)],
        };
        let older = base.oldest_store();
        setup.stage.files().put(&older.0, &older.1, 0o600);
        setup.stage.files().settle();
        let violations = play(&setup, &plan).violations;
        assert!(has(&violations, "an older one is left"), "{violations:?}");
        assert!(
            has(&violations, "lost without reason") || has(&violations, "login was demanded"),
            "{violations:?}"
        );
    }
}
