//! What may be done with a generation now: the one function behind handing out, status and the machine.

use std::time::Duration;

use tokensink_types::record::{Generation, Record, RecordState, Rotation, Sent};
use tokensink_types::{Secret, SpendKey, UnixMillis};

/// Default margin before expiry (spec.md 8.5: 300 000 ms, equal counts as expiring).
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// Renewal ahead of time begins this long before expiry at most (design: Refresh).
const AHEAD: Duration = Duration::from_secs(15 * 60);
/// A generation younger than this is not refreshed again: another one could not be better.
pub const JUST_ISSUED: Duration = Duration::from_secs(60);
/// Longest wait after failed tries, apart from a server's own `Retry-After`.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// First wait after a failed try; doubles with each.
const BACKOFF_BASE: Duration = Duration::from_secs(2);
/// Longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a request is repeated at once within the server's replay grace; further repetitions wait their turn.
pub const RESEND_MAX: u32 = 2;
/// A shorter life than this is not believed: it is the trace of a clock that is wrong by about a token's life.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// The code of a refusal of a generation that was restored from a bundle or an archived file and had been spent
/// elsewhere. The server's own code stands in the description.
pub const RESTORED_SPENT: &str = "restored_spent";

/// What the provider's definition says about refreshing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether the server rotates refresh tokens. Only a declared [`Rotation::Never`] exempts from send-once, and
    /// only until a rotation is seen: some servers rotate now and then, so not having seen it proves nothing.
    pub rotation: Rotation,
    /// How long the server answers a repeated refresh with the same tokens, from the first send; zero is strict.
    pub replay_grace: Duration,
    /// How long a refresh token lives unused, where the server has such a limit.
    pub idle_limit: Option<Duration>,
    /// Another program refreshes this grant too, and cannot be kept from it by a lock: both CLIs act five minutes
    /// before the end (clients.md 0.1, 2.2, 3.2). We come before it: the usual margin is that of renewal ahead of time.
    pub first: bool,
}

/// How long the token must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Horizon {
    /// Five minutes, at most a quarter of the token's life where that is known; 15 minutes, at most half of its life,
    /// where another program must be forestalled.
    #[default]
    Usual,
    /// A caller's own minimum. At most nine tenths of the token's life where that is known: more can hardly be had,
    /// and asking for it must not refresh again and again.
    AtLeast(Duration),
    /// Renewal ahead of time: 15 minutes or half of the life, whichever is less, or the idle limit.
    Ahead,
}

/// What the caller needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// How long the token must last.
    pub horizon: Horizon,
    /// The access token that an API answered with 401; it is not handed out again.
    pub rejected: Option<Secret>,
}

impl Demand {
    /// The demand of a renewal ahead of time.
    #[must_use]
    pub fn ahead() -> Self {
        Self {
            horizon: Horizon::Ahead,
            rejected: None,
        }
    }

    pub(crate) fn rejects(&self, generation: &Generation) -> bool {
        self.rejected.as_ref() == Some(&generation.tokens.access)
    }
}

/// What may be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The access token serves the demand.
    Fresh,
    /// The refresh token may be sent.
    Due(Due),
    /// A request was sent and its outcome is not known; it may be repeated from `until` on.
    Unknown {
        /// The request.
        sent: Sent,
        /// When it may be sent again.
        until: UnixMillis,
    },
    /// Earlier tries failed; the next is allowed from `until` on.
    BackOff {
        /// When.
        until: UnixMillis,
        /// What failed.
        reason: String,
    },
    /// Nothing but a login helps.
    Dead(Death),
}

/// Why the refresh token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The access token does not serve the demand.
    Stale,
    /// An API rejected the access token before its time.
    Rejected,
    /// An earlier request is unanswered, and the server's replay grace still covers a repetition.
    WithinGrace,
    /// An earlier request is unanswered, nothing newer is known and the old access token is dead.
    LastResort,
}

/// Why only a login helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// There is no refresh token and the access token has ended.
    NoRefreshToken,
    /// The server refused the refresh token for good.
    Refused {
        /// The server's error code.
        code: String,
        /// The server's description, or empty.
        description: String,
        /// The refusal is the echo of an answer that was lost.
        after_lost_answer: bool,
    },
    /// The server answered with another account's tokens.
    OtherAccount,
}

/// Is the access token usable at this moment, whatever the demand's horizon?
#[must_use]
pub fn alive(generation: &Generation, demand: &Demand, now: UnixMillis) -> bool {
    let in_time = generation.tokens.expires.is_none_or(|end| now < end) || just_issued(generation, now);
    in_time && !demand.rejects(generation) && !generation.tokens.access.is_blank()
}

/// Is another holder's generation a later one of the same grant or account than ours, and of any use? Then ours is left
/// alone and the holder serves (design: Refresh). `record` is ours: what it knows as spent is of no use.
#[must_use]
pub fn is_ahead(
    theirs: &Generation,
    ours: &Generation,
    record: Option<&Record>,
    demand: &Demand,
    now: UnixMillis,
) -> bool {
    let key = theirs.spend_key();
    let spent = key.is_some_and(|key| record.is_some_and(|record| record.is_ancestor(key)));
    let later = theirs.tokens.expires > ours.tokens.expires;
    let renewable = key.is_some() && key != ours.spend_key();
    let useful = renewable || alive(theirs, demand, now);
    !spent && later && useful && ours.account.may_adopt(&theirs.account)
}

/// The standing of `current` under `demand` at `now`. A record's state counts only for the key it is bound to.
#[must_use]
pub fn stand(
    current: &Generation,
    record: Option<&Record>,
    policy: &Policy,
    demand: &Demand,
    now: UnixMillis,
) -> Standing {
    let rejected = demand.rejects(current);
    if !rejected && is_fresh(current, policy, demand, now) {
        return Standing::Fresh;
    }
    let Some(key) = current.spend_key() else {
        // Nothing can be refreshed: what is alive serves to its end.
        return if alive(current, demand, now) {
            Standing::Fresh
        } else {
            Standing::Dead(Death::NoRefreshToken)
        };
    };
    if let Some(standing) = record.and_then(|record| bound_state(current, record, key, policy, demand, now)) {
        return standing;
    }
    if let Some(standing) = record.and_then(|record| waiting(record, now)) {
        return standing;
    }
    if rejected {
        rejected_standing(current, record, now)
    } else {
        Standing::Due(Due::Stale)
    }
}

/// What the record's state says about this key, if it is about this key.
fn bound_state(
    current: &Generation,
    record: &Record,
    key: SpendKey,
    policy: &Policy,
    demand: &Demand,
    now: UnixMillis,
) -> Option<Standing> {
    match &record.state {
        RecordState::Refused {
            spent,
            code,
            description,
            after_lost_answer,
            ..
        } if *spent == key => Some(Standing::Dead(Death::Refused {
            code: code.clone(),
            description: description.clone(),
            after_lost_answer: *after_lost_answer,
        })),
        RecordState::Parked { spent, .. } if *spent == key => Some(Standing::Dead(Death::OtherAccount)),
        RecordState::Sent(sent) if sent.spend == key && !exempt(policy, record) => {
            Some(unknown_outcome(current, record, sent, policy, demand, now))
        }
        _ => None,
    }
}

/// The unanswered request with `key` in the record, if there is one.
pub(crate) fn unanswered(record: &Record, key: SpendKey) -> Option<&Sent> {
    match &record.state {
        RecordState::Sent(sent) if sent.spend == key => Some(sent),
        _ => None,
    }
}

/// A grant whose server does not rotate: sending again costs nothing.
pub(crate) fn exempt(policy: &Policy, record: &Record) -> bool {
    policy.rotation == Rotation::Never && record.rotation != Rotation::Always
}

/// Cases (c) and (d) of the promise. While the old access token lives there is no need to risk anything.
fn unknown_outcome(
    current: &Generation,
    record: &Record,
    sent: &Sent,
    policy: &Policy,
    demand: &Demand,
    now: UnixMillis,
) -> Standing {
    // A request in the future means that the clock was put back; a wait counted from then says nothing.
    let wait = record
        .backoff
        .as_ref()
        .map(|backoff| backoff.not_before)
        .filter(|until| sent.last_at <= now && is_waiting(*until, now));
    let unknown = |until| Standing::Unknown {
        sent: sent.clone(),
        until,
    };
    let in_grace = sent.first_at <= now && sent.first_at.until(now) < policy.replay_grace;
    match wait {
        Some(until) if in_grace && sent.sends > RESEND_MAX => unknown(until),
        _ if in_grace => Standing::Due(Due::WithinGrace),
        _ if alive(current, demand, now) => {
            let end = current.tokens.expires.filter(|end| now < *end);
            unknown(end.unwrap_or(now.plus(BACKOFF_MAX)))
        }
        Some(until) => unknown(until),
        None => Standing::Due(Due::LastResort),
    }
}

fn waiting(record: &Record, now: UnixMillis) -> Option<Standing> {
    let backoff = record
        .backoff
        .as_ref()
        .filter(|backoff| is_waiting(backoff.not_before, now))?;
    Some(Standing::BackOff {
        until: backoff.not_before,
        reason: backoff.reason.clone(),
    })
}

/// Is `until` ahead, and by no more than any wait we set? A clock that was put back must not bench a grant for days.
fn is_waiting(until: UnixMillis, now: UnixMillis) -> bool {
    now < until && now.until(until) <= RETRY_AFTER_MAX
}

/// One refresh is forced for a rejected access token. If the server then gives the same one, or the next one is
/// rejected in its first minute, more refreshing cannot help.
fn rejected_standing(current: &Generation, record: Option<&Record>, now: UnixMillis) -> Standing {
    let forced = record.is_some_and(|record| record.rejected == Some(current.revision()));
    if forced {
        let until = current
            .tokens
            .expires
            .filter(|end| now < *end)
            .unwrap_or(now.plus(BACKOFF_MAX));
        let reason =
            "the API rejects the access token although the token endpoint still issues it".to_owned();
        return Standing::BackOff { until, reason };
    }
    if just_issued(current, now) {
        let until = current.issued_at.unwrap_or(now).plus(quiet(current));
        return Standing::BackOff {
            until,
            reason: "the API rejects an access token that was just issued".to_owned(),
        };
    }
    Standing::Due(Due::Rejected)
}

fn just_issued(generation: &Generation, now: UnixMillis) -> bool {
    generation
        .issued_at
        .is_some_and(|at| at <= now && at.until(now) < quiet(generation))
}

/// How long a new generation is left in peace: [`JUST_ISSUED`], at most half of a life that can be believed.
fn quiet(generation: &Generation) -> Duration {
    life(generation)
        .filter(|life| *life >= LIFE_MIN)
        .map_or(JUST_ISSUED, |life| JUST_ISSUED.min(life / 2))
}

fn life(generation: &Generation) -> Option<Duration> {
    let (from, to) = generation.issued_at.zip(generation.tokens.expires)?;
    Some(from.until(to))
}

fn is_fresh(generation: &Generation, policy: &Policy, demand: &Demand, now: UnixMillis) -> bool {
    if generation.tokens.access.is_blank() {
        return false;
    }
    if just_issued(generation, now) {
        return true;
    }
    if issued_in_the_future(generation, now) {
        return false;
    }
    if demand.horizon == Horizon::Ahead && idle_deadline(generation, policy).is_some_and(|end| now >= end) {
        return false;
    }
    let Some(end) = generation.tokens.expires else {
        return true;
    };
    now < end && now.until(end) > margin(generation, policy, demand.horizon)
}

/// The clock was put back since the token was issued, so that its stored end says nothing. One refresh gives a token
/// that this clock can judge; smaller steps are those of a clock that is being adjusted.
fn issued_in_the_future(generation: &Generation, now: UnixMillis) -> bool {
    generation.issued_at.is_some_and(|at| now.until(at) > JUST_ISSUED)
}

fn margin(generation: &Generation, policy: &Policy, horizon: Horizon) -> Duration {
    let life = life(generation);
    match horizon {
        Horizon::Usual if policy.first => margin(generation, policy, Horizon::Ahead),
        Horizon::Usual => life.map_or(MARGIN, |life| MARGIN.min(life / 4)),
        Horizon::AtLeast(wanted) => life.map_or(wanted, |life| wanted.min(life / 10 * 9)),
        Horizon::Ahead => life.map_or(AHEAD, |life| AHEAD.min(life / 2)),
    }
}

/// When an unused grant must be renewed: at three quarters of the idle limit.
fn idle_deadline(generation: &Generation, policy: &Policy) -> Option<UnixMillis> {
    Some(generation.issued_at?.plus(policy.idle_limit? / 4 * 3))
}

/// When renewal ahead of time falls due, `None` for a token without a known end and without an idle limit. Never
/// while the generation counts as just issued, whatever its expiry says.
#[must_use]
pub fn renewal_due_at(generation: &Generation, policy: &Policy) -> Option<UnixMillis> {
    let by_expiry = generation
        .tokens
        .expires
        .map(|end| end.minus(margin(generation, policy, Horizon::Ahead)));
    let due = match (by_expiry, idle_deadline(generation, policy)) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b)?,
    };
    let earliest = generation.issued_at.map(|at| at.plus(quiet(generation)));
    Some(earliest.map_or(due, |earliest| due.max(earliest)))
}

/// The wait after `failures` failed tries: 2 s doubling to [`BACKOFF_MAX`], shortened by up to a quarter by `jitter`
/// so that many hosts do not return together. A server's own `Retry-After` counts where it is longer.
#[must_use]
pub fn backoff_delay(failures: u32, jitter: u8, retry_after: Option<Duration>) -> Duration {
    let doubled = BACKOFF_BASE
        .saturating_mul(1_u32 << failures.saturating_sub(1).min(10))
        .min(BACKOFF_MAX);
    let ours = doubled - doubled / 4 * u32::from(jitter) / 255;
    ours.max(retry_after.unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX))
}
