//! A machine in memory for the tests of this crate: a state dir with a provider of its own, `rig`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokensink_host::Liveness;
use tokensink_host::lock::KernelLock;
use tokensink_testkit::{FakeProcesses, TestHost};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{Account, AgentId, ProfileId, ProviderId, SpendKey, TokenSet, UnixMillis};

use crate::flights::Flights;
use crate::owner::Target;
use crate::sink::Sink;

/// The state dir.
pub(crate) const STATE: &str = "/home/user/.openclaw";

/// `rig`, with an alias, a revocation endpoint and a login of another program; `mute` has no revocation endpoint.
const RIG: &str = r#"
id = "rig"
name = "Rig"
aliases = ["r1g", "rig-old"]
billing = "subscription"
[api]
kind = "openai-chat"
base_url = "http://127.0.0.1:9500/v1"
models = ["rig-small", "rig-large"]
[api.aliases]
tiny = "rig-small"
[[auth]]
id = "oauth"
kind = "pkce"
client_id = "rig"
authorization_endpoint = "http://127.0.0.1:9400/auth"
token_endpoint = "http://127.0.0.1:9400/token"
revocation_endpoint = "http://127.0.0.1:9400/revoke"
redirect_uri = "http://127.0.0.1:1455/auth/callback"
scopes = ["openid"]
[[auth]]
id = "api-key"
kind = "api_key"
[[auth]]
id = "cli"
kind = "external"
cli = "rigctl"
refresh_with = "oauth"
"#;

/// A machine.
pub(crate) struct World {
    /// Its ports.
    pub(crate) test: TestHost,
}

impl World {
    /// A machine with the provider `rig` and no logins.
    pub(crate) fn new() -> Self {
        let world = Self {
            test: TestHost::new(),
        };
        world.put("tokensink/providers/rig.toml", RIG);
        let mute = RIG
            .replace("\"rig\"", "\"mute\"")
            .replace("\"r1g\", \"rig-old\"", "")
            .replace("tiny", "little");
        let mute = mute
            .lines()
            .filter(|line| !line.starts_with("revocation"))
            .collect::<Vec<_>>()
            .join("\n");
        world.put("tokensink/providers/mute.toml", &mute);
        world
    }

    /// Opens a sink, as every command does.
    pub(crate) fn sink(&self) -> Sink {
        let sink = self.sink_with_warnings();
        assert_eq!(sink.warnings(), [""; 0]);
        sink
    }

    /// Opens a sink on files that are not in order.
    pub(crate) fn sink_with_warnings(&self) -> Sink {
        Sink::open_with(self.test.host(), Flights::inline()).unwrap()
    }

    /// Writes a file below the state dir.
    pub(crate) fn put(&self, path: &str, text: &str) {
        self.test.files.put(at(path), text, 0o600);
    }

    /// A file below the state dir; empty when there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        let bytes = self.test.files.snapshot().remove(&at(path)).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// A JSON file below the state dir; null when there is none.
    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap_or_default()
    }

    /// Stores the profiles of an agent.
    pub(crate) fn store(&self, agent: &str, profiles: &Value) {
        let text = json!({"version": 1, "profiles": profiles}).to_string();
        self.put(&format!("agents/{agent}/agent/auth-profiles.json"), &text);
    }

    /// The profiles that an agent has stored.
    pub(crate) fn stored(&self, agent: &str) -> Value {
        self.json(&format!("agents/{agent}/agent/auth-profiles.json"))["profiles"].clone()
    }

    /// The state of an agent.
    pub(crate) fn state(&self, agent: &str) -> Value {
        self.json(&format!("agents/{agent}/agent/auth-state.json"))
    }
}

/// A path below the state dir.
pub(crate) fn at(path: &str) -> PathBuf {
    PathBuf::from(STATE).join(path)
}

/// A grant of `provider` that ends an hour after the machine's first moment; `name` tells its tokens apart.
pub(crate) fn oauth(provider: &str, name: &str) -> Value {
    json!({
        "type": "oauth",
        "provider": provider,
        "access": format!("access-{name}-canary"),
        "refresh": format!("refresh-{name}-canary"),
        "expires": 1_767_225_600_000_i64 + 3_600_000,
        "accountId": format!("account-{name}"),
        "email": format!("{name}@example.com"),
    })
}

/// A key of `provider`.
pub(crate) fn key(provider: &str) -> Value {
    json!({"type": "api_key", "provider": provider, "key": "sk-canary"})
}

/// An agent id.
pub(crate) fn agent(text: &str) -> AgentId {
    AgentId::normalise(text)
}

/// A profile id.
pub(crate) fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

/// The generation that [`oauth`] stores under `name`, ending `minutes` after the machine's first moment.
pub(crate) fn generation(name: &str, minutes: i64) -> Generation {
    Generation {
        tokens: TokenSet {
            access: format!("access-{name}-canary").into(),
            refresh: Some(format!("refresh-{name}-canary").into()),
            expires: Some(UnixMillis(1_767_225_600_000 + minutes * 60_000)),
            id_token: None,
        },
        account: Account {
            account_id: Some(format!("account-{name}")),
            email: Some(format!("{name}@example.com")),
            ..Account::default()
        },
        issued_at: None,
        fields: BTreeMap::new(),
    }
}

/// The key of what [`generation`] would send.
pub(crate) fn spend(name: &str) -> SpendKey {
    SpendKey::of(&format!("refresh-{name}-canary").into())
}

impl World {
    /// Writes a refresh record: `generation` is the newest that is known, `edit` says the rest.
    pub(crate) fn record(
        &self,
        owner: &str,
        profile: &str,
        newest: Generation,
        edit: impl FnOnce(&mut Record),
    ) {
        let sink = self.sink();
        let key = sink.record_key(&target(owner, profile)).unwrap().unwrap();
        let provider = ProviderId::parse(id(profile).provider_part().unwrap()).unwrap();
        let mut record = Record::idle(provider, key.profile, key.store, Some(newest));
        edit(&mut record);
        sink.journal().write(&record).unwrap();
    }

    /// The refresh record as it is now.
    pub(crate) fn recorded(&self, owner: &str, profile: &str) -> Option<Record> {
        let sink = self.sink();
        let key = sink.record_key(&target(owner, profile)).unwrap().unwrap();
        sink.journal()
            .read(&key)
            .unwrap()
            .map(|record| Record::clone(&record))
    }

    /// Takes the refresh lock of a profile for process 4711.
    pub(crate) fn refreshing_elsewhere(&self, provider: &str, profile: &str) -> KernelLock {
        let other = self.test.other_process(4711);
        self.test
            .processes
            .set_liveness(FakeProcesses::id(4711), Liveness::Running);
        let provider = ProviderId::parse(provider).unwrap();
        let path = self.sink().refresh_lock_path(&provider, &id(profile));
        KernelLock::try_acquire(&other.host(), &path).unwrap()
    }

    /// Every file that holds `text`.
    pub(crate) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.test
            .files
            .snapshot()
            .into_iter()
            .filter(|(_, bytes)| holds(bytes))
            .map(|(path, _)| path)
            .collect()
    }
}

/// A profile in its owner's store.
pub(crate) fn target(owner: &str, profile: &str) -> Target {
    Target::of_agent(&agent(owner), &id(profile))
}

/// A whole answer with these headers.
pub(crate) fn whole(headers: &http::HeaderMap) -> crate::CallOutcome<'_> {
    crate::CallOutcome::Served {
        headers,
        proof: crate::Proof::Whole,
    }
}
