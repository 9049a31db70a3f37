//! Starting, accepting, stopping.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokensink_host::Dialer;
use tokensink_sink::{AgentId, Secret, Sink, SinkError, Turns};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use crate::bounds::{ACCEPT_PAUSE, Bounds, FAREWELLS};
use crate::client::{self, From, Stream, in_bytes, say_and_close};
use crate::guard::Guard;
use crate::relay::Relay;
use crate::slots::overloaded;
use crate::socket::{LocalSocket, Peer};
use crate::time::sleep;
use crate::upkeep::Upkeep;

/// How a gateway is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Whether addresses beyond loopback are allowed.
    pub beyond_loopback: bool,
    /// Threads of the event loop; 0 takes one per core.
    pub workers: usize,
    /// Host names by which clients reach it, besides those of loopback.
    pub names: Vec<String>,
    /// Whether the Unix socket of the state dir is served as well, if no other gateway does.
    pub socket: bool,
    /// Keys and their agents besides those of the store, for a program that runs a gateway within itself.
    pub keys: Vec<(Secret, AgentId)>,
    /// The bounds.
    pub bounds: Bounds,
    /// Whether changes of files are watched, logins renewed ahead of time and choices kept for `explain` meanwhile.
    pub upkeep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            beyond_loopback: false,
            workers: 0,
            names: Vec::new(),
            socket: false,
            keys: Vec::new(),
            bounds: Bounds::default(),
            upkeep: true,
        }
    }
}

/// Why a gateway cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address that others could reach.
    #[error("{0} can be reached from other machines; a gateway listens on loopback unless that is asked for")]
    BeyondLoopback(SocketAddr),
    /// An address that cannot be had.
    #[error("cannot listen on {address}: {cause}{}", in_use(.cause))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// No threads or no event loop.
    #[error("no event loop: {0}")]
    EventLoop(io::Error),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SinkError),
}

fn in_use(cause: &io::Error) -> &'static str {
    if cause.kind() == io::ErrorKind::AddrInUse {
        "; another program has the port: choose one with --port"
    } else {
        ""
    }
}

/// The gateway.
#[derive(Debug, Clone, Copy)]
pub struct Gateway;

impl Gateway {
    /// Listens and serves, on threads of its own, until the returned handle says otherwise.
    ///
    /// # Errors
    /// When it cannot listen, or there is no event loop to be had.
    pub fn start(sink: Sink, options: &Options) -> Result<Running, StartError> {
        let listeners = options
            .listen
            .iter()
            .map(|address| listen(*address, options.beyond_loopback))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()
            .map_err(StartError::EventLoop)?;
        let (mut socket, later, notes) = open_socket(&sink, options.socket);
        let local = socket.as_mut().and_then(LocalSocket::take_listener);
        let socket = Arc::new(Mutex::new(Local { socket, then: None }));
        let later = later.then(|| (sink.clone(), Arc::clone(&socket)));
        let guard = Guard::new(sink.clone(), &addresses, &options.names).with_keys(&options.keys);
        let upkeep = options.upkeep.then(|| Upkeep::start(&sink)).transpose()?;
        let dialer = Dialer::new(Arc::clone(&sink.host().env), sink.extra_ca()?);
        let runtime = runtime(options.workers, sink.turns()).map_err(StartError::EventLoop)?;
        let (stop, stopping) = watch::channel(Stop::default());
        let connections = options.bounds.connections;
        let shared = Arc::new(Shared {
            room: Arc::new(Semaphore::new(connections)),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            relay: Relay::new(sink, guard, dialer, options),
            bounds: options.bounds,
            stopping,
        });
        let loop_ = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || run(runtime, (listeners, local), later, &shared, connections))
            .map_err(StartError::EventLoop)?;
        Ok(Running {
            addresses,
            socket,
            notes,
            stop,
            thread: Some(loop_),
            _upkeep: upkeep,
        })
    }
}

/// The Unix socket.
#[derive(Default)]
struct Local {
    /// Once this gateway has it.
    socket: Option<LocalSocket>,
    /// What is to be done then.
    then: Option<Then>,
}

/// What is told where the Unix socket is.
type Then = Box<dyn FnOnce(&Path) + Send>;

type SocketSlot = Arc<Mutex<Local>>;

/// A gateway that runs. Dropped, it stops at once.
pub struct Running {
    addresses: Vec<SocketAddr>,
    /// Taken away at the very end.
    socket: SocketSlot,
    notes: Vec<String>,
    stop: watch::Sender<Stop>,
    thread: Option<JoinHandle<()>>,
    /// Ends after the last request, so that its choice is kept too.
    _upkeep: Option<Upkeep>,
}

impl Running {
    /// Where it listens, in the order of [`Options::listen`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix socket, while it is this gateway that serves it.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let local = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        local.socket.as_ref().map(|socket| socket.path().to_owned())
    }

    /// Runs `then` with the path of the Unix socket once it is this gateway that serves it: at once, or on another
    /// thread after it was taken over from another gateway. It replaces what was given before.
    pub fn when_socket_is_served(&self, then: impl FnOnce(&Path) + Send + 'static) {
        let mut local = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = local.socket.as_ref().map(|socket| socket.path().to_owned()) {
            drop(local);
            then(&path);
        } else {
            local.then = Some(Box::new(then));
        }
    }

    /// What could not be had but can be lived without.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes no new connection, lets the requests that run end within `grace`, and cuts what is left then. Returns
    /// when all is over.
    pub fn shutdown(mut self, grace: Duration) {
        self.end(grace);
    }

    /// Waits until the gateway has ended.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by its own thread.
            let _ = thread.join();
        }
    }

    fn end(&mut self, grace: Duration) {
        self.stop.send_replace(Stop { within: Some(grace) });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Whether the gateway is to stop, and within which time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stop {
    within: Option<Duration>,
}

/// What all connections share.
pub(crate) struct Shared {
    /// Room for connections.
    room: Arc<Semaphore>,
    /// Room for connections that are told that there is none.
    farewells: Arc<Semaphore>,
    pub(crate) relay: Relay,
    pub(crate) bounds: Bounds,
    stopping: watch::Receiver<Stop>,
}

impl Shared {
    /// Resolves when the gateway is to stop.
    pub(crate) async fn stopping(&self) -> Duration {
        let mut stopping = self.stopping.clone();
        // An error means that the handle is gone, which is a stop as well.
        let stop = stopping.wait_for(|stop| stop.within.is_some()).await;
        stop.ok().and_then(|stop| stop.within).unwrap_or_default()
    }
}

/// The Unix socket, whether it may be had later, and why it is not served now: without it, the gateway is still one.
fn open_socket(sink: &Sink, wanted: bool) -> (Option<LocalSocket>, bool, Vec<String>) {
    if !wanted {
        return (None, false, Vec::new());
    }
    match LocalSocket::open(sink) {
        Ok(Some(socket)) => (Some(socket), false, Vec::new()),
        Ok(None) => {
            let text = "the Unix socket is served by another gateway of this state dir, and taken over when that ends";
            (None, true, vec![text.to_owned()])
        }
        Err(error) => (None, false, vec![format!("there is no Unix socket: {error}")]),
    }
}

/// Waits until the gateway that serves the Unix socket has ended, however that was, and serves it from then on.
async fn take_over(sink: Sink, slot: SocketSlot, shared: Arc<Shared>) {
    let Some(mut socket) = free_socket(&sink, &shared).await else {
        return;
    };
    let (path, listener) = (socket.path().to_owned(), socket.take_listener());
    tracing::info!(path = %path.display(), "the Unix socket is served from now on");
    let then = {
        let mut local = slot.lock().unwrap_or_else(PoisonError::into_inner);
        local.socket = Some(socket);
        local.then.take()
    };
    // The socket is taken away with the handle of the gateway, not with this task.
    drop(slot);
    if let Some(then) = then {
        // It may write files; nobody waits for it.
        drop(tokio::task::spawn_blocking(move || then(&path)));
    }
    match listener.map(tokio::net::UnixListener::from_std).transpose() {
        Ok(Some(listener)) => accept(Listener::Local(listener), shared).await,
        Ok(None) => {}
        Err(error) => tracing::error!("the Unix socket was lost: {error}"),
    }
}

/// The Unix socket, as soon as no other gateway serves it; `None` when this one is to stop before: it takes no
/// connection any more, and would keep the socket from one that does.
async fn free_socket(sink: &Sink, shared: &Shared) -> Option<LocalSocket> {
    let stopping = shared.stopping();
    tokio::pin!(stopping);
    let mut told = String::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopping => return None,
            () = sleep(shared.bounds.socket_look) => {}
        }
        let asking = sink.clone();
        let opening = tokio::task::spawn_blocking(move || LocalSocket::open(&asking));
        let opened = tokio::select! {
            biased;
            // What is opened all the same is dropped by its thread, and thereby taken away.
            _ = &mut stopping => return None,
            opened = opening => opened,
        };
        match opened {
            Ok(Ok(Some(socket))) => return Some(socket),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                // Once, not at every look.
                let error = error.to_string();
                if error != told {
                    tracing::warn!("the Unix socket cannot be taken over: {error}");
                    told = error;
                }
            }
            Err(_) => return None,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the gateway listens; the loopback rule is checked here"
)]
fn listen(address: SocketAddr, beyond_loopback: bool) -> Result<TcpListener, StartError> {
    if !beyond_loopback && !address.ip().is_loopback() {
        return Err(StartError::BeyondLoopback(address));
    }
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|cause| StartError::Listen { address, cause })
}

/// One worker gets a loop without the cost of sharing. Whenever it has waited, a turn begins.
fn runtime(workers: usize, turns: Turns) -> io::Result<Runtime> {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        0 => Builder::new_multi_thread(),
        many => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(many);
            builder
        }
    };
    builder
        .thread_name("gateway")
        .on_thread_unpark(move || turns.next())
        .enable_io()
        .enable_time()
        .build()
}

/// What is listened on.
type Listeners = (Vec<TcpListener>, Option<UnixListener>);

fn run(
    runtime: Runtime,
    (net, local): Listeners,
    later: Option<(Sink, SocketSlot)>,
    shared: &Arc<Shared>,
    connections: usize,
) {
    runtime.block_on(async {
        if let Some((sink, slot)) = later {
            tokio::spawn(take_over(sink, slot, Arc::clone(shared)));
        }
        match local.map(tokio::net::UnixListener::from_std).transpose() {
            Ok(Some(listener)) => {
                tokio::spawn(accept(Listener::Local(listener), Arc::clone(shared)));
            }
            Ok(None) => {}
            Err(error) => tracing::error!("the Unix socket was lost: {error}"),
        }
        for listener in net {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    tokio::spawn(accept(Listener::Net(listener), Arc::clone(shared)));
                }
                Err(error) => tracing::error!("a listener was lost: {error}"),
            }
        }
        let sweeping = tokio::spawn(sweep(Arc::clone(shared)));
        let grace = shared.stopping().await;
        let everyone = u32::try_from(connections).unwrap_or(u32::MAX);
        let gone = crate::time::within(grace, shared.room.acquire_many(everyone)).await;
        if gone.is_none() {
            tracing::warn!("requests that did not end within {grace:?} are cut");
        }
        sweeping.abort();
    });
    // Whatever runs in a thread for a request that is no more is not waited for.
    runtime.shutdown_background();
}

/// Closes upstream connections that were unused for long, and forgets who called.
async fn sweep(shared: Arc<Shared>) {
    loop {
        sleep(shared.bounds.pool_idle / 4).await;
        shared.relay.sweep();
    }
}

/// Where connections come from.
enum Listener {
    Net(tokio::net::TcpListener),
    Local(tokio::net::UnixListener),
}

/// A connection that came.
enum Accepted {
    Net(tokio::net::TcpStream, SocketAddr),
    Local(tokio::net::UnixStream, Peer),
}

impl Listener {
    async fn next(&self, shared: &Shared) -> io::Result<Accepted> {
        match self {
            Self::Net(listener) => {
                let (tcp, peer) = listener.accept().await?;
                // Without it a small event waits for the acknowledgement of the one before.
                let _ = tcp.set_nodelay(true);
                Ok(Accepted::Net(tcp, peer))
            }
            Self::Local(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::of(shared.relay.host(), &stream)?;
                Ok(Accepted::Local(stream, peer))
            }
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    let stopping = shared.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            _ = &mut stopping => return,
            accepted = listener.next(&shared) => accepted,
        };
        match accepted {
            Ok(Accepted::Net(tcp, peer)) => {
                if let Err(tcp) = admit(&shared, tcp, From::Net(peer)) {
                    turn_away(&shared, tcp, tokio::net::TcpStream::try_write);
                }
            }
            Ok(Accepted::Local(stream, peer)) => {
                if let Err(stream) = admit(&shared, stream, From::Local(peer)) {
                    turn_away(&shared, stream, tokio::net::UnixStream::try_write);
                }
            }
            Err(error) => {
                // Of a connection that was given up at once, or for want of descriptors: both pass.
                tracing::warn!("accepting a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection, if there is room for one more; else it comes back.
fn admit<S: Stream>(shared: &Arc<Shared>, stream: S, peer: From) -> Result<(), S> {
    let Ok(room) = Arc::clone(&shared.room).try_acquire_owned() else {
        return Err(stream);
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        client::serve(&shared, stream, peer).await;
        drop(room);
    });
    Ok(())
}

/// Says that there is no room. Who has sent its request already would hear of a reset instead if the connection were just
/// closed; with too many at once, it gets what `at_once` can write.
fn turn_away<S: Stream>(
    shared: &Shared,
    mut stream: S,
    at_once: impl FnOnce(&S, &[u8]) -> io::Result<usize>,
) {
    let text = format!(
        "all {} connections of this gateway are taken",
        shared.bounds.connections
    );
    let word = in_bytes(&overloaded("too_many_connections", text));
    let Ok(room) = Arc::clone(&shared.farewells).try_acquire_owned() else {
        // What does not fit is lost with the connection.
        let _ = at_once(&stream, &word);
        return;
    };
    tokio::spawn(async move {
        say_and_close(&mut stream, &word).await;
        drop(room);
    });
}
