//! A program that somebody describes in a file: which commands log it in and use its login, where its store is, and what
//! its exit codes mean. So anybody can put a program to the test without a line of Rust.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokensink_authserver::{ErrorStyle, TokenFormat};
use tokensink_host::Host;
use tokensink_types::Secret;

use super::NotFound;
use crate::client::{Client, Dialect, Stored, Tokens, Used};
use crate::home::Home;
use crate::process::{Ended, Invocation, Process, Stop};

/// The agent of whom nothing else is said.
const AGENT: &str = "main";
/// The placeholder that a program with several stores has in the path of its store.
const AGENT_PLACE: &str = "{agent}";

/// A description, as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Name in the report.
    name: String,
    /// Version in the report.
    #[serde(default)]
    version: String,
    /// The command that puts a login into the store; reads it as a JSON object on standard input.
    log_in: Vec<String>,
    /// The command that uses the login once: one call to the API.
    #[serde(rename = "use")]
    use_once: Vec<String>,
    /// The command that renews logins ahead of time, if there is one.
    #[serde(default)]
    renew: Vec<String>,
    /// The store, below the home directory.
    store: String,
    /// JSON pointer to the access token in it.
    access: String,
    /// JSON pointer to the refresh token in it.
    refresh: String,
    /// Longest time of one use, in seconds.
    #[serde(default = "a_minute")]
    seconds: u64,
    /// Processes that a host bears at once.
    #[serde(default = "eight")]
    crowd: usize,
    /// Scenarios that may be played at once.
    #[serde(default = "four")]
    jobs: usize,
    /// What exit codes mean.
    outcome: Outcome,
    /// Variables for all its commands.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// How its authorization server talks.
    #[serde(default)]
    server: Talk,
}

fn a_minute() -> u64 {
    60
}

fn eight() -> usize {
    8
}

fn four() -> usize {
    4
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    /// Exit codes of a use that was served.
    #[serde(default = "zero")]
    served: Vec<i32>,
    /// Exit codes of a use that asks for a login.
    #[serde(default)]
    login_needed: Vec<i32>,
    /// A text in its outputs that asks for a login, whatever the exit code.
    login_needed_text: Option<String>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Talk {
    client_id: Option<String>,
    scopes: Option<Vec<String>>,
    token_format: Option<TokenFormat>,
    error_style: Option<ErrorStyle>,
}

/// The adapter.
#[derive(Debug)]
pub(super) struct Described {
    host: Host,
    description: Description,
    /// Where the description is; commands often stand beside it.
    dir: PathBuf,
}

impl Described {
    /// The program that the file at `path` describes.
    pub(super) fn read(host: &Host, path: &Path) -> Result<Self, NotFound> {
        let wrong = |why: String| NotFound::Description {
            path: path.to_owned(),
            why,
        };
        let path = host
            .files
            .canonical(path)
            .map_err(|error| wrong(error.to_string()))?;
        let bytes = host.files.read(&path).map_err(|error| wrong(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let description: Description =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().to_owned()))?;
        for (name, command) in [("log_in", &description.log_in), ("use", &description.use_once)] {
            if command.is_empty() {
                return Err(wrong(format!(
                    "{name} is empty; give a program and its arguments"
                )));
            }
        }
        Ok(Self {
            host: host.clone(),
            description,
            dir: path.parent().unwrap_or(&path).to_owned(),
        })
    }

    fn filled(&self, text: &str, home: &Home) -> String {
        text.replace("{dir}", &self.dir.to_string_lossy())
            .replace("{home}", &home.root().to_string_lossy())
            .replace("{token_endpoint}", &home.endpoints.token)
            .replace("{api}", &home.endpoints.api)
            .replace("{client_id}", &self.dialect().client_id)
            .replace(AGENT_PLACE, home.agent.as_deref().unwrap_or(AGENT))
    }

    fn store_name(&self, home: &Home) -> String {
        self.filled(&self.description.store, home)
    }

    fn invocation(&self, home: &Home, command: &[String], input: Vec<u8>) -> Result<Invocation, String> {
        let mut words = command.iter().map(|word| self.filled(word, home));
        let program = words.next().ok_or("a command is empty")?;
        let mut env = home.variables();
        let agent = home.agent.as_deref().unwrap_or(AGENT);
        let ours = [
            ("KIT_TOKEN_ENDPOINT", home.endpoints.token.as_str()),
            ("KIT_API", &home.endpoints.api),
            ("KIT_CLIENT_ID", &self.dialect().client_id),
            ("KIT_AGENT", agent),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        env.extend(ours);
        let theirs = self.description.env.iter();
        env.extend(theirs.map(|(name, value)| (name.into(), self.filled(value, home).into())));
        Ok(Invocation {
            program: program.into(),
            args: words.map(Into::into).collect(),
            env,
            dir: home.root().to_owned(),
            input,
            time: Duration::from_secs(self.description.seconds),
        })
    }
}

impl Client for Described {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn version(&self) -> &str {
        &self.description.version
    }

    fn dialect(&self) -> Dialect {
        let talk = &self.description.server;
        let usual = Dialect::default();
        Dialect {
            client_id: talk.client_id.clone().unwrap_or(usual.client_id),
            scopes: talk.scopes.clone().unwrap_or(usual.scopes),
            token_format: talk.token_format.unwrap_or(usual.token_format),
            error_style: talk.error_style.unwrap_or(usual.error_style),
            ..Dialect::default()
        }
    }

    fn configure(&self, _home: &Home) -> Result<(), String> {
        // It is told of its endpoints with each command.
        Ok(())
    }

    fn log_in(&self, home: &Home, tokens: &Tokens, stop: &Stop) -> Result<(), String> {
        let login = json!({
            "access_token": tokens.access.expose(),
            "refresh_token": tokens.refresh.expose(),
            "id_token": tokens.id.as_ref().map(Secret::expose),
            "issued_at": tokens.issued_at.0 / 1000,
            "expires_at": tokens.expires_at.0 / 1000,
            "account": tokens.account,
            "email": format!("{}@example.com", tokens.account),
            "account_id": format!("acct-{}", tokens.account),
            "client_id": tokens.client_id,
            "scope": tokens.scopes.join(" "),
        });
        let command = self.invocation(home, &self.description.log_in, login.to_string().into_bytes())?;
        let ended = Process::start(&self.host, &command, stop)?.wait();
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(format!(
                "log_in ended with exit code {:?}: {}",
                ended.code,
                ended.complaint.trim()
            )),
        }
    }

    fn use_once(&self, home: &Home) -> Result<Invocation, String> {
        self.invocation(home, &self.description.use_once, Vec::new())
    }

    fn store(&self, home: &Home) -> PathBuf {
        home.path(&self.store_name(home))
    }

    fn read(&self, store: &[u8]) -> Stored {
        let value: Value = match serde_json::from_slice(store) {
            Ok(value) => value,
            Err(error) => return Stored::Unreadable(error.to_string()),
        };
        let secret = |pointer: &str| {
            let text = value.pointer(pointer)?.as_str()?;
            (!text.is_empty()).then(|| Secret::new(text))
        };
        let (access, refresh) = (
            secret(&self.description.access),
            secret(&self.description.refresh),
        );
        if access.is_none() && refresh.is_none() {
            return Stored::Nothing;
        }
        Stored::Login { access, refresh }
    }

    fn outcome(&self, ended: &Ended) -> Used {
        let means = &self.description.outcome;
        let asks =
            |text: &String| ended.output.contains(text.as_str()) || ended.complaint.contains(text.as_str());
        match ended.code {
            Some(code) if means.served.contains(&code) => Used::Served,
            Some(code) if means.login_needed.contains(&code) => Used::LoginNeeded,
            _ if means.login_needed_text.as_ref().is_some_and(asks) => Used::LoginNeeded,
            _ => Used::Failed(format!("{} {}", ended.complaint, ended.output)),
        }
    }

    fn second(&self, home: &Home) -> Result<Option<Home>, String> {
        if !self.description.store.contains(AGENT_PLACE) {
            return Ok(None);
        }
        let other = home.for_agent("work");
        let bytes = home.get(&self.store_name(home))?.unwrap_or_default();
        home.put(&self.store_name(&other), &bytes)?;
        Ok(Some(other))
    }

    fn renew(&self, home: &Home) -> Option<Invocation> {
        if self.description.renew.is_empty() {
            return None;
        }
        self.invocation(home, &self.description.renew, Vec::new()).ok()
    }

    fn crowd(&self) -> usize {
        self.description.crowd
    }

    fn jobs(&self) -> usize {
        self.description.jobs
    }
}

#[cfg(test)]
mod tests {
    use tokensink_types::UnixMillis;

    use super::*;
    use crate::home::Endpoints;

    /// A home, and the adapter of a program whose commands are this shell script.
    fn program(script: &str) -> (tempfile::TempDir, Described, Home) {
        let (host, dir) = (Host::real(), tempfile::tempdir().unwrap());
        let endpoints = Endpoints {
            token: String::new(),
            api: String::new(),
            proxy: None,
            ca: None,
        };
        let marker = format!("test-described-{}", host.processes.this().pid);
        let home = Home::new(host.clone(), dir.path().to_owned(), endpoints, marker);
        let script = Value::from(script);
        let text = format!(
            "name = \"x\"\nlog_in = [\"/bin/sh\", \"-c\", {script}]\nuse = [\"/bin/true\"]\nstore = \"s\"\n\
             access = \"/a\"\nrefresh = \"/r\"\n[outcome]\n"
        );
        let path = home.put("program.toml", text.as_bytes()).unwrap();
        let described = Described::read(&host, &path).unwrap();
        (dir, described, home)
    }

    fn tokens() -> Tokens {
        Tokens {
            access: Secret::new("access"),
            refresh: Secret::new("refresh"),
            id: None,
            issued_at: UnixMillis(0),
            expires_at: UnixMillis(1000),
            account: "alice".to_owned(),
            scopes: Vec::new(),
            client_id: "kit".to_owned(),
        }
    }

    #[test]
    fn a_login_is_given_and_its_end_is_told() {
        let (_dir, described, home) = program("cat > s");
        described.log_in(&home, &tokens(), &Stop::default()).unwrap();
        let stored = String::from_utf8(home.get("s").unwrap().unwrap()).unwrap();
        assert!(stored.contains("\"refresh_token\":\"refresh\""), "{stored}");
        let (_dir, described, home) = program("echo no room >&2; exit 3");
        let error = described.log_in(&home, &tokens(), &Stop::default()).unwrap_err();
        assert!(error.contains("Some(3): no room"), "{error}");
    }

    #[test]
    fn nobody_waits_for_a_login_when_it_is_time_to_stop() {
        let (_dir, described, home) = program("sleep 300");
        let stop = Stop::default();
        stop.stop();
        let clock = Host::real().clock;
        let start = clock.monotonic();
        assert!(described.log_in(&home, &tokens(), &stop).is_err());
        // Its own time is a minute.
        assert!(clock.monotonic() - start < Duration::from_secs(30));
    }
}
