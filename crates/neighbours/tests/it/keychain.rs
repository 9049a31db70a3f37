//! The Keychain through a stand-in for the `security` command, run as a real process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokensink_host::{ChildProcess, HelperReport, Host, Liveness, OsProcesses, ProcessRequest, Processes};
use tokensink_neighbours::{
    Keychain, Neighbour, Place, PlaceKind, Reading, Written, compare_and_set, places, read,
};
use tokensink_store::Expected;
use tokensink_testkit::TestHost;
use tokensink_types::{OAuth, ProcessId, UnixMillis};

use crate::support::{claude_file, codex_file, generation, login, spend};

/// Keeps one item per file in its directory, named by account and service, and notes its calls. A file `locked`
/// makes it refuse as a locked Keychain does.
const SECURITY: &str = r#"#!/bin/sh
dir=$(dirname "$0")
printf '%s\n' "$*" >>"$dir/calls"
if [ "$1" = -i ]; then
    IFS= read -r line
    eval "set -- $line"
    [ "$1 $2 $3 $5 $7" = 'add-generic-password -U -a -s -X' ] || exit 2
    [ -f "$dir/deaf" ] || printf '%s' "$8" | sed 's/../\\x&/g' | xargs -0 printf '%b' >"$dir/$4@$6"
    exit 0
fi
[ "$1" = find-generic-password ] || exit 2
account=$3 service=$5
[ -f "$dir/$account@$service" ] || { echo 'The specified item could not be found in the keychain.' >&2; exit 44; }
[ "$6" = -w ] || exit 0
[ ! -f "$dir/locked" ] || { echo 'User interaction is not allowed.' >&2; exit 36; }
cat "$dir/$account@$service"
"#;

/// Real processes, with `security` found in a directory of the test.
#[derive(Debug)]
struct StandIn {
    real: OsProcesses,
    dir: PathBuf,
}

impl StandIn {
    fn found(&self, mut request: ProcessRequest) -> ProcessRequest {
        request.program = OsString::from(self.dir.join(&request.program));
        request
    }
}

impl Processes for StandIn {
    fn this(&self) -> ProcessId {
        self.real.this()
    }
    fn this_program(&self) -> io::Result<PathBuf> {
        self.real.this_program()
    }
    fn liveness(&self, process: &ProcessId) -> Liveness {
        self.real.liveness(process)
    }
    fn spawn_detached(&self, request: ProcessRequest) -> io::Result<()> {
        self.real.spawn_detached(self.found(request))
    }
    fn spawn_helper(&self, request: ProcessRequest) -> io::Result<Box<dyn HelperReport>> {
        self.real.spawn_helper(self.found(request))
    }
    fn run(&self, request: ProcessRequest) -> io::Result<i32> {
        self.real.run(self.found(request))
    }
    fn output(&self, request: ProcessRequest, deadline: Duration) -> io::Result<Vec<u8>> {
        self.real.output(self.found(request), deadline)
    }
    fn spawn(&self, request: ProcessRequest) -> io::Result<Box<dyn ChildProcess>> {
        self.real.spawn(self.found(request))
    }
}

struct Mac {
    dir: TempDir,
    host: Host,
}

impl Mac {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let test = TestHost::new();
        test.env.set("USER", "ann");
        let mut host = test.host();
        host.processes = Arc::new(StandIn {
            real: OsProcesses::new(),
            dir: dir.path().to_owned(),
        });
        let program = dir.path().join("security");
        fs::write(&program, SECURITY).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Self { dir, host }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn place(&self, keychain: Keychain) -> Place {
        places(&self.host, Neighbour::ClaudeCode, keychain).remove(0)
    }

    fn read(&self, keychain: Keychain) -> Reading {
        read(&self.host, &self.place(keychain))
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.dir.path().join("calls")).unwrap()
    }
}

const ITEM: &str = "ann@Claude Code-credentials";

#[test]
fn an_item_is_a_login() {
    let mac = Mac::new();
    assert_eq!(mac.read(Keychain::MayPrompt), Reading::Missing);
    mac.put(ITEM, &claude_file(4));
    let found = login(mac.read(Keychain::MayPrompt));
    let oauth = found.credential.as_oauth().unwrap();
    assert_eq!(oauth.tokens.refresh.as_ref().unwrap().expose(), "sk-ant-ort01-4");
    assert_eq!((found.stamp, found.only_borrowed), (None, None));
}

#[test]
fn without_a_terminal_the_secret_is_not_asked_for() {
    let mac = Mac::new();
    assert_eq!(mac.read(Keychain::Silent), Reading::Missing);
    mac.put(ITEM, &claude_file(4));
    let Reading::Locked { hint } = mac.read(Keychain::Silent) else {
        panic!("nobody can be asked");
    };
    assert!(hint.contains("Always Allow"), "{hint}");
    assert!(!mac.calls().contains(" -w"), "{}", mac.calls());
}

#[test]
fn an_item_is_written_by_compare_and_set() {
    let mac = Mac::new();
    mac.put(ITEM, &claude_file(1));
    fs::create_dir_all(mac.dir.path()).unwrap();
    let place = mac.place(Keychain::MayPrompt);
    mac.host.files.create_dir(place.home().unwrap(), 0o700).unwrap();
    let (old, new) = (
        generation(Neighbour::ClaudeCode, 1),
        generation(Neighbour::ClaudeCode, 2),
    );
    let set = |expected: &OAuth, next: &OAuth| {
        let expected = Expected::Spend(spend(expected));
        compare_and_set(&mac.host, &place, expected, next, UnixMillis(0))
    };
    assert_eq!(set(&old, &new).unwrap(), Written::Done);
    let want = claude_file(2).replace("1767229200000", "1767232800000");
    assert_eq!(fs::read_to_string(mac.dir.path().join(ITEM)).unwrap(), want);
    assert!(!mac.calls().contains("sk-ant"), "no secret among the arguments");
    let again = set(&old, &generation(Neighbour::ClaudeCode, 3)).unwrap();
    assert!(matches!(again, Written::Conflict(Reading::Login(_))));

    mac.put("deaf", "");
    let error = set(&new, &generation(Neighbour::ClaudeCode, 3)).unwrap_err();
    assert!(
        error.to_string().contains("does not hold what was written"),
        "{error}"
    );
}

#[test]
fn the_item_of_codex_is_only_borrowed() {
    let mac = Mac::new();
    let place = places(&mac.host, Neighbour::Codex, Keychain::MayPrompt).remove(0);
    let PlaceKind::Keychain { service, account, .. } = &place.kind else {
        panic!("the Keychain comes first");
    };
    mac.put(&format!("{account}@{service}"), &codex_file(1));
    let found = login(read(&mac.host, &place));
    assert!(found.only_borrowed.is_some());
}

#[test]
fn a_locked_keychain_is_told() {
    let mac = Mac::new();
    mac.put(ITEM, &claude_file(4));
    mac.put("locked", "");
    assert!(matches!(mac.read(Keychain::MayPrompt), Reading::Locked { .. }));
}

#[test]
fn a_host_without_the_command_is_told() {
    let mac = Mac::new();
    fs::remove_file(Path::new(&mac.dir.path().join("security"))).unwrap();
    let Reading::Unusable { reason } = mac.read(Keychain::MayPrompt) else {
        panic!("there is no such command");
    };
    assert!(reason.contains("security"), "{reason}");
}
