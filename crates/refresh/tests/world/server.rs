//! The authorization server of the world, and the tokens it knows. Refresh token `r3` comes with access token `a3`.

use std::time::Duration;

use tokensink_types::UnixMillis;

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
    refresh: u32,
    /// When each access token was issued.
    issued: Vec<UnixMillis>,
    /// When the token before `refresh` was used first.
    rotated_at: UnixMillis,
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

    /// What distinguishes this server's future from another's, relative to `now`.
    pub(crate) fn key(&self, now: UnixMillis) -> String {
        let last = self.issued.last().copied().unwrap_or(now).until(now);
        let rotated = self.rotated_at.until(now).min(GRACE);
        format!(
            "{}{}/{}/{last:?}/{rotated:?}",
            self.revoked,
            self.refresh,
            self.issued.len()
        )
    }
}
