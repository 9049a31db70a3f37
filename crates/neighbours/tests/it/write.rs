//! Compare-and-set on the programs' own files: what changes, what stays, and when nothing is written.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokensink_host::{Host, OpenMode};
use tokensink_neighbours::{Neighbour, NeighbourError, Place, Reading, Written, compare_and_set, read};
use tokensink_store::Expected;
use tokensink_testkit::{Errno, TestHost};
use tokensink_types::{OAuth, UnixMillis};

use crate::support::{
    CLAUDE, CODEX, claude_file, codex_file, generation, look, names, oauth, place, spend, writable,
};

const NOW: UnixMillis = UnixMillis(1_767_229_200_123);

fn set(test: &TestHost, expected: Expected, next: &OAuth) -> Result<Written, NeighbourError> {
    let neighbour = match next.provider.as_str() {
        "anthropic" => Neighbour::ClaudeCode,
        _ => Neighbour::Codex,
    };
    compare_and_set(&test.host(), &place(test, neighbour), expected, next, NOW)
}

/// `next`, expecting generation 1.
fn set_after_1(test: &TestHost, next: &OAuth, neighbour: Neighbour) -> Result<Written, NeighbourError> {
    set(test, Expected::Spend(spend(&generation(neighbour, 1))), next)
}

#[test]
fn claude_code_only_the_token_fields_change() {
    let test = TestHost::new();
    test.files.put(CLAUDE, claude_file(1), 0o600);
    let next = generation(Neighbour::ClaudeCode, 2);
    assert_eq!(
        set_after_1(&test, &next, Neighbour::ClaudeCode).unwrap(),
        Written::Done
    );
    let want = claude_file(1)
        .replace("sk-ant-oat01-1", "sk-ant-oat01-2")
        .replace("sk-ant-ort01-1", "sk-ant-ort01-2")
        .replace("1767229200000", "1767232800000");
    assert_eq!(test.files.text(CLAUDE), want);
    assert_eq!(test.files.mode(CLAUDE), Some(0o600));
    assert_eq!(
        names(&test, "/home/user/.claude"),
        [".credentials.json"],
        "no lock, no leftover"
    );
}

#[test]
fn claude_code_scopes_and_the_grants_end_follow_the_answer() {
    let cases = [
        (
            "user:profile user:inference",
            None,
            "the same scopes in another order stay as written",
        ),
        (
            "user:inference",
            Some(r#"["user:inference"]"#),
            "scopes that changed",
        ),
    ];
    for (scope, changed, why) in cases {
        let test = TestHost::new();
        test.files.put(CLAUDE, claude_file(1), 0o600);
        let mut next = generation(Neighbour::ClaudeCode, 2);
        next.fields.insert("scope".to_owned(), scope.to_owned());
        next.fields
            .insert("refreshTokenExpiresAt".to_owned(), "1800000000000".to_owned());
        set_after_1(&test, &next, Neighbour::ClaudeCode).unwrap();
        let text = test.files.text(CLAUDE);
        let scopes = changed.unwrap_or(r#"["user:inference","user:profile"]"#);
        assert!(text.contains(&format!("\"scopes\":{scopes}")), "{why}: {text}");
        assert!(
            text.contains(r#""refreshTokenExpiresAt":1800000000000}"#),
            "{text}"
        );
    }
}

#[test]
fn codex_only_the_token_fields_and_the_time_change() {
    let test = TestHost::new();
    test.files.put(CODEX, codex_file(1), 0o600);
    let next = generation(Neighbour::Codex, 2);
    assert_eq!(
        set_after_1(&test, &next, Neighbour::Codex).unwrap(),
        Written::Done
    );
    let want = codex_file(2).replace("2025-12-31T23:00:00.402710038Z", "2026-01-01T01:00:00.123000000Z");
    assert_eq!(test.files.text(CODEX), want);
    assert_eq!(
        names(&test, "/home/user/.codex"),
        ["auth.json", "auth.json.lock", "auth.lock"],
        "Codex' lock files stay behind, as they do with Codex"
    );
    assert_eq!(
        test.files.text("/home/user/.codex/auth.lock"),
        "",
        "and are empty"
    );
}

#[test]
fn an_answer_without_all_tokens_keeps_the_others() {
    for (neighbour, path, content) in writable() {
        let test = TestHost::new();
        test.files.put(path, content, 0o600);
        let before = oauth(look(&test, neighbour));
        let mut next = generation(neighbour, 2);
        next.tokens.refresh = None;
        next.tokens.id_token = None;
        assert_eq!(set_after_1(&test, &next, neighbour).unwrap(), Written::Done);
        let after = oauth(look(&test, neighbour));
        assert_eq!(after.tokens.access, next.tokens.access);
        assert_eq!(after.tokens.refresh, before.tokens.refresh, "{neighbour}");
        assert_eq!(after.tokens.id_token, before.tokens.id_token, "{neighbour}");
    }
}

#[test]
fn another_login_is_left_alone() {
    let api_key = r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk"}"#;
    let cases = [
        (Neighbour::ClaudeCode, CLAUDE, Some(claude_file(3)), "login"),
        (
            Neighbour::ClaudeCode,
            CLAUDE,
            Some(r#"{"mcpOAuth":{}}"#.to_owned()),
            "signed out",
        ),
        (
            Neighbour::ClaudeCode,
            CLAUDE,
            Some(r#"{"claudeAiOauth":{"accessToken":"","refreshToken":""}}"#.to_owned()),
            "blanked",
        ),
        (Neighbour::ClaudeCode, CLAUDE, Some("{".to_owned()), "unusable"),
        (Neighbour::ClaudeCode, CLAUDE, None, "missing"),
        (Neighbour::Codex, CODEX, Some(codex_file(3)), "login"),
        (Neighbour::Codex, CODEX, Some(api_key.to_owned()), "login"),
        (Neighbour::Codex, CODEX, None, "missing"),
    ];
    for (neighbour, path, content, want) in cases {
        let test = TestHost::new();
        test.files.mkdir("/home/user/.claude");
        test.files.mkdir("/home/user/.codex");
        if let Some(content) = &content {
            test.files.put(path, content, 0o600);
        }
        let result = set_after_1(&test, &generation(neighbour, 2), neighbour).unwrap();
        let Written::Conflict(found) = result else {
            panic!("{neighbour} {want}: written");
        };
        let word = match found {
            Reading::Login(_) => "login",
            Reading::Blanked(_) => "blanked",
            Reading::SignedOut => "signed out",
            Reading::Missing => "missing",
            Reading::Unusable { .. } => "unusable",
            Reading::Locked { .. } => "locked",
        };
        assert_eq!(word, want, "{neighbour}");
        let now = test.files.snapshot().remove(path.as_ref() as &std::path::Path);
        assert_eq!(now, content.map(String::into_bytes), "{neighbour} {want}");
    }
}

#[test]
fn a_blanked_login_is_healed_when_that_is_expected() {
    let blank = |text: String, old: &[&str]| {
        old.iter()
            .fold(text, |text, old| text.replace(&format!("\"{old}\""), "\"\""))
    };
    let test = TestHost::new();
    let blanked = blank(claude_file(1), &["sk-ant-oat01-1", "sk-ant-ort01-1"]).replace("1767229200000", "0");
    test.files.put(CLAUDE, &blanked, 0o600);
    assert!(matches!(look(&test, Neighbour::ClaudeCode), Reading::Blanked(_)));
    let good = generation(Neighbour::ClaudeCode, 2);
    assert_eq!(
        set(&test, Expected::NoRefreshToken, &good).unwrap(),
        Written::Done
    );
    let want = claude_file(2).replace("1767229200000", "1767232800000");
    assert_eq!(test.files.text(CLAUDE), want);
    let again = set(
        &test,
        Expected::NoRefreshToken,
        &generation(Neighbour::ClaudeCode, 3),
    )
    .unwrap();
    assert!(
        matches!(again, Written::Conflict(Reading::Login(_))),
        "it is not blank any more"
    );
}

#[test]
fn a_static_token_is_no_blanked_login() {
    let test = TestHost::new();
    let content =
        json!({"claudeAiOauth": {"accessToken": "setup", "refreshToken": "", "expiresAt": 5}}).to_string();
    test.files.put(CLAUDE, &content, 0o600);
    let result = set(
        &test,
        Expected::NoRefreshToken,
        &generation(Neighbour::ClaudeCode, 2),
    )
    .unwrap();
    assert!(matches!(result, Written::Conflict(Reading::Login(_))));
    assert_eq!(test.files.text(CLAUDE), content);
}

#[test]
fn what_may_only_be_borrowed_is_not_written() {
    let test = TestHost::new();
    test.files.put(CODEX, codex_file(1), 0o600);
    let config = "cli_auth_credentials_store = \"keyring\"";
    test.files.put("/home/user/.codex/config.toml", config, 0o600);
    let error = set_after_1(&test, &generation(Neighbour::Codex, 2), Neighbour::Codex).unwrap_err();
    assert!(matches!(error, NeighbourError::OnlyBorrowed { .. }), "{error}");
    assert!(error.to_string().contains("keyring"), "{error}");
    assert_eq!(test.files.text(CODEX), codex_file(1));

    let mut blank = generation(Neighbour::Codex, 2);
    blank.tokens.access = " ".into();
    assert!(set_after_1(&test, &blank, Neighbour::Codex).is_err());
}

#[test]
fn the_programs_write_locks_are_respected() {
    let test = TestHost::new();
    test.files.put(CLAUDE, claude_file(1), 0o600);
    test.files.put(CODEX, codex_file(1), 0o600);
    let host = test.host();
    let lock = "/home/user/.claude/.storage-write.lock";
    // A holder in the future does not go stale while we wait.
    test.files.mkdir(lock);
    let later = host.clock.now().plus(Duration::from_secs(3600));
    host.files.set_modified(lock.as_ref(), later).unwrap();
    let next = generation(Neighbour::ClaudeCode, 2);
    let error = set_after_1(&test, &next, Neighbour::ClaudeCode).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains(lock), "{error}");
    assert_eq!(test.files.text(CLAUDE), claude_file(1));
    // One whose holder died is waited for, and taken over.
    host.files.set_modified(lock.as_ref(), host.clock.now()).unwrap();
    assert_eq!(
        set_after_1(&test, &next, Neighbour::ClaudeCode).unwrap(),
        Written::Done
    );

    for lock in ["auth.lock", "auth.json.lock"] {
        let path = format!("/home/user/.codex/{lock}");
        test.files.put(&path, "", 0o644);
        let mut held = host.files.open(path.as_ref(), OpenMode::Read).unwrap();
        assert!(held.try_lock().unwrap());
        let error = set_after_1(&test, &generation(Neighbour::Codex, 2), Neighbour::Codex).unwrap_err();
        assert!(error.is_busy() && error.to_string().contains(lock), "{error}");
        assert_eq!(test.files.text(CODEX), codex_file(1));
    }
    let next = generation(Neighbour::Codex, 2);
    assert_eq!(
        set_after_1(&test, &next, Neighbour::Codex).unwrap(),
        Written::Done,
        "they are free again"
    );
}

#[test]
fn no_lock_file_of_ours_shuts_the_owner_of_a_home_out() {
    let test = TestHost::new();
    test.files.put(CODEX, codex_file(1), 0o600);
    let home = "/home/user/.codex";
    test.host().files.set_mode(home.as_ref(), 0o777).unwrap();
    test.files.chown(home, 1001);
    let error = set_after_1(&test, &generation(Neighbour::Codex, 2), Neighbour::Codex).unwrap_err();
    assert!(error.to_string().contains("another user"), "{error}");
    assert_eq!(names(&test, home), ["auth.json"]);
}

#[test]
fn where_a_rename_is_refused_the_file_is_written_in_place() {
    for (neighbour, path, content) in writable() {
        let test = TestHost::new();
        test.files.put(path, content, 0o600);
        test.files.refuse_renames(Some(Errno::BUSY));
        let next = generation(neighbour, 2);
        assert_eq!(set_after_1(&test, &next, neighbour).unwrap(), Written::Done);
        assert_eq!(oauth(look(&test, neighbour)).tokens.refresh, next.tokens.refresh);
    }
}

/// On a real disk: the link stays, the file behind it is replaced, the mode is the programs' own.
#[test]
fn a_link_stays_a_link() {
    for (neighbour, path, content) in writable() {
        let dir = tempfile::tempdir().unwrap();
        let name = std::path::Path::new(path).file_name().unwrap();
        let (home, vault) = (dir.path().join("home"), dir.path().join("vault"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&vault).unwrap();
        let (link, real) = (home.join(name), vault.join("login.json"));
        fs::write(&real, content).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&real, &link).unwrap();
        let before = fs::metadata(&real).unwrap().ino();

        let host = Host::real();
        let place = Place::file(&host, neighbour, &link);
        let next = generation(neighbour, 2);
        let expected = Expected::Spend(spend(&generation(neighbour, 1)));
        assert_eq!(
            compare_and_set(&host, &place, expected, &next, NOW).unwrap(),
            Written::Done
        );

        assert_eq!(fs::read_link(&link).unwrap(), real, "{neighbour}");
        let after = fs::metadata(&real).unwrap();
        assert_ne!(after.ino(), before, "replaced, not written over");
        assert_eq!(after.permissions().mode() & 0o7777, 0o600);
        assert_eq!(oauth(read(&host, &place)).tokens.refresh, next.tokens.refresh);
        let beside = fs::read_dir(&vault).unwrap().count();
        assert_eq!(beside, 1, "no temporary file stays");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("\\PC{0,6}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever else a file holds, in whatever layout: taking the new tokens out again gives the old text.
    #[test]
    fn foreign_keys_survive_byte_for_byte(
        before in proptest::collection::vec(("x[a-z]{0,5}", any_json()), 0..4),
        inside in proptest::collection::vec(("x[a-z]{0,5}", any_json()), 0..4),
        after in proptest::collection::vec(("y[a-z]{0,5}", any_json()), 0..4),
        pretty: bool,
    ) {
        for (neighbour, path, content) in writable() {
            let section = match neighbour { Neighbour::ClaudeCode => "claudeAiOauth", _ => "tokens" };
            let mut map: Map<String, Value> = before.iter().cloned().collect();
            let login: Map<String, Value> = serde_json::from_str(&content).unwrap();
            map.extend(login);
            map[section].as_object_mut().unwrap().extend(inside.iter().cloned());
            map.extend(after.iter().cloned());
            let text = if pretty { serde_json::to_string_pretty(&map) } else { serde_json::to_string(&map) }.unwrap();

            let test = TestHost::new();
            test.files.put(path, &text, 0o600);
            let (old, new) = (generation(neighbour, 1), generation(neighbour, 2));
            prop_assert_eq!(set_after_1(&test, &new, neighbour).unwrap(), Written::Done);
            let undone = test.files.text(path)
                .replace(new.tokens.access.expose(), old.tokens.access.expose())
                .replace(new.tokens.refresh.as_ref().unwrap().expose(), old.tokens.refresh.as_ref().unwrap().expose())
                .replace("1767232800000", "1767229200000")
                .replace("2026-01-01T01:00:00.123000000Z", "2025-12-31T23:00:00.402710038Z");
            prop_assert_eq!(undone, text);
        }
    }
}
