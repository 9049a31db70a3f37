//! Fingerprints: what may be sent once, and what tells one generation from the next.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Secret, TokenSet};

/// The fingerprint of a refresh token: what may be sent once. It identifies the token without revealing it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpendKey(pub [u8; 32]);

impl SpendKey {
    /// The fingerprint of `refresh`.
    #[must_use]
    pub fn of(refresh: &Secret) -> Self {
        Self(digest(&[b"tokensink spend key 1", refresh.expose().as_bytes()]))
    }
}

/// The fingerprint of access token, refresh token and expiry: a change notice for a stored grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub [u8; 32]);

impl Revision {
    /// The fingerprint of one generation.
    #[must_use]
    pub fn of(tokens: &TokenSet) -> Self {
        let refresh = tokens
            .refresh
            .as_ref()
            .map_or(&b""[..], |token| token.expose().as_bytes());
        let expires = tokens.expires.map_or_else(String::new, |at| at.to_string());
        Self(digest(&[
            b"tokensink revision 1",
            tokens.access.expose().as_bytes(),
            refresh,
            expires.as_bytes(),
        ]))
    }
}

/// SHA-256 over the parts, each preceded by its length so that no two lists of parts give the same input.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

macro_rules! fingerprint {
    ($name:ident) => {
        impl fmt::Debug for $name {
            /// The first four bytes are enough to tell two apart in a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x})"),
                    self.0[0], self.0[1], self.0[2], self.0[3]
                )
            }
        }
    };
}
fingerprint!(SpendKey);
fingerprint!(Revision);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;

    #[test]
    fn fingerprints_differ_where_anything_differs() {
        let base = TokenSet {
            access: "a".into(),
            refresh: Some("bc".into()),
            expires: Some(UnixMillis(1)),
            id_token: None,
        };
        let moved = TokenSet {
            access: "ab".into(),
            refresh: Some("c".into()),
            ..base.clone()
        };
        let later = TokenSet {
            expires: Some(UnixMillis(2)),
            ..base.clone()
        };
        let kept = TokenSet {
            id_token: Some("x".into()),
            ..base.clone()
        };
        assert_ne!(Revision::of(&base), Revision::of(&moved));
        assert_ne!(Revision::of(&base), Revision::of(&later));
        assert_eq!(Revision::of(&base), Revision::of(&kept));
        assert_ne!(SpendKey::of(&"bc".into()), SpendKey::of(&"bd".into()));
        assert!(!format!("{:?}", SpendKey::of(&"bc".into())).contains("bc\""));
    }
}
