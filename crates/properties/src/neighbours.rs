//! The files of other programs: their logins, which are read and for two of them written, and their settings.

use serde_json::Value;
use tokensink_neighbours::wire::{WireRequest, apply, plan, settings_file, unwire_plan};
use tokensink_neighbours::{
    Keychain, Neighbour, Place, Reading, Written, cliproxy, compare_and_set, places, read, read_all,
};
use tokensink_store::Expected;
use tokensink_testkit::TestHost;
use tokensink_types::{Credential, OAuth, SpendKey};

use crate::check::{NOW, choice, grant, hides_mark, hides_secrets, one_of};

const SECRETS: [&str; 9] = [
    "accessToken",
    "refreshToken",
    "access_token",
    "refresh_token",
    "id_token",
    "OPENAI_API_KEY",
    "access",
    "refresh",
    "key",
];

/// A login of another program: read or refused without a word of it; a new generation is written where the old one
/// stands, and nothing else of the file changes.
pub(crate) fn cli_login(data: &[u8]) {
    let (which, data) = choice(data);
    let neighbour = one_of(&Neighbour::ALL, which);
    let test = TestHost::new();
    let host = test.host();
    let place = places(&host, neighbour, Keychain::Absent).remove(0);
    let path = place.path().expect("a file").to_owned();
    test.files.put(&path, data, 0o600);
    let found = read_all(&host, &place);
    let reading = read(&host, &place);
    match serde_json::from_slice::<Value>(data) {
        Ok(document) => hides_secrets(&(&found, &reading), &document, &SECRETS),
        Err(_) => hides_mark(&(&found, &reading)),
    }
    assert_eq!(test.files.snapshot()[&path], data, "reading changes nothing");
    let login = match &reading {
        Reading::Login(login) | Reading::Blanked(login) => login,
        Reading::SignedOut | Reading::Missing | Reading::Unusable { .. } | Reading::Locked { .. } => return,
    };
    if let Some(oauth) = login.credential.as_oauth() {
        write(&test, &place, oauth, data);
    }
}

fn write(test: &TestHost, place: &Place, old: &OAuth, data: &[u8]) {
    let host = test.host();
    let path = place.path().expect("a file").to_owned();
    let expected = match old.tokens.refresh_token() {
        Some(token) => Expected::Spend(SpendKey::of(token)),
        None => Expected::NoRefreshToken,
    };
    let mut next = old.clone();
    let Credential::OAuth(new) = grant("fuzz", 2) else {
        return;
    };
    next.tokens = new.tokens;
    let outcome = compare_and_set(&host, place, expected, &next, NOW);
    hides_mark(&outcome.as_ref().map_err(ToString::to_string));
    let after = &test.files.snapshot()[&path];
    if !matches!(outcome, Ok(Written::Done)) {
        assert_eq!(after, data, "what is not written stays");
        return;
    }
    let Reading::Login(login) = read(&host, place) else {
        panic!("what was written reads as a login");
    };
    let tokens = &login.credential.as_oauth().expect("a grant").tokens;
    assert_eq!(
        (&tokens.access, &tokens.refresh),
        (&next.tokens.access, &next.tokens.refresh)
    );
    let before: Value =
        serde_json::from_slice(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)).expect("JSON");
    let after: Value =
        serde_json::from_slice(after.strip_prefix(b"\xef\xbb\xbf").unwrap_or(after)).expect("JSON");
    assert_eq!(without_tokens(before), without_tokens(after), "other fields stay");
}

fn without_tokens(mut document: Value) -> Value {
    const CHANGED: [&str; 8] = [
        "accessToken",
        "refreshToken",
        "expiresAt",
        "refreshTokenExpiresAt",
        "scopes",
        "access_token",
        "refresh_token",
        "id_token",
    ];
    for section in ["claudeAiOauth", "tokens"] {
        if let Some(section) = document.get_mut(section).and_then(Value::as_object_mut) {
            section.retain(|key, _| !CHANGED.contains(&key.as_str()));
        }
    }
    if let Some(map) = document.as_object_mut() {
        map.shift_remove("last_refresh");
    }
    document
}

/// A login file of `CLIProxyAPI`.
pub(crate) fn proxy_login(data: &[u8]) {
    match cliproxy::parse(data) {
        Ok(oauth) => {
            assert!(!oauth.tokens.access.is_blank() || oauth.tokens.refresh_token().is_some());
            let bytes = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
            let document: Value = serde_json::from_slice(bytes).expect("what is read is JSON");
            hides_secrets(&oauth, &document, &SECRETS);
        }
        Err(why) => hides_mark(&why),
    }
}

/// The settings of Claude Code and Codex: wired they still parse, and unwired they are what they were, byte for byte but
/// for white space within braces that held nothing else.
pub(crate) fn cli_settings(data: &[u8]) {
    let (which, data) = choice(data);
    let neighbour = one_of(&[Neighbour::ClaudeCode, Neighbour::Codex], which);
    let test = TestHost::new();
    let host = test.host();
    let file = settings_file(&host, neighbour).expect("it has settings");
    test.files.put(&file, data, 0o600);
    let text = |text: &str| text.to_owned();
    let claude = neighbour == Neighbour::ClaudeCode;
    let header = if claude {
        ("anthropic-beta", "oauth-2025-04-20")
    } else {
        ("chatgpt-account-id", "acct-1")
    };
    let request = WireRequest {
        program: "/usr/bin/tokensink".into(),
        args: vec![text("token"), text("--profile-id"), text("fuzz:default")],
        base_url: (!claude).then(|| text("https://api.test/codex")),
        headers: vec![(text(header.0), text(header.1))],
        name: text("Fuzz (tokensink)"),
    };
    let planned = plan(&host, neighbour, &request, None);
    assert_eq!(test.files.snapshot()[&file], data, "a plan changes nothing");
    let Ok(planned) = planned else {
        return;
    };
    apply(&host, &planned).expect("nobody changed it meanwhile");
    let wired = test.files.text(&file);
    if claude {
        let value: Value =
            serde_json::from_str(wired.trim_start_matches('\u{feff}')).expect("settings stay JSON");
        assert!(
            value["apiKeyHelper"]
                .as_str()
                .is_some_and(|helper| helper.contains("tokensink"))
        );
    }
    let Some(record) = planned.record else {
        return;
    };
    let back = unwire_plan(&host, &record).expect("what was wired can be unwired");
    assert!(back.kept.is_empty(), "{:?}", back.kept);
    apply(&host, &back).expect("nobody changed it meanwhile");
    let after = test.files.text(&file);
    // Nothing is not JSON; what says nothing is. A last line of TOML gets its end.
    let was_blank = data.trim_ascii().is_empty() && after.trim() == "{}";
    let ends = [&b"\n"[..], b"\r\n"];
    let has_end = !claude
        && ends
            .iter()
            .any(|end| after.as_bytes().strip_suffix(*end) == Some(data));
    let was_empty = claude && has_empty_braces(&after) && dense(after.as_bytes()) == dense(data);
    let is_same = after.as_bytes() == data;
    assert!(
        was_blank || has_end || was_empty || is_same,
        "unwired is as it was: {after}"
    );
}

/// The file itself, or its `env`, which wiring writes into.
fn has_empty_braces(settings: &str) -> bool {
    let settings: Value = serde_json::from_str(settings.trim_start_matches('\u{feff}')).unwrap_or_default();
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    is_empty(&settings) || is_empty(&settings["env"])
}

/// Without white space.
fn dense(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect()
}
