//! Codes, families of refresh tokens, and access tokens. A token is kept only as its [`SpendKey`], and the record of
//! a spent one stays: what was spent must be recognised when it comes again.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokensink_host::Random;
use tokensink_types::{Body, Secret, SpendKey, UnixMillis};

/// Number of access tokens or codes above which expired ones are dropped.
const PRUNE_AT: usize = 1024;

/// A generation of tokens that was just issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The access token.
    pub access_token: Secret,
    /// The refresh token; none where the old one stays.
    pub refresh_token: Option<Secret>,
    /// The id token, for grants with scope `openid`.
    pub id_token: Option<Secret>,
    /// When the access token ends.
    pub expires_at: UnixMillis,
    /// The place of its family in [`Ledger::families`](crate::Ledger::families).
    pub family: usize,
}

/// The grants of a server.
#[derive(Debug, Default, Clone)]
pub(super) struct Grants {
    families: Vec<Family>,
    codes: HashMap<SpendKey, Code>,
    refresh: HashMap<SpendKey, Generation>,
    access: HashMap<SpendKey, AccessToken>,
    prune_access_at: usize,
}

/// One grant: who gave what to whom, and which refresh token is the live one.
#[derive(Debug, Clone)]
pub(super) struct Family {
    /// Place in the configuration's accounts.
    pub(super) account: usize,
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    /// Number of the live refresh token within the family.
    pub(super) generation: u64,
    /// When the live refresh token was issued or, without rotation, last used.
    pub(super) used_at: UnixMillis,
    /// The last refresh, for a replay within the grace.
    pub(super) last: Option<Spent>,
    pub(super) revoked: bool,
}

/// The refresh that spent the generation before the live one.
#[derive(Debug, Clone)]
pub(super) struct Spent {
    pub(super) at: UnixMillis,
    pub(super) answer: Body,
}

/// What a refresh token is: the n-th of its family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generation {
    pub(super) family: usize,
    pub(super) number: u64,
}

/// What an access token is good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccessToken {
    pub(super) family: usize,
    pub(super) account: usize,
    pub(super) expires_at: UnixMillis,
}

/// An authorization code (RFC 6749 section 4.1.2).
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) account: usize,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) scopes: Vec<String>,
    /// The PKCE challenge, method S256 (RFC 7636 section 4.2).
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) expires_at: UnixMillis,
    pub(super) state: CodeState,
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeState {
    /// Not presented yet.
    Fresh,
    /// Presented and refused: it is not given a second chance.
    Burnt,
    /// Exchanged for this family.
    Exchanged(usize),
}

impl Grants {
    pub(super) fn add_code(&mut self, code: &Secret, record: Code, now: UnixMillis) {
        if self.codes.len() >= PRUNE_AT {
            self.codes.retain(|_, code| code.expires_at > now);
        }
        self.codes.insert(SpendKey::of(code), record);
    }

    pub(super) fn code(&mut self, key: &SpendKey) -> Option<&mut Code> {
        self.codes.get_mut(key)
    }

    pub(super) fn add_family(&mut self, family: Family) -> usize {
        self.families.push(family);
        self.families.len() - 1
    }

    pub(super) fn generation(&self, key: &SpendKey) -> Option<Generation> {
        self.refresh.get(key).copied()
    }

    pub(super) fn family(&self, index: usize) -> Option<&Family> {
        self.families.get(index)
    }

    pub(super) fn family_mut(&mut self, index: usize) -> Option<&mut Family> {
        self.families.get_mut(index)
    }

    /// Makes `token` the live refresh token of its family.
    pub(super) fn add_refresh(&mut self, index: usize, token: &Secret, now: UnixMillis) {
        if let Some(family) = self.families.get_mut(index) {
            family.generation += 1;
            family.used_at = now;
            let generation = Generation {
                family: index,
                number: family.generation,
            };
            self.refresh.insert(SpendKey::of(token), generation);
        }
    }

    pub(super) fn add_access(&mut self, token: &Secret, record: AccessToken, now: UnixMillis) {
        if self.access.len() >= self.prune_access_at.max(PRUNE_AT) {
            self.access.retain(|_, token| token.expires_at > now);
            // Doubling keeps the work per token constant where nothing has expired.
            self.prune_access_at = self.access.len() * 2;
        }
        self.access.insert(SpendKey::of(token), record);
    }

    /// The access token, if the API takes it now.
    pub(super) fn live_access(&self, key: &SpendKey, now: UnixMillis) -> Option<AccessToken> {
        let token = self.access.get(key)?;
        let family = self.families.get(token.family)?;
        (now < token.expires_at && !family.revoked).then_some(*token)
    }

    /// The access token, whether or not it has ended.
    pub(super) fn access(&self, key: &SpendKey) -> Option<AccessToken> {
        self.access.get(key).copied()
    }

    pub(super) fn forget_access(&mut self, key: &SpendKey) {
        self.access.remove(key);
    }

    pub(super) fn forget_access_tokens(&mut self) {
        self.access.clear();
    }

    pub(super) fn revoke(&mut self, index: usize) {
        if let Some(family) = self.families.get_mut(index) {
            family.revoked = true;
        }
    }

    pub(super) fn alive_of(&self, account: usize) -> Vec<usize> {
        (0..self.families.len())
            .filter(|index| {
                self.families
                    .get(*index)
                    .is_some_and(|family| family.account == account && !family.revoked)
            })
            .collect()
    }
}

/// `seconds` after `now`.
pub(super) fn after(now: UnixMillis, seconds: u64) -> UnixMillis {
    now.plus(Duration::from_secs(seconds))
}

/// A token that nobody can guess: `prefix` and 32 random bytes (RFC 6749 section 10.10).
pub(super) fn random_token(random: &dyn Random, prefix: &str) -> io::Result<Secret> {
    let mut bytes = [0_u8; 32];
    random.fill(&mut bytes)?;
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: usize) -> Secret {
        Secret::new(format!("t{n}"))
    }

    fn code(expires_at: UnixMillis) -> Code {
        Code {
            account: 0,
            client_id: String::new(),
            redirect_uri: String::new(),
            scopes: Vec::new(),
            challenge: String::new(),
            nonce: None,
            expires_at,
            state: CodeState::Fresh,
        }
    }

    #[test]
    fn what_has_expired_is_dropped_and_nothing_else() {
        let mut grants = Grants::default();
        let token = |expires_at| AccessToken {
            family: 0,
            account: 0,
            expires_at,
        };
        // Every fourth lives on; time passes by a millisecond for each.
        for n in 0..20 * PRUNE_AT {
            let now = UnixMillis(i64::try_from(n).unwrap());
            let ends = if n % 4 == 0 {
                UnixMillis(i64::MAX)
            } else {
                now.plus(Duration::from_millis(1))
            };
            grants.add_access(&secret(n), token(ends), now);
            grants.add_code(&secret(n), code(ends), now);
        }
        for n in (0..20 * PRUNE_AT).step_by(4) {
            assert!(
                grants.access(&SpendKey::of(&secret(n))).is_some(),
                "access token {n}"
            );
            assert!(grants.code(&SpendKey::of(&secret(n))).is_some(), "code {n}");
        }
        assert!(grants.access.len() < 15 * PRUNE_AT, "{}", grants.access.len());
        assert!(grants.codes.len() < 15 * PRUNE_AT, "{}", grants.codes.len());
    }
}
