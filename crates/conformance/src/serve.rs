//! The strict authorization server for whoever wants to test a program by hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use tokensink_authserver::{Fault, Ledger, RevokedBecause, Running, ServerConfig};
use tokensink_host::Host;

/// What a script file says: how the server differs from the strictest, and what goes wrong when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The server.
    pub server: ServerConfig,
    /// The faults, in the order in which they are due.
    pub fault: Vec<Fault>,
}

/// Why the server does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The script cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        why: String,
    },
    /// The server does not start.
    #[error(transparent)]
    Start(#[from] tokensink_authserver::StartError),
}

impl Script {
    /// Reads a script: TOML, or JSON where the file's name ends in `.json`.
    ///
    /// # Errors
    /// [`ServeError::Script`].
    pub fn read(host: &Host, path: &Path) -> Result<Self, ServeError> {
        let wrong = |why: String| ServeError::Script {
            path: path.to_owned(),
            why: why.trim().to_owned(),
        };
        // Paths of the command line are relative to the working directory.
        let path = host
            .files
            .canonical(path)
            .map_err(|error| wrong(error.to_string()))?;
        let bytes = host.files.read(&path).map_err(|error| wrong(error.to_string()))?;
        if path.extension().is_some_and(|end| end == "json") {
            return serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(text).map_err(|error| wrong(error.to_string()))
    }
}

/// A server that runs until it is dropped. `/` is a page with its books; the paths of
/// [`ServerConfig::control`] steer it.
#[derive(Debug)]
pub struct Serving {
    running: Running,
    client_id: String,
    accounts: Vec<String>,
    redirect_uris: Vec<String>,
}

impl Serving {
    /// Starts the server of a script at `listen`, a loopback address.
    ///
    /// # Errors
    /// [`ServeError::Start`].
    pub fn start(host: &Host, script: Script, listen: SocketAddr) -> Result<Self, ServeError> {
        let config = ServerConfig {
            listen,
            control: true,
            ..script.server
        };
        let client_id = config.client_ids.first().map_or("any", String::as_str).to_owned();
        let accounts = config
            .accounts
            .iter()
            .map(|account| account.sub.clone())
            .collect();
        let redirect_uris = config.redirect_uris.clone();
        let running = Running::start(config, Arc::clone(&host.clock), Arc::clone(&host.random))?;
        for fault in script.fault {
            running.faults().push(fault);
        }
        Ok(Self {
            running,
            client_id,
            accounts,
            redirect_uris,
        })
    }

    /// The server's base URL, without a slash at the end.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.running.url("")
    }

    /// What a program has to be told, by name.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(&'static str, String)> {
        [
            ("page", "/"),
            ("authorizationEndpoint", "/oauth/authorize"),
            ("tokenEndpoint", "/oauth/token"),
            ("deviceAuthorizationEndpoint", "/oauth/device/code"),
            ("revocationEndpoint", "/oauth/revoke"),
            ("userinfoEndpoint", "/userinfo"),
            ("metadata", "/.well-known/oauth-authorization-server"),
            ("api", "/v1"),
            ("ledger", "/__ledger"),
            ("faults", "/__faults"),
            ("issue", "/__issue"),
        ]
        .map(|(name, path)| (name, self.running.url(path)))
        .to_vec()
    }

    /// The client identifier that it knows.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Who can sign in.
    #[must_use]
    pub fn accounts(&self) -> &[String] {
        &self.accounts
    }

    /// Where it sends browsers back to; a loopback address may have any port (RFC 8252 section 7.3).
    #[must_use]
    pub fn redirect_uris(&self) -> &[String] {
        &self.redirect_uris
    }

    /// The definition of a provider for tokensink that points here.
    #[must_use]
    pub fn provider_toml(&self, id: &str) -> String {
        self.running.provider_toml(id)
    }

    /// Its books.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.running.ledger()
    }
}

/// The sum of a server's books in words.
#[must_use]
pub fn summary(ledger: &Ledger) -> String {
    let count =
        |number: u64, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let logins = u64::try_from(ledger.families.len()).unwrap_or(u64::MAX);
    let ended = ledger
        .families
        .iter()
        .filter(|family| family.revoked == Some(RevokedBecause::RefreshTokenReuse))
        .count();
    let mut parts = vec![
        count(logins, "login", "logins"),
        count(ledger.refreshes, "refresh granted", "refreshes granted"),
        count(
            ledger.replays,
            "answer repeated within the grace",
            "answers repeated within the grace",
        ),
        count(
            ledger.reuses,
            "spent refresh token sent again",
            "spent refresh tokens sent again",
        ),
        count(ledger.faults, "fault played", "faults played"),
        count(ledger.requests_total, "request", "requests"),
    ];
    if ended > 0 {
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        parts.insert(4, count(ended, "login ended for it", "logins ended for it"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use tokensink_authserver::FaultAction;

    use super::*;

    #[test]
    fn a_script_is_toml_and_says_what_is_wrong() {
        let text = "[server]\nreplay_grace_seconds = 30\n[[fault]]\ngrant = \"refresh_token\"\nnth = 2\n\
                    action = { kind = \"cut_before_answer\" }\n";
        let script: Script = toml::from_str(text).unwrap();
        assert_eq!(script.server.replay_grace_seconds, 30);
        assert_eq!(script.fault[0].action, FaultAction::CutBeforeAnswer);
        let error = toml::from_str::<Script>("[server]\nrotate = true\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2") && error.contains("rotate"), "{error}");
    }

    #[test]
    fn books_are_summed_up() {
        let ledger = Ledger {
            refreshes: 1,
            reuses: 2,
            requests_total: 9,
            ..Ledger::default()
        };
        let text = summary(&ledger);
        for part in [
            "0 logins",
            "1 refresh granted",
            "2 spent refresh tokens sent again",
            "9 requests",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
