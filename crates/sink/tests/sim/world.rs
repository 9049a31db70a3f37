//! Worlds: a machine with its stores, a server of some kind, and who asks for leases.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_authserver::{AuthorizationServer, Rotation, ServerConfig};
use tokensink_host::Clock;
use tokensink_sink::{AcquireRequest, AgentId, ExternalMode, ExternalSet, Flights, ProfileId, Sink, Want};
use tokensink_testkit::{FakeClock, MapEnvironment, MemFiles, SeededRandom};
use tokensink_types::UnixMillis;

use crate::oracle::{Oracle, Terms};
use crate::plan::{Act, Caller, Plan};
use crate::ports::Network;
use crate::run::{Setup, play};

pub(crate) const ISSUER: &str = "http://127.0.0.1:9400";
const STATE: &str = "/home/user/.openclaw";
const PROFILE: &str = "rig:alice@example.com";
const TWIN: &str = "rig:twin";
const CLAUDE: &str = "/home/user/.claude/.credentials.json";
/// Life of an access token.
pub(crate) const LIFE: Duration = Duration::from_secs(3600);

/// Mixed into the seed of the server's randomness, so that no run issues the tokens of the world's own beginning.
const TOKENS: u64 = 0x746f_6b65_6e73_0000;
/// The seed of that beginning.
const BEGINNING: u64 = u64::MAX;

/// What the server does with refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    /// Rotation with reuse detection.
    Strict,
    /// The same with a grace of 30 s for repetitions.
    Grace,
    /// The refresh token stays the same.
    Fixed,
    /// Strict, and a refresh token dies when it is not used for six hours.
    Idle,
}

/// Who has the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// Agent main alone.
    Own,
    /// Main has it, and agent work inherits it.
    Inherited,
    /// Main and work each have a copy under the same id.
    Copied,
    /// Main has it under two ids.
    Twin,
    /// Claude Code keeps it in its own file, and it is refreshed there.
    Neighbour,
}

/// A world by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spec {
    pub(crate) server: Server,
    pub(crate) layout: Layout,
    /// The login was refreshed here before, so that it has a record.
    pub(crate) recorded: bool,
    /// The access token still lives when the first one asks, but not for long.
    pub(crate) lives: bool,
}

pub(crate) const SERVERS: [Server; 4] = [Server::Strict, Server::Grace, Server::Fixed, Server::Idle];
pub(crate) const LAYOUTS: [Layout; 5] = [
    Layout::Own,
    Layout::Inherited,
    Layout::Copied,
    Layout::Twin,
    Layout::Neighbour,
];

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = if self.recorded { "second" } else { "first" };
        let lives = if self.lives { "alive" } else { "dead" };
        let words = format!("{:?}-{:?}-{record}-{lives}", self.server, self.layout);
        f.write_str(&words.to_lowercase())
    }
}

impl Spec {
    /// Every world.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for server in SERVERS {
            for layout in LAYOUTS {
                for (recorded, lives) in [(true, false), (false, false), (true, true), (false, true)] {
                    all.push(Self {
                        server,
                        layout,
                        recorded,
                        lives,
                    });
                }
            }
        }
        all
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|spec| spec.to_string() == name)
    }

    fn config(self) -> ServerConfig {
        let strict = ServerConfig {
            access_token_seconds: LIFE.as_secs(),
            ..ServerConfig::default()
        };
        match self.server {
            Server::Strict => strict,
            Server::Grace => ServerConfig {
                replay_grace_seconds: 30,
                ..strict
            },
            Server::Fixed => ServerConfig {
                rotation: Rotation::Never,
                ..strict
            },
            Server::Idle => ServerConfig {
                idle_limit_seconds: Some(6 * 3600),
                ..strict
            },
        }
    }

    pub(crate) fn terms(self) -> Terms {
        Terms {
            grace: Duration::from_secs(if self.server == Server::Grace { 30 } else { 0 }),
            rotates: self.server != Server::Fixed,
            life: LIFE,
        }
    }

    /// The agents and profiles under which the login is asked for.
    pub(crate) fn users(self) -> Vec<(AgentId, ProfileId)> {
        let user =
            |agent: &str, profile: &str| (AgentId::normalise(agent), ProfileId::parse(profile).unwrap());
        match self.layout {
            Layout::Own => vec![user("main", PROFILE)],
            Layout::Inherited | Layout::Copied => vec![user("main", PROFILE), user("work", PROFILE)],
            Layout::Twin => vec![user("main", PROFILE), user("main", TWIN)],
            Layout::Neighbour => vec![user("main", "anthropic:claude-cli")],
        }
    }

    /// The stores that hold the login, with where in them it stands.
    pub(crate) fn stores(self) -> Vec<(String, Vec<&'static str>)> {
        match self.layout {
            Layout::Own | Layout::Inherited => vec![(store_path("main"), vec![PROFILE])],
            Layout::Copied => vec![
                (store_path("main"), vec![PROFILE]),
                (store_path("work"), vec![PROFILE]),
            ],
            Layout::Twin => vec![(store_path("main"), vec![PROFILE, TWIN])],
            Layout::Neighbour => vec![(CLAUDE.to_owned(), vec!["claudeAiOauth"])],
        }
    }

    /// The store and the profile in it by which a user has the login.
    pub(crate) fn place_of(self, user: usize) -> (String, String) {
        let users = self.users();
        let (agent, profile) = &users[user % users.len()];
        let owner = if self.layout == Layout::Copied {
            agent.as_str()
        } else {
            "main"
        };
        (store_path(owner), profile.to_string())
    }

    /// How long after the beginning the first one asks.
    pub(crate) fn start(self) -> Duration {
        // The margin of a token of one hour is five minutes, and fifteen where a neighbour must be forestalled.
        if self.lives {
            LIFE - Duration::from_secs(120)
        } else {
            LIFE + Duration::from_secs(1)
        }
    }
}

fn store_path(agent: &str) -> String {
    format!("{STATE}/agents/{agent}/agent/auth-profiles.json")
}

/// A world as it stands before a run. Forks of it go their own ways.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) spec: Spec,
    files: MemFiles,
    clock: FakeClock,
    pub(crate) env: MapEnvironment,
    server: AuthorizationServer,
    oracle: Oracle,
    /// The first store as it was when the login was new.
    first_store: (String, Vec<u8>),
}

impl Base {
    pub(crate) fn new(spec: Spec) -> Self {
        let clock = FakeClock::default();
        let files = MemFiles::new(Arc::new(clock.clone()));
        files.mkdir("/home/user");
        let server = AuthorizationServer::new(spec.config(), ISSUER).unwrap();
        let mut base = Self {
            spec,
            files,
            clock,
            env: MapEnvironment::default(),
            server,
            oracle: Oracle::new(spec.terms()),
            first_store: (String::new(), Vec::new()),
        };
        base.furnish();
        let first = spec.stores().remove(0).0;
        base.first_store = (first.clone(), base.files.text(&first).into_bytes());
        if spec.recorded {
            base.refresh_once();
        }
        base.files.settle();
        base
    }

    fn furnish(&mut self) {
        let definition = self.server.provider_toml("rig");
        self.files.put(
            format!("{STATE}/tokensink/providers/rig.toml"),
            &definition,
            0o600,
        );
        let random = SeededRandom::new(7);
        let named = self.spec.layout != Layout::Neighbour;
        let login = new_login(
            &mut self.server,
            &mut self.oracle,
            ("alice", named),
            self.clock.now(),
            &random,
        );
        match self.spec.layout {
            Layout::Own | Layout::Inherited => self.put_store("main", &json!({PROFILE: login})),
            Layout::Copied => {
                self.put_store("main", &json!({PROFILE: login}));
                self.put_store("work", &json!({PROFILE: login}));
            }
            Layout::Twin => self.put_store("main", &json!({PROFILE: login, TWIN: login})),
            Layout::Neighbour => self.put_neighbour(&login),
        }
    }

    fn put_store(&self, agent: &str, profiles: &Value) {
        let mut profiles = profiles.clone();
        profiles["rig:key"] = json!({"type": "api_key", "provider": "rig", "key": "sk-untouched"});
        let store = json!({"version": 1, "profiles": profiles, "extra": {"kept": true}});
        let text = serde_json::to_string_pretty(&store).unwrap();
        self.files.put(store_path(agent), text, 0o600);
    }

    fn put_neighbour(&self, login: &Value) {
        let grace = self.spec.terms().grace.as_secs();
        let rotation = if self.spec.server == Server::Fixed {
            "never"
        } else {
            "unknown"
        };
        // Claude Code's file does not say whose the login is, but the answers do (clients.md 3.2).
        let rig = self.server.provider_toml("rig");
        let identity = rig.lines().find(|line| line.starts_with("identity")).unwrap();
        let definition = format!(
            "id = \"anthropic\"\n[[auth]]\nid = \"oauth\"\nclient_id = \"rig\"\ntoken_endpoint = \"{ISSUER}/oauth/token\"\n\
             replay_grace_seconds = {grace}\nrotation = \"{rotation}\"\n{identity}\n"
        );
        self.files.put(
            format!("{STATE}/tokensink/providers/anthropic.toml"),
            definition,
            0o600,
        );
        let file = json!({
            "claudeAiOauth": {
                "accessToken": login["access"],
                "refreshToken": login["refresh"],
                "expiresAt": login["expires"],
                "scopes": ["user:inference", "user:profile"],
                "subscriptionType": "max",
            },
            "mcpOAuth": {"server": {"accessToken": "theirs"}},
        });
        self.files.put(CLAUDE, file.to_string(), 0o600);
        let setup = self.fork(1, false);
        let process = setup.stage.process("setup", Vec::new());
        setup.stage.run(&[process], 0, |process| {
            let sink = Sink::open_with(setup.host(process, Vec::new()), Flights::inline()).unwrap();
            let set = ExternalSet {
                cli: "claude".to_owned(),
                mode: ExternalMode::Cooperative,
                place: None,
                terminal: false,
            };
            sink.external_set(&set).unwrap();
        });
        self.take_files(setup.stage.files());
    }

    /// Copies what a fork has written.
    fn take_files(&self, files: &MemFiles) {
        for (path, bytes) in files.snapshot() {
            let mode = files.mode(&path).unwrap_or(0o600);
            self.files.put(path, bytes, mode);
        }
    }

    /// The first store as it was when the login was new.
    pub(crate) fn oldest_store(&self) -> (String, Vec<u8>) {
        self.first_store.clone()
    }

    /// Nothing in an answer tells any more whose it is.
    pub(crate) fn forget_identity(&self) {
        let path = format!("{STATE}/tokensink/providers/rig.toml");
        let text = self.files.text(&path);
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("identity"))
            .collect();
        self.files.put(path, kept.join("\n"), 0o600);
    }

    fn refresh_once(&mut self) {
        let plan = Plan {
            seed: BEGINNING,
            acts: vec![Act::of(LIFE + Duration::from_secs(1), Caller::calm())],
        };
        let setup = self.fork(plan.seed, false);
        play(&setup, &plan);
        let oracle = setup.network.oracle.lock().unwrap().clone();
        assert_eq!(oracle.violations, Vec::<String>::new());
        self.files = setup.stage.files().clone();
        self.clock = setup.stage.clock().clone();
        self.server = setup.network.server.lock().unwrap().clone();
        self.oracle = oracle;
    }

    /// A copy of the world in which one run is played.
    pub(crate) fn fork(&self, seed: u64, traced: bool) -> Setup {
        let clock = FakeClock::at(self.clock.now());
        let epoch = UnixMillis(clock.now().0 - i64::try_from(clock.monotonic().as_millis()).unwrap());
        let files = self.files.fork(Arc::new(clock.clone()));
        let stage = crate::stage::Stage::new(clock, files, seed, traced);
        let network = Network {
            server: Arc::new(Mutex::new(self.server.clone())),
            oracle: Arc::new(Mutex::new(self.oracle.clone())),
            random: SeededRandom::new(seed ^ TOKENS),
            epoch,
        };
        Setup::new(self.spec, stage, network, self.env.clone(), seed)
    }
}

/// A login of `account`, as an entry of a store; `named` where the store has room for whose it is.
pub(crate) fn new_login(
    server: &mut AuthorizationServer,
    oracle: &mut Oracle,
    (account, named): (&str, bool),
    now: UnixMillis,
    random: &SeededRandom,
) -> Value {
    let scopes = ["openid", "email", "offline_access"];
    let issued = server.issue(account, "rig", &scopes, now, random).unwrap();
    let refresh = issued.refresh_token.unwrap();
    oracle.login(
        (account, named),
        issued.access_token.expose(),
        refresh.expose(),
        issued.expires_at,
    );
    json!({
        "type": "oauth",
        "provider": "rig",
        "email": format!("{account}@example.com"),
        "access": issued.access_token.expose(),
        "refresh": refresh.expose(),
        "accountId": format!("acct-{account}"),
        "expires": issued.expires_at.0,
        "note": "kept",
    })
}

pub(crate) fn request(user: &(AgentId, ProfileId), wait: Duration) -> AcquireRequest {
    AcquireRequest {
        wait,
        ..AcquireRequest::new(user.0.clone(), Want::Profile(user.1.clone()))
    }
}
