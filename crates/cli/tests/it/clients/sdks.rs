//! The official Python and npm clients (tests/sdk-clients).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Stage, api_key, key};
use crate::world::Said;

/// A client, as the script that uses it.
#[derive(Debug, Clone, Copy)]
struct Client {
    script: &'static str,
    /// Its own variables: base URL, key; and what stands behind the gateway's address.
    url: &'static str,
    key: &'static str,
    path: &'static str,
}

const ANTHROPIC_PY: Client = Client {
    script: "anthropic_client.py",
    url: "ANTHROPIC_BASE_URL",
    key: "ANTHROPIC_API_KEY",
    path: "",
};
const ANTHROPIC_JS: Client = Client {
    script: "anthropic-client.mjs",
    ..ANTHROPIC_PY
};
const OPENAI_PY: Client = Client {
    script: "openai_client.py",
    url: "OPENAI_BASE_URL",
    key: "OPENAI_API_KEY",
    path: "/v1",
};
const OPENAI_JS: Client = Client {
    script: "openai-client.mjs",
    ..OPENAI_PY
};

impl Client {
    /// The interpreter and the script.
    fn command(self) -> Command {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk-clients");
        let script = dir.canonicalize().unwrap().join(self.script);
        let mut command = if self.script.ends_with(".py") {
            let mut command = Command::new(python());
            command.arg("-B");
            command
        } else {
            assert!(
                dir.join("node_modules/openai/package.json").is_file(),
                "the npm clients are not installed; run: npm ci --prefix tests/sdk-clients"
            );
            Command::new("node")
        };
        command.arg(script);
        command
    }

    /// Runs it. By its own variables, or with URL and key given to its constructor; `revoked` is a key that is none
    /// any more.
    fn run(self, stage: &Stage, by_variables: bool, words: &[&str], revoked: &str) -> Value {
        let url = format!("{}{}", stage.url(), self.path);
        let [url_name, key_name] = if by_variables {
            [self.url, self.key]
        } else {
            ["GATEWAY_URL", "GATEWAY_KEY"]
        };
        let output = self
            .command()
            .args(words)
            .env_clear()
            .env("HOME", stage.world.path(""))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env(url_name, url)
            .env(key_name, &stage.key)
            .env("REVOKED_KEY", revoked)
            .env("PROVIDER_URL", format!("{}/openai", stage.url()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = Said::of(output).code(0);
        said.json()
    }
}

/// The Python with the clients, which `cargo xtask test` makes.
fn python() -> PathBuf {
    // `CARGO_TARGET_TMPDIR` is `tmp` in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("venv/sdk-clients/bin/python");
    assert!(
        python.is_file(),
        "{} is missing; `cargo xtask test` makes it",
        python.display()
    );
    python
}

fn stage() -> Stage {
    Stage::start(&[
        ("anthropic", "one", api_key("sk-ant-api03-one")),
        ("anthropic", "two", api_key("sk-ant-api03-two")),
        ("openai", "one", api_key("sk-proj-one")),
        ("openai", "two", api_key("sk-proj-two")),
    ])
}

/// All that a client can do, by its variables and by its constructor, while the limit of the first account is used up:
/// the client sees nothing of that, and tries nothing twice.
#[track_caller]
fn everything(client: Client) {
    for by_variables in [true, false] {
        let stage = stage();
        for account in ["sk-ant-api03-one", "sk-proj-one"] {
            stage.api.limit(account);
        }
        let revoked = key(&stage.world, "old");
        stage.world.run("tokensink keys revoke old").code(0);
        let told = client.run(&stage, by_variables, &[], &revoked);
        insta::assert_snapshot!(client.script, format!("{told:#}"));
        assert_eq!(stage.api.wrongs(), [""; 0]);
        let asked = stage.api.asked();
        let again: Vec<_> = asked
            .iter()
            .filter(|asked| asked.attempt.as_deref() != Some("0"))
            .collect();
        assert_eq!(again.len(), 0, "{again:#?}");
        let limited = asked.iter().filter(|asked| asked.status == 429);
        let mut limited: Vec<_> = limited.map(|asked| &asked.model).collect();
        let count = limited.len();
        limited.sort();
        limited.dedup();
        assert_eq!(
            limited.len(),
            count,
            "the limit of a model was met more than once: {asked:#?}"
        );
    }
}

/// Nobody can serve: the client shows its own error for that, and its attempts are not made at the provider's.
#[track_caller]
fn nobody(client: Client, accounts: [&str; 2]) {
    let stage = stage();
    let told = client.run(&stage, true, &["nobody"], "");
    for how in ["whole", "stream"] {
        let error = (&told[how]["class"], &told[how]["status"]);
        assert_eq!(error, (&json!("RateLimitError"), &json!(429)), "{told:#}");
    }
    for account in accounts {
        assert_eq!(
            stage.statuses(account),
            [429],
            "{:#?}\n{}",
            stage.api.asked(),
            stage.log()
        );
    }
}

#[test]
fn anthropic_for_python() {
    everything(ANTHROPIC_PY);
}

#[test]
fn anthropic_for_node() {
    everything(ANTHROPIC_JS);
}

#[test]
fn openai_for_python() {
    everything(OPENAI_PY);
}

#[test]
fn openai_for_node() {
    everything(OPENAI_JS);
}

#[test]
fn a_limit_of_all_accounts_is_the_clients_own_error() {
    let keys = ["sk-ant-api03-one", "sk-ant-api03-two"];
    for client in [ANTHROPIC_PY, ANTHROPIC_JS] {
        nobody(client, keys);
    }
    for client in [OPENAI_PY, OPENAI_JS] {
        nobody(client, ["sk-proj-one", "sk-proj-two"]);
    }
}
