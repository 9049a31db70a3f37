//! The authorization server, and the tokens it knows.

use std::time::Duration;

use tokensink_refresh::Policy;
use tokensink_types::UnixMillis;
use tokensink_types::record::Rotation;

/// How the server treats a refresh token that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reuse revokes the whole family (RFC 9700 section 4.14).
    Strict,
    /// For [`GRACE`] from its first use a refresh token gets the same answer again; then as `Strict`.
    Grace,
    /// A refresh token stays valid.
    NonRotating,
}

impl Mode {
    /// What a provider's definition says about such a server.
    pub(crate) fn policy(self) -> Policy {
        let (rotation, replay_grace) = match self {
            Self::Strict => (Rotation::Unknown, Duration::ZERO),
            Self::Grace => (Rotation::Always, GRACE),
            Self::NonRotating => (Rotation::Never, Duration::ZERO),
        };
        Policy {
            rotation,
            replay_grace,
            idle_limit: None,
            first: false,
        }
    }
}

pub(crate) const GRACE: Duration = Duration::from_secs(30);
pub(crate) const LIFE: Duration = Duration::from_secs(3600);

/// What the server answers to a request that it handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Tokens {
        refresh: u32,
        access: u32,
        foreign: bool,
    },
    InvalidGrant,
}

/// One grant at the server. Times are true times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) mode: Mode,
    pub(crate) revoked: bool,
    /// The refresh token that is good now.
    pub(crate) refresh: u32,
    /// When each access token was issued.
    pub(crate) issued: Vec<UnixMillis>,
    /// When the token before `refresh` was used first.
    pub(crate) rotated_at: UnixMillis,
}

impl Server {
    pub(crate) fn new(mode: Mode, now: UnixMillis) -> Self {
        Self {
            mode,
            revoked: false,
            refresh: 0,
            issued: vec![now],
            rotated_at: now,
        }
    }

    /// Handles a refresh request with token `refresh`.
    pub(crate) fn handle(&mut self, refresh: u32, foreign: bool, now: UnixMillis) -> Reply {
        if self.revoked {
            return Reply::InvalidGrant;
        }
        if refresh != self.refresh {
            let repeated = refresh + 1 == self.refresh && self.rotated_at.until(now) < GRACE;
            if self.mode == Mode::Grace && repeated {
                return self.reply(foreign);
            }
            self.revoked = true;
            return Reply::InvalidGrant;
        }
        self.issued.push(now);
        if self.mode != Mode::NonRotating {
            self.refresh += 1;
            self.rotated_at = now;
        }
        self.reply(foreign)
    }

    fn reply(&self, foreign: bool) -> Reply {
        Reply::Tokens {
            refresh: self.refresh,
            access: self.issued_last(),
            foreign,
        }
    }

    /// Does the API take access token `access` at true time `now`?
    pub(crate) fn accepts(&self, access: u32, now: UnixMillis) -> bool {
        self.issued
            .get(access as usize)
            .is_some_and(|at| at.until(now) < LIFE)
    }

    /// The newest access token.
    pub(crate) fn issued_last(&self) -> u32 {
        u32::try_from(self.issued.len() - 1).unwrap()
    }
}
