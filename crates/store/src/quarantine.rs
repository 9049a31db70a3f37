//! Setting aside a file that does not parse: it keeps every byte under a new name, and nothing is ever overwritten.
//!
//! Only for the holder of the file's lock, and only after a second read under that lock failed as well; what looked
//! torn to a reader without the lock may have been somebody's write in place.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokensink_host::{Host, atomic};
use tokensink_types::UnixMillis;

use crate::disk::FILE_MODE;
use crate::error::StoreError;

/// What stands between the name and the time.
const MARK: &str = ".unreadable-";
/// How many names are tried in one second.
const NAMES_MAX: u32 = 100;

/// Moves the file that `path` leads to aside, to `<name>.unreadable-<UTC time>`, and returns the new path. A file that
/// cannot be moved (a bind mount) is copied there and stays.
///
/// # Errors
/// As the system gives them; the file is then where it was.
pub fn set_aside(host: &Host, path: &Path) -> Result<PathBuf, StoreError> {
    let files = &*host.files;
    let real = atomic::resolve(files, path).map_err(StoreError::replace)?;
    let stamp = stamp_text(host.clock.now());
    for number in 1..=NAMES_MAX {
        let mut name = real.file_name().map_or_else(OsString::new, OsString::from);
        name.push(MARK);
        name.push(&stamp);
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let target = real.with_file_name(name);
        // A second name that must not exist, then the first one goes: at no moment is there no name.
        match files.hard_link(&real, &target) {
            Ok(()) => {
                // If the first name cannot go, both hold the content and the next write goes over the first.
                let _ = files.remove(&real);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(_) => match copy(host, &real, &target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                copied => copied.map_err(StoreError::io("set aside", &real))?,
            },
        }
        // It may hold secrets, and whoever wrote it may not have closed it to others. Best effort: it is aside already.
        let _ = files.set_mode(&target, 0o600);
        if let Some(dir) = target.parent() {
            files.sync_dir(dir).map_err(StoreError::io("set aside", &real))?;
        }
        tracing::warn!(path = %real.display(), kept = %target.display(), "a file that does not parse was set aside");
        return Ok(target);
    }
    Err(StoreError::io("set aside", &real)(
        io::ErrorKind::AlreadyExists.into(),
    ))
}

fn copy(host: &Host, from: &Path, to: &Path) -> io::Result<()> {
    let bytes = zeroize::Zeroizing::new(host.files.read(from)?);
    let mut handle = host.files.create_new(to, FILE_MODE)?;
    handle.write_at(0, &bytes)?;
    handle.sync()
}

/// The files that were set aside from `path`, oldest first.
///
/// # Errors
/// As the system gives them.
pub fn set_aside_before(host: &Host, path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let real = atomic::resolve(&*host.files, path).map_err(StoreError::replace)?;
    let (Some(dir), Some(name)) = (real.parent(), real.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = name.to_owned();
    prefix.push(MARK);
    let names = host.files.list(dir).map_err(StoreError::io("list", dir))?;
    Ok(names
        .iter()
        .filter(|name| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()))
        .map(|name| dir.join(name))
        .collect())
}

/// `yyyymmddThhmmssZ`.
fn stamp_text(now: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(now.0).map_or_else(
        |_| now.to_string(),
        |at| at.strftime("%Y%m%dT%H%M%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_written_without_separators() {
        assert_eq!(stamp_text(UnixMillis(1_795_237_200_123)), "20261121T050000Z");
    }
}
