//! Keys and tokens that options point to. What an option holds itself is refused, and never shown.

use std::path::PathBuf;

use tokensink_sink::{ErrorKind, GivenSecret, SinkError};

use super::is_readable;
use crate::args::onboard::Keys;
use crate::args::{KeySource, OnboardArgs, SecretInput};
use crate::commands::App;
use crate::secret_input;

/// Refuses a secret that stands in an argument, where every process of the host reads it.
///
/// # Errors
/// A usage error that names what may stand there.
pub(super) fn refuse_bare(keys: &Keys) -> tokensink_sink::Result<()> {
    let Some((name, _)) = keys.given.iter().find(|(_, source)| !is_readable(source)) else {
        return Ok(());
    };
    let message = format!(
        "{name} takes no secret as it is, because every process of this host can read arguments (it is not shown \
         here)"
    );
    Err(
        SinkError::new(ErrorKind::Usage, "bare_secret", message).with_fix(format!(
            "{name} - (standard input), {name} file:PATH, or {name} env:NAME"
        )),
    )
}

/// What was given with `option`. A variable is not read here, since its name may be what is stored.
///
/// # Errors
/// When standard input or the file holds no secret.
pub(super) fn given(
    app: &App<'_>,
    args: &OnboardArgs,
    option: Option<&str>,
) -> tokensink_sink::Result<Option<GivenSecret>> {
    let Some(source) = option.and_then(|option| args.keys.given.get(option)) else {
        return Ok(None);
    };
    let from_file = match source {
        KeySource::Env(name) => return Ok(Some(GivenSecret::Env(name.clone()))),
        KeySource::File(path) => absolute(app, path),
        KeySource::Stdin | KeySource::Bare => PathBuf::from("-"),
    };
    let input = SecretInput {
        from_file: Some(from_file),
    };
    let secret = secret_input::read(&input, &*app.sink.host().files, "", &|_| Ok(()))?;
    Ok(Some(GivenSecret::Value(secret)))
}

fn absolute(app: &App<'_>, path: &std::path::Path) -> PathBuf {
    let env = &app.sink.host().env;
    let in_home = path
        .strip_prefix("~")
        .ok()
        .and_then(|rest| Some(env.home()?.join(rest)));
    in_home.unwrap_or_else(|| match env.current_dir() {
        Some(dir) => dir.join(path),
        None => path.to_owned(),
    })
}
