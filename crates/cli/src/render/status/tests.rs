use std::path::PathBuf;
use std::time::Duration;

use tokensink_sink::{
    Account, AgentId, Bench, BillingClass, Counts, CredentialKind, EnvKey, ExternalInfo, Health,
    MissingProvider, ModelsView, ProfileId, ProfileState, ProfileStatus, ProviderId, ProviderStatus,
    StatusReport, UnixMillis,
};

use super::*;
use crate::name::Name;

pub(crate) const NOW: UnixMillis = UnixMillis(1_795_237_500_000);
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn provider_id(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

pub(crate) fn profile(
    id: &str,
    kind: CredentialKind,
    state: ProfileState,
    ends_in: Option<i64>,
) -> ProfileStatus {
    let id = ProfileId::parse(id).unwrap();
    let expires = ends_in.map(|seconds| UnixMillis(NOW.0 + seconds * 1000));
    ProfileStatus {
        provider: provider_id(id.provider_part().unwrap()),
        kind,
        owner: AgentId::main(),
        inherited: false,
        label: id.as_str().to_owned(),
        secret_label: format!("{id}=sk-...xyz"),
        account: Account::default(),
        health: health(kind, ends_in),
        reason_code: None,
        expires,
        remaining: expires.map(|at| NOW.until(at)).filter(|time| !time.is_zero()),
        bench: None,
        benches: Vec::new(),
        quota: Vec::new(),
        billing: BillingClass::Subscription,
        position: Some(0),
        in_use: true,
        external: None,
        state,
        id,
    }
}

/// The health words of spec.md 12.4.
fn health(kind: CredentialKind, ends_in: Option<i64>) -> Health {
    match (kind, ends_in) {
        (CredentialKind::ApiKey, _) => Health::Static,
        (_, None) => Health::Missing,
        (_, Some(..=0)) => Health::Expired,
        (_, Some(seconds)) if seconds <= i64::try_from(DAY).unwrap() => Health::Expiring,
        (_, Some(_)) => Health::Ok,
    }
}

fn provider(id: &str, counts: Counts, health: Health, profiles: &[&str]) -> ProviderStatus {
    ProviderStatus {
        provider: provider_id(id),
        name: id.to_uppercase(),
        effective_kind: "profiles",
        effective_detail: "/home/u/.openclaw/agents/main/agent/auth-profiles.json".to_owned(),
        counts,
        labels: profiles.iter().map(|id| format!("{id}=OAuth")).collect(),
        health,
        effective_profiles: profiles.iter().map(|id| ProfileId::parse(id).unwrap()).collect(),
        expires: Some(NOW.plus(Duration::from_secs(20 * HOUR))),
        in_use: true,
        notice: None,
        overridden_endpoints: Vec::new(),
    }
}

fn counts(oauth: usize, token: usize, api_key: usize) -> Counts {
    Counts {
        count: oauth + token + api_key,
        oauth,
        token,
        api_key,
    }
}

/// A report with one profile in every state.
pub(crate) fn sample() -> StatusReport {
    let mut anthropic = provider(
        "anthropic",
        counts(1, 1, 1),
        Health::Expiring,
        &["anthropic:manual", "anthropic:work"],
    );
    anthropic.notice = Some(
        "Using a subscription outside Claude Code is technical compatibility, not a policy guarantee.\n\
         Check the terms yourself."
            .to_owned(),
    );
    let mut codex = provider(
        "openai-codex",
        counts(3, 0, 0),
        Health::Expired,
        &["openai-codex:someone.with.a.long.name@example.com"],
    );
    codex.overridden_endpoints = vec![(
        "auth.oauth.token_endpoint".to_owned(),
        "http://127.0.0.1:9400/token".to_owned(),
        "providers/openai-codex.toml:7".to_owned(),
    )];
    codex.in_use = false;
    StatusReport {
        config_path: PathBuf::from("/home/u/.openclaw/openclaw.json"),
        agent: AgentId::normalise("work"),
        agent_dir: PathBuf::from("/home/u/.openclaw/agents/work/agent"),
        store_path: PathBuf::from("/home/u/.openclaw/agents/work/agent/auth-profiles.json"),
        state_dir: PathBuf::from("/home/u/.openclaw"),
        models: models(),
        providers: vec![anthropic, codex],
        missing_in_use: vec![MissingProvider {
            provider: provider_id("zai"),
            fix: "tokensink models auth paste-api-key --provider zai".to_owned(),
        }],
        profiles: profiles_in_every_state(),
        external: vec![found_login()],
        env_keys: vec![EnvKey {
            name: "OPENROUTER_API_KEY".to_owned(),
            provider: provider_id("openrouter"),
            masked: "sk-or-v1...abcdefgh".to_owned(),
        }],
        warnings: vec!["auth.order names a profile that does not exist".to_owned()],
        check_in_use: 1,
        check_all: 1,
        now: NOW,
    }
}

/// A login that Claude Code keeps and that nobody has decided about.
pub(crate) fn found_login() -> ExternalInfo {
    ExternalInfo {
        cli: "claude",
        title: "Claude Code",
        provider: Some(provider_id("anthropic")),
        place: "/home/u/.claude/.credentials.json".to_owned(),
        mode: None,
        profile: ProfileId::parse("anthropic:claude-cli").ok(),
        state: "found",
        kind: Some(CredentialKind::OAuth),
        email: None,
        plan: Some("max".to_owned()),
        expires: Some(UnixMillis(NOW.0 + 3_600_000)),
        claimed_by: None,
        same_grant_as: None,
        suggested: None,
        note: Some("not used".to_owned()),
        fix: Some("tokensink external set claude cooperative".to_owned()),
    }
}

fn models() -> ModelsView {
    ModelsView {
        default: Some("opus".to_owned()),
        resolved_default: "anthropic/claude-opus-4-6".to_owned(),
        default_source: "agent",
        fallbacks_source: "defaults",
        fallbacks: vec!["zai/glm-5".to_owned(), "openai-codex/gpt-5.5".to_owned()],
        image: None,
        image_fallbacks: Vec::new(),
        aliases: vec![
            ("opus".to_owned(), "anthropic/claude-opus-4-6".to_owned()),
            ("gpt".to_owned(), "openai-codex/gpt-5.5".to_owned()),
        ],
        allowed: Vec::new(),
    }
}

fn profiles_in_every_state() -> Vec<ProfileStatus> {
    let seconds = |time: u64| i64::try_from(time).unwrap();
    let mut inherited = profile(
        "anthropic:default",
        CredentialKind::ApiKey,
        ProfileState::Usable,
        None,
    );
    inherited.inherited = true;
    let mut benched = profile(
        "anthropic:work",
        CredentialKind::OAuth,
        ProfileState::Waiting {
            reason: "cooldown".to_owned(),
            until: None,
        },
        Some(seconds(8 * HOUR)),
    );
    benched.bench = Some(Bench {
        kind: "cooldown",
        reason: Some("rate_limit".to_owned()),
        until: NOW.plus(Duration::from_secs(5 * MINUTE)),
    });
    benched.account.email = Some("w@example.com".to_owned());
    benched.account.plan = Some("max".to_owned());
    let login_needed = ProfileState::LoginNeeded {
        reason: "the provider refused the refresh token (invalid_grant) 2 days ago".to_owned(),
        command: "tokensink models auth login --provider openai-codex --profile-id openai-codex:old"
            .to_owned(),
    };
    let unresolved = ProfileState::UnresolvedRef {
        what: "keyRef names the variable RIG_KEY, which is not set".to_owned(),
        fix: "export RIG_KEY=<key>".to_owned(),
    };
    let refreshing = ProfileState::Refreshing {
        holder: "process 4711 on host".to_owned(),
        since: NOW.minus(Duration::from_secs(3)),
    };
    vec![
        inherited,
        profile(
            "anthropic:manual",
            CredentialKind::Token,
            ProfileState::Expiring,
            Some(seconds(20 * HOUR)),
        ),
        benched,
        profile(
            "openai-codex:busy",
            CredentialKind::OAuth,
            refreshing,
            Some(-seconds(HOUR)),
        ),
        profile(
            "openai-codex:old",
            CredentialKind::OAuth,
            login_needed,
            Some(-seconds(2 * DAY)),
        ),
        profile(
            "openai-codex:someone.with.a.long.name@example.com",
            CredentialKind::OAuth,
            ProfileState::Refreshable,
            Some(-seconds(90)),
        ),
        profile("rig:ref", CredentialKind::Token, unresolved, None),
    ]
}

#[test]
fn at_80_columns() {
    let text = text(&sample(), false, &Look::plain(Name::OWN));
    // A command is never broken, so that it can be copied.
    for line in text.lines().filter(|line| !line.contains("fix: ")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn with_all_and_under_another_name() {
    let look = Look {
        width: 120,
        ..Look::plain(Name::of(Some("openclaw".as_ref())))
    };
    insta::assert_snapshot!(text(&sample(), true, &look));
}

#[test]
fn with_nothing_stored() {
    let mut report = sample();
    report.agent = AgentId::main();
    report.models = ModelsView {
        resolved_default: "anthropic/claude-opus-4-6".to_owned(),
        default_source: "defaults",
        fallbacks_source: "defaults",
        ..ModelsView::default()
    };
    report.providers.clear();
    report.profiles.clear();
    report.env_keys.clear();
    insta::assert_snapshot!(text(&report, false, &Look::plain(Name::OWN)));
}

#[test]
fn an_expired_login_is_never_called_ok() {
    let report = sample();
    let text = text(&report, false, &Look::plain(Name::OWN));
    for profile in report.profiles {
        let expired = profile.expires.is_some_and(|at| at <= NOW);
        let row = text
            .lines()
            .skip_while(|line| !line.starts_with("OAuth/token status"))
            .skip_while(|line| !line.starts_with(profile.id.as_str()))
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        assert!(!row.is_empty(), "{}", profile.id);
        assert!(
            !expired || !(row.contains(" usable") || row.contains(" ok")),
            "{row}"
        );
    }
}
