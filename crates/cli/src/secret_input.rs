//! Where a pasted secret comes from: a prompt that does not echo, standard input, or a file. Never an argument.

use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use tokensink_host::Files;
use tokensink_sink::{ErrorKind, Result, SinkError};
use tokensink_types::Secret;
use zeroize::Zeroizing;

use crate::args::SecretInput;
use crate::exit::unreadable;

/// Most bytes that are read; a token or key has far fewer, so more means that the wrong thing was piped in.
const BYTES_MAX: usize = 64 * 1024;

/// How often a wrong secret may be typed before we give up.
const TRIES: u32 = 3;

/// Reads the secret that `input` points to. At the prompt a secret that `check` refuses is asked for again.
///
/// # Errors
/// When nothing comes, it is too long or not text, or `check` refuses it.
pub(crate) fn read(
    input: &SecretInput,
    files: &dyn Files,
    prompt: &str,
    check: &dyn Fn(&Secret) -> Result<()>,
) -> Result<Secret> {
    let secret = match input.from_file.as_deref() {
        Some(path) if path != Path::new("-") => from_file(files, path)?,
        Some(_) => from_stream(&mut io::stdin().lock(), "standard input")?,
        None if io::stdin().is_terminal() => return ask(prompt, check),
        None => from_stream(&mut io::stdin().lock(), "standard input")?,
    };
    check(&secret)?;
    Ok(secret)
}

/// Asks for a secret in a terminal, without showing what is typed; `None` when none is given.
pub(crate) fn asked(prompt: &str) -> Option<Secret> {
    ask(prompt, &|_| Ok(())).ok()
}

fn from_file(files: &dyn Files, path: &Path) -> Result<Secret> {
    let bytes = Zeroizing::new(files.read(path).map_err(|error| {
        let message = format!("{} could not be read", path.display());
        SinkError::new(unreadable(&error), "secret_file", message)
            .because(error)
            .with_fix("name a file that you may read, or pipe the secret in")
    })?);
    text_of(&bytes, &path.display().to_string())
}

fn from_stream(stream: &mut dyn Read, name: &str) -> Result<Secret> {
    // Room for all of it from the start, so that no half of a secret stays behind in a buffer that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    stream
        .take(BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            SinkError::new(
                ErrorKind::Failed,
                "secret_input",
                format!("{name} could not be read"),
            )
            .because(error)
        })?;
    text_of(&bytes, name)
}

/// The secret in `bytes`: white space and line ends around it (`\n`, `\r`, both or none) and a byte order mark go.
fn text_of(bytes: &[u8], name: &str) -> Result<Secret> {
    let wrong = |why: String| {
        SinkError::new(ErrorKind::Usage, "secret_input", why)
            .with_fix("run the command in a terminal to be asked for it, or pipe the bare secret in")
    };
    if bytes.len() > BYTES_MAX {
        return Err(wrong(format!(
            "{name} holds more than {BYTES_MAX} bytes; that is no token or key"
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(format!("{name} is not UTF-8 text")))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(wrong(format!("{name} is empty; a secret is required")));
    }
    Ok(Secret::new(text))
}

/// Standard input without echo, until dropped.
pub(crate) struct Quiet(rustix::termios::Termios);

impl Quiet {
    /// `None` when standard input is no terminal or cannot be changed; reading then hides what is typed by itself.
    pub(crate) fn begin() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
        set(&quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = set(&self.0);
    }
}

fn set(modes: &rustix::termios::Termios) -> rustix::io::Result<()> {
    rustix::termios::tcsetattr(
        rustix::stdio::stdin(),
        rustix::termios::OptionalActions::Now,
        modes,
    )
}

fn ask(prompt: &str, check: &dyn Fn(&Secret) -> Result<()>) -> Result<Secret> {
    let mut refused = None;
    for _ in 0..TRIES {
        if let Some(error) = refused.take() {
            let error: SinkError = error;
            let _ignored = io::Write::write_all(&mut io::stderr(), format!("{error}\n").as_bytes());
        }
        // The prompt is an invitation to paste: echo must be off before it is seen.
        let _quiet = Quiet::begin();
        let typed = rpassword::prompt_password(format!("{prompt} (not shown): ")).map_err(|error| {
            SinkError::new(ErrorKind::Failed, "prompt", "the secret could not be asked for")
                .because(error)
                .with_fix("pipe it in, or name a file with --from-file")
        })?;
        let secret = Secret::new(Zeroizing::new(typed).trim());
        let result = if secret.is_blank() {
            Err(SinkError::new(
                ErrorKind::Usage,
                "secret_input",
                "nothing was typed",
            ))
        } else {
            check(&secret)
        };
        match result {
            Ok(()) => return Ok(secret),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| SinkError::new(ErrorKind::Usage, "secret_input", "nothing was typed")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_ends_do_not_matter() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"sk-1\n", Some("sk-1")),
            (b"sk-1\r", Some("sk-1")),
            (b"sk-1\r\n", Some("sk-1")),
            (b"sk-1", Some("sk-1")),
            (b"  sk-1 \n\n", Some("sk-1")),
            (b"\xef\xbb\xbfsk-1", Some("sk-1")),
            (b"", None),
            (b"\r\n", None),
            (b"\xff\xfe", None),
        ];
        for (bytes, want) in cases {
            let got = from_stream(&mut &bytes[..], "standard input");
            match (got, want) {
                (Ok(secret), Some(want)) => assert_eq!(secret.expose(), want),
                (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Usage),
                (got, want) => panic!("{bytes:?}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn too_much_is_refused() {
        let bytes = vec![b'x'; BYTES_MAX + 1];
        let error = from_stream(&mut &bytes[..], "standard input").unwrap_err();
        assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn no_input_is_taken_with_white_space_around_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(secret) = text_of(&bytes, "standard input") {
                prop_assert!(!secret.is_blank());
                prop_assert_eq!(secret.expose(), secret.expose().trim());
            }
        }
    }
}
