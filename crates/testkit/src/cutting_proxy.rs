//! A TCP proxy on loopback that cuts: after so many bytes of either direction, orderly, by a reset or for one direction
//! only, at once or after a delay. What passed is kept, so that a test knows what the server was asked and what came
//! back, whatever the client has seen of it.
//!
//! It knows nothing of HTTP. Every connection is one of the server's own; its threads end with it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a proxy of tests on real sockets, which says what is wrong by panicking"
)]

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// How long a connection may be silent; only a hanging test ever waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a server that has been asked may believe that its client is still there, and how often it is looked.
const LINGER: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(2);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Both ends see the other one's orderly end.
    Close,
    /// Both ends are reset (RST).
    Reset,
    /// Only this direction ends; the other goes on.
    HalfClose,
}

/// What becomes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Where it is cut: the direction, after how many of its bytes, and how.
    pub cut: Option<(Way, usize, How)>,
    /// How long the first bytes of each direction are held back.
    pub delay: Duration,
}

impl Plan {
    /// Cut after so many bytes.
    #[must_use]
    pub fn cut(way: Way, after: usize, how: How) -> Self {
        Self {
            cut: Some((way, after, how)),
            delay: Duration::ZERO,
        }
    }

    /// Everything passes, later.
    #[must_use]
    pub fn delayed(delay: Duration) -> Self {
        Self { cut: None, delay }
    }
}

/// What passed over one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// What the server was given.
    pub up: Vec<u8>,
    /// What the client was given.
    pub down: Vec<u8>,
    /// Everything that the server answered as far as it was read, the bytes that were cut off included.
    pub answered: Vec<u8>,
    /// Whether it was cut.
    pub cut: bool,
}

/// The running proxy. Dropping it ends listening; connections that are open come to their end by themselves.
#[derive(Debug)]
pub struct CuttingProxy {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    to: SocketAddr,
    closed: AtomicBool,
    plans: Mutex<VecDeque<Plan>>,
    log: Mutex<Vec<Passed>>,
}

impl CuttingProxy {
    /// Starts a proxy for the server at `to`. Without a plan everything passes.
    ///
    /// # Panics
    /// When nothing can be listened on.
    #[must_use]
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            addr: listener.local_addr().unwrap(),
            to,
            closed: AtomicBool::new(false),
            plans: Mutex::default(),
            log: Mutex::default(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            shared,
            accepting: Some(accepting),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// What becomes of the next connection that has no plan yet.
    pub fn next(&self, plan: Plan) {
        lock(&self.shared.plans).push_back(plan);
    }

    /// Forgets the plans that no connection has met.
    pub fn clear(&self) {
        lock(&self.shared.plans).clear();
    }

    /// How many connections there were so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.shared.log).len()
    }

    /// What passed over one connection so far, counted from 0 in the order of their arrival.
    #[must_use]
    pub fn connection(&self, place: usize) -> Option<Passed> {
        lock(&self.shared.log).get(place).cloned()
    }

    /// What passed so far, by connection in the order of their arrival.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        lock(&self.shared.log).clone()
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.shared.addr));
        if let Some(accepting) = self.accepting.take() {
            // A panic there has been told already.
            let _ = accepting.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let plan = lock(&shared.plans).pop_front().unwrap_or_default();
        let place = {
            let mut log = lock(&shared.log);
            log.push(Passed::default());
            log.len() - 1
        };
        let shared = Arc::clone(shared);
        // Either end may leave at any moment; that is what a proxy of this kind is for.
        thread::spawn(move || serve(&shared, place, plan, &client));
    }
}

fn serve(shared: &Arc<Shared>, place: usize, plan: Plan, client: &TcpStream) -> io::Result<()> {
    let server = TcpStream::connect(shared.to)?;
    for end in [client, &server] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_nodelay(true)?;
    }
    let reset = Arc::new(AtomicBool::new(false));
    let pump = |way, from: &TcpStream, to: &TcpStream| -> io::Result<Pump> {
        Ok(Pump {
            shared: Arc::clone(shared),
            reset: Arc::clone(&reset),
            place,
            plan,
            way,
            from: from.try_clone()?,
            to: to.try_clone()?,
        })
    };
    let (up, down) = (pump(Way::Up, client, &server)?, pump(Way::Down, &server, client)?);
    let upwards = thread::spawn(move || up.run());
    let _ended = down.run();
    // It has ended already or does so when the client leaves.
    let _ended = upwards.join();
    Ok(())
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    /// The connection ends by a reset, and nothing orderly is to be sent any more.
    reset: Arc<AtomicBool>,
    place: usize,
    plan: Plan,
    way: Way,
    from: TcpStream,
    to: TcpStream,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        let limit = self.plan.cut.filter(|(way, ..)| *way == self.way);
        let mut left = limit.map_or(usize::MAX, |(_, after, _)| after);
        let mut buffer = [0; 16 * 1024];
        let mut first = true;
        loop {
            if let Some((_, _, how)) = limit.filter(|_| left == 0) {
                return self.cut(how);
            }
            let count = self.from.read(&mut buffer)?;
            if self.reset.load(Ordering::SeqCst) {
                return Ok(());
            }
            if count == 0 {
                self.wait_for_an_answer();
                // The end of one direction is passed on; the other may go on.
                return self.to.shutdown(Shutdown::Write);
            }
            if std::mem::take(&mut first) && !self.plan.delay.is_zero() {
                thread::sleep(self.plan.delay);
            }
            let passing = count.min(left);
            left -= passing;
            self.note(&buffer[..count], passing);
            self.to.write_all(&buffer[..passing])?;
        }
    }

    /// A client that has died after its request is not told of at once: what the server answers to the dead is to be
    /// seen, and many a server answers nobody who has left.
    fn wait_for_an_answer(&self) {
        let asked_and_unanswered = || {
            let log = lock(&self.shared.log);
            let passed = log.get(self.place);
            passed.is_some_and(|passed| !passed.cut && !passed.up.is_empty() && passed.answered.is_empty())
        };
        let mut left = LINGER;
        while self.way == Way::Up && asked_and_unanswered() && !left.is_zero() {
            thread::sleep(GLANCE);
            left = left.saturating_sub(GLANCE);
        }
    }

    fn note(&self, bytes: &[u8], passing: usize) {
        let mut log = lock(&self.shared.log);
        let Some(passed) = log.get_mut(self.place) else {
            return;
        };
        match self.way {
            Way::Up => passed.up.extend_from_slice(&bytes[..passing]),
            Way::Down => {
                passed.answered.extend_from_slice(bytes);
                passed.down.extend_from_slice(&bytes[..passing]);
            }
        }
    }

    fn cut(self, how: How) -> io::Result<()> {
        if let Some(passed) = lock(&self.shared.log).get_mut(self.place) {
            passed.cut = true;
        }
        let ends = match how {
            How::HalfClose => return self.to.shutdown(Shutdown::Write),
            How::Close => Shutdown::Both,
            // Closing a socket that lingers for no time resets it (socket(7)). Nothing is sent before that; the other
            // direction is only woken.
            How::Reset => {
                self.reset.store(true, Ordering::SeqCst);
                for end in [&self.from, &self.to] {
                    set_socket_linger(end, Some(Duration::ZERO))?;
                }
                Shutdown::Read
            }
        };
        for end in [&self.from, &self.to] {
            // It may have left already.
            let _gone = end.shutdown(ends);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that reads five bytes and answers five, for as many connections as come.
    fn greeter() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut asked = [0; 5];
                if client.read_exact(&mut asked).is_ok() {
                    // The client may be gone.
                    let _sent = client.write_all(b"world");
                }
            }
        });
        addr
    }

    /// What a client sees that sends `hello`: the bytes, and whether the end was orderly.
    fn greet(proxy: &CuttingProxy) -> (Vec<u8>, bool) {
        let mut stream = TcpStream::connect(proxy.addr()).unwrap();
        let mut seen = Vec::new();
        let sent = stream.write_all(b"hello");
        let orderly = sent.and_then(|()| stream.read_to_end(&mut seen)).is_ok();
        (seen, orderly)
    }

    #[test]
    fn it_cuts_where_it_is_told_and_keeps_what_passed() {
        let proxy = CuttingProxy::start(greeter());
        assert_eq!(greet(&proxy), (b"world".to_vec(), true));
        for (way, after, how, up, down) in [
            (Way::Up, 0, How::Close, "", ""),
            (Way::Up, 3, How::Close, "hel", ""),
            (Way::Up, 3, How::HalfClose, "hel", ""),
            (Way::Up, 4, How::Reset, "hell", ""),
            (Way::Down, 0, How::Reset, "hello", ""),
            (Way::Down, 2, How::Close, "hello", "wo"),
            (Way::Down, 4, How::HalfClose, "hello", "worl"),
        ] {
            proxy.next(Plan::cut(way, after, how));
            let (seen, orderly) = greet(&proxy);
            let passed = proxy.passed().pop().unwrap();
            let name = format!("{way:?} {after} {how:?}");
            assert!(passed.cut, "{name}");
            if !(way == Way::Down && after == 0) {
                assert_eq!(String::from_utf8_lossy(&passed.up), up, "{name}");
            }
            assert_eq!(String::from_utf8_lossy(&passed.down), down, "{name}");
            // A reset may take back what was not read yet.
            if how == How::Reset {
                assert!(!orderly, "{name}");
            } else {
                assert_eq!(
                    (String::from_utf8_lossy(&seen).as_ref(), orderly),
                    (down, true),
                    "{name}"
                );
            }
        }
        proxy.next(Plan::cut(Way::Down, 0, How::Close));
        proxy.clear();
        proxy.next(Plan::delayed(Duration::from_millis(5)));
        assert_eq!(greet(&proxy), (b"world".to_vec(), true));
    }
}
