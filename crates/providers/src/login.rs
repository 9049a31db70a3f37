//! What a login leaves: the name of its profile, and whether a pasted credential can be one.

use thiserror::Error;
use tokensink_oauth::identity::subject_name;
use tokensink_types::{Account, Secret};

use crate::definition::{Method, ProfileName, TokenCheck};

/// Why a pasted text is not the credential that was asked for. The rules are those of spec.md 11.7.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// Nothing was pasted.
    #[error("Required")]
    Blank,
    /// It is the answer to a browser login.
    #[error(
        "this is a code#state from a browser login, not a token; run the login that asked for it again and paste it there"
    )]
    CodeAndState,
    /// It begins with something else.
    #[error("Expected token starting with {prefix}")]
    Prefix {
        /// How it must begin.
        prefix: String,
    },
    /// It was cut off.
    #[error("Token looks too short; paste the full token ({length_min} characters or more)")]
    Short {
        /// Shortest length in characters.
        length_min: usize,
    },
}

impl TokenCheck {
    /// Takes the white space out of pasted text and checks what is left. White space inside comes from terminals
    /// that wrap, and no credential has any.
    ///
    /// # Errors
    /// See [`TokenProblem`].
    pub fn accept(&self, pasted: &Secret) -> Result<Secret, TokenProblem> {
        let mut token = String::with_capacity(pasted.expose().len());
        token.extend(pasted.expose().chars().filter(|c| !c.is_whitespace()));
        let token = Secret::new(token);
        let text = token.expose();
        if text.is_empty() {
            return Err(TokenProblem::Blank);
        }
        if let Some(prefix) = &self.prefix
            && !text.starts_with(prefix.as_str())
        {
            return Err(if text.contains('#') {
                TokenProblem::CodeAndState
            } else {
                TokenProblem::Prefix {
                    prefix: prefix.clone(),
                }
            });
        }
        if self.prefix.is_some() && text.contains('#') {
            return Err(TokenProblem::CodeAndState);
        }
        if text.chars().count() < self.length_min {
            return Err(TokenProblem::Short {
                length_min: self.length_min,
            });
        }
        Ok(token)
    }
}

impl Method {
    /// The name part of the profile that a login of this method makes (spec.md 3.2).
    #[must_use]
    pub fn profile_name(&self, account: &Account) -> String {
        let text = |value: &Option<String>| {
            value
                .as_deref()
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let named = match &self.profile_name {
            ProfileName::Fixed(name) => Some(name.clone()),
            ProfileName::Email => text(&account.email),
            ProfileName::EmailOrSubject => {
                text(&account.email).or_else(|| text(&account.subject).map(|subject| subject_name(&subject)))
            }
        };
        named.unwrap_or_else(|| "default".to_owned())
    }
}
