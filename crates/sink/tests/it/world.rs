//! A machine and an authorization server in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};
use tokensink_authserver::{AuthorizationServer, Delivery, Fault, Ledger, ServerConfig};
use tokensink_host::{ExchangeError, Liveness};
use tokensink_sink::{AcquireRequest, AgentId, Flights, Lease, ProfileId, Result, Sink, UnixMillis, Want};
use tokensink_testkit::{Faults, SeededRandom, TestHost};
use tokensink_types::Body;

pub(crate) const ISSUER: &str = "http://127.0.0.1:9400";
pub(crate) const STATE: &str = "/home/user/.openclaw";
pub(crate) const PROFILE: &str = "rig:alice@example.com";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) test: TestHost,
    pub(crate) server: Arc<Mutex<AuthorizationServer>>,
    pub(crate) random: SeededRandom,
}

pub(crate) fn strict() -> ServerConfig {
    ServerConfig::default()
}

pub(crate) fn with_grace(seconds: u64) -> ServerConfig {
    ServerConfig {
        replay_grace_seconds: seconds,
        ..ServerConfig::default()
    }
}

impl World {
    /// A server of this kind, and its provider file in the state dir.
    pub(crate) fn new(config: ServerConfig) -> Self {
        let server = AuthorizationServer::new(config, ISSUER).unwrap();
        let definition = server.provider_toml("rig");
        let test = TestHost::new();
        test.files
            .put(format!("{STATE}/tokensink/providers/rig.toml"), definition, 0o600);
        let world = Self {
            test,
            server: Arc::new(Mutex::new(server)),
            random: SeededRandom::new(7),
        };
        world.network_up();
        world
    }

    pub(crate) fn network_up(&self) {
        let world = self.clone();
        self.test
            .transport
            .on_request(move |request| world.answer(&request));
    }

    /// What the server answers.
    pub(crate) fn answer(
        &self,
        request: &Request<Body>,
    ) -> std::result::Result<Response<Body>, ExchangeError> {
        let answer = self
            .server
            .lock()
            .unwrap()
            .handle(request, self.now(), &self.random);
        match answer.delivery {
            Delivery::Whole => Ok(answer.response),
            Delivery::Nothing | Delivery::CutAfter(_) | Delivery::Held => {
                Err(ExchangeError::Ambiguous("the connection was cut".to_owned()))
            }
        }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        use tokensink_host::Clock;
        self.test.clock.now()
    }

    pub(crate) fn push(&self, fault: Fault) {
        self.server.lock().unwrap().push_fault(fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.server.lock().unwrap().clear_faults();
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.server.lock().unwrap().ledger().clone()
    }

    pub(crate) fn invalidate_access_tokens(&self) {
        self.server.lock().unwrap().invalidate_access_tokens();
    }

    /// Tokens of a new grant of `account`, as an entry of `auth-profiles.json`.
    pub(crate) fn grant_entry(&self, account: &str) -> Value {
        let issued = self
            .server
            .lock()
            .unwrap()
            .issue(
                account,
                "rig",
                &["openid", "email", "offline_access"],
                self.now(),
                &self.random,
            )
            .unwrap();
        json!({
            "type": "oauth",
            "provider": "rig",
            "email": format!("{account}@example.com"),
            "access": issued.access_token.expose(),
            "refresh": issued.refresh_token.unwrap().expose(),
            "accountId": format!("acct-{account}"),
            "expires": issued.expires_at.0,
            "note": "kept",
        })
    }

    /// Writes an agent's store.
    pub(crate) fn put_store(&self, agent: &str, profiles: &Value) {
        let text = serde_json::to_string_pretty(
            &json!({"version": 1, "profiles": profiles, "extra": {"kept": true}}),
        );
        self.test.files.put(store_path(agent), text.unwrap(), 0o600);
    }

    /// A world in which agent main is logged in as alice.
    pub(crate) fn logged_in(config: ServerConfig) -> Self {
        let world = Self::new(config);
        world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
        world
    }

    /// A sink of a new process.
    pub(crate) fn sink(&self) -> Sink {
        let sink = Sink::open_with(self.test.host(), Flights::inline()).unwrap();
        assert!(sink.warnings().is_empty(), "{:?}", sink.warnings());
        sink
    }

    /// The same with faults in every call.
    pub(crate) fn faulty(&self, faults: &Faults) -> Result<Sink> {
        Sink::open_with(self.test.host_with(faults), Flights::inline())
    }

    /// The same machine for another process an hour later; this process is dead, and with it its kernel locks.
    pub(crate) fn an_hour_after_a_crash(&self) -> Self {
        let me = self.test.host().processes.this();
        self.test.processes.set_liveness(me, Liveness::Dead);
        let later = Self {
            test: self.test.other_process(5000),
            ..self.clone()
        };
        later.test.clock.advance(HOUR);
        later
    }

    pub(crate) fn stored(&self, agent: &str, profile: &str) -> Value {
        let store: Value = serde_json::from_str(&self.test.files.text(store_path(agent))).unwrap();
        store["profiles"][profile].clone()
    }

    /// Does the API take the lease's token?
    pub(crate) fn is_live(&self, lease: &Lease) -> bool {
        let request = Request::get(format!("{ISSUER}/v1/models"))
            .header("authorization", format!("Bearer {}", lease.secret.expose()))
            .body(Body::default())
            .unwrap();
        self.answer(&request)
            .is_ok_and(|response| response.status() == 200)
    }
}

/// Loops `make(n)` until `run` says that its fault no longer fired; returns how many points there are, and at how many
/// `run` said that the login was lost.
pub(crate) fn every_point(
    run: impl Fn(&Faults) -> (bool, bool),
    make: impl Fn(usize) -> Faults,
) -> (usize, usize) {
    let mut lost = 0;
    for n in 1.. {
        let (fired, gone) = run(&make(n));
        if !fired {
            assert!(!gone);
            return (n - 1, lost);
        }
        lost += usize::from(gone);
    }
    unreachable!("the loop ends when no call is left")
}

pub(crate) fn store_path(agent: &str) -> String {
    format!("{STATE}/agents/{agent}/agent/auth-profiles.json")
}

pub(crate) fn request() -> AcquireRequest {
    AcquireRequest::new(AgentId::main(), Want::Provider("rig".to_owned()))
}

pub(crate) fn request_of(agent: &str) -> AcquireRequest {
    AcquireRequest::new(AgentId::normalise(agent), Want::Provider("rig".to_owned()))
}

pub(crate) fn request_profile(id: &str) -> AcquireRequest {
    AcquireRequest::new(AgentId::main(), Want::Profile(ProfileId::parse(id).unwrap()))
}
