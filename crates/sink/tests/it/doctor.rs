//! What doctor says of sessions, and what mending leaves of them.

use serde_json::{Value, json};
use tokensink_sink::Sink;
use tokensink_sink::doctor::{Doctor, Examination, Finding};

use crate::world::{PROFILE, STATE, World, strict};

const SESSIONS: &str = "/home/user/.openclaw/agents/main/sessions/sessions.json";

/// A world in which main has a login, and these sessions.
fn world(sessions: &str) -> World {
    let world = World::new(strict());
    let store = json!({"version": 1, "profiles": {
        PROFILE: {"type": "oauth", "provider": "rig", "access": "a", "refresh": "r", "expires": 4_102_444_800_000_i64},
    }});
    let path = format!("{STATE}/agents/main/agent/auth-profiles.json");
    world.test.files.put(path, store.to_string(), 0o600);
    world.test.files.put(SESSIONS, sessions, 0o600);
    world
}

fn about_sessions(world: &World) -> (Doctor, Vec<Finding>) {
    let doctor = Doctor::open(world.test.host()).unwrap();
    let report = doctor.examine(&Examination::default()).unwrap();
    let about = |finding: &Finding| {
        finding
            .path
            .as_ref()
            .is_some_and(|path| path.ends_with("sessions.json"))
    };
    (doctor, report.findings.into_iter().filter(about).collect())
}

#[test]
fn pins_to_profiles_that_are_gone_are_told_and_taken_away() {
    let pin = |profile: &str, source: &str| json!({"sessionId": "s", "kept": 1, "authProfileOverride": profile, "authProfileOverrideSource": source});
    let sessions = json!({
        "agent:main:a": pin("rig:gone", "user"),
        "agent:main:b": pin("rig:gone", "user"),
        "agent:main:c": pin("rig:gone", "auto"),
        "agent:main:d": pin(PROFILE, "user"),
        "agent:main:e": pin("anthropic:claude-cli", "user"),
    });
    let world = world(&sessions.to_string());
    let (doctor, findings) = about_sessions(&world);
    let said: Vec<(&str, &str)> = findings
        .iter()
        .map(|one| (one.check.id, one.what.as_str()))
        .collect();
    let expected = [
        (
            "dead-pin",
            "session agent:main:a and 1 more of agent main is pinned to rig:gone, which the agent does not have",
        ),
        (
            "dead-automatic-pin",
            "session agent:main:c of agent main keeps rig:gone, which the agent does not have",
        ),
    ];
    assert_eq!(said, expected);
    let login = "tokensink models auth login --provider rig --profile-id rig:gone";
    assert!(findings[0].fix.contains(login), "{}", findings[0].fix);
    doctor.repair(findings[0].repair.as_ref().unwrap()).unwrap();
    assert_eq!(about_sessions(&world).1.len(), 0);
    let left: Value = serde_json::from_str(&world.test.files.text(SESSIONS)).unwrap();
    let pinned = |key: &str| left[key].get("authProfileOverride").cloned();
    assert_eq!(pinned("agent:main:a"), None);
    assert_eq!(left["agent:main:a"]["kept"], 1);
    assert_eq!(pinned("agent:main:d"), Some(json!(PROFILE)));
    assert_eq!(pinned("agent:main:e"), Some(json!("anthropic:claude-cli")));
}

#[test]
fn a_torn_file_is_told_and_set_aside() {
    let torn = "{\"agent:main:main\": {\"sessionId\": ";
    let world = world(torn);
    let (doctor, findings) = about_sessions(&world);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].check.id, "sessions-unreadable");
    assert!(findings[0].fix.contains("tokensink doctor --yes"));
    let repair = findings[0].repair.as_ref().unwrap();
    doctor.repair(repair).unwrap();
    assert_eq!(about_sessions(&world).1.len(), 0);
    let kept = world.test.files.snapshot().into_values();
    assert_eq!(kept.filter(|bytes| bytes == torn.as_bytes()).count(), 1);
    // Twice changes nothing more.
    let again = doctor.repair(repair).unwrap();
    assert!(again.contains("can be read again"), "{again}");
    Sink::open(world.test.host()).unwrap();
}
