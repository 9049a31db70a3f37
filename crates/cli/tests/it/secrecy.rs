//! No secret leaves through a message, a log or a record: planted ones are looked for, whole and in pieces.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokensink_authserver::{Fault, FaultAction, ServerConfig};

use crate::support::stage::{Stage, add_profile, stored};
use crate::world::{BROWSER, SETUP_TOKEN, Said};

/// Length of the pieces that are looked for.
const PIECE: usize = 12;

/// Secrets, and where each must never be.
struct Canaries(Vec<String>);

impl Canaries {
    /// Adds the secret parts of everything that is stored now.
    fn learn(&mut self, stage: &Stage) {
        for (_, text) in stage.world.files() {
            let Ok(store) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            let profiles = store["profiles"].as_object().into_iter().flatten();
            for (_, profile) in profiles {
                for field in ["access", "refresh", "token", "key", "idToken"] {
                    let secret = profile[field].as_str().map(str::to_owned);
                    if let Some(secret) = secret.filter(|secret| !self.0.contains(secret)) {
                        self.0.push(secret);
                    }
                }
            }
        }
    }

    /// The pieces that give a secret away. What every JWT of the server has in common, and the first and last eight
    /// characters that `status` shows of a secret by design (spec.md 12.2), are none.
    fn pieces(&self) -> HashSet<&[u8]> {
        // Of a JWT, the signature is secret; its head and claims are not, and are the same for many.
        let secrets = self
            .0
            .iter()
            .map(|secret| secret.rsplit('.').next().unwrap().as_bytes());
        let mut pieces: HashSet<&[u8]> = secrets.flat_map(|secret| secret.windows(PIECE)).collect();
        pieces.remove(&SETUP_TOKEN.as_bytes()[..PIECE]);
        pieces
    }

    #[track_caller]
    fn assert_absent(&self, from: &str, text: &str) {
        let pieces = self.pieces();
        for window in text.as_bytes().windows(PIECE) {
            assert!(
                !pieces.contains(window),
                "{:?} in {from}: {text}",
                String::from_utf8_lossy(window)
            );
        }
    }
}

#[test]
#[should_panic(expected = "\"ecret-canary\" in here")]
fn a_piece_of_a_secret_is_found() {
    let canaries = Canaries(vec!["a-secret-canary-1".to_owned()]);
    canaries.assert_absent("there", "only ecret-canar");
    canaries.assert_absent("here", "it says ecret-canary and goes on");
}

/// What runs, one line after the other, as loud as it gets.
struct Script<'a> {
    stage: &'a Stage,
    canaries: Canaries,
    said: Vec<(String, Said, bool)>,
}

impl Script<'_> {
    fn run(&mut self, line: &str, input: Option<&str>, seconds: i64) {
        let offset = seconds.to_string();
        let variables = [
            ("BROWSER", BROWSER),
            ("TOKENSINK_LOG", "trace"),
            ("TOKENSINK_CLOCK_OFFSET_SECONDS", &offset),
            ("GROQ_API_KEY", "gsk_canary-groq-7f3e9a5b2c1d8e6f"),
        ];
        let said = self.stage.world.run_with(line, input, &variables);
        self.canaries.learn(self.stage);
        // The one product that is a secret.
        let product = line.contains(" token ") || line.contains(" exec ");
        self.said.push((line.to_owned(), said, product));
    }
}

/// All kinds of failing refreshes that do not end the grant; the server has grace.
fn faults() -> Vec<FaultAction> {
    vec![
        FaultAction::Status {
            status: 500,
            body: String::new(),
        },
        FaultAction::RetryAfter {
            seconds: 1,
            status: 429,
        },
        FaultAction::CutBeforeHandling,
        FaultAction::CutBeforeAnswer,
        FaultAction::CutAfterBytes { bytes: 300 },
        FaultAction::Garbage { handled: false },
        FaultAction::HugeBody { bytes: 4 << 20 },
    ]
}

#[test]
fn no_secret_is_said_logged_or_recorded() {
    let stage = Stage::new(ServerConfig {
        replay_grace_seconds: 600,
        ..ServerConfig::default()
    });
    let mut script = Script {
        stage: &stage,
        canaries: Canaries(vec!["gsk_canary-groq-7f3e9a5b2c1d8e6f".to_owned()]),
        said: Vec::new(),
    };
    script.run(
        "tokensink -vvv models auth login --provider rig --profile-id rig:alice",
        None,
        0,
    );
    script.run(
        "tokensink -vvv models auth setup-token --provider anthropic",
        Some(SETUP_TOKEN),
        0,
    );
    script.run(
        "tokensink -vvv models auth paste-api-key --provider openrouter",
        Some(crate::world::API_KEY),
        0,
    );
    let commands = [
        "tokensink models status --all",
        "tokensink models status --all --json",
        "tokensink models auth list",
        "tokensink models auth list --json",
        "tokensink channels list --json",
        "tokensink models list --all --json",
        "tokensink providers list",
        "tokensink agents add work",
        "tokensink agents list --json",
        "tokensink models auth order set --provider rig rig:alice",
        "tokensink models auth order get --provider rig --json",
        "tokensink token --provider rig",
        "tokensink token --provider rig --json",
        "tokensink token --provider anthropic --agent work",
        "tokensink exec --provider rig -- /bin/true",
        "tokensink models auth retry rig:alice",
    ];
    for line in commands {
        script.run(line, None, 0);
    }
    let mut now = 0;
    for action in faults() {
        now += 4_000;
        stage.server.faults().push(Fault::on_refresh(action).times(2));
        script.run("tokensink token --provider rig --wait 2s", None, now);
        script.run("tokensink renew --json", None, now);
        script.run("tokensink models status --all --json", None, now);
        stage.server.faults().clear();
        script.run("tokensink models auth retry rig:alice", None, now);
        script.run("tokensink token --provider rig --wait 2s", None, now);
    }
    let refresh = stored(&stage.world, "main", "rig:alice")["refresh"].clone();
    let echo = json!({"error": "server_error", "error_description": format!("no: {refresh}")}).to_string();
    stage.server.faults().push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: echo,
    }));
    script.run("tokensink token --provider rig --wait 2s", None, now + 4_000);
    script.run("tokensink models auth retry rig:alice", None, now + 4_000);
    let wrong = FaultAction::WrongAccount {
        account: "bob".to_owned(),
    };
    stage.server.faults().push(Fault::on_refresh(wrong));
    script.run("tokensink token --provider rig --wait 2s", None, now + 4_000);
    script.run("tokensink models status --all", None, now + 4_000);
    script.run(
        "tokensink models auth logout rig:alice --revoke",
        None,
        now + 4_000,
    );

    let ledger = stage.server.ledger();
    assert!(ledger.faults >= 9, "every fault was met: {ledger:#?}");
    assert_eq!(ledger.reuses, 0, "{ledger:#?}");
    assert!(script.canaries.0.len() >= 8, "{}", script.canaries.0.len());
    for (line, said, product) in &script.said {
        script
            .canaries
            .assert_absent(&format!("stderr of {line}"), &said.err);
        if !product {
            script
                .canaries
                .assert_absent(&format!("stdout of {line}"), &said.out);
        }
    }
    for (path, text) in stage.world.files() {
        let name = path
            .strip_prefix(stage.world.state(""))
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let keeper = name.ends_with("auth-profiles.json") || name.contains("journal/");
        if !keeper {
            script.canaries.assert_absent(&name, &text);
        }
    }
    let audit = std::fs::read_to_string(stage.world.state("tokensink/audit.jsonl")).unwrap();
    assert!(audit.lines().count() >= 4, "{audit}");
}

#[test]
fn a_broken_store_is_not_quoted() {
    let stage = Stage::new(ServerConfig::default());
    let key = "sk-canary-0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    add_profile(
        &stage.world,
        "main",
        "openrouter:a",
        json!({"type": "api_key", "provider": "openrouter", "key": key}),
    );
    let path = crate::support::stage::store_path(&stage.world, "main");
    let text = std::fs::read_to_string(&path).unwrap();
    let wrongs = [
        text.replace("\"key\"", "\"key\" \"sk-canary-0a1b2c3d4e5f6071\""),
        text.replace('}', ""),
        text.replace(&format!("\"{key}\""), key),
        text.replace("\"api_key\"", &format!("\"{key}\"")),
        text.replace("\"openrouter\"", &format!("[\"{key}\"]")),
        text.replace("\"version\": 1", &format!("\"version\": \"{key}\"")),
    ];
    let canaries = Canaries(vec![key.to_owned()]);
    for wrong in wrongs {
        assert_ne!(wrong, text);
        std::fs::write(&path, &wrong).unwrap();
        for line in [
            "tokensink models status --json",
            "tokensink -vvv models auth list",
            "tokensink renew",
        ] {
            let said = stage.world.run_with(line, None, &[("TOKENSINK_LOG", "trace")]);
            canaries.assert_absent(line, &said.out);
            canaries.assert_absent(line, &said.err);
        }
    }
}
