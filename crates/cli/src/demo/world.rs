//! Where the demo happens: a throw-away directory, the server, the network to it, the clock, and real processes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode};
use tokensink_authserver::{AccountConfig, DeviceConfig, Faults, Ledger, LoginAnswer, Running, ServerConfig};
use tokensink_host::{ChildProcess, Ended, Files, Host, Limits, ProcessRequest, StdioSource, atomic};
use tokensink_types::{Body, Secret};
use url::Url;

use super::Trouble;
use super::clock::DemoClock;
use super::relay::Relay;
use super::tally::Tally;
use crate::args::BROWSER_COMMAND;

/// The provider's id.
pub(super) const PROVIDER: &str = "demo";
/// The path of the server's token endpoint.
const TOKEN_PATH: &str = "/oauth/token";
/// How long a process may take before the demo gives up; only a hang ever takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the API on loopback.
const API_LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    body_bytes: 1024 * 1024,
};
/// Variables that the processes of the demo get from ours; all others are hidden, lest the demo use or show anything
/// of the user's.
const PASSED_ON: [&str; 8] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "RUST_BACKTRACE",
];

/// Where the demo happens.
pub(super) struct World {
    host: Host,
    dir: PathBuf,
    program: PathBuf,
    hidden: Vec<OsString>,
    clock: DemoClock,
    /// None once the demo is over.
    server: Option<Running>,
    relay: Relay,
    tally: Tally,
}

impl World {
    /// Makes the directory, starts the server and writes the provider's definition.
    pub(super) fn open(host: &Host) -> Result<Self, Trouble> {
        let program = host
            .processes
            .this_program()
            .map_err(|error| Trouble::new(format!("the path of this program is not known: {error}")))?;
        // As `$BROWSER` splits its text (it holds several commands, and words in quotes).
        if program.to_str().is_none_or(|path| path.contains([':', '"', '%'])) {
            return Err(Trouble::new(format!(
                "{} cannot stand in BROWSER; move the program to a path without a colon, quote or per cent sign",
                program.display()
            )));
        }
        let clock = DemoClock::default();
        let server = Running::start(config(), Arc::new(clock.clone()), Arc::clone(&host.random))
            .map_err(|error| Trouble::new(error.to_string()))?;
        let relay = Relay::start(host, server.base_url())?;
        let hidden = host.env.names().into_iter();
        let mut world = Self {
            dir: make_dir(host)?,
            host: host.clone(),
            program,
            hidden: hidden
                .filter(|name| !PASSED_ON.contains(&name.as_str()))
                .map(OsString::from)
                .collect(),
            clock,
            server: Some(server),
            relay,
            tally: Tally::default(),
        };
        if let Err(error) = world.define_provider() {
            let _unheard = world.remove();
            return Err(Trouble::new(format!("{}: {error}", world.dir.display())));
        }
        Ok(world)
    }

    /// The definition as a user would write it, but with the network in between.
    fn define_provider(&mut self) -> io::Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let text = server
            .provider_toml(PROVIDER)
            .replace(&server.url(TOKEN_PATH), &self.relay.url(TOKEN_PATH));
        let dir = self.dir.join("tokensink/providers");
        let (files, random) = (&*self.host.files, &*self.host.random);
        atomic::ensure_dir(files, &dir, 0o700)?;
        let path = dir.join(format!("{PROVIDER}.toml"));
        atomic::replace(files, random, &path, text.as_bytes(), 0o600).map_err(io::Error::other)?;
        Ok(())
    }

    /// The throw-away state directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was counted so far, by the demo and by the server.
    pub(super) fn tally(&self) -> Tally {
        self.tally.with(&self.ledger())
    }

    /// For what the story counts.
    pub(super) fn counts(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// The server's books.
    pub(super) fn ledger(&self) -> Ledger {
        self.server.as_ref().map(Running::ledger).unwrap_or_default()
    }

    /// The server's script of faults.
    pub(super) fn faults(&self) -> Option<Faults> {
        self.server.as_ref().map(Running::faults)
    }

    /// The network to the token endpoint.
    pub(super) fn network(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// Lets time pass for the server and for all processes that are started from now on.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Starts this program with these arguments.
    pub(super) fn start(&mut self, args: &[&str]) -> Result<Box<dyn ChildProcess>, Trouble> {
        let browser = format!("\"{}\" {BROWSER_COMMAND}", self.program.display());
        let variables: [(&str, OsString); 5] = [
            ("OPENCLAW_STATE_DIR", self.dir.clone().into()),
            ("HOME", self.dir.clone().into()),
            ("BROWSER", browser.into()),
            ("NO_COLOR", "1".into()),
            (
                "TOKENSINK_CLOCK_OFFSET_SECONDS",
                self.clock.offset_seconds().to_string().into(),
            ),
        ];
        let request = ProcessRequest {
            program: self.program.clone().into(),
            args: args.iter().map(OsString::from).collect(),
            set_env: variables.map(|(name, value)| (name.into(), value)).into(),
            remove_env: self.hidden.clone(),
            stdin: StdioSource::Null,
        };
        let child = self.host.processes.spawn(request).map_err(|error| {
            Trouble::new(format!(
                "{} could not be started: {error}",
                self.program.display()
            ))
        })?;
        self.tally.processes += 1;
        Ok(child)
    }

    /// Waits for the end of a process.
    pub(super) fn wait(child: &mut dyn ChildProcess) -> Result<Ended, Trouble> {
        child
            .wait(PATIENCE)
            .map_err(|error| Trouble::new(format!("a process was lost: {error}")))
    }

    /// Runs this program with these arguments to its end, and returns what it printed.
    pub(super) fn run(&mut self, args: &[&str]) -> Result<String, Trouble> {
        let mut child = self.start(args)?;
        finished(&args.join(" "), &Self::wait(&mut *child)?)
    }

    /// Whether the API takes this access token now.
    pub(super) fn api_takes(&self, token: &Secret) -> Result<bool, Trouble> {
        let Some(server) = &self.server else {
            return Ok(false);
        };
        let lost = |what: &dyn std::fmt::Display| Trouble::new(format!("the API could not be asked: {what}"));
        let url = server.url("/v1/models");
        let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| Trouble::new("what was printed can be no access token"))?;
        let request = Request::get(&url)
            .header(AUTHORIZATION, bearer)
            .body(Body::default())
            .map_err(|error| lost(&error))?;
        let url = Url::parse(&url).map_err(|error| lost(&error))?;
        let connection = self
            .host
            .transport
            .connect(&url, API_LIMITS.time)
            .map_err(|error| lost(&error))?;
        let answer = connection
            .exchange(request, API_LIMITS)
            .map_err(|error| lost(&error))?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            other => Err(lost(&other)),
        }
    }

    /// A living access token of an account.
    #[cfg(test)]
    pub(super) fn issue(&self, account: &str) -> Secret {
        let server = self.server.as_ref().unwrap();
        server.issue(account, &["openid"]).unwrap().access_token
    }

    /// Ends server and network.
    pub(super) fn end_servers(&mut self) {
        // Held answers first, since the relay waits for those that pass through it.
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
        self.relay.cut();
    }

    /// Removes the directory and everything in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_tree(&*self.host.files, &self.dir)
    }
}

/// What a process printed, if it did its work.
pub(super) fn finished(what: &str, ended: &Ended) -> Result<String, Trouble> {
    if ended.code == 0 {
        return Ok(String::from_utf8_lossy(&ended.output).into_owned());
    }
    Err(Trouble::new(format!(
        "`{what}` ended with exit code {}: {}",
        ended.code,
        complaint(ended)
    )))
}

/// What a process had to say, in one line.
pub(super) fn complaint(ended: &Ended) -> String {
    let text = String::from_utf8_lossy(&ended.complaint);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The strictest server there is: it rotates at every refresh, has no grace, and ends a login whose spent refresh
/// token comes again.
fn config() -> ServerConfig {
    ServerConfig {
        // A device is approved for the first account; the browser's login is for the second.
        accounts: vec![AccountConfig::named("bob"), AccountConfig::named("alice")],
        logins: vec![LoginAnswer::Approve("alice".to_owned())],
        device: DeviceConfig {
            interval_seconds: 1,
            approve_at_poll: Some(1),
            ..DeviceConfig::default()
        },
        ..ServerConfig::default()
    }
}

/// A new directory that only we can read.
fn make_dir(host: &Host) -> Result<PathBuf, Trouble> {
    let parent = host.env.var("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
    let mut number = [0; 8];
    let made = host.random.fill(&mut number).and_then(|()| {
        let name = format!("tokensink-demo-{:016x}", u64::from_le_bytes(number));
        // As the processes will see it, whatever links lead there.
        let dir = host.files.canonical(Path::new(&parent))?.join(name);
        host.files.create_dir_new(&dir, 0o700)?;
        Ok(dir)
    });
    made.map_err(|error| {
        Trouble::new(format!(
            "no directory could be made in {parent}: {error}; set TMPDIR to a directory that can be written to"
        ))
    })
}

/// Removes a directory with what is in it; links are removed, not followed.
fn remove_tree(files: &dyn Files, dir: &Path) -> io::Result<()> {
    for name in files.list(dir)? {
        let path = dir.join(name);
        let is_link = files.link_target(&path)?.is_some();
        if !is_link && files.stat(&path)?.is_some_and(|stamp| stamp.is_dir) {
            remove_tree(files, &path)?;
        } else {
            files.remove(&path)?;
        }
    }
    files.remove_dir(dir)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "looks at what is left on a real disk")]

    use super::*;

    #[test]
    fn a_tree_is_removed_and_links_out_of_it_are_not_followed() {
        let host = Host::real();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        let dir = outside.path().join("tree");
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.join("dangling")).unwrap();
        remove_tree(&*host.files, &dir).unwrap();
        assert!(!dir.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn the_world_is_private_and_leaves_nothing() {
        use std::os::unix::fs::PermissionsExt as _;

        let host = Host::real();
        let mut world = World::open(&host).unwrap();
        let dir = world.dir().to_owned();
        assert_eq!(
            std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let definition = std::fs::read_to_string(dir.join("tokensink/providers/demo.toml")).unwrap();
        let relay = world.relay.url("/oauth/token");
        assert_eq!(definition.matches(&relay).count(), 2, "{definition}");
        assert!(!world.api_takes(&Secret::new("made up")).unwrap());
        world.end_servers();
        world.remove().unwrap();
        assert!(!dir.exists());
    }
}
