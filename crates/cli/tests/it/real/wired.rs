//! Mode `owned` and the programs' own hooks: the login has moved to us, and the real Codex and Claude Code ask us for
//! each token (clients.md 2.6, 3.5).

use std::path::Path;

use serde_json::Value;

use super::clis::{Ask, Clis};
use super::cooperative::{HOUR, shared};
use super::rig::{Reuse, Vendor};

/// A program, its login, and its settings.
struct Case {
    cli: &'static str,
    vendor: Vendor,
    login: &'static str,
    settings: &'static str,
    ask: Ask,
    status: Ask,
    /// What its status command ends with while it is wired: Codex looks for a login of its own only.
    status_code: i32,
}

const CLAUDE: Case = Case {
    cli: "claude",
    vendor: Vendor::Anthropic,
    login: ".claude/.credentials.json",
    settings: ".claude/settings.json",
    ask: Ask::ClaudePrompt,
    status: Ask::ClaudeStatus,
    status_code: 0,
};

const CODEX: Case = Case {
    cli: "codex",
    vendor: Vendor::Openai,
    login: ".codex/auth.json",
    settings: ".codex/config.toml",
    ask: Ask::CodexExec,
    status: Ask::CodexStatus,
    status_code: 1,
};

fn text(clis: &Clis, relative: &str) -> Option<String> {
    std::fs::read_to_string(clis.world.path(relative)).ok()
}

/// A text in the program's file, wherever it is.
fn holds(path: &Path, secret: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(secret))
}

/// Moves a login to us, wires the program, lives with it for a day, and brings everything back as it was.
fn there_and_back(case: &Case) {
    let Some(clis) = shared(Reuse::Revokes) else {
        return;
    };
    if case.settings.ends_with(".json") {
        clis.world
            .write(case.settings, "{\n  \"cleanupPeriodDays\": 20\n}\n");
    }
    let before = (
        text(&clis, case.login).unwrap(),
        text(&clis, case.settings).unwrap(),
    );

    let said = clis
        .run(&format!("tokensink external set {} owned --yes", case.cli))
        .code(0);
    let old: Value = serde_json::from_str(&before.0).unwrap();
    let refresh =
        ["/claudeAiOauth/refreshToken", "/tokens/refresh_token"].map(|pointer| old.pointer(pointer));
    let refresh = refresh.into_iter().flatten().next().unwrap().as_str().unwrap();
    let login = clis.world.path(case.login);
    assert!(
        !holds(&login, refresh),
        "the program's file still holds the login: {said:#?}"
    );

    let shown = clis
        .run(&format!("tokensink external wire {} --dry-run", case.cli))
        .code(0);
    assert_eq!(text(&clis, case.settings).unwrap(), before.1, "{shown:#?}");
    let said = clis
        .run(&format!("tokensink external wire {} --json", case.cli))
        .code(0)
        .json();
    assert_eq!(said["hookFails"], Value::Null, "{said:#}");
    assert_eq!(said["proof"]["exitCode"], case.status_code, "{said:#}");
    for _ in 0..6 {
        clis.rig.advance(HOUR);
        clis.works(case.ask);
    }
    let ledger = clis.rig.ledger(case.vendor);
    assert_eq!((ledger.refreshes, ledger.reuses), (6, 0), "{ledger:#?}");

    let said = clis
        .run(&format!("tokensink external unwire {}", case.cli))
        .code(0);
    assert_eq!(text(&clis, case.settings).unwrap(), before.1, "{said:#?}");
    clis.run(&format!("tokensink external set {} cooperative --yes", case.cli))
        .code(0);
    clis.works(case.status);
    clis.works(case.ask);
    clis.assert_newest_stored();
    assert_eq!(clis.rig.ledger(case.vendor).reuses, 0);
    let keys = |text: &str| -> Vec<String> {
        let value: Value = serde_json::from_str(text).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let (mut then, mut now) = (keys(&before.0), keys(&text(&clis, case.login).unwrap()));
    then.sort();
    now.sort();
    assert_eq!(now, then, "nothing else of the file was lost");
}

#[test]
fn claude_there_and_back() {
    there_and_back(&CLAUDE);
}

#[test]
fn codex_there_and_back() {
    there_and_back(&CODEX);
}
