//! A home directory for the program under test, with an environment that holds nothing of the user's.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokensink_host::{Host, atomic};

/// Where a program finds the kit's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The token endpoint.
    pub token: String,
    /// The base URL of the API; `/chat/completions` and `/models` lie below it.
    pub api: String,
    /// The proxy that leads every other host to the kit's servers, for programs whose endpoints are fixed.
    pub proxy: Option<String>,
    /// The certificate of the proxy's authority, in PEM.
    pub ca: Option<PathBuf>,
}

/// A home directory; removed by the kit when the scenario is over.
#[derive(Debug, Clone)]
pub struct Home {
    host: Host,
    root: PathBuf,
    /// Where the program finds the servers.
    pub endpoints: Endpoints,
    /// Names the part of the home that belongs to one of several users of a login, where a program has such parts.
    pub agent: Option<String>,
    marker: String,
}

/// The variable by which every process of a scenario is known, whoever started it.
pub(crate) const MARKER: &str = "TOKENSINK_CONFORMANCE";

impl Home {
    /// The directory `root`, which exists, with processes known by `marker`.
    pub(crate) fn new(host: Host, root: PathBuf, endpoints: Endpoints, marker: String) -> Self {
        Self {
            host,
            root,
            endpoints,
            agent: None,
            marker,
        }
    }

    /// A path in the home.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The home itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text by which processes of this home are known.
    pub(crate) fn marker(&self) -> &str {
        &self.marker
    }

    /// The same home for another user of the login.
    #[must_use]
    pub fn for_agent(&self, agent: &str) -> Self {
        Self {
            agent: Some(agent.to_owned()),
            ..self.clone()
        }
    }

    /// Writes a file in the home with mode 0600, with its directories.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn put(&self, relative: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        let path = self.path(relative);
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let (files, random) = (&*self.host.files, &*self.host.random);
        if let Some(dir) = path.parent() {
            atomic::ensure_dir(files, dir, 0o700).map_err(failed)?;
        }
        atomic::replace(files, random, &path, bytes, 0o600).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// The bytes of a file in the home; `None` when it is missing.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn get(&self, relative: &str) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(relative);
        match self.host.files.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// The environment of every process here: this home, the system's programs, and nothing of the user's but his
    /// path to programs. Adapters add what their program needs.
    #[must_use]
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let path = self
            .host
            .env
            .var("PATH")
            .unwrap_or_else(|| "/usr/bin:/bin".to_owned());
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), self.root.clone().into()),
            ("TMPDIR".into(), self.path("tmp").into()),
            ("PATH".into(), path.into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("TERM".into(), "dumb".into()),
            ("NO_COLOR".into(), "1".into()),
            (MARKER.into(), self.marker.clone().into()),
        ];
        // What the machine needs to run programs at all, and what a measuring build writes.
        for name in ["LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = self.host.env.var(name) {
                variables.push((name.into(), value.into()));
            }
        }
        variables
    }
}
