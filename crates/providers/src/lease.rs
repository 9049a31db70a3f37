//! From a secret to the headers that spend it (spec.md 4.7).
//!
//! Pure text work: which credential is leased, and whether it is fresh, was decided elsewhere.

use std::collections::BTreeMap;

use thiserror::Error;
use tokensink_types::{Account, Secret};

use crate::check_value::{TemplatePart, is_header_text, template_parts};
use crate::definition::ApiShape;

/// Why a credential cannot be put into headers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The credential is blank.
    #[error("the stored credential is blank; log in again")]
    Blank,
    /// The credential or a value of the account does not fit a header.
    #[error(
        "the value for the header {header} holds characters that a header cannot carry; paste or log in again"
    )]
    NotAHeaderValue {
        /// The header.
        header: String,
    },
    /// A required header cannot be filled.
    #[error(
        "the API needs the header {header}, but {placeholder} of this profile is not known; \
         log in again so that it is read from the token answer"
    )]
    Missing {
        /// The header.
        header: String,
        /// What its template asks for.
        placeholder: String,
    },
}

impl ApiShape {
    /// The headers of a lease, names in lower case: the credential first, then the further headers, then the beta
    /// features. A further header whose placeholder is not known is left out, unless it is a required one.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub fn lease_headers(
        &self,
        secret: &Secret,
        account: &Account,
        fields: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, Secret)>, LeaseError> {
        if secret.is_blank() {
            return Err(LeaseError::Blank);
        }
        let mut headers = vec![(self.header.clone(), self.credential_value(secret)?)];
        for (name, template) in &self.headers {
            match fill(template, account, fields) {
                Ok(value) if is_header_text(&value) => headers.push((name.clone(), Secret::new(value))),
                Ok(_) => return Err(LeaseError::NotAHeaderValue { header: name.clone() }),
                Err(placeholder) if self.required_headers.contains(name) => {
                    return Err(LeaseError::Missing {
                        header: name.clone(),
                        placeholder,
                    });
                }
                Err(_) => {}
            }
        }
        if let Some(beta) = self.betas().merged(None) {
            headers.push((self.beta_header.clone(), Secret::new(beta)));
        }
        Ok(headers)
    }

    fn credential_value(&self, secret: &Secret) -> Result<Secret, LeaseError> {
        let text = secret.expose().trim();
        if !is_header_text(text) {
            return Err(LeaseError::NotAHeaderValue {
                header: self.header.clone(),
            });
        }
        Ok(if self.scheme.is_empty() {
            Secret::new(text)
        } else {
            Secret::new(format!("{} {text}", self.scheme))
        })
    }

    /// What becomes of a request's beta features when it is sent with a lease.
    #[must_use]
    pub fn betas(&self) -> Betas {
        Betas {
            header: self.beta_header.clone(),
            add: self.beta_add.clone(),
            remove: self.beta_remove.clone(),
        }
    }
}

/// The beta features that go with a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Betas {
    /// The header that lists them, in lower case.
    pub header: String,
    /// What the lease needs.
    pub add: Vec<String>,
    /// What must not go with it.
    pub remove: Vec<String>,
}

impl Betas {
    /// The value of the header for a request that came with `sent`: what the lease needs is added, what must not go
    /// with it is taken away, the rest stays in its order. `None` when nothing is left.
    #[must_use]
    pub fn merged(&self, sent: Option<&str>) -> Option<String> {
        let mut features: Vec<&str> = sent
            .unwrap_or("")
            .split(',')
            .map(str::trim)
            .filter(|feature| !feature.is_empty())
            .filter(|feature| !self.remove.iter().any(|gone| gone == feature))
            .collect();
        for feature in &self.add {
            if !features.contains(&feature.as_str()) {
                features.push(feature);
            }
        }
        (!features.is_empty()).then(|| features.join(","))
    }
}

/// Fills a template; the error is the first placeholder without a value.
fn fill(template: &str, account: &Account, fields: &BTreeMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    for part in template_parts(template) {
        match part {
            TemplatePart::Literal(text) => filled.push_str(text),
            TemplatePart::Placeholder(name) => {
                let value = placeholder(name, account, fields)
                    .map(str::trim)
                    .filter(|value| !value.is_empty());
                filled.push_str(value.ok_or_else(|| name.to_owned())?);
            }
        }
    }
    Ok(filled)
}

fn placeholder<'a>(
    name: &str,
    account: &'a Account,
    fields: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    match name {
        "account_id" => account.account_id.as_deref(),
        "email" => account.email.as_deref(),
        "plan" => account.plan.as_deref(),
        _ => fields.get(name.strip_prefix("field.")?).map(String::as_str),
    }
}
