//! Claude Code, as it comes: its token endpoint is fixed, so it meets the kit's servers through the proxy
//! (clients.md 3, 8).

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
use crate::vendors::{CLAUDE_CLIENT, CLAUDE_SCOPES};

const STORE: &str = ".claude/.credentials.json";
/// Where it notes whose login that is.
const SETTINGS: &str = ".claude.json";

/// Longest time of one use, on a busy host too.
const TIME: Duration = Duration::from_secs(90);

/// What it says when only a login helps (clients.md 3.2).
const LOGIN_NEEDED: [&str; 4] = [
    "Please run /login",
    "OAuth session expired and could not be refreshed",
    "Not logged in",
    "OAuth token revoked",
];

/// The dialect of Claude's authorization server, for all programs that ask it.
pub(super) fn dialect() -> Dialect {
    Dialect {
        client_id: CLAUDE_CLIENT.to_owned(),
        scopes: CLAUDE_SCOPES.map(str::to_owned).to_vec(),
        token_format: TokenFormat::Opaque,
        error_style: ErrorStyle::Standard,
        answer: AnswerConfig {
            account: true,
            id_token: false,
            ..AnswerConfig::default()
        },
        issuer: Some("https://platform.claude.com".to_owned()),
    }
}

/// The installed Claude Code.
#[derive(Debug)]
pub(super) struct Claude {
    program: Program,
}

impl Claude {
    /// The program at `program`, or the one on PATH.
    pub(super) fn find(host: &Host, program: Option<PathBuf>) -> Result<Self, NotFound> {
        let wanted = Wanted {
            name: "claude",
            install: "npm install -g @anthropic-ai/claude-code@2.1.329",
        };
        let program = Program::find(host, wanted, program)?;
        Ok(Self { program })
    }
}

impl Client for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn version(&self) -> &str {
        &self.program.version
    }

    fn dialect(&self) -> Dialect {
        dialect()
    }

    fn reach(&self) -> Reach {
        Reach::Proxy
    }

    fn configure(&self, _home: &Home) -> Result<(), String> {
        // What it needs is in its environment.
        Ok(())
    }

    fn log_in(&self, home: &Home, tokens: &Tokens, _: &Stop) -> Result<(), String> {
        let login = json!({
            "claudeAiOauth": {
                "accessToken": tokens.access.expose(),
                "refreshToken": tokens.refresh.expose(),
                "expiresAt": tokens.expires_at.0,
                "scopes": tokens.scopes,
                "subscriptionType": "max",
                "rateLimitTier": "default_claude_max_5x",
            },
            "organizationUuid": format!("org-{}", tokens.account),
        });
        let whose = json!({
            "hasCompletedOnboarding": true,
            "oauthAccount": {
                "accountUuid": format!("acct-{}", tokens.account),
                "emailAddress": format!("{}@example.com", tokens.account),
                "organizationUuid": format!("org-{}", tokens.account),
            },
        });
        for (name, members) in [(SETTINGS, whose), (STORE, login)] {
            let text = with_members(home.get(name)?, members).to_string();
            home.put(name, text.as_bytes())?;
        }
        Ok(())
    }

    fn use_once(&self, home: &Home) -> Result<Invocation, String> {
        let mut env = self.program.variables(home)?;
        // Nothing but the login is of interest, and an API that is away not for minutes.
        for name in [
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_AUTOUPDATER",
            "CLAUDE_CODE_MAX_RETRIES",
        ] {
            env.push((name.into(), "1".into()));
        }
        Ok(self.program.invocation(&["-p", "hi"], env, home, TIME))
    }

    fn store(&self, home: &Home) -> PathBuf {
        home.path(STORE)
    }

    fn read(&self, store: &[u8]) -> Stored {
        login_in(store, "/claudeAiOauth", ["/accessToken", "/refreshToken"])
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
