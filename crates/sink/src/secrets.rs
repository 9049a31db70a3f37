//! Static secrets: the value in the file, or what a reference leads to (spec.md 8.1, 16.1).
//!
//! References into the environment are resolved; other sources are kept untouched in the store and reported as not
//! resolvable, so that a key which needs them is never mistaken for a missing one.

use tokensink_host::Environment;
use tokensink_types::{Secret, SecretRef, SecretSource, SecretText};

/// Why a secret is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// Neither value nor reference.
    Missing,
    /// The reference leads nowhere.
    Reference {
        /// What was looked up.
        what: String,
        /// What helps.
        fix: String,
    },
}

/// The secret of `source`: a plain value as it is; a `${NAME}` value from the environment, or literally when the
/// variable is unset; otherwise what the reference leads to.
pub(crate) fn resolve(source: &SecretSource, env: &dyn Environment) -> Result<Secret, Unresolved> {
    match &source.inline {
        Some(SecretText::Plain(secret)) => Ok(secret.clone()),
        Some(SecretText::EnvTemplate { literal, name }) => {
            Ok(env.var(name).map_or_else(|| literal.clone(), Secret::new))
        }
        None => source
            .reference
            .as_ref()
            .map_or(Err(Unresolved::Missing), |reference| by_reference(reference, env)),
    }
}

fn by_reference(reference: &SecretRef, env: &dyn Environment) -> Result<Secret, Unresolved> {
    if reference.source != "env" {
        return Err(Unresolved::Reference {
            what: format!("the {} reference {:?}", reference.source, reference.id),
            fix: "store the key itself with `tokensink models auth paste-api-key`, or use an env reference"
                .to_owned(),
        });
    }
    env.var(&reference.id)
        .map(Secret::new)
        .ok_or_else(|| Unresolved::Reference {
            what: format!("the environment variable {}", reference.id),
            fix: format!("set {} in the environment of the caller", reference.id),
        })
}
