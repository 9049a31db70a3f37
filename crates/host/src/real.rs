//! The real machine.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{
    Environment, Host, HttpTransport, OsFiles, OsProcesses, OsRandom, ProcessEnvironment, SystemClock,
};

impl Host {
    /// This machine. Nothing is read before it is used, other than environment variables and who we are.
    #[must_use]
    pub fn real() -> Self {
        Self::real_with_ca(Vec::new())
    }

    /// This machine, trusting the certificates in the PEM files `extra_ca` besides the system's.
    #[must_use]
    pub fn real_with_ca(extra_ca: Vec<PathBuf>) -> Self {
        let env: Arc<dyn Environment> = Arc::new(ProcessEnvironment);
        Self {
            clock: Arc::new(SystemClock::from_env(&*env)),
            random: Arc::new(OsRandom),
            files: Arc::new(OsFiles),
            transport: Arc::new(HttpTransport::new(Arc::clone(&env), extra_ca)),
            processes: Arc::new(OsProcesses::new()),
            env,
        }
    }
}
