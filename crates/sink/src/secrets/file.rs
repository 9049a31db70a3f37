//! Secrets in files: a JSON document with a pointer into it, or a file that is one secret (spec.md 16.3).

use std::io;
use std::sync::mpsc;

use serde_json::Value;
use tokensink_host::{FileStamp, Files, Host};
use tokensink_store::wipe_json;
use tokensink_types::{Secret, wipe};

use super::config::FileProvider;
use super::guard::{self, Allowed, Role, Trusted};
use super::reference::{Failure, Reference, SINGLE_VALUE};
use super::value::{self, Blank};

/// Looks all of `references`, which name this provider, up in one read of the file.
pub(super) fn resolve(
    host: &Host,
    provider: &FileProvider,
    references: &[Reference],
) -> Vec<Result<Secret, Failure>> {
    match read_in_time(host, provider) {
        Ok(content) => content.look_up(provider, references),
        Err(trouble) => references
            .iter()
            .map(|reference| Err(reference.failed(Some(trouble.field), &*trouble.cause, &*trouble.fix)))
            .collect(),
    }
}

/// The stamp under which the file is read now; `None` when it is not there.
pub(super) fn stamp(files: &dyn Files, provider: &FileProvider) -> Option<FileStamp> {
    files.stat(&provider.path).ok().flatten()
}

struct Trouble {
    field: &'static str,
    cause: String,
    fix: String,
}

/// Reads in a thread of its own: a network mount that hangs must not hang the caller beyond `timeoutMs`.
fn read_in_time(host: &Host, provider: &FileProvider) -> Result<Content, Trouble> {
    let (sender, receiver) = mpsc::channel();
    let files = host.files.clone();
    let job = provider.clone();
    let spawned = std::thread::Builder::new()
        .name("secret-file".to_owned())
        .spawn(move || {
            // Nobody listens any more when it took too long.
            let _late = sender.send(read(&*files, &job));
        });
    if let Err(error) = spawned {
        return Err(Trouble {
            field: "path",
            cause: format!("no thread could be started to read it: {error}"),
            fix: "try again when the system has room for one more thread".to_owned(),
        });
    }
    receiver.recv_timeout(provider.time).unwrap_or_else(|_| {
        Err(Trouble {
            field: "timeoutMs",
            cause: format!(
                "{} could not be read within {} ms",
                provider.path.display(),
                provider.time.as_millis()
            ),
            fix: "look whether its file system answers, or raise timeoutMs".to_owned(),
        })
    })
}

fn read(files: &dyn Files, provider: &FileProvider) -> Result<Content, Trouble> {
    let allowed = Allowed {
        insecure: provider.allow_insecure,
        ..Allowed::default()
    };
    let trusted = guard::check(files, &provider.path, Role::Data, allowed).map_err(|refusal| Trouble {
        field: "path",
        cause: refusal.cause,
        fix: refusal.fix,
    })?;
    let bytes = read_trusted(files, &trusted, provider.max_bytes).map_err(|error| {
        let (field, fix) = if error.kind() == io::ErrorKind::FileTooLarge {
            ("maxBytes", "name the right file, or raise maxBytes".to_owned())
        } else {
            ("path", format!("chmod u+r {}", trusted.path.display()))
        };
        Trouble {
            field,
            cause: format!("{} cannot be read: {error}", trusted.path.display()),
            fix,
        }
    })?;
    Content::parse(&bytes, provider)
}

/// Reads the very file that was checked.
fn read_trusted(files: &dyn Files, trusted: &Trusted, max: usize) -> io::Result<Bytes> {
    let mut file = files.open_itself(&trusted.path)?;
    let stamp = file.stamp()?;
    let checked = &trusted.facts.stamp;
    if (stamp.device, stamp.inode) != (checked.device, checked.inode) {
        return Err(io::Error::other("it was replaced while it was looked at"));
    }
    let too_large = || {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it holds more than {max} bytes"),
        )
    };
    let size = usize::try_from(stamp.size).map_err(|_| too_large())?;
    if size > max {
        return Err(too_large());
    }
    // Room for all of it from the start, so that no copy stays behind in memory that was outgrown.
    let mut bytes = Bytes(vec![0; size]);
    let read = file.read_at(0, &mut bytes.0)?;
    bytes.0.truncate(read);
    Ok(bytes)
}

/// Wiped when dropped.
struct Bytes(Vec<u8>);

impl Drop for Bytes {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// What was read, parsed. Wiped when dropped.
enum Content {
    Json(Value),
    Single(Result<Secret, Blank>),
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Self::Json(value) = self {
            wipe_json(value);
        }
    }
}

impl Content {
    fn parse(bytes: &Bytes, provider: &FileProvider) -> Result<Self, Trouble> {
        let shown = provider.path.display();
        let bytes = bytes.0.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes.0);
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(Trouble {
                field: "path",
                cause: format!("{shown} is not UTF-8 text"),
                fix: "name a text file".to_owned(),
            });
        };
        if provider.single {
            return Ok(Self::Single(value::usable(text)));
        }
        serde_json::from_str(text).map(Self::Json).map_err(|error| Trouble {
            field: "mode",
            cause: format!(
                "{shown} is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ),
            fix: format!(
                "correct line {} of {shown}, or set mode to \"singleValue\" if the whole file is one secret",
                error.line()
            ),
        })
    }

    fn look_up(&self, provider: &FileProvider, references: &[Reference]) -> Vec<Result<Secret, Failure>> {
        references
            .iter()
            .map(|reference| match self {
                Self::Single(secret) => single(secret, provider, reference),
                Self::Json(value) => at_pointer(value, provider, reference),
            })
            .collect()
    }
}

fn single(
    secret: &Result<Secret, Blank>,
    provider: &FileProvider,
    reference: &Reference,
) -> Result<Secret, Failure> {
    if reference.id != SINGLE_VALUE {
        return Err(reference.failed(
            Some("mode"),
            "the file is one secret (singleValue), so the only id is \"value\"",
            "set `id` of the reference to \"value\", or `mode` to \"json\"",
        ));
    }
    secret.clone().map_err(|blank| {
        let shown = provider.path.display();
        reference.failed(
            Some("path"),
            format!("{shown} {blank}"),
            format!("put the secret into {shown}"),
        )
    })
}

fn at_pointer(value: &Value, provider: &FileProvider, reference: &Reference) -> Result<Secret, Failure> {
    let shown = provider.path.display();
    if reference.id == SINGLE_VALUE {
        return Err(reference.failed(
            Some("mode"),
            "the file is a JSON document, so the id must be a pointer such as /providers/openrouter/key",
            "correct `id` in the reference, or set `mode` to \"singleValue\"",
        ));
    }
    let wrong = |why: String| {
        reference.failed(
            Some("path"),
            format!("{shown} {why} at {}", reference.id),
            format!("put the secret there as a string, or correct `id` in the reference ({shown})"),
        )
    };
    match value.pointer(&reference.id) {
        Some(Value::String(text)) => value::usable(text).map_err(|blank| wrong(blank.to_string())),
        Some(other) => Err(wrong(format!("holds {}, not a string,", value::kind(other)))),
        None => Err(wrong("holds nothing".to_owned())),
    }
}
