//! What the tests need on the machine, and how it is put there.
//!
//! [`PROJECTS`] is the list to extend when a test needs another npm package or Debian program. A project whose lock
//! file is not in the checkout fails the run, so that its tests are never left out in silence. Everything is announced
//! before it is installed.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::run::{Failure, cargo, output_of, program, root, run};

/// Oldest Node that the npm packages of the tests run on.
const NODE_MAJOR_MIN: u32 = 20;

/// An npm project that tests start programs from.
struct NodeProject {
    /// Its folder, with package.json and package-lock.json.
    dir: &'static str,
    /// What it is for.
    why: &'static str,
    /// Needed by `--full` only.
    full: bool,
    /// Debian programs that it needs besides Node.
    debian: &'static [DebianProgram],
}

/// A program, and the Debian package that holds it.
struct DebianProgram {
    name: &'static str,
    package: &'static str,
}

static PROJECTS: [NodeProject; 2] = [
    NodeProject {
        dir: "tests/oidc",
        why: "the npm package oidc-provider, a real authorization server",
        full: false,
        debian: &[],
    },
    NodeProject {
        dir: "tests/browser",
        why: "the npm package playwright-core, which drives a headless Chromium",
        full: true,
        debian: &[DebianProgram {
            name: "chromium",
            package: "chromium",
        }],
    },
];

/// Makes sure of cargo-nextest and of every npm project in the repository.
pub(crate) fn provide(full: bool) -> Result<(), Failure> {
    cargo_tool(
        "nextest",
        "cargo-nextest",
        "it runs each test in a process of its own",
    )?;
    let root = root();
    for project in wanted(full) {
        let dir = root.join(project.dir);
        is_there(project, &dir)?;
        node()?;
        for needed in project.debian {
            debian(needed)?;
        }
        packages(project, &dir)?;
    }
    Ok(())
}

/// The projects that a run needs.
fn wanted(full: bool) -> impl Iterator<Item = &'static NodeProject> {
    PROJECTS.iter().filter(move |project| full || !project.full)
}

/// Fails unless the project's lock file is in its folder.
fn is_there(project: &NodeProject, dir: &Path) -> Result<(), Failure> {
    if dir.join("package-lock.json").is_file() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{0}/package-lock.json is missing ({1}), and the tests need it; run: git checkout -- {0}",
        project.dir, project.why
    )))
}

/// Makes sure of cargo-deny.
pub(crate) fn cargo_deny() -> Result<(), Failure> {
    cargo_tool(
        "deny",
        "cargo-deny",
        "it reads deny.toml; compiling it takes some minutes, once",
    )
}

fn cargo_tool(subcommand: &str, package: &str, why: &str) -> Result<(), Failure> {
    if output_of(&mut cargo([subcommand, "--version"])).is_some() {
        return Ok(());
    }
    println!("   {package} is missing ({why}); installing it with `cargo install`");
    run(&mut cargo(["install", package, "--locked"]))
}

fn node() -> Result<(), Failure> {
    let version = || output_of(&mut program("node", ["--version"]));
    let npm = || output_of(&mut program("npm", ["--version"]));
    if version().is_none() || npm().is_none() {
        println!("   Node is missing; installing Debian's nodejs and npm");
        apt(&["nodejs", "npm"])?;
    }
    let found = version().unwrap_or_default();
    if major(&found).is_some_and(|major| major >= NODE_MAJOR_MIN) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the tests need Node {NODE_MAJOR_MIN} or newer, and `node --version` says {:?}; install a newer one from \
         https://nodejs.org and put it first on PATH",
        found.trim()
    )))
}

fn debian(needed: &DebianProgram) -> Result<(), Failure> {
    if output_of(&mut program(needed.name, ["--version"])).is_some() {
        return Ok(());
    }
    println!(
        "   {} is missing; installing Debian's {}",
        needed.name, needed.package
    );
    apt(&[needed.package])
}

/// Installs Debian packages, as root or through sudo without a question.
fn apt(packages: &[&str]) -> Result<(), Failure> {
    let by_hand = || {
        Failure::new(format!(
            "cannot install it here; install {} yourself and run this again",
            packages.join(" and ")
        ))
    };
    if output_of(&mut program("apt-get", ["--version"])).is_none() {
        return Err(by_hand());
    }
    let is_root = output_of(&mut program("id", ["-u"])).is_some_and(|uid| uid.trim() == "0");
    let prefix: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    let apt_get = |arguments: &[&str]| {
        let words: Vec<&str> = prefix
            .iter()
            .chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .chain(arguments)
            .copied()
            .collect();
        run(&mut program(words[0], &words[1..]))
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    // The lists may be old or absent; refreshing them is only worth its time when the first try fails.
    apt_get(&install)
        .or_else(|_| apt_get(&["update"]).and_then(|()| apt_get(&install)))
        .map_err(|failure| Failure::new(format!("{}; {}", failure.message, by_hand().message)))
}

fn packages(project: &NodeProject, dir: &Path) -> Result<(), Failure> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    if is_installed(
        &read("package-lock.json"),
        &read("node_modules/.package-lock.json"),
    ) {
        return Ok(());
    }
    println!(
        "   {} is not installed or out of date ({})",
        project.dir, project.why
    );
    run(&mut program(
        "npm",
        ["ci", "--no-audit", "--no-fund", "--prefix", project.dir],
    ))
}

/// Does the list that npm keeps of what it installed agree with the lock file? A package that is optional there may
/// be absent: it may be another system's.
fn is_installed(lock: &str, installed: &str) -> bool {
    let (Some(lock), Some(installed)) = (packages_of(lock), packages_of(installed)) else {
        return false;
    };
    let identity = |package: &Value| (package["version"].clone(), package["integrity"].clone());
    let locked_are_there = lock
        .iter()
        .filter(|(path, _)| !path.is_empty())
        .all(|(path, package)| match installed.get(path) {
            Some(present) => identity(present) == identity(package),
            None => package["optional"] == true || package["devOptional"] == true,
        });
    locked_are_there && installed.keys().all(|path| lock.contains_key(path))
}

fn packages_of(text: &str) -> Option<Map<String, Value>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("packages")?.as_object().cloned()
}

/// The major number in `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        let cases = [
            ("v20.20.2\n", Some(20)),
            ("v8.1.0", Some(8)),
            ("20.1.0", None),
            ("", None),
            ("vx", None),
        ];
        for (text, want) in cases {
            assert_eq!(major(text), want, "{text:?}");
        }
    }

    #[test]
    fn an_installation_is_held_against_its_lock_file() {
        let lock = r#"{"packages": {"": {"name": "rig"},
            "node_modules/a": {"version": "1.0.0", "integrity": "x"},
            "node_modules/b": {"version": "2.0.0", "optional": true}}}"#;
        let with = |packages: &str| format!(r#"{{"packages": {{{packages}}}}}"#);
        let a = r#""node_modules/a": {"version": "1.0.0", "integrity": "x"}"#;
        let cases = [
            (with(a), true),
            (
                with(&format!(r#"{a}, "node_modules/b": {{"version": "2.0.0"}}"#)),
                true,
            ),
            (
                with(&format!(r#"{a}, "node_modules/b": {{"version": "1.9.0"}}"#)),
                false,
            ),
            (
                with(&format!(r#"{a}, "node_modules/gone": {{"version": "1.0.0"}}"#)),
                false,
            ),
            (
                with(r#""node_modules/a": {"version": "1.0.1", "integrity": "x"}"#),
                false,
            ),
            (
                with(r#""node_modules/a": {"version": "1.0.0", "integrity": "y"}"#),
                false,
            ),
            (with(""), false),
            (String::new(), false),
            ("{".to_owned(), false),
        ];
        for (installed, want) in cases {
            assert_eq!(is_installed(lock, &installed), want, "{installed}");
        }
        assert!(!is_installed("", ""));
    }

    #[test]
    fn the_long_run_wants_the_browser_too() {
        let dirs = |full| wanted(full).map(|project| project.dir).collect::<Vec<_>>();
        assert_eq!(dirs(false), ["tests/oidc"]);
        assert_eq!(dirs(true), ["tests/oidc", "tests/browser"]);
    }

    #[test]
    fn a_project_that_is_gone_fails_the_run() {
        for project in &PROJECTS {
            assert!(is_there(project, &root().join(project.dir)).is_ok());
            let why = is_there(project, Path::new("/no/such")).unwrap_err().message;
            assert!(why.contains(project.dir) && why.contains("run: "), "{why}");
        }
    }

    #[test]
    fn every_project_says_what_it_is_for() {
        for project in &PROJECTS {
            assert!(
                project.dir.starts_with("tests/") && !project.why.is_empty(),
                "{}",
                project.dir
            );
        }
    }
}
