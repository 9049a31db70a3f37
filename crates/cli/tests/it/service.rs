//! The gateway as a service: what is written, and what systemd thinks of it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::world::{Said, World};

#[test]
fn installed_printed_and_taken_away() {
    let world = World::new();
    let printed = world.run("tokensink service install --print --port 7000").code(0);
    assert!(printed.out.contains(" serve --port 7000\n"), "{printed:#?}");
    assert!(!world.path(".config").exists(), "printing writes nothing");
    let said = world.run("tokensink service install --port 7000").code(0);
    let unit = world.path(".config/systemd/user/tokensink.service");
    assert!(
        said.out.starts_with(&format!("Written: {}", unit.display())),
        "{said:#?}"
    );
    assert!(
        said.err
            .contains("systemctl --user enable --now tokensink.service"),
        "{said:#?}"
    );
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), printed.out);
    let value = world.run("tokensink service status --json").code(0).json();
    assert_eq!(
        (&value["installed"], &value["gateways"]),
        (&json!(true), &json!([]))
    );
    let said = world.run("tokensink service uninstall").code(0);
    assert!(said.out.starts_with("Removed: ") && !unit.exists(), "{said:#?}");
    let said = world.run("tokensink service uninstall").code(0);
    assert!(said.out.starts_with("Not installed: "), "{said:#?}");
    let plist = world
        .run("tokensink service install --print --manager launchd")
        .code(0);
    assert!(plist.out.contains("<key>ProgramArguments</key>"), "{plist:#?}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return;
    }
    let world = World::new();
    let state = world.path("st%ate dir");
    std::fs::create_dir(&state).unwrap();
    let variables = [
        ("OPENCLAW_STATE_DIR", state.to_str().unwrap()),
        ("XDG_CONFIG_HOME", "/nowhere"),
    ];
    let said = world
        .run_with("tokensink service install --print", None, &variables)
        .code(0);
    let unit = world.write("tokensink.service", &said.out);
    let analysed = Command::new("systemd-analyze")
        .args(["--user", "verify"])
        .arg(&unit)
        .env("XDG_RUNTIME_DIR", world.path(""))
        .output()
        .unwrap();
    let analysed = Said::of(analysed).code(0);
    assert!(!analysed.err.contains("tokensink.service"), "{analysed:#?}");
    // A mistake is seen: the check does look at this unit.
    let wrong = world.write(
        "wrong.service",
        &said.out.replace("LockPersonality=yes", "LockPersonalty=yes"),
    );
    let analysed = Command::new("systemd-analyze")
        .args(["--user", "verify"])
        .arg(&wrong)
        .env("XDG_RUNTIME_DIR", world.path(""))
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&analysed.stderr).contains("LockPersonalty"),
        "{analysed:?}"
    );
}
