//! A provider as the rest of the program sees it: typed, complete, and valid by construction.
//!
//! Only [`crate::build`] makes these values. What goes together stands together: the endpoints of a login method
//! exist only in the flow that uses them.

use std::net::IpAddr;
use std::time::Duration;

use tokensink_oauth::pkce::VerifierEncoding;
use tokensink_oauth::request::BodyFormat;
use tokensink_types::record::Rotation;
use tokensink_types::{BillingClass, CredentialKind, MethodId, ProviderId, Secret};
use url::Url;

pub use tokensink_oauth::device::DeviceDialect;
pub use tokensink_oauth::identity::IdentitySource;

/// Ordered pairs of a name and a value: headers, parameters, aliases.
pub type Pairs = Vec<(String, String)>;

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The id that profiles carry.
    pub id: ProviderId,
    /// The name shown to people.
    pub name: String,
    /// Further words that stand for this provider (spec.md 3.1).
    pub aliases: Vec<String>,
    /// What a request costs, unless the method says otherwise.
    pub billing: BillingClass,
    /// A policy note, or empty.
    pub notice: String,
    /// Where the provider describes its keys or plan.
    pub docs: Option<Url>,
    /// Variables that hold a credential, in the order of preference (spec.md 4.6).
    pub env: Vec<EnvVar>,
    /// A pattern for `extends`, without an address of its own.
    pub template: bool,
    /// Where a lease is spent, for credentials of no particular method.
    pub api: ApiShape,
    /// The login methods; the first is offered first.
    pub methods: Vec<Method>,
}

/// An environment variable that may hold a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// The method whose credential it holds, where the definition says so.
    pub method: Option<MethodId>,
    /// Programs other than model clients need it too (`GITHUB_TOKEN`), so it is not taken from children.
    pub shared: bool,
}

/// The shape of a model API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApiKind {
    /// `POST {base_url}/v1/messages`.
    AnthropicMessages,
    /// `POST {base_url}/responses`.
    OpenAiResponses,
    /// `POST {base_url}/chat/completions`.
    OpenAiChat,
    /// A program that is run with the prompt.
    Cli,
    /// Nothing that we speak; leases only.
    None,
}

impl ApiKind {
    /// The word in provider files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiChat => "openai-chat",
            Self::Cli => "cli",
            Self::None => "none",
        }
    }

    /// The path after `base_url` of the one request that every API of this kind knows.
    #[must_use]
    pub fn path(self) -> Option<&'static str> {
        match self {
            Self::AnthropicMessages => Some("/v1/messages"),
            Self::OpenAiResponses => Some("/responses"),
            Self::OpenAiChat => Some("/chat/completions"),
            Self::Cli | Self::None => None,
        }
    }
}

/// Where and how a lease is spent: `[api]`, with `[auth.api]` laid over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiShape {
    /// The shape of the API.
    pub kind: ApiKind,
    /// What comes before the API's paths; absent for `cli`, `none` and templates.
    pub base_url: Option<Url>,
    /// The header that carries the credential, in lower case.
    pub header: String,
    /// The word before the credential, or empty.
    pub scheme: String,
    /// Further headers as templates, names in lower case.
    pub headers: Pairs,
    /// Names of headers without which no lease is given, in lower case.
    pub required_headers: Vec<String>,
    /// The header that lists beta features, in lower case.
    pub beta_header: String,
    /// Beta features that a lease needs.
    pub beta_add: Vec<String>,
    /// Beta features that must not go with a lease.
    pub beta_remove: Vec<String>,
    /// Program and arguments of kind `cli`.
    pub command: Vec<String>,
    /// Known models; not everything that the provider serves.
    pub models: Vec<String>,
    /// Short names of models.
    pub aliases: Pairs,
}

/// One way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// The `--method` name.
    pub id: MethodId,
    /// The name shown to people.
    pub name: String,
    /// What a request costs.
    pub billing: BillingClass,
    /// A policy note, or empty.
    pub notice: String,
    /// How the profile is called (spec.md 3.2).
    pub profile_name: ProfileName,
    /// Where a lease of this method is spent.
    pub api: ApiShape,
    /// The login itself.
    pub flow: Flow,
    /// The answers to `onboard --auth-choice` that take this method.
    pub choices: Vec<Choice>,
}

/// An auth choice: one answer to `onboard --auth-choice`, and one line of its menu (spec.md 13, 14.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The word, as it is shown; compared in any case.
    pub id: String,
    /// Further words that stand for it.
    pub deprecated: Vec<String>,
    /// The line shown to people.
    pub name: String,
    /// A few words beside that line, or empty.
    pub hint: String,
    /// The menu entry that it stands under.
    pub group: String,
    /// The option that takes the secret, with its dashes; absent where none is taken.
    pub option: Option<String>,
    /// It is left out of menus.
    pub hidden: bool,
    /// How the profile is called that it leaves.
    pub profile_name: ProfileName,
}

/// The name part of a profile id that a login makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileName {
    /// The account's e-mail address, else `default`.
    Email,
    /// The account's e-mail address, else a name made of its stable subject, else `default`.
    EmailOrSubject,
    /// Always this word.
    Fixed(String),
}

/// The kinds of login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// Authorization code with PKCE in a browser (RFC 7636).
    Pkce(Box<PkceFlow>),
    /// A code typed on another device (RFC 8628 and dialects).
    Device(Box<DeviceFlow>),
    /// A pasted bearer token that is never refreshed.
    Token(TokenCheck),
    /// A pasted API key.
    ApiKey(TokenCheck),
    /// The login of another program.
    External(ExternalLogin),
    /// A plugin's program logs in and renews.
    Program(Box<ProgramFlow>),
}

impl Flow {
    /// The word in provider files.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pkce(_) => "pkce",
            Self::Device(_) => "device",
            Self::Token(_) => "token",
            Self::ApiKey(_) => "api_key",
            Self::External(_) => "external",
            Self::Program(_) => "program",
        }
    }
}

/// `kind = "program"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFlow {
    /// The id of the plugin.
    pub plugin: String,
    /// The rules by which its answers are kept. It has no endpoints: where requests go, the program knows.
    pub client: OAuthClient,
}

/// `kind = "pkce"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkceFlow {
    /// What it shares with the device flow.
    pub client: OAuthClient,
    /// RFC 6749 section 3.1; absent where it is discovered.
    pub authorization_endpoint: Option<Url>,
    /// Redirect URIs, preferred first; never empty.
    pub redirects: Vec<Redirect>,
    /// A variable that replaces them.
    pub redirect_uri_env: Option<String>,
    /// Loopback addresses that the listener binds.
    pub callback_hosts: Vec<IpAddr>,
    /// Authorization parameters before the standard ones.
    pub leading_params: Pairs,
    /// Authorization parameters after the standard ones.
    pub authorize_params: Pairs,
    /// Where the state value comes from.
    pub state: StateSource,
    /// The server wants the state back in the code exchange.
    pub exchange_state: bool,
}

impl PkceFlow {
    /// The redirect that fits: with `remote`, or where no listener could be started, one that the user pastes from
    /// if there is one (spec.md 11.6); else the one with a listener.
    #[must_use]
    pub fn redirect(&self, remote: bool) -> Option<&Redirect> {
        let wanted = if remote {
            RedirectMode::Paste
        } else {
            RedirectMode::Loopback
        };
        self.redirects
            .iter()
            .find(|redirect| redirect.mode == wanted)
            .or(self.redirects.first())
    }
}

/// One redirect URI (RFC 6749 section 3.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Exactly as it is registered and sent.
    pub uri: String,
    /// How the answer comes back.
    pub mode: RedirectMode,
}

/// How the answer to an authorization request comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectMode {
    /// A listener on this host takes it (RFC 8252 section 7.3).
    Loopback,
    /// A page shows it and the user pastes it.
    Paste,
}

/// Where the `state` value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSource {
    /// 16 random bytes.
    Random,
    /// The code verifier itself (spec.md 11.4).
    Verifier,
}

/// `kind = "device"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFlow {
    /// What it shares with the PKCE flow.
    pub client: OAuthClient,
    /// RFC 8628 section 3.1; absent where it is discovered.
    pub device_authorization_endpoint: Option<Url>,
    /// The wire form.
    pub dialect: DeviceDialect,
    /// Where the login is polled; absent for the token endpoint. Always there in the OpenAI dialect.
    pub poll_endpoint: Option<Url>,
    /// Where the user types the code, if the server does not say.
    pub verification_uri: Option<Url>,
    /// Redirect URI of the final exchange in the OpenAI dialect, where it is always there.
    pub redirect_uri: Option<Url>,
    /// A code challenge is sent.
    pub pkce: bool,
    /// Body of the device requests.
    pub format: BodyFormat,
    /// Further parameters of the device authorization request.
    pub params: Pairs,
    /// Further headers of the device requests.
    pub headers: Pairs,
}

/// The client of an authorization server and all that is known of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthClient {
    /// The client identifier.
    pub client_id: Setting,
    /// The client secret; absent for public clients.
    pub client_secret: Option<SecretSetting>,
    /// Where endpoints that are not given are discovered (RFC 8414).
    pub issuer: Option<Url>,
    /// Domains that discovered endpoints may lie in, themselves or a name below.
    pub trusted_domains: Vec<String>,
    /// RFC 6749 section 3.2; absent where it is discovered.
    pub token_endpoint: Option<Url>,
    /// RFC 7009.
    pub revocation_endpoint: Option<Url>,
    /// OpenID Connect Core section 5.3.
    pub userinfo_endpoint: Option<Url>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// A variable that replaces the scopes.
    pub scopes_env: Option<String>,
    /// How the code verifier is written.
    pub verifier: VerifierEncoding,
    /// The code exchange.
    pub exchange: RequestShape,
    /// The refresh.
    pub refresh: RequestShape,
    /// The revocation.
    pub revocation: RequestShape,
    /// Where the account stands in an answer.
    pub identity: Identity,
    /// Store fields filled from the token answer: field name and JSON pointer.
    pub fields: Pairs,
    /// The kind of credential that a login leaves.
    pub stores: CredentialKind,
    /// Whether refresh tokens rotate.
    pub rotation: Rotation,
    /// Leeway of the server for a repeated refresh; zero is strict.
    pub replay_grace: Duration,
    /// Error codes that mean: log in again (RFC 6749 section 5.2).
    pub terminal_errors: Vec<String>,
    /// Life of an access token when nothing says it.
    pub default_life: Option<Duration>,
    /// Taken off the life that the server names (spec.md 8.10).
    pub expiry_buffer: Duration,
    /// An unused refresh token dies after this time.
    pub idle_limit: Option<Duration>,
    /// The stored token is exchanged for a short-lived key before use (spec.md 8.9).
    pub runtime_key: Option<RuntimeKey>,
}

/// A value that stands in the definition or in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The value.
    Literal(String),
    /// The name of a variable.
    Env(String),
}

/// A secret that stands in the definition or in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSetting {
    /// The secret of an installed app, which is published and protects nothing (RFC 8252 section 8.5).
    Literal(Secret),
    /// The name of a variable.
    Env(String),
}

/// What differs between requests to an authorization server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestShape {
    /// The body.
    pub format: BodyFormat,
    /// Further parameters.
    pub params: Pairs,
    /// Further headers.
    pub headers: Pairs,
}

/// Where the account stands in an answer; each value has JSON pointers of which the first that leads to one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Where to look, first that knows a value.
    pub from: Vec<IdentitySource>,
    /// The account or workspace id.
    pub account: Vec<String>,
    /// The e-mail address.
    pub email: Vec<String>,
    /// The plan.
    pub plan: Vec<String>,
    /// A stable subject.
    pub subject: Vec<String>,
    /// Without these a login fails.
    pub required: Vec<RequiredIdentity>,
}

/// A part of the identity that a login cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredIdentity {
    /// The account id.
    Account,
    /// The e-mail address.
    Email,
    /// The subject.
    Subject,
}

/// How a stored token becomes the key that the API takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeKey {
    /// The wire form.
    pub dialect: RuntimeKeyDialect,
    /// Where it is exchanged.
    pub endpoint: Url,
    /// Further headers.
    pub headers: Pairs,
}

/// Wire forms of the runtime key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKeyDialect {
    /// GitHub Copilot: `GET`, bearer, answer with `token` and `expires_at` (openclaw-live.md 9).
    Copilot,
}

/// `kind = "external"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalLogin {
    /// The program.
    pub cli: String,
    /// The command that makes the program renew its login. Never run unasked: it may cost a model call.
    pub renew_command: Option<String>,
    /// The method whose client the login belongs to.
    pub refresh_with: Option<MethodId>,
}

/// What a pasted credential must look like (spec.md 11.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenCheck {
    /// How it begins.
    pub prefix: Option<String>,
    /// Shortest length in characters.
    pub length_min: usize,
}
