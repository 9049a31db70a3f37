//! Two programs, one state dir: OpenClaw and we say the same of it, whoever wrote it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::openclaw::OpenClaw;
use crate::support::stage::add_profile;
use crate::world::{API_KEY, SETUP_TOKEN, World};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// The two programs are asked one after the other, so that what remains differs by so many milliseconds at most.
const BETWEEN_TWO_QUESTIONS: i64 = 60_000;

fn now() -> i64 {
    tokensink_host::Host::real().clock.now().0
}

/// Members of an object that both programs must give alike.
fn pick(value: &Value, members: &[&str]) -> Value {
    members
        .iter()
        .map(|name| ((*name).to_owned(), value[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn by<'a>(list: &'a Value, key: &str) -> BTreeMap<&'a str, &'a Value> {
    let list = list
        .as_array()
        .unwrap_or_else(|| panic!("no list of {key}: {list:#}"));
    list.iter()
        .map(|item| (item[key].as_str().unwrap(), item))
        .collect()
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no profiles: {list:#}"));
    list.iter()
        .map(|profile| profile["profileId"].as_str().unwrap())
        .collect()
}

/// What `models status --json` says about logins, without the times that pass between two questions.
fn status_of(status: &Value) -> Value {
    let auth = &status["auth"];
    let said = [
        "profileId",
        "provider",
        "type",
        "status",
        "reasonCode",
        "expiresAt",
        "source",
        "label",
    ];
    let profiles: BTreeMap<_, _> = by(&auth["oauth"]["profiles"], "profileId")
        .into_iter()
        .map(|(id, profile)| (id, pick(profile, &said)))
        .collect();
    let providers: BTreeMap<_, _> = by(&auth["oauth"]["providers"], "provider")
        .into_iter()
        .map(|(id, provider)| {
            let health = pick(provider, &["status", "expiresAt"]);
            (
                id,
                json!([
                    health,
                    ids(&provider["profiles"]),
                    ids(&provider["effectiveProfiles"])
                ]),
            )
        })
        .collect();
    let unusable: BTreeMap<_, _> = by(&auth["unusableProfiles"], "profileId")
        .into_iter()
        .map(|(id, bench)| (id, pick(bench, &["provider", "kind", "until"])))
        .collect();
    let labels: BTreeMap<_, _> = by(&auth["providers"], "provider")
        .into_iter()
        .map(|(id, provider)| {
            let mut labels: Vec<_> = provider["profiles"]["labels"]
                .as_array()
                .unwrap()
                .iter()
                .collect();
            labels.sort_by_key(|label| label.as_str());
            (
                id,
                json!([
                    provider["effective"]["kind"],
                    pick(&provider["profiles"], &["count", "oauth", "token", "apiKey"]),
                    labels
                ]),
            )
        })
        .collect();
    json!({
        "profiles": profiles, "providers": providers, "unusable": unusable, "labels": labels,
        "withOAuth": auth["providersWithOAuth"], "storePath": auth["storePath"],
    })
}

/// What `models auth list --json` says of each profile. A bench that is over counts as none: OpenClaw still shows it.
fn list_of(list: &Value) -> Vec<Value> {
    let said = [
        "id",
        "provider",
        "type",
        "label",
        "email",
        "expiresAt",
        "cooldownUntil",
        "disabledUntil",
    ];
    let profiles = list["profiles"].as_array().unwrap();
    let now = jiff::Timestamp::from_millisecond(now()).unwrap().to_string();
    let without_old_benches = |profile: &Value| {
        let mut said = pick(profile, &said);
        for until in ["cooldownUntil", "disabledUntil"] {
            if said[until].as_str().is_some_and(|until| until < now.as_str()) {
                said[until] = Value::Null;
            }
        }
        said
    };
    profiles.iter().map(without_old_benches).collect()
}

/// Asserts that both say the same of every profile, of every order, and of the time that remains.
#[track_caller]
pub(crate) fn assert_agreement(world: &World, openclaw: &OpenClaw<'_>, providers: &[&str]) -> Value {
    let ask = |line: &str| {
        let theirs = openclaw.json(line);
        (theirs, world.run(&format!("tokensink {line}")).code(0).json())
    };
    let (theirs, ours) = ask("models status --json");
    assert_eq!(
        status_of(&theirs),
        status_of(&ours),
        "theirs is left, ours is right"
    );
    let remaining = |status: &Value| -> BTreeMap<String, Option<i64>> {
        by(&status["auth"]["oauth"]["profiles"], "profileId")
            .into_iter()
            .map(|(id, profile)| (id.to_owned(), profile["remainingMs"].as_i64()))
            .collect()
    };
    for ((id, left), (_, right)) in remaining(&theirs).into_iter().zip(remaining(&ours)) {
        assert_eq!(left.is_some(), right.is_some(), "{id}: {left:?} and {right:?}");
        let apart = left.unwrap_or(0) - right.unwrap_or(0);
        assert!(
            (0..BETWEEN_TWO_QUESTIONS).contains(&apart),
            "{id}: {left:?} and {right:?}"
        );
    }
    let (theirs, ours) = ask("models auth list --json");
    for (theirs, ours) in list_of(&theirs).iter().zip(&list_of(&ours)) {
        assert_eq!(theirs, ours, "theirs is left, ours is right");
    }
    assert_eq!(list_of(&theirs).len(), list_of(&ours).len());
    for provider in providers {
        let (theirs, ours) = ask(&format!("models auth order get --provider {provider} --json"));
        assert_eq!(theirs["order"], ours["order"], "{provider}");
    }
    ours
}

/// A JWT that nobody signed, as Codex's access tokens are read.
pub(crate) fn codex_token(expires: i64) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "exp": expires / 1000,
        "https://api.openai.com/auth": {"chatgpt_account_id": "acct-codex"},
        "https://api.openai.com/profile": {"email": "codex@example.com"},
    });
    format!("{}.{}.c2lnbmF0dXJl", part(json!({"alg": "none"})), part(claims))
}

fn oauth(provider: &str, name: &str, expires: i64) -> Value {
    let access = if provider == "openai-codex" {
        codex_token(expires)
    } else {
        format!("sk-ant-oat01-canary-access-{name}-0123456789")
    };
    json!({
        "type": "oauth", "provider": provider, "access": access,
        "refresh": format!("canary-refresh-{name}-0123456789"), "expires": expires,
    })
}

/// A home with logins in every condition. OAuth logins and benches stand in the files; all else is done by commands,
/// the last of which write both files anew.
fn rich(world: &World) {
    let now = now();
    let with = |mut entry: Value, name: &str, value: &str| {
        entry[name] = value.into();
        entry
    };
    let fresh = with(
        oauth("anthropic", "fresh", now + 10 * DAY),
        "email",
        "fresh@example.com",
    );
    let soon = with(
        oauth("openai-codex", "soon", now + 2 * HOUR),
        "accountId",
        "acct-codex",
    );
    let disabled = oauth("openai-codex", "disabled", now + 10 * DAY);
    add_profile(world, "main", "anthropic:fresh", fresh);
    add_profile(
        world,
        "main",
        "anthropic:expired",
        oauth("anthropic", "expired", now - 2 * HOUR),
    );
    add_profile(
        world,
        "main",
        "openai-codex:soon",
        with(soon, "email", "codex@example.com"),
    );
    add_profile(
        world,
        "main",
        "openai-codex:disabled",
        with(disabled, "displayName", "Old account"),
    );
    world.store_key("openrouter");
    world.store_key("anthropic");
    let paste = "tokensink models auth paste-token --provider";
    world
        .feed(
            &format!("{paste} anthropic --profile-id anthropic:cooling --expires-in 300d"),
            SETUP_TOKEN,
        )
        .code(0);
    world
        .feed(
            &format!("{paste} zai --profile-id zai:lasting"),
            "canary-zai-token-1",
        )
        .code(0);
    let ended = format!("{paste} zai --profile-id zai:ended --expires-in 1h");
    let yesterday = [("TOKENSINK_CLOCK_OFFSET_SECONDS", "-86400")];
    world
        .run_with(&ended, Some("canary-zai-token-2"), &yesterday)
        .code(0);
    // A login ends a bench, so these come after the logins.
    let state = json!({
        "version": 1,
        "lastGood": {"anthropic": "anthropic:cooling"},
        "usageStats": {
            "anthropic:cooling": {
                "lastUsed": now - 1000, "errorCount": 2, "cooldownUntil": now + HOUR, "cooldownReason": "rate_limit",
                "failureCounts": {"rate_limit": 2}, "lastFailureAt": now - 1000,
            },
            "openai-codex:disabled": {"errorCount": 1, "disabledUntil": now + 5 * HOUR, "disabledReason": "billing"},
            "openrouter:manual": {"cooldownUntil": now - HOUR, "errorCount": 1},
        },
    });
    world.write(".openclaw/agents/main/agent/auth-state.json", &state.to_string());
    for order in [
        "anthropic anthropic:cooling anthropic:fresh anthropic:manual",
        "openai-codex openai-codex:soon openai-codex:disabled",
    ] {
        world
            .run(&format!("tokensink models auth order set --provider {order}"))
            .code(0);
    }
}

const PROVIDERS: [&str; 4] = ["anthropic", "openai-codex", "openrouter", "zai"];

#[test]
fn of_a_store_that_we_wrote() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    rich(&world);
    let files = || -> Vec<_> {
        let logins = |(path, _): &(std::path::PathBuf, String)| {
            path.starts_with(world.state("agents")) || path == &world.state("openclaw.json")
        };
        world.files().into_iter().filter(logins).collect()
    };
    let before = files();
    let list = assert_agreement(&world, &openclaw, &PROVIDERS);
    assert_eq!(list["profiles"].as_array().unwrap().len(), 9, "{list:#}");
    let benched = |name: &str| {
        let profiles = list["profiles"].as_array().unwrap().iter();
        profiles.filter(|profile| !profile[name].is_null()).count()
    };
    assert_eq!(
        (benched("cooldownUntil"), benched("disabledUntil")),
        (1, 1),
        "{list:#}"
    );
    assert_eq!(files(), before, "nobody wrote while only asking");
}

/// OpenClaw puts in what it can put in without a person: static secrets, with and without an end, and orders.
#[test]
fn of_a_store_that_openclaw_wrote() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    let paste = "models auth paste-token --provider";
    openclaw
        .feed(&format!("{paste} anthropic --expires-in 365d"), SETUP_TOKEN)
        .code(0);
    let short = format!("{paste} anthropic --profile-id anthropic:short --expires-in 1h");
    openclaw.feed(&short, SETUP_TOKEN).code(0);
    openclaw
        .feed(&format!("{paste} zai"), "canary-zai-token-1")
        .code(0);
    openclaw
        .feed("models auth paste-api-key --provider openrouter", API_KEY)
        .code(0);
    openclaw
        .run("models auth order set --provider anthropic anthropic:short anthropic:manual")
        .code(0);
    openclaw
        .run("models auth order set --provider zai zai:manual")
        .code(0);
    openclaw.run("models auth order clear --provider zai").code(0);
    assert_agreement(&world, &openclaw, &["anthropic", "openrouter", "zai"]);

    // Each goes on where the other stopped.
    let before = world.run("tokensink token --provider openrouter").code(0).out;
    assert_eq!(before.trim(), API_KEY);
    world
        .run("tokensink models auth order set --provider anthropic anthropic:manual anthropic:short")
        .code(0);
    let ours = format!("tokensink {paste} anthropic --profile-id anthropic:ours --expires-in 2d");
    world.feed(&ours, SETUP_TOKEN).code(0);
    openclaw
        .run("models auth order set --provider openrouter openrouter:manual")
        .code(0);
    let list = assert_agreement(&world, &openclaw, &["anthropic", "openrouter", "zai"]);
    assert_eq!(list["profiles"].as_array().unwrap().len(), 5, "{list:#}");
}
