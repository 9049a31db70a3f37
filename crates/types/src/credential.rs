//! One stored credential, in the three variants of the store (spec.md 2.2).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Account, ProviderId, Secret, UnixMillis};

/// The three kinds of credential; the words are those of the store's `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// `oauth`: refreshable.
    #[serde(rename = "oauth")]
    OAuth,
    /// `token`: a bearer token that is never refreshed.
    Token,
    /// `api_key`.
    ApiKey,
}

impl CredentialKind {
    /// The word in the store and in the config's `mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OAuth => "oauth",
            Self::Token => "token",
            Self::ApiKey => "api_key",
        }
    }

    /// The kind with that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::OAuth, Self::Token, Self::ApiKey]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A credential as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key that does not expire.
    ApiKey(ApiKey),
    /// A bearer token without refresh.
    Token(StaticToken),
    /// An OAuth grant.
    OAuth(OAuth),
}

impl Credential {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::ApiKey(_) => CredentialKind::ApiKey,
            Self::Token(_) => CredentialKind::Token,
            Self::OAuth(_) => CredentialKind::OAuth,
        }
    }

    /// The provider it belongs to.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        match self {
            Self::ApiKey(c) => &c.provider,
            Self::Token(c) => &c.provider,
            Self::OAuth(c) => &c.provider,
        }
    }

    /// Its labels for people.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        match self {
            Self::ApiKey(c) => &c.labels,
            Self::Token(c) => &c.labels,
            Self::OAuth(c) => &c.labels,
        }
    }

    /// The OAuth grant, if it is one.
    #[must_use]
    pub fn as_oauth(&self) -> Option<&OAuth> {
        match self {
            Self::OAuth(c) => Some(c),
            Self::ApiKey(_) | Self::Token(_) => None,
        }
    }
}

/// Labels that any variant may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// E-mail address; for OAuth also part of the identity.
    pub email: Option<String>,
    /// A name given by the user.
    pub display_name: Option<String>,
}

/// `type: "api_key"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Owner of the key.
    pub provider: ProviderId,
    /// `key` / `keyRef`.
    pub key: SecretSource,
    /// Free string map, for example gateway ids.
    pub metadata: BTreeMap<String, String>,
    /// `email`, `displayName`.
    pub labels: Labels,
}

/// `type: "token"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticToken {
    /// Owner of the token.
    pub provider: ProviderId,
    /// `token` / `tokenRef`.
    pub token: SecretSource,
    /// `expires`.
    pub expires: Expiry,
    /// `email`, `displayName`.
    pub labels: Labels,
}

/// `type: "oauth"`.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth {
    /// Owner of the grant.
    pub provider: ProviderId,
    /// The tokens of the current generation.
    pub tokens: TokenSet,
    /// Whose grant it is; its e-mail is the one in `labels`.
    pub account: Account,
    /// The client that the grant was issued to, where the store names one (chutes needs it at refresh).
    pub client_id: Option<String>,
    /// Further provider-owned text fields by their store name (`enterpriseUrl`, `projectId`, `resourceUrl`, ...):
    /// filled from token answers by the provider definition, used in lease headers as `{field.x}`.
    pub fields: BTreeMap<String, String>,
    /// `email`, `displayName`.
    pub labels: Labels,
}

/// Of `fields` only how many they are: after a slip in an editor, a token may stand under a name that nobody knows, or in
/// the name itself.
impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("provider", &self.provider)
            .field("tokens", &self.tokens)
            .field("account", &self.account)
            .field("client_id", &self.client_id)
            .field("fields", &format_args!("{} fields", self.fields.len()))
            .field("labels", &self.labels)
            .finish()
    }
}

/// One generation of an OAuth grant (RFC 6749 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    /// The access token.
    pub access: Secret,
    /// The refresh token; blank or absent means that nothing can be refreshed.
    pub refresh: Option<Secret>,
    /// When the access token ends; `None` when unknown.
    pub expires: Option<UnixMillis>,
    /// The OpenID Connect id token, where one is kept.
    pub id_token: Option<Secret>,
}

impl TokenSet {
    /// The refresh token if there is a usable one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh.as_ref().filter(|token| !token.is_blank())
    }
}

/// The end of a static token as written in the store; an unusable value is kept apart from an absent one
/// (spec.md 4.3, `invalid_expires`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// No `expires` field.
    Never,
    /// A finite number above zero.
    At(UnixMillis),
    /// Present, but not a finite number above zero.
    Invalid,
}

/// Where a static secret comes from: a value, a reference, or both (the value wins, spec.md 8.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretSource {
    /// The value in the file, if it is not blank.
    pub inline: Option<SecretText>,
    /// A reference to the value.
    pub reference: Option<SecretRef>,
}

impl SecretSource {
    /// A plain value.
    #[must_use]
    pub fn inline(secret: Secret) -> Self {
        Self {
            inline: Some(SecretText::Plain(secret)),
            reference: None,
        }
    }

    /// What a reference gives is spent.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.inline.is_none() && self.reference.is_some()
    }

    /// Neither a value nor a reference.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.inline.is_none() && self.reference.is_none()
    }
}

/// An inline value: plain, or a `${NAME}` template that stands for an environment reference (spec.md 8.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretText {
    /// The secret itself.
    Plain(Secret),
    /// `${NAME}`; used as it stands when the variable is not set.
    EnvTemplate {
        /// The text as written.
        literal: Secret,
        /// The variable's name.
        name: String,
    },
}

/// A reference to a secret kept elsewhere (spec.md 16.1): `{source, provider, id}`. Kept as written; which sources
/// can be resolved is the resolver's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// `env`, `file`, `exec` or a later word.
    pub source: String,
    /// The alias of the secret provider; `None` for the source's default.
    pub provider: Option<String>,
    /// What to look up.
    pub id: String,
}
