//! Tests that mount: they run themselves again in a user and mount namespace of their own, on a small disk.
//!
//! Where namespaces are refused such a test is left out, which is told and counted (`TOKENSINK_TEST_SKIPS`); the long
//! run promises that nothing was left out, so there it fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::full;

/// Set for the process inside.
const INSIDE: &str = "TOKENSINK_TEST_INSIDE";
/// Where the disk is; only the namespace sees it.
const DISK: &str = "/mnt";

const REFUSED: &str = "this test mounts a small disk in a user namespace of its own, and that is not allowed here; as \
    root, run: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 (those of the \
    two that exist); in a container, start it with --security-opt seccomp=unconfined";

/// Mounts the disk and becomes the command that follows.
const SCRIPT: &str = r#"mount -t tmpfs -o "$1" tmpfs /mnt; shift; exec "$@""#;

/// True inside, on a disk with these mount options, which is also where temporary directories are. Outside it runs the
/// test of this name inside and returns false once that has passed.
#[track_caller]
pub(crate) fn inside(test: &str, options: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let probe = unshared(options, &["true".as_ref()]);
    if !probe.status.success() {
        skip(test, &String::from_utf8_lossy(&probe.stderr));
        return false;
    }
    let this = std::env::current_exe().unwrap();
    let words: [&Path; 4] = [&this, "--exact".as_ref(), test.as_ref(), "--nocapture".as_ref()];
    let output = unshared(options, &words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print(&text(&output.stdout));
    assert!(output.status.success(), "inside: {}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("1 passed"),
        "there is no test {test}"
    );
    false
}

#[expect(clippy::print_stdout, reason = "what was counted inside")]
fn print(text: &str) {
    println!("{text}");
}

fn unshared(options: &str, words: &[&Path]) -> Output {
    Command::new("unshare")
        .args(["-Urm", "/bin/sh", "-euc", SCRIPT, "sh", options])
        .args(words)
        .env(INSIDE, "1")
        .env("TMPDIR", DISK)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn skip(test: &str, why: &str) {
    let why = why.trim();
    assert!(!full(), "{REFUSED}: {why}");
    // Counted by `cargo xtask test`.
    if let Some(list) = std::env::var_os("TOKENSINK_TEST_SKIPS") {
        let mut list = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(list)
            .unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
    print(&format!("skipped {test}: {REFUSED}: {why}"));
}

/// `mount` with these words.
#[track_caller]
pub(crate) fn mount(words: &[&str]) {
    run("mount", words);
}

/// `umount`.
#[track_caller]
pub(crate) fn umount(place: &str) {
    run("umount", &[place]);
}

#[track_caller]
fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

/// A disk that is filled up to its last byte and its last inode. Freed when dropped.
pub(crate) struct Filler(PathBuf);

impl Filler {
    /// Takes every byte that is left.
    pub(crate) fn bytes() -> Self {
        let dir = Self::dir();
        let mut file = std::fs::File::create(dir.0.join("filler")).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        dir
    }

    /// Takes every file that is left to be made.
    pub(crate) fn inodes() -> Self {
        let dir = Self::dir();
        let mut made = 0;
        while std::fs::File::create_new(dir.0.join(made.to_string())).is_ok() {
            made += 1;
        }
        assert!(made > 0, "not a file could be made");
        dir
    }

    fn dir() -> Self {
        let dir = Path::new(DISK).join("full");
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
