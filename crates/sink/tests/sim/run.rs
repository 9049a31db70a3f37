//! One run: its acts, then the same ending for all. The faults stop, time passes, and every user must be served with
//! a token that the server takes, or be told exactly what was lost.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_host::Clock;
use tokensink_host::Host;
use tokensink_sink::{AcquireRequest, ErrorKind, Flights, Lease, Sink, SinkError};
use tokensink_testkit::MapEnvironment;
use tokensink_types::Body;

use crate::broken::Lie;
use crate::disk::Holdings;
use crate::plan::{Act, Caller, Intruder, Net, Plan};
use crate::ports::{self, Hand, Network};
use crate::stage::{Life, Stage};
use crate::world::{self, ISSUER, LIFE, Spec};

/// How often the last callers look again while they are told to try later.
const LAST_TRIES: usize = 12;

/// A fork of a world with everything that a run needs.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) spec: Spec,
    pub(crate) stage: Stage,
    pub(crate) network: Network,
    env: MapEnvironment,
    seed: u64,
    pub(crate) lie: Option<Lie>,
    /// Another program has logged in or blanked the login: what the stores hold is its doing.
    intruded: Arc<Mutex<Vec<Intruder>>>,
}

/// A login that did not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The server took the token, and its answer never became durable.
    LostAnswer,
    /// The server answered with another account's tokens.
    OtherAccount,
    /// Another program has blanked or replaced the only place where the login stood.
    Blanked,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Calls of each process of the acts.
    pub(crate) calls: Vec<usize>,
    /// How many of the planned troubles came.
    pub(crate) fired: usize,
    pub(crate) losses: Vec<Loss>,
    pub(crate) violations: Vec<String>,
    pub(crate) sends: usize,
    pub(crate) cases: std::collections::BTreeMap<crate::oracle::Case, u64>,
    /// Bytes of the last request and of its answer.
    pub(crate) lengths: (usize, usize),
    pub(crate) trace: Vec<String>,
}

impl Setup {
    pub(crate) fn new(spec: Spec, stage: Stage, network: Network, env: MapEnvironment, seed: u64) -> Self {
        let intruded = Arc::new(Mutex::new(Vec::new()));
        let setup = Self {
            spec,
            stage,
            network,
            env,
            seed,
            lie: None,
            intruded,
        };
        setup.let_others_in();
        setup
    }

    /// An API refuses this lease's token from now on.
    fn rejected(&self, lease: &Lease) {
        let mut oracle = self.network.oracle.lock().unwrap();
        oracle.rejected(lease.secret.expose());
    }

    /// The ports of a process.
    pub(crate) fn host(&self, process: usize, nets: Vec<Net>) -> Host {
        let hand = Hand {
            stage: self.stage.clone(),
            process,
            lie: self.lie,
            oracle: Arc::clone(&self.network.oracle),
        };
        ports::host(&hand, &self.env, &self.network, nets, self.seed)
    }

    fn let_others_in(&self) {
        let older: Vec<(String, Vec<u8>)> = self.images();
        let (files, network, spec) = (self.stage.files().clone(), self.network.clone(), self.spec);
        // Not the stage itself, which would then keep itself alive for ever.
        let (clock, intruded) = (self.stage.clock().clone(), Arc::clone(&self.intruded));
        self.stage.on_intrusion(move |intruder| {
            network.oracle.lock().unwrap().others_write(&files);
            // A program that writes a login takes the lock that OpenClaw takes; it comes another time.
            let held = |path: &str| {
                files
                    .snapshot()
                    .contains_key(std::path::Path::new(&format!("{path}.lock")))
            };
            for (path, image) in &older {
                let takes_lock = matches!(intruder, Intruder::OtherAccount | Intruder::Blank);
                if takes_lock && held(path) {
                    continue;
                }
                let now = files.snapshot().remove(std::path::Path::new(path));
                let Some(Ok(store)) = now.map(|now| serde_json::from_slice::<Value>(&now)) else {
                    continue;
                };
                let bytes = match intruder {
                    Intruder::OlderImage => image.clone(),
                    Intruder::Reordered => reordered(&store).to_string().into_bytes(),
                    Intruder::Blank => edited(&store, spec, |entry| {
                        entry["access"] = json!("");
                        entry["refresh"] = json!("");
                    }),
                    Intruder::OtherAccount => {
                        let mut server = network.server.lock().unwrap();
                        let mut oracle = network.oracle.lock().unwrap();
                        let now = clock.now();
                        let login =
                            world::new_login(&mut server, &mut oracle, ("bob", true), now, &network.random);
                        edited(&store, spec, |entry| entry.clone_from(&login))
                    }
                };
                files.put(path, bytes, 0o600);
                intruded.lock().unwrap().push(intruder);
            }
            network.oracle.lock().unwrap().others_wrote(&files);
        });
    }

    fn images(&self) -> Vec<(String, Vec<u8>)> {
        let all = self.stage.files().snapshot();
        let stores = self.spec.stores().into_iter();
        stores
            .filter_map(|(path, _)| Some((path.clone(), all.get(std::path::Path::new(&path))?.clone())))
            .collect()
    }

    fn violation(&self, what: String) {
        self.network.oracle.lock().unwrap().violations.push(what);
    }

    /// Does the API take the token?
    fn is_taken(&self, access: &str) -> bool {
        let request = http::Request::get(format!("{ISSUER}/v1/models"))
            .header("authorization", format!("Bearer {access}"))
            .body(Body::default())
            .unwrap();
        let now = self.network.now(&self.stage);
        let mut server = self.network.server.lock().unwrap();
        server
            .handle(&request, now, &self.network.random)
            .response
            .status()
            == 200
    }
}

/// The same store with its keys the other way round.
fn reordered(store: &Value) -> Value {
    match store {
        Value::Object(map) => {
            let turned = map
                .iter()
                .rev()
                .map(|(key, value)| (key.clone(), reordered(value)));
            Value::Object(turned.collect())
        }
        other => other.clone(),
    }
}

fn edited(store: &Value, spec: Spec, edit: impl Fn(&mut Value)) -> Vec<u8> {
    let mut store = store.clone();
    for (_, places) in spec.stores() {
        for place in places {
            if let Some(entry) = store.get_mut("profiles").and_then(|all| all.get_mut(place)) {
                edit(entry);
            }
        }
    }
    store.to_string().into_bytes()
}

/// Plays a run and its ending.
pub(crate) fn play(setup: &Setup, plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    setup.network.oracle.lock().unwrap().clock_turned = plan.turns_clock();
    for act in &plan.acts {
        setup.stage.clock().advance(act.after);
        play_act(setup, act, &mut outcome);
        let mut oracle = setup.network.oracle.lock().unwrap();
        oracle.look(setup.stage.files());
    }
    setup.stage.note(|| "-- the faults stop".to_owned());
    setup.stage.clock().advance(LIFE + Duration::from_secs(60));
    for user in 0..setup.spec.users().len() {
        if let Some(loss) = last_call(setup, user) {
            outcome.losses.push(loss);
        }
    }
    look_at_stores(setup);
    let mut oracle = setup.network.oracle.lock().unwrap();
    oracle.look(setup.stage.files());
    outcome.violations.clone_from(&oracle.violations);
    outcome.cases.clone_from(&oracle.cases);
    outcome.sends = oracle.sends();
    outcome.lengths = oracle.lengths;
    outcome.trace = setup.stage.trace();
    outcome
}

fn play_act(setup: &Setup, act: &Act, outcome: &mut Outcome) {
    setup.stage.note(|| format!("-- {:?} later", act.after));
    let processes: Vec<usize> = act
        .callers
        .iter()
        .enumerate()
        .map(|(at, caller)| setup.stage.process(format!("p{at}"), caller.troubles.clone()))
        .collect();
    let first = processes[0];
    setup.stage.run(&processes, act.switch, |process| {
        let caller = &act.callers[process - first];
        // Also when it dies, and before anybody else has the turn.
        let _over = Over(setup, process);
        call(setup, process, caller);
    });
    for process in processes {
        let (_, calls, fired) = setup.stage.end_of(process);
        outcome.calls.push(calls);
        outcome.fired += fired;
    }
}

/// Tells the oracle that a process waits for nothing any more.
struct Over<'a>(&'a Setup, usize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.network.oracle.lock().unwrap().over(self.1);
    }
}

/// One process from its start to its end.
fn call(setup: &Setup, process: usize, caller: &Caller) {
    let user = &setup.spec.users()[caller.user % setup.spec.users().len()];
    let sink = match Sink::open_with(setup.host(process, caller.net.clone()), Flights::inline()) {
        Ok(sink) => sink,
        Err(error) => return setup.stage.note(|| format!("  not opened: {error}")),
    };
    if caller.renews {
        let report = sink.renew(None);
        return setup
            .stage
            .note(|| format!("  renewed: {:?}", report.map(|report| report.outcomes)));
    }
    let mut request = world::request(user, caller.wait);
    let mut result = sink.acquire(&request);
    if let (true, Ok(lease)) = (caller.rejected, &result) {
        handed_out(setup, lease);
        setup.rejected(lease);
        request.rejected = Some(lease.secret.clone());
        result = sink.acquire(&request);
    }
    match &result {
        Ok(lease) => handed_out(setup, lease),
        Err(error) => told(setup, caller.user, error),
    }
    setup.stage.note(|| match &result {
        Ok(lease) => format!("  served: {}", lease.note.as_deref().unwrap_or("fresh")),
        Err(error) => format!("  {:?} {}: {error}", error.kind(), error.code()),
    });
    if setup.stage.end_of(process).0 == Life::Died {
        setup.violation("a dead process came to its end".to_owned());
    }
}

fn handed_out(setup: &Setup, lease: &Lease) {
    let wall = setup.stage.clock().now();
    let mut oracle = setup.network.oracle.lock().unwrap();
    oracle.handed_out(setup.stage.files(), lease.secret.expose(), wall);
}

/// Only a login helps only where something was lost.
fn told(setup: &Setup, user: usize, error: &SinkError) {
    if error.kind() == ErrorKind::LoginNeeded && loss_of(setup, user, error, true).is_none() {
        setup.violation(format!(
            "a login was demanded without need: {} {error}",
            error.code()
        ));
    }
}

fn loss_of(setup: &Setup, user: usize, error: &SinkError, faults: bool) -> Option<Loss> {
    let oracle = setup.network.oracle.lock().unwrap();
    match error.code() {
        "refused_after_lost_answer" => oracle
            .lost_answer(setup.stage.files(), faults)
            .then_some(Loss::LostAnswer),
        // A copy went on, and another login was written over what it had.
        "refused" if error.to_string().contains("spent_by_copy") => setup
            .intruded
            .lock()
            .unwrap()
            .contains(&Intruder::OtherAccount)
            .then_some(Loss::Blanked),
        "other_account" => oracle.saw_wrong_account().then_some(Loss::OtherAccount),
        // A copy that was never refreshed here has no record from which it could be restored.
        "missing_credential" => {
            let blanked = setup.intruded.lock().unwrap().contains(&Intruder::Blank);
            let (store, profile) = setup.spec.place_of(user);
            let held = Holdings::of(&setup.stage.files().durable());
            (blanked && !held.has_record(&store, &profile)).then_some(Loss::Blanked)
        }
        _ => None,
    }
}

/// After everything: a user asks until there is a definite answer.
fn last_call(setup: &Setup, user: usize) -> Option<Loss> {
    let mut said = String::new();
    for number in 0..LAST_TRIES {
        let process = setup.stage.process(format!("last-{user}"), Vec::new());
        let outcome = Mutex::new(None);
        setup.stage.run(&[process], 0, |process| {
            *outcome.lock().unwrap() = Some(ask_for_good(setup, process, user));
        });
        match outcome.into_inner().unwrap() {
            Some(Ok(())) => return None,
            Some(Err(error)) if error.kind() == ErrorKind::TryAgain => {
                let _ = write!(said, " / {}: {error}", error.code());
                // A lock or a wait that the wall clock puts into the future ends when the clock is there.
                let turned = setup.network.oracle.lock().unwrap().clock_turned;
                let pause = if turned && number > 2 { 3600 } else { 70 };
                setup.stage.clock().advance(Duration::from_secs(pause));
            }
            Some(Err(error)) => return lost(setup, user, &error),
            None => setup.violation("the last caller died".to_owned()),
        }
    }
    setup.violation(format!("user {user} is told to try again for ever{said}"));
    None
}

/// A loss must be one that could not be averted, told with its reason, and written down in the record.
fn lost(setup: &Setup, user: usize, error: &SinkError) -> Option<Loss> {
    setup
        .stage
        .note(|| format!("  {:?} {}: {error}", error.kind(), error.code()));
    let loss = loss_of(setup, user, error, false);
    let is_told = error.kind() == ErrorKind::LoginNeeded && error.fix().is_some();
    if loss.is_none() || !is_told {
        setup.violation(format!(
            "lost without reason: {:?} {} {error}",
            error.kind(),
            error.code()
        ));
    }
    loss
}

fn ask_for_good(setup: &Setup, process: usize, user: usize) -> Result<(), SinkError> {
    let sink = Sink::open_with(setup.host(process, Vec::new()), Flights::inline())?;
    let user = &setup.spec.users()[user];
    let mut request = world::request(user, Duration::from_secs(90));
    let lease = sink.acquire(&request)?;
    handed_out(setup, &lease);
    if setup.is_taken(lease.secret.expose()) {
        return Ok(());
    }
    // The wall clock may have been turned, or the token ended elsewhere: an API says so, and one refresh follows.
    setup.rejected(&lease);
    setup.stage.clock().advance(Duration::from_secs(61));
    request.rejected = Some(lease.secret.clone());
    let lease = sink.acquire(&AcquireRequest { ..request })?;
    handed_out(setup, &lease);
    if !setup.is_taken(lease.secret.expose()) {
        setup.violation("after everything a token is handed out that the server does not take".to_owned());
    }
    Ok(())
}

/// The stores parse, what is not ours is untouched, and nothing is blank or gone.
fn look_at_stores(setup: &Setup) {
    let files = setup.stage.files().snapshot();
    let blanked = setup.intruded.lock().unwrap().contains(&Intruder::Blank);
    for (path, places) in setup.spec.stores() {
        let store = files.get(std::path::Path::new(&path));
        let Some(Ok(store)) = store.map(|bytes| serde_json::from_slice::<Value>(bytes)) else {
            setup.violation(format!("{path} is gone or does not parse"));
            continue;
        };
        let is_ours = store.get("profiles").is_some();
        if is_ours
            && (store["extra"]["kept"] != true || store["profiles"]["rig:key"]["key"] != "sk-untouched")
        {
            setup.violation(format!("{path}: what stood beside the login is gone"));
        }
        if !is_ours && store["mcpOAuth"]["server"]["accessToken"] != "theirs" {
            setup.violation(format!("{path}: what stood beside the login is gone"));
        }
        for place in places {
            let entry = if is_ours {
                &store["profiles"][place]
            } else {
                &store[place]
            };
            let (access, refresh) = if is_ours {
                ("access", "refresh")
            } else {
                ("accessToken", "refreshToken")
            };
            let blank = |key: &str| entry[key].as_str().is_none_or(str::is_empty);
            if (blank(access) || blank(refresh)) && !blanked {
                setup.violation(format!("{path}: {place} is blank or gone"));
            }
        }
    }
}
