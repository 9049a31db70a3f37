//! Codex CLI, as it comes: its endpoints are fixed, so it meets the kit's servers through the proxy (clients.md 2, 8).

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{AnswerConfig, ErrorStyle, TokenFormat};
use tokensink_host::Host;

use super::NotFound;
use super::installed::{Program, Wanted, login_in, outcome_of, with_members};
use crate::client::{Client, Dialect, Reach, Stored, Tokens, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation, Stop};
use crate::vendors::{CODEX_CLIENT, CODEX_SCOPES};

const CONFIG: &str = ".codex/config.toml";
const STORE: &str = ".codex/auth.json";

/// Nothing but the login is of interest.
const SETTINGS: &str = "model = \"gpt-5.1-codex\"\ncli_auth_credentials_store = \"file\"\n\n[analytics]\nenabled = false\n\n\
    [features]\nplugins = false\napps = false\n";

/// Longest time of one use, on a busy host too.
const TIME: Duration = Duration::from_secs(90);

/// What it says when only a login helps (clients.md 2.2).
const LOGIN_NEEDED: [&str; 4] = [
    "sign in again",
    "log in again",
    "Not logged in",
    "could not be refreshed because",
];

/// The installed Codex.
#[derive(Debug)]
pub(super) struct Codex {
    program: Program,
}

impl Codex {
    /// The program at `program`, or the one on PATH.
    pub(super) fn find(host: &Host, program: Option<PathBuf>) -> Result<Self, NotFound> {
        let wanted = Wanted {
            name: "codex",
            install: "npm install -g @openai/codex@0.169.0",
        };
        let program = Program::find(host, wanted, program)?;
        Ok(Self { program })
    }
}

impl Client for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn version(&self) -> &str {
        &self.program.version
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            client_id: CODEX_CLIENT.to_owned(),
            scopes: CODEX_SCOPES.map(str::to_owned).to_vec(),
            token_format: TokenFormat::Jwt,
            error_style: ErrorStyle::Openai,
            answer: AnswerConfig {
                expires_in: false,
                ..AnswerConfig::default()
            },
            issuer: Some("https://auth.openai.com".to_owned()),
        }
    }

    fn reach(&self) -> Reach {
        Reach::Proxy
    }

    fn configure(&self, home: &Home) -> Result<(), String> {
        home.put(CONFIG, SETTINGS.as_bytes()).map(drop)
    }

    fn log_in(&self, home: &Home, tokens: &Tokens, _: &Stop) -> Result<(), String> {
        let id = tokens.id.as_ref().ok_or("the server issued no id token")?;
        let refreshed =
            jiff::Timestamp::from_millisecond(tokens.issued_at.0).map_err(|error| error.to_string())?;
        let login = json!({
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": id.expose(),
                "access_token": tokens.access.expose(),
                "refresh_token": tokens.refresh.expose(),
                "account_id": format!("acct-{}", tokens.account),
            },
            "last_refresh": refreshed.to_string(),
        });
        let text = format!("{:#}", with_members(home.get(STORE)?, login));
        home.put(STORE, text.as_bytes()).map(drop)
    }

    fn use_once(&self, home: &Home) -> Result<Invocation, String> {
        let mut env = self.program.variables(home)?;
        if let Some(ca) = &home.endpoints.ca {
            env.push(("CODEX_CA_CERTIFICATE".into(), ca.clone().into()));
        }
        let args = ["exec", "--skip-git-repo-check", "-s", "read-only", "hi"];
        Ok(self.program.invocation(&args, env, home, TIME))
    }

    fn store(&self, home: &Home) -> PathBuf {
        home.path(STORE)
    }

    fn read(&self, store: &[u8]) -> Stored {
        login_in(store, "/tokens", ["/access_token", "/refresh_token"])
    }

    fn outcome(&self, ended: &Ended) -> Used {
        outcome_of(ended, &LOGIN_NEEDED)
    }

    fn crowd(&self) -> usize {
        4
    }

    fn jobs(&self) -> usize {
        2
    }
}
