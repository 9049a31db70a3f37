//! The real Codex and Claude Code at the gateway, with no login of their own or with one that is not used: two accounts
//! behind it, the first of which has used up its limit, and the programs see nothing but good answers (clients.md 2.6,
//! 3.5, 8). The settings are those of docs/gateway.md.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{installed, npm_cpu};
use crate::clients::Stage;
use crate::world::Said;

/// Year 2100, in milliseconds.
const FAR: i64 = 4_102_444_800_000;

fn codex_program() -> Option<PathBuf> {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    installed(
        "real-clis",
        &format!("@openai/codex-linux-{}/vendor/{triple}/bin/codex", npm_cpu()),
    )
}

fn claude_program() -> Option<PathBuf> {
    installed(
        "real-clis",
        &format!("@anthropic-ai/claude-code-linux-{}/claude", npm_cpu()),
    )
}

/// An access token of ChatGPT for a workspace; nobody signed it.
fn chatgpt_token(account: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"exp": FAR / 1000, "https://api.openai.com/auth": {
        "chatgpt_account_id": account, "chatgpt_plan_type": "plus", "chatgpt_user_id": "user-1"}});
    let head = part(json!({"alg": "none"}));
    format!("{head}.{}.{}", part(claims), URL_SAFE_NO_PAD.encode("x"))
}

fn chatgpt_login(account: &str) -> Value {
    json!({"type": "oauth", "access": chatgpt_token(account), "refresh": format!("rt-{account}"), "expires": FAR,
        "accountId": account})
}

fn setup_token(name: &str) -> String {
    format!("sk-ant-oat01-{name}-{}", "A".repeat(90))
}

/// A program's settings and its variables, at a gateway.
struct Settings {
    file: Option<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
}

/// Asks the program twice and looks at what came: an answer each time, one try of the account without a limit, and
/// none of it the second time.
#[track_caller]
fn answers(stage: &Stage, command: impl Fn() -> Command, settings: &Settings, accounts: [&str; 2]) {
    let [used_up, good] = accounts;
    stage.api.limit(used_up);
    if let Some((path, text)) = &settings.file {
        stage.world.write(path, text);
    }
    for served in [1, 2] {
        let mut command = command();
        command
            .env_clear()
            .env("HOME", stage.world.path(""))
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "dumb")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .envs(settings.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(stage.world.path(""))
            .stdin(Stdio::null());
        let said = Said::of(command.output().unwrap());
        assert_eq!(
            (said.code, said.out.trim()),
            (0, "hello"),
            "{said:#?} {:#?}",
            stage.log()
        );
        assert_eq!(stage.api.wrongs(), [""; 0]);
        assert_eq!(stage.statuses(used_up), [429], "{:#?}", stage.api.asked());
        assert_eq!(
            stage.statuses(good),
            vec![200; served],
            "{:#?}",
            stage.api.asked()
        );
    }
}

fn codex(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["exec", "--skip-git-repo-check", "-s", "read-only", "hi"]);
    command
}

/// What every `config.toml` begins with, so that nothing else is asked for.
const CODEX_QUIET: &str = "cli_auth_credentials_store = \"file\"\nmodel = \"gpt-5.1-codex\"\nmodel_provider = \"sink\"\n\n\
    [analytics]\nenabled = false\n\n[features]\nplugins = false\napps = false\n\n";

fn codex_stage() -> Stage {
    Stage::start(&[
        ("openai-codex", "one", chatgpt_login("acct-one")),
        ("openai-codex", "two", chatgpt_login("acct-two")),
    ])
}

/// Codex without a login, with a key of ours.
fn codex_answers(stage: &Stage, program: &Path, settings: &Settings) {
    let [used_up, good] = ["acct-one", "acct-two"].map(chatgpt_token);
    answers(stage, || codex(program), settings, [&used_up, &good]);
}

#[test]
fn codex_with_a_key() {
    let Some(program) = codex_program() else { return };
    for path in ["/v1", "/openai-codex"] {
        let stage = codex_stage();
        let config = format!(
            "{CODEX_QUIET}[model_providers.sink]\nname = \"sink\"\nbase_url = \"{}{path}\"\nenv_key = \"SINK_KEY\"\n\
             wire_api = \"responses\"\n",
            stage.url()
        );
        let settings = Settings {
            file: Some((".codex/config.toml", config)),
            variables: vec![("SINK_KEY", stage.key.clone())],
        };
        codex_answers(&stage, &program, &settings);
    }
}

/// Codex with its own ChatGPT login, which goes no further than the gateway: it compresses its requests and tries a
/// WebSocket first.
#[test]
fn codex_in_chatgpt_mode() {
    let Some(program) = codex_program() else { return };
    let stage = codex_stage();
    let own = chatgpt_token("acct-own");
    let login = json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2099-01-01T00:00:00Z",
        "tokens": {"id_token": own, "access_token": own, "refresh_token": "rt-own", "account_id": "acct-own"}});
    stage.world.write(".codex/auth.json", &login.to_string());
    let config = format!(
        "{CODEX_QUIET}[model_providers.sink]\nname = \"OpenAI\"\nbase_url = \"{}/v1\"\nrequires_openai_auth = true\n\
         supports_websockets = true\nenv_http_headers = {{ \"x-api-key\" = \"SINK_KEY\" }}\nwire_api = \"responses\"\n",
        stage.url()
    );
    let settings = Settings {
        file: Some((".codex/config.toml", config)),
        variables: vec![("SINK_KEY", stage.key.clone())],
    };
    codex_answers(&stage, &program, &settings);
    let asked = stage.api.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.encoding.as_deref() == Some("zstd")),
        "{asked:#?}"
    );
    assert!(
        stage.log().contains("426"),
        "it asked for a WebSocket: {}",
        stage.log()
    );
}

fn claude(program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command.args(["-p", "hi"]);
    command
}

fn claude_stage() -> (Stage, [String; 2]) {
    let tokens = ["one", "two"].map(setup_token);
    let entry = |token: &str| json!({"type": "token", "token": token});
    let stage = Stage::start(&[
        ("anthropic", "one", entry(&tokens[0])),
        ("anthropic", "two", entry(&tokens[1])),
    ]);
    (stage, tokens)
}

#[test]
fn claude_code_with_a_key() {
    let Some(program) = claude_program() else { return };
    for key in ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"] {
        let (stage, tokens) = claude_stage();
        let settings = Settings {
            file: None,
            variables: vec![("ANTHROPIC_BASE_URL", stage.url()), (key, stage.key.clone())],
        };
        answers(&stage, || claude(&program), &settings, [&tokens[0], &tokens[1]]);
    }
}

/// A helper that prints the key: it is sent in two headers.
#[test]
fn claude_code_with_a_helper() {
    let Some(program) = claude_program() else { return };
    let (stage, tokens) = claude_stage();
    let file = stage.world.write("gateway.key", &stage.key);
    let helper = json!({"apiKeyHelper": format!("cat {}", file.display())});
    let settings = Settings {
        file: Some((".claude/settings.json", helper.to_string())),
        variables: vec![("ANTHROPIC_BASE_URL", stage.url())],
    };
    answers(&stage, || claude(&program), &settings, [&tokens[0], &tokens[1]]);
}
