//! Proof Key for Code Exchange (RFC 7636) and the `state` parameter (RFC 6749 section 10.12).
//!
//! Random bytes come in, the values that a flow needs go out. Nothing here knows which provider wants which
//! spelling; that is the provider definition's.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokensink_types::Secret;
use zeroize::Zeroize;

/// How the 32 random bytes of a code verifier are spelled (spec.md 11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifierEncoding {
    /// Base64url without padding: 43 characters. What most providers use.
    #[default]
    Base64Url,
    /// Lower-case hex: 64 characters (chutes, Gemini).
    Hex,
}

/// The code verifier (RFC 7636 section 4.1): the secret that proves that the code's taker began the flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeVerifier(Secret);

impl CodeVerifier {
    /// Spells 32 random bytes; both spellings keep to the 43 to 128 characters of RFC 7636 section 4.1.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 32], encoding: VerifierEncoding) -> Self {
        let text = match encoding {
            VerifierEncoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
            VerifierEncoding::Hex => hex::encode(bytes),
        };
        bytes.zeroize();
        Self(Secret::new(text))
    }

    /// Takes a verifier that was made elsewhere: by the server, as in OpenAI's device dialect, or by an earlier run
    /// of the same login. Its form is not checked, the server that gets it does that.
    #[must_use]
    pub fn received(verifier: Secret) -> Self {
        Self(verifier)
    }

    /// The value for the `code_verifier` parameter.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// The code challenge (RFC 7636 section 4.2): public, goes with the authorization request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeChallenge(String);

impl CodeChallenge {
    /// The value of `code_challenge_method`; `plain` is never used.
    pub const METHOD: &'static str = "S256";

    /// base64url(SHA-256(verifier)), without padding.
    #[must_use]
    pub fn s256(verifier: &CodeVerifier) -> Self {
        let digest = Sha256::digest(verifier.0.expose().as_bytes());
        Self(URL_SAFE_NO_PAD.encode(digest))
    }

    /// The value for the `code_challenge` parameter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CodeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The `state` parameter: binds a redirect to the login that asked for it (RFC 6749 section 10.12). Kept as a
/// secret, because one provider uses the code verifier for it (spec.md 11.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateParam(Secret);

impl StateParam {
    /// 16 random bytes in hex: what OpenClaw sends to OpenAI (spec.md 11.2).
    #[must_use]
    pub fn hex(bytes: [u8; 16]) -> Self {
        Self(Secret::new(hex::encode(bytes)))
    }

    /// 32 random bytes in base64url: what the Codex CLI sends.
    #[must_use]
    pub fn base64url(bytes: [u8; 32]) -> Self {
        Self(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The code verifier itself (spec.md 11.4). The code is then worth no more than the URL that asked for it, so
    /// this is for providers that insist on it.
    #[must_use]
    pub fn from_verifier(verifier: &CodeVerifier) -> Self {
        Self(verifier.0.clone())
    }

    /// Takes a state that was kept from an earlier run of the same login.
    #[must_use]
    pub fn received(state: Secret) -> Self {
        Self(state)
    }

    /// The value for the `state` parameter.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// Is `given` this state? Compared without stopping at the first difference.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        self.0 == Secret::new(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_the_one_of_rfc_7636_appendix_b() {
        let octets = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105,
            214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        let verifier = CodeVerifier::from_random(octets, VerifierEncoding::Base64Url);
        assert_eq!(
            verifier.secret().expose(),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        assert_eq!(
            CodeChallenge::s256(&verifier).as_str(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn spellings_have_their_lengths() {
        let hex = CodeVerifier::from_random([0xab; 32], VerifierEncoding::Hex);
        assert_eq!(hex.secret().expose(), "ab".repeat(32));
        assert_eq!(StateParam::hex([1; 16]).secret().expose(), "01".repeat(16));
        assert_eq!(StateParam::base64url([0xff; 32]).secret().expose().len(), 43);
        assert_eq!(StateParam::from_verifier(&hex).secret(), hex.secret());
    }

    #[test]
    fn state_is_compared_whole_and_never_shown() {
        let state = StateParam::hex([7; 16]);
        let text = state.secret().expose().to_owned();
        assert!(state.matches(&text));
        assert!(!state.matches(&text[1..]));
        assert!(!state.matches(""));
        assert!(!format!("{state:?}").contains(&text));
    }
}
