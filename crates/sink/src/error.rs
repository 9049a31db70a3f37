//! One error type: a small kind for branching, one sentence for people, and the command that fixes it.

use std::error::Error;
use std::fmt;

use tokensink_policy::classify::Reason;
use tokensink_store::StoreError;
use tokensink_types::{ProfileId, UnixMillis};

/// What the caller does about an error; the CLI's exit codes follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something failed and waiting does not help.
    Failed,
    /// The request itself was wrong.
    Usage,
    /// Only a login helps.
    LoginNeeded,
    /// Nothing is lost; try again later.
    TryAgain,
}

/// An error of the sink. `Display` is one sentence: what failed, where and why.
#[derive(Debug)]
pub struct SinkError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    fix: Option<String>,
    retry_at: Option<UnixMillis>,
    profile: Option<ProfileId>,
    reason: Option<Reason>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The result of every operation of the sink.
pub type Result<T> = std::result::Result<T, SinkError>;

impl SinkError {
    /// An error with a stable word for programs (`code`) and a sentence for people.
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            message: message.into(),
            fix: None,
            retry_at: None,
            profile: None,
            reason: None,
            source: None,
        }))
    }

    /// The exact command or setting that fixes it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(fix.into());
        self
    }

    /// The same with a fix that may not be known.
    #[must_use]
    pub fn with_fix_if(mut self, fix: Option<impl Into<String>>) -> Self {
        self.0.fix = fix.map(Into::into).or(self.0.fix);
        self
    }

    /// The profile that the error is about.
    #[must_use]
    pub fn about(mut self, profile: &ProfileId) -> Self {
        self.0.profile = Some(profile.clone());
        self
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn until(mut self, at: Option<UnixMillis>) -> Self {
        self.0.retry_at = at;
        self
    }

    /// Why calls have failed, where that is the cause.
    #[must_use]
    pub(crate) fn for_reason(mut self, reason: Reason) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// The error below this one.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A stable word for programs, for example `no_credential`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The command or setting that fixes it.
    #[must_use]
    pub fn fix(&self) -> Option<&str> {
        self.0.fix.as_deref()
    }

    /// When it makes sense to try again, if that is known.
    #[must_use]
    pub fn retry_at(&self) -> Option<UnixMillis> {
        self.0.retry_at
    }

    /// Why calls have failed, if that is the cause: of accounts that are all benched, what benched them
    /// (spec.md 5.7).
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The profile that the error is about.
    #[must_use]
    pub fn profile(&self) -> Option<&ProfileId> {
        self.0.profile.as_ref()
    }
}

impl From<StoreError> for SinkError {
    /// The store's own sentence says what, where and why; its command mends it.
    fn from(error: StoreError) -> Self {
        let kind = if error.is_transient() {
            ErrorKind::TryAgain
        } else {
            ErrorKind::Failed
        };
        Self::new(kind, "store", error.to_string()).with_fix_if(error.command())
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
