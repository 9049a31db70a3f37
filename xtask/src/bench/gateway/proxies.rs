//! The programs that are measured, each with its settings, and the upstream behind them. They end with these values.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::pinned;
use crate::built::Built;
use crate::run::Failure;

/// What every proxy puts into the request.
const SECRET: &str = "sk-bench-0123456789abcdef0123456789abcdef";
/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Our programs, in one way of building them.
pub(super) struct Programs {
    pub(super) tokensink: PathBuf,
    pub(super) bare: PathBuf,
    upstream: PathBuf,
    pub(super) load: PathBuf,
}

impl Programs {
    pub(super) fn of(built: &Built) -> Result<Self, Failure> {
        Ok(Self {
            tokensink: built.named("tokensink")?,
            bare: built.named("bare-proxy")?,
            upstream: built.named("bench-upstream")?,
            load: built.named("bench-load")?,
        })
    }
}

/// The same in both ways. Clients and upstream are of the plain one.
pub(super) struct Builds {
    pub(super) plain: Programs,
    /// As packaged.
    pub(super) guided: Programs,
}

/// A program that runs; it is ended with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The provider's API.
pub(super) struct Upstream {
    address: SocketAddr,
    /// The file with its certificate, if it is behind TLS.
    certificate: Option<PathBuf>,
    _process: Process,
}

impl Upstream {
    pub(super) fn start(
        programs: &Programs,
        processor: Option<usize>,
        certificate: Option<&Path>,
    ) -> Result<Self, Failure> {
        let mut command = pinned(&programs.upstream, processor);
        if let Some(file) = certificate {
            command.arg("--tls").arg(file);
        }
        let (process, address) = announced(command)?;
        Ok(Self {
            address,
            certificate: certificate.map(Path::to_owned),
            _process: process,
        })
    }

    fn url(&self) -> String {
        let scheme = if self.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }
}

/// Something between client and upstream.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// Path of the requests.
    pub(super) path: &'static str,
    /// What clients show.
    pub(super) key: String,
    /// None for the upstream itself.
    process: Option<Process>,
}

/// Positions in [`all`].
pub(super) const DIRECT: usize = 0;
pub(super) const NGINX: usize = 1;
pub(super) const BARE: usize = 2;
pub(super) const BARE_GUIDED: usize = 3;
pub(super) const OURS_PLAIN: usize = 4;
pub(super) const OURS: usize = 5;
/// What stands there.
pub(super) const NAMES: [&str; 6] = [
    "no proxy",
    "nginx",
    "bare hyper",
    "bare, guided",
    "ours, plain",
    "tokensink",
];

/// What all but ours are asked for; ours routes by the model.
const PATH: &str = "/v1/chat/completions";

/// Starts all of them.
pub(super) fn all(
    nginx_program: &Path,
    builds: &Builds,
    temp: &Path,
    upstream: &Upstream,
    processor: Option<usize>,
) -> Result<Vec<Proxy>, Failure> {
    let direct = Proxy {
        name: NAMES[DIRECT],
        key: "none".to_owned(),
        address: upstream.address,
        path: PATH,
        process: None,
    };
    let all = vec![
        direct,
        nginx(nginx_program, &temp.join("nginx"), upstream, processor)?,
        bare(&builds.plain.bare, upstream, processor)?,
        Proxy {
            name: NAMES[BARE_GUIDED],
            ..bare(&builds.guided.bare, upstream, processor)?
        },
        Proxy {
            name: NAMES[OURS_PLAIN],
            ..ours(&builds.plain.tokensink, &temp.join("plain"), upstream, processor)?
        },
        ours(&builds.guided.tokensink, &temp.join("state"), upstream, processor)?,
    ];
    Ok(all)
}

/// The least that a proxy written with hyper can be.
pub(super) fn bare(program: &Path, upstream: &Upstream, processor: Option<usize>) -> Result<Proxy, Failure> {
    let mut command = pinned(program, processor);
    command
        .arg(upstream.address.to_string())
        .arg(format!("Bearer {SECRET}"));
    let (process, address) = announced(command)?;
    Ok(Proxy {
        name: NAMES[BARE],
        address,
        path: PATH,
        key: "none".to_owned(),
        process: Some(process),
    })
}

/// One worker without a log that puts the header in; streams are not held back.
fn nginx(
    program: &Path,
    dir: &Path,
    upstream: &Upstream,
    processor: Option<usize>,
) -> Result<Proxy, Failure> {
    let port = free_port()?;
    let settings = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log stderr crit;\npid {dir}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\ntcp_nodelay on;\nkeepalive_requests 100000000;\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         upstream api {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
         server {{\nlisten 127.0.0.1:{port};\n\
         location / {{\nproxy_pass http://api;\nproxy_http_version 1.1;\nproxy_buffering off;\n\
         proxy_set_header Connection \"\";\nproxy_set_header Host {upstream};\n\
         proxy_set_header Authorization \"Bearer {SECRET}\";\n}}\n}}\n}}\n",
        dir = dir.display(),
        upstream = upstream.address,
    );
    let file = dir.join("nginx.conf");
    write(&file, &settings)?;
    let mut command = pinned(program, processor);
    command.arg("-p").arg(dir).arg("-c").arg(&file);
    let process = start(command)?;
    listening(NAMES[NGINX], port, process, "none".to_owned())
}

/// `tokensink serve` with one worker: two accounts, a key for the clients.
pub(super) fn ours(
    program: &Path,
    dir: &Path,
    upstream: &Upstream,
    processor: Option<usize>,
) -> Result<Proxy, Failure> {
    let provider = format!(
        "id = \"bench\"\nname = \"Bench\"\nbilling = \"subscription\"\n[api]\nkind = \"openai-chat\"\n\
         base_url = \"{}/v1\"\nmodels = [\"small\"]\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n",
        upstream.url()
    );
    write(&dir.join("tokensink/providers/bench.toml"), &provider)?;
    if let Some(file) = &upstream.certificate {
        let settings = format!("[network]\nextra_ca = [{:?}]\n", file.to_string_lossy());
        write(&dir.join("tokensink/config.toml"), &settings)?;
    }
    let profile = |name: &str| {
        let key = format!("{SECRET}-{name}");
        (
            format!("bench:{name}"),
            json!({"type": "api_key", "provider": "bench", "key": key}),
        )
    };
    let profiles: serde_json::Map<String, Value> = [profile("one"), profile("two")].into_iter().collect();
    let store = json!({"version": 1, "profiles": profiles});
    write(
        &dir.join("agents/main/agent/auth-profiles.json"),
        &store.to_string(),
    )?;
    let ours = |mut command: Command| {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", dir)
            .env("OPENCLAW_STATE_DIR", dir);
        command
    };
    let mut add = ours(Command::new(program));
    add.args(["keys", "add", "bench", "--agent", "main", "--json"]);
    let said = add
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("tokensink keys add: {error}")))?;
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    let key = said["key"]
        .as_str()
        .ok_or_else(|| Failure::new(format!("tokensink keys add shows no key: {said}")))?;
    let port = free_port()?;
    let mut serve = ours(pinned(program, processor));
    serve.args(["serve", "--workers", "1", "--port", &port.to_string()]);
    listening(NAMES[OURS], port, start(serve)?, key.to_owned())
}

impl Proxy {
    /// Asks it to end and waits until it has.
    pub(super) fn ends_by_itself(mut self) -> Result<(), Failure> {
        let failed = |why: String| Failure::new(format!("{} cannot be ended: {why}", self.name));
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let id = i32::try_from(process.0.id()).map_err(|error| failed(error.to_string()))?;
        kill(Pid::from_raw(id), Signal::SIGTERM).map_err(|error| failed(error.to_string()))?;
        let status = process.0.wait().map_err(|error| failed(error.to_string()))?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| failed(status.to_string()))
    }

    /// Processor time of the proxy so far, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        // proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms, after the name in brackets.
        let ticks = self.of_proc("stat").and_then(|stat| {
            let (_, fields) = stat.rsplit_once(')')?;
            let mut fields = fields.split_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<f64>().ok();
            Some(ticks()? + ticks()?)
        });
        ticks.unwrap_or_default() * 1e4
    }

    /// Memory that it has resident, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let size = self.of_proc("status").and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        });
        size.unwrap_or_default()
    }

    fn of_proc(&self, file: &str) -> Option<String> {
        let process = self.process.as_ref()?;
        std::fs::read_to_string(format!("/proc/{}/{file}", process.0.id())).ok()
    }
}

fn start(mut command: Command) -> Result<Process, Failure> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    started
        .map(Process)
        .map_err(|error| Failure::new(format!("{:?} cannot be started: {error}", command.get_program())))
}

/// Starts a program that prints where it listens.
fn announced(mut command: Command) -> Result<(Process, SocketAddr), Failure> {
    let name = format!("{command:?}");
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process =
        Process(started.map_err(|error| Failure::new(format!("{name} cannot be started: {error}")))?);
    let mut line = String::new();
    if let Some(output) = process.0.stdout.take() {
        // What cannot be read is no address.
        let _ = BufReader::new(output).read_line(&mut line);
    }
    let address = line.trim().parse();
    let address = address.map_err(|_| Failure::new(format!("{name} does not say where it listens")))?;
    Ok((process, address))
}

/// Waits until the program listens.
fn listening(name: &'static str, port: u16, mut process: Process, key: String) -> Result<Proxy, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        let has_ended = matches!(process.0.try_wait(), Ok(Some(_)) | Err(_));
        if has_ended || began.elapsed() > PATIENCE {
            return Err(Failure::new(format!("{name} does not listen on {address}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Proxy {
        name,
        address,
        path: PATH,
        key,
        process: Some(process),
    })
}

/// A port that nobody has at this moment.
fn free_port() -> Result<u16, Failure> {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr().map(|at| at.port()));
    port.map_err(|error| Failure::new(format!("there is no free port: {error}")))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))
}
