//! Python packages of the tests: a virtual environment in the target folder, made as a list with hashes says.

use std::fs;
use std::path::Path;

use super::{apt, target_dir, text_of};
use crate::run::{Failure, output_of, program, run};

/// Oldest Python that the packages run on.
const MINOR_MIN: u32 = 10;

/// Makes sure of `venv/<name>` in the target folder with what `requirements.txt` in `dir` lists, and nothing else.
pub(super) fn provide(dir: &Path, why: &str) -> Result<(), Failure> {
    let list = dir.join("requirements.txt");
    let wanted = text_of(&list);
    let name = dir.file_name().unwrap_or_default();
    if wanted.is_empty() {
        return Err(Failure::new(format!(
            "{} is missing ({why}), and the tests need it; run: git checkout -- tests",
            list.display()
        )));
    }
    let place = target_dir()?.join("venv").join(name);
    let mark = place.join("installed.txt");
    let python = place.join("bin/python");
    if is_installed(&wanted, &text_of(&mark)) && works(&python) {
        return Ok(());
    }
    println!(
        "   the Python packages of tests/{} are not installed or out of date ({why})",
        name.to_string_lossy()
    );
    interpreter()?;
    let place = place.to_string_lossy();
    run(&mut program("python3", ["-m", "venv", "--clear", &place]))?;
    let list = list.to_string_lossy();
    // Only what the list names, as wheels: nothing of it is run while it is installed.
    let words = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--no-deps",
    ];
    let words = words
        .into_iter()
        .chain(["--only-binary", ":all:", "--requirement", &list]);
    run(&mut program(&python, words))?;
    fs::write(&mark, wanted)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", mark.display())))
}

/// The mark is the list that it was made by, written last.
fn is_installed(wanted: &str, mark: &str) -> bool {
    !wanted.is_empty() && wanted == mark
}

/// An upgrade of the machine may have taken away what it was made of.
fn works(python: &Path) -> bool {
    output_of(&mut program(python, ["-c", "import anthropic, openai"])).is_some()
}

/// Makes sure of a Python that can make virtual environments.
fn interpreter() -> Result<(), Failure> {
    let version = || output_of(&mut program("python3", ["--version"]));
    let venv = || output_of(&mut program("python3", ["-c", "import venv, ensurepip"]));
    if version().is_none() || venv().is_none() {
        println!("   Python with venv is missing; installing Debian's python3 and python3-venv");
        apt(&["python3", "python3-venv"])?;
    }
    let found = version().unwrap_or_default();
    if minor(&found).is_some_and(|minor| minor >= MINOR_MIN) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the tests need Python 3.{MINOR_MIN} or newer, and `python3 --version` says {:?}; install a newer one and put \
         it first on PATH",
        found.trim()
    )))
}

/// The minor number in `Python 3.11.7`.
fn minor(version: &str) -> Option<u32> {
    let rest = version.trim().strip_prefix("Python 3.")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::root;

    #[test]
    fn versions_of_python() {
        let cases = [
            ("Python 3.11.7\n", Some(11)),
            ("Python 3.9.0", Some(9)),
            ("Python 2.7.18", None),
            ("3.11.7", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(minor(text), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_installed_is_what_is_listed() {
        assert!(is_installed("a==1", "a==1"));
        assert!(!is_installed("a==2", "a==1"));
        assert!(!is_installed("a==1", ""));
        assert!(!is_installed("", ""));
    }

    #[test]
    fn every_package_is_pinned_with_its_hashes() {
        let list = text_of(&root().join(super::super::SDK_CLIENTS).join("requirements.txt"));
        let mut packages = 0;
        let mut lines = list.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with(['#', '-']) {
                continue;
            }
            packages += 1;
            let hashed = lines.peek().is_some_and(|next| next.contains("--hash=sha256:"));
            assert!(line.contains("==") && hashed, "{line}");
        }
        assert!(packages > 10, "{packages}");
    }
}
