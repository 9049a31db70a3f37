//! Logins in a real browser: a headless Chromium presses the buttons of the real `oidc-provider`'s sign-in page and
//! reads what our callback shows. Only in the long run of the tests, which fails when the browser is not there.
//!
//! The screenshots stay in `tmp` of the target folder, as `callback-*.png`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokensink_testkit::{Oidc, loopback};

use crate::support::full;
use crate::support::stage::{run_at, store_path, stored};
use crate::world::{Said, World};

/// A little more than `login.mjs` gives itself; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(100);

/// `login.mjs`, if the long run is wanted.
///
/// # Panics
/// When it is wanted and something that it needs is missing.
#[expect(clippy::print_stderr, reason = "says what the short run leaves out")]
fn script() -> Option<PathBuf> {
    if !full() {
        eprintln!("only with TOKENSINK_TEST_FULL=1: a login in a headless Chromium");
        return None;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/browser");
    let dir = dir.canonicalize().unwrap();
    assert!(
        dir.join("node_modules/playwright-core/package.json").is_file(),
        "the npm package playwright-core is not installed; run: npm ci --prefix tests/browser"
    );
    let chromium = chromium();
    assert!(
        Path::new(&chromium).is_file(),
        "{chromium} is missing; run: apt-get install chromium (or set CHROMIUM to the program's path)"
    );
    Some(dir.join("login.mjs"))
}

fn chromium() -> String {
    std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())
}

/// A login that a Chromium was started for.
struct Visit {
    login: Child,
    report: Receiver<String>,
}

impl Visit {
    /// Starts the login in `world`. `choice` is the option of `login.mjs` that says what is pressed.
    fn start(world: &World, script: &Path, picture: &str, choice: &str) -> Self {
        let pipe = world.path("report");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success(), "mkfifo: {made}");
        let (sender, report) = mpsc::channel();
        let read = pipe.clone();
        thread::spawn(move || {
            let mut text = String::new();
            std::fs::File::open(read)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            // Nobody listens any more when the test has failed already.
            let _gone = sender.send(text);
        });
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(picture);
        // The browser outlives the command, so it tells us itself what it saw.
        let browser = format!(
            "/bin/sh -c 'exec node \"{}\" \"$1\" \"{}\" {choice} >\"{}\" 2>&1' sh %s",
            script.display(),
            picture.display(),
            pipe.display()
        );
        let mut command = world.command(&["openclaw", "models", "auth", "login", "--provider", "rig"]);
        command
            .env("BROWSER", browser)
            .env("CHROMIUM", chromium())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::null());
        Self {
            login: command.spawn().unwrap(),
            report,
        }
    }

    /// Waits for both ends; returns what the command said and what the browser saw.
    #[track_caller]
    fn finish(mut self) -> (Said, Value) {
        let report = self.report.recv_timeout(PATIENCE);
        let seen = report
            .as_deref()
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        if seen.is_none() {
            // It would wait for the browser for minutes.
            let _ended = self.login.kill();
        }
        let said = Said::of(self.login.wait_with_output().unwrap());
        let seen = seen.unwrap_or_else(|| panic!("the browser: {report:?}\n{said:#?}"));
        assert_eq!(seen["ok"], true, "{seen:#}");
        (said, seen)
    }
}

/// The real server with its sign-in page, and a home that knows it as provider `rig`.
fn rig() -> (World, Oidc) {
    let oidc = Oidc::start_with_pages(&[]);
    let world = World::new();
    world.write(
        ".openclaw/tokensink/providers/rig.toml",
        &oidc.provider_toml("rig"),
    );
    (world, oidc)
}

#[test]
fn a_click_signs_in() {
    let Some(script) = script() else { return };
    let (world, oidc) = rig();
    // Not the first button: the account that is stored must be the one that was chosen.
    let choice = "--account bob@example.com";
    let (said, seen) = Visit::start(&world, &script, "callback-success.png", choice).finish();
    let said = said.code(0);
    assert!(
        said.out.contains("Auth profile: rig:bob@example.com"),
        "{said:#?}"
    );
    let text = seen["text"].as_str().unwrap();
    for part in [
        "Logged in as bob@example.com",
        "rig:bob@example.com",
        "You can close this tab",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let kept = stored(&world, "main", "rig:bob@example.com");
    assert_eq!(kept["email"], "bob@example.com", "{kept:#}");
    assert_eq!(kept["accountId"], "bob", "{kept:#}");

    let first = world.run("tokensink token --provider rig").code(0).out;
    let second = run_at(&world, "tokensink token --provider rig", 3_700)
        .code(0)
        .out;
    assert_ne!(first, second);
    let bearer = format!("Bearer {}", second.trim());
    let answer = loopback::send("GET", &oidc.url("/me"), &[("authorization", &bearer)], "");
    assert_eq!(answer.json()["email"], "bob@example.com", "{answer:?}");
    let ledger = oidc.ledger();
    assert_eq!(
        (&ledger["refreshes"], &ledger["reuses"]),
        (&1.into(), &0.into()),
        "{ledger:#}"
    );
}

#[test]
fn a_refusal_stores_nothing() {
    let Some(script) = script() else { return };
    let (world, oidc) = rig();
    let (said, seen) = Visit::start(&world, &script, "callback-refused.png", "--deny").finish();
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(said.err.contains("access_denied"), "{said:#?}");
    let text = seen["text"].as_str().unwrap();
    assert!(text.contains("did not work"), "{text:?}");
    assert!(!store_path(&world, "main").exists());
    assert_eq!(oidc.ledger()["token_posts"], serde_json::json!({}));
}
