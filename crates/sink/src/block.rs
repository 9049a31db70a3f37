//! Why a grant cannot be refreshed at this moment, in the words that callers and status show.

use std::time::Duration;

use tokensink_host::Liveness;
use tokensink_host::lock::Holder;
use tokensink_neighbours::Neighbour;
use tokensink_policy::{Eligibility, EligibilityCode};
use tokensink_refresh::{Death, RESTORED_SPENT, Standing, Verdict};
use tokensink_types::{AgentId, CredentialKind, ProfileId, ProviderId, UnixMillis};

use crate::error::{ErrorKind, SinkError};
use crate::owner::Target;
use crate::snapshot::AgentSnapshot;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: ErrorKind,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    pub(crate) fix: Option<String>,
    pub(crate) until: Option<UnixMillis>,
}

impl Block {
    /// The block that a standing means. `Fresh` and `Due` are none; they are told as what they are.
    pub(crate) fn of(standing: Standing, profile: &ProfileId, now: UnixMillis) -> Self {
        match standing {
            Standing::Dead(death) => Self::dead(death),
            Standing::BackOff { until, reason } => Self {
                kind: ErrorKind::TryAgain,
                code: "backing_off",
                reason: format!("the last refresh of {profile} failed: {reason}"),
                fix: None,
                until: Some(until),
            },
            Standing::Unknown { sent, until } => Self {
                kind: ErrorKind::TryAgain,
                code: "outcome_unknown",
                reason: sent.holder.origin().map_or_else(|| format!(
                    "a refresh of {profile} was sent {} ago by {} and its answer never arrived, so it is not known whether the refresh token is spent",
                    seconds(sent.last_at.until(now)),
                    sent.holder
                ), |origin| format!(
                    "{profile} was restored from {origin}; its refresh token may have been used since, and is not sent before the access token has ended"
                )),
                fix: None,
                until: Some(until),
            },
            Standing::Fresh | Standing::Due(_) => Self::unstable(format!("{profile} can be refreshed")),
        }
    }

    pub(crate) fn unstable(reason: String) -> Self {
        Self {
            kind: ErrorKind::TryAgain,
            code: "unstable",
            reason,
            fix: None,
            until: None,
        }
    }

    /// The block that a flight's end means; `None` when it served.
    pub(crate) fn of_verdict(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Served { .. } => None,
            Verdict::LoginNeeded(death) => Some(Self::dead(death)),
            Verdict::TryAgain {
                failure,
                until,
                outcome_unknown,
            } => Some(Self {
                kind: ErrorKind::TryAgain,
                code: if outcome_unknown {
                    "outcome_unknown"
                } else {
                    "refresh_failed"
                },
                reason: failure.reason,
                fix: failure.fix,
                until,
            }),
            Verdict::Elsewhere { place } => Some(Self::unstable(format!("{place} holds the newer login"))),
            Verdict::Gone => Some(Self::unstable("the profile is gone".to_owned())),
        }
    }

    pub(crate) fn readonly() -> Self {
        Self {
            kind: ErrorKind::Failed,
            code: "readonly",
            reason: "OPENCLAW_AUTH_STORE_READONLY is set, so nothing can be refreshed".to_owned(),
            fix: Some("unset OPENCLAW_AUTH_STORE_READONLY".to_owned()),
            until: None,
        }
    }

    pub(crate) fn dead(death: Death) -> Self {
        let (code, reason) = match death {
            Death::NoRefreshToken => ("no_refresh_token", "the access token has ended and there is no refresh token".to_owned()),
            Death::OtherAccount => (
                "other_account",
                "the token endpoint answered a refresh with the tokens of another account; they are kept aside and never used".to_owned(),
            ),
            Death::Refused { code, description, .. } if code == RESTORED_SPENT => ("restored_spent", description),
            Death::Refused { code, description, after_lost_answer: false } => {
                ("refused", format!("the token endpoint refused the refresh token: {code}{}", bracketed(&description)))
            }
            Death::Refused { code, after_lost_answer: true, .. } => (
                "refused_after_lost_answer",
                format!(
                    "the answer to an earlier refresh was lost after the server had replaced the refresh token, and the server did not give it again ({code})"
                ),
            ),
        };
        Self {
            kind: ErrorKind::LoginNeeded,
            code,
            reason,
            fix: None,
            until: None,
        }
    }

    /// The access token of a login that is only read has ended. The command renews it where it is kept; it is never
    /// run unasked, since it may cost a model call.
    pub(crate) fn borrowed_ended(neighbour: Neighbour, renew: &str) -> Self {
        let title = neighbour.title();
        let unattended = if neighbour.may_cooperate() {
            format!(
                "; on a host where nobody sits let it be refreshed: `tokensink external set {neighbour} cooperative`"
            )
        } else {
            String::new()
        };
        Self {
            kind: ErrorKind::LoginNeeded,
            code: "borrowed_ended",
            reason: format!(
                "the access token of {title} has ended, and a borrowed login is renewed by {title} alone (`{renew}`){unattended}"
            ),
            fix: Some(renew.to_owned()),
            until: None,
        }
    }

    pub(crate) fn still_flying(profile: &ProfileId, waited: Duration) -> Self {
        let reason = format!(
            "the refresh of {profile} is still under way after {}; it goes on without this call",
            seconds(waited)
        );
        Self {
            kind: ErrorKind::TryAgain,
            code: "still_refreshing",
            reason,
            fix: None,
            until: None,
        }
    }

    /// No usable provider definition can refresh.
    pub(crate) fn no_definition(provider: &ProviderId, fix: String) -> Self {
        Self {
            kind: ErrorKind::Failed,
            code: "no_definition",
            reason: format!("no definition of provider {provider} says how to refresh it"),
            fix: Some(fix),
            until: None,
        }
    }

    /// A helper process ended before it could say how its flight went.
    pub(crate) fn helper_died() -> Self {
        Self {
            kind: ErrorKind::TryAgain,
            code: "helper_died",
            reason: "the helper process of the refresh was killed or failed; what it had begun is recorded"
                .to_owned(),
            fix: None,
            until: None,
        }
    }

    /// Another call of this process refreshes, or is going to.
    pub(crate) fn under_way(profile: &ProfileId) -> Self {
        Self {
            kind: ErrorKind::TryAgain,
            code: "refreshing",
            reason: format!("{profile} is being refreshed by another call of this process"),
            fix: None,
            until: None,
        }
    }

    /// Another process has the grant's lock.
    pub(crate) fn held(profile: &ProfileId, holder: Option<&Holder>) -> Self {
        let (who, fix) = match holder {
            Some(holder) if holder.liveness == Liveness::Stopped => (
                format!(
                    "{}, which is stopped, for {}",
                    holder.process,
                    seconds(holder.age)
                ),
                Some(format!("kill -CONT {}", holder.process.pid)),
            ),
            Some(holder) if holder.liveness != Liveness::Dead => {
                (format!("{} for {}", holder.process, seconds(holder.age)), None)
            }
            _ => ("another process".to_owned(), None),
        };
        let reason = format!("{profile} is being refreshed by {who}");
        Self {
            kind: ErrorKind::TryAgain,
            code: "refreshing",
            reason,
            fix,
            until: None,
        }
    }

    /// The error for a caller; `login` is the command that brings a new login.
    pub(crate) fn into_error(self, target: &Target, login: &str) -> SinkError {
        let message = match self.kind {
            ErrorKind::LoginNeeded if self.fix.is_none() => {
                format!("{} needs a new login: {}", target.profile, self.reason)
            }
            ErrorKind::LoginNeeded | ErrorKind::TryAgain | ErrorKind::Failed | ErrorKind::Usage => {
                format!("{} has no valid token now: {}", target.profile, self.reason)
            }
        };
        let login = (self.kind == ErrorKind::LoginNeeded).then(|| login.to_owned());
        let retry = (self.code == "backing_off").then(|| retry_command(&target.profile, &target.owner));
        SinkError::new(self.kind, self.code, message)
            .with_fix_if(self.fix.or(login).or(retry))
            .until(self.until)
            .about(&target.profile)
    }
}

/// The command that logs a profile in again and keeps its id.
pub(crate) fn login_command(provider: &ProviderId, profile: &ProfileId, owner: &AgentId) -> String {
    let agent = if owner.is_main() {
        String::new()
    } else {
        format!(" --agent {owner}")
    };
    format!(
        "tokensink models auth login --provider {provider} --profile-id {}{agent}",
        quoted(profile.as_str())
    )
}

/// The command that forgets failed tries.
fn retry_command(profile: &ProfileId, owner: &AgentId) -> String {
    let agent = if owner.is_main() {
        String::new()
    } else {
        format!(" --agent {owner}")
    };
    format!("tokensink models auth retry {}{agent}", quoted(profile.as_str()))
}

/// The command that stores a token or key anew.
pub(crate) fn paste_command(
    provider: &ProviderId,
    profile: &ProfileId,
    kind: CredentialKind,
    owner: &AgentId,
) -> String {
    let agent = if owner.is_main() {
        String::new()
    } else {
        format!(" --agent {owner}")
    };
    let verb = if kind == CredentialKind::ApiKey {
        "paste-api-key"
    } else {
        "paste-token"
    };
    format!(
        "tokensink models auth {verb} --provider {provider} --profile-id {}{agent}",
        quoted(profile.as_str())
    )
}

pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@+/=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The error for a profile that may not be used at all.
pub(crate) fn ineligible(
    snapshot: &AgentSnapshot,
    id: &ProfileId,
    why: &Eligibility,
    agent: &AgentId,
) -> SinkError {
    let stored = snapshot.profile(id);
    let command = stored.map(|profile| {
        let credential = &profile.entry.credential;
        match credential.kind() {
            CredentialKind::OAuth => login_command(credential.provider(), id, &profile.owner),
            kind => paste_command(credential.provider(), id, kind, &profile.owner),
        }
    });
    let message = format!("{id} cannot be used: {}", why.detail);
    let (kind, code) = match why.code {
        EligibilityCode::ProfileMissing => return no_profile(id, agent),
        EligibilityCode::Expired => (ErrorKind::LoginNeeded, "expired"),
        EligibilityCode::MissingCredential => (ErrorKind::LoginNeeded, "missing_credential"),
        EligibilityCode::InvalidExpires => (ErrorKind::LoginNeeded, "invalid_expires"),
        EligibilityCode::UnresolvedRef => {
            return SinkError::new(ErrorKind::Failed, "unresolved_ref", message).about(id);
        }
        _ => return SinkError::new(ErrorKind::Failed, "ineligible", message).about(id),
    };
    SinkError::new(kind, code, message).with_fix_if(command).about(id)
}

pub(crate) fn no_profile(id: &ProfileId, agent: &AgentId) -> SinkError {
    SinkError::new(
        ErrorKind::Usage,
        "no_profile",
        format!("agent {agent} has no profile {:?}", id.as_str()),
    )
    .with_fix(format!("tokensink models auth list --agent {agent}"))
    .about(id)
}

/// ` --agent work`, the option of a command that is about that agent; nothing for main.
pub(crate) fn agent_option(agent: &AgentId) -> String {
    if agent.is_main() {
        String::new()
    } else {
        format!(" --agent {agent}")
    }
}

fn bracketed(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}

/// Whole seconds, or milliseconds below one.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{} s", time.as_secs())
    }
}
