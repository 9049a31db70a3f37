//! The ports of one process on the stage.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use tokensink_authserver::{AuthorizationServer, Delivery, Fault, FaultAction};
use tokensink_host::{
    Clock, ConnectError, ConnectPhase, Connection, ExchangeError, HelperReport, Host, Limits, Liveness,
    ProcessRequest, Processes, Transport,
};
use tokensink_testkit::{Course, Errno, FileCall, MapEnvironment, SeededRandom, Steer, Steered};
use tokensink_types::{Body, ProcessId, UnixMillis};
use url::Url;

use crate::broken::{self, Lie};
use crate::oracle::{Fate, Moment, Oracle};
use crate::plan::{Net, Trouble};
use crate::stage::{Enter, Stage, dead, error_of};

/// One process at its ports.
#[derive(Debug, Clone)]
pub(crate) struct Hand {
    pub(crate) stage: Stage,
    pub(crate) process: usize,
    pub(crate) lie: Option<Lie>,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
}

impl Hand {
    fn enter(&self, name: impl Fn() -> String) -> Enter {
        self.stage.enter(self.process, name)
    }
}

impl Steer for Hand {
    fn steer(&self, call: &FileCall<'_>) -> Course {
        let name = || {
            let file = call
                .path
                .file_name()
                .map_or_else(|| "/".into(), |name| name.to_string_lossy());
            format!("{} {file}", call.name)
        };
        let trouble = match self.enter(name) {
            Enter::Go => {
                return self
                    .lie
                    .map_or(Course::Go, |lie| broken::course(lie, &self.stage, call));
            }
            Enter::Gone => return Course::Refuse(dead()),
            Enter::Wrong(trouble) => trouble,
        };
        match trouble {
            Trouble::FailAfter(_) => Course::GoThenFail(error_of(trouble)),
            Trouble::Short(_) | Trouble::Torn => Course::Partly(call.bytes / 2, error_of(trouble)),
            Trouble::LostSync if call.name == "sync" => {
                let files = self.stage.files();
                files.drop_unsynced(call.path);
                self.oracle.lock().unwrap().sync_is_lost(files);
                Course::Refuse(error_of(trouble))
            }
            _ => Course::Refuse(error_of(trouble)),
        }
    }

    fn made(&self, call: &FileCall<'_>) {
        if self.lie == Some(Lie::Blanking) {
            broken::blank(&self.stage, call);
        }
        self.stage.made(self.process);
    }
}

#[derive(Debug)]
struct Time(Hand);

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        self.0.stage.clock().now()
    }
    fn monotonic(&self) -> Duration {
        self.0.stage.clock().monotonic()
    }
    fn sleep(&self, time: Duration) {
        self.0.stage.sleep(self.0.process, time);
    }
}

#[derive(Debug)]
struct Table(Hand);

impl Processes for Table {
    fn this(&self) -> ProcessId {
        self.0.stage.id(self.0.process)
    }
    fn user(&self) -> Option<u32> {
        Some(1000)
    }
    fn this_program(&self) -> io::Result<std::path::PathBuf> {
        Ok("/usr/bin/tokensink".into())
    }
    fn liveness(&self, process: &ProcessId) -> Liveness {
        self.0.stage.liveness(process)
    }
    fn spawn_detached(&self, _request: ProcessRequest) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn spawn_helper(&self, _request: ProcessRequest) -> io::Result<Box<dyn HelperReport>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn run(&self, _request: ProcessRequest) -> io::Result<i32> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn output(&self, _request: ProcessRequest, _deadline: Duration) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The network of the machine: one token endpoint, whose clock nobody turns.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) server: Arc<Mutex<AuthorizationServer>>,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    pub(crate) random: SeededRandom,
    /// What the server's clock says at the machine's monotonic time 0.
    pub(crate) epoch: UnixMillis,
}

impl Network {
    /// The time by the server's clock.
    pub(crate) fn now(&self, stage: &Stage) -> UnixMillis {
        self.epoch.plus(stage.clock().monotonic())
    }
}

#[derive(Debug)]
struct Wire {
    hand: Hand,
    network: Network,
    /// What becomes of the next exchanges.
    nets: Arc<Mutex<Vec<Net>>>,
}

impl Transport for Wire {
    fn connect(&self, url: &Url, _deadline: Duration) -> Result<Box<dyn Connection>, ConnectError> {
        let failed = |phase: ConnectPhase, cause: String| ConnectError {
            origin: url.origin().ascii_serialization(),
            phase,
            cause,
            hint: None,
        };
        match self.hand.enter(|| "connect".to_owned()) {
            Enter::Go => {}
            Enter::Gone => return Err(failed(ConnectPhase::Tcp, dead().to_string())),
            Enter::Wrong(trouble) => {
                let phase = match trouble {
                    Trouble::Fail(Errno::IO) => ConnectPhase::Dns,
                    Trouble::Fail(Errno::ACCESS) => ConnectPhase::Proxy,
                    Trouble::Fail(Errno::ROFS) => ConnectPhase::Tls,
                    _ => ConnectPhase::Tcp,
                };
                return Err(failed(phase, error_of(trouble).to_string()));
            }
        }
        self.hand.stage.made(self.hand.process);
        let mut nets = self.nets.lock().unwrap();
        let net = if nets.is_empty() {
            Net::Fine
        } else {
            nets.remove(0)
        };
        Ok(Box::new(Line {
            hand: self.hand.clone(),
            network: self.network.clone(),
            net,
        }))
    }
}

#[derive(Debug)]
struct Line {
    hand: Hand,
    network: Network,
    net: Net,
}

impl Connection for Line {
    fn exchange(
        self: Box<Self>,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<Response<Body>, ExchangeError> {
        let result = self.transfer(&request, limits);
        self.network.oracle.lock().unwrap().over(self.hand.process);
        result
    }
}

impl Line {
    fn transfer(&self, request: &Request<Body>, limits: Limits) -> Result<Response<Body>, ExchangeError> {
        let length = request_bytes(request);
        match self.hand.enter(|| format!("write the request ({length} bytes)")) {
            Enter::Go => {}
            // The dead write nothing any more; an error comes before the first byte.
            Enter::Gone => return Err(ExchangeError::NotWritten(dead().to_string())),
            Enter::Wrong(trouble @ (Trouble::Torn | Trouble::Short(_) | Trouble::FailAfter(_))) => {
                self.sent(request, Fate::Cut);
                return Err(ExchangeError::Ambiguous(error_of(trouble).to_string()));
            }
            Enter::Wrong(trouble) => {
                return Err(ExchangeError::NotWritten(error_of(trouble).to_string()));
            }
        }
        if let Net::CutRequest(at) = self.net
            && at < length
        {
            self.hand
                .stage
                .note(|| format!("  cut after {at} bytes of the request"));
            if at == 0 {
                return Err(ExchangeError::NotWritten("connection reset".to_owned()));
            }
            self.sent(request, Fate::Cut);
            return Err(ExchangeError::Ambiguous("connection reset".to_owned()));
        }
        self.arrived(request, limits)
    }

    fn sent(&self, request: &Request<Body>, fate: Fate) -> usize {
        let stage = &self.hand.stage;
        stage.sends();
        let moment = Moment {
            process: self.hand.process,
            wall: stage.clock().now(),
            at: stage.clock().monotonic(),
        };
        let mut oracle = self.network.oracle.lock().unwrap();
        oracle.sent(stage.files(), request, fate, moment)
    }

    /// The whole request reaches the server, whatever becomes of the process.
    fn arrived(&self, request: &Request<Body>, limits: Limits) -> Result<Response<Body>, ExchangeError> {
        let stage = &self.hand.stage;
        let times = if self.net == Net::SentTwice { 2 } else { 1 };
        let (mut number, mut response, mut delivery) = (0, Response::default(), Delivery::Nothing);
        for _ in 0..times {
            number = self.sent(request, Fate::Unknown);
            (response, delivery) = self.serve(request, number);
        }
        stage.made(self.hand.process);
        if let Net::Late(time) = self.net {
            stage.note(|| format!("  the answer takes {time:?}"));
            stage.sleep(self.hand.process, time.min(limits.time));
            if time >= limits.time {
                return Err(ExchangeError::Ambiguous("timed out".to_owned()));
            }
        }
        let length = answer_bytes(&response);
        self.network.oracle.lock().unwrap().lengths = (request_bytes(request), length);
        match self.hand.enter(|| format!("read the answer ({length} bytes)")) {
            Enter::Go => {}
            Enter::Gone => return Err(ExchangeError::Ambiguous(dead().to_string())),
            Enter::Wrong(trouble) => {
                return Err(ExchangeError::Ambiguous(error_of(trouble).to_string()));
            }
        }
        stage.made(self.hand.process);
        let cut = match (&self.net, delivery) {
            (_, Delivery::Nothing | Delivery::Held) => Some(0),
            (Net::CutAnswer(at), _) => Some(*at).filter(|at| *at < length),
            (_, Delivery::CutAfter(at)) => Some(at).filter(|at| *at < length),
            _ => None,
        };
        if let Some(at) = cut {
            stage.note(|| format!("  cut after {at} bytes of the answer"));
            return Err(ExchangeError::Ambiguous("connection reset".to_owned()));
        }
        if response.body().expose().len() > limits.body_bytes {
            return Err(ExchangeError::Ambiguous("the answer is too large".to_owned()));
        }
        if self.net == Net::Doubled {
            let twice = [response.body().expose(), response.body().expose()].concat();
            *response.body_mut() = Body::new(twice);
        }
        stage.note(|| format!("  answer {}", response.status()));
        self.network.oracle.lock().unwrap().answered(number, &response);
        Ok(response)
    }

    fn serve(&self, request: &Request<Body>, number: usize) -> (Response<Body>, Delivery) {
        let now = self.network.now(&self.hand.stage);
        let mut server = self.network.server.lock().unwrap();
        if let Net::Answer(action) = &self.net {
            server.push_fault(Fault::on_refresh(action.clone()));
        }
        let account = match &self.net {
            Net::Answer(FaultAction::WrongAccount { account }) => Some(account.as_str()),
            _ => None,
        };
        let before = server.ledger().refreshes;
        let answer = server.handle(request, now, &self.network.random);
        let granted = server.ledger().refreshes > before;
        drop(server);
        let wall = self.hand.stage.clock().now();
        let mut oracle = self.network.oracle.lock().unwrap();
        oracle.served(number, &answer.response, granted, account, wall);
        (answer.response, answer.delivery)
    }
}

fn request_bytes(request: &Request<Body>) -> usize {
    let line = format!("POST {} HTTP/1.1\r\nhost: \r\n\r\n", request.uri());
    line.len() + header_bytes(request.headers()) + request.body().expose().len()
}

fn answer_bytes(response: &Response<Body>) -> usize {
    "HTTP/1.1 200 OK\r\n\r\n".len() + header_bytes(response.headers()) + response.body().expose().len()
}

fn header_bytes(headers: &http::HeaderMap) -> usize {
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum()
}

/// The ports of a process.
pub(crate) fn host(hand: &Hand, env: &MapEnvironment, network: &Network, nets: Vec<Net>, seed: u64) -> Host {
    let steer: Arc<dyn Steer> = Arc::new(hand.clone());
    let files = Arc::new(hand.stage.files().clone());
    Host {
        clock: Arc::new(Time(hand.clone())),
        random: Arc::new(SeededRandom::new(seed ^ (hand.process as u64 + 1))),
        env: Arc::new(env.clone()),
        files: Arc::new(Steered::new(files, steer)),
        transport: Arc::new(Wire {
            hand: hand.clone(),
            network: network.clone(),
            nets: Arc::new(Mutex::new(nets)),
        }),
        processes: Arc::new(Table(hand.clone())),
    }
}
