//! Mode `cooperative` with the real Codex and Claude Code: their files are the owner stores, and whoever of the three
//! refreshes, the others go on with what it brought.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;
use tokensink_authserver::RevokedBecause;

use super::clis::{Ask, Clis};
use super::rig::{Reuse, Vendor};
use crate::support::crowd::{Dice, finish};
use crate::support::processes::wait_for_landing;
use crate::world::Said;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The two lines that ask us for a token.
const TOKENS: [&str; 2] = [CLAUDES, CODEXS];
pub(super) const CLAUDES: &str = "tokensink token --profile-id anthropic:claude-cli";
pub(super) const CODEXS: &str = "tokensink token --profile-id openai-codex:codex-cli";

/// Both programs logged in for an hour, both logins shared.
pub(super) fn shared(reuse: Reuse) -> Option<Clis> {
    let clis = Clis::start(reuse)?;
    clis.log_in(3600);
    for cli in ["claude", "codex"] {
        clis.run(&format!("tokensink external set {cli} cooperative"))
            .code(0);
    }
    Some(clis)
}

/// A text in JSON that is in one of the files.
fn text_at(path: &Path, pointer: &str) -> String {
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    value.pointer(pointer).unwrap().as_str().unwrap().to_owned()
}

/// We hand out what the programs' files hold.
#[track_caller]
pub(super) fn assert_the_same_tokens(clis: &Clis) {
    // The call may be what refreshes them.
    let tokens = TOKENS.map(|line| clis.run(line).code(0).out);
    // A file that is behind the record is brought up by a helper that need not be done yet.
    wait_for_landing(&clis.world);
    let claude = text_at(&clis.credentials_json(), "/claudeAiOauth/accessToken");
    let codex = text_at(&clis.auth_json(), "/tokens/access_token");
    assert_eq!(tokens.each_ref().map(|token| token.trim()), [claude, codex]);
}

/// Everything works for everybody, and no login has ended.
#[track_caller]
pub(super) fn assert_all_well(clis: &Clis, round: usize, dice: &mut Dice) {
    for place in dice.places(Ask::ALL.len(), Ask::ALL.len()) {
        clis.works(Ask::ALL[place]);
    }
    for vendor in [Vendor::Anthropic, Vendor::Openai] {
        let ledger = clis.rig.ledger(vendor);
        let ended = ledger
            .families
            .iter()
            .filter(|family| family.revoked == Some(RevokedBecause::RefreshTokenReuse));
        assert_eq!(ended.count(), 0, "{vendor:?}, round {round}: {ledger:#?}");
    }
}

/// Where we have written back before the programs start, a strict server never sees a refresh token twice.
#[test]
fn strict_servers_see_no_reuse_when_we_are_ahead() {
    let Some(clis) = shared(Reuse::Revokes) else {
        return;
    };
    let mut dice = Dice::new(3);
    for round in 1..=25 {
        if dice.below(4) == 0 {
            // The APIs refuse what is out: each program recovers by a refresh of its own, and we take what it brought.
            clis.rig.invalidate_access_tokens();
            let at_once = [Ask::CodexExec, Ask::ClaudePrompt].map(|ask| (ask, clis.start_asking(ask)));
            for (ask, child) in at_once {
                clis.ends_well(ask, child);
            }
        } else {
            clis.rig.advance(HOUR);
            let (claude, codex) = clis.refreshes();
            match dice.below(3) {
                0 => drop(clis.run("tokensink renew").code(0)),
                1 => TOKENS.iter().for_each(|line| drop(clis.run(line).code(0))),
                _ => {
                    let crowd = TOKENS.map(|line| [line, line].map(|line| clis.ours(line).spawn().unwrap()));
                    for child in crowd.into_iter().flatten() {
                        finish(child).code(0);
                    }
                }
            }
            assert_eq!(clis.refreshes(), (claude + 1, codex + 1), "round {round}");
            let asks = [Ask::CodexExec, Ask::ClaudePrompt].repeat(1 + dice.below(2));
            let at_once: Vec<_> = asks
                .into_iter()
                .map(|ask| (ask, clis.start_asking(ask)))
                .collect();
            for (ask, child) in at_once {
                clis.ends_well(ask, child);
            }
            assert_eq!(
                clis.refreshes(),
                (claude + 1, codex + 1),
                "round {round}: nobody refreshed behind us"
            );
            assert_the_same_tokens(&clis);
        }
        assert_all_well(&clis, round, &mut dice);
        clis.assert_newest_stored();
        for vendor in [Vendor::Anthropic, Vendor::Openai] {
            assert_eq!(clis.rig.ledger(vendor).reuses, 0, "{vendor:?}, round {round}");
        }
    }
}

/// All at once on a login that is due for everybody: two Codex spend one token between themselves, which a lenient
/// server refuses once, and nobody ends logged out. Claude Code's login is locked by all, so it sees no reuse at all.
#[test]
fn nobody_ends_logged_out_when_all_start_at_once() {
    let Some(clis) = shared(Reuse::IsRefused) else {
        return;
    };
    let mut dice = Dice::new(4);
    for round in 1..=25 {
        match dice.below(3) {
            // All find a token that has run out.
            0 => clis.log_in(-60),
            // We find one that has run out, the programs find one that is refused.
            1 => clis.rig.advance(HOUR),
            // All find a good one, which is refused.
            _ => clis.rig.invalidate_access_tokens(),
        }
        let mut ours: Vec<Child> = Vec::new();
        let mut theirs: Vec<(Ask, Child)> = Vec::new();
        let who = 2 + dice.below(4);
        for _ in 0..who {
            match dice.below(5) {
                0 => ours.push(clis.ours("tokensink renew").spawn().unwrap()),
                1 => ours.push(clis.ours(CLAUDES).spawn().unwrap()),
                2 => ours.push(clis.ours(CODEXS).spawn().unwrap()),
                3 => theirs.push((Ask::CodexExec, clis.start_asking(Ask::CodexExec))),
                _ => theirs.push((Ask::ClaudePrompt, clis.start_asking(Ask::ClaudePrompt))),
            }
        }
        for (ask, child) in theirs {
            // Of two Codex that spend one token, often both give up; each asks the user to try again.
            if ask == Ask::ClaudePrompt {
                clis.ends_well(ask, child);
            } else {
                finish(child);
            }
        }
        for child in ours {
            let said = finish(child);
            // Who finds another at it and nothing to hand out meanwhile is asked to come back.
            assert!([0, 75].contains(&said.code), "round {round}: {said:#?}");
        }
        assert_all_well(&clis, round, &mut dice);
        assert_the_same_tokens(&clis);
        clis.assert_newest_stored();
        assert_eq!(clis.rig.ledger(Vendor::Anthropic).reuses, 0, "round {round}");
    }
}

/// What is seen of a file besides its content.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    mode: u32,
    owner: (u32, u32),
    link: Option<PathBuf>,
}

fn looks(path: &Path) -> Looks {
    let metadata = std::fs::metadata(path).unwrap();
    Looks {
        mode: metadata.permissions().mode(),
        owner: (metadata.uid(), metadata.gid()),
        link: std::fs::read_link(path).ok(),
    }
}

/// The leaves of a JSON value by their pointers.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), value)];
    while let Some((at, value)) = open.pop() {
        match value {
            Value::Object(map) => open.extend(map.iter().map(|(key, value)| (format!("{at}/{key}"), value))),
            Value::Array(list) => {
                open.extend(
                    list.iter()
                        .enumerate()
                        .map(|(place, value)| (format!("{at}/{place}"), value)),
                );
            }
            leaf => drop(found.insert(at, leaf.clone())),
        }
    }
    found
}

/// The pointers at which two versions of a file differ.
fn changed(before: &str, after: &str) -> Vec<String> {
    let [before, after] = [before, after].map(|text| leaves(&serde_json::from_str(text).unwrap()));
    let all = before
        .keys()
        .chain(after.keys())
        .collect::<std::collections::BTreeSet<_>>();
    all.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .cloned()
        .collect()
}

/// The text with every value that may change blanked: what is left is how the file is written.
fn shape(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    let may_change = [
        "accessToken",
        "refreshToken",
        "expiresAt",
        "id_token",
        "access_token",
        "refresh_token",
    ];
    let mut text = text.to_owned();
    for (at, leaf) in leaves(&value) {
        let name = at.rsplit('/').next().unwrap();
        if at.starts_with("/mcpOAuth") || !(may_change.contains(&name) || name == "last_refresh") {
            continue;
        }
        text = text.replace(&leaf.to_string(), "_");
    }
    text
}

/// A refresh of ours changes the tokens in the programs' files and nothing else in them or about them, and leaves no
/// copy of the login on our side but the record.
#[test]
fn a_refresh_changes_the_tokens_and_nothing_else() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    // A home as people have it who keep it in a repository: a linked file, and a linked folder.
    let dotfiles = clis.world.path("dotfiles");
    std::fs::create_dir_all(dotfiles.join("claude")).unwrap();
    symlink(dotfiles.join("claude"), clis.world.path(".claude")).unwrap();
    clis.log_in(3600);
    std::fs::rename(clis.auth_json(), dotfiles.join("codex-auth.json")).unwrap();
    symlink(dotfiles.join("codex-auth.json"), clis.auth_json()).unwrap();
    for cli in ["claude", "codex"] {
        clis.run(&format!("tokensink external set {cli} cooperative"))
            .code(0);
    }
    let files = [
        clis.credentials_json(),
        clis.auth_json(),
        clis.world.path(".claude"),
    ];
    let texts = || [&files[0], &files[1]].map(|path| std::fs::read_to_string(path).unwrap());
    let (before, looked) = (texts(), files.each_ref().map(|path| looks(path)));

    clis.rig.advance(HOUR);
    for line in TOKENS {
        clis.run(line).code(0);
    }
    assert_eq!(clis.refreshes(), (1, 1));
    let after = texts();
    let ends = serde_json::from_str::<Value>(&after[0]).unwrap()["claudeAiOauth"]["expiresAt"].as_i64();
    let left = ends.unwrap() - clis.rig.now().0;
    assert!(
        (3_540_000..=3_600_000).contains(&left),
        "the whole hour, as Claude Code counts it: {left}"
    );
    assert_eq!(files.each_ref().map(|path| looks(path)), looked);
    assert_eq!(
        changed(&before[0], &after[0]),
        [
            "/claudeAiOauth/accessToken",
            "/claudeAiOauth/expiresAt",
            "/claudeAiOauth/refreshToken"
        ]
    );
    assert_eq!(
        changed(&before[1], &after[1]),
        [
            "/last_refresh",
            "/tokens/access_token",
            "/tokens/id_token",
            "/tokens/refresh_token"
        ]
    );
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(shape(before), shape(after));
    }
    let left_over = [".claude", ".codex"].map(|dir| {
        let entries = std::fs::read_dir(clis.world.path(dir)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.contains("lock") || name.contains("tmp"))
            .collect::<Vec<_>>()
    });
    let ours = [left_over[0].as_slice(), &[]].concat();
    assert!(ours.is_empty(), "{left_over:?}");
    assert!(!clis.world.path("dotfiles/claude.lock").exists());

    let secrets: Vec<String> = before
        .iter()
        .chain(&after)
        .flat_map(|text| tokens_in(text))
        .collect();
    assert_eq!(secrets.len(), 10);
    for (path, text) in clis.world.files() {
        let is_record = path.starts_with(clis.world.state("tokensink/journal"));
        let copies = secrets.iter().filter(|secret| text.contains(*secret)).count();
        assert!(is_record || copies == 0, "{copies} secrets in {}", path.display());
    }
    for ask in Ask::ALL {
        clis.works(ask);
    }
    assert_eq!(clis.refreshes(), (1, 1));
}

/// The login's secrets in a file.
fn tokens_in(text: &str) -> Vec<String> {
    let tokens = [
        "accessToken",
        "refreshToken",
        "id_token",
        "access_token",
        "refresh_token",
    ];
    leaves(&serde_json::from_str(text).unwrap())
        .into_iter()
        .filter(|(at, _)| !at.starts_with("/mcpOAuth"))
        .filter(|(at, _)| tokens.contains(&at.rsplit('/').next().unwrap()))
        .map(|(_, leaf)| leaf.as_str().unwrap().to_owned())
        .collect()
}

/// In mode `borrowed` nothing is sent for the login and nothing of it is kept.
#[test]
fn borrowed_asks_nothing_and_keeps_nothing() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    clis.log_in(3600);
    for cli in ["claude", "codex"] {
        clis.run(&format!("tokensink external set {cli} borrowed"))
            .code(0);
    }
    assert_the_same_tokens(&clis);
    for _ in 0..24 {
        clis.rig.advance(HOUR);
        for line in TOKENS {
            let said: Said = clis.run(line).code(3);
            let renew = if line == CLAUDES {
                "claude -p ok"
            } else {
                "codex exec ok"
            };
            assert!(said.err.contains(renew), "{said:#?}");
        }
        clis.run("tokensink renew");
        clis.run("tokensink models status").code(0);
    }
    for vendor in [Vendor::Anthropic, Vendor::Openai] {
        assert_eq!(clis.rig.ledger(vendor).requests_total, 0);
    }
    let secrets: Vec<String> = [clis.credentials_json(), clis.auth_json()]
        .iter()
        .flat_map(|path| tokens_in(&std::fs::read_to_string(path).unwrap()))
        .collect();
    for (path, text) in clis.world.files() {
        assert!(
            secrets.iter().all(|secret| !text.contains(secret)),
            "{}",
            path.display()
        );
    }
}
