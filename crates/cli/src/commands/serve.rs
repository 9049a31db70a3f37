//! `serve`: the gateway in the foreground, until a signal ends it.
//!
//! The first SIGTERM or SIGINT lets the requests that run end, within a bound; the second ends at once. SIGHUP, by
//! which other servers are told to read their settings, has nothing to do here: changes are seen by themselves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokensink_gateway::{Gateway, Options, Running, StartError};
use tokensink_host::{ServiceManager, ServiceState, Ticker};
use tokensink_sink::{Announcement, ErrorKind, Sink, SinkError};

use super::{App, remark, warn};
use crate::args::ServeArgs;
use crate::exit::{Failure, OK, Outcome};
use crate::render::serve;

/// How long requests that run may take to end after the first signal; the service manager waits longer.
const GRACE: Duration = Duration::from_secs(30);
/// How often last uses of keys are written, and signs of life given, at least.
const CHORES: Duration = Duration::from_secs(15);
/// The exit code of a process that a signal ended is this and the signal's number.
const SIGNALLED: u8 = 128;

/// Runs the gateway.
pub(super) fn run(app: &mut App<'_>, args: ServeArgs) -> Outcome {
    // Before anything is served, so that no signal finds us without an answer.
    let signals = signals()?;
    // Changes that others make are seen while it lives.
    let _watch = app.sink.watch()?;
    let address = SocketAddr::new(args.host, args.port);
    let options = Options {
        listen: vec![address],
        beyond_loopback: !address.ip().is_loopback(),
        names: args.allow_host,
        socket: !args.no_socket,
        workers: args.workers,
        ..Options::default()
    };
    let running = Gateway::start(app.sink.clone(), &options).map_err(|error| not_started(app.sink, error))?;
    let addresses: Vec<String> = running.addresses().iter().map(SocketAddr::to_string).collect();
    let version = env!("CARGO_PKG_VERSION");
    let announcement = app
        .sink
        .announce_server(&addresses, running.socket().as_deref(), version)
        .map_err(|error| warn(app.printer, &error.to_string()))
        .ok()
        .map(Arc::new);
    if let Some(announcement) = &announcement {
        announce_takeover(&running, announcement);
    }
    for note in running.notes() {
        remark(app.printer, note);
    }
    if !args.host.is_loopback() {
        warn(app.printer, &serve::beyond_loopback(&addresses));
    }
    let has_clients = app.sink.keys()?.iter().any(|key| key.revoked_at.is_none());
    if args.json {
        let pid = app.sink.host().processes.this().pid;
        app.printer.json(&serve::json(&running, pid, version))?;
    } else {
        app.printer.line(&serve::listening(&running))?;
        app.printer
            .note(&serve::how_to(&addresses, has_clients, app.name()));
    }
    app.printer.flush()?;
    let host = app.sink.host();
    let manager = ServiceManager::of(&*host.env, host.processes.this().pid);
    tell(
        manager.as_ref(),
        ServiceState::Ready,
        Some(&serve::listening(&running)),
    );
    let chores = chores(app.sink, manager.clone());
    let code = until_signalled(app, running, &signals, manager.as_ref());
    drop(chores);
    if let Err(error) = app.sink.keys_flush(true) {
        tracing::warn!(%error, "when keys were last used is not written");
    }
    drop(announcement);
    Ok(code)
}

/// Has the socket announced as well when it comes later than the rest.
fn announce_takeover(running: &Running, announcement: &Arc<Announcement>) {
    // It ends with the command, whatever the gateway still does.
    let announcement = Arc::downgrade(announcement);
    running.when_socket_is_served(move |socket| {
        let Some(announcement) = announcement.upgrade() else {
            return;
        };
        if let Err(error) = announcement.serves_socket(socket) {
            tracing::warn!(%error, "others are not told that the socket is served here");
        }
    });
}

pub(super) fn signals() -> Result<Receiver<i32>, Failure> {
    let failed =
        |error: io::Error| SinkError::new(ErrorKind::Failed, "signals", format!("no signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(receiver)
}

/// Serves until a signal says otherwise; the exit code.
fn until_signalled(
    app: &mut App<'_>,
    running: Running,
    signals: &Receiver<i32>,
    manager: Option<&ServiceManager>,
) -> u8 {
    while let Ok(SIGHUP) = signals.recv() {
        app.printer
            .note("Settings, logins and keys are read when they change; nothing else to do.");
    }
    tell(manager, ServiceState::Stopping, None);
    app.printer.note(&format!(
        "Stopping: requests that run have {} s to end; once more to stop at once.",
        GRACE.as_secs()
    ));
    let (sender, ended) = mpsc::channel();
    let stopping = thread::Builder::new().name("stopping".to_owned()).spawn(move || {
        running.shutdown(GRACE);
        // Nobody waits any more after a second signal.
        let _told = sender.send(());
    });
    if stopping.is_err() {
        // The gateway went with the closure.
        return OK;
    }
    loop {
        match ended.recv_timeout(GLANCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return OK,
        }
        match signals.try_recv() {
            Ok(SIGHUP) | Err(_) => {}
            Ok(signal) => {
                return u8::try_from(signal).map_or(SIGNALLED, |signal| SIGNALLED.saturating_add(signal));
            }
        }
    }
}

/// How soon a second signal is noticed.
const GLANCE: Duration = Duration::from_millis(50);

/// What is to be done now and then.
fn chores(sink: &Sink, manager: Option<ServiceManager>) -> Option<Ticker> {
    let sink = sink.clone();
    let watchdog = manager.as_ref().and_then(ServiceManager::watchdog);
    let period = watchdog.map_or(CHORES, |time| CHORES.min(time / 2));
    let started = Ticker::start("chores", period, move || {
        if let Err(error) = sink.keys_flush(false) {
            tracing::warn!(%error, "when keys were last used is not written");
        }
        tell(manager.as_ref(), ServiceState::Alive, None);
        true
    });
    started
        .inspect_err(|error| tracing::warn!(%error, "when keys were last used is written at the end only"))
        .ok()
}

fn tell(manager: Option<&ServiceManager>, state: ServiceState, status: Option<&str>) {
    if let Some(Err(error)) = manager.map(|manager| manager.tell(state, status)) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Who has the port, and the way out.
fn not_started(sink: &Sink, error: StartError) -> Failure {
    match error {
        StartError::Listen { address, cause } if cause.kind() == io::ErrorKind::AddrInUse => {
            let ours = sink.servers().unwrap_or_default().into_iter().find(|server| {
                let port = |text: &String| text.parse().ok().map(|address: SocketAddr| address.port());
                server
                    .addresses
                    .iter()
                    .any(|text| port(text) == Some(address.port()))
            });
            let holder = match (ours, sink.port_holder(address.port())) {
                (Some(server), _) => format!("a tokensink gateway of this state dir, process {}", server.pid),
                (None, Some(holder)) => format!("process {} ({})", holder.pid, holder.name),
                (None, None) => {
                    format!(
                        "another program (see which: ss -ltnp 'sport = :{}')",
                        address.port()
                    )
                }
            };
            let message = format!("{address} is in use by {holder}");
            let next = address.port().checked_add(1).unwrap_or_default();
            SinkError::new(ErrorKind::Failed, "port_in_use", message)
                .with_fix(format!("tokensink serve --port {next}"))
                .into()
        }
        StartError::Settings(error) => error.into(),
        error => SinkError::new(ErrorKind::Failed, "not_started", error.to_string()).into(),
    }
}
