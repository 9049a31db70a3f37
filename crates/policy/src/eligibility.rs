//! Can a stored profile be used at all? (spec.md 4.3)
//!
//! The one function that order, selection, status and resolution ask (spec.md appendix B 5). A cooldown is not its
//! business: a cooling profile is eligible. An expired OAuth profile is eligible too, since it can be refreshed.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokensink_types::{CredentialKind, Expiry, ProfileId, ProviderId, UnixMillis, short_remaining};

use crate::{Candidate, Config, CredentialForm, Inline, Material, References, State};

/// The reason codes of spec.md 4.3, in the words of `--json`. `setup_inactive` is not among them: it belongs to a
/// store that keeps replacements beside the profiles, which the files that we read do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EligibilityCode {
    /// Usable.
    Ok,
    /// The id is not in the store.
    ProfileMissing,
    /// The credential, or its entry in the config, is another provider's.
    ProviderMismatch,
    /// The config's `mode` is not the stored type.
    ModeMismatch,
    /// There is no secret and no reference to one.
    MissingCredential,
    /// A token's `expires` is there but is not a number above zero.
    InvalidExpires,
    /// A token has ended; or an OAuth access token has ended and there is no refresh token.
    Expired,
    /// The reference to the secret cannot be resolved.
    UnresolvedRef,
    /// The key is a pasted command line.
    MalformedApiKey,
    /// Stored, but left out of the explicit order.
    ExcludedByAuthOrder,
    /// Any other reason why a stored profile is not used.
    IneligibleProfile,
    /// Credentials exist but no model to try them on; given by probes.
    NoModel,
}

impl EligibilityCode {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::ProfileMissing,
        Self::ProviderMismatch,
        Self::ModeMismatch,
        Self::MissingCredential,
        Self::InvalidExpires,
        Self::Expired,
        Self::UnresolvedRef,
        Self::MalformedApiKey,
        Self::ExcludedByAuthOrder,
        Self::IneligibleProfile,
        Self::NoModel,
    ];

    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ProfileMissing => "profile_missing",
            Self::ProviderMismatch => "provider_mismatch",
            Self::ModeMismatch => "mode_mismatch",
            Self::MissingCredential => "missing_credential",
            Self::InvalidExpires => "invalid_expires",
            Self::Expired => "expired",
            Self::UnresolvedRef => "unresolved_ref",
            Self::MalformedApiKey => "malformed_api_key",
            Self::ExcludedByAuthOrder => "excluded_by_auth_order",
            Self::IneligibleProfile => "ineligible_profile",
            Self::NoModel => "no_model",
        }
    }
}

impl fmt::Display for EligibilityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a profile can be used, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eligibility {
    /// The reason code.
    pub code: EligibilityCode,
    /// What is wrong and how to put it right; empty when nothing is.
    pub detail: String,
}

impl Eligibility {
    /// Nothing is wrong.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            code: EligibilityCode::Ok,
            detail: String::new(),
        }
    }

    pub(crate) fn not(code: EligibilityCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    /// True for [`EligibilityCode::Ok`].
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == EligibilityCode::Ok
    }
}

/// What a profile is wanted for; the two differ in which modes go together (spec.md 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A place in a provider's order: of unlike words only config `oauth` goes with a stored `token`.
    Order,
    /// Being resolved by its id: the bearer modes `oauth` and `token` go with each other.
    Resolve,
}

/// What eligibility is asked against.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The provider that is wanted, or `None` when any will do.
    pub provider: Option<&'a ProviderId>,
    /// What for.
    pub purpose: Purpose,
    /// The present.
    pub now: UnixMillis,
}

/// Can the profile `id`, stored as `stored`, be used? The first thing that is wrong is reported (spec.md 4.3, 8.1).
///
/// # Errors
/// When an OAuth profile is kept as a reference: that is a mistake to be put right, never a profile to be skipped.
pub fn eligibility(
    id: &ProfileId,
    stored: Option<&Candidate>,
    ask: &Ask<'_>,
) -> Result<Eligibility, OAuthRefError> {
    let Some(stored) = stored else {
        let detail = format!(
            "no profile {id} is stored; `tokensink models auth list` shows those that are, `tokensink models auth \
             login` adds one"
        );
        return Ok(Eligibility::not(EligibilityCode::ProfileMissing, detail));
    };
    if let Some(mismatch) = provider_mismatch(stored, ask).or_else(|| mode_mismatch(stored, ask)) {
        return Ok(mismatch);
    }
    let violations = violations_of(stored, ask.config);
    if !violations.is_empty() {
        return Err(OAuthRefError {
            profile: Some(id.clone()),
            violations,
        });
    }
    Ok(of_credential(stored, ask.now))
}

/// The credential by itself, whatever is configured for it.
pub(crate) fn of_credential(stored: &Candidate, now: UnixMillis) -> Eligibility {
    match stored.facts.form {
        CredentialForm::ApiKey(key) => of_secret(stored, key, "key"),
        CredentialForm::Token { token, expires } => of_token(stored, token, expires, now),
        CredentialForm::OAuth {
            access,
            refresh,
            expires,
        } => of_oauth(stored, (access, refresh), expires, now),
    }
}

fn provider_mismatch(stored: &Candidate, ask: &Ask<'_>) -> Option<Eligibility> {
    let aliases = &ask.config.aliases;
    let own = &stored.facts.provider;
    let id = &stored.id;
    if let Some(wanted) = ask.provider.filter(|wanted| !aliases.same(wanted, own)) {
        let detail = format!("the stored credential is for {own}, not for {wanted}");
        return Some(Eligibility::not(EligibilityCode::ProviderMismatch, detail));
    }
    let entry = ask.config.profile(id)?;
    let detail = format!(
        "auth.profiles in openclaw.json says {id} is for {}, but the stored credential is for {own}; correct the entry",
        entry.provider
    );
    (!aliases.same(&entry.provider, own)).then(|| Eligibility::not(EligibilityCode::ProviderMismatch, detail))
}

fn mode_mismatch(stored: &Candidate, ask: &Ask<'_>) -> Option<Eligibility> {
    let entry = ask.config.profile(&stored.id)?;
    let kind = kind_of(stored.facts.form);
    if entry.mode.is_some_and(|mode| modes_fit(mode, kind, ask.purpose)) {
        return None;
    }
    let said = entry.mode.map_or_else(
        || "no kind of stored credential".to_owned(),
        |mode| format!("mode {}", mode.as_str()),
    );
    let detail = format!(
        "auth.profiles in openclaw.json gives {} {said}, but the stored credential is of type {}; correct the \
         entry or log in again",
        stored.id,
        kind.as_str()
    );
    Some(Eligibility::not(EligibilityCode::ModeMismatch, detail))
}

fn modes_fit(mode: CredentialKind, kind: CredentialKind, purpose: Purpose) -> bool {
    match (mode, kind) {
        (CredentialKind::OAuth, CredentialKind::Token) => true,
        (CredentialKind::Token, CredentialKind::OAuth) => purpose == Purpose::Resolve,
        _ => mode == kind,
    }
}

/// The kind of credential that `form` describes.
pub(crate) fn kind_of(form: CredentialForm) -> CredentialKind {
    match form {
        CredentialForm::ApiKey(_) => CredentialKind::ApiKey,
        CredentialForm::Token { .. } => CredentialKind::Token,
        CredentialForm::OAuth { .. } => CredentialKind::OAuth,
    }
}

/// An inline value wins over a reference (spec.md 8.1), so a dead reference matters only where it stands alone.
fn of_secret(stored: &Candidate, secret: Material, what: &str) -> Eligibility {
    let id = &stored.id;
    match (secret.inline, secret.reference) {
        (Inline::CommandLine, _) => Eligibility::not(
            EligibilityCode::MalformedApiKey,
            format!("the {what} of {id} is a pasted command line; store the key itself"),
        ),
        (Inline::Value, _) => Eligibility::ok(),
        (Inline::Absent, false) => Eligibility::not(
            EligibilityCode::MissingCredential,
            format!(
                "{id} holds neither a {what} nor a {what}Ref; run `tokensink models auth login --provider {}`",
                stored.facts.provider
            ),
        ),
        (Inline::Absent, true) if stored.references == References::Failed => Eligibility::not(
            EligibilityCode::UnresolvedRef,
            format!(
                "the {what}Ref of {id} cannot be resolved; `tokensink models status` names the reference"
            ),
        ),
        (Inline::Absent, true) => Eligibility::ok(),
    }
}

/// A reference never bypasses the expiry check, and a missing secret is reported before a wrong expiry.
fn of_token(stored: &Candidate, token: Material, expires: Expiry, now: UnixMillis) -> Eligibility {
    let secret = of_secret(stored, token, "token");
    if secret.code == EligibilityCode::MissingCredential {
        return secret;
    }
    let (id, provider) = (&stored.id, &stored.facts.provider);
    let renew = format!(
        "run `tokensink models auth paste-token --provider {provider} --profile-id {id}` with a new one"
    );
    match expires {
        Expiry::At(at) if at.0 > 0 && now < at => secret,
        Expiry::At(at) if at.0 > 0 => {
            let ago = short_remaining(at.until(now));
            Eligibility::not(
                EligibilityCode::Expired,
                format!("the token of {id} ended {ago} ago; {renew}"),
            )
        }
        Expiry::Never => secret,
        Expiry::At(_) | Expiry::Invalid => Eligibility::not(
            EligibilityCode::InvalidExpires,
            format!("`expires` of {id} is not a number of milliseconds above zero; {renew}"),
        ),
    }
}

/// An access token that has ended with nothing to refresh it is as good as none. (The files of age C2 call such a
/// profile eligible; every use of it would fail.)
fn of_oauth(
    stored: &Candidate,
    (access, refresh): (bool, bool),
    expires: Option<UnixMillis>,
    now: UnixMillis,
) -> Eligibility {
    let (id, provider) = (&stored.id, &stored.facts.provider);
    let login = format!("run `tokensink models auth login --provider {provider}`");
    if !access && !refresh {
        let detail = format!("{id} holds neither an access token nor a refresh token; {login}");
        return Eligibility::not(EligibilityCode::MissingCredential, detail);
    }
    match expires {
        Some(at) if at.0 > 0 && at <= now && !refresh => {
            let detail = format!("the access token of {id} has ended and there is no refresh token; {login}");
            Eligibility::not(EligibilityCode::Expired, detail)
        }
        _ => Eligibility::ok(),
    }
}

/// OAuth tokens were given as references (spec.md 4.3): they change with every refresh, so they must live in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct OAuthRefError {
    /// The profile that was asked for, or `None` when a whole store was checked.
    pub profile: Option<ProfileId>,
    /// Every field that is wrong.
    pub violations: Vec<OAuthRefViolation>,
}

/// One field that holds a reference where none may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthRefViolation {
    /// The profile.
    pub profile: ProfileId,
    /// The field in `auth-profiles.json`.
    pub field: String,
    /// True when the stored type is `oauth`; false when only the config's mode is.
    pub stored_as_oauth: bool,
}

impl fmt::Display for OAuthRefError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.profile {
            Some(id) => write!(f, "auth profile {id}: ")?,
            None => f.write_str("auth-profiles: ")?,
        }
        f.write_str(
            "OAuth + SecretRef is not supported, because a refresh replaces the tokens and a reference cannot be \
             written to. Log in again with `tokensink models auth login`, or store a static key or token instead.",
        )?;
        for violation in &self.violations {
            let reason = if violation.stored_as_oauth {
                "a profile of type oauth cannot hold a reference"
            } else {
                "auth.profiles in openclaw.json says mode oauth, which cannot hold a reference"
            };
            write!(
                f,
                "\nprofiles.{}.{}: {reason}",
                violation.profile, violation.field
            )?;
        }
        Ok(())
    }
}

/// Checks a whole store at once, for loading and `doctor`.
///
/// # Errors
/// When any profile breaks the rule, with every field that does.
pub fn check_oauth_refs(config: &Config, state: &State) -> Result<(), OAuthRefError> {
    let violations: Vec<_> = state
        .candidates
        .iter()
        .flat_map(|stored| violations_of(stored, config))
        .collect();
    if violations.is_empty() {
        return Ok(());
    }
    Err(OAuthRefError {
        profile: None,
        violations,
    })
}

fn violations_of(stored: &Candidate, config: &Config) -> Vec<OAuthRefViolation> {
    let violation = |field: &str, stored_as_oauth| OAuthRefViolation {
        profile: stored.id.clone(),
        field: field.to_owned(),
        stored_as_oauth,
    };
    let oauth_by_config =
        || config.profile(&stored.id).and_then(|entry| entry.mode) == Some(CredentialKind::OAuth);
    match stored.facts.form {
        CredentialForm::OAuth { .. } => stored
            .ref_fields
            .iter()
            .map(|field| violation(field, true))
            .collect(),
        CredentialForm::ApiKey(key) if key.reference && oauth_by_config() => {
            vec![violation("keyRef", false)]
        }
        CredentialForm::Token { token, .. } if token.reference && oauth_by_config() => {
            vec![violation("tokenRef", false)]
        }
        CredentialForm::ApiKey(_) | CredentialForm::Token { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
