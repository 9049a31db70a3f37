//! `secrets audit` and `secrets apply`.

use serde_json::{Value, json};

use super::{COMMAND, FILE, answer, exec_ref, runs, with_ref};
use crate::error::ErrorKind;
use crate::secrets::{ApplyOptions, SecretsApplied, SecretsPlan};
use crate::world::{World, agent, at, oauth};
use crate::{AcquireRequest, Want};

const CONFIG: &str = r#"{
  // kept
  "models": {"providers": {"rig": {"apiKey": "canary-config", "baseUrl": "http://x"}, "mute": {"apiKey": "${MUTE_KEY}"}}},
  "secrets": {"providers": {"old": {"source": "env"}, "disk": {"source": "file", "path": "/home/user/secrets.json"}}},
}
"#;

/// A machine with plain secrets in every file that is looked at.
fn world() -> World {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.store(
        "main",
        &json!({
            "rig:key": {"type": "api_key", "provider": "rig", "key": "canary-key", "note": "kept"},
            "rig:token": {"type": "token", "provider": "rig", "token": "canary-token"},
            "rig:alice": oauth("rig", "alice"),
        }),
    );
    world.test.files.put(
        FILE,
        r#"{"key": "canary-key", "token": "canary-token", "config": "canary-config", "other": "canary-other"}"#,
        0o600,
    );
    world.test.files.put(COMMAND, "#!", 0o755);
    world
}

fn codes(world: &World, allow_exec: bool) -> Vec<String> {
    let report = world.sink().secrets_audit(allow_exec).unwrap();
    for finding in &report.findings {
        assert!(!format!("{finding:?}").contains("canary"), "{finding:?}");
        assert!(!finding.fix.is_empty() && !finding.message.is_empty());
    }
    let line = |finding: &crate::SecretFinding| {
        let file = finding.file.file_name().unwrap().to_str().unwrap().to_owned();
        format!("{} {file} {}", finding.code, finding.path)
    };
    report.findings.iter().map(line).collect()
}

#[test]
fn an_audit_finds_every_planted_fault_by_its_code_and_place() {
    let world = world();
    world.store(
        "work",
        &json!({
            "rig:both": {"type": "api_key", "provider": "rig", "key": "canary", "keyRef": exec_ref("a")},
            "rig:dead": with_ref(&json!({"source": "file", "provider": "disk", "id": "/none"})),
            "rig:run": with_ref(&json!({"source": "exec", "provider": "new", "id": "a"})),
            "rig:oauth": {"type": "oauth", "provider": "rig", "access": exec_ref("a")},
        }),
    );
    world.put(
        "agents/work/agent/models.json",
        r#"{"providers": {"a": {"apiKey": "canary"}, "b": {"apiKey": "RIG_KEY"}}}"#,
    );
    world.put(
        "agents/work/agent/auth.json",
        r#"{"rig": {"type": "api_key", "key": "canary"}}"#,
    );
    world.put("agents/other/agent/auth-profiles.json", "{");
    world
        .test
        .files
        .put(at(".env"), "RIG_API_KEY=canary\nPORT=1\nMY_TOKEN=${X}\n", 0o644);
    let found = codes(&world, false);
    assert_eq!(
        found,
        [
            "FILE_READABLE .env ",
            "PLAINTEXT_FOUND .env RIG_API_KEY",
            "PLAINTEXT_FOUND auth-profiles.json profiles.rig:key.key",
            "PLAINTEXT_FOUND auth-profiles.json profiles.rig:token.token",
            "FILE_UNREADABLE auth-profiles.json ",
            "REF_SHADOWED auth-profiles.json profiles.rig:both.keyRef",
            "REF_UNRESOLVED auth-profiles.json profiles.rig:dead.keyRef",
            "OAUTH_REF auth-profiles.json profiles.rig:oauth.access",
            "LEGACY_RESIDUE auth.json rig",
            "PLAINTEXT_FOUND models.json providers.a.apiKey",
            "PLAINTEXT_FOUND openclaw.json models.providers.rig.apiKey",
        ]
    );
    assert_eq!(runs(&world), 0);
    let report = world.sink().secrets_audit(false).unwrap();
    assert_eq!((report.exec_skipped, report.files.len()), (1, 7));
    let found = codes(&world, true);
    assert!(found.contains(&"REF_UNRESOLVED auth-profiles.json profiles.rig:run.keyRef".to_owned()));
}

#[test]
fn providers_that_are_wrong_or_unchecked_are_found() {
    let world = World::new();
    world.put(
        "openclaw.json",
        r#"{"secrets": {"providers": {
            "a": {"source": "exec", "command": "x"},
            "b": {"source": "file", "path": "/x", "allowInsecurePath": true},
            "c": {"source": "exec", "command": "/bin/x", "env": {"VAULT_TOKEN": "canary"}}
        }, "limits": {}}}"#,
    );
    assert_eq!(
        codes(&world, true),
        [
            "CONFIG_INVALID openclaw.json secrets.limits",
            "CONFIG_INVALID openclaw.json secrets.providers.a.command",
            "PATH_CHECKS_OFF openclaw.json secrets.providers.b.allowInsecurePath",
            "PLAINTEXT_FOUND openclaw.json secrets.providers.c.env.VAULT_TOKEN",
        ]
    );
}

fn target(kind: &str, path: &str, reference: &Value) -> Value {
    json!({"type": kind, "path": path, "agentId": "main", "ref": reference})
}

fn disk(id: &str) -> Value {
    json!({"source": "file", "provider": "disk", "id": id})
}

fn key_target(reference: &Value) -> Value {
    target("auth-profiles.api_key.key", "profiles.rig:key.key", reference)
}

fn apply(world: &World, plan: &Value, options: ApplyOptions) -> crate::Result<SecretsApplied> {
    world
        .sink()
        .secrets_apply(&SecretsPlan::of(plan).unwrap(), options)
}

const WRITE: ApplyOptions = ApplyOptions {
    dry_run: false,
    allow_exec: true,
};

#[test]
fn secrets_become_references_where_these_give_the_same() {
    let world = world();
    answer(
        &world,
        json!({"protocolVersion": 1, "values": {"t": "canary-token"}}),
    );
    world.put(".env", "RIG_KEY=canary-key\n");
    let plan = json!({
        "version": 1,
        "targets": [
            key_target(&disk("/key")),
            target("auth-profiles.token.token", "profiles.rig:token.token", &exec_ref("t")),
            target("models.providers.apiKey", "models.providers.rig.apiKey", &disk("/config")),
        ],
        "providerUpserts": {"vault": {"source": "exec", "command": COMMAND}},
        "providerDeletes": ["old"],
    });
    let before = world.test.files.snapshot();
    let dry = ApplyOptions {
        dry_run: true,
        allow_exec: false,
    };
    let applied = apply(&world, &plan, dry).unwrap();
    assert_eq!(
        (applied.changes.len(), applied.exec_skipped, runs(&world)),
        (5, 1, 0)
    );
    assert_eq!(world.test.files.snapshot(), before, "a dry run writes nothing");

    let applied = apply(&world, &plan, WRITE).unwrap();
    assert_eq!(applied.changes.len(), 5);
    let remaining: Vec<&str> = applied
        .remaining
        .iter()
        .map(|(_, place)| place.as_str())
        .collect();
    assert_eq!(remaining, ["RIG_KEY"]);
    let stored = world.stored("main");
    assert_eq!(
        stored["rig:key"],
        json!({"type": "api_key", "provider": "rig", "note": "kept", "keyRef": disk("/key")})
    );
    assert_eq!(stored["rig:token"]["tokenRef"], exec_ref("t"));
    let config = world.text("openclaw.json");
    assert!(
        config.contains("// kept") && !config.contains("canary") && !config.contains("\"old\""),
        "{config}"
    );
    for secret in ["canary-token", "canary-config"] {
        assert_eq!(
            world.files_with(secret),
            [std::path::PathBuf::from(FILE)],
            "{secret}"
        );
    }
    for (profile, want) in [("rig:key", "canary-key"), ("rig:token", "canary-token")] {
        let request = AcquireRequest::new(agent("main"), Want::Profile(crate::world::id(profile)));
        assert_eq!(world.sink().acquire(&request).unwrap().secret.expose(), want);
    }
    let before = world.test.files.snapshot();
    let again = apply(&world, &plan, WRITE).unwrap();
    assert_eq!(again.changes, []);
    let mut after = world.test.files.snapshot();
    after.retain(|path, _| !path.ends_with("secrets-reload"));
    let mut wanted = before;
    wanted.retain(|path, _| !path.ends_with("secrets-reload"));
    assert_eq!(after, wanted, "the same plan again changes nothing");
}

#[test]
fn a_plan_that_does_not_fit_changes_nothing() {
    let good = key_target(&disk("/key"));
    let with = |targets: Value, more: &str, value: Value| {
        let mut plan = json!({"version": 1, "targets": targets});
        if !more.is_empty() {
            plan[more] = value;
        }
        plan
    };
    let cases = [
        (
            with(json!([key_target(&disk("/other"))]), "", Value::Null),
            "another value than the one that stands in profile rig:key",
        ),
        (
            with(json!([good, key_target(&disk("/none"))]), "", Value::Null),
            "holds nothing at /none; nothing was changed",
        ),
        (
            with(json!([key_target(&exec_ref("x"))]), "", Value::Null),
            "secrets.providers.vault): no such provider",
        ),
        (
            with(
                json!([target(
                    "auth-profiles.api_key.key",
                    "profiles.rig:token.key",
                    &disk("/key")
                )]),
                "",
                Value::Null,
            ),
            "is of type token",
        ),
        (
            with(
                json!([target(
                    "auth-profiles.api_key.key",
                    "profiles.rig:alice.key",
                    &disk("/key")
                )]),
                "",
                Value::Null,
            ),
            "OAuth profile",
        ),
        (
            with(
                json!([target(
                    "auth-profiles.api_key.key",
                    "profiles.rig:none.key",
                    &disk("/key")
                )]),
                "",
                Value::Null,
            ),
            "has no profile rig:none",
        ),
        (
            with(
                json!([good]),
                "providerUpserts",
                json!({"v": {"source": "exec", "command": "relative"}}),
            ),
            "secrets.providers.v.command would be wrong",
        ),
        (
            with(json!([good]), "providerDeletes", json!(["disk"])),
            "secrets.providers.disk): no such provider",
        ),
    ];
    for (plan, want) in cases {
        let world = world();
        let before = world.test.files.snapshot();
        let error = apply(&world, &plan, WRITE).unwrap_err();
        assert!(error.to_string().contains(want), "{error} lacks {want}");
        assert!(
            error.fix().is_some() && !error.to_string().contains("canary"),
            "{error}"
        );
        assert_eq!(world.test.files.snapshot(), before, "{want}");
    }
    let world = world();
    let plan = with(
        json!([key_target(&exec_ref("k"))]),
        "providerUpserts",
        json!({"vault": {"source": "exec", "command": COMMAND}}),
    );
    let error = apply(&world, &plan, ApplyOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(runs(&world), 0, "no program without the user's word");
}

#[test]
fn a_provider_in_use_is_not_removed() {
    let world = world();
    let plan = json!({"version": 1, "targets": [key_target(&disk("/key"))]});
    apply(&world, &plan, WRITE).unwrap();
    let error = apply(&world, &json!({"version": 1, "providerDeletes": ["disk"]}), WRITE).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("still used by profile rig:key of agent main"),
        "{error}"
    );
}

#[test]
fn a_crash_at_any_point_leaves_every_secret_within_reach() {
    use tokensink_testkit::Faults;

    let plan = json!({"version": 1, "targets": [key_target(&disk("/key"))], "providerUpserts": {"two": {"source": "env"}}});
    for n in 1.. {
        let world = world();
        let faults = Faults::crash_after(n);
        let host = world.test.host_with(&faults);
        if let Ok(sink) = crate::Sink::open_with(host, crate::Flights::inline()) {
            let _ = sink.secrets_apply(&SecretsPlan::of(&plan).unwrap(), WRITE);
        }
        let request = AcquireRequest::new(agent("main"), Want::Profile(crate::world::id("rig:key")));
        let served = world.sink().acquire(&request).unwrap();
        assert_eq!(served.secret.expose(), "canary-key", "after {}", faults.last());
        if !faults.fired() {
            break;
        }
        apply(&world, &plan, WRITE).unwrap();
        assert_eq!(world.stored("main")["rig:key"]["keyRef"], disk("/key"));
    }
}

#[test]
fn candidates_are_the_plain_ones() {
    let world = world();
    let sink = world.sink();
    let labels = |agent_id: Option<&str>| -> Vec<String> {
        let wanted = agent_id.map(agent);
        let found = sink.secret_candidates(wanted.as_ref()).unwrap();
        found.into_iter().map(|one| one.label).collect()
    };
    assert_eq!(
        labels(None),
        [
            "rig:key of agent main (api_key)",
            "rig:token of agent main (token)",
            "models.providers.rig.apiKey in openclaw.json",
        ]
    );
    assert_eq!(labels(Some("work")), [""; 0]);
    let providers = sink.secret_providers().unwrap();
    assert_eq!(providers.len(), 2);
    assert_eq!(
        (providers[0].alias.as_str(), providers[0].source),
        ("disk", Some("file"))
    );
}
