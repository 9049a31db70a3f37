//! What makes one server differ from another. Plain data that can be read from TOML or JSON, so that a test, the
//! demo and a command line describe a server in the same words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokensink_types::Secret;

/// Everything about one server. The default is the strictest one: rotation always, reuse revokes, no grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Client identifiers that are known (RFC 6749 section 2.2); empty takes every client.
    pub client_ids: Vec<String>,
    /// Set for a confidential client: required at the token endpoint, in the body or by HTTP Basic (RFC 6749
    /// section 2.3.1).
    #[serde(with = "one_secret", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Redirect URIs. They must be met exactly, but for the port of a loopback URI (RFC 8252 section 7.3).
    pub redirect_uris: Vec<String>,
    /// Scopes that may be granted (RFC 6749 section 3.3); empty allows every scope.
    pub scopes: Vec<String>,
    /// Who can sign in. The first one is signed in where nothing else is said.
    pub accounts: Vec<AccountConfig>,
    /// What the coming authorization requests are answered with, in turn; goes before `login_hint`.
    pub logins: Vec<LoginAnswer>,
    /// Show a page that asks who signs in, instead of redirecting at once.
    pub interactive: bool,
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// A spent refresh token that comes again revokes its family (RFC 9700 section 4.14).
    pub reuse_detection: bool,
    /// Seconds after its first use in which a spent refresh token gets the same answer again, as long as the token
    /// in that answer is itself unused. 0 is strict.
    pub replay_grace_seconds: u64,
    /// Life of an access token in seconds.
    pub access_token_seconds: u64,
    /// Seconds after which an unused refresh token dies; none for never.
    pub idle_limit_seconds: Option<u64>,
    /// Life of an authorization code in seconds.
    pub code_seconds: u64,
    /// The device grant (RFC 8628).
    pub device: DeviceConfig,
    /// What an access token looks like.
    pub token_format: TokenFormat,
    /// What an error of the token endpoint looks like.
    pub error_style: ErrorStyle,
    /// What a token answer holds.
    pub answer: AnswerConfig,
    /// Model names served at `/v1/models`.
    pub models: Vec<String>,
    /// API keys that `/v1/models` takes besides access tokens.
    #[serde(with = "many_secrets")]
    pub api_keys: Vec<Secret>,
    /// Serve `/__ledger`, `/__faults` and the other paths by which a test in another process reads and steers.
    pub control: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            client_ids: vec!["rig".to_owned()],
            client_secret: None,
            redirect_uris: loopback_redirects(),
            scopes: Vec::new(),
            accounts: vec![AccountConfig::named("alice"), AccountConfig::named("bob")],
            logins: Vec::new(),
            interactive: false,
            rotation: Rotation::Always,
            reuse_detection: true,
            replay_grace_seconds: 0,
            access_token_seconds: 3600,
            idle_limit_seconds: None,
            code_seconds: 60,
            device: DeviceConfig::default(),
            token_format: TokenFormat::Jwt,
            error_style: ErrorStyle::Standard,
            answer: AnswerConfig::default(),
            models: vec!["rig-small".to_owned(), "rig-large".to_owned()],
            api_keys: vec![Secret::new("rig-key-1")],
            control: false,
        }
    }
}

fn loopback_redirects() -> Vec<String> {
    ["127.0.0.1", "[::1]", "localhost"]
        .into_iter()
        .flat_map(|host| {
            ["/auth/callback", "/callback", "/oauth-callback"].map(|path| format!("http://{host}{path}"))
        })
        .collect()
}

impl ServerConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong, with the field's name and what it may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() {
            return Err(ConfigError::NotLoopback(self.listen));
        }
        if self.accounts.is_empty() {
            return Err(ConfigError::NoAccounts);
        }
        for (index, account) in self.accounts.iter().enumerate() {
            if self.accounts[..index]
                .iter()
                .any(|other| other.sub == account.sub)
            {
                return Err(ConfigError::SameSubject(account.sub.clone()));
            }
        }
        Ok(())
    }

    /// The place in `accounts` of the account that `hint` names: its `sub`, e-mail address or account id.
    pub(crate) fn find_account(&self, hint: &str) -> Option<usize> {
        self.accounts
            .iter()
            .position(|account| account.is_named(hint.trim()))
    }
}

/// Why a configuration cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server's accounts and tokens protect nothing, so it stays on this host.
    #[error("listen = {0} is not a loopback address; give 127.0.0.1:PORT or [::1]:PORT")]
    NotLoopback(SocketAddr),
    /// Nobody could sign in.
    #[error("accounts is empty; give at least one account with a sub")]
    NoAccounts,
    /// Two accounts cannot be told apart.
    #[error("accounts has sub = {0:?} twice; give each account a sub of its own")]
    SameSubject(String),
}

/// Somebody who can sign in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// The stable subject (claim `sub`), unique within the server.
    pub sub: String,
    /// E-mail address; none leaves the claim out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Account id (claim `chatgpt_account_id`, spec.md 11.2); none leaves the claim out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Plan name (claim `chatgpt_plan_type`); none leaves the claim out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

impl AccountConfig {
    /// An account `<name>` with e-mail address `<name>@example.com` and account id `acct-<name>` on plan `plus`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            sub: name.to_owned(),
            email: Some(format!("{name}@example.com")),
            account_id: Some(format!("acct-{name}")),
            plan: Some("plus".to_owned()),
        }
    }

    fn is_named(&self, hint: &str) -> bool {
        !hint.is_empty()
            && (self.sub == hint
                || self.account_id.as_deref() == Some(hint)
                || self
                    .email
                    .as_deref()
                    .is_some_and(|email| email.eq_ignore_ascii_case(hint)))
    }
}

/// How one authorization request is answered without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginAnswer {
    /// This account (its `sub`, e-mail address or account id) signs in.
    Approve(String),
    /// The resource owner says no: `error=access_denied` (RFC 6749 section 4.1.2.1).
    Deny,
}

/// Whether a refresh replaces the refresh token (RFC 6749 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Every refresh spends the token and issues the next.
    Always,
    /// The refresh token stays the same.
    Never,
}

/// What an access token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFormat {
    /// Random text that says nothing.
    Opaque,
    /// A signed JWT with the claims of spec.md 11.2.
    Jwt,
}

/// What an error of the token endpoint looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorStyle {
    /// Status 400 with `{"error": "..."}` (RFC 6749 section 5.2).
    Standard,
    /// Status 401 with `{"error": {"code": "..."}}` and OpenAI's codes (`refresh_token_reused`, ...). The answers to
    /// device polls stay standard.
    Openai,
}

/// What a token answer holds besides the access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerConfig {
    /// `refresh_token` in the answer to a refresh. Without it nothing is rotated: the old token stays good (RFC 6749
    /// section 6).
    pub refresh_token: bool,
    /// `expires_in`, in every answer.
    pub expires_in: bool,
    /// `id_token`, in every answer to a grant with scope `openid`.
    pub id_token: bool,
    /// An object `account` with `uuid` and `email_address`, as Anthropic's answers have it (clients.md 3.2).
    pub account: bool,
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            refresh_token: true,
            expires_in: true,
            id_token: true,
            account: false,
        }
    }
}

/// The device grant, in the RFC's dialect and in OpenAI's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// Off: the endpoints answer 404, as OpenAI's do for an account that has not enabled device login.
    pub enabled: bool,
    /// Seconds that a client must leave between two polls (RFC 8628 section 3.2).
    pub interval_seconds: u64,
    /// Life of a device code in seconds.
    pub expires_seconds: u64,
    /// Approve for the first account at this poll (1 = the first one) when nobody did so before.
    pub approve_at_poll: Option<u32>,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: 5,
            expires_seconds: 900,
            approve_at_poll: None,
        }
    }
}

mod one_secret {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tokensink_types::Secret;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

mod many_secrets {
    use serde::{Deserialize, Deserializer, Serializer};
    use tokensink_types::Secret;

    pub(super) fn serialize<S: Serializer>(secrets: &[Secret], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(secrets.iter().map(Secret::expose))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Secret>, D::Error> {
        Ok(Vec::<String>::deserialize(from)?
            .into_iter()
            .map(Secret::new)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_json_and_names_what_is_unknown() {
        let config = ServerConfig {
            client_secret: Some(Secret::new("canary-1")),
            logins: vec![LoginAnswer::Approve("bob".to_owned()), LoginAnswer::Deny],
            idle_limit_seconds: Some(9),
            ..ServerConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ServerConfig>(&text).unwrap(), config);
        assert!(!format!("{config:?}").contains("canary-1"));
        let error = serde_json::from_str::<ServerConfig>(r#"{"rotate": true}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `rotate`"), "{error}");
    }

    #[test]
    fn what_cannot_be_served() {
        let account = AccountConfig::named("a");
        let cases: [(ServerConfig, &str); 3] = [
            (
                ServerConfig {
                    listen: "0.0.0.0:0".parse().unwrap(),
                    ..ServerConfig::default()
                },
                "listen = 0.0.0.0:0 is not a loopback address",
            ),
            (
                ServerConfig {
                    accounts: vec![],
                    ..ServerConfig::default()
                },
                "accounts is empty",
            ),
            (
                ServerConfig {
                    accounts: vec![account.clone(), account],
                    ..ServerConfig::default()
                },
                "sub = \"a\" twice",
            ),
        ];
        for (config, want) in cases {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(ServerConfig::default().check(), Ok(()));
    }

    #[test]
    fn accounts_are_found_by_any_of_their_names() {
        let config = ServerConfig::default();
        let cases = [
            ("alice", Some(0)),
            ("Bob@Example.com", Some(1)),
            ("acct-bob", Some(1)),
            ("carol", None),
            ("", None),
        ];
        for (hint, want) in cases {
            assert_eq!(config.find_account(hint), want, "{hint:?}");
        }
    }
}
