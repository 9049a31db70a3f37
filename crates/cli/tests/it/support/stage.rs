//! A strict authorization server, homes that know it as provider `rig`, and grants that are already stored there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_authserver::{Fault, FaultAction, GrantType, Ledger, Running, ServerConfig};
use tokensink_host::Host;
use tokensink_testkit::loopback;

use crate::world::{Said, World};

/// Life of the access tokens of [`Stage`]'s server in seconds, and a little more: so far apart are two expiries.
pub(crate) const ONE_LIFE: i64 = 3_700;

/// How long a server waits for a request that must come; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(15);

const SCOPES: [&str; 3] = ["openid", "email", "offline_access"];

/// A home and the server that it logs in to.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) server: Running,
}

impl Stage {
    /// A home whose provider `rig` is a server with this configuration.
    pub(crate) fn new(config: ServerConfig) -> Self {
        let host = Host::real();
        let server = Running::start(config, Arc::clone(&host.clock), Arc::clone(&host.random)).unwrap();
        let stage = Self {
            world: World::new(),
            server,
        };
        stage.introduce(&stage.world);
        stage
    }

    /// The strictest server, and a grant of `rig:alice` in main's store whose access token has run out.
    pub(crate) fn with_an_expired_grant() -> Self {
        let stage = Self::new(ServerConfig::default());
        stage.store(&stage.world, "main", "rig:alice", "alice", -1);
        stage
    }

    /// Tells a home about the server.
    pub(crate) fn introduce(&self, world: &World) {
        let definition = self.server.provider_toml("rig");
        world.write(".openclaw/tokensink/providers/rig.toml", &definition);
    }

    /// Puts a fresh grant of `account` into an agent's store, as OpenClaw would have left it there; its access token
    /// lives for `seconds` more. Returns the access token and the refresh token.
    pub(crate) fn store(
        &self,
        world: &World,
        agent: &str,
        profile: &str,
        account: &str,
        seconds: i64,
    ) -> (String, String) {
        let issued = self.server.issue(account, &SCOPES).unwrap();
        let access = issued.access_token.expose().to_owned();
        let refresh = issued.refresh_token.unwrap().expose().to_owned();
        let expires = Host::real().clock.now().0 + seconds * 1_000;
        let entry = json!({
            "type": "oauth", "provider": "rig", "access": access, "refresh": refresh, "expires": expires,
            "email": format!("{account}@example.com"), "accountId": format!("acct-{account}"), "clientId": "rig",
        });
        add_profile(world, agent, profile, entry);
        (access, refresh)
    }

    /// Asserts that the server's API takes this access token.
    #[track_caller]
    pub(crate) fn assert_works(&self, token: &str) {
        let bearer = format!("Bearer {}", token.trim());
        let headers = [("authorization", bearer.as_str())];
        let answer = loopback::send("GET", &self.server.url("/v1/models"), &headers, "");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The next refresh is handled by the server and its answer held back.
    pub(crate) fn hold_the_next_refresh(&self) {
        self.server.faults().push(Fault::on_refresh(FaultAction::Hold));
    }

    /// Waits until the server holds an answer back.
    #[track_caller]
    pub(crate) fn wait_until_held(&self) {
        assert!(
            self.server.faults().wait_until_held(1, PATIENCE),
            "no refresh came: {:#?}",
            self.server.ledger()
        );
    }

    /// Asserts how many refresh requests came and were granted, and that no spent refresh token came again.
    #[track_caller]
    pub(crate) fn assert_refreshes(&self, count: u64) -> Ledger {
        let ledger = self.server.ledger();
        assert_eq!(
            (
                ledger.posts(GrantType::RefreshToken),
                ledger.refreshes,
                ledger.reuses
            ),
            (count, count, 0),
            "requests, refreshes, reuses: {ledger:#?}"
        );
        ledger
    }
}

/// Adds a profile to an agent's store.
pub(crate) fn add_profile(world: &World, agent: &str, profile: &str, entry: Value) {
    let path = store_path(world, agent);
    let mut store = std::fs::read_to_string(&path).map_or_else(
        |_| json!({"version": 1, "profiles": {}}),
        |text| serde_json::from_str::<Value>(&text).unwrap(),
    );
    let profiles: &mut Map<String, Value> = store["profiles"].as_object_mut().unwrap();
    profiles.insert(profile.to_owned(), entry);
    let relative = format!(".openclaw/agents/{agent}/agent/auth-profiles.json");
    world.write(&relative, &format!("{store:#}\n"));
}

/// Where an agent's credentials are.
pub(crate) fn store_path(world: &World, agent: &str) -> PathBuf {
    world.state(&format!("agents/{agent}/agent/auth-profiles.json"))
}

/// An agent's stored profile as JSON.
pub(crate) fn stored(world: &World, agent: &str, profile: &str) -> Value {
    let text = std::fs::read_to_string(store_path(world, agent)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["profiles"][profile].take()
}

/// The variable that moves a process's clock by so many seconds.
pub(crate) fn clock(seconds: i64) -> [(&'static str, String); 1] {
    [("TOKENSINK_CLOCK_OFFSET_SECONDS", seconds.to_string())]
}

/// Runs a command line whose clock is moved.
pub(crate) fn run_at(world: &World, line: &str, seconds: i64) -> Said {
    let offset = seconds.to_string();
    world.run_with(line, None, &[("TOKENSINK_CLOCK_OFFSET_SECONDS", offset.as_str())])
}
