//! Taking a login out of its program's store and giving it back.

use serde_json::json;
use tokensink_neighbours::{Neighbour, Reading, Written, put_login, take_login};
use tokensink_testkit::TestHost;
use tokensink_types::UnixMillis;

use crate::support::{
    CLAUDE, CODEX, claude_file, codex_file, generation, login, look, names, oauth, place, spend, writable,
};

const NOW: UnixMillis = UnixMillis(1_767_229_200_000);

#[test]
fn claude_code_keeps_everything_else() {
    let test = TestHost::new();
    test.files.put(CLAUDE, claude_file(1), 0o600);
    let (host, place) = (test.host(), place(&test, Neighbour::ClaudeCode));
    let taken = login(look(&test, Neighbour::ClaudeCode));
    let grant = taken.credential.as_oauth().unwrap();
    assert!(!taken.frame.expose().contains("sk-ant"), "no token in the frame");
    assert_eq!(take_login(&host, &place, spend(grant)).unwrap(), Written::Done);
    assert_eq!(
        test.files.text(CLAUDE),
        r#"{"mcpOAuth":{"server|1":{"accessToken":"mcp-secret"}},"organizationUuid":"org-1"}"#
    );
    assert_eq!(look(&test, Neighbour::ClaudeCode), Reading::SignedOut);

    let put = put_login(&host, &place, grant, Some(&taken.frame), NOW).unwrap();
    assert_eq!(put, Written::Done);
    let back = login(look(&test, Neighbour::ClaudeCode));
    assert_eq!(
        (back.credential, back.plan, back.scopes),
        (taken.credential, taken.plan, taken.scopes)
    );
    assert!(test.files.text(CLAUDE).contains("mcp-secret"));
}

#[test]
fn codex_is_left_signed_out() {
    let test = TestHost::new();
    test.files.put(CODEX, codex_file(1), 0o600);
    let (host, place) = (test.host(), place(&test, Neighbour::Codex));
    let taken = login(look(&test, Neighbour::Codex));
    let grant = taken.credential.as_oauth().unwrap();
    assert_eq!(take_login(&host, &place, spend(grant)).unwrap(), Written::Done);
    assert_eq!(
        look(&test, Neighbour::Codex),
        Reading::Missing,
        "Codex takes any file for a login"
    );
    assert_eq!(names(&test, "/home/user/.codex"), ["auth.json.lock", "auth.lock"]);

    assert_eq!(
        put_login(&host, &place, grant, Some(&taken.frame), NOW).unwrap(),
        Written::Done
    );
    let want = codex_file(1).replace("2025-12-31T23:00:00.402710038Z", "2026-01-01T01:00:00.000000000Z");
    assert_eq!(test.files.text(CODEX), want, "as Codex itself writes it");
    assert_eq!(test.files.mode(CODEX), Some(0o600));
}

#[test]
fn what_codex_holds_besides_stays() {
    let test = TestHost::new();
    let content = codex_file(1).replace("\"OPENAI_API_KEY\": null", "\"OPENAI_API_KEY\": \"sk-kept\"");
    test.files.put("/vault/auth.json", &content, 0o600);
    test.files.symlink("/vault/auth.json", CODEX);
    let (host, place) = (test.host(), place(&test, Neighbour::Codex));
    let grant = oauth(look(&test, Neighbour::Codex));
    assert_eq!(take_login(&host, &place, spend(&grant)).unwrap(), Written::Done);
    assert_eq!(
        test.files.text("/vault/auth.json"),
        "{\n  \"auth_mode\": \"chatgpt\",\n  \"OPENAI_API_KEY\": \"sk-kept\"\n}",
        "the mode stays, or Codex would go on with the metered key"
    );
    assert_eq!(look(&test, Neighbour::Codex), Reading::SignedOut);
    assert_eq!(
        put_login(&host, &place, &grant, None, NOW).unwrap(),
        Written::Done
    );
    assert_eq!(oauth(look(&test, Neighbour::Codex)), grant);
    assert!(test.files.text("/vault/auth.json").contains("sk-kept"));
}

#[test]
fn a_linked_file_that_holds_nothing_else_goes_and_its_link_stays() {
    let test = TestHost::new();
    test.files.put("/vault/auth.json", codex_file(1), 0o600);
    test.files.symlink("/vault/auth.json", CODEX);
    let (host, place) = (test.host(), place(&test, Neighbour::Codex));
    let grant = oauth(look(&test, Neighbour::Codex));
    assert_eq!(take_login(&host, &place, spend(&grant)).unwrap(), Written::Done);
    assert_eq!(names(&test, "/vault"), [""; 0]);
    assert_eq!(
        put_login(&host, &place, &grant, None, NOW).unwrap(),
        Written::Done
    );
    assert_eq!(names(&test, "/vault"), ["auth.json"]);
}

#[test]
fn only_the_expected_login_is_taken_and_none_is_put_over_another() {
    for (neighbour, path, content) in writable() {
        let test = TestHost::new();
        test.files.put(path, &content, 0o600);
        let (host, place) = (test.host(), place(&test, neighbour));
        let other = generation(neighbour, 9);
        let taken = take_login(&host, &place, spend(&other)).unwrap();
        assert!(
            matches!(taken, Written::Conflict(Reading::Login(_))),
            "{neighbour}"
        );
        let put = put_login(&host, &place, &other, None, NOW).unwrap();
        assert!(matches!(put, Written::Conflict(Reading::Login(_))), "{neighbour}");
        assert_eq!(test.files.text(path), content);
    }
}

#[test]
fn a_home_without_a_login_gets_one() {
    let test = TestHost::new();
    test.files.mkdir("/home/user/.claude");
    test.files.mkdir("/home/user/.codex");
    for (neighbour, path, _) in writable() {
        let (host, place) = (test.host(), place(&test, neighbour));
        let mut grant = generation(neighbour, 1);
        grant.account.plan = Some("max".to_owned());
        assert_eq!(
            put_login(&host, &place, &grant, None, NOW).unwrap(),
            Written::Done
        );
        assert_eq!(test.files.mode(path), Some(0o600));
        let found = login(look(&test, neighbour));
        assert_eq!(
            found.only_borrowed, None,
            "{neighbour}: it counts as a full login"
        );
    }
    let mut opaque = generation(Neighbour::Codex, 2);
    opaque.tokens.id_token = None;
    opaque.tokens.access = "opaque".into();
    test.files
        .put(CODEX, json!({"auth_mode": "chatgpt"}).to_string(), 0o600);
    let error = put_login(&test.host(), &place(&test, Neighbour::Codex), &opaque, None, NOW).unwrap_err();
    assert!(error.to_string().contains("id token"), "{error}");
}
