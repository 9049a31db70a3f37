//! What a scenario works with: a world, a home with a login in it, and the program. Reads like what happens.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;
use tokensink_authserver::{GrantType, Ledger, RevokedBecause, fingerprint};
use tokensink_host::Host;
use tokensink_types::Secret;

use crate::client::{Client, Reach, Stored, Tokens, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation, Process, Stop, kill_all};
use crate::report::Verdict;
use crate::scenarios::Scenario;
use crate::world::{STRANGER, Trouble, World};

/// How long the kit waits for what no process of its own brings about.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(10);
/// Longest text of a program in a verdict, in characters.
const QUOTE: usize = 160;

/// A scenario's stage.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) host: &'a Host,
    pub(crate) client: &'a dyn Client,
    pub(crate) world: World,
    pub(crate) home: Home,
    /// Whether somebody has lost patience with us.
    stop: Stop,
    /// Everything that our processes said so far.
    said: Vec<String>,
    /// Every secret that was issued and that we know of.
    secrets: Vec<Secret>,
    /// Removed when the stage is gone.
    dir: TempDir,
}

/// One use of the login.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) used: Used,
    pub(crate) ended: Ended,
}

impl Use {
    pub(crate) fn is_served(&self) -> bool {
        self.used == Used::Served
    }

    /// What it came to, for a verdict.
    pub(crate) fn told(&self) -> String {
        match &self.used {
            Used::Served => "served".to_owned(),
            Used::LoginNeeded => "it asked for a new login".to_owned(),
            Used::Failed(_) if self.ended.code.is_none() => {
                format!("it did not end within {} s", self.ended.took.as_secs())
            }
            Used::Failed(text) => format!("it failed: {}", quoted(text)),
        }
    }
}

/// A text in one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= QUOTE {
        return line;
    }
    let cut: String = line.chars().take(QUOTE).collect();
    format!("{cut}…")
}

impl<'a> Stage<'a> {
    /// Builds the world of a scenario.
    pub(crate) fn open(
        host: &'a Host,
        client: &'a dyn Client,
        scenario: &Scenario,
        stop: &Stop,
    ) -> Result<Self, Trouble> {
        let world = World::start(host, client, |config| (scenario.server)(config))?;
        let dir = tempfile::Builder::new()
            .prefix("tokensink-conformance-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| {
                Trouble(format!(
                    "no temporary directory: {error}; set TMPDIR to one that can be written to"
                ))
            })?;
        // As the processes will see it, whatever links lead there.
        let root = host
            .files
            .canonical(dir.path())
            .map_err(|error| Trouble(format!("{}: {error}", dir.path().display())))?;
        let mut number = [0; 8];
        host.random
            .fill(&mut number)
            .map_err(|error| Trouble(format!("no randomness: {error}")))?;
        let marker = format!("{:016x}", u64::from_le_bytes(number));
        let mut stage = Self {
            host,
            client,
            home: Home::new(host.clone(), root.clone(), world.endpoints(), marker),
            world,
            stop: stop.clone(),
            said: Vec::new(),
            secrets: Vec::new(),
            dir,
        };
        stage.home = stage.new_home("home")?;
        Ok(stage)
    }

    /// A further home in which the program knows the servers.
    pub(crate) fn new_home(&self, name: &str) -> Result<Home, Trouble> {
        let root = self.dir.path().join(name);
        let root = self
            .host
            .files
            .canonical(self.dir.path())
            .map_or(root, |dir| dir.join(name));
        for dir in [root.clone(), root.join("tmp")] {
            self.host
                .files
                .create_dir(&dir, 0o700)
                .map_err(|error| Trouble(format!("{}: {error}", dir.display())))?;
        }
        let home = Home::new(
            self.host.clone(),
            root,
            self.world.endpoints(),
            self.home.marker().to_owned(),
        );
        self.client.configure(&home)?;
        Ok(home)
    }

    /// Puts a new login into the home whose access token lives for so many seconds; a negative number is one that ran
    /// out so long ago.
    pub(crate) fn log_in(&mut self, seconds: i64) -> Result<Tokens, Trouble> {
        let home = self.home.clone();
        self.log_in_at(&home, seconds)
    }

    /// The same in another home.
    pub(crate) fn log_in_at(&mut self, home: &Home, seconds: i64) -> Result<Tokens, Trouble> {
        let tokens = self.world.issue(seconds)?;
        self.put(home, &tokens)?;
        Ok(tokens)
    }

    /// Puts these tokens into a home's store.
    pub(crate) fn put(&mut self, home: &Home, tokens: &Tokens) -> Result<(), Trouble> {
        self.secrets
            .extend([tokens.access.clone(), tokens.refresh.clone()]);
        self.client.log_in(home, tokens, &self.stop)?;
        Ok(())
    }

    /// Uses the login once.
    pub(crate) fn use_once(&mut self) -> Result<Use, Trouble> {
        let home = self.home.clone();
        self.use_at(&home)
    }

    /// Uses the login of a home once.
    pub(crate) fn use_at(&mut self, home: &Home) -> Result<Use, Trouble> {
        let process = self.start_at(home)?;
        Ok(self.end_of(process))
    }

    /// Starts a use of the login.
    pub(crate) fn start(&self) -> Result<Process, Trouble> {
        self.start_at(&self.home)
    }

    /// Starts a use of a home's login.
    pub(crate) fn start_at(&self, home: &Home) -> Result<Process, Trouble> {
        self.spawn(&self.client.use_once(home)?)
    }

    /// Starts a command line.
    pub(crate) fn spawn(&self, invocation: &Invocation) -> Result<Process, Trouble> {
        Process::start(self.host, invocation, &self.stop).map_err(|error| {
            Trouble(format!(
                "could not be started: {error} (of: {})",
                invocation.shown()
            ))
        })
    }

    /// Waits for the end of a use.
    pub(crate) fn end_of(&mut self, process: Process) -> Use {
        let ended = process.wait();
        self.said.push(format!("{}\n{}", ended.output, ended.complaint));
        Use {
            used: self.client.outcome(&ended),
            ended,
        }
    }

    /// Uses the login again and again until it is served, for at most `patience`, as a person would: not at once after
    /// a failure. The last use is in the result, with how many there were.
    pub(crate) fn use_until_served(&mut self, patience: Duration) -> Result<(Use, usize), Trouble> {
        let until = self.host.clock.monotonic() + patience;
        let mut count = 0;
        loop {
            let last = self.use_once()?;
            count += 1;
            // Who asks for a login has given this one up.
            let is_over = last.is_served() || last.used == Used::LoginNeeded;
            if is_over || self.stop.is_set() || self.host.clock.monotonic() >= until {
                return Ok((last, count));
            }
            self.host.clock.sleep(Duration::from_secs(1));
        }
    }

    /// Waits until these processes have brought something about; `false` when none of them runs any more, or may. How
    /// long a program takes to get there is not the kit's to say: on a busy host one that only starts takes minutes,
    /// and an answer that is held back must find somebody who lets it go.
    pub(crate) fn wait_for(&self, processes: &mut [Process], is_so: impl Fn() -> bool) -> bool {
        loop {
            // Looked at first: what a process did last counts.
            let is_over = !processes.iter_mut().any(Process::is_running);
            if is_so() {
                return true;
            }
            if is_over {
                return false;
            }
            self.host.clock.sleep(GLANCE);
        }
    }

    /// Waits until the answer to a refresh of these processes is held back ([`tokensink_authserver::FaultAction::Hold`]); `false` when none
    /// came, and none will be held any more.
    pub(crate) fn wait_until_held(&self, processes: &mut [Process]) -> bool {
        let faults = self.world.faults();
        let is_held = self.wait_for(processes, || faults.held() > 0);
        if !is_held {
            faults.clear();
        }
        is_held
    }

    /// Waits until something is the case; `false` when that does not happen in time.
    pub(crate) fn wait_until(&self, is_so: impl Fn() -> bool) -> bool {
        let until = self.host.clock.monotonic() + PATIENCE;
        while !is_so() {
            if self.stop.is_set() || self.host.clock.monotonic() > until {
                return false;
            }
            self.host.clock.sleep(GLANCE);
        }
        true
    }

    /// Kills everything that runs in any home of this stage.
    pub(crate) fn kill(&self) -> usize {
        kill_all(self.host, self.home.marker())
    }

    /// What the home's store holds.
    pub(crate) fn stored(&self) -> Result<Stored, Trouble> {
        self.stored_at(&self.home)
    }

    /// What a home's store holds.
    pub(crate) fn stored_at(&self, home: &Home) -> Result<Stored, Trouble> {
        Ok(match self.store_bytes(home)? {
            None => Stored::Nothing,
            Some(bytes) => self.client.read(&bytes),
        })
    }

    /// Whether the server still takes the refresh token that the store holds. It is spent then, so this comes last.
    pub(crate) fn is_login_alive(&self) -> Result<bool, Trouble> {
        match self.stored()? {
            Stored::Login {
                refresh: Some(token), ..
            } => self.world.takes(&token),
            _ => Ok(false),
        }
    }

    /// The bytes of a home's store; `None` where there is none.
    pub(crate) fn store_bytes(&self, home: &Home) -> Result<Option<Vec<u8>>, Trouble> {
        let path = self.client.store(home);
        match self.host.files.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Trouble(format!("{}: {error}", path.display()))),
        }
    }

    /// The server's books.
    pub(crate) fn ledger(&self) -> Ledger {
        self.world.ledger()
    }

    /// How many refresh requests came, granted or not.
    pub(crate) fn refreshes_asked(&self) -> u64 {
        self.ledger().posts(GrantType::RefreshToken)
    }

    /// The secrets that stand in what our processes said, by what they are.
    pub(crate) fn said_secrets(&self) -> usize {
        let is_said = |secret: &&Secret| self.said.iter().any(|text| text.contains(secret.expose()));
        self.secrets.iter().filter(is_said).count()
    }

    /// Whether the program's endpoints can be set.
    pub(crate) fn is_direct(&self) -> bool {
        self.client.reach() == Reach::Direct
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // What a program left running must not outlive its home.
        self.kill();
    }
}

/// What is wrong, collected; nothing wrong is a pass.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Notes what is wrong unless `is_so`.
    pub(crate) fn expect(&mut self, is_so: bool, wrong: impl FnOnce() -> String) -> &mut Self {
        if !is_so {
            self.0.push(wrong());
        }
        self
    }

    /// A use that should have been served.
    pub(crate) fn served(&mut self, which: &str, one: &Use) -> &mut Self {
        self.expect(one.is_served(), || format!("{which}: {}", one.told()))
    }

    /// No refresh token came twice, and no login was ended for it.
    pub(crate) fn no_reuse(&mut self, ledger: &Ledger) -> &mut Self {
        let revoked = ledger
            .families
            .iter()
            .any(|family| family.revoked == Some(RevokedBecause::RefreshTokenReuse));
        self.expect(ledger.reuses == 0, || {
            let end = if revoked { ", and it ended the login" } else { "" };
            format!(
                "a spent refresh token was sent again ({} times){end}",
                ledger.reuses
            )
        })
    }

    /// Refresh requests that came, whatever became of them.
    pub(crate) fn asked(&mut self, ledger: &Ledger, wanted: u64) -> &mut Self {
        let came = ledger.posts(GrantType::RefreshToken);
        self.expect(came == wanted, || {
            format!("refresh requests that came: {came}, that should have: {wanted}")
        })
    }

    /// The store holds the newest refresh token of the login that was issued last.
    pub(crate) fn newest_stored(&mut self, ledger: &Ledger, stored: &Stored) -> &mut Self {
        let newest = ledger.families.last().map(|family| family.current.clone());
        let held = stored.refresh();
        self.expect(held.is_some() && held == newest, || match stored {
            Stored::Login { .. } if held.is_none() => "the store's refresh token is blank".to_owned(),
            Stored::Login { .. } => {
                "the store does not hold the refresh token that the server issued last".to_owned()
            }
            Stored::Nothing => "the store holds no login any more".to_owned(),
            Stored::Unreadable(why) => format!("the store cannot be read: {why}"),
        })
    }

    /// The store still holds these tokens.
    pub(crate) fn still_stored(&mut self, tokens: &Tokens, stored: &Stored) -> &mut Self {
        self.expect(
            stored.refresh() == Some(fingerprint(&tokens.refresh)),
            || match stored {
                Stored::Login { .. } if stored.refresh().is_none() => {
                    "the stored refresh token was blanked".to_owned()
                }
                Stored::Login { .. } => "the stored refresh token is another one".to_owned(),
                Stored::Nothing => "the stored login was deleted".to_owned(),
                Stored::Unreadable(why) => format!("the store cannot be read: {why}"),
            },
        )
    }

    /// The store holds some refresh token.
    pub(crate) fn not_blank(&mut self, stored: &Stored) -> &mut Self {
        self.expect(stored.refresh().is_some(), || match stored {
            Stored::Login { .. } => "the stored refresh token was blanked".to_owned(),
            Stored::Nothing => "the stored login was deleted".to_owned(),
            Stored::Unreadable(why) => format!("the store cannot be read: {why}"),
        })
    }

    /// Nothing was asked or stored in another account's name.
    pub(crate) fn no_stranger(&mut self, accounts: &[Option<String>]) -> &mut Self {
        let strangers = accounts
            .iter()
            .flatten()
            .filter(|account| *account == STRANGER)
            .count();
        self.expect(strangers == 0, || {
            format!("the API was asked with another account's token (times: {strangers})")
        })
    }

    /// The verdict, with `seen` where nothing is wrong.
    pub(crate) fn verdict(&self, seen: impl Into<String>) -> Verdict {
        if self.0.is_empty() {
            Verdict::Passed(seen.into())
        } else {
            Verdict::Failed(self.0.join("; "))
        }
    }
}
