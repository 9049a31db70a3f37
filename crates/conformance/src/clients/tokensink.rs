//! tokensink, like any other program: a store that OpenClaw could have written, and `tokensink chat`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_host::Host;
use tokensink_types::Secret;

use super::NotFound;
use super::installed::{Program, Wanted};
use crate::api::HELLO;
use crate::client::{Client, Stored, Tokens, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation, Stop};

/// The provider's id.
const PROVIDER: &str = "kit";
/// The profile of the login.
const PROFILE: &str = "kit:alice";
/// Exit code for "somebody must log in".
const LOGIN_NEEDED: i32 = 3;
/// Longest time of one use.
const TIME: Duration = Duration::from_secs(120);

/// The adapter.
#[derive(Debug)]
pub(super) struct Tokensink {
    program: Program,
}

impl Tokensink {
    /// The program at `program`, or the one that runs.
    pub(super) fn find(host: &Host, program: Option<PathBuf>) -> Result<Self, NotFound> {
        let wanted = Wanted {
            name: "tokensink",
            install: "cargo install --path crates/cli",
        };
        let this = || host.processes.this_program();
        let program = program.map_or_else(this, Ok);
        let program = program.map_err(|error| wanted.missing(error.to_string()))?;
        let program = Program::find(host, wanted, Some(program))?;
        Ok(Self { program })
    }

    fn invocation(&self, home: &Home, args: &[&str]) -> Invocation {
        let mut env = home.variables();
        env.push(("OPENCLAW_STATE_DIR".into(), home.path(".openclaw").into()));
        self.program.invocation(args, env, home, TIME)
    }

    fn store_name(home: &Home) -> String {
        let agent = home.agent.as_deref().unwrap_or("main");
        format!(".openclaw/agents/{agent}/agent/auth-profiles.json")
    }
}

impl Client for Tokensink {
    fn name(&self) -> &'static str {
        "tokensink"
    }

    fn version(&self) -> &str {
        &self.program.version
    }

    fn configure(&self, home: &Home) -> Result<(), String> {
        let text = |value: &str| Value::from(value).to_string();
        let definition = format!(
            "id = \"{PROVIDER}\"\nname = \"Conformance kit\"\nbilling = \"subscription\"\n\n\
             [api]\nkind = \"openai-chat\"\nbase_url = {api}\nheader = \"authorization\"\nscheme = \"Bearer\"\n\
             models = [\"kit-small\"]\n\n\
             [[auth]]\nid = \"oauth\"\nkind = \"pkce\"\nclient_id = \"kit\"\n\
             authorization_endpoint = \"https://kit.invalid/oauth/authorize\"\ntoken_endpoint = {token}\n\
             redirect_uri = \"http://127.0.0.1:0/auth/callback\"\nscopes = [\"openid\", \"email\", \"offline_access\"]\n\
             identity = {{ from = \"access_token\", email = \"/email\", \
             account = \"/https:~1~1api.openai.com~1auth/chatgpt_account_id\" }}\n\
             rotation = \"always\"\nterminal_errors = [\"invalid_grant\"]\n",
            api = text(&home.endpoints.api),
            token = text(&home.endpoints.token),
        );
        home.put(".openclaw/tokensink/providers/kit.toml", definition.as_bytes())?;
        Ok(())
    }

    fn log_in(&self, home: &Home, tokens: &Tokens, _: &Stop) -> Result<(), String> {
        let name = Self::store_name(home);
        let mut store = match home.get(&name)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))?,
            None => json!({"version": 1, "profiles": {}}),
        };
        store["profiles"][PROFILE] = json!({
            "type": "oauth", "provider": PROVIDER, "clientId": tokens.client_id,
            "access": tokens.access.expose(), "refresh": tokens.refresh.expose(), "expires": tokens.expires_at.0,
            "email": format!("{}@example.com", tokens.account), "accountId": format!("acct-{}", tokens.account),
        });
        home.put(&name, format!("{store:#}\n").as_bytes())?;
        Ok(())
    }

    fn use_once(&self, home: &Home) -> Result<Invocation, String> {
        let mut args = vec!["chat", "-p", "hello", "--model", "kit/kit-small"];
        if let Some(agent) = &home.agent {
            args.extend(["--agent", agent]);
        }
        Ok(self.invocation(home, &args))
    }

    fn store(&self, home: &Home) -> PathBuf {
        home.path(&Self::store_name(home))
    }

    fn read(&self, store: &[u8]) -> Stored {
        let value: Value = match serde_json::from_slice(store) {
            Ok(value) => value,
            Err(error) => return Stored::Unreadable(error.to_string()),
        };
        let profile = &value["profiles"][PROFILE];
        let secret = |name: &str| {
            profile[name]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(Secret::new)
        };
        if profile.is_null() {
            return Stored::Nothing;
        }
        Stored::Login {
            access: secret("access"),
            refresh: secret("refresh"),
        }
    }

    fn outcome(&self, ended: &Ended) -> Used {
        match ended.code {
            Some(0) if ended.output.contains(HELLO) => Used::Served,
            Some(LOGIN_NEEDED) => Used::LoginNeeded,
            _ => Used::Failed(ended.complaint.clone()),
        }
    }

    fn second(&self, home: &Home) -> Result<Option<Home>, String> {
        let other = home.for_agent("work");
        let bytes = home.get(&Self::store_name(home))?.unwrap_or_default();
        home.put(&Self::store_name(&other), &bytes)?;
        Ok(Some(other))
    }

    fn jobs(&self) -> usize {
        // It mostly waits.
        6
    }

    fn renew(&self, home: &Home) -> Option<Invocation> {
        Some(self.invocation(home, &["renew"]))
    }
}
