//! A gateway as a process of its own whose clock follows the soak's: the test binary, started again.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use tokensink_gateway::{Gateway, Options};
use tokensink_host::Host;
use tokensink_sink::{Flights, Sink};

use super::clock::FollowingClock;
use crate::world::World;

/// Names the file with the time.
const CLOCK: &str = "TOKENSINK_SOAK_CLOCK";
const READY: &str = "the keeper serves";

/// The running gateway. It is killed at the end.
pub(super) struct Keeper {
    child: Child,
    /// Kept open: what a test says of itself after a minute must have somewhere to go.
    _output: BufReader<ChildStdout>,
}

impl Keeper {
    /// Starts one in a home.
    pub(super) fn start(world: &World, clock: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "soak::keeper::process", "--ignored", "--nocapture"])
            .env_clear()
            .env("HOME", world.path(""))
            .env(CLOCK, clock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            let length = output.read_line(&mut line).unwrap();
            assert!(length > 0, "the gateway did not start");
        }
        Self {
            child,
            _output: output,
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It has ended already where a test has killed it.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Not a test: the process of a [`Keeper`]. It ends with its standard input.
#[test]
#[ignore = "the soak starts it"]
fn process() {
    let file = std::env::var_os(CLOCK).expect("only the soak starts it");
    let host = Host {
        clock: Arc::new(FollowingClock::new(Path::new(&file))),
        ..Host::real()
    };
    let sink = Sink::open_with(host, Flights::threads()).unwrap();
    let _running = Gateway::start(sink, &Options::default()).unwrap();
    println!("{READY}");
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}
