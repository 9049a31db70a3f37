//! What the kit has to know of a program: how a login gets into its store, how it is made to use it, and what its end
//! means. Everything else is seen from outside.

use std::fmt::Debug;
use std::path::PathBuf;

use tokensink_authserver::{AnswerConfig, ErrorStyle, ServerConfig, TokenFormat, fingerprint};
use tokensink_types::{Secret, UnixMillis};

use crate::home::Home;
use crate::process::{Ended, Invocation, Stop};

/// One program under test.
pub trait Client: Debug + Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Its version as it tells it itself.
    fn version(&self) -> &str;

    /// How its authorization server talks.
    fn dialect(&self) -> Dialect {
        Dialect::default()
    }

    /// How its requests reach the kit's servers.
    fn reach(&self) -> Reach {
        Reach::Direct
    }

    /// Writes the settings that lead to the endpoints of `home`; called before the login and again when they change.
    ///
    /// # Errors
    /// A sentence that says what could not be written.
    fn configure(&self, home: &Home) -> Result<(), String>;

    /// Puts a login into the program's own store, as the program itself would have written it. An older login is
    /// replaced, and whatever else is in the store stays. A program that is run for that ends with `stop`.
    ///
    /// # Errors
    /// A sentence that says what could not be written.
    fn log_in(&self, home: &Home, tokens: &Tokens, stop: &Stop) -> Result<(), String>;

    /// The command that uses the login once: one call to the API with the access token.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    fn use_once(&self, home: &Home) -> Result<Invocation, String>;

    /// The file in which the program keeps its login.
    fn store(&self, home: &Home) -> PathBuf;

    /// What a store with these bytes holds.
    fn read(&self, store: &[u8]) -> Stored;

    /// What the end of a use means.
    fn outcome(&self, ended: &Ended) -> Used;

    /// A second user of the same login, with a copy of the store where the program keeps it (another agent, another
    /// profile); `None` where the program has no such thing.
    ///
    /// # Errors
    /// A sentence that says what could not be written.
    fn second(&self, home: &Home) -> Result<Option<Home>, String> {
        let _ = home;
        Ok(None)
    }

    /// The command that renews logins ahead of time, for programs that say they do so.
    fn renew(&self, home: &Home) -> Option<Invocation> {
        let _ = home;
        None
    }

    /// How many processes of it a host bears at once.
    fn crowd(&self) -> usize {
        8
    }

    /// How many scenarios may be played at once.
    fn jobs(&self) -> usize {
        4
    }
}

/// How requests of a program reach the kit's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its endpoints can be set; they are plain HTTP on loopback.
    Direct,
    /// Its endpoints are fixed; a proxy that ends TLS itself stands in for all hosts (`HTTPS_PROXY`).
    Proxy,
}

/// How an authorization server talks: what differs between providers and does not matter to any scenario.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// The client identifier of the program (RFC 6749 section 2.2).
    pub client_id: String,
    /// What a login is granted.
    pub scopes: Vec<String>,
    /// Access tokens as JWT or as text that says nothing.
    pub token_format: TokenFormat,
    /// Errors of the token endpoint.
    pub error_style: ErrorStyle,
    /// What a token answer holds.
    pub answer: AnswerConfig,
    /// The base URL that the server gives as its own in tokens, where a program checks it.
    pub issuer: Option<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            client_id: "kit".to_owned(),
            scopes: ["openid", "email", "offline_access"].map(str::to_owned).to_vec(),
            token_format: TokenFormat::Jwt,
            error_style: ErrorStyle::Standard,
            answer: AnswerConfig::default(),
            issuer: None,
        }
    }
}

impl Dialect {
    /// A server that talks like this and is strict in everything else.
    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig {
            client_ids: vec![self.client_id.clone()],
            token_format: self.token_format,
            error_style: self.error_style,
            answer: self.answer,
            models: vec!["kit-small".to_owned()],
            api_keys: Vec::new(),
            ..ServerConfig::default()
        }
    }
}

/// A login as the authorization server issued it.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The access token.
    pub access: Secret,
    /// The refresh token.
    pub refresh: Secret,
    /// The id token, where the server issues one.
    pub id: Option<Secret>,
    /// When the access token was issued.
    pub issued_at: UnixMillis,
    /// When the access token ends.
    pub expires_at: UnixMillis,
    /// Whose it is (`sub`); the e-mail address is `<account>@example.com`, the account id `acct-<account>`.
    pub account: String,
    /// What it was granted.
    pub scopes: Vec<String>,
    /// The client it was issued to.
    pub client_id: String,
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A login; a token that is missing or blank is `None`.
    Login {
        /// The access token.
        access: Option<Secret>,
        /// The refresh token.
        refresh: Option<Secret>,
    },
    /// No login at all, or no file.
    Nothing,
    /// Something that cannot be read as the program's store.
    Unreadable(String),
}

impl Stored {
    /// Fingerprint of the refresh token that it holds.
    pub(crate) fn refresh(&self) -> Option<String> {
        match self {
            Self::Login { refresh, .. } => refresh
                .as_ref()
                .filter(|token| !token.is_blank())
                .map(fingerprint),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }
}

/// What the end of a use means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// The API answered and the program passed it on.
    Served,
    /// The program says that somebody must log in again.
    LoginNeeded,
    /// It failed in another way; what it said, in one line.
    Failed(String),
}
