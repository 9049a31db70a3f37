//! Claims of a JSON Web Token (RFC 7519), read without checking the signature.
//!
//! The tokens come from the token endpoint over TLS and are read only for labels and expiry; the resource server
//! checks them. Never decide a permission by anything read here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT;
use serde_json::{Map, Value};
use tokensink_types::{Secret, UnixMillis};

/// Longest token that is read, in bytes.
const TOKEN_MAX: usize = 64 * 1024;

/// The claims of a token of three parts, `None` when it is none (opaque, encrypted, damaged or above 64 KiB).
#[must_use]
pub fn claims(token: &Secret) -> Option<Map<String, Value>> {
    let text = token.expose().trim();
    if text.len() > TOKEN_MAX {
        return None;
    }
    let mut parts = text.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let bytes = URL_SAFE_NO_PAD_INDIFFERENT.decode(payload).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(claims)) => Some(claims),
        Ok(_) | Err(_) => None,
    }
}

/// When the token says it ends (`exp`, RFC 7519 section 4.1.4, whole or fractional seconds since the epoch); `None`
/// when it does not say.
#[must_use]
pub fn expires(token: &Secret) -> Option<UnixMillis> {
    let seconds = claims(token)?.get("exp")?.as_f64()?;
    // Beyond the year 9999 it is no date; below 1 it is a missing one.
    if !(1.0..253_402_300_800.0).contains(&seconds) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let millis = (seconds * 1000.0) as i64;
    Some(UnixMillis(millis))
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// An unsigned token with these claims.
    pub(crate) fn token(claims: &Value) -> Secret {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        Secret::new(format!("eyJhbGciOiJub25lIn0.{payload}.c2ln"))
    }

    #[test]
    fn reads_three_parts_only() {
        let padded = format!("h.{}.s", URL_SAFE.encode(r#"{"a":"?>~ÿ"}"#));
        let big = format!("h.{}.s", "a".repeat(TOKEN_MAX));
        let cases = [
            (token(&json!({"sub": "u"})), true),
            (Secret::new(padded), true),
            (Secret::new("opaque"), false),
            (Secret::new("a.b"), false),
            (Secret::new("a.b.c"), false),
            (Secret::new("a.b.c.d.e"), false),
            (token(&json!(["no", "object"])), false),
            (Secret::new(big), false),
            (Secret::new(""), false),
        ];
        for (token, want) in cases {
            assert_eq!(claims(&token).is_some(), want, "{:.80}", token.expose());
        }
    }

    #[test]
    fn expiry_is_in_seconds() {
        let cases = [
            (json!({"exp": 1_800_000_000}), Some(1_800_000_000_000)),
            (json!({"exp": 1_800_000_000.5}), Some(1_800_000_000_500)),
            (json!({"exp": "1800000000"}), None),
            (json!({"exp": 0}), None),
            (json!({"exp": -5}), None),
            (json!({"exp": 1e300}), None),
            (json!({}), None),
        ];
        for (claims, want) in cases {
            assert_eq!(expires(&token(&claims)), want.map(UnixMillis), "{claims}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}", json in "\\PC{0,80}") {
            let _ = expires(&Secret::new(text));
            let _ = expires(&Secret::new(format!("h.{}.s", URL_SAFE_NO_PAD.encode(json))));
        }
    }
}
