//! The gateway as a service of the system: the unit for systemd, the property list for launchd.
//!
//! What is written depends only on the request and the environment; nothing is started, and nobody's file but our own
//! is written over. The commands that start it are told to the user, who may want to look first.

mod launchd;
mod systemd;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::{ProcessRequest, StdioSource, atomic};

use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::external::ExternalMode;
use crate::sink::Sink;

/// What tells our files from others'.
const MARK: &str = "Written by `tokensink service install`";
/// Variables that say where things are, and hold no secret. What is set for the command that installs the service is
/// set for the service.
const VARIABLES: [&str; 15] = [
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_AGENT_DIR",
    "PI_CODING_AGENT_DIR",
    "OPENCLAW_OAUTH_DIR",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];
/// How long the manager may take to answer.
const ASK_TIME: Duration = Duration::from_secs(10);

/// Who runs services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManagerKind {
    /// A user's systemd.
    Systemd,
    /// A user's launchd.
    Launchd,
}

impl ServiceManagerKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Systemd, Self::Launchd];

    /// The one of this system.
    #[must_use]
    pub fn of_this_system() -> Self {
        if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }

    /// The word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
        }
    }
}

/// A service that is wanted.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// Who is to run it.
    pub manager: ServiceManagerKind,
    /// The program; `None` for the one that runs now.
    pub program: Option<PathBuf>,
    /// The arguments after `serve`.
    pub args: Vec<String>,
    /// How long the gateway takes to end at most.
    pub stop_time: Duration,
}

/// What would be, or was, written, and what comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// Who is to run it.
    pub manager: ServiceManagerKind,
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The commands that start it, in their order.
    pub start: Vec<String>,
    /// The commands that stop it, in their order.
    pub stop: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// How it stands with the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Who runs it.
    pub manager: ServiceManagerKind,
    /// The file.
    pub path: PathBuf,
    /// Whether it is there and ours.
    pub is_installed: bool,
    /// What the manager says, for example `active`, `inactive`, `failed`; `None` when it cannot be asked.
    pub state: Option<String>,
    /// Why it cannot be asked.
    pub unknown_because: Option<String>,
}

/// What a unit or a property list is made of.
struct Parts {
    program: String,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    /// Where it may write.
    writable: Vec<String>,
    /// Where its output goes, where the manager keeps none.
    log: String,
    stop_time: Duration,
}

impl Sink {
    /// What [`Sink::service_install`] would write. Writes nothing.
    ///
    /// # Errors
    /// When the home directory or the program is not known, or a path is not Unicode.
    pub fn service_plan(&self, request: &ServiceRequest) -> Result<ServicePlan> {
        let mut notes = Vec::new();
        let parts = self.service_parts(request, &mut notes)?;
        let path = self.service_file(request.manager)?;
        let shown = quoted(&path.to_string_lossy());
        let (text, start, stop) = match request.manager {
            ServiceManagerKind::Systemd => (systemd::unit(&parts), systemd::start(), systemd::stop()),
            ServiceManagerKind::Launchd => {
                let user = self.host().processes.user().unwrap_or_default();
                (
                    launchd::plist(&parts),
                    launchd::start(user, &shown),
                    launchd::stop(user),
                )
            }
        };
        Ok(ServicePlan {
            manager: request.manager,
            path,
            text,
            start,
            stop,
            notes,
        })
    }

    /// Writes the service's file. One of an earlier version is written over; nothing is started.
    ///
    /// # Errors
    /// As for [`Sink::service_plan`], when a file that we did not write stands there, or it cannot be written.
    pub fn service_install(&self, request: &ServiceRequest) -> Result<ServicePlan> {
        let plan = self.service_plan(request)?;
        self.ours_or_missing(&plan.path)?;
        let files = &*self.host().files;
        let dir = plan.path.parent().unwrap_or(Path::new("/"));
        atomic::ensure_dir(files, dir, 0o755)
            .and_then(|()| {
                let bytes = plan.text.as_bytes();
                atomic::replace(files, &*self.host().random, &plan.path, bytes, 0o644)?;
                Ok(())
            })
            .map_err(|error| {
                let message = format!("{} cannot be written: {error}", plan.path.display());
                SinkError::new(ErrorKind::Failed, "service_unwritable", message)
                    .with_fix("tokensink service install --print")
            })?;
        Ok(plan)
    }

    /// Removes the service's file; `None` when there was none. Does not stop the service.
    ///
    /// # Errors
    /// When the file is not ours or cannot be removed.
    pub fn service_uninstall(&self, manager: ServiceManagerKind) -> Result<Option<PathBuf>> {
        let path = self.service_file(manager)?;
        if !self.ours_or_missing(&path)? {
            return Ok(None);
        }
        self.host().files.remove(&path).map_err(|error| {
            let message = format!("{} cannot be removed: {error}", path.display());
            SinkError::new(ErrorKind::Failed, "service_unwritable", message)
        })?;
        Ok(Some(path))
    }

    /// How it stands with the service. Asks the manager.
    ///
    /// # Errors
    /// When the home directory is not known.
    pub fn service_status(&self, manager: ServiceManagerKind) -> Result<ServiceStatus> {
        let path = self.service_file(manager)?;
        let is_installed = self.ours_or_missing(&path).unwrap_or(false);
        let user = self.host().processes.user().unwrap_or_default();
        let asked = match manager {
            ServiceManagerKind::Systemd => self.ask("systemctl", &systemd::ask(), systemd::state),
            ServiceManagerKind::Launchd => self.ask("launchctl", &launchd::ask(user), launchd::state),
        };
        let (state, unknown_because) = match asked {
            Ok(state) => (Some(state), None),
            Err(why) => (None, Some(why)),
        };
        Ok(ServiceStatus {
            manager,
            path,
            is_installed,
            state,
            unknown_because,
        })
    }

    fn ask(
        &self,
        program: &str,
        args: &[String],
        state: fn(&str) -> Option<String>,
    ) -> std::result::Result<String, String> {
        let request = ProcessRequest {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin: StdioSource::Null,
        };
        let failed = |why: String| format!("{program} {}: {why}", args.join(" "));
        let output = self.host().processes.output(request, ASK_TIME);
        let output = output.map_err(|error| failed(error.to_string()))?;
        state(&String::from_utf8_lossy(&output)).ok_or_else(|| failed("it says nothing about it".to_owned()))
    }

    fn service_parts(&self, request: &ServiceRequest, notes: &mut Vec<String>) -> Result<Parts> {
        let program = match &request.program {
            Some(program) => program.clone(),
            None => self.host().processes.this_program().map_err(|error| {
                let message = format!("it is not known which program this is: {error}");
                SinkError::new(ErrorKind::Failed, "no_program", message)
            })?,
        };
        let mut args = vec!["serve".to_owned()];
        args.extend(request.args.iter().cloned());
        Ok(Parts {
            program: text_of(&program)?,
            args,
            variables: self.service_variables(notes)?,
            writable: self.service_writable(notes)?,
            log: text_of(&self.run_dir().join("serve.log"))?,
            stop_time: request.stop_time,
        })
    }

    /// The state dir always; the home as well where logins of other programs are kept up to date there, because their
    /// locks are made beside their directories.
    fn service_writable(&self, notes: &mut Vec<String>) -> Result<Vec<String>> {
        let mut writable = vec![text_of(self.state_dir())?];
        let ours = |chosen: &crate::external::Chosen| chosen.mode() == ExternalMode::Cooperative;
        if self.externals().list.iter().any(ours) {
            let home = self.service_home()?;
            notes.push(format!(
                "{} is writable for the service, because logins of other programs are refreshed in their own files there",
                home.display()
            ));
            writable.push(text_of(&home)?);
        }
        Ok(writable)
    }

    fn service_variables(&self, notes: &mut Vec<String>) -> Result<Vec<(String, String)>> {
        let env = &self.host().env;
        let mut variables = Vec::new();
        for name in VARIABLES {
            let Some(value) = env.var(name) else { continue };
            if value.contains('@') {
                notes.push(format!(
                    "${name} seems to hold a password and is not written into the file; set it for the service yourself"
                ));
            } else if name == "OPENCLAW_STATE_DIR" {
                // As it is understood now: the service has another working directory.
                variables.push((name.to_owned(), text_of(self.state_dir())?));
            } else {
                variables.push((name.to_owned(), value));
            }
        }
        Ok(variables)
    }

    fn service_file(&self, manager: ServiceManagerKind) -> Result<PathBuf> {
        let home = self.service_home()?;
        Ok(match manager {
            ServiceManagerKind::Systemd => {
                let config = self.host().env.var("XDG_CONFIG_HOME").map(PathBuf::from);
                let config = config.filter(|dir| dir.is_absolute());
                config
                    .unwrap_or_else(|| home.join(".config"))
                    .join("systemd/user")
                    .join(systemd::NAME)
            }
            ServiceManagerKind::Launchd => home.join("Library/LaunchAgents").join(launchd::file_name()),
        })
    }

    fn service_home(&self) -> Result<PathBuf> {
        self.host().env.home().ok_or_else(|| {
            SinkError::new(
                ErrorKind::Failed,
                "no_home",
                "the home directory is not known; set HOME",
            )
        })
    }

    /// Whether our file is there.
    fn ours_or_missing(&self, path: &Path) -> Result<bool> {
        let read = atomic::read_stable(&*self.host().files, path).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            SinkError::new(ErrorKind::Failed, "service_unreadable", message)
        })?;
        let Some((bytes, _)) = read else {
            return Ok(false);
        };
        if String::from_utf8_lossy(&bytes).contains(MARK) {
            return Ok(true);
        }
        let message = format!(
            "{} was not written by tokensink and is left as it is",
            path.display()
        );
        let shown = quoted(&path.to_string_lossy());
        Err(SinkError::new(ErrorKind::Failed, "service_foreign", message)
            .with_fix(format!("mv {shown} {shown}.old")))
    }
}

fn text_of(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(|c: char| c.is_control()));
    text.map(str::to_owned).ok_or_else(|| {
        let message = format!("{} cannot be named in a service file", path.display());
        SinkError::new(ErrorKind::Failed, "bad_path", message)
    })
}
