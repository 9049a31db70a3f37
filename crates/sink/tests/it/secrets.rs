//! References in a process that runs on, with real files and real programs; the clock is moved by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests use real files and programs"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokensink_host::Host;
use tokensink_sink::{AcquireRequest, AgentId, Flights, Lease, ProfileId, Result, Sink, Want};
use tokensink_testkit::{FakeClock, MapEnvironment};

/// A home with a profile for a file and one for a program, and a sink on it.
struct Home {
    dir: TempDir,
    clock: FakeClock,
    sink: Sink,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = FakeClock::default();
        let env = MapEnvironment::of([]);
        env.set_home(Some(dir.path().to_owned()));
        let write = |path: &str, text: &str, mode: u32| write(&dir, path, text, mode);
        let program = write("get", "#!/bin/sh\ncat answer\n", 0o755);
        let file = write("keys.json", r#"{"key": "file-1"}"#, 0o600);
        let config = json!({"secrets": {"providers": {
            "disk": {"source": "file", "path": file},
            "vault": {"source": "exec", "command": program, "timeoutMs": 2000, "maxOutputBytes": 1000},
        }}});
        let profile = |source: &str, provider: &str, id: &str| json!({"type": "api_key", "provider": "openrouter", "keyRef": {"source": source, "provider": provider, "id": id}});
        let store = json!({"version": 1, "profiles": {
            "openrouter:file": profile("file", "disk", "/key"),
            "openrouter:exec": profile("exec", "vault", "key"),
        }});
        write(".openclaw/openclaw.json", &config.to_string(), 0o600);
        write(
            ".openclaw/agents/main/agent/auth-profiles.json",
            &store.to_string(),
            0o600,
        );
        let host = Host {
            clock: Arc::new(clock.clone()),
            env: Arc::new(env),
            ..Host::real()
        };
        let sink = Sink::open_with(host, Flights::inline()).unwrap();
        let home = Self { dir, clock, sink };
        home.answer("exec-1");
        home
    }

    /// What the program prints from now on.
    fn answer(&self, secret: &str) {
        let text = json!({"protocolVersion": 1, "values": {"key": secret}}).to_string();
        write(&self.dir, "answer", &text, 0o600);
    }

    fn program(&self, script: &str) {
        // Another file under the name: a running script is never written over.
        let new = write(&self.dir, "get.new", &format!("#!/bin/sh\n{script}\n"), 0o755);
        std::fs::rename(new, self.dir.path().join("get")).unwrap();
    }

    fn ask(&self, profile: &str) -> Result<Lease> {
        let profile = ProfileId::parse(profile).unwrap();
        self.sink
            .acquire(&AcquireRequest::new(AgentId::main(), Want::Profile(profile)))
    }

    fn secret(&self, profile: &str) -> String {
        self.ask(profile).unwrap().secret.expose().to_owned()
    }
}

fn write(dir: &TempDir, path: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn programs_that_begin_to_misbehave_leave_the_last_good_value() {
    let home = Home::new();
    assert_eq!(home.secret("openrouter:exec"), "exec-1");
    let cases = [
        ("sleep 600", "did not end within 2000 ms"),
        ("yes canary", "wrote more than 1000 bytes"),
        ("printf '{\"protocolVersion\": 1, \"val'", "not JSON"),
        ("echo canary >&2; exit 7", "exit code 7"),
    ];
    for (script, want) in cases {
        home.program(script);
        let reload = home.sink.reload_secrets(false).unwrap();
        assert_eq!((reload.failed.len(), reload.kept), (1, 1), "{reload:?}");
        assert!(reload.failed[0].0.contains(want), "{reload:?}");
        let lease = home.ask("openrouter:exec").unwrap();
        assert_eq!(lease.secret.expose(), "exec-1", "{script}");
        let note = lease.note.unwrap();
        assert!(
            note.starts_with("SECRETS_RELOADER_DEGRADED") && note.contains(want),
            "{note}"
        );
        let warnings = home.sink.status(&AgentId::main()).unwrap().warnings;
        assert_eq!(
            warnings
                .iter()
                .filter(|text| text.contains("SECRETS_RELOADER_DEGRADED"))
                .count(),
            1
        );
        assert!(!format!("{warnings:?} {note} {reload:?}").contains("canary"));
    }
    home.program("cat answer");
    home.answer("exec-2");
    home.clock.advance(Duration::from_secs(31));
    let lease = home.ask("openrouter:exec").unwrap();
    assert_eq!((lease.secret.expose(), lease.note.as_deref()), ("exec-2", None));
    let warnings = home.sink.status(&AgentId::main()).unwrap().warnings;
    assert_eq!(
        warnings,
        ["SECRETS_RELOADER_RECOVERED: every reference gives a value again"]
    );
}

#[test]
fn a_file_is_followed_through_good_and_bad() {
    let home = Home::new();
    assert_eq!(home.secret("openrouter:file"), "file-1");
    write(&home.dir, "keys.json", r#"{"key": "file-2"}"#, 0o600);
    assert_eq!(home.secret("openrouter:file"), "file-2");
    // Somebody makes it readable for all, then half writes it, then removes it.
    for (text, mode, want) in [
        (r#"{"key": "file-3"}"#, 0o644, "chmod 600"),
        ("{\"key", 0o600, "not JSON"),
    ] {
        write(&home.dir, "keys.json", text, mode);
        let lease = home.ask("openrouter:file").unwrap();
        assert_eq!(lease.secret.expose(), "file-2");
        let warnings = home.sink.status(&AgentId::main()).unwrap().warnings;
        assert!(warnings[0].contains(want), "{warnings:?}");
        assert!(lease.note.is_some());
    }
    std::fs::remove_file(home.dir.path().join("keys.json")).unwrap();
    assert_eq!(home.secret("openrouter:file"), "file-2");
    write(&home.dir, "keys.json", r#"{"key": "file-4"}"#, 0o600);
    assert_eq!(home.secret("openrouter:file"), "file-4");
}

#[test]
fn many_callers_at_once_run_one_program() {
    let home = Home::new();
    home.program("echo run >> runs; cat answer");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(home.secret("openrouter:exec"), "exec-1"));
        }
    });
    let runs = std::fs::read_to_string(home.dir.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1);
}
