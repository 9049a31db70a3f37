//! OpenClaw 2026.5.28, the newest line that keeps its logins in `auth-profiles.json`, as it comes: with a Claude login,
//! whose endpoints are fixed, so it meets the kit's servers through the proxy (openclaw-live.md 1, 5, 12). A use is one
//! turn of an agent.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokensink_host::Host;

use super::NotFound;
use super::claude;
use super::installed::{Program, Wanted, login_in, outcome_of, with_members};
use crate::client::{Client, Dialect, Reach, Stored, Tokens, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation, Stop};

const CONFIG: &str = ".openclaw/openclaw.json";
const STORE: &str = ".openclaw/agents/main/agent/auth-profiles.json";
const PROFILE: &str = "anthropic:work";

/// Longest time of one use, on a busy host too.
const TIME: Duration = Duration::from_secs(180);

/// What it says when only a login helps. "Please try again or re-authenticate" it says of every refresh that failed.
const LOGIN_NEEDED: [&str; 1] = ["reason=auth_permanent"];

/// The installed OpenClaw.
#[derive(Debug)]
pub(super) struct OpenClaw {
    program: Program,
    /// How many uses there were.
    uses: AtomicU64,
}

impl OpenClaw {
    /// The program at `program`, or the one on PATH.
    pub(super) fn find(host: &Host, program: Option<PathBuf>) -> Result<Self, NotFound> {
        let wanted = Wanted {
            name: "openclaw",
            install: "npm install -g openclaw@2026.5.28",
        };
        let program = Program::find(host, wanted, program)?;
        Ok(Self {
            program,
            uses: AtomicU64::new(0),
        })
    }
}

impl Client for OpenClaw {
    fn name(&self) -> &'static str {
        "openclaw"
    }

    fn version(&self) -> &str {
        &self.program.version
    }

    fn dialect(&self) -> Dialect {
        claude::dialect()
    }

    fn reach(&self) -> Reach {
        Reach::Proxy
    }

    fn configure(&self, home: &Home) -> Result<(), String> {
        // Nothing that is no model call is of interest, and one turn needs no tools.
        let workspace = home.path("workspace");
        let config = json!({
            "agents": {
                "defaults": {
                    "model": {"primary": "anthropic/claude-sonnet-4-6"},
                    "workspace": workspace,
                    "skipBootstrap": true,
                },
                "list": [{"id": "main", "default": true}, {"id": "work"}],
            },
            "auth": {"profiles": {PROFILE: {"provider": "anthropic", "mode": "oauth"}}},
            "plugins": {"allow": ["anthropic"]},
            "tools": {"profile": "minimal"},
        });
        home.put(CONFIG, format!("{config:#}\n").as_bytes()).map(drop)
    }

    fn log_in(&self, home: &Home, tokens: &Tokens, _: &Stop) -> Result<(), String> {
        let login = json!({
            "version": 1,
            "profiles": {PROFILE: {
                "type": "oauth",
                "provider": "anthropic",
                "email": format!("{}@example.com", tokens.account),
                "access": tokens.access.expose(),
                "refresh": tokens.refresh.expose(),
                "expires": tokens.expires_at.0,
            }},
        });
        let text = format!("{:#}\n", with_members(home.get(STORE)?, login));
        home.put(STORE, text.as_bytes()).map(drop)
    }

    fn use_once(&self, home: &Home) -> Result<Invocation, String> {
        let env = self.program.variables(home)?;
        let agent = home.agent.as_deref().unwrap_or("main");
        // Processes that share a session fail for that alone.
        let session = format!("kit-{}", self.uses.fetch_add(1, Ordering::Relaxed));
        let words = ["agent", "--local", "--agent", agent, "--session-id", &session];
        let args = [&words[..], &["--message", "hi", "--json"]].concat();
        Ok(self.program.invocation(&args, env, home, TIME))
    }

    fn store(&self, home: &Home) -> PathBuf {
        // Another agent reads main's logins through; it has no copy (openclaw-live.md 8).
        home.path(STORE)
    }

    fn read(&self, store: &[u8]) -> Stored {
        login_in(store, &format!("/profiles/{PROFILE}"), ["/access", "/refresh"])
    }

    fn outcome(&self, ended: &Ended) -> Used {
        outcome_of(ended, &LOGIN_NEEDED)
    }

    fn second(&self, home: &Home) -> Result<Option<Home>, String> {
        Ok(Some(home.for_agent("work")))
    }

    fn crowd(&self) -> usize {
        3
    }

    fn jobs(&self) -> usize {
        2
    }
}
