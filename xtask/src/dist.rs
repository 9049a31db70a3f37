//! `cargo xtask dist`: `tokensink` as it is packaged.
//!
//! A gateway spends most of its own time waiting for instructions: a request runs through some 200 KiB of code once, and
//! the system calls in between throw it out of the processor's caches. A compiler that knows what is executed puts that
//! side by side, and what is not, elsewhere. So the program is built twice with the profile `dist`: so that it counts what
//! it executes while the load of `bench --gateway` goes over it, then guided by these counts. The compiler reads nothing
//! else out of them: the program does the same as every other build.

use std::path::Path;

use crate::built::{Built, host};
use crate::needs;
use crate::run::{self, Failure, program};

/// What a program that counts is to do.
pub(crate) type Training = fn(&Built) -> Result<(), Failure>;

/// Builds, and says where it is.
pub(crate) fn run(training: Training) -> Result<(), Failure> {
    let built = guided(training)?;
    println!("   {}", built.named("tokensink")?.display());
    Ok(())
}

/// The programs of the benchmark, built with the profile `dist` and nothing else.
pub(crate) fn plain() -> Result<Built, Failure> {
    Built::by_cargo(&build_words(&[]), None)
}

/// The same programs, guided by a profile.
pub(crate) fn guided(training: Training) -> Result<Built, Failure> {
    let profdata = needs::llvm_profdata()?;
    let host = host()?;
    let dir = needs::target_dir()?.join("guided");
    let counts = dir.join("counts");
    let profile = dir.join("profile.profdata");
    let build = |target_dir: &str, flag: String| {
        // With a target of its own, the flag is not for what runs while compiling.
        let place = dir.join(target_dir).to_string_lossy().into_owned();
        let words = build_words(&["--target", &host, "--target-dir", &place]);
        Built::by_cargo(&words, Some(&flag))
    };
    let counting = build("counting", format!("-Cprofile-generate={}", counts.display()))?;
    // With other counts, all would be built anew.
    if !is_newer(&profile, &counting.named("tokensink")?) {
        // What another program has counted is of no use.
        if counts.exists() {
            std::fs::remove_dir_all(&counts).map_err(|error| unusable(&counts, &error))?;
        }
        std::fs::create_dir_all(&counts).map_err(|error| unusable(&counts, &error))?;
        training(&counting)?;
        let mut merge = program(&profdata, ["merge", "-o"]);
        run::run(merge.arg(&profile).arg(&counts))?;
    }
    build("program", format!("-Cprofile-use={}", profile.display()))
}

fn build_words<'a>(further: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "build",
        "--locked",
        "--profile",
        "dist",
        "-p",
        "tokensink-cli",
        "-p",
        "tokensink-baseline",
    ];
    words.iter().chain(further).copied().collect()
}

/// Was `file` written after `than`? Not if it is not there.
fn is_newer(file: &Path, than: &Path) -> bool {
    let written = |path: &Path| std::fs::metadata(path).and_then(|known| known.modified()).ok();
    written(file).is_some_and(|file| Some(file) > written(than))
}

fn unusable(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_is_not_there_is_never_newer() {
        let dir = std::env::temp_dir().join(format!("tokensink-newer-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (older, newer) = (dir.join("older"), dir.join("newer"));
        let now = SystemTime::now();
        for (path, at) in [(&older, now), (&newer, now + Duration::from_secs(1))] {
            File::create(path).unwrap().set_modified(at).unwrap();
        }
        let missing = dir.join("missing");
        let found = [
            is_newer(&newer, &older),
            is_newer(&older, &newer),
            is_newer(&missing, &older),
            is_newer(&older, &missing),
        ];
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [true, false, false, true]);
    }
}
