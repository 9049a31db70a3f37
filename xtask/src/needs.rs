//! What the tests need on the machine, and how it is put there.
//!
//! [`PROJECTS`] is the list to extend when a test needs another npm package or Debian program. A project whose lock
//! file is not in the checkout fails the run, so that its tests are never left out in silence. Everything is announced
//! before it is installed. The big packages go into `npm` and `venv` of the target folder, so that `cargo clean` removes
//! them and nothing outside of it is touched.

mod python;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::built::host;
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
    /// Installed into the target folder instead of beside its package.json.
    in_target: bool,
    /// Further arguments of `npm ci`.
    npm: &'static [&'static str],
    /// Debian programs that it needs besides Node.
    debian: &'static [DebianProgram],
}

/// A program, and the Debian package that holds it.
struct DebianProgram {
    name: &'static str,
    package: &'static str,
}

static PROJECTS: [NodeProject; 6] = [
    NodeProject {
        dir: "tests/oidc",
        why: "the npm package oidc-provider, a real authorization server",
        full: false,
        in_target: false,
        npm: &[],
        debian: &[],
    },
    NodeProject {
        dir: SDK_CLIENTS,
        why: "the official npm clients of Anthropic and OpenAI, which are run against the gateway; 52 MB",
        full: false,
        in_target: false,
        npm: NO_SCRIPTS,
        debian: &[],
    },
    NodeProject {
        dir: "tests/browser",
        why: "the npm package playwright-core, which drives a headless Chromium",
        full: true,
        in_target: false,
        npm: &[],
        debian: &[DebianProgram {
            name: "chromium",
            package: "chromium",
        }],
    },
    NodeProject {
        dir: "tests/node",
        why: "Node 24, which OpenClaw wants; 190 MB",
        full: true,
        in_target: true,
        npm: NO_SCRIPTS,
        debian: &[],
    },
    NodeProject {
        dir: "tests/real-openclaw",
        why: "the npm package openclaw, which uses the same state dir as we do; 350 MB",
        full: true,
        in_target: true,
        // What is optional there are native parts of channels and local models.
        npm: &["--ignore-scripts", "--omit=optional", "--loglevel=error"],
        debian: &[],
    },
    NodeProject {
        dir: "tests/real-clis",
        why: "the real Codex and Claude Code, whose logins are shared with them; 770 MB",
        full: true,
        in_target: true,
        npm: NO_SCRIPTS,
        debian: &[],
    },
];

/// Where the clients of both languages and the scripts that use them are.
const SDK_CLIENTS: &str = "tests/sdk-clients";

/// What other people's packages want to run while they are installed is not needed by any of them.
const NO_SCRIPTS: &[&str] = &["--ignore-scripts", "--loglevel=error"];

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
    python::provide(
        &root.join(SDK_CLIENTS),
        "the official Python clients of Anthropic and OpenAI, which are run against the gateway; 110 MB",
    )
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

/// Makes sure of llvm-profdata, which belongs to the compiler.
pub(crate) fn llvm_profdata() -> Result<PathBuf, Failure> {
    if let Some(path) = profdata_of_toolchain() {
        return Ok(path);
    }
    println!(
        "   llvm-profdata is missing (it reads what a program has counted); installing it with `rustup`"
    );
    run(&mut program("rustup", ["component", "add", "llvm-tools"])).map_err(|failure| {
        Failure::new(format!(
            "{}; without rustup, build the program unguided: cargo build --profile dist -p tokensink-cli",
            failure.message
        ))
    })?;
    profdata_of_toolchain().ok_or_else(|| {
        Failure::new(
            "rustup says that llvm-tools is installed, and the compiler in use (`rustc --print sysroot`) has no \
             llvm-profdata: is it one of rustup's? To install it anew: rustup component remove llvm-tools && \
             rustup component add llvm-tools",
        )
    })
}

/// The tool that reads what a program has counted, of the toolchain in use.
fn profdata_of_toolchain() -> Option<PathBuf> {
    let sysroot = output_of(&mut program("rustc", ["--print", "sysroot"]))?;
    let path = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host().ok()?)
        .join("bin/llvm-profdata");
    path.is_file().then_some(path)
}

/// Makes sure of cargo-fuzz.
pub(crate) fn cargo_fuzz() -> Result<(), Failure> {
    cargo_tool(
        "fuzz",
        "cargo-fuzz",
        "it builds the fuzz targets; compiling it takes a minute or two, once",
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

/// nginx, which the gateway is measured beside. Debian keeps it where only root looks.
pub(crate) fn nginx() -> Result<PathBuf, Failure> {
    let find = || {
        let places = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"];
        let found = places
            .into_iter()
            .find(|place| output_of(&mut program(place, ["-v"])).is_some());
        found.map(PathBuf::from)
    };
    if let Some(path) = find() {
        return Ok(path);
    }
    println!("   nginx is missing; installing Debian's nginx, without starting it as a service");
    apt(&["nginx"])?;
    find().ok_or_else(|| Failure::new("nginx was installed and cannot be found"))
}

/// In this runlevel Debian's packages start no service of theirs (invoke-rc.d(8)).
const NO_SERVICE: &str = "RUNLEVEL=1";

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
            .chain(&["env", "DEBIAN_FRONTEND=noninteractive", NO_SERVICE, "apt-get"])
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

/// Installs a project's packages, unless they are there as its lock file says.
fn packages(project: &NodeProject, dir: &Path) -> Result<(), Failure> {
    let place = if project.in_target {
        let name = Path::new(project.dir).file_name().unwrap_or_default();
        target_dir()?.join("npm").join(name)
    } else {
        dir.to_owned()
    };
    let lock = text_of(&dir.join("package-lock.json"));
    if is_installed(&lock, &text_of(&place.join("node_modules/.package-lock.json"))) {
        return Ok(());
    }
    println!(
        "   {} is not installed or out of date ({})",
        project.dir, project.why
    );
    if place != dir {
        copy_manifests(dir, &place)?;
    }
    let place = place.to_string_lossy();
    let mut words = vec!["ci", "--no-audit", "--no-fund", "--prefix", &place];
    words.extend(project.npm);
    run(&mut program("npm", words))
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Puts package.json and its lock file where `npm ci` is to find them.
fn copy_manifests(from: &Path, to: &Path) -> Result<(), Failure> {
    let copy = |name: &str| fs::copy(from.join(name), to.join(name));
    fs::create_dir_all(to)
        .and_then(|()| copy("package.json"))
        .and_then(|_| copy("package-lock.json"))
        .map(|_| ())
        .map_err(|error| Failure::new(format!("cannot prepare {}: {error}", to.display())))
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf, Failure> {
    let metadata = cargo(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let text = output_of(&mut { metadata }).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let dir = value["target_directory"].as_str().map(PathBuf::from);
    dir.ok_or_else(|| Failure::new("`cargo metadata` does not name the target folder"))
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
    fn the_long_run_wants_the_big_programs_too() {
        let dirs = |full| wanted(full).map(|project| project.dir).collect::<Vec<_>>();
        assert_eq!(dirs(false), ["tests/oidc", "tests/sdk-clients"]);
        let all = [
            "tests/oidc",
            "tests/sdk-clients",
            "tests/browser",
            "tests/node",
            "tests/real-openclaw",
            "tests/real-clis",
        ];
        assert_eq!(dirs(true), all);
    }

    #[test]
    fn big_packages_go_where_the_tests_look_for_them() {
        // `CARGO_TARGET_TMPDIR` of a test is `tmp` in the same folder.
        // The program knows itself by its real path, and the folder may be named by a link.
        let target = target_dir().unwrap().canonicalize().unwrap();
        assert!(
            std::env::current_exe().unwrap().starts_with(&target),
            "{target:?}"
        );
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
