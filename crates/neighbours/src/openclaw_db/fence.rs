//! The marker that OpenClaw's newest age puts in the place of a grant's tokens while it refreshes (spec.md 8.8;
//! openclaw-live.md 5b).
//!
//! A marked grant has lost its tokens: they were sent and the answer is not there, or a refresh failed and they were
//! given up. The marker binds a hash of the lost token, so that an older file can be told to hold the very token
//! (which may be spent) or an earlier one (which is).

use sha2::{Digest as _, Sha256};
use tokensink_types::{ProfileId, ProviderId, Secret};

/// What every marker begins with.
const PREFIX: &str = "openclaw-oauth-refresh-fence:v1:";

/// A marker in the place of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// OpenClaw has given the grant up; else its refresh may still be under way, or was cut off.
    pub failed: bool,
    kind: String,
    digest: String,
}

impl Fence {
    /// The marker in `token`, if it is one. A text that begins like a marker and goes on otherwise is one of an
    /// unknown kind: no token either way.
    #[must_use]
    pub fn of(token: &Secret) -> Option<Self> {
        let rest = token.expose().trim().strip_prefix(PREFIX)?;
        let mut parts: Vec<&str> = rest.split(':').skip(1).collect();
        let failed = parts.first() == Some(&"failed");
        if failed {
            parts.remove(0);
        }
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        Some(Self {
            failed,
            kind: part(0),
            digest: part(1),
        })
    }

    /// Is `token` the one whose place the marker took in this profile?
    #[must_use]
    pub fn replaced(&self, profile: &ProfileId, provider: &ProviderId, token: &Secret) -> bool {
        let text = serde_json::json!([
            "openclaw.oauth-refresh-generation",
            1,
            profile.as_str(),
            provider.as_str(),
            self.kind,
            token.expose(),
        ])
        .to_string();
        hex::encode(Sha256::digest(text.as_bytes())) == self.digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(token: &str) -> String {
        // As in openclaw-live.md 5b: a JSON array without blanks.
        let text = format!(
            r#"["openclaw.oauth-refresh-generation",1,"openai:default","openai","refresh","{token}"]"#
        );
        hex::encode(Sha256::digest(text.as_bytes()))
    }

    #[test]
    fn markers_are_told_from_tokens() {
        let claim = "0123456789abcdef0123456789abcdef";
        let cases = [
            (format!("{PREFIX}{claim}:refresh:{}", digest("rt-1")), Some(false)),
            (
                format!("{PREFIX}{claim}:failed:refresh:{}", digest("rt-1")),
                Some(true),
            ),
            (format!("{PREFIX}something else"), Some(false)),
            ("rt-1".to_owned(), None),
            (String::new(), None),
        ];
        for (text, want) in cases {
            let fence = Fence::of(&Secret::new(text.as_str()));
            assert_eq!(fence.map(|fence| fence.failed), want, "{text}");
        }
    }

    #[test]
    fn the_lost_token_is_recognised() {
        let profile = ProfileId::parse("openai:default").unwrap();
        let provider = ProviderId::parse("openai").unwrap();
        let text = format!("{PREFIX}00:failed:refresh:{}", digest("rt-1"));
        let fence = Fence::of(&Secret::new(text)).unwrap();
        let cases = [("rt-1", true), ("rt-0", false), ("", false)];
        for (token, want) in cases {
            assert_eq!(
                fence.replaced(&profile, &provider, &Secret::new(token)),
                want,
                "{token}"
            );
        }
        let other = ProfileId::parse("openai:other").unwrap();
        assert!(!fence.replaced(&other, &provider, &Secret::new("rt-1")));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,40}") {
            let _ = Fence::of(&Secret::new(format!("{PREFIX}{text}")));
            prop_assert!(Fence::of(&Secret::new(text)).is_none());
        }
    }
}
