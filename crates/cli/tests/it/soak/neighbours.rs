//! Programs that keep a login of their own in a file and refresh it by their own habits, as Claude Code and Codex do
//! (clients.md 2, 3): five minutes before its end, whenever somebody uses them, and never else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tokensink_authserver::Running;
use tokensink_host::Clock as _;
use tokensink_testkit::loopback;

use super::clock::SoakClock;
use crate::world::World;

/// Milliseconds before the end at which both refresh.
const AHEAD: i64 = 5 * 60 * 1_000;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Claude,
    Codex,
}

impl Program {
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Claude => ".claude/.credentials.json",
            Self::Codex => ".codex/auth.json",
        }
    }

    /// Where access token and refresh token are in its file.
    fn pointers(self) -> [&'static str; 2] {
        match self {
            Self::Claude => ["/claudeAiOauth/accessToken", "/claudeAiOauth/refreshToken"],
            Self::Codex => ["/tokens/access_token", "/tokens/refresh_token"],
        }
    }

    /// Logs it in.
    pub(super) fn log_in(self, world: &World, server: &Running, clock: &SoakClock) {
        let issued = server.issue("alice", &["openid", "offline_access"]).unwrap();
        let access = issued.access_token.expose();
        let login = match self {
            Self::Claude => {
                json!({"claudeAiOauth": {"scopes": ["user:inference"], "subscriptionType": "max"}})
            }
            Self::Codex => json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": {
                "id_token": access, "account_id": "acct-alice"}}),
        };
        let refresh = issued.refresh_token.unwrap().expose().to_owned();
        self.write(&world.path(self.file()), login, access, &refresh, clock);
    }

    fn write(self, path: &Path, mut login: Value, access: &str, refresh: &str, clock: &SoakClock) {
        match self {
            Self::Claude => {
                let ours = &mut login["claudeAiOauth"];
                ours["accessToken"] = access.into();
                ours["refreshToken"] = refresh.into();
                ours["expiresAt"] = (clock.now().0 + LIFE).into();
            }
            Self::Codex => {
                let ours = &mut login["tokens"];
                ours["access_token"] = access.into();
                ours["refresh_token"] = refresh.into();
                let now = jiff::Timestamp::from_millisecond(clock.now().0).unwrap();
                login["last_refresh"] = now.to_string().into();
            }
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        std::fs::write(&new, login.to_string()).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Its login as it is now: access token, refresh token, and when the access token ends.
    fn read(self, path: &Path) -> (Value, String, String, i64) {
        let login: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let text = |pointer| login.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let [access, refresh] = self.pointers().map(text);
        let ends = match self {
            Self::Claude => login["claudeAiOauth"]["expiresAt"].as_i64().unwrap(),
            Self::Codex => expiry_of(&access),
        };
        (login, access, refresh, ends)
    }

    /// When the access token in its file ends.
    pub(super) fn ends(self, world: &World) -> i64 {
        self.read(&world.path(self.file())).3
    }

    /// The access token in its file.
    pub(super) fn access(self, world: &World) -> String {
        self.read(&world.path(self.file())).1
    }

    /// Somebody uses it: it refreshes if it is time, and calls the API. Whether it has refreshed.
    pub(super) fn used(self, world: &World, server: &Running, clock: &SoakClock) -> bool {
        let path = world.path(self.file());
        let (login, mut access, refresh, ends) = self.read(&path);
        let due = ends - clock.now().0 < AHEAD;
        if due {
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", &*refresh),
                ("client_id", "rig"),
            ];
            let answer = loopback::post(&server.url("/oauth/token"), &form);
            assert_eq!(answer.status, 200, "{self:?} is logged out: {answer:?}");
            access = answer.text("access_token");
            self.write(&path, login, &access, &answer.text("refresh_token"), clock);
        }
        super::assert_works(server, &access);
        due
    }
}

/// Life of the access tokens in milliseconds.
const LIFE: i64 = 3_600_000;

/// What a JWT says of its end, in milliseconds since the Unix epoch.
fn expiry_of(jwt: &str) -> i64 {
    use base64::Engine as _;
    let payload = jwt.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims["exp"].as_i64().unwrap() * 1_000
}
