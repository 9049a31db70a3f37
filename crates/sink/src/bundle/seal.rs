//! Encryption of bundles: age's format, armored (age-encryption.org/v1), to recipients or by a passphrase.
//!
//! The cipher draws its randomness from the system itself, past the port: a test does not need to know its bytes.

use std::io::{Read as _, Write as _};
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, EncryptError, Encryptor, Identity, Recipient, scrypt, x25519};
use tokensink_types::{Body, Secret};
use zeroize::Zeroizing;

use crate::error::{ErrorKind, Result, SinkError};

/// scrypt's cost as the power of two that age's own commands use: about a second, 256 MiB.
const WORK_FACTOR: u8 = 18;
/// The highest cost that is tried when a bundle is opened: 1 GiB.
const WORK_FACTOR_MAX: u8 = 20;

/// What a bundle is encrypted to.
#[derive(Debug)]
pub struct Sealer(To);

enum To {
    Recipients(Vec<x25519::Recipient>),
    Passphrase { text: Secret, work_factor: u8 },
}

impl std::fmt::Debug for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recipients(recipients) => write!(f, "Recipients({})", recipients.len()),
            Self::Passphrase { .. } => f.write_str("Passphrase(..)"),
        }
    }
}

impl Sealer {
    /// Anyone with the identity of one of these recipients (`age1…`) opens it.
    ///
    /// # Errors
    /// A usage error that names the text which is no recipient, or when there is none.
    pub fn to_recipients(texts: &[String]) -> Result<Self> {
        let parse = |text: &String| {
            text.trim().parse::<x25519::Recipient>().map_err(|why| {
                let message = format!("{text:?} is no recipient of age: {why}");
                SinkError::new(ErrorKind::Usage, "bad_recipient", message)
                    .with_fix("make one with age-keygen; recipients begin with age1")
            })
        };
        let recipients: Vec<_> = texts.iter().map(parse).collect::<Result<_>>()?;
        if recipients.is_empty() {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "bad_recipient",
                "no recipient was given",
            ));
        }
        Ok(Self(To::Recipients(recipients)))
    }

    /// Anyone with the passphrase opens it.
    ///
    /// # Errors
    /// A usage error for a blank passphrase.
    pub fn by_passphrase(passphrase: Secret) -> Result<Self> {
        if passphrase.is_blank() {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "bad_passphrase",
                "the passphrase is blank",
            ));
        }
        Ok(Self(To::Passphrase {
            text: passphrase,
            work_factor: WORK_FACTOR,
        }))
    }

    /// A passphrase at a cost that a test can pay.
    #[cfg(test)]
    pub(crate) fn cheaply(passphrase: &str) -> Self {
        Self(To::Passphrase {
            text: passphrase.into(),
            work_factor: 4,
        })
    }

    /// Encrypts; returns the armored text with what opens it for the reading back. Recipients' identities are not
    /// here, so one more is made for that, used once and forgotten.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<(Vec<u8>, Opener)> {
        let (sealed, opener) = match &self.0 {
            To::Recipients(recipients) => {
                let once = x25519::Identity::generate();
                let reader = once.to_public();
                let all = recipients.iter().chain(iter::once(&reader));
                let sealed = encrypt(plain, all.map(|recipient| recipient as &dyn Recipient));
                (sealed, Opener(vec![Key::Identity(once)]))
            }
            To::Passphrase { text, work_factor } => {
                let mut recipient = scrypt::Recipient::new(secrecy(text));
                recipient.set_work_factor(*work_factor);
                let sealed = encrypt(plain, iter::once(&recipient as &dyn Recipient));
                (sealed, Opener::by_passphrase(text.clone()))
            }
        };
        let sealed = sealed.map_err(|error| {
            SinkError::new(
                ErrorKind::Failed,
                "not_sealed",
                format!("the bundle could not be encrypted: {error}"),
            )
        })?;
        Ok((sealed, opener))
    }
}

fn encrypt<'a>(
    plain: &[u8],
    recipients: impl Iterator<Item = &'a dyn Recipient>,
) -> std::result::Result<Vec<u8>, EncryptError> {
    let encryptor = Encryptor::with_recipients(recipients)?;
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(plain)?;
    Ok(writer.finish()?.finish()?)
}

/// What opens a bundle.
pub struct Opener(Vec<Key>);

enum Key {
    Identity(x25519::Identity),
    Passphrase(Secret),
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({})", self.0.len())
    }
}

impl Opener {
    /// The passphrase.
    #[must_use]
    pub fn by_passphrase(passphrase: Secret) -> Self {
        Self(vec![Key::Passphrase(passphrase)])
    }

    /// The identities in the text of an identity file of age: lines `AGE-SECRET-KEY-1…`, comments begin with `#`.
    ///
    /// # Errors
    /// A usage error with the number of the first line that is none, or when there is none at all.
    pub fn by_identities(text: &Secret) -> Result<Self> {
        let mut keys = Vec::new();
        for (number, line) in text.expose().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = line.parse::<x25519::Identity>().map_err(|why| {
                let message = format!(
                    "line {} of the identity file is no identity of age: {why}",
                    number + 1
                );
                SinkError::new(ErrorKind::Usage, "bad_identity", message)
            })?;
            keys.push(Key::Identity(identity));
        }
        if keys.is_empty() {
            let message = "the identity file holds no identity (AGE-SECRET-KEY-1…)";
            return Err(SinkError::new(ErrorKind::Usage, "bad_identity", message));
        }
        Ok(Self(keys))
    }

    /// Decrypts what [`Sealer`] or age's own command made, armored or not.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Body> {
        let plain = self.decrypt(sealed).map_err(|error| {
            let (message, fix) = match &error {
                DecryptError::NoMatchingKeys => {
                    ("it is encrypted to other recipients, or by a passphrase", None)
                }
                DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
                    ("the passphrase is wrong, or the file is damaged", None)
                }
                DecryptError::ExcessiveWork { .. } => (
                    "its passphrase was hardened more than any program of ours does",
                    Some("age -d <file> | age -a -p > <new file>"),
                ),
                _ => ("it is no bundle, or it is damaged", None),
            };
            let message = format!("the bundle cannot be opened: {message}");
            SinkError::new(ErrorKind::Failed, "not_opened", message).with_fix_if(fix)
        })?;
        Ok(Body::new(plain.to_vec()))
    }

    fn decrypt(&self, sealed: &[u8]) -> std::result::Result<Zeroizing<Vec<u8>>, DecryptError> {
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(sealed))?;
        let identities: Vec<Box<dyn Identity>> = self
            .0
            .iter()
            .map(|key| match key {
                Key::Identity(identity) => Box::new(identity.clone()) as Box<dyn Identity>,
                Key::Passphrase(text) => {
                    let mut identity = scrypt::Identity::new(secrecy(text));
                    identity.set_max_work_factor(WORK_FACTOR_MAX);
                    Box::new(identity)
                }
            })
            .collect();
        let mut reader = decryptor.decrypt(identities.iter().map(AsRef::as_ref))?;
        // Room for all of it, so that no part stays behind in a buffer that grew.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        reader.read_to_end(&mut plain)?;
        Ok(plain)
    }
}

/// Can this text be opened by a passphrase? `None` when it is no encrypted file at all.
pub(crate) fn is_by_passphrase(sealed: &[u8]) -> Option<bool> {
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(sealed)).ok()?;
    Some(decryptor.is_scrypt())
}

fn secrecy(text: &Secret) -> SecretString {
    SecretString::from(text.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

    #[test]
    fn sealed_and_opened() {
        let to = || Sealer::to_recipients(&[RECIPIENT.to_owned()]).unwrap();
        let file = Secret::new(format!("# created: today\n\n{IDENTITY}\n"));
        let cases = [
            (to(), Opener::by_identities(&file).unwrap(), true),
            (to(), Opener::by_passphrase("pass".into()), false),
            (
                Sealer::cheaply("pass"),
                Opener::by_passphrase("pass".into()),
                true,
            ),
            (
                Sealer::cheaply("pass"),
                Opener::by_passphrase("other".into()),
                false,
            ),
            (
                Sealer::cheaply("pass"),
                Opener::by_identities(&file).unwrap(),
                false,
            ),
        ];
        for (sealer, opener, opens) in cases {
            let (sealed, reader) = sealer.seal(b"canary").unwrap();
            assert!(sealed.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"));
            assert_eq!(reader.open(&sealed).unwrap().expose(), b"canary", "{sealer:?}");
            let plain = opener.open(&sealed);
            assert_eq!(plain.is_ok(), opens, "{sealer:?} {opener:?}");
            let mut damaged = sealed.clone();
            damaged.truncate(sealed.len() / 2);
            assert!(reader.open(&damaged).is_err());
        }
    }

    #[test]
    fn what_is_refused_is_named_without_a_secret() {
        let error = Sealer::to_recipients(&["age1no".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("age1no"), "{error}");
        assert!(Sealer::to_recipients(&[]).is_err());
        assert!(Sealer::by_passphrase(" ".into()).is_err());
        let error = Opener::by_identities(&"# one\nAGE-SECRET-KEY-1CANARY".into()).unwrap_err();
        assert!(
            error.to_string().contains("line 2") && !error.to_string().contains("CANARY"),
            "{error}"
        );
        assert!(Opener::by_identities(&"# none".into()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Opener::by_passphrase("pass".into()).open(&bytes).is_err());
            let _ = is_by_passphrase(&bytes);
        }
    }
}
