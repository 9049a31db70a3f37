//! A state dir in a temporary directory, a scripted API, and gateways between it and the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokensink_authserver::Issued;
use tokensink_gateway::{Bounds, Gateway, Options, Running};
use tokensink_host::{Host, HttpTransport, OsFiles, OsProcesses, OsRandom, SystemClock};
use tokensink_sink::{AgentId, Sink};
use tokensink_testkit::{MapEnvironment, Seen, Talk, Upstream};

use crate::raw::Client;

/// The key of agent main.
pub(crate) const KEY: &str = "tsk-test-canary";

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) upstream: Upstream,
}

impl World {
    /// An API that does as `handler` says, and agent main with these keys of it, in this order.
    pub(crate) fn new(keys: &[&str], handler: impl Fn(&Seen, &mut Talk) + Send + Sync + 'static) -> Self {
        let world = Self {
            dir: tempfile::Builder::new()
                .prefix("tokensink-gateway-")
                .tempdir()
                .unwrap(),
            upstream: Upstream::start(handler),
        };
        world.provider(&format!("{}/base", world.upstream.url()));
        let profiles: serde_json::Map<_, _> = keys
            .iter()
            .map(|name| {
                let entry = json!({"type": "api_key", "provider": "rig", "key": format!("sk-{name}")});
                (format!("rig:{name}"), entry)
            })
            .collect();
        let store = json!({"version": 1, "profiles": profiles}).to_string();
        world.put("agents/main/agent/auth-profiles.json", &store);
        let order: Vec<_> = keys.iter().map(|name| format!("rig:{name}")).collect();
        let state = json!({"version": 1, "order": {"rig": order}}).to_string();
        world.put("agents/main/agent/auth-state.json", &state);
        world
    }

    /// Defines the provider `rig` with this base URL.
    pub(crate) fn provider(&self, base_url: &str) {
        let provider = format!(
            "id = \"rig\"\nname = \"Rig\"\nbilling = \"subscription\"\n[api]\nkind = \"openai-chat\"\n\
             base_url = \"{base_url}\"\nmodels = [\"small\"]\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n"
        );
        self.put("tokensink/providers/rig.toml", &provider);
    }

    /// Makes `rig` a provider with logins, by the definition of an authorization server, and agent main logged in.
    pub(crate) fn login(&self, definition: &str, profile: &str, issued: &Issued) {
        self.logins(definition, &[(profile, issued)]);
    }

    /// The same with several logins.
    pub(crate) fn logins(&self, definition: &str, logins: &[(&str, &Issued)]) {
        let base = format!("base_url = \"{}/base\"", self.upstream.url());
        let lines = definition.lines().map(|line| {
            let is_base = line.trim_start().starts_with("base_url");
            if is_base { &*base } else { line }
        });
        self.put(
            "tokensink/providers/rig.toml",
            &lines.collect::<Vec<_>>().join("\n"),
        );
        let entry = |issued: &Issued| {
            json!({
                "type": "oauth",
                "provider": "rig",
                "access": issued.access_token.expose(),
                "refresh": issued.refresh_token.as_ref().unwrap().expose(),
                "expires": issued.expires_at.0,
            })
        };
        let profiles: serde_json::Map<_, _> = logins
            .iter()
            .map(|(profile, issued)| ((*profile).to_owned(), entry(issued)))
            .collect();
        let store = json!({"version": 1, "profiles": profiles}).to_string();
        self.put("agents/main/agent/auth-profiles.json", &store);
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join(".openclaw")
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.state_dir().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A sink of its own on the state dir, as another process would have it.
    pub(crate) fn sink(&self) -> Sink {
        self.sink_at(0)
    }

    /// The same of a process whose clock is ahead by so many seconds.
    pub(crate) fn sink_at(&self, ahead: i64) -> Sink {
        let env = MapEnvironment::default();
        env.set("TOKENSINK_CLOCK_OFFSET_SECONDS", ahead.to_string());
        env.set_home(Some(self.dir.path().to_owned()));
        env.set("OPENCLAW_STATE_DIR", self.state_dir().to_str().unwrap());
        let env: Arc<dyn tokensink_host::Environment> = Arc::new(env);
        let host = Host {
            clock: Arc::new(SystemClock::from_env(&*env)),
            random: Arc::new(OsRandom),
            files: Arc::new(OsFiles),
            transport: Arc::new(HttpTransport::new(Arc::clone(&env), Vec::new())),
            processes: Arc::new(OsProcesses::new()),
            env,
        };
        let sink = Sink::open(host).unwrap();
        assert_eq!(sink.warnings(), [""; 0]);
        sink
    }

    pub(crate) fn gateway(&self) -> Running {
        self.gateway_with(Bounds::default())
    }

    pub(crate) fn gateway_with(&self, bounds: Bounds) -> Running {
        Self::gateway_on(self.sink(), bounds)
    }

    /// A gateway on a sink that the test keeps a clone of.
    pub(crate) fn gateway_on(sink: Sink, bounds: Bounds) -> Running {
        let options = Options {
            names: vec!["gateway".to_owned(), "g".to_owned()],
            keys: vec![(KEY.into(), AgentId::main())],
            bounds,
            workers: 2,
            ..Options::default()
        };
        Gateway::start(sink, &options).unwrap()
    }
}

pub(crate) fn client(gateway: &Running) -> Client {
    Client::connect(gateway.addresses()[0])
}

/// The error of an answer of the gateway's own.
pub(crate) fn error(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["error"].clone()
}

/// Waits until something holds; a test that waits in vain fails.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{what} does not come about"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
