//! What a grant holds after a token answer (RFC 6749 section 6): what the answer lacks keeps its old value, except
//! the expiry, which belongs to the new access token.

use std::time::Duration;

use tokensink_types::{TokenSet, UnixMillis};

use crate::jwt;
use crate::token::TokenGrant;

/// However large a provider's safety margin is, it leaves this much of a token's life (spec.md 8.10, Chutes).
const LIFE_AFTER_BUFFER_MIN: Duration = Duration::from_secs(30);

/// The next generation of a grant.
///
/// The expiry is `sent_at + expires_in` less `expiry_buffer`, where the buffer leaves at least 30 s of it and never
/// moves it later; else the access token's own `exp`; else `sent_at + default_life`; else unknown (spec.md 8.10).
/// `sent_at` is when the request was sent, not when the answer came: what the answer took on its way is lost life.
#[must_use]
pub fn merge(
    old: &TokenSet,
    grant: &TokenGrant,
    sent_at: UnixMillis,
    default_life: Option<Duration>,
    expiry_buffer: Duration,
) -> TokenSet {
    let new = first(grant, sent_at, default_life, expiry_buffer);
    TokenSet {
        access: new.access,
        refresh: new.refresh.or_else(|| old.refresh.clone()),
        expires: new.expires,
        id_token: new.id_token.or_else(|| old.id_token.clone()),
    }
}

/// The first generation of a grant, after a login. The expiry is that of [`merge`].
#[must_use]
pub fn first(
    grant: &TokenGrant,
    sent_at: UnixMillis,
    default_life: Option<Duration>,
    expiry_buffer: Duration,
) -> TokenSet {
    let expires = match grant.expires_in {
        Some(life) => Some(sent_at.plus(usable_life(life, expiry_buffer))),
        None => jwt::expires(&grant.access_token).or_else(|| default_life.map(|life| sent_at.plus(life))),
    };
    TokenSet {
        access: grant.access_token.clone(),
        refresh: grant.refresh_token.clone(),
        expires,
        id_token: grant.id_token.clone(),
    }
}

fn usable_life(life: Duration, buffer: Duration) -> Duration {
    life.saturating_sub(buffer).max(LIFE_AFTER_BUFFER_MIN).min(life)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jwt::tests::token;

    const SENT: UnixMillis = UnixMillis(1_700_000_000_000);

    fn grant(value: &Value) -> TokenGrant {
        TokenGrant::from_fields(value.as_object().unwrap().clone()).unwrap()
    }

    fn old() -> TokenSet {
        TokenSet {
            access: "old-access".into(),
            refresh: Some("old-refresh".into()),
            expires: Some(UnixMillis(5)),
            id_token: Some("old-id".into()),
        }
    }

    #[test]
    fn what_the_answer_lacks_is_kept_except_the_expiry() {
        let merged = merge(
            &old(),
            &grant(&json!({"access_token": "a"})),
            SENT,
            None,
            Duration::ZERO,
        );
        assert_eq!(
            merged,
            TokenSet {
                access: "a".into(),
                expires: None,
                ..old()
            }
        );
        let full = json!({"access_token": "a", "refresh_token": "r", "id_token": "i", "expires_in": 60});
        let merged = merge(&old(), &grant(&full), SENT, None, Duration::ZERO);
        assert_eq!(
            merged,
            TokenSet {
                access: "a".into(),
                refresh: Some("r".into()),
                expires: Some(SENT.plus(Duration::from_secs(60))),
                id_token: Some("i".into()),
            }
        );
        let blank = json!({"access_token": "a", "refresh_token": "", "id_token": " "});
        let merged = merge(&old(), &grant(&blank), SENT, None, Duration::ZERO);
        assert_eq!((merged.refresh, merged.id_token), (old().refresh, old().id_token));
    }

    #[test]
    fn expiry_comes_from_the_first_source_that_knows() {
        let jwt = token(&json!({"exp": 1_800_000_000}));
        let jwt = jwt.expose();
        let cases = [
            (
                json!({"access_token": jwt, "expires_in": 3600}),
                0,
                Some(600),
                Some(3_600_000),
            ),
            (
                json!({"access_token": jwt, "expires_in": 3600}),
                300,
                None,
                Some(3_300_000),
            ),
            (
                json!({"access_token": "a", "expires_in": 310}),
                300,
                None,
                Some(30_000),
            ),
            (
                json!({"access_token": "a", "expires_in": 100}),
                300,
                None,
                Some(30_000),
            ),
            (
                json!({"access_token": "a", "expires_in": 10}),
                300,
                None,
                Some(10_000),
            ),
            (
                json!({"access_token": "a", "expires_in": 0}),
                0,
                Some(600),
                Some(0),
            ),
            (
                json!({"access_token": jwt}),
                300,
                Some(600),
                Some(100_000_000_000),
            ),
            (json!({"access_token": "a"}), 300, Some(600), Some(600_000)),
            (json!({"access_token": "a"}), 300, None, None),
        ];
        for (answer, buffer, life, want) in cases {
            let got = first(
                &grant(&answer),
                SENT,
                life.map(Duration::from_secs),
                Duration::from_secs(buffer),
            );
            let want: Option<i64> = want;
            assert_eq!(got.expires.map(|at| at.0 - SENT.0), want, "{answer} {buffer}");
        }
    }
}
