//! A whole host in memory.

use std::sync::Arc;

use tokensink_host::Host;

use crate::{FakeClock, FakeProcesses, Faults, MapEnvironment, MemFiles, ScriptedTransport, SeededRandom};

/// All ports in memory, with a handle on each. Clones share everything.
///
/// The clock starts at 2026-01-01T00:00:00Z, the home directory is `/home/user` and exists, the network answers
/// nothing, and we are process 4242 of host `testhost`.
#[derive(Debug, Clone)]
pub struct TestHost {
    /// Time.
    pub clock: FakeClock,
    /// Randomness.
    pub random: SeededRandom,
    /// Variables.
    pub env: MapEnvironment,
    /// Files.
    pub files: MemFiles,
    /// HTTP.
    pub transport: ScriptedTransport,
    /// Processes.
    pub processes: FakeProcesses,
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// A fresh host.
    #[must_use]
    pub fn new() -> Self {
        let clock = FakeClock::default();
        let files = MemFiles::new(Arc::new(clock.clone()));
        files.mkdir("/home/user");
        let transport = ScriptedTransport::default();
        transport.silence_moves(&clock);
        Self {
            clock,
            random: SeededRandom::default(),
            env: MapEnvironment::default(),
            files,
            transport,
            processes: FakeProcesses::default(),
        }
    }

    /// The same machine seen by another process: same files, clock, network and environment, other process id.
    #[must_use]
    pub fn other_process(&self, pid: u32) -> Self {
        Self {
            processes: FakeProcesses::of(pid),
            random: SeededRandom::new(u64::from(pid)),
            ..self.clone()
        }
    }

    /// The ports.
    #[must_use]
    pub fn host(&self) -> Host {
        Host {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(self.random.clone()),
            env: Arc::new(self.env.clone()),
            files: Arc::new(self.files.clone()),
            transport: Arc::new(self.transport.clone()),
            processes: Arc::new(self.processes.clone()),
        }
    }

    /// The ports with faults in files and transport.
    #[must_use]
    pub fn host_with(&self, faults: &Faults) -> Host {
        faults.host(&self.host())
    }
}
