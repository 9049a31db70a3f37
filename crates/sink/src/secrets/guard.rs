//! May a file be read for a secret, or a program be run for one? (spec.md 16.3)
//!
//! Refused, because somebody else could then decide what we read or run: a symbolic link in the last place, a hard
//! link (of a secret file), anything but a regular file, an owner other than us and root, write permission for the
//! group or others, a directory on the way that others may write to and that is not sticky. A secret file must not be
//! readable by others either, nor by the group unless root gave it to the group. Links among the directories are
//! followed, and both ways are checked. What is decided here is decided on what was looked at; [`Trusted`] lets the
//! reader make sure that it opened the same file.

use std::path::{Path, PathBuf};

use tokensink_host::{FileFacts, FileKind, Files};

/// What the path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A file that holds secrets.
    Data,
    /// A program to run.
    Command,
}

/// What the user has allowed beyond the rules.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed<'a> {
    /// `allowSymlinkCommand`: a link in the last place is followed.
    pub(super) link: bool,
    /// `allowInsecurePath`: owners and modes are not looked at.
    pub(super) insecure: bool,
    /// `trustedDirs`: the file must lie below one of these; empty for anywhere.
    pub(super) dirs: &'a [PathBuf],
}

/// A file that passed.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Its path without links.
    pub(super) path: PathBuf,
    /// What was there.
    pub(super) facts: FileFacts,
}

/// It did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: String,
    pub(super) fix: String,
}

fn refuse<T>(cause: impl Into<String>, fix: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        cause: cause.into(),
        fix: fix.into(),
    })
}

/// Checks what is at `path` now.
pub(super) fn check(
    files: &dyn Files,
    path: &Path,
    role: Role,
    allowed: Allowed<'_>,
) -> Result<Trusted, Refusal> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| Refusal {
        cause: format!("{shown} cannot be looked at: {error}"),
        fix: format!("make {shown} accessible to this user"),
    };
    let Some(named) = files.inspect(path).map_err(unreadable)? else {
        return refuse(
            format!("there is no {shown}"),
            "correct the path, or create the file".to_owned(),
        );
    };
    let real = files.canonical(path).map_err(unreadable)?;
    if named.kind == FileKind::Link && !allowed.link {
        let or = if role == Role::Command {
            ", or set allowSymlinkCommand to true"
        } else {
            ""
        };
        return refuse(
            format!("{shown} is a symbolic link"),
            format!("name the file itself, {}{or}", real.display()),
        );
    }
    let Some(facts) = files.inspect(&real).map_err(unreadable)? else {
        return refuse(format!("{shown} leads nowhere"), "correct the path".to_owned());
    };
    check_kind(&real, &facts, role)?;
    if !allowed.insecure {
        check_owner_and_mode(files, &real, &facts, role)?;
        check_directories(files, path)?;
        check_directories(files, &real)?;
    }
    check_trusted(files, &real, allowed.dirs)?;
    Ok(Trusted { path: real, facts })
}

fn check_kind(real: &Path, facts: &FileFacts, role: Role) -> Result<(), Refusal> {
    let shown = real.display();
    if facts.kind != FileKind::File {
        return refuse(
            format!("{shown} is no regular file"),
            "name a regular file".to_owned(),
        );
    }
    if role == Role::Data && facts.links > 1 {
        return refuse(
            format!("{shown} has {} names (hard links)", facts.links),
            format!("make it a file of its own: cp -p {shown} {shown}.new && mv {shown}.new {shown}"),
        );
    }
    if role == Role::Command && facts.stamp.mode & 0o111 == 0 {
        return refuse(format!("{shown} is not executable"), format!("chmod u+x {shown}"));
    }
    Ok(())
}

fn check_owner_and_mode(
    files: &dyn Files,
    real: &Path,
    facts: &FileFacts,
    role: Role,
) -> Result<(), Refusal> {
    let shown = real.display();
    let (uid, mode) = (facts.stamp.uid, facts.stamp.mode);
    if uid != 0 && uid != files.user() {
        return refuse(
            format!("{shown} belongs to user {uid}, neither to this user nor to root"),
            format!("chown {} {shown}", files.user()),
        );
    }
    let by_root = uid == 0;
    let forbidden = match role {
        Role::Command => 0o022,
        // Root may give a secret to a group, as service managers and containers do.
        Role::Data if by_root => 0o037,
        Role::Data => 0o077,
    };
    if mode & forbidden == 0 {
        return Ok(());
    }
    let fix = match role {
        Role::Command => format!("chmod go-w {shown}"),
        Role::Data => format!("chmod 600 {shown}"),
    };
    let what = match role {
        Role::Command => "write to",
        Role::Data => "read or write to",
    };
    refuse(format!("others may {what} {shown} (mode {mode:04o})"), fix)
}

/// Whoever may write to a directory on the way may put another file in the place of ours, unless it is sticky.
fn check_directories(files: &dyn Files, path: &Path) -> Result<(), Refusal> {
    for dir in path.ancestors().skip(1) {
        let shown = dir.display();
        match files.stat(dir) {
            Ok(Some(stamp)) if stamp.mode & 0o002 != 0 && stamp.mode & 0o1000 == 0 => {
                return refuse(
                    format!(
                        "everybody may write to the directory {shown} (mode {:04o})",
                        stamp.mode
                    ),
                    format!("chmod o-w {shown}"),
                );
            }
            Ok(_) => {}
            Err(error) => {
                return refuse(
                    format!("the directory {shown} cannot be looked at: {error}"),
                    format!("make {shown} accessible to this user"),
                );
            }
        }
    }
    Ok(())
}

fn check_trusted(files: &dyn Files, real: &Path, dirs: &[PathBuf]) -> Result<(), Refusal> {
    // A directory that is not there contains nothing.
    let lies_below = |dir: &PathBuf| files.canonical(dir).is_ok_and(|dir| real.starts_with(dir));
    if dirs.is_empty() || dirs.iter().any(lies_below) {
        return Ok(());
    }
    refuse(
        format!("{} lies outside of trustedDirs", real.display()),
        "add its directory to trustedDirs, if it is to be trusted".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::{MemFiles, TestHost};

    use super::*;

    const SECRET: &str = "/home/user/s/key.json";
    const COMMAND: &str = "/home/user/bin/op";

    fn files() -> MemFiles {
        let files = TestHost::new().files;
        files.put(SECRET, "{}", 0o600);
        files.put(COMMAND, "#!", 0o755);
        files
    }

    fn refusal(files: &MemFiles, path: &str, role: Role, allowed: Allowed<'_>) -> String {
        let refusal = check(files, Path::new(path), role, allowed).unwrap_err();
        format!("{} | {}", refusal.cause, refusal.fix)
    }

    #[test]
    fn what_is_in_order_passes() {
        let files = files();
        check(&files, Path::new(SECRET), Role::Data, Allowed::default()).unwrap();
        check(&files, Path::new(COMMAND), Role::Command, Allowed::default()).unwrap();
        files.put("/run/secrets/key", "k", 0o640);
        files.chown("/run/secrets/key", 0);
        check(
            &files,
            Path::new("/run/secrets/key"),
            Role::Data,
            Allowed::default(),
        )
        .unwrap();
        let dirs = [PathBuf::from("/home/user/bin")];
        let allowed = Allowed {
            dirs: &dirs,
            ..Allowed::default()
        };
        check(&files, Path::new(COMMAND), Role::Command, allowed).unwrap();
    }

    #[test]
    fn what_others_could_change_or_read_is_refused() {
        type Change = fn(&MemFiles);
        let cases: [(&str, Role, Change, &str); 11] = [
            (
                SECRET,
                Role::Data,
                |f| f.put(SECRET, "", 0o640),
                "(mode 0640) | chmod 600",
            ),
            (SECRET, Role::Data, |f| f.put(SECRET, "", 0o604), "(mode 0604)"),
            (
                SECRET,
                Role::Data,
                |f| f.chown(SECRET, 1001),
                "belongs to user 1001",
            ),
            (
                SECRET,
                Role::Data,
                |f| {
                    f.hard_link(Path::new(SECRET), Path::new("/home/user/s/two"))
                        .unwrap();
                },
                "2 names",
            ),
            (
                SECRET,
                Role::Data,
                |f| f.set_mode(Path::new("/home/user/s"), 0o777).unwrap(),
                "everybody may write to the directory /home/user/s",
            ),
            (
                "/home/user/s/link",
                Role::Data,
                |f| f.symlink(SECRET, "/home/user/s/link"),
                "name the file itself, /home/user/s/key.json",
            ),
            ("/home/user/s/none", Role::Data, |_| {}, "there is no"),
            ("/home/user/s", Role::Data, |_| {}, "no regular file"),
            (
                COMMAND,
                Role::Command,
                |f| f.put(COMMAND, "", 0o775),
                "chmod go-w",
            ),
            (
                COMMAND,
                Role::Command,
                |f| f.put(COMMAND, "", 0o644),
                "not executable",
            ),
            (
                "/home/user/bin/link",
                Role::Command,
                |f| f.symlink(COMMAND, "/home/user/bin/link"),
                "allowSymlinkCommand",
            ),
        ];
        for (path, role, change, want) in cases {
            let files = files();
            change(&files);
            let said = refusal(&files, path, role, Allowed::default());
            assert!(said.contains(want), "{said} lacks {want}");
        }
    }

    #[test]
    fn a_way_through_a_link_is_checked_on_both_sides() {
        let files = files();
        files.mkdir("/open");
        files.set_mode(Path::new("/open"), 0o777).unwrap();
        files.symlink("/home/user/s", "/open/s");
        let said = refusal(&files, "/open/s/key.json", Role::Data, Allowed::default());
        assert!(said.contains("the directory /open "), "{said}");
        files.set_mode(Path::new("/open"), 0o1777).unwrap();
        check(
            &files,
            Path::new("/open/s/key.json"),
            Role::Data,
            Allowed::default(),
        )
        .unwrap();
    }

    #[test]
    fn what_the_user_allows_is_allowed_and_no_more() {
        let files = files();
        files.put(SECRET, "", 0o666);
        let insecure = Allowed {
            insecure: true,
            ..Allowed::default()
        };
        check(&files, Path::new(SECRET), Role::Data, insecure).unwrap();
        files.symlink(COMMAND, "/home/user/bin/link");
        let dirs = [PathBuf::from("/usr/bin")];
        let link = Allowed {
            link: true,
            dirs: &dirs,
            ..Allowed::default()
        };
        let said = refusal(&files, "/home/user/bin/link", Role::Command, link);
        assert!(said.contains("outside of trustedDirs"), "{said}");
        let said = refusal(&files, "/home/user/bin/link", Role::Command, insecure);
        assert!(said.contains("symbolic link"), "{said}");
    }
}
