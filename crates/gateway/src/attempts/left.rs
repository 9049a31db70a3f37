//! What an attempt that failed leaves behind: something to pass on to the client if nobody serves.

use std::cmp::Reverse;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokensink_sink::UnixMillis;

use super::with_names;
use crate::request::errors::Refusal;
use crate::slots::PROFILE_BUSY;
use crate::stream::{Answer, Peeked};

/// Something that can be passed on.
pub(super) enum Left {
    /// With the end of its account's bench, where it has one.
    Answer(Box<Failure>, Option<UnixMillis>),
    Refusal(Box<Refusal>),
}

/// An error answer that was received.
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Peeked,
    /// Of the account and of the request.
    pub(super) names: [HeaderValue; 2],
}

impl Left {
    /// The better one to pass on; of two that are worth the same, the earlier.
    pub(super) fn or_better(earlier: Option<Self>, later: Self) -> Self {
        match earlier {
            Some(earlier) if earlier.rank() >= later.rank() => earlier,
            _ => later,
        }
    }

    /// What the client gets. An answer whose rest does not come within `idle` ends there.
    ///
    /// # Errors
    /// Where no upstream said anything.
    pub(super) fn pass_on(self, idle: Duration) -> Result<Response<Answer>, Refusal> {
        match self {
            Self::Refusal(refusal) => Err(*refusal),
            Self::Answer(failure, _) => {
                let body = Answer::read_in_part(failure.body, idle);
                Ok(with_names(failure.status, failure.headers, body, failure.names))
            }
        }
    }

    /// Would a client rather know that another account is free at `at`? Not in place of a failure that may be over sooner.
    pub(super) fn says_less_than(&self, at: UnixMillis) -> bool {
        match self {
            Self::Refusal(_) => false,
            Self::Answer(failure, until) => match failure.status.as_u16() {
                401..=403 => true,
                429 => until.is_none_or(|until| at < until),
                _ => false,
            },
        }
    }

    /// How much it says to a client: a limit, or a want of room, is worth more than a refused login, which the client would
    /// take for its own key's, and anything said is worth more than silence. Of two limits the one that ends first: whoever waits for
    /// it can be served then.
    fn rank(&self) -> (u8, Reverse<UnixMillis>) {
        const NEVER: UnixMillis = UnixMillis(i64::MAX);
        match self {
            Self::Refusal(refusal) if refusal.code == PROFILE_BUSY => (2, Reverse(NEVER)),
            Self::Refusal(_) => (0, Reverse(NEVER)),
            Self::Answer(failure, until) => {
                let worth = match failure.status.as_u16() {
                    401..=403 => 1,
                    500..=599 => 2,
                    _ => 3,
                };
                (worth, Reverse(until.unwrap_or(NEVER)))
            }
        }
    }
}
