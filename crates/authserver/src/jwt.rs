//! Access and id tokens as JWTs (RFC 7519), signed with HS256. The key is public on purpose: these tokens protect
//! nothing, and a client of a real server treats an access token as opaque or reads claims without checking them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokensink_types::{Secret, UnixMillis};

use crate::config::AccountConfig;

/// The signing key, as long as the hash's block; known to everybody who reads this.
const KEY: &[u8; 64] = b"tokensink test server key; its tokens protect nothing: no secret";

/// What a token says besides who its subject is.
pub(crate) struct Claims<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) issued_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    /// Makes each token unique (RFC 7519 section 4.1.7).
    pub(crate) id: &'a str,
    pub(crate) nonce: Option<&'a str>,
}

/// A token for `account`: the registered claims, `email`, and the two claims in which OpenAI keeps account and
/// profile (spec.md 11.2). What the account does not have is left out.
pub(crate) fn mint(account: &AccountConfig, claims: &Claims<'_>) -> Secret {
    let mut payload = Map::new();
    let mut set = |name: &str, value: Value| payload.insert(name.to_owned(), value);
    set("iss", claims.issuer.into());
    set("aud", claims.audience.into());
    set("sub", account.sub.as_str().into());
    set("iat", claims.issued_at.seconds().into());
    set("exp", claims.expires_at.seconds().into());
    set("jti", claims.id.into());
    if let Some(nonce) = claims.nonce {
        set("nonce", nonce.into());
    }
    if let Some(email) = &account.email {
        set("email", email.as_str().into());
        set(
            "https://api.openai.com/profile",
            json!({"email": email, "email_verified": true}),
        );
    }
    let mut auth = Map::new();
    if let Some(account_id) = &account.account_id {
        auth.insert("chatgpt_account_id".to_owned(), account_id.as_str().into());
    }
    if let Some(plan) = &account.plan {
        auth.insert("chatgpt_plan_type".to_owned(), plan.as_str().into());
    }
    if !auth.is_empty() {
        set("https://api.openai.com/auth", Value::Object(auth));
    }
    sign(&Value::Object(payload))
}

fn sign(payload: &Value) -> Secret {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(payload.to_string())
    );
    let mut mac = Hmac::<Sha256>::new(KEY.into());
    mac.update(input.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Secret::new(format!("{input}.{signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_the_account_lacks_are_left_out() {
        let claims = Claims {
            issuer: "http://127.0.0.1:1",
            audience: "rig",
            issued_at: UnixMillis(1_500),
            expires_at: UnixMillis(3_601_999),
            id: "j",
            nonce: None,
        };
        let full = json!({
            "iss": "http://127.0.0.1:1", "aud": "rig", "sub": "alice", "iat": 1, "exp": 3601, "jti": "j",
            "email": "alice@example.com",
            "https://api.openai.com/profile": {"email": "alice@example.com", "email_verified": true},
            "https://api.openai.com/auth": {"chatgpt_account_id": "acct-alice", "chatgpt_plan_type": "plus"},
        });
        let bare = json!({
            "iss": "http://127.0.0.1:1", "aud": "rig", "sub": "x", "iat": 1, "exp": 3601, "jti": "j",
        });
        let nameless = AccountConfig {
            sub: "x".to_owned(),
            ..AccountConfig::default()
        };
        for (account, want) in [(AccountConfig::named("alice"), full), (nameless, bare)] {
            let token = mint(&account, &claims);
            let parts: Vec<&str> = token.expose().split('.').collect();
            assert_eq!(parts.len(), 3);
            let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
            assert_eq!(payload, want);
        }
    }

    /// The test vector of RFC 4231 section 4.3 would test the library; that the signature is over the first two
    /// parts is ours.
    #[test]
    fn the_signature_is_over_header_and_payload() {
        let token = sign(&json!({"a": 1}));
        let (input, signature) = token.expose().rsplit_once('.').unwrap();
        let mut mac = Hmac::<Sha256>::new(KEY.into());
        mac.update(input.as_bytes());
        assert!(
            mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap())
                .is_ok()
        );
    }
}
