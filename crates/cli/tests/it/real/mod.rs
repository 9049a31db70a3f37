//! Beside the real programs: OpenClaw on our state dir, Codex and Claude Code on the logins that we share with them.
//! Only in the long run of the tests, for which `cargo xtask test --full` installs them into `npm` of the target
//! folder; a program that is missing there fails its tests.

mod agreement;
mod chat;
mod clis;
mod cooperative;
mod gateway;
mod kills;
mod kit;
mod openclaw;
mod protocol;
mod race;
mod rig;
mod side_by_side;
mod wired;

use std::path::{Path, PathBuf};

use crate::support::full;

/// A file of one of the npm projects that are installed into the target folder, or nothing in the short run.
///
/// # Panics
/// When the long run is wanted and the file is not there.
#[expect(clippy::print_stderr, reason = "says what the short run leaves out")]
fn installed(project: &str, file: &str) -> Option<PathBuf> {
    if !full() {
        eprintln!("only with TOKENSINK_TEST_FULL=1: what needs {file}");
        return None;
    }
    // `CARGO_TARGET_TMPDIR` is `tmp` in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("npm").join(project).join("node_modules").join(file);
    assert!(
        path.is_file(),
        "{} is missing; `cargo xtask test --full` installs it",
        path.display()
    );
    Some(path)
}

/// This machine's processor as npm calls it.
fn npm_cpu() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    }
}
