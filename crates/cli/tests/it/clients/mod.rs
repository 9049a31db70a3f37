//! The official clients of Anthropic and OpenAI, and the real Codex and Claude Code, against the real gateway in front
//! of those APIs on loopback. Nothing of a client is changed but its base URL and its key.

mod sdks;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Map, Value, json};
use tokensink_testkit::ModelApi;

use crate::support::server::{Server, log_of};
use crate::world::World;

/// A gateway with accounts of agent main, the APIs behind it, and a client's key.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) api: ModelApi,
    server: Server,
    pub(crate) key: String,
}

impl Stage {
    /// With these accounts, the first of each provider first: `(provider, name, entry without type and provider)`.
    pub(crate) fn start(accounts: &[(&str, &str, Value)]) -> Self {
        let world = World::new();
        let api = ModelApi::start();
        let urls = [
            ("anthropic", api.anthropic()),
            ("openai", api.openai()),
            ("openai-codex", api.chatgpt()),
        ];
        for (provider, url) in urls {
            let path = format!(".openclaw/tokensink/providers/{provider}.toml");
            world.write(
                &path,
                &format!("id = \"{provider}\"\n[api]\nbase_url = \"{url}\"\n"),
            );
        }
        let mut profiles = Map::new();
        let mut order: Map<String, Value> = Map::new();
        for (provider, name, entry) in accounts {
            let id = format!("{provider}:{name}");
            let mut entry = entry.clone();
            entry["provider"] = json!(provider);
            profiles.insert(id.clone(), entry);
            let ids = order.entry(*provider).or_insert_with(|| json!([]));
            ids.as_array_mut().unwrap().push(json!(id));
        }
        let agent = ".openclaw/agents/main/agent";
        let files = [
            ("auth-profiles.json", json!({"version": 1, "profiles": profiles})),
            ("auth-state.json", json!({"version": 1, "order": order})),
        ];
        for (name, value) in files {
            let path = world.write(&format!("{agent}/{name}"), &value.to_string());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let key = key(&world, "laptop");
        let server = Server::start(&world, "");
        Self {
            world,
            api,
            server,
            key,
        }
    }

    /// The gateway's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What the gateway has logged.
    pub(crate) fn log(&self) -> String {
        log_of(&self.world)
    }

    /// With what the requests of an account were answered, in order.
    pub(crate) fn statuses(&self, account: &str) -> Vec<u16> {
        let asked = self.api.asked().into_iter();
        asked
            .filter(|asked| asked.account == account)
            .map(|asked| asked.status)
            .collect()
    }
}

/// A client's key for agent main.
fn key(world: &World, name: &str) -> String {
    let line = format!("tokensink keys add {name} --agent main --json");
    let value = world.run(&line).code(0).json();
    value["key"].as_str().unwrap().to_owned()
}

/// An API key as a stored account.
fn api_key(key: &str) -> Value {
    json!({"type": "api_key", "key": key})
}
