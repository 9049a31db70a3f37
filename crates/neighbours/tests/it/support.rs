//! Logins as the programs write them, and short names for what every test needs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokensink_neighbours::{Keychain, Login, Neighbour, Place, Reading, places, read};
use tokensink_testkit::TestHost;
use tokensink_types::{OAuth, SpendKey, UnixMillis};

/// Where the login of each program is on a [`TestHost`].
pub(crate) const CLAUDE: &str = "/home/user/.claude/.credentials.json";
pub(crate) const CODEX: &str = "/home/user/.codex/auth.json";

/// An unsigned JSON Web Token.
pub(crate) fn jwt(claims: &Value) -> String {
    format!(
        "eyJhbGciOiJub25lIn0.{}.c2ln",
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

/// A Claude Code file of generation `n`, compact, with keys of others.
pub(crate) fn claude_file(n: u32) -> String {
    json!({
        "claudeAiOauth": {
            "accessToken": format!("sk-ant-oat01-{n}"),
            "refreshToken": format!("sk-ant-ort01-{n}"),
            "expiresAt": 1_767_229_200_000_i64,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
            "rateLimitTier": "default_claude_max_5x",
        },
        "mcpOAuth": {"server|1": {"accessToken": "mcp-secret"}},
        "organizationUuid": "org-1",
    })
    .to_string()
}

/// A Codex file of generation `n`, as Codex lays it out.
pub(crate) fn codex_file(n: u32) -> String {
    let access = jwt(&json!({
        "exp": 1_767_229_200,
        "generation": n,
        "https://api.openai.com/auth": {"chatgpt_user_id": "user-1", "chatgpt_plan_type": "plus"},
        "https://api.openai.com/profile": {"email": "ann@example.com"},
    }));
    serde_json::to_string_pretty(&json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": jwt(&json!({"email": "ann@example.com", "sub": "auth0|1"})),
            "access_token": access,
            "refresh_token": format!("rt_{n}"),
            "account_id": "acct-1",
        },
        "last_refresh": "2025-12-31T23:00:00.402710038Z",
    }))
    .unwrap()
}

/// The first place of a neighbour on this host.
pub(crate) fn place(test: &TestHost, neighbour: Neighbour) -> Place {
    places(&test.host(), neighbour, Keychain::Absent).remove(0)
}

/// What is at the first place of a neighbour.
pub(crate) fn look(test: &TestHost, neighbour: Neighbour) -> Reading {
    read(&test.host(), &place(test, neighbour))
}

/// The login in a reading.
#[track_caller]
pub(crate) fn login(reading: Reading) -> Login {
    match reading {
        Reading::Login(login) => *login,
        other => panic!("no login: {other:?}"),
    }
}

/// The grant in a reading.
#[track_caller]
pub(crate) fn oauth(reading: Reading) -> OAuth {
    login(reading).credential.as_oauth().unwrap().clone()
}

/// The grant of generation `n` of a neighbour, as its refresh would give it, ending an hour later than the file's.
pub(crate) fn generation(neighbour: Neighbour, n: u32) -> OAuth {
    let test = TestHost::new();
    let (path, content) = match neighbour {
        Neighbour::ClaudeCode => (CLAUDE, claude_file(n)),
        _ => (CODEX, codex_file(n)),
    };
    test.files.put(path, content, 0o600);
    let mut oauth = oauth(look(&test, neighbour));
    oauth.tokens.expires = Some(UnixMillis(1_767_232_800_000));
    oauth
}

/// The spend key of a grant.
pub(crate) fn spend(oauth: &OAuth) -> SpendKey {
    SpendKey::of(oauth.tokens.refresh_token().unwrap())
}

/// Both neighbours whose logins may be written, with their files.
pub(crate) fn writable() -> [(Neighbour, &'static str, String); 2] {
    [
        (Neighbour::ClaudeCode, CLAUDE, claude_file(1)),
        (Neighbour::Codex, CODEX, codex_file(1)),
    ]
}

/// The names in a directory.
pub(crate) fn names(test: &TestHost, dir: &str) -> Vec<String> {
    let names = test.host().files.list(dir.as_ref()).unwrap();
    names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}
