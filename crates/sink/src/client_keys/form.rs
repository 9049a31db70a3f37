//! What a client key looks like: `tsink_`, 43 random characters, 6 characters of checksum, all letters and digits.
//!
//! The prefix is for people and for programs that look for secrets in places where none belong; the checksum lets them
//! tell a key from a word that looks like one, and us tell a key that was cut off from one that we do not know. The
//! checksum is the first 32 bits of the SHA-256 of all before it, in base 62 with the digits first.

use std::io;

use sha2::{Digest, Sha256};
use tokensink_host::Random;
use tokensink_types::Secret;
use zeroize::Zeroizing;

/// How every key begins.
pub(crate) const PREFIX: &str = "tsink_";
/// 62^43 > 2^256.
const RANDOM_CHARS: usize = 43;
/// 62^6 > 2^32.
const CHECK_CHARS: usize = 6;
/// The digits of base 62.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes from here on would make the first digits more likely than the last.
const FAIR: u8 = 248;
/// How much of a key is kept in clear, so that its owner knows it again: the prefix and four characters.
const HINT_CHARS: usize = PREFIX.len() + 4;

/// A new key of 256 bits.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn make(random: &dyn Random) -> io::Result<Secret> {
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM_CHARS + CHECK_CHARS));
    text.push_str(PREFIX);
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < PREFIX.len() + RANDOM_CHARS {
        random.fill(&mut *bytes)?;
        let missing = PREFIX.len() + RANDOM_CHARS - text.len();
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        text.extend(fair.take(missing).map(|byte| digit(u32::from(*byte))));
    }
    let check = check_of(&text);
    text.push_str(&check);
    Ok(Secret::new(text.as_str()))
}

/// Is it a whole key? It may still be one that nobody gave out.
pub(crate) fn is_whole(key: &Secret) -> bool {
    let text = key.expose();
    let Some(body) = text.strip_prefix(PREFIX) else {
        return false;
    };
    body.len() == RANDOM_CHARS + CHECK_CHARS
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && check_of(&text[..PREFIX.len() + RANDOM_CHARS]) == body[RANDOM_CHARS..]
}

/// The hash under which a key is kept. A fast one is right: there is nothing to guess in 256 random bits, and it is
/// computed for every request. (Slow hashes are for passwords, which can be guessed.)
pub(crate) fn digest_of(key: &Secret) -> [u8; 32] {
    Sha256::digest(key.expose().as_bytes()).into()
}

/// The beginning of a key, for its owner.
pub(crate) fn hint_of(key: &Secret) -> String {
    key.expose().chars().take(HINT_CHARS).collect()
}

fn check_of(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let mut rest = hash
        .iter()
        .take(4)
        .fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    let mut check = [b'0'; CHECK_CHARS].map(char::from);
    for place in check.iter_mut().rev() {
        *place = digit(rest);
        rest /= 62;
    }
    check.iter().collect()
}

/// The last digit of `number` in base 62.
fn digit(number: u32) -> char {
    char::from(DIGITS[(number % 62) as usize])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokensink_testkit::SeededRandom;

    use super::*;

    #[test]
    fn a_key_is_known_by_its_form_and_every_change_is_seen() {
        let key = make(&SeededRandom::new(7)).unwrap();
        let text = key.expose();
        assert_eq!(text.len(), 55);
        assert!(is_whole(&key) && text.starts_with("tsink_"));
        assert_eq!(hint_of(&key), text[..10]);
        for end in 0..text.len() {
            assert!(!is_whole(&text[..end].into()), "cut off after {end}");
        }
        for place in 0..text.len() {
            let other = if &text[place..=place] == "x" { "y" } else { "x" };
            let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            assert!(!is_whole(&changed.as_str().into()), "{place}");
        }
        assert!(!is_whole(&format!("{text}0").as_str().into()));
    }

    #[test]
    fn the_checksum_is_the_documented_one() {
        // Computed by hand: printf 'tsink_000…0' | sha256sum, the first eight digits in base 62.
        let body = format!("tsink_{}", "0".repeat(43));
        let first = u32::from_str_radix(&hex::encode(Sha256::digest(body.as_bytes()))[..8], 16).unwrap();
        let check = check_of(&body);
        let back = check.bytes().fold(0_u32, |sum, byte| {
            let digit = DIGITS.iter().position(|known| *known == byte).unwrap();
            sum * 62 + u32::try_from(digit).unwrap()
        });
        assert_eq!(back, first);
    }

    proptest! {
        #[test]
        fn keys_differ_and_any_text_is_judged(seed: u64, other: u64, text in "(tsink_)?\\PC{0,60}") {
            let (one, two) = (make(&SeededRandom::new(seed)).unwrap(), make(&SeededRandom::new(other)).unwrap());
            prop_assert!(is_whole(&one) && is_whole(&two));
            prop_assert_eq!(seed == other, one == two);
            let _judged = is_whole(&text.into());
        }
    }
}
