//! The format of a provider file as data: every field, what it may hold, and what it is for (design: Providers).
//!
//! One table serves the check of a file ([`crate::check_file`]), the merge rules and the reference text. It knows
//! what a value may look like on its own; what the fields of a method must be together, [`crate::build`] knows.

use crate::tree::{Entry, Table};

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Any string.
    Text,
    /// A string that is never shown.
    SecretText,
    /// A provider or method id.
    Id,
    /// An absolute URL: https, or http on a loopback host.
    Url,
    /// A string that is a header name.
    HeaderName,
    /// The name of an environment variable.
    EnvName,
    /// The name of a command line option, with its dashes.
    OptionName,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or an array of them.
    Words(&'static [&'static str]),
    /// A whole number in this range.
    Integer(i64, i64),
    /// `true` or `false`.
    Flag,
    /// An array of strings that are not blank.
    Texts,
    /// An array of environment variable names.
    EnvNames,
    /// A JSON pointer (RFC 6901), or an array of them of which the first that leads somewhere counts.
    Pointers,
    /// A table of strings; `""` deletes a key.
    Map,
    /// A table of JSON pointers; `""` deletes a key.
    PointerMap,
    /// A table of header values with placeholders; `""` deletes a header.
    Headers,
    /// A table with these fields.
    Table(&'static [Field]),
    /// An array of tables with these fields.
    Tables(&'static [Field]),
    /// An array of tables with these fields, told apart by their `id`.
    Keyed(&'static [Field]),
}

/// One field of the format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) shape: Shape,
    /// What it is for, in one line.
    pub(crate) doc: &'static str,
    /// The kinds of login method that it belongs to; empty for all.
    pub(crate) kinds: &'static [&'static str],
}

const fn field(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field {
        name,
        shape,
        doc,
        kinds: &[],
    }
}

impl Field {
    const fn of(mut self, kinds: &'static [&'static str]) -> Self {
        self.kinds = kinds;
        self
    }
}

/// Ten years: the longest time that a file may name, in seconds.
const SECONDS_MAX: i64 = 10 * 366 * 86_400;
const SECONDS: Shape = Shape::Integer(0, SECONDS_MAX);

const API_KINDS: &[&str] = &[
    "anthropic-messages",
    "openai-responses",
    "openai-chat",
    "cli",
    "none",
];
const BILLING: &[&str] = &["free", "subscription", "prepaid", "metered"];
const METHOD_KINDS: &[&str] = &["pkce", "device", "token", "api_key", "external", "program"];
const FORMATS: &[&str] = &["form", "json"];
const IDENTITY_SOURCES: &[&str] = &["access_token", "id_token", "response", "userinfo"];

const OAUTH: &[&str] = &["pkce", "device"];
const PKCE: &[&str] = &["pkce"];
const DEVICE: &[&str] = &["device"];
const PASTED: &[&str] = &["token", "api_key"];
const EXTERNAL: &[&str] = &["external"];
const PROGRAM: &[&str] = &["program"];
/// The kinds whose login leaves something that we renew ourselves.
const GRANTED: &[&str] = &["pkce", "device", "program"];

/// The fields of a whole file.
pub(crate) const DEFINITION: &[Field] = &[
    field("id", Shape::Id, "the provider id that profiles carry"),
    field(
        "extends",
        Shape::Id,
        "a built-in provider whose definition this one starts from",
    ),
    field("name", Shape::Text, "the name shown to people"),
    field(
        "aliases",
        Shape::Texts,
        "further words that stand for this provider",
    ),
    field(
        "billing",
        Shape::Word(BILLING),
        "what a request costs, unless the method says otherwise",
    ),
    field(
        "notice",
        Shape::Text,
        "a policy note shown at login, onboard and status",
    ),
    field(
        "docs",
        Shape::Url,
        "where the provider describes its keys or plan",
    ),
    field(
        "env",
        Shape::EnvNames,
        "variables that hold a credential: listed, never used unless adopted",
    ),
    field(
        "env_shared",
        Shape::EnvNames,
        "those of `env` that other programs need too",
    ),
    field(
        "template",
        Shape::Flag,
        "a pattern for `extends`: needs no api.base_url",
    ),
    field(
        "api",
        Shape::Table(API),
        "where a lease is spent; the default of every method",
    ),
    field("auth", Shape::Keyed(AUTH), "a login method"),
];

/// `[api]` and `[auth.api]`.
pub(crate) const API: &[Field] = &[
    field("kind", Shape::Word(API_KINDS), "the shape of the model API"),
    field(
        "base_url",
        Shape::Url,
        "what comes before /messages (with /v1 added), /responses or /chat/completions",
    ),
    field(
        "header",
        Shape::HeaderName,
        "the header that carries the credential",
    ),
    field(
        "scheme",
        Shape::Text,
        "the word before the credential; empty for a bare key",
    ),
    field(
        "headers",
        Shape::Headers,
        "further headers; values may hold {account_id}, {email} or {field.x}",
    ),
    field(
        "required_headers",
        Shape::Texts,
        "headers without which no lease is given",
    ),
    field(
        "beta_header",
        Shape::HeaderName,
        "the header that lists beta features",
    ),
    field(
        "beta_add",
        Shape::Texts,
        "beta features that a lease of this method needs",
    ),
    field(
        "beta_remove",
        Shape::Texts,
        "beta features that must not be sent with a lease of this method",
    ),
    field(
        "command",
        Shape::Texts,
        "the program and arguments of kind \"cli\"",
    ),
    field("models", Shape::Texts, "catalogue for status, probe and /model"),
    field("aliases", Shape::Map, "short model names"),
];

/// `[[auth]]`.
pub(crate) const AUTH: &[Field] = &[
    field("id", Shape::Id, "the --method name"),
    field("name", Shape::Text, "the name shown to people"),
    field("kind", Shape::Word(METHOD_KINDS), "how the login works"),
    field("disabled", Shape::Flag, "true removes the method"),
    field(
        "notice",
        Shape::Text,
        "a policy note of this method instead of the provider's",
    ),
    field(
        "billing",
        Shape::Word(BILLING),
        "what a request costs with this method",
    ),
    field(
        "env",
        Shape::EnvNames,
        "variables that hold a credential of this method",
    ),
    field(
        "profile_name",
        Shape::Text,
        "name part of the profile id: email, email_or_subject, or a fixed word",
    ),
    field(
        "choice",
        Shape::Keyed(CHOICE),
        "an answer to onboard --auth-choice that takes this method; [] for none",
    ),
    field(
        "api",
        Shape::Table(API),
        "what differs from [api] for leases of this method",
    ),
    field(
        "token_check",
        Shape::Table(TOKEN_CHECK),
        "what a pasted credential must look like",
    )
    .of(PASTED),
    field("cli", Shape::Text, "the program whose login is used").of(EXTERNAL),
    field(
        "renew_command",
        Shape::Text,
        "the command that makes that program renew its login",
    )
    .of(EXTERNAL),
    field(
        "refresh_with",
        Shape::Id,
        "the method whose client the program's login belongs to",
    )
    .of(EXTERNAL),
    field(
        "plugin",
        Shape::Id,
        "the installed plugin whose program logs in and renews",
    )
    .of(PROGRAM),
    field(
        "client_id",
        Shape::Text,
        "client identifier (RFC 6749 section 2.2)",
    )
    .of(OAUTH),
    field(
        "client_id_env",
        Shape::EnvName,
        "variable that holds the client identifier",
    )
    .of(OAUTH),
    field(
        "client_secret",
        Shape::SecretText,
        "client secret of an installed app, where one is published",
    )
    .of(OAUTH),
    field(
        "client_secret_env",
        Shape::EnvName,
        "variable that holds the client secret",
    )
    .of(OAUTH),
    field(
        "issuer",
        Shape::Url,
        "where endpoints that are not given are discovered (RFC 8414)",
    )
    .of(OAUTH),
    field(
        "trusted_domains",
        Shape::Texts,
        "domains that discovered endpoints may lie in",
    )
    .of(OAUTH),
    field("authorization_endpoint", Shape::Url, "RFC 6749 section 3.1").of(PKCE),
    field("token_endpoint", Shape::Url, "RFC 6749 section 3.2").of(OAUTH),
    field(
        "device_authorization_endpoint",
        Shape::Url,
        "RFC 8628 section 3.1",
    )
    .of(DEVICE),
    field("revocation_endpoint", Shape::Url, "RFC 7009 section 2").of(OAUTH),
    field("userinfo_endpoint", Shape::Url, "OpenID Connect Core section 5.3").of(OAUTH),
    field(
        "device_dialect",
        Shape::Word(&["rfc8628", "openai", "user_code"]),
        "wire form of the device login",
    )
    .of(DEVICE),
    field(
        "device",
        Shape::Table(DEVICE_TABLE),
        "details of the device login",
    )
    .of(DEVICE),
    field("redirect_uri", Shape::Url, "the redirect URI").of(PKCE),
    field(
        "redirect_uri_env",
        Shape::EnvName,
        "variable that replaces the redirect URI",
    )
    .of(PKCE),
    field(
        "redirects",
        Shape::Tables(REDIRECT),
        "several redirect URIs, preferred first",
    )
    .of(PKCE),
    field(
        "callback_hosts",
        Shape::Texts,
        "loopback addresses that the listener binds",
    )
    .of(PKCE),
    field("scopes", Shape::Texts, "requested scopes (RFC 6749 section 3.3)").of(OAUTH),
    field("scopes_env", Shape::EnvName, "variable that replaces the scopes").of(OAUTH),
    field(
        "leading_params",
        Shape::Map,
        "authorization parameters before the standard ones",
    )
    .of(PKCE),
    field(
        "authorize_params",
        Shape::Map,
        "authorization parameters after the standard ones",
    )
    .of(PKCE),
    field(
        "state",
        Shape::Word(&["random", "verifier"]),
        "where the state value comes from",
    )
    .of(PKCE),
    field(
        "verifier",
        Shape::Word(&["base64url", "hex"]),
        "how the code verifier is written",
    )
    .of(OAUTH),
    field(
        "token_request",
        Shape::Word(FORMATS),
        "body of requests to the token endpoint",
    )
    .of(OAUTH),
    field("exchange", Shape::Table(EXCHANGE), "the code exchange").of(OAUTH),
    field("refresh", Shape::Table(REQUEST), "the refresh").of(OAUTH),
    field("revocation", Shape::Table(REQUEST), "the revocation").of(OAUTH),
    field(
        "identity",
        Shape::Table(IDENTITY),
        "where the account stands in an answer",
    )
    .of(OAUTH),
    field(
        "required_identity",
        Shape::Words(&["account", "email", "subject"]),
        "without these a login fails",
    )
    .of(GRANTED),
    field(
        "fields",
        Shape::PointerMap,
        "store fields filled from the token answer",
    )
    .of(GRANTED),
    field(
        "stores",
        Shape::Word(&["oauth", "token", "api_key"]),
        "the kind of credential that a login leaves",
    )
    .of(GRANTED),
    field(
        "rotation",
        Shape::Word(&["always", "never", "unknown"]),
        "whether refresh tokens rotate; unknown is learned",
    )
    .of(GRANTED),
    field(
        "replay_grace_seconds",
        SECONDS,
        "leeway of the server for a repeated refresh",
    )
    .of(GRANTED),
    field(
        "terminal_errors",
        Shape::Texts,
        "error codes that mean: log in again",
    )
    .of(OAUTH),
    field(
        "default_life_seconds",
        SECONDS,
        "life of an access token when nothing says it",
    )
    .of(GRANTED),
    field(
        "expiry_buffer_seconds",
        SECONDS,
        "taken off the life that the server names",
    )
    .of(GRANTED),
    field(
        "idle_limit_seconds",
        SECONDS,
        "an unused refresh token dies after this time",
    )
    .of(GRANTED),
    field(
        "runtime_key",
        Shape::Table(RUNTIME_KEY),
        "the stored token is exchanged for a short-lived key",
    ),
];

/// `[[auth.choice]]` (spec.md 13, 14.7).
const CHOICE: &[Field] = &[
    field("id", Shape::Id, "the word after --auth-choice"),
    field("deprecated", Shape::Texts, "further words that stand for it"),
    field("name", Shape::Text, "the line shown to people"),
    field("hint", Shape::Text, "a few words beside that line"),
    field("group", Shape::Text, "the menu entry that it stands under"),
    field(
        "option",
        Shape::OptionName,
        "the command line option that takes the secret",
    ),
    field("hidden", Shape::Flag, "true keeps it out of menus"),
    field("disabled", Shape::Flag, "true removes the choice"),
    field(
        "profile_name",
        Shape::Text,
        "name part of the profile id, where the method's is not meant",
    ),
];

const TOKEN_CHECK: &[Field] = &[
    field("prefix", Shape::Text, "how it begins"),
    field(
        "length_min",
        Shape::Integer(0, 65_536),
        "shortest length in characters",
    ),
];

const DEVICE_TABLE: &[Field] = &[
    field(
        "poll_endpoint",
        Shape::Url,
        "where the login is polled, if not where the dialect says",
    ),
    field(
        "verification_uri",
        Shape::Url,
        "where the user types the code, if neither server nor dialect says",
    ),
    field(
        "redirect_uri",
        Shape::Url,
        "redirect URI of the final exchange (dialect \"openai\")",
    ),
    field(
        "pkce",
        Shape::Flag,
        "a code challenge is sent with the device request",
    ),
    field("format", Shape::Word(FORMATS), "body of the device requests"),
    field(
        "params",
        Shape::Map,
        "further parameters of the device authorization request",
    ),
    field("headers", Shape::Map, "further headers of the device requests"),
];

const REDIRECT: &[Field] = &[
    field("uri", Shape::Url, "the redirect URI"),
    field(
        "mode",
        Shape::Word(&["loopback", "paste"]),
        "a listener takes the answer, or the user pastes it",
    ),
];

const REQUEST: &[Field] = &[
    field("format", Shape::Word(FORMATS), "the body"),
    field("params", Shape::Map, "further parameters"),
    field("headers", Shape::Map, "further headers"),
];

const EXCHANGE: &[Field] = &[
    field("format", Shape::Word(FORMATS), "the body"),
    field("params", Shape::Map, "further parameters"),
    field("headers", Shape::Map, "further headers"),
    field(
        "send_state",
        Shape::Flag,
        "the state goes back to the server with the code",
    ),
];

const IDENTITY: &[Field] = &[
    field(
        "from",
        Shape::Words(IDENTITY_SOURCES),
        "where to look; of several the first that knows a value",
    ),
    field("account", Shape::Pointers, "the account or workspace id"),
    field("email", Shape::Pointers, "the e-mail address"),
    field("plan", Shape::Pointers, "the plan"),
    field(
        "subject",
        Shape::Pointers,
        "a stable subject, for the profile name where no e-mail is known",
    ),
];

const RUNTIME_KEY: &[Field] = &[
    field("dialect", Shape::Word(&["copilot"]), "wire form of the exchange"),
    field("endpoint", Shape::Url, "where the stored token is exchanged"),
    field("headers", Shape::Map, "further headers of the exchange"),
];

/// Two ways to say the same thing: setting one in a file takes the other of the base away.
pub(crate) const ALTERNATIVES: &[(&str, &str)] = &[
    ("redirect_uri", "redirects"),
    ("client_id", "client_id_env"),
    ("client_secret", "client_secret_env"),
];

/// The field called `name`.
pub(crate) fn find(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.name == name)
}

/// `parent.name`, or `name` at the top.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// The path of one login method: `auth.<id>`, or `auth` while it has none.
pub(crate) fn method_path(table: &Table) -> String {
    keyed_path("auth", table)
}

/// The path of one table of a keyed array: `<array>.<id>`, or the array's while it has none.
pub(crate) fn keyed_path(array: &str, table: &Table) -> String {
    table.text("id").map_or_else(
        || array.to_owned(),
        |id| format!("{array}.{}", id.trim().to_lowercase()),
    )
}

/// The entry under `key` if it sets something: a blank text does not.
pub(crate) fn set_entry<'a>(table: &'a Table, key: &str) -> Option<&'a Entry> {
    table
        .entry(key)
        .filter(|entry| entry.node.text().is_none_or(|text| !text.trim().is_empty()))
}
