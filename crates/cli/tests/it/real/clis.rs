//! The real Codex and Claude Code as processes of a home, with logins of alice at the rig.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokensink_authserver::{Issued, fingerprint};
use tokensink_conformance::vendors;
use tokensink_host::Host;
use tokensink_types::Secret;

use super::rig::{CLAUDE_SCOPES, Reuse, Rig, Vendor};
use super::{installed, npm_cpu};
use crate::support::crowd::finish;
use crate::world::{Said, World};

/// Codex asks the real hosts; nothing but the login is of interest.
const CODEX_CONFIG: &str = "model = \"gpt-5.1-codex\"\ncli_auth_credentials_store = \"file\"\n\n[analytics]\nenabled = false\n\n\
    [features]\nplugins = false\napps = false\n";

/// A home with both programs, and the servers that they ask.
pub(crate) struct Clis {
    pub(crate) world: World,
    pub(crate) rig: Rig,
    codex: PathBuf,
    claude: PathBuf,
}

/// What a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    CodexExec,
    CodexStatus,
    ClaudePrompt,
    ClaudeStatus,
}

impl Ask {
    pub(crate) const ALL: [Self; 4] = [
        Self::CodexStatus,
        Self::ClaudeStatus,
        Self::CodexExec,
        Self::ClaudePrompt,
    ];

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::CodexExec => &["exec", "--skip-git-repo-check", "-s", "read-only", "hi"],
            Self::CodexStatus => &["login", "status"],
            Self::ClaudePrompt => &["-p", "hi"],
            Self::ClaudeStatus => &["auth", "status"],
        }
    }

    /// Codex 0.169.0 gives up now and then when its token is replaced while it starts, also by itself and with nobody
    /// else there; asked again it works.
    fn stumbled(self, said: &Said) -> bool {
        let words = [
            "application network p",
            "account changed during workspace routing",
        ];
        self == Self::CodexExec && said.code == 1 && words.iter().any(|words| said.err.contains(words))
    }

    /// What it must say where the login works.
    #[track_caller]
    fn assert_works(self, said: Said) {
        let said = said.code(0);
        match self {
            Self::CodexExec | Self::ClaudePrompt => {
                assert_eq!(said.out.trim(), vendors::HELLO, "{self:?}: {said:#?}");
            }
            Self::CodexStatus => assert!(said.err.contains("Logged in using ChatGPT"), "{said:#?}"),
            Self::ClaudeStatus => assert_eq!(said.json()["loggedIn"], true, "{said:#?}"),
        }
    }
}

impl Clis {
    /// A home in which nobody is logged in, if the long run is wanted.
    pub(crate) fn start(reuse: Reuse) -> Option<Self> {
        let cpu = npm_cpu();
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let codex = format!("@openai/codex-linux-{cpu}/vendor/{triple}/bin/codex");
        let claude = format!("@anthropic-ai/claude-code-linux-{cpu}/claude");
        let clis = Self {
            codex: installed("real-clis", &codex)?,
            claude: installed("real-clis", &claude)?,
            world: World::new(),
            rig: Rig::start(reuse),
        };
        clis.world.write(".codex/config.toml", CODEX_CONFIG);
        Some(clis)
    }

    /// Codex's login file.
    pub(crate) fn auth_json(&self) -> PathBuf {
        self.world.path(".codex/auth.json")
    }

    /// Claude Code's login file.
    pub(crate) fn credentials_json(&self) -> PathBuf {
        self.world.path(".claude/.credentials.json")
    }

    /// Logs both in; their access tokens end in so many seconds.
    pub(crate) fn log_in(&self, seconds: i64) {
        self.log_in_claude(seconds);
        self.log_in_codex(seconds);
    }

    /// The command.
    pub(crate) fn command(&self, ask: Ask) -> Command {
        let program = match ask {
            Ask::CodexExec | Ask::CodexStatus => &self.codex,
            Ask::ClaudePrompt | Ask::ClaudeStatus => &self.claude,
        };
        let mut command = Command::new(program);
        command
            .args(ask.words())
            .env_clear()
            .env("HOME", self.world.path(""))
            .env("PATH", "/usr/bin:/bin")
            // For the hooks by which they ask us.
            .env("TOKENSINK_CLOCK_OFFSET_SECONDS", self.rig.ahead_seconds().to_string())
            .env("TERM", "dumb")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .env("CODEX_CA_CERTIFICATE", self.rig.front().ca())
            .envs(self.rig.front().variables())
            .current_dir(self.world.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A command line of ours, at the servers' time and through their proxy.
    pub(crate) fn ours(&self, line: &str) -> Command {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.world.command(&words);
        command
            .envs(self.rig.front().variables())
            .env(
                "TOKENSINK_CLOCK_OFFSET_SECONDS",
                self.rig.ahead_seconds().to_string(),
            )
            .env("PATH", self.path())
            .stdin(Stdio::null());
        command
    }

    /// Where the programs are found by their names, too.
    fn path(&self) -> String {
        let dir = self.world.path("programs");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, program) in [("codex", &self.codex), ("claude", &self.claude)] {
            if !dir.join(name).exists() {
                symlink(program, dir.join(name)).unwrap();
            }
        }
        format!("{}:/usr/bin:/bin", dir.display())
    }

    /// Runs a command line of ours.
    pub(crate) fn run(&self, line: &str) -> Said {
        Said::of(self.ours(line).output().unwrap())
    }

    /// Starts it.
    pub(crate) fn start_asking(&self, ask: Ask) -> Child {
        self.command(ask).spawn().unwrap()
    }

    /// A new login of Claude Code, whose access token ends in so many seconds, in the place of the present one.
    pub(crate) fn log_in_claude(&self, seconds: i64) {
        let login = claude_login(&self.rig.issue(Vendor::Anthropic, seconds));
        put(&self.credentials_json(), &login.to_string());
    }

    /// A new login of Codex.
    pub(crate) fn log_in_codex(&self, seconds: i64) {
        let login = codex_login(&self.rig.issue(Vendor::Openai, seconds));
        put(&self.auth_json(), &format!("{login:#}"));
    }

    /// How often each server refreshed: Claude's, ChatGPT's.
    pub(crate) fn refreshes(&self) -> (u64, u64) {
        let of = |vendor| self.rig.ledger(vendor).refreshes;
        (of(Vendor::Anthropic), of(Vendor::Openai))
    }

    /// Asserts that each file holds the newest refresh token of its newest login.
    #[track_caller]
    pub(crate) fn assert_newest_stored(&self) {
        let newest = |vendor| self.rig.ledger(vendor).families.last().unwrap().current.clone();
        let held = |path: PathBuf, pointer: &str| {
            let value: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            fingerprint(&Secret::new(value.pointer(pointer).unwrap().as_str().unwrap()))
        };
        let claude = held(self.credentials_json(), "/claudeAiOauth/refreshToken");
        assert_eq!(claude, newest(Vendor::Anthropic), "Claude Code's");
        let codex = held(self.auth_json(), "/tokens/refresh_token");
        assert_eq!(codex, newest(Vendor::Openai), "Codex's");
    }

    /// Runs it and asserts that the login works.
    #[track_caller]
    pub(crate) fn works(&self, ask: Ask) {
        self.ends_well(ask, self.start_asking(ask));
    }

    /// Waits for it and asserts that the login works.
    #[track_caller]
    pub(crate) fn ends_well(&self, ask: Ask, child: Child) {
        let mut said = finish(child);
        for _ in 0..3 {
            if !ask.stumbled(&said) {
                break;
            }
            said = finish(self.start_asking(ask));
        }
        ask.assert_works(said);
    }
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// `.credentials.json` as Claude Code writes it, with logins of others beside its own (clients.md 3.1).
fn claude_login(issued: &Issued) -> Value {
    json!({
        "claudeAiOauth": {
            "accessToken": issued.access_token.expose(),
            "refreshToken": issued.refresh_token.as_ref().unwrap().expose(),
            "expiresAt": issued.expires_at.0,
            "scopes": CLAUDE_SCOPES,
            "subscriptionType": "max",
            "rateLimitTier": "default_claude_max_5x",
        },
        "mcpOAuth": {"server|1": {"serverName": "server", "accessToken": "canary-mcp", "expiresAt": 1}},
        "organizationUuid": "org-alice",
    })
}

/// `auth.json` as Codex writes it (clients.md 2.1).
fn codex_login(issued: &Issued) -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": issued.id_token.as_ref().unwrap().expose(),
            "access_token": issued.access_token.expose(),
            "refresh_token": issued.refresh_token.as_ref().unwrap().expose(),
            "account_id": "acct-alice",
        },
        "last_refresh": jiff::Timestamp::from_millisecond(Host::real().clock.now().0).unwrap().to_string(),
    })
}
