//! Logins of Claude Code and Codex in a home, as those programs write them (clients.md 2.1, 3.1). Nobody issued them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokensink_host::Host;

use crate::world::World;

/// Seconds that the access tokens still live.
const LIFE: i64 = 3 * 3_600;

/// Logs Claude Code in.
pub(crate) fn claude(world: &World) -> PathBuf {
    let login = json!({
        "claudeAiOauth": {
            "accessToken": "sk-ant-oat01-canary-access",
            "refreshToken": "sk-ant-ort01-canary-refresh",
            "expiresAt": Host::real().clock.now().0 + LIFE * 1_000,
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        },
    });
    private(world, ".claude/.credentials.json", &login)
}

/// Logs Codex in.
pub(crate) fn codex(world: &World) -> PathBuf {
    let claims = json!({
        "exp": Host::real().clock.now().0 / 1_000 + LIFE,
        "email": "alice@example.com",
        "https://api.openai.com/auth": {"chatgpt_account_id": "acct-alice", "chatgpt_plan_type": "plus"},
    });
    let jwt = format!("e30.{}.canary", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let login = json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": jwt,
            "access_token": jwt,
            "refresh_token": "rt-canary",
            "account_id": "acct-alice",
        },
        "last_refresh": "2026-11-21T00:00:00Z",
    });
    private(world, ".codex/auth.json", &login)
}

fn private(world: &World, name: &str, login: &Value) -> PathBuf {
    let path = world.write(name, &login.to_string());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
