//! The grammar of references (spec.md 16.1, 16.2), and why one gave no value.
//!
//! Pure: a reference as it stands in a file becomes one whose source, provider and id are known to be well formed.
//! Nothing here looks anything up, and nothing here ever holds a secret.

use std::fmt;

use tokensink_types::SecretRef;

use super::config::SecretsConfig;

/// The provider alias that a reference without one means, unless `secrets.defaults` says otherwise.
pub(crate) const DEFAULT_PROVIDER: &str = "default";

/// The only id of a `singleValue` file.
pub(crate) const SINGLE_VALUE: &str = "value";

/// Where a reference is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Env,
    File,
    Exec,
}

impl Source {
    pub(crate) const ALL: [Self; 3] = [Self::Env, Self::File, Self::Exec];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::File => "file",
            Self::Exec => "exec",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }
}

/// A well-formed reference, with its provider filled in. Ordered by source and provider first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reference {
    pub(crate) source: Source,
    pub(crate) provider: String,
    pub(crate) id: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.as_str(), self.provider, self.id)
    }
}

impl Reference {
    /// What `written` means under `config`.
    pub(crate) fn of(written: &SecretRef, config: &SecretsConfig) -> Result<Self, Failure> {
        let provider = |source| match &written.provider {
            Some(provider) => provider.clone(),
            None => config.default_of(source).to_owned(),
        };
        let shown = |provider: &str| format!("{}:{provider}:{}", written.source, written.id);
        let Some(source) = Source::parse(&written.source) else {
            let shown = shown(written.provider.as_deref().unwrap_or(DEFAULT_PROVIDER));
            let cause = format!(
                "there is no source {:?}; there are env, file and exec",
                written.source
            );
            let fix = "use one of these sources, or store the secret itself".to_owned();
            return Err(Failure::of(shown, None, cause, fix));
        };
        let provider = provider(source);
        if !is_alias(&provider) {
            let cause =
                "the provider alias is not a lower-case letter followed by up to 63 of a-z, 0-9, _ and -";
            let fix = "correct `provider` in the reference".to_owned();
            return Err(Failure::of(shown(&provider), None, cause.to_owned(), fix));
        }
        if let Err(cause) = check_id(source, &written.id) {
            let fix = "correct `id` in the reference".to_owned();
            return Err(Failure::of(shown(&provider), None, cause, fix));
        }
        Ok(Self {
            source,
            provider,
            id: written.id.clone(),
        })
    }

    /// The reference that a `${NAME}` value stands for.
    pub(crate) fn env(name: &str, config: &SecretsConfig) -> Self {
        Self {
            source: Source::Env,
            provider: config.default_of(Source::Env).to_owned(),
            id: name.to_owned(),
        }
    }

    /// The config key of its provider.
    pub(crate) fn key(&self) -> String {
        provider_key(&self.provider)
    }

    /// It gave no value; `field` is the field of its provider's entry that this comes from.
    pub(crate) fn failed(
        &self,
        field: Option<&str>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Failure {
        let key = match field {
            Some(field) => format!("{}.{field}", self.key()),
            None => self.key(),
        };
        Failure::of(self.to_string(), Some(key), cause.into(), fix.into())
    }

    /// As it is written into a file.
    pub(crate) fn to_written(&self) -> SecretRef {
        SecretRef {
            source: self.source.as_str().to_owned(),
            provider: Some(self.provider.clone()),
            id: self.id.clone(),
        }
    }
}

/// The config key of a provider.
pub(crate) fn provider_key(alias: &str) -> String {
    format!("secrets.providers.{alias}")
}

/// A lower-case letter, then up to 63 of lower-case letters, digits, `_` and `-` (spec.md 16.2).
pub(crate) fn is_alias(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// A capital letter, then up to 127 capitals, digits and underscores (spec.md 16.1).
pub(crate) fn is_env_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Is `id` one of this source's (spec.md 16.2)?
pub(crate) fn check_id(source: Source, id: &str) -> Result<(), String> {
    match source {
        Source::Env if is_env_name(id) => Ok(()),
        Source::Env => Err(
            "the id is no variable name: a capital letter, then up to 127 of A-Z, 0-9 and _".to_owned(),
        ),
        Source::File if id == SINGLE_VALUE || is_pointer(id) => Ok(()),
        Source::File => Err(
            "the id is neither an absolute JSON pointer such as /providers/openrouter/key (RFC 6901) nor \"value\""
                .to_owned(),
        ),
        Source::Exec if is_exec_id(id) => Ok(()),
        Source::Exec => Err(
            "the id is not a letter or digit followed by up to 255 of letters, digits and . _ : / - #, without . or .. between slashes"
                .to_owned(),
        ),
    }
}

/// An absolute JSON pointer (RFC 6901 section 3): `~` only as `~0` and `~1`.
fn is_pointer(text: &str) -> bool {
    let escapes_are_whole = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && escapes_are_whole && !text.chars().any(char::is_control)
}

fn is_exec_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/-#".contains(c);
    text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
        && text.split('/').all(|part| part != "." && part != "..")
}

/// Why a reference gave no value: what was looked up, which config key is behind it, the cause, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `source:provider:id`.
    pub(crate) reference: String,
    /// For example `secrets.providers.vault.command`.
    pub(crate) key: Option<String>,
    pub(crate) cause: String,
    pub(crate) fix: String,
}

impl Failure {
    fn of(reference: String, key: Option<String>, cause: String, fix: String) -> Self {
        Self {
            reference,
            key,
            cause,
            fix,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reference {} gives no value", self.reference)?;
        if let Some(key) = &self.key {
            write!(f, " ({key})")?;
        }
        write!(f, ": {}", self.cause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_by_source() {
        let long = "a".repeat(256);
        let cases = [
            (Source::Env, "RIG_KEY", true),
            (Source::Env, "A", true),
            (Source::Env, "rig", false),
            (Source::Env, "_A", false),
            (Source::Env, "", false),
            (Source::File, "/a/b", true),
            (Source::File, "/a~1b/~0", true),
            (Source::File, "/a~2b", false),
            (Source::File, "/a~", false),
            (Source::File, "a/b", false),
            (Source::File, "value", true),
            (Source::File, "", false),
            (Source::Exec, "vault/rig:key#1", true),
            (Source::Exec, "a/../b", false),
            (Source::Exec, "a/.", false),
            (Source::Exec, "a..b", true),
            (Source::Exec, "/a", false),
            (Source::Exec, "a b", false),
            (Source::Exec, "$(x)", false),
            (Source::Exec, &long, true),
        ];
        for (source, id, want) in cases {
            assert_eq!(check_id(source, id).is_ok(), want, "{} {id:?}", source.as_str());
        }
        assert!(check_id(Source::Exec, &"a".repeat(257)).is_err());
        assert!(!is_alias("Vault") && !is_alias("1a") && !is_alias("") && is_alias("my-vault_2"));
    }

    #[test]
    fn a_reference_without_provider_gets_the_default() {
        let config = SecretsConfig::default();
        let written = |source: &str, provider: Option<&str>, id: &str| SecretRef {
            source: source.to_owned(),
            provider: provider.map(str::to_owned),
            id: id.to_owned(),
        };
        let reference = Reference::of(&written("env", None, "RIG"), &config).unwrap();
        assert_eq!(reference.to_string(), "env:default:RIG");
        let cases = [
            (written("store", None, "x"), "no source \"store\""),
            (written("exec", Some("Vault"), "x"), "the provider alias"),
            (written("exec", Some("vault"), "../x"), "the id is not"),
        ];
        for (written, want) in cases {
            let failure = Reference::of(&written, &config).unwrap_err();
            assert!(failure.to_string().contains(want), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn no_exec_id_leaves_its_place(id in "[a-zA-Z0-9./:_#-]{0,40}") {
            if check_id(Source::Exec, &id).is_ok() {
                prop_assert!(!id.starts_with('/') && !id.starts_with('-'));
                prop_assert!(!id.split('/').any(|part| part == ".."));
            }
        }
    }
}
